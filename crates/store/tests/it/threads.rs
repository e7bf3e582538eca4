//! Many threads on one content.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use peerage_content::PieceIndex;
use peerage_store::{StoreError, Written};

use crate::support::{BLOCK, MIB, NOW, Sample, content_dir, open};

const THREADS: u32 = 4;

#[test]
fn blocks_of_all_pieces_from_all_threads() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(6 * MIB + 5 * BLOCK + 1, 1);
    let store = open(temp.path());
    let content = sample.create(&store);
    let (verified, barrier) = (AtomicU32::new(0), Barrier::new(THREADS as usize));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (sample, content, verified, barrier) = (&sample, content.clone(), &verified, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for piece in 0..sample.layout().pieces() {
                    let blocks = sample.layout().blocks(PieceIndex(piece)) as usize;
                    // Every block twice, by different threads, in runs of three.
                    for first in
                        (0..blocks).step_by(3).filter(|first| (*first as u32 / 3 + thread).is_multiple_of(2))
                    {
                        if sample.write_blocks(&content, piece, first, 3.min(blocks - first)).unwrap()
                            == Written::Verified
                        {
                            verified.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    sample.check(&content);
                }
            });
        }
    });
    assert_eq!(verified.load(Ordering::Relaxed), sample.layout().pieces(), "each piece is verified once");
    assert!(content.is_complete());
    sample.check(&content);
}

#[test]
fn the_map_comes_while_blocks_do() {
    let sample = Sample::new(4 * MIB, 2);
    for _ in 0..20 {
        let temp = tempfile::tempdir().unwrap();
        let store = open(temp.path());
        let content = store.create(sample.id(), sample.layout(), None, NOW).unwrap();
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (sample, content, barrier) = (&sample, content.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for piece in (thread..4).step_by(2) {
                        for first in (0..64).step_by(16) {
                            sample.write_blocks(&content, piece, first, 16).unwrap();
                        }
                    }
                });
            }
            barrier.wait();
            assert!(content.set_map(&sample.map).unwrap().dropped.is_empty());
        });
        assert!(content.is_complete(), "no piece is left waiting for a map that is here");
        sample.check(&content);
    }
}

#[test]
fn the_data_file_is_replaced_under_the_writers() {
    let sample = Sample::new(8 * MIB, 3);
    for _ in 0..10 {
        let temp = tempfile::tempdir().unwrap();
        let store = open(temp.path());
        let content = sample.create(&store);
        let data = content_dir(temp.path(), sample.id()).join("data");
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (sample, content, barrier) = (&sample, content.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for piece in (thread..8).step_by(2) {
                        match sample.write_piece(&content, piece) {
                            Ok(_) | Err(StoreError::Vanished { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            barrier.wait();
            let other = temp.path().join("other");
            std::fs::write(&other, vec![7; 8 * MIB]).unwrap();
            std::fs::rename(&other, &data).unwrap();
        });
        // Whatever is said to be verified is in the file that is there now.
        _ = content.write(PieceIndex(0), 0, sample.piece(0));
        sample.check(&content);
        drop((content, store));
        let store = open(temp.path());
        let content = store.get(sample.id()).unwrap().unwrap();
        sample.check(&content);
        sample.finish(&content);
    }
}

#[test]
fn removal_and_eviction_while_in_use() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(2 * MIB, 4);
    let store = open(temp.path());
    let content = sample.create(&store);
    let busy = content.busy().unwrap();
    assert!(matches!(store.remove(sample.id(), false), Err(StoreError::Busy { .. })));
    assert!(store.contents()[0].busy);
    store.remove(sample.id(), true).unwrap();
    assert!(matches!(sample.write_piece(&content, 0), Err(StoreError::Removed { .. })));
    assert!(matches!(content.busy(), Err(StoreError::Removed { .. })));
    assert!(!content_dir(temp.path(), sample.id()).exists());
    drop(busy);
    // The same content anew, beside the dead handle.
    let anew = sample.create(&store);
    sample.finish(&anew);
    assert!(matches!(content.read(PieceIndex(0), 0, &mut [0; 9]), Err(StoreError::Removed { .. })));
    drop((content, anew));
    store.remove(sample.id(), false).unwrap();
    assert!(matches!(store.remove(sample.id(), true), Err(StoreError::Unknown { .. })));
}
