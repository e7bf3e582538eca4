//! Staging areas: appending, restarts, promotion.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::path::Path;

use peerage_content::{BlockSet, PieceIndex};
use peerage_store::{BootId, Notes, StoreError};

use crate::support::{BLOCK, MIB, NOW, Sample, open, open_in};

#[test]
fn bytes_in_order_survive_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let notes = Notes::from([("etag".to_owned(), "\"v1\"".to_owned())]);
    {
        let store = open(temp.path());
        let staging = store.stage("job-1").unwrap();
        staging.set_notes(notes.clone()).unwrap();
        assert_eq!(staging.write_at(0, b"hello ").unwrap(), 6);
        assert_eq!(store.stage("job-1").unwrap().write_at(3, b"lo world").unwrap(), 11);
        assert_eq!(staging.write_at(0, b"HELLO").unwrap(), 11, "what is held is passed over");
        assert!(matches!(
            staging.write_at(12, b"x"),
            Err(StoreError::StagingGap { len: 11, offset: 12, .. })
        ));
    }
    let store = open(temp.path());
    let staging = store.stage("job-1").unwrap();
    assert_eq!((staging.len(), staging.notes()), (11, notes));
    let mut found = String::new();
    staging.open_file().unwrap().read_to_string(&mut found).unwrap();
    assert_eq!(found, "hello world");
    staging.truncate(5).unwrap();
    assert_eq!(store.staged()[0].len, 5);
    staging.discard().unwrap();
    assert!(matches!(staging.write_at(5, b"x"), Err(StoreError::StagingClosed { .. })));
    assert!(store.staged().is_empty() && store.stage("job-1").unwrap().is_empty());
}

#[test]
fn an_area_whose_cache_was_deleted_is_discarded_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let staging = store.stage("a").unwrap();
    staging.write_at(0, b"hello").unwrap();
    for entry in std::fs::read_dir(temp.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    staging.discard().unwrap();
    assert!(matches!(staging.write_at(5, b"x"), Err(StoreError::StagingClosed { .. })));
}

#[test]
fn what_was_delivered_stays_whole_when_the_area_begins_anew() {
    let temp = tempfile::tempdir().unwrap();
    {
        let staging = open(temp.path()).stage("a").unwrap();
        staging.set_notes(Notes::from([("etag".to_owned(), "\"v1\"".to_owned())])).unwrap();
        staging.write_at(0, b"the old file").unwrap();
        staging.sync().unwrap();
        let mut delivered = staging.open_file().unwrap();
        staging.begin_anew().unwrap();
        assert!(staging.is_empty() && staging.notes().is_empty());
        staging.write_at(0, b"new").unwrap();
        let mut found = String::new();
        delivered.read_to_string(&mut found).unwrap();
        assert_eq!(found, "the old file");
    }
    let staging = open(temp.path()).stage("a").unwrap();
    assert_eq!((staging.len(), staging.notes()), (3, Notes::new()));
}

#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let temp = tempfile::tempdir().unwrap();
    {
        let staging = open(temp.path()).stage("a").unwrap();
        staging.write_at(0, b"synced").unwrap();
        staging.sync().unwrap();
        staging.write_at(6, b" and not").unwrap();
    }
    assert_eq!(open(temp.path()).stage("a").unwrap().len(), 14, "same boot");
    assert_eq!(open_in(temp.path(), BootId::from_raw(2)).stage("a").unwrap().len(), 6);
    assert_eq!(open_in(temp.path(), BootId::UNKNOWN).stage("a").unwrap().len(), 6);
}

#[test]
fn names_are_plain() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    for bad in ["", ".", "..", ".hidden", "a/b", "a\0", "ü", &"x".repeat(129)] {
        assert!(matches!(store.stage(bad), Err(StoreError::BadName { .. })), "{bad:?}");
    }
    store.stage(&"x".repeat(128)).unwrap();
}

#[test]
fn damaged_state_is_dropped() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cache/staging/a");
    let damages: [fn(&Path); 4] = [
        |dir| std::fs::write(dir.join("state.json"), "{}\n").unwrap(),
        |dir| std::fs::remove_file(dir.join("state.json")).unwrap(),
        |dir| std::fs::remove_file(dir.join("data")).unwrap(),
        |dir| OpenOptions::new().write(true).open(dir.join("data")).unwrap().set_len(2).unwrap(),
    ];
    for damage in damages {
        {
            let staging = open(temp.path()).stage("a").unwrap();
            staging.write_at(0, b"bytes").unwrap();
            staging.sync().unwrap();
        }
        damage(&dir);
        let store = open(temp.path());
        assert!(store.staged().is_empty() && !dir.exists());
    }
}

#[test]
fn promotion_keeps_what_is_right() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(4 * MIB, 1);
    let store = open(temp.path());
    let staging = store.stage("a").unwrap();
    let mut held = sample.bytes[..2 * MIB + 2 * BLOCK + 9].to_vec();
    held[MIB] ^= 1;
    staging.write_at(0, &held).unwrap();
    let (content, report) = staging.promote(&sample.map, NOW).unwrap();
    assert_eq!((report.offered, report.verified), (2, 1));
    assert!(content.have().iter().eq([PieceIndex(0)]));
    assert_eq!(content.partials(), [(PieceIndex(2), BlockSet(0b11))], "whole blocks of the tail count");
    assert!(matches!(staging.write_at(0, b"x"), Err(StoreError::StagingClosed { .. })));
    assert!(store.staged().is_empty());
    sample.finish(&content);

    // Into a content that is here: what it lacks.
    let other = Sample::new(3 * MIB, 2);
    let content = other.create(&store);
    other.write_piece(&content, 1).unwrap();
    let staging = store.stage("b").unwrap();
    staging.write_at(0, &other.bytes).unwrap();
    let (content, report) = staging.promote(&other.map, NOW).unwrap();
    assert_eq!((report.offered, report.verified), (2, 2));
    other.check(&content);
    assert!(content.is_complete() && store.staged().is_empty());
}

#[test]
fn a_crash_in_a_promotion_loses_no_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(3 * MIB + 1, 3);
    let cache = temp.path().join("cache");
    {
        let staging = open(temp.path()).stage("a").unwrap();
        staging.write_at(0, &sample.bytes[..2 * MIB + BLOCK]).unwrap();
        staging.promote(&sample.map, NOW).unwrap();
    }
    // As if killed before the data was moved: the content does not count, the staged bytes do.
    let dir = crate::support::content_dir(temp.path(), sample.id());
    {
        let store = open(temp.path());
        store.stage("b").unwrap().write_at(0, b"staged").unwrap();
    }
    std::fs::rename(dir.join("data"), temp.path().join("data")).unwrap();
    {
        let store = open(temp.path());
        assert!(store.get(sample.id()).unwrap().is_none() && store.stage("b").unwrap().len() == 6);
        let staging = store.stage("c").unwrap();
        staging.write_at(0, &sample.bytes[..2 * MIB + BLOCK]).unwrap();
        staging.sync().unwrap();
    }
    assert!(cache.join("staging/c/data").exists());
    let store = open_in(temp.path(), BootId::from_raw(2));
    let (content, report) = store.stage("c").unwrap().promote(&sample.map, NOW).unwrap();
    assert_eq!((report.offered, report.verified), (2, 2));
    sample.finish(&content);
}
