//! Writing blocks: one pass of hashing, one write of data, one small write of progress.
//!
//! Order, for each write: data, then hash, then progress, then memory. A kill between any two loses the blocks of this
//! write and no others. An error takes the piece back to what was recorded before; the hasher is made anew and reads
//! those blocks back.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use peerage_content::{BLOCK_SIZE, BlockSet, PieceHasher, PieceIndex};

use crate::content::Content;
use crate::error::StoreError;
use crate::files::Writing;
use crate::item::{DATA, PIECES, Slot, Work};
use crate::progress::Entry;

/// Blocks written and then hashed at once: 256 KiB stay in a core's own cache in between.
const STEP: u32 = 16;

/// What became of written bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Kept; the piece is not complete, or its map is not known yet.
    Partial,
    /// With these the piece is complete and verified.
    Verified,
    /// All of them were here already.
    Duplicate,
}

impl Content {
    /// Takes `bytes` at `offset` in `piece`. They begin at a block and end with a block or with the piece. Different
    /// threads may write at the same time; writes to one piece wait for each other. Blocks that are here already are
    /// passed over, never overwritten.
    ///
    /// # Errors
    /// The range is wrong; the disk fails (then nothing has changed); or the piece is complete and does not match its
    /// map ([`StoreError::Mismatch`]: all its blocks are dropped).
    pub fn write(&self, piece: PieceIndex, offset: u32, bytes: &[u8]) -> Result<Written, StoreError> {
        let blocks = self.whole_blocks(piece, offset, bytes.len())?;
        // A mover that waits gets its turn between two writes.
        let _gate = self.item.gate.queue();
        loop {
            let Some(slot) = self.slot(piece)? else { return Ok(Written::Duplicate) };
            let mut work = slot.work.lock();
            if work.closed {
                continue;
            }
            let fresh = blocks.minus(slot.have());
            let whole = slot.have() == self.item.progress.full(piece);
            if fresh.is_empty() && !(whole && self.map()?.is_some()) {
                return Ok(Written::Duplicate);
            }
            let files = self.session.writing(&self.item)?;
            if self.stat(&files.data)?.is_none() {
                continue;
            }
            let run = Run { piece, offset, bytes, fresh };
            let taken = self.take(&slot, &mut work, &files, &run);
            if taken.is_err() {
                work.hasher = None;
            }
            // Without an answer, trust was taken back meanwhile: what is here is hashed again first.
            if let Some(written) = taken? {
                return Ok(written);
            }
        }
    }

    /// The blocks of a range that is whole blocks.
    fn whole_blocks(&self, piece: PieceIndex, offset: u32, len: usize) -> Result<BlockSet, StoreError> {
        let misaligned = StoreError::Misaligned { id: self.id(), piece, offset, len };
        let layout = self.layout();
        let Some(len) = u32::try_from(len).ok().filter(|len| layout.fits(piece, offset, *len)) else {
            return Err(misaligned);
        };
        let (end, piece_len) = (offset + len, layout.piece_len(piece));
        let at_block = |at: u32| at.is_multiple_of(BLOCK_SIZE);
        if !at_block(offset) || !(at_block(end) || end == piece_len) {
            return Err(misaligned);
        }
        Ok(BlockSet::covered(offset, len, piece_len))
    }

    /// The slot of a piece that is not verified.
    fn slot(&self, piece: PieceIndex) -> Result<Option<Arc<Slot>>, StoreError> {
        loop {
            let mut state = self.item.state.lock();
            if state.removed {
                return Err(StoreError::Removed { id: self.id() });
            }
            if state.is_settled() {
                if state.verified.contains(piece) {
                    return Ok(None);
                }
                return Ok(Some(Arc::clone(state.partial.entry(piece).or_default())));
            }
            drop(state);
            self.settle()?;
        }
    }

    /// Writes and hashes the fresh blocks of a run. `None` when the slot is no longer that of its piece.
    fn take(
        &self,
        slot: &Arc<Slot>,
        work: &mut Work,
        files: &Writing,
        run: &Run<'_>,
    ) -> Result<Option<Written>, StoreError> {
        let start = self.layout().offset(run.piece);
        if work.hasher.is_none() {
            work.hasher = self.map()?.map(|map| PieceHasher::new(map, run.piece));
        }
        for (offset, bytes) in run.parts() {
            let written = files.data.write_all_at(bytes, start + u64::from(offset));
            written.map_err(|error| self.item.failed("write", DATA, error))?;
            if let Some(hasher) = &mut work.hasher {
                // Cannot fail: `whole_blocks` has held the range against the same layout.
                _ = hasher.update(offset, bytes);
            }
        }
        work.fresh = work.fresh.union(run.fresh);
        let have = slot.have().union(run.fresh);
        if work.hasher.is_some() && have == self.item.progress.full(run.piece) {
            return self.prove(run.piece, slot, work, files);
        }
        self.record(files, run.piece, Entry::Blocks(have))?;
        slot.set_have(have);
        Ok(Some(Written::Partial))
    }

    /// Verifies a piece whose blocks are all in the data file. Those not hashed yet are read back.
    pub(crate) fn prove(
        &self,
        piece: PieceIndex,
        slot: &Arc<Slot>,
        work: &mut Work,
        files: &Writing,
    ) -> Result<Option<Written>, StoreError> {
        let full = self.item.progress.full(piece);
        let Some(hasher) = &mut work.hasher else { return Ok(Some(Written::Partial)) };
        let unseen = full.minus(hasher.have());
        if !unseen.is_empty() {
            let (start, len) = (self.layout().offset(piece), self.layout().piece_len(piece));
            let mut buffer = vec![0; len as usize];
            let read = files.data.read_exact_at(&mut buffer, start);
            read.map_err(|error| self.item.failed("read", DATA, error))?;
            // Blocks hashed before are passed over.
            _ = hasher.update(0, &buffer);
        }
        if hasher.finish().is_err() {
            let recovered = full.minus(work.fresh);
            *work = Work::default();
            slot.set_have(BlockSet::default());
            // Should this fail, the old entry stays: blocks that would mismatch again after a restart.
            self.record(files, piece, Entry::Empty)?;
            return Err(StoreError::Mismatch { id: self.id(), piece, recovered });
        }
        self.record(files, piece, Entry::Verified)?;
        work.closed = true;
        let mut state = self.item.state.lock();
        if !state.partial.get(&piece).is_some_and(|current| Arc::ptr_eq(current, slot)) {
            return Ok(None);
        }
        state.partial.remove(&piece);
        state.verified.insert(piece);
        Ok(Some(Written::Verified))
    }

    pub(crate) fn record(&self, files: &Writing, piece: PieceIndex, entry: Entry) -> Result<(), StoreError> {
        let recorded = self.item.progress.record(&files.pieces, piece, entry);
        recorded.map_err(|error| self.item.failed("write", PIECES, error))
    }
}

/// Bytes of one call, and which of their blocks are new.
struct Run<'a> {
    piece: PieceIndex,
    offset: u32,
    bytes: &'a [u8],
    fresh: BlockSet,
}

impl Run<'_> {
    /// The new blocks' bytes in runs of at most [`STEP`], each with its offset in the piece.
    fn parts(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let blocks = self.fresh.runs().flat_map(|(first, count)| {
            // Cut at multiples of a step, so that each is one subtree.
            let cuts = (first..first + count).filter(move |at| *at == first || at.is_multiple_of(STEP));
            cuts.map(move |at| (at, (first + count).min(at / STEP * STEP + STEP)))
        });
        blocks.map(|(first, end)| {
            let from = first * BLOCK_SIZE - self.offset;
            let to = self.bytes.len().min((end * BLOCK_SIZE - self.offset) as usize);
            (first * BLOCK_SIZE, &self.bytes[from as usize..to])
        })
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::{Digester, Layout, PIECE_SIZE, PieceMap};

    use super::*;
    use crate::{Store, StoreConfig};

    const PIECE: PieceIndex = PieceIndex(0);
    const BLOCK: usize = BLOCK_SIZE as usize;

    fn sample() -> (Vec<u8>, PieceMap) {
        let bytes: Vec<u8> = (0..PIECE_SIZE).map(|i| (i / 5) as u8).collect();
        let mut digester = Digester::new();
        digester.update(&bytes);
        (bytes, digester.finish().unwrap().map)
    }

    fn content(dir: &std::path::Path, map: &PieceMap) -> Content {
        let store = Store::open(StoreConfig::new(dir)).unwrap();
        store.create(map.id(), Layout::new(u64::from(PIECE_SIZE)).unwrap(), Some(map), 0).unwrap()
    }

    /// Data can be written while `run` runs, progress cannot.
    fn without_progress<T>(content: &Content, run: impl FnOnce() -> T) -> T {
        let good = content.session.writing(&content.item).unwrap();
        let pieces = content.item.dir().unwrap().open(PIECES, crate::dir::Access::Read).unwrap();
        let bad = Arc::new(Writing { data: Arc::clone(&good.data), pieces });
        content.session.files.lock().writing = Some(bad);
        let result = run();
        content.session.files.lock().writing = Some(good);
        result
    }

    #[test]
    fn what_was_hashed_but_not_recorded_does_not_count() {
        let (temp, (bytes, map)) = (tempfile::tempdir().unwrap(), sample());
        let content = content(temp.path(), &map);
        without_progress(&content, || content.write(PIECE, 0, &bytes[..BLOCK]).unwrap_err());
        assert!(content.partial(PIECE).is_empty());
        // Another source sends the same block, wrong. The right bytes seen before must not vouch for it.
        assert_eq!(content.write(PIECE, 0, &vec![0; BLOCK]).unwrap(), Written::Partial);
        let all = content.write(PIECE, BLOCK_SIZE, &bytes[BLOCK..]);
        assert!(matches!(all, Err(StoreError::Mismatch { .. })), "{all:?}");
        assert_eq!(content.write(PIECE, 0, &bytes).unwrap(), Written::Verified);
    }

    #[test]
    fn a_verified_piece_is_not_told_before_it_is_recorded() {
        let (temp, (bytes, map)) = (tempfile::tempdir().unwrap(), sample());
        let content = content(temp.path(), &map);
        assert_eq!(content.write(PIECE, 0, &bytes[..BLOCK]).unwrap(), Written::Partial);
        without_progress(&content, || content.write(PIECE, BLOCK_SIZE, &bytes[BLOCK..]).unwrap_err());
        assert!(content.have().is_empty() && content.partial(PIECE) == BlockSet::first(1));
        assert_eq!(content.write(PIECE, BLOCK_SIZE, &bytes[BLOCK..]).unwrap(), Written::Verified);
    }

    #[test]
    fn a_writer_whose_slot_was_orphaned_starts_over() {
        let (temp, (bytes, map)) = (tempfile::tempdir().unwrap(), sample());
        let content = content(temp.path(), &map);
        assert_eq!(content.write(PIECE, 0, &bytes[..BLOCK]).unwrap(), Written::Partial);
        let old = content.slot(PIECE).unwrap().unwrap();
        content.item.doubt(&content.session);
        content.settle().unwrap();
        assert!(old.work.lock().closed, "its writer is sent to the new slot");
        assert_eq!(content.write(PIECE, 0, &bytes).unwrap(), Written::Verified);
        assert!(content.is_complete());
    }
}
