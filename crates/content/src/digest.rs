//! One pass over a file: content id, piece map and SHA-256.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt};
use sha2::Digest as _;

use crate::{ContentId, Layout, LayoutError, PIECE_SIZE, PieceMap, PieceMapError, Sha256};

/// What one pass over a file yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// BLAKE3 of the whole file.
    pub id: ContentId,
    /// SHA-256 of the whole file.
    pub sha256: Sha256,
    /// The piece map; knows the size.
    pub map: PieceMap,
}

/// Hashes a content from its first byte to its last. Holds no content bytes.
#[derive(Debug)]
pub struct Digester {
    size: u64,
    values: Vec<ChainingValue>,
    piece: Hasher,
    sha256: sha2::Sha256,
}

impl Default for Digester {
    fn default() -> Self {
        Self::new()
    }
}

impl Digester {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self { size: 0, values: Vec::new(), piece: Hasher::new(), sha256: sha2::Sha256::new() }
    }

    /// Bytes hashed so far.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.sha256.update(bytes);
        while !bytes.is_empty() {
            let within = self.size % u64::from(PIECE_SIZE);
            if within == 0 && self.size > 0 {
                self.values.push(self.piece.finalize_non_root());
                self.piece = Hasher::new();
                self.piece.set_input_offset(self.size);
            }
            let room = (u64::from(PIECE_SIZE) - within) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.update(now);
            self.size += now.len() as u64;
            bytes = later;
        }
    }

    /// The file has ended.
    ///
    /// # Errors
    /// The file is larger than [`crate::MAX_CONTENT_SIZE`].
    pub fn finish(mut self) -> Result<Digest, LayoutError> {
        let layout = Layout::new(self.size)?;
        if self.size > 0 {
            // A content of one piece is its own root (BLAKE3 separates roots from subtrees).
            let root = layout.pieces() == 1;
            self.values.push(if root {
                *self.piece.finalize().as_bytes()
            } else {
                self.piece.finalize_non_root()
            });
        }
        let map = PieceMap::from_values(layout, self.values).map_err(|error| match error {
            PieceMapError::Layout(error) => error,
            _ => LayoutError { found: self.size },
        })?;
        Ok(Digest { id: map.id(), sha256: Sha256::from_bytes(self.sha256.finalize().into()), map })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_whatever_the_slices() {
        let bytes: Vec<u8> = (0..2 * PIECE_SIZE as usize + 9).map(|i| (i / 3) as u8).collect();
        let mut whole = Digester::new();
        whole.update(&bytes);
        let whole = whole.finish().unwrap();
        for step in [1021, 65_536, PIECE_SIZE as usize, PIECE_SIZE as usize + 1] {
            let mut parts = Digester::new();
            bytes.chunks(step).for_each(|chunk| parts.update(chunk));
            assert_eq!(parts.finish().unwrap(), whole, "{step}");
        }
        assert_eq!(whole.id.as_bytes(), blake3::hash(&bytes).as_bytes());
        assert_eq!(
            Digester::new().finish().unwrap().sha256.to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
