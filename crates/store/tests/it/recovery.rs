//! Restarts with state files that lie, and power cuts.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use peerage_content::{BlockSet, PieceIndex};
use peerage_store::{BootId, StoreError};
use proptest::prelude::*;

use crate::support::{BLOCK, BOOT, MIB, NOW, Sample, content_dir, open, open_in};

const OTHER_BOOT: BootId = BootId::from_raw(2);

/// Pieces 0 and 2 verified, a part of 1.
fn part(dir: &Path, sample: &Sample) {
    let content = sample.create(&open(dir));
    sample.write_piece(&content, 0).unwrap();
    sample.write_piece(&content, 2).unwrap();
    sample.write_blocks(&content, 1, 3, 4).unwrap();
}

fn spoil(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_kill_keeps_blocks_and_pieces() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB + 5, 1);
    part(temp.path(), &sample);
    let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
    assert!(content.have().iter().eq([PieceIndex(0), PieceIndex(2)]));
    assert_eq!(content.partials(), [(PieceIndex(1), BlockSet(0b111_1000))]);
    // The recovered blocks are read back and hashed; nobody sends them again.
    sample.write_blocks(&content, 1, 0, 3).unwrap();
    assert_eq!(sample.write_blocks(&content, 1, 7, 57).unwrap(), peerage_store::Written::Verified);
    sample.finish(&content);
}

#[test]
fn recovered_blocks_that_are_wrong_are_nobodys_fault() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 2);
    part(temp.path(), &sample);
    spoil(&content_dir(temp.path(), sample.id()).join("data"), (MIB + 3 * BLOCK) as u64, b"spoilt");
    let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
    sample.write_blocks(&content, 1, 0, 3).unwrap();
    match sample.write_blocks(&content, 1, 7, 57) {
        Err(StoreError::Mismatch { recovered, .. }) => assert_eq!(recovered, BlockSet(0b111_1000)),
        other => panic!("{other:?}"),
    }
    sample.finish(&content);
}

#[test]
fn after_a_power_cut_claims_are_hashed_again() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB + 5, 3);
    part(temp.path(), &sample);
    spoil(&content_dir(temp.path(), sample.id()).join("data"), 2 * MIB as u64, &[0; 4096]);
    {
        let store = open_in(temp.path(), OTHER_BOOT);
        assert!(store.contents()[0].doubtful && store.contents()[0].verified == 0);
        let content = store.get(sample.id()).unwrap().unwrap();
        assert!(content.have().iter().eq([PieceIndex(0)]) && content.partials().is_empty());
        sample.write_blocks(&content, 1, 0, 9).unwrap();
    }
    // From here on this boot is trusted.
    let store = open_in(temp.path(), OTHER_BOOT);
    assert!(!store.contents()[0].doubtful);
    let content = store.get(sample.id()).unwrap().unwrap();
    assert_eq!(content.partial(PieceIndex(1)), BlockSet::first(9));
    sample.finish(&content);
    drop((content, store));
    // Complete, and not sealed.
    spoil(&content_dir(temp.path(), sample.id()).join("data"), 3 * MIB as u64, b"x");
    let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
    assert_eq!(content.have().missing().collect::<Vec<_>>(), [PieceIndex(3)]);
    sample.finish(&content);
}

#[test]
fn after_a_power_cut_sealed_contents_are_trusted() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(2 * MIB, 4);
    {
        let content = sample.create(&open(temp.path()));
        sample.finish(&content);
        content.seal(NOW).unwrap();
    }
    let store = open_in(temp.path(), OTHER_BOOT);
    let info = &store.contents()[0];
    assert!(info.sealed && !info.doubtful && info.verified == 2 * MIB as u64);
    sample.check(&store.get(sample.id()).unwrap().unwrap());
}

#[test]
fn a_seal_does_not_vouch_for_pieces_that_are_not_claimed() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 12);
    part(temp.path(), &sample);
    let pieces = content_dir(temp.path(), sample.id()).join("pieces");
    let old = std::fs::read(&pieces).unwrap();
    {
        let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
        sample.finish(&content);
        content.seal(NOW).unwrap();
    }
    std::fs::write(&pieces, old).unwrap();
    let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
    assert!(!content.info().sealed && content.have().iter().eq([PieceIndex(0), PieceIndex(2)]));
    sample.finish(&content);
}

#[test]
fn a_lost_map_is_made_again_or_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 5);
    let map = content_dir(temp.path(), sample.id()).join("map");
    part(temp.path(), &sample);
    std::fs::write(&map, b"PGMAP1\r\nnonsense").unwrap();
    {
        let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
        assert!(content.have().is_empty() && content.map().unwrap().is_none());
        assert_eq!(content.partial(PieceIndex(2)), BlockSet::first(64));
        sample.write_blocks(&content, 1, 0, 3).unwrap();
        assert_eq!(content.set_map(&sample.map).unwrap().verified, [PieceIndex(0), PieceIndex(2)]);
        sample.finish(&content);
        content.seal(NOW).unwrap();
    }
    std::fs::remove_file(&map).unwrap();
    {
        let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
        assert!(content.is_complete() && content.info().sealed);
        assert_eq!(content.map().unwrap().unwrap(), sample.map);
    }
    assert!(map.exists());
    // Without the map, and with wrong data, nothing is served until the map comes.
    std::fs::remove_file(&map).unwrap();
    spoil(&content_dir(temp.path(), sample.id()).join("data"), 1, b"spoilt");
    let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
    assert!(content.have().is_empty());
    let report = content.set_map(&sample.map).unwrap();
    assert_eq!((report.verified.len(), report.dropped), (2, vec![PieceIndex(0)]));
    sample.finish(&content);
}

#[test]
fn a_lost_state_file_costs_the_notes_and_a_look_at_the_data() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 6);
    part(temp.path(), &sample);
    std::fs::write(content_dir(temp.path(), sample.id()).join("meta.json"), b"{}").unwrap();
    let store = open(temp.path());
    assert!(store.contents()[0].doubtful);
    let content = store.get(sample.id()).unwrap().unwrap();
    assert_eq!(content.have().count(), 2);
    sample.finish(&content);
}

#[test]
fn a_lost_progress_file_costs_a_look_at_the_data() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB + 100, 7);
    part(temp.path(), &sample);
    std::fs::remove_file(content_dir(temp.path(), sample.id()).join("pieces")).unwrap();
    let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
    assert!(content.have().iter().eq([PieceIndex(0), PieceIndex(2)]));
    sample.finish(&content);
}

#[test]
fn data_cut_short_is_not_filled_up_with_zeros_and_believed() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 11);
    part(temp.path(), &sample);
    let data = content_dir(temp.path(), sample.id()).join("data");
    OpenOptions::new().write(true).open(data).unwrap().set_len(2 * MIB as u64 + 7).unwrap();
    let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
    sample.write_blocks(&content, 1, 0, 1).unwrap();
    assert!(content.have().iter().eq([PieceIndex(0)]));
    sample.finish(&content);
}

#[test]
fn leavings_are_swept_and_strangers_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(MIB, 8);
    part_of_nothing(temp.path(), &sample);
    let shelf = content_dir(temp.path(), sample.id()).parent().unwrap().to_owned();
    std::fs::create_dir(shelf.join(format!("{}.new", sample.id()))).unwrap();
    std::fs::create_dir_all(shelf.join(format!("{}.gone/deep", sample.id()))).unwrap();
    std::fs::create_dir(shelf.join("lost+found")).unwrap();
    // An import that was under way.
    let staging = temp.path().join("cache/staging");
    open(temp.path()).stage("s").unwrap().write_at(0, b"x").unwrap();
    std::fs::rename(staging.join("s"), staging.join(".s-0")).unwrap();
    let outside = temp.path().join("outside");
    std::fs::write(&outside, b"kept").unwrap();
    // A content whose data is a symlink is neither served nor removed.
    let linked = Sample::new(MIB, 9);
    part_of_nothing(temp.path(), &linked);
    let data = content_dir(temp.path(), linked.id()).join("data");
    std::fs::remove_file(&data).unwrap();
    std::os::unix::fs::symlink(&outside, &data).unwrap();

    let store = open(temp.path());
    assert_eq!(store.contents().len(), 1);
    let mut left: Vec<_> =
        std::fs::read_dir(&shelf).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [sample.id().to_string().as_str(), "lost+found"]);
    assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
    linked.finish(&linked.create(&store));
    assert_eq!(std::fs::read(&outside).unwrap(), b"kept");
}

fn part_of_nothing(dir: &Path, sample: &Sample) {
    sample.create(&open(dir));
}

/// Something that happens to a state file.
#[derive(Debug, Clone)]
enum Damage {
    Remove,
    Truncate(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Overwrite(prop::sample::Index, Vec<u8>),
    Append(Vec<u8>),
    Replace(Vec<u8>),
}

impl Damage {
    fn apply(&self, path: &Path) {
        let Ok(mut bytes) = std::fs::read(path) else { return };
        match self {
            Self::Remove => return std::fs::remove_file(path).unwrap(),
            Self::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Self::Flip(at, bits) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Self::Flip(..) => {}
            Self::Overwrite(at, with) => {
                let from = at.index(bytes.len() + 1);
                let to = bytes.len().min(from + with.len());
                bytes[from..to].copy_from_slice(&with[..to - from]);
            }
            Self::Append(with) => bytes.extend_from_slice(with),
            Self::Replace(with) => bytes.clone_from(with),
        }
        std::fs::write(path, bytes).unwrap();
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        Just(Damage::Remove),
        any::<prop::sample::Index>().prop_map(Damage::Truncate),
        (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (any::<prop::sample::Index>(), bytes()).prop_map(|(at, with)| Damage::Overwrite(at, with)),
        bytes().prop_map(Damage::Append),
        bytes().prop_map(Damage::Replace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_state_never_gets_a_wrong_byte_served(
        damages in prop::collection::vec((0usize..4, damage()), 1..4),
        same_boot in any::<bool>(),
        sealed in any::<bool>(),
        spoilt in any::<bool>(),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let sample = Sample::new(2 * MIB + 3 * BLOCK, 10);
        let dir = content_dir(temp.path(), sample.id());
        {
            let store = open(temp.path());
            let content = sample.create(&store);
            if sealed {
                sample.finish(&content);
                content.seal(NOW).unwrap();
            } else {
                sample.write_piece(&content, 0).unwrap();
                sample.write_blocks(&content, 1, 0, 20).unwrap();
            }
            let staging = store.stage("s").unwrap();
            staging.write_at(0, &sample.bytes[..MIB]).unwrap();
        }
        // In an unsealed content of the same boot nothing but the store itself may have written, so it is not looked for.
        if spoilt && (sealed || !same_boot) {
            spoil(&dir.join("data"), 100, b"spoilt");
            let file = OpenOptions::new().write(true).open(dir.join("data")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        for (file, damage) in &damages {
            let path = match file {
                0 => dir.join("pieces"),
                1 => dir.join("map"),
                2 => dir.join("meta.json"),
                _ => temp.path().join("cache/staging/s/state.json"),
            };
            damage.apply(&path);
        }
        let store = open_in(temp.path(), if same_boot { BOOT } else { OTHER_BOOT });
        for staged in store.staged() {
            store.stage(&staged.name).unwrap();
        }
        if let Some(content) = store.get(sample.id()).unwrap() {
            prop_assume!(content.layout() == sample.layout());
            sample.check(&content);
            content.set_map(&sample.map).unwrap();
            sample.check(&content);
        }
        sample.finish(&sample.create(&store));
    }
}
