//! One content from its making to its end.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use peerage_content::{BlockSet, PieceIndex};
use peerage_store::{MAX_NOTES_LEN, Notes, StoreError, Written};

use crate::support::{BLOCK, MIB, NOW, Sample, content_dir, open};

#[test]
fn what_somebody_deleted_is_not_handed_out_and_forgotten() {
    let temp = tempfile::tempdir().unwrap();
    let (kept, gone) = (Sample::new(MIB, 1), Sample::new(2 * MIB, 2));
    let store = open(temp.path());
    let contents = [&kept, &gone].map(|sample| sample.create(&store));
    assert!(store.forget_gone().is_empty());
    std::fs::remove_dir_all(content_dir(temp.path(), gone.id())).unwrap();
    assert!(store.get(gone.id()).unwrap().is_none() && store.get(kept.id()).unwrap().is_some());
    assert_eq!(store.forget_gone(), [gone.id()]);
    assert_eq!(contents.map(|content| content.is_removed()), [false, true]);
    assert_eq!(store.contents().len(), 1);
}

#[test]
fn write_read_seal_reopen() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB + 5 * BLOCK + 7, 1);
    {
        let store = open(temp.path());
        let content = sample.create(&store);
        assert!(matches!(content.open_file(), Err(StoreError::Incomplete { have: 0, pieces: 4, .. })));
        assert!(matches!(content.seal(NOW), Err(StoreError::Incomplete { .. })));
        assert_eq!(sample.write_piece(&content, 1).unwrap(), Written::Verified);
        assert_eq!(sample.write_piece(&content, 1).unwrap(), Written::Duplicate);
        // Out of order, overlapping, with a short last block.
        assert_eq!(sample.write_blocks(&content, 3, 4, 2).unwrap(), Written::Partial);
        assert_eq!(sample.write_blocks(&content, 3, 5, 1).unwrap(), Written::Duplicate);
        assert_eq!(content.partial(PieceIndex(3)), BlockSet(0b11_0000));
        assert_eq!(content.partials(), [(PieceIndex(3), BlockSet(0b11_0000))]);
        assert_eq!(content.held(), (MIB + 2 * BLOCK) as u64);
        assert_eq!(sample.write_blocks(&content, 3, 0, 5).unwrap(), Written::Verified);
        sample.check(&content);
        sample.finish(&content);
        assert_eq!(content.held(), sample.bytes.len() as u64);
        content.seal(NOW + 5).unwrap();
        content.seal(NOW + 9).unwrap();
        let info = content.info();
        assert!(info.complete && info.sealed && info.has_map && !info.doubtful && !info.busy);
        assert_eq!((info.last_completed, info.last_used), (Some(NOW + 9), NOW + 9));
        assert_eq!(info.verified, sample.bytes.len() as u64);
        assert!(info.allocated >= info.verified && info.allocated < info.verified + (1 << 20));
    }
    let store = open(temp.path());
    let content = store.get(sample.id()).unwrap().unwrap();
    assert!(content.is_complete() && content.info().sealed);
    sample.check(&content);
    assert_eq!(content.map().unwrap().unwrap(), sample.map);
    let mut found = Vec::new();
    content.open_file().unwrap().read_to_end(&mut found).unwrap();
    assert!(found == sample.bytes);
    let mode = content.open_file().unwrap().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
    assert_eq!(content.verify().unwrap().checked, 4);
}

#[test]
fn sha256_is_that_of_the_file() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(MIB + 3, 2);
    let store = open(temp.path());
    let content = sample.create(&store);
    assert!(matches!(content.sha256(), Err(StoreError::Incomplete { .. })));
    sample.finish(&content);
    let mut digester = peerage_content::Digester::new();
    digester.update(&sample.bytes);
    assert_eq!(content.sha256().unwrap(), digester.finish().unwrap().sha256);
    // The file is changed after it was looked at, before it is sealed: the pass itself finds out.
    let data =
        OpenOptions::new().write(true).open(content_dir(temp.path(), sample.id()).join("data")).unwrap();
    data.write_all_at(&[!sample.bytes[9]], 9).unwrap();
    assert!(matches!(content.sha256(), Err(StoreError::Incomplete { have: 1, .. })));
    sample.finish(&content);
}

#[test]
fn small_and_empty_contents() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    for size in [0, 1, BLOCK, BLOCK + 1, MIB] {
        let sample = Sample::new(size, 3);
        let content = sample.create(&store);
        assert_eq!(content.is_complete(), size == 0);
        sample.finish(&content);
        content.seal(NOW).unwrap();
        let mut found = Vec::new();
        content.open_file().unwrap().read_to_end(&mut found).unwrap();
        assert!(found == sample.bytes, "{size}");
    }
    drop(store);
    let store = open(temp.path());
    assert!(store.contents().iter().all(|info| info.sealed && info.complete && !info.doubtful));
    assert_eq!(store.contents().len(), 5);
}

#[test]
fn a_wrong_byte_drops_the_whole_piece_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(2 * MIB, 4);
    let store = open(temp.path());
    let content = sample.create(&store);
    sample.write_piece(&content, 0).unwrap();
    let mut bad = sample.piece(1).to_vec();
    bad[MIB - 1] ^= 1;
    assert_eq!(content.write(PieceIndex(1), 0, &bad[..MIB / 2]).unwrap(), Written::Partial);
    let refused = content.write(PieceIndex(1), MIB as u32 / 2, &bad[MIB / 2..]);
    assert!(
        matches!(refused, Err(StoreError::Mismatch { piece: PieceIndex(1), recovered, .. }) if recovered.is_empty())
    );
    assert!(content.partial(PieceIndex(1)).is_empty() && content.have().contains(PieceIndex(0)));
    assert!(matches!(content.write(PieceIndex(1), 0, &bad), Err(StoreError::Mismatch { .. })));
    sample.check(&content);
    sample.finish(&content);
}

#[test]
fn a_duplicate_never_overwrites() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(MIB, 5);
    let store = open(temp.path());
    let content = sample.create(&store);
    sample.write_blocks(&content, 0, 0, 10).unwrap();
    // A liar sends blocks 5..64; 5..10 are here already. Only his own blocks count.
    let mut lies = sample.piece(0)[5 * BLOCK..].to_vec();
    lies[..5 * BLOCK].fill(0);
    assert_eq!(content.write(PieceIndex(0), 5 * BLOCK as u32, &lies).unwrap(), Written::Verified);
    sample.check(&content);
}

#[test]
fn ranges_that_are_not_whole_blocks_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(MIB + BLOCK + 5, 6);
    let store = open(temp.path());
    let content = sample.create(&store);
    let bytes = vec![0; 2 * MIB];
    let refused = |piece, offset: usize, len: usize| {
        let result = content.write(PieceIndex(piece), offset as u32, &bytes[..len]);
        assert!(matches!(result, Err(StoreError::Misaligned { .. })), "{piece} {offset} {len}");
    };
    for (piece, offset, len) in [
        (0, 0, 0),
        (0, 1, BLOCK),
        (0, 0, BLOCK - 1),
        (0, MIB - BLOCK, BLOCK + 1),
        (0, MIB, BLOCK),
        (0, u32::MAX as usize, BLOCK),
        (1, BLOCK, 4),
        (1, BLOCK, 6),
        (2, 0, BLOCK),
    ] {
        refused(piece, offset, len);
    }
    let mut buf = [0; 10];
    sample.finish(&content);
    for (piece, offset) in [(0, MIB as u32 - 9), (1, BLOCK as u32), (2, 0), (0, u32::MAX)] {
        assert!(matches!(
            content.read(PieceIndex(piece), offset, &mut buf),
            Err(StoreError::Misaligned { .. })
        ));
    }
    content.read(PieceIndex(0), 17, &mut buf).unwrap();
    assert_eq!(buf, sample.bytes[17..27]);
}

#[test]
fn blocks_before_the_map_are_verified_when_it_comes() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB + 9, 7);
    let other = Sample::new(3 * MIB + 9, 8);
    let store = open(temp.path());
    let content = store.create(sample.id(), sample.layout(), None, NOW).unwrap();
    assert_eq!(content.map().unwrap(), None);
    assert_eq!(sample.write_piece(&content, 0).unwrap(), Written::Partial);
    assert_eq!(sample.write_piece(&content, 0).unwrap(), Written::Duplicate);
    assert_eq!(other.write_piece(&content, 1).unwrap(), Written::Partial);
    assert_eq!(sample.write_blocks(&content, 2, 0, 3).unwrap(), Written::Partial);
    sample.check(&content);
    assert!(content.have().is_empty());
    drop((content, store));

    let store = open(temp.path());
    let content = store.get(sample.id()).unwrap().unwrap();
    assert_eq!(content.partial(PieceIndex(0)), BlockSet::first(64), "kept over a restart");
    assert!(matches!(content.set_map(&other.map), Err(StoreError::WrongMap { .. })));
    let report = content.set_map(&sample.map).unwrap();
    assert_eq!((report.verified, report.dropped), (vec![PieceIndex(0)], vec![PieceIndex(1)]));
    assert_eq!(content.partials(), [(PieceIndex(2), BlockSet(0b111))]);
    sample.finish(&content);
}

#[test]
fn create_is_idempotent_and_holds_the_size() {
    let temp = tempfile::tempdir().unwrap();
    let (sample, other) = (Sample::new(2 * MIB, 9), Sample::new(MIB, 9));
    let store = open(temp.path());
    sample.write_piece(&sample.create(&store), 0).unwrap();
    assert_eq!(sample.create(&store).have().count(), 1);
    assert!(matches!(
        store.create(sample.id(), other.layout(), None, NOW),
        Err(StoreError::WrongSize { .. })
    ));
    assert!(matches!(
        store.create(sample.id(), sample.layout(), Some(&other.map), NOW),
        Err(StoreError::WrongMap { .. })
    ));
    assert!(store.get(other.id()).unwrap().is_none());
}

#[test]
fn notes_are_kept_and_bounded() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(MIB, 10);
    let store = open(temp.path());
    let content = sample.create(&store);
    let notes = Notes::from([("url".to_owned(), "http://o/\n\u{1}".to_owned())]);
    content.set_notes(notes.clone()).unwrap();
    let large = Notes::from([("k".to_owned(), "\u{1}".repeat(MAX_NOTES_LEN))]);
    assert!(matches!(content.set_notes(large), Err(StoreError::NotesTooLarge { .. })));
    let largest = Notes::from([("k".to_owned(), "\u{1}".repeat(MAX_NOTES_LEN - 1))]);
    content.set_notes(largest.clone()).unwrap();
    drop((content, store));
    let store = open(temp.path());
    let content = store.get(sample.id()).unwrap().unwrap();
    assert!(content.notes() == largest);
    content.set_notes(notes.clone()).unwrap();
    assert_eq!(content.notes(), notes);
}

#[test]
fn import_takes_what_is_right() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB + 77, 11);
    let path = temp.path().join("file");
    let store = open(temp.path());

    let mut spoilt = sample.bytes.clone();
    spoilt[MIB + 5] ^= 4;
    std::fs::write(&path, &spoilt).unwrap();
    let (content, report) = store.import(&File::open(&path).unwrap(), &sample.map, NOW).unwrap();
    assert_eq!((report.offered, report.verified, content.info().sealed), (4, 3, false));
    sample.check(&content);

    // Wrong bytes do not spoil right blocks that came from elsewhere.
    sample.write_blocks(&content, 1, 1, 5).unwrap();
    let (content, report) = store.import(&File::open(&path).unwrap(), &sample.map, NOW).unwrap();
    assert_eq!((report.offered, report.verified), (1, 0));
    assert_eq!(content.partial(PieceIndex(1)), BlockSet(0b11_1110));

    std::fs::write(&path, &sample.bytes).unwrap();
    // Blocks from elsewhere, one of them wrong, must not keep the right piece out.
    content.write(PieceIndex(1), 0, &spoilt[MIB..MIB + BLOCK]).unwrap();
    let (content, report) = store.import(&File::open(&path).unwrap(), &sample.map, NOW).unwrap();
    assert_eq!((report.offered, report.verified, content.info().sealed), (1, 1, true));
    sample.check(&content);

    // Shorter and longer than the content.
    let short = Sample::new(2 * MIB + 10, 12);
    std::fs::write(&path, &short.bytes[..2 * MIB + 3]).unwrap();
    let (content, report) = store.import(&File::open(&path).unwrap(), &short.map, NOW).unwrap();
    assert_eq!((report.offered, report.verified), (2, 2));
    short.finish(&content);
    let long = Sample::new(MIB + 10, 13);
    std::fs::write(&path, [&long.bytes[..], b"tail"].concat()).unwrap();
    let (content, report) = store.import(&File::open(&path).unwrap(), &long.map, NOW).unwrap();
    assert_eq!((report.offered, report.verified, content.is_complete()), (2, 2, true));
    long.check(&content);
    assert!(store.staged().is_empty());
}

#[test]
fn a_file_changed_from_outside_is_verified_before_it_is_served() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 14);
    let store = open(temp.path());
    let content = sample.create(&store);
    sample.finish(&content);
    content.seal(NOW).unwrap();
    let path = content_dir(temp.path(), sample.id()).join("data");
    let change = |at: u64, byte: u8| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let data = OpenOptions::new().write(true).open(&path).unwrap();
        data.write_all_at(&[byte], at).unwrap();
        // Coarse clocks may give a write the time of the seal.
        data.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at + 1)).unwrap();
    };
    // Touched, but still right: served, and sealed as it is now.
    change(7, sample.bytes[7]);
    sample.check(&content);
    assert!(content.info().sealed && content.is_complete());
    // Changed: the piece is dropped before anybody gets it.
    change(MIB as u64 + 7, !sample.bytes[MIB + 7]);
    let mut buf = vec![0; BLOCK];
    assert!(matches!(content.read(PieceIndex(1), 0, &mut buf), Err(StoreError::NotVerified { .. })));
    assert_eq!(content.have().missing().collect::<Vec<_>>(), [PieceIndex(1)]);
    assert!(!content.info().sealed && matches!(content.open_file(), Err(StoreError::Incomplete { .. })));
    sample.finish(&content);
    content.seal(NOW).unwrap();
    // Cut short.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(MIB as u64 + 1).unwrap();
    assert!(matches!(content.open_file(), Err(StoreError::Incomplete { have: 1, .. })));
    sample.finish(&content);
    // Found by a restart as well.
    content.seal(NOW).unwrap();
    change(2 * MIB as u64, !sample.bytes[2 * MIB]);
    drop((content, store));
    let store = open(temp.path());
    assert!(store.contents()[0].doubtful);
    let content = store.get(sample.id()).unwrap().unwrap();
    assert_eq!(content.have().count(), 2);
    sample.finish(&content);
}

#[test]
fn verify_drops_bad_pieces_of_an_unsealed_content() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 15);
    let store = open(temp.path());
    let content = sample.create(&store);
    for piece in [0, 2] {
        sample.write_piece(&content, piece).unwrap();
    }
    sample.write_blocks(&content, 1, 0, 7).unwrap();
    let data =
        OpenOptions::new().write(true).open(content_dir(temp.path(), sample.id()).join("data")).unwrap();
    data.write_all_at(&[!sample.bytes[2 * MIB]], 2 * MIB as u64).unwrap();
    let report = content.verify().unwrap();
    assert_eq!((report.checked, report.bad), (2, vec![PieceIndex(2)]));
    assert_eq!(content.partial(PieceIndex(1)), BlockSet::first(7), "others are untouched");
    drop((content, store));
    let content = open(temp.path()).get(sample.id()).unwrap().unwrap();
    assert!(content.have().iter().eq([PieceIndex(0)]));
    sample.finish(&content);
}

#[test]
fn one_process_at_a_time() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let config = peerage_store::StoreConfig::new(temp.path().join("cache"));
    let refused = peerage_store::Store::open(config.clone()).unwrap_err();
    assert!(
        matches!(refused, StoreError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
        "{refused}"
    );
    // A handle holds the directory as well as the store does.
    let content = Sample::new(MIB, 16).create(&store);
    drop(store);
    assert!(peerage_store::Store::open(config.clone()).is_err());
    drop(content);
    peerage_store::Store::open(config).unwrap();
}

#[test]
fn the_directory_must_be_private() {
    let temp = tempfile::tempdir().unwrap();
    drop(open(temp.path()));
    let dir = temp.path().join("cache");
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o770)).unwrap();
    let refused = peerage_store::Store::open(peerage_store::StoreConfig::new(&dir)).unwrap_err();
    assert!(matches!(refused, StoreError::NotPrivate { mode: 0o770, .. }), "{refused}");
}
