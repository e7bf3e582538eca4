//! How a content is cut: pieces of 1 MiB (the unit of verification), blocks of 16 KiB (the unit of progress).

use serde::{Deserialize, Serialize};

/// Bytes in a piece; the last piece of a content may be shorter. 1024 BLAKE3 chunks, so always a whole subtree.
pub const PIECE_SIZE: u32 = 1 << 20;
/// Bytes in a block, the grain in which partly received pieces are remembered. Equals the largest TLS record.
pub const BLOCK_SIZE: u32 = 16 << 10;
/// Blocks in a full piece: exactly the bits of a `u64`.
pub const BLOCKS_PER_PIECE: u32 = PIECE_SIZE / BLOCK_SIZE;
/// Largest content that Peerage handles, 1 TiB: its piece map is 32 MiB.
pub const MAX_CONTENT_SIZE: u64 = 1 << 40;

/// Index of a piece within its content, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PieceIndex(pub u32);

impl std::fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The size is beyond what can be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("content size {found} is above the limit of {MAX_CONTENT_SIZE} bytes")]
pub struct LayoutError {
    /// The size asked for, in bytes.
    pub found: u64,
}

/// The cutting of a content of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    size: u64,
}

impl Layout {
    /// Layout of a content of `size` bytes.
    ///
    /// # Errors
    /// The size is above [`MAX_CONTENT_SIZE`].
    pub fn new(size: u64) -> Result<Self, LayoutError> {
        if size > MAX_CONTENT_SIZE { Err(LayoutError { found: size }) } else { Ok(Self { size }) }
    }

    /// Bytes in the whole content.
    pub const fn size(self) -> u64 {
        self.size
    }

    /// Number of pieces; 0 for an empty content.
    pub const fn pieces(self) -> u32 {
        self.size.div_ceil(PIECE_SIZE as u64) as u32
    }

    /// All piece indexes, ascending.
    pub fn indexes(self) -> impl Iterator<Item = PieceIndex> {
        (0..self.pieces()).map(PieceIndex)
    }

    /// Whether `piece` exists in this content.
    pub const fn contains(self, piece: PieceIndex) -> bool {
        piece.0 < self.pieces()
    }

    /// Offset of the piece's first byte in the content.
    pub const fn offset(self, piece: PieceIndex) -> u64 {
        piece.0 as u64 * PIECE_SIZE as u64
    }

    /// Bytes in the piece; 0 when it does not exist.
    pub const fn piece_len(self, piece: PieceIndex) -> u32 {
        let left = self.size.saturating_sub(self.offset(piece));
        if left < PIECE_SIZE as u64 { left as u32 } else { PIECE_SIZE }
    }

    /// Number of blocks in the piece; 0 when it does not exist.
    pub const fn blocks(self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK_SIZE)
    }

    /// Whether `[offset, offset + len)` lies within the piece and is not empty.
    pub fn fits(self, piece: PieceIndex, offset: u32, len: u32) -> bool {
        len > 0 && u64::from(offset) + u64::from(len) <= u64::from(self.piece_len(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        let mib = u64::from(PIECE_SIZE);
        for (size, pieces, last) in
            [(0, 0, 0), (1, 1, 1), (mib, 1, PIECE_SIZE), (mib + 1, 2, 1), (10 << 30, 10240, PIECE_SIZE)]
        {
            let layout = Layout::new(size).unwrap();
            assert_eq!(layout.pieces(), pieces, "{size}");
            assert_eq!(layout.piece_len(PieceIndex(pieces.saturating_sub(1))), last, "{size}");
            assert_eq!(layout.piece_len(PieceIndex(pieces)), 0, "{size}");
        }
        assert!(Layout::new(MAX_CONTENT_SIZE + 1).is_err());
        let layout = Layout::new(mib + 5).unwrap();
        assert!(layout.fits(PieceIndex(1), 0, 5) && !layout.fits(PieceIndex(1), 1, 5));
        assert!(!layout.fits(PieceIndex(0), 0, 0) && !layout.fits(PieceIndex(0), u32::MAX, u32::MAX));
    }
}
