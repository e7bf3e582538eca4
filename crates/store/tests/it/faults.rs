//! Full disks, read-only directories, deleted directories: what the user can mend, and that all goes on afterwards.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;

use peerage_content::{Layout, MAX_CONTENT_SIZE, PieceIndex};
use peerage_store::{Limits, Store, StoreConfig, StoreError, Written};

use crate::support::{BOOT, MIB, NOW, Sample, content_dir, open};

const SMALL_DISK: &str = "PEERAGE_TEST_SMALL_DISK";

/// Runs this test again in a mount namespace of its own, where `DIR` is a tmpfs of `size`.
fn on_small_disk(test: &str, size: &str) {
    let temp = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size} none \"$1\" && {SMALL_DISK}=\"$1\" exec \"$2\" --exact {test} --nocapture"
    );
    let is_root = std::fs::metadata(temp.path()).unwrap().uid() == 0;
    let done = Command::new("unshare")
        .args(if is_root { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] })
        .args(["sh", "-c", &script, "sh"])
        .arg(temp.path())
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        done.status.success() && text(&done.stdout).contains("1 passed"),
        "needs a mount namespace (as root, or unshare --user --mount) and tmpfs\n{}\n{}",
        text(&done.stdout),
        text(&done.stderr)
    );
}

fn small_disk() -> Option<PathBuf> {
    std::env::var_os(SMALL_DISK).map(PathBuf::from)
}

#[test]
fn disk_full_pauses_and_loses_nothing() {
    let Some(dir) = small_disk() else {
        return on_small_disk("faults::disk_full_pauses_and_loses_nothing", "4m");
    };
    let sample = Sample::new(6 * MIB, 1);
    let store = open(&dir);
    let old = Sample::new(MIB, 2);
    let content = old.create(&store);
    old.finish(&content);
    content.seal(NOW).unwrap();
    drop(content);

    let content = sample.create(&store);
    let full = (0..6).find_map(|piece| sample.write_piece(&content, piece).err().map(|error| (piece, error)));
    let (at, error) = full.unwrap();
    assert!(matches!(error, StoreError::DiskFull { .. }) && error.is_mendable(), "{error}");
    assert!(at > 0 && content.have().iter().map(|piece| piece.0).eq(0..at));
    assert!(matches!(sample.write_piece(&content, at), Err(StoreError::DiskFull { .. })));
    // A content whose state alone does not fit leaves nothing behind.
    let (large, id) = (Layout::new(MAX_CONTENT_SIZE).unwrap(), Sample::new(9, 3).id());
    assert!(matches!(store.create(id, large, None, NOW), Err(StoreError::DiskFull { .. })));
    assert!(store.contents().len() == 2 && !content_dir(&dir, id).exists());
    sample.check(&content);
    // Eviction works on a full disk and makes room for exactly this.
    let busy = content.busy().unwrap();
    let limits = Limits { low_disk_needs_bytes: MIB as u64, ..Limits::default() };
    assert_eq!(store.evict(limits, NOW).unwrap()[0].id, old.id());
    assert_eq!(sample.write_piece(&content, at).unwrap(), Written::Verified);
    let have = content.have();
    drop((busy, content, store));
    // The store opens on a full disk, too.
    _ = std::fs::write(dir.join("filler"), vec![0; 4 * MIB]);
    let store = open(&dir);
    let content = store.get(sample.id()).unwrap().unwrap();
    assert_eq!(content.have(), have);
    sample.check(&content);
    std::fs::remove_file(dir.join("filler")).unwrap();
    let staging = store.stage("s").unwrap();
    let error =
        (0..6).find_map(|piece| staging.write_at(piece * MIB as u64, &sample.bytes[..MIB]).err()).unwrap();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    let held = staging.len();
    drop((staging, content, store));
    assert_eq!(open(&dir).stage("s").unwrap().len(), held);
}

#[test]
fn a_read_only_volume_is_named_as_such() {
    let Some(dir) = small_disk() else {
        return on_small_disk("faults::a_read_only_volume_is_named_as_such", "9m");
    };
    let remount = |how: &str| {
        let done =
            Command::new("mount").args(["-o", &format!("remount,bind,{how}")]).arg(&dir).status().unwrap();
        assert!(done.success());
    };
    let sample = Sample::new(2 * MIB, 4);
    let store = open(&dir);
    sample.write_piece(&sample.create(&store), 0).unwrap();
    // No handle: no file is open for writing, so the volume can be made read-only.
    drop(store);
    remount("ro");
    // What is there can be read; nothing new can be made.
    let store = open(&dir);
    let held = store.get(sample.id()).unwrap().unwrap();
    let mut bytes = vec![0; MIB];
    held.read(PieceIndex(0), 0, &mut bytes).unwrap();
    assert_eq!(bytes, sample.bytes[..MIB]);
    let other = Sample::new(MIB, 5);
    let refused = store.create(other.id(), other.layout(), None, NOW).unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }) && refused.is_mendable(), "{refused}");
    drop((held, store));
    let refused = Store::open(StoreConfig { dir: dir.join("new"), boot: BOOT }).unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused}");
    remount("rw");
    let content = open(&dir).get(sample.id()).unwrap().unwrap();
    sample.finish(&content);
}

#[test]
fn a_directory_of_someone_else_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cache");
    drop(open(temp.path()));
    let config = StoreConfig { dir: dir.clone(), boot: BOOT };
    // Only root can give a directory away; others are held off by its rights.
    if std::os::unix::fs::chown(&dir, Some(12_345), None).is_ok() {
        let refused = Store::open(config).unwrap_err();
        assert!(matches!(refused, StoreError::NotOurs { owner: 12_345, expected: 0, .. }), "{refused}");
    } else {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o500)).unwrap();
        let refused = Store::open(StoreConfig { dir: dir.join("below"), ..config }).unwrap_err();
        assert!(matches!(refused, StoreError::Permission { .. }) && refused.is_mendable(), "{refused}");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_deleted_cache_is_noticed_and_made_again() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 5);
    let store = open(temp.path());
    let content = sample.create(&store);
    sample.write_piece(&content, 0).unwrap();
    let staging = store.stage("s").unwrap();
    staging.write_at(0, b"x").unwrap();
    std::fs::remove_dir_all(temp.path().join("cache")).unwrap();
    for _ in 0..2 {
        let gone = sample.write_piece(&content, 1).unwrap_err();
        assert!(matches!(gone, StoreError::Vanished { .. }) && gone.is_mendable(), "{gone}");
        let gone = content.read(PieceIndex(0), 0, &mut [0; 9]).unwrap_err();
        assert!(matches!(gone, StoreError::Vanished { .. }), "{gone}");
    }
    assert!(matches!(staging.write_at(1, b"y"), Err(StoreError::Vanished { .. })));
    let anew = sample.create(&store);
    assert!(anew.have().is_empty());
    sample.finish(&anew);
    assert!(matches!(sample.write_piece(&content, 1), Err(StoreError::Removed { .. })));
    assert!(store.stage("s").unwrap().is_empty());
    // The new directory is held, too.
    let refused = Store::open(StoreConfig::new(temp.path().join("cache"))).unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
}

#[test]
fn a_deleted_content_is_noticed_and_made_again() {
    let temp = tempfile::tempdir().unwrap();
    let (sample, other) = (Sample::new(2 * MIB, 6), Sample::new(2 * MIB, 7));
    let store = open(temp.path());
    let (content, kept) = (sample.create(&store), other.create(&store));
    sample.write_piece(&content, 0).unwrap();
    other.write_piece(&kept, 0).unwrap();
    std::fs::remove_dir_all(content_dir(temp.path(), sample.id())).unwrap();
    assert!(matches!(sample.write_blocks(&content, 1, 0, 1), Err(StoreError::Vanished { .. })));
    sample.finish(&sample.create(&store));
    other.finish(&kept);
}

#[test]
fn a_directory_that_comes_back_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB, 8);
    let store = open(temp.path());
    let content = sample.create(&store);
    sample.write_piece(&content, 0).unwrap();
    sample.write_blocks(&content, 1, 0, 5).unwrap();
    let (dir, aside) = (content_dir(temp.path(), sample.id()), temp.path().join("aside"));
    // A backup is made, the original is deleted, the backup is put back.
    let copied = Command::new("cp").arg("-a").arg(&dir).arg(&aside).status().unwrap();
    assert!(copied.success());
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(sample.write_piece(&content, 2), Err(StoreError::Vanished { .. })));
    std::fs::rename(&aside, &dir).unwrap();
    assert_eq!(sample.write_piece(&content, 2).unwrap(), Written::Verified);
    assert!(content.have().contains(PieceIndex(0)), "what is there was hashed again");
    sample.finish(&content);
    // Merely moved: the store holds it by descriptor.
    let sample = Sample::new(2 * MIB, 9);
    let content = sample.create(&store);
    std::fs::rename(temp.path().join("cache"), temp.path().join("moved")).unwrap();
    sample.write_blocks(&content, 0, 0, 1).unwrap();
    std::fs::rename(temp.path().join("moved"), temp.path().join("cache")).unwrap();
    sample.finish(&content);
    content.seal(NOW).unwrap();
}
