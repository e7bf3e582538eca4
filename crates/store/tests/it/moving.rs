//! A cache that moves to another directory while it is in use, on one volume and between two.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use peerage_content::PieceIndex;
use peerage_store::{Away, Store, StoreConfig, StoreError, Written};

use crate::support::{BOOT, MIB, NOW, Sample, open};

/// A directory on another volume than that of temporary files.
fn elsewhere() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn bring_all(store: &Store) {
    for away in store.away() {
        store.bring_home(&away).unwrap();
    }
}

/// Whether nothing of a cache is left in a directory.
fn is_bare(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn readers_and_writers_go_on_while_it_moves() {
    let (here, there) = (tempfile::tempdir().unwrap(), elsewhere());
    let (seed, sample) = (Sample::new(5 * MIB + 77, 1), Sample::new(40 * MIB, 2));
    let store = open(here.path());
    let sealed = seed.create(&store);
    seed.finish(&sealed);
    sealed.seal(NOW).unwrap();
    let content = sample.create(&store);
    let places = [there.path().join("cache"), here.path().join("other"), here.path().join("cache")];
    let (verified, done) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let movers = scope.spawn(|| {
            let mut moves = 0;
            for place in places.iter().cycle() {
                if done.load(Ordering::Relaxed) && moves >= 6 {
                    break;
                }
                store.settle_in(place).unwrap();
                bring_all(&store);
                moves += 1;
            }
            moves
        });
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                seed.check(&sealed);
                assert!(sealed.open_file().is_ok());
            }
        });
        for piece in 0..sample.layout().pieces() {
            for first in (0..64).step_by(4) {
                if sample.write_blocks(&content, piece, first, 4).unwrap() == Written::Verified {
                    verified.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        assert!(movers.join().unwrap() >= 6);
    });
    assert_eq!(verified.load(Ordering::Relaxed), sample.layout().pieces(), "each piece is verified once");
    content.seal(NOW).unwrap();
    bring_all(&store);
    assert!(store.away().is_empty() && store.leave_empty().is_empty());
    let home = store.home();
    assert!(places.iter().filter(|place| **place != home).all(|place| is_bare(place)));
    drop((content, sealed, store));
    let store = Store::open(StoreConfig { dir: home, boot: BOOT }).unwrap();
    for sample in [&seed, &sample] {
        let info = store.contents().into_iter().find(|info| info.id == sample.id()).unwrap();
        assert!(info.sealed && !info.doubtful, "it was believed without being hashed: {info:?}");
        sample.check(&store.get(sample.id()).unwrap().unwrap());
    }
}

#[test]
fn what_is_staged_moves_and_becomes_a_content_there() {
    for there in [tempfile::tempdir().unwrap(), elsewhere()] {
        let (here, sample) = (tempfile::tempdir().unwrap(), Sample::new(6 * MIB, 3));
        let store = open(here.path());
        let staging = store.stage("download").unwrap();
        staging.write_at(0, &sample.bytes[..2 * MIB]).unwrap();
        store.settle_in(&there.path().join("cache")).unwrap();
        assert_eq!(store.away(), [Away::Staging("download".into())]);
        assert!(store.usage().unwrap().away_bytes >= 2 << 20);
        staging.write_at(2 * MIB as u64, &sample.bytes[2 * MIB..3 * MIB]).unwrap();
        // A record comes before it has moved: it is a content of the old place, and moves as one.
        let early = store.stage("early").unwrap();
        early.write_at(0, &sample.bytes[..MIB]).unwrap();
        bring_all(&store);
        assert!(store.leave_empty().is_empty() && is_bare(&here.path().join("cache")));
        staging.write_at(3 * MIB as u64, &sample.bytes[3 * MIB..]).unwrap();
        let (content, report) = staging.promote(&sample.map, NOW).unwrap();
        assert_eq!(report.verified, 6);
        sample.check(&content);
        assert!(content.is_complete());
    }
}

#[test]
fn a_record_that_comes_before_the_move_is_no_hindrance() {
    let (here, there, sample) = (tempfile::tempdir().unwrap(), elsewhere(), Sample::new(3 * MIB, 4));
    let store = open(here.path());
    let staging = store.stage("download").unwrap();
    staging.write_at(0, &sample.bytes[..2 * MIB]).unwrap();
    store.settle_in(&there.path().join("cache")).unwrap();
    let (content, report) = staging.promote(&sample.map, NOW).unwrap();
    assert_eq!(report.verified, 2);
    assert_eq!(store.away(), [Away::Content(sample.id())]);
    bring_all(&store);
    assert_eq!(sample.write_piece(&content, 2).unwrap(), Written::Verified);
    assert!(store.away().is_empty());
    sample.check(&content);
}

#[test]
fn a_move_that_was_cut_off_goes_on_and_leaves_nothing_twice() {
    let (here, there) = (tempfile::tempdir().unwrap(), elsewhere());
    let samples: Vec<Sample> = (0..3).map(|seed| Sample::new(2 * MIB + 9, 10 + seed)).collect();
    let (old, new) = (here.path().join("cache"), there.path().join("cache"));
    let store = open(here.path());
    for sample in &samples {
        sample.finish(&sample.create(&store));
    }
    let staging = store.stage("download").unwrap();
    staging.write_at(0, &[7; 1000]).unwrap();
    drop((staging, store));
    // As a kill leaves it: one has moved, one is in both places, and half of the third is there.
    let (from, to) = (old.join("contents"), new.join("contents"));
    let shelf = |sample: &Sample| sample.id().to_string()[..2].to_owned();
    let copy = |sample: &Sample, name: &str| {
        let target = to.join(shelf(sample)).join(name);
        std::fs::create_dir_all(&target).unwrap();
        for file in std::fs::read_dir(from.join(shelf(sample)).join(sample.id().to_string())).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), target.join(file.file_name())).unwrap();
        }
    };
    copy(&samples[0], &samples[0].id().to_string());
    std::fs::remove_dir_all(from.join(shelf(&samples[0])).join(samples[0].id().to_string())).unwrap();
    copy(&samples[1], &samples[1].id().to_string());
    copy(&samples[2], &format!("{}.new", samples[2].id()));
    let store = Store::open(StoreConfig { dir: new.clone(), boot: BOOT }).unwrap();
    store.take_along(&old).unwrap();
    store.take_along(&here.path().join("never-was")).unwrap();
    assert_eq!(store.away(), [Away::Content(samples[2].id()), Away::Staging("download".into())]);
    bring_all(&store);
    assert!(store.leave_empty().is_empty() && is_bare(&old));
    assert_eq!(store.stage("download").unwrap().len(), 1000);
    for sample in &samples {
        let content = store.get(sample.id()).unwrap().unwrap();
        assert!(content.is_complete());
        sample.check(&content);
    }
}

#[test]
fn what_was_removed_or_began_anew_meanwhile_is_not_brought() {
    let (here, there, sample) = (tempfile::tempdir().unwrap(), elsewhere(), Sample::new(MIB, 5));
    let store = open(here.path());
    sample.finish(&sample.create(&store));
    let staging = store.stage("download").unwrap();
    staging.write_at(0, &[1; 5000]).unwrap();
    store.settle_in(&there.path().join("cache")).unwrap();
    let away = store.away();
    store.remove(sample.id(), true).unwrap();
    staging.begin_anew().unwrap();
    away.iter().for_each(|away| store.bring_home(away).unwrap());
    assert!(store.contents().is_empty() && staging.is_empty());
    assert!(store.leave_empty().is_empty());
}

#[test]
fn places_that_cannot_be_used_are_refused_and_nothing_changes() {
    let (here, there) = (tempfile::tempdir().unwrap(), elsewhere());
    let store = open(here.path());
    let sample = Sample::new(MIB, 6);
    let content = sample.create(&store);
    sample.finish(&content);
    let nowhere = there.path().join("not-mounted/cache");
    assert!(matches!(store.settle_in(&nowhere), Err(StoreError::NoParent { .. })));
    assert!(!there.path().join("not-mounted").exists());
    let file = there.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(store.settle_in(&file).is_err());
    assert!(store.settle_in(Path::new("/proc/cache")).is_err());
    let other = Store::open(StoreConfig { dir: there.path().join("taken"), boot: BOOT }).unwrap();
    assert!(matches!(store.settle_in(&there.path().join("taken")), Err(StoreError::Locked { .. })));
    drop(other);
    assert_eq!(store.home(), here.path().join("cache"));
    // By another name it is where it was.
    std::os::unix::fs::symlink(here.path().join("cache"), there.path().join("link")).unwrap();
    store.settle_in(&there.path().join("link")).unwrap();
    assert!(store.away().is_empty() && store.home() == here.path().join("cache"));
    sample.check(&content);
    assert_eq!(content.have().iter().collect::<Vec<_>>(), [PieceIndex(0)]);
}
