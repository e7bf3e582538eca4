//! What one device has stored. Bytes are not simulated, only whether they are right.

use std::collections::BTreeMap;

use peerage_content::{Bitmap, BlockSet, Layout, PieceIndex};
use peerage_swarm::Outcome;

#[derive(Debug, Clone, Copy, Default)]
struct Partial {
    got: BlockSet,
    wrong: bool,
}

/// The store of one device for the one content; survives a power cut.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    layout: Layout,
    have: Bitmap,
    partial: BTreeMap<PieceIndex, Partial>,
}

impl Disk {
    pub(crate) const fn new(layout: Layout, have: Bitmap) -> Self {
        Self { layout, have, partial: BTreeMap::new() }
    }

    pub(crate) const fn have(&self) -> &Bitmap {
        &self.have
    }

    /// Blocks of unfinished pieces.
    pub(crate) fn partial(&self) -> Vec<(PieceIndex, BlockSet)> {
        self.partial.iter().map(|(piece, partial)| (*piece, partial.got)).collect()
    }

    /// Blocks of `piece` that are stored, verified or not.
    pub(crate) fn blocks(&self, piece: PieceIndex) -> BlockSet {
        if self.have.contains(piece) {
            return BlockSet::first(self.layout.blocks(piece));
        }
        self.partial.get(&piece).map_or(BlockSet::default(), |partial| partial.got)
    }

    /// Bytes arrive; says what becomes of them, as the real store would.
    pub(crate) fn store(&mut self, piece: PieceIndex, offset: u32, len: u32, wrong: bool) -> Outcome {
        let blocks = BlockSet::covered(offset, len, self.layout.piece_len(piece));
        let fresh = blocks.minus(self.blocks(piece));
        if fresh.is_empty() {
            return Outcome::Duplicate;
        }
        let partial = self.partial.entry(piece).or_default();
        partial.got = partial.got.union(fresh);
        partial.wrong |= wrong;
        if partial.got != BlockSet::first(self.layout.blocks(piece)) {
            return Outcome::Partial;
        }
        let wrong = partial.wrong;
        self.partial.remove(&piece);
        if wrong {
            return Outcome::Corrupt;
        }
        self.have.insert(piece);
        Outcome::Verified
    }

    /// The piece turns out to be damaged.
    pub(crate) fn lose(&mut self, piece: PieceIndex) -> bool {
        self.have.remove(piece)
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::{BLOCK_SIZE, PIECE_SIZE};

    use super::*;

    #[test]
    fn a_piece_is_right_only_if_all_its_blocks_are() {
        let layout = Layout::new(u64::from(PIECE_SIZE) + 5).unwrap();
        let mut disk = Disk::new(layout, Bitmap::for_layout(layout));
        let (piece, half) = (PieceIndex(0), PIECE_SIZE / 2);
        assert_eq!(disk.store(piece, 0, half, true), Outcome::Partial);
        assert_eq!(disk.store(piece, 0, BLOCK_SIZE, false), Outcome::Duplicate);
        assert_eq!(disk.store(piece, half, half, false), Outcome::Corrupt);
        assert_eq!(disk.store(piece, 0, PIECE_SIZE, false), Outcome::Verified);
        assert_eq!(disk.store(PieceIndex(1), 0, 5, false), Outcome::Verified);
        assert!(disk.have().is_full() && disk.lose(piece) && !disk.have().is_full());
    }
}
