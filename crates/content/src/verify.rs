//! Verifies one piece while its blocks arrive, in any order and from any number of sources.
//!
//! Each byte is hashed once: a run of blocks is hashed as the largest aligned BLAKE3 subtrees it covers, and their
//! chaining values are merged at the end. Nothing is trusted until [`PieceHasher::finish`] says so.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::{BLOCK_SIZE, PieceIndex, PieceMap};

/// Bytes cannot be taken into a piece, or a piece is not what its map says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not on block boundaries, or beyond the end of the piece.
    #[error("bytes [{offset}, +{len}) of piece {piece} are not whole blocks of it")]
    Misaligned {
        /// The piece.
        piece: PieceIndex,
        /// Offset in the piece.
        offset: u32,
        /// Number of bytes.
        len: usize,
    },
    /// Blocks are missing.
    #[error("piece {piece} is not complete")]
    Incomplete {
        /// The piece.
        piece: PieceIndex,
    },
    /// The bytes are wrong.
    #[error("piece {piece} does not match its piece map")]
    Mismatch {
        /// The piece.
        piece: PieceIndex,
    },
}

/// A set of blocks of one piece: bit `i` is block `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct BlockSet(pub u64);

impl BlockSet {
    /// The first `count` blocks.
    pub const fn first(count: u32) -> Self {
        Self(if count >= 64 { u64::MAX } else { (1 << count) - 1 })
    }

    /// The blocks that `[offset, offset + len)` covers wholly, given that `piece_len` ends the last block.
    pub const fn covered(offset: u32, len: u32, piece_len: u32) -> Self {
        let end = offset.saturating_add(len);
        let from = offset.div_ceil(BLOCK_SIZE);
        let to = if end >= piece_len { piece_len.div_ceil(BLOCK_SIZE) } else { end / BLOCK_SIZE };
        if from >= to { Self(0) } else { Self(Self::first(to).0 & !Self::first(from).0) }
    }

    /// Whether block `index` is in it.
    pub const fn contains(self, index: u32) -> bool {
        index < 64 && self.0 >> index & 1 == 1
    }

    /// How many blocks are in it.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether no block is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in `self` and not in `other`.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Its runs of neighbouring blocks as `(first, count)`, ascending.
    pub fn runs(self) -> impl Iterator<Item = (u32, u32)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let first = rest.trailing_zeros();
            let count = (!(rest >> first)).trailing_zeros();
            rest &= !(Self::first(count).0 << first);
            Some((first, count))
        })
    }
}

/// One piece on its way.
#[derive(Debug)]
pub struct PieceHasher {
    map: PieceMap,
    piece: PieceIndex,
    have: BlockSet,
    /// `nodes[b]` is the subtree that begins at block `b`: its number of blocks and its value.
    nodes: Box<[Option<(u8, ChainingValue)>; 64]>,
}

impl PieceHasher {
    /// A piece of which nothing has been seen. A piece that does not exist is complete and mismatches.
    pub fn new(map: PieceMap, piece: PieceIndex) -> Self {
        Self { map, piece, have: BlockSet::default(), nodes: Box::new([None; 64]) }
    }

    /// The piece.
    pub const fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// The blocks hashed so far.
    pub const fn have(&self) -> BlockSet {
        self.have
    }

    /// Whether all blocks have been hashed.
    pub fn is_complete(&self) -> bool {
        self.have == BlockSet::first(self.map.layout().blocks(self.piece))
    }

    /// Takes `bytes`, whole blocks at `offset` in the piece. Blocks seen before are passed over.
    ///
    /// # Errors
    /// The bytes are not whole blocks of this piece.
    pub fn update(&mut self, offset: u32, bytes: &[u8]) -> Result<(), VerifyError> {
        let piece_len = self.map.layout().piece_len(self.piece);
        let misaligned = VerifyError::Misaligned { piece: self.piece, offset, len: bytes.len() };
        let len = u32::try_from(bytes.len()).map_err(|_| misaligned)?;
        let end = offset.checked_add(len).filter(|end| *end <= piece_len).ok_or(misaligned)?;
        if !offset.is_multiple_of(BLOCK_SIZE) || (!end.is_multiple_of(BLOCK_SIZE) && end != piece_len) {
            return Err(misaligned);
        }
        let fresh = BlockSet::covered(offset, len, piece_len).minus(self.have);
        for (first, count) in fresh.runs() {
            self.hash_run(first, count, offset, bytes);
        }
        self.have = self.have.union(fresh);
        Ok(())
    }

    /// Whether the piece is what the map says.
    ///
    /// # Errors
    /// Blocks are missing, or the bytes are wrong.
    pub fn finish(&self) -> Result<(), VerifyError> {
        if !self.is_complete() {
            return Err(VerifyError::Incomplete { piece: self.piece });
        }
        let blocks = self.map.layout().blocks(self.piece);
        let found = if self.is_root() { self.root(blocks) } else { self.value(0, blocks) };
        if found.as_ref() == self.map.value(self.piece) && found.is_some() {
            Ok(())
        } else {
            Err(VerifyError::Mismatch { piece: self.piece })
        }
    }

    /// A content of one piece is verified against the root hash itself.
    fn is_root(&self) -> bool {
        self.map.layout().pieces() == 1
    }

    /// Hashes blocks `[first, first + count)` out of `bytes`, which begin at `offset`, as aligned subtrees.
    fn hash_run(&mut self, first: u32, count: u32, offset: u32, bytes: &[u8]) {
        let blocks = self.map.layout().blocks(self.piece);
        // The top node of a root must be merged as one, so nothing larger than its left child is hashed at once.
        let largest = if self.is_root() && blocks > 1 { 1 << (blocks - 1).ilog2() } else { 64 };
        let (mut at, end) = (first, first + count);
        while at < end {
            let aligned = if at == 0 { 64 } else { 1 << at.trailing_zeros() };
            let fits = 1 << (end - at).ilog2();
            let step = aligned.min(fits).min(largest);
            let from = (at * BLOCK_SIZE - offset) as usize;
            let to = (from + (step * BLOCK_SIZE) as usize).min(bytes.len());
            let mut hasher = Hasher::new();
            let value = if self.is_root() && blocks == 1 {
                *hasher.update(&bytes[from..to]).finalize().as_bytes()
            } else {
                let start = self.map.layout().offset(self.piece) + u64::from(at * BLOCK_SIZE);
                hasher.set_input_offset(start).update(&bytes[from..to]).finalize_non_root()
            };
            self.nodes[at as usize] = Some((step as u8, value));
            at += step;
        }
    }

    /// The value of the subtree over blocks `[first, first + count)`, if all its parts are known.
    fn value(&self, first: u32, count: u32) -> Option<ChainingValue> {
        let node = self.nodes.get(first as usize)?.as_ref();
        if let Some((blocks, value)) = node.filter(|(blocks, _)| u32::from(*blocks) == count) {
            debug_assert!(*blocks > 0);
            return Some(*value);
        }
        if count < 2 {
            return None;
        }
        let left = 1 << (count - 1).ilog2();
        let (a, b) = (self.value(first, left)?, self.value(first + left, count - left)?);
        Some(merge_subtrees_non_root(&a, &b, Mode::Hash))
    }

    fn root(&self, blocks: u32) -> Option<ChainingValue> {
        if blocks < 2 {
            return self.value(0, blocks);
        }
        let left = 1 << (blocks - 1).ilog2();
        let (a, b) = (self.value(0, left)?, self.value(left, blocks - left)?);
        Some(*merge_subtrees_root(&a, &b, Mode::Hash).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Digester, PIECE_SIZE};

    fn content(size: usize) -> (Vec<u8>, PieceMap) {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 31 + i / 4099) as u8).collect();
        let mut digester = Digester::new();
        digester.update(&bytes);
        (bytes, digester.finish().unwrap().map)
    }

    /// Feeds piece `p` in the runs that `cuts` makes, in the order of `keys`.
    fn feed(bytes: &[u8], map: &PieceMap, p: u32, cuts: &[u32], keys: &[u32]) -> PieceHasher {
        let layout = map.layout();
        let (piece, len) = (PieceIndex(p), layout.piece_len(PieceIndex(p)));
        let start = layout.offset(piece) as usize;
        let mut edges: Vec<u32> = cuts.iter().map(|c| c % layout.blocks(piece).max(1) * BLOCK_SIZE).collect();
        edges.extend([0, len]);
        edges.sort_unstable();
        edges.dedup();
        let mut runs: Vec<(u32, u32)> = edges.windows(2).map(|w| (w[0], w[1])).collect();
        runs.sort_by_key(|(from, _)| keys[(*from / BLOCK_SIZE) as usize % keys.len()]);
        let mut hasher = PieceHasher::new(map.clone(), piece);
        for (from, to) in runs {
            hasher.update(from, &bytes[start + from as usize..start + to as usize]).unwrap();
        }
        hasher
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_order_verifies_and_any_flip_is_found(
            pick in 0usize..9,
            cuts in prop::collection::vec(0u32..64, 0..20),
            keys in prop::collection::vec(any::<u32>(), 1..9),
            flip in any::<prop::sample::Index>(),
        ) {
            let mib = PIECE_SIZE as usize;
            let size = [1, 1000, 16384, 16385, 600_000, mib, mib + 1, 2 * mib, 2 * mib + 70_001][pick];
            let (mut bytes, map) = content(size);
            for p in 0..map.layout().pieces() {
                prop_assert_eq!(feed(&bytes, &map, p, &cuts, &keys).finish(), Ok(()));
            }
            let at = flip.index(size);
            bytes[at] ^= 0x10;
            let bad = (at / mib) as u32;
            let piece = PieceIndex(bad);
            prop_assert_eq!(feed(&bytes, &map, bad, &cuts, &keys).finish(), Err(VerifyError::Mismatch { piece }));
        }
    }

    #[test]
    fn refuses_what_is_not_whole_blocks() {
        let (bytes, map) = content(PIECE_SIZE as usize + 100);
        let mut hasher = PieceHasher::new(map.clone(), PieceIndex(1));
        assert!(hasher.update(1, &bytes[..99]).is_err());
        assert!(hasher.update(0, &bytes[..99]).is_err());
        assert!(hasher.update(0, &bytes[..101]).is_err());
        assert!(hasher.update(u32::MAX, &bytes[..16384]).is_err());
        assert_eq!(hasher.finish(), Err(VerifyError::Incomplete { piece: PieceIndex(1) }));
        let mut nowhere = PieceHasher::new(map, PieceIndex(9));
        assert!(nowhere.update(0, &bytes[..16384]).is_err());
        assert!(nowhere.finish().is_err());
    }

    #[test]
    fn runs_and_cover() {
        assert_eq!(BlockSet(0b1101_1001).runs().collect::<Vec<_>>(), [(0, 1), (3, 2), (6, 2)]);
        assert_eq!(BlockSet(u64::MAX).runs().collect::<Vec<_>>(), [(0, 64)]);
        assert_eq!(BlockSet::covered(0, 16384 * 2 + 1, 1 << 20), BlockSet(0b11));
        assert_eq!(BlockSet::covered(1, 16384 * 2, 1 << 20), BlockSet(0b10));
        assert_eq!(BlockSet::covered(16384, 100, 16484), BlockSet(0b10));
    }
}
