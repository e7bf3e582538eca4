//! The piece map (DO: piece hash file, DO reference §2.3): all pieces' BLAKE3 subtree values.
//!
//! It proves itself: merging the values gives the content id, so it may come from anyone. Where DO hashes each piece
//! on its own and needs a second hash for the list, a BLAKE3 tree binds the list to the name of the content.
//!
//! File form: `PGMAP1\r\n` · size `u64` · values, 32 bytes a piece. Big-endian. The number of pieces follows from the size.
//! A content of at most one piece has a root hash and no subtree values: its only value is the id itself.

use std::sync::Arc;

use blake3::hazmat::{ChainingValue, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::bytes_io::{Reader, ShortInput, Writer};
use crate::{ContentId, Layout, LayoutError, PieceIndex};

const MAGIC: &[u8; 8] = b"PGMAP1\r\n";
const HEAD: usize = 16;

/// Foreign bytes are not the piece map of the content asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceMapError {
    /// The bytes are not a piece map.
    #[error("not a piece map: {0}")]
    Malformed(#[from] ShortInput),
    /// The size is beyond what can be handled.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A well-formed map of some other content.
    #[error("piece map merges to {found}, expected {expected}")]
    WrongContent {
        /// The id that its values merge to.
        found: ContentId,
        /// The id that was asked for.
        expected: ContentId,
    },
}

/// A proven piece map. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceMap {
    id: ContentId,
    layout: Layout,
    values: Arc<[ChainingValue]>,
}

impl PieceMap {
    /// Builds the map of a content of `layout` whose pieces have `values`; the id follows.
    ///
    /// # Errors
    /// The number of values is not the number of pieces.
    pub fn from_values(layout: Layout, values: Vec<ChainingValue>) -> Result<Self, PieceMapError> {
        if values.len() != layout.pieces() as usize {
            return Err(ShortInput { field: "values", why: "not one for each piece" }.into());
        }
        let id = match &values[..] {
            [] => ContentId::from_bytes(*blake3::hash(b"").as_bytes()),
            [only] => ContentId::from_bytes(*only),
            many => {
                let (left, right) = many.split_at(left_pieces(many.len()));
                let root = merge_subtrees_root(&merge(left), &merge(right), Mode::Hash);
                ContentId::from_bytes(*root.as_bytes())
            }
        };
        Ok(Self { id, layout, values: values.into() })
    }

    /// Reads the file form and proves it against `expected`.
    ///
    /// # Errors
    /// Not a map, too large, or the map of another content.
    pub fn from_bytes(bytes: &[u8], expected: ContentId) -> Result<Self, PieceMapError> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len(), "magic")? != MAGIC {
            return Err(ShortInput { field: "magic", why: "not PGMAP1" }.into());
        }
        let layout = Layout::new(reader.u64("size")?)?;
        if reader.rest().len() != layout.pieces() as usize * 32 {
            return Err(ShortInput { field: "values", why: "not one for each piece" }.into());
        }
        let (values, _) = reader.rest().as_chunks::<32>();
        let map = Self::from_values(layout, values.to_vec())?;
        if map.id == expected {
            Ok(map)
        } else {
            Err(PieceMapError::WrongContent { found: map.id, expected })
        }
    }

    /// The file form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.raw(MAGIC).u64(self.layout.size()).raw(self.values.as_flattened());
        writer.finish()
    }

    /// Up to `len` bytes of the file form from `offset` on; none beyond its end.
    pub fn part(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.raw(MAGIC).u64(self.layout.size());
        let head = writer.finish();
        let from = |bytes: &'_ [u8], skipped: usize| bytes.len().min(offset.saturating_sub(skipped));
        let (values, in_head) = (self.values.as_flattened(), from(&head, 0));
        let in_values = from(values, head.len());
        head[in_head..].iter().chain(&values[in_values..]).take(len).copied().collect()
    }

    /// Bytes of the file form of a map for `layout`.
    pub const fn byte_len(layout: Layout) -> usize {
        HEAD + layout.pieces() as usize * 32
    }

    /// The content that it proves.
    pub const fn id(&self) -> ContentId {
        self.id
    }

    /// How that content is cut.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The value of one piece.
    pub fn value(&self, piece: PieceIndex) -> Option<&[u8; 32]> {
        self.values.get(piece.0 as usize)
    }
}

/// Pieces in the left subtree of `n >= 2` pieces: the largest power of two below `n` (BLAKE3 paper §2.1).
fn left_pieces(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

fn merge(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [] => [0; 32],
        [only] => *only,
        many => {
            let (left, right) = many.split_at(left_pieces(many.len()));
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Digester, PIECE_SIZE};

    fn map_of(bytes: &[u8]) -> PieceMap {
        let mut digester = Digester::new();
        digester.update(bytes);
        digester.finish().unwrap().map
    }

    #[test]
    fn id_equals_plain_blake3() {
        let mib = PIECE_SIZE as usize;
        for size in [0, 1, 1024, mib - 1, mib, mib + 1, 2 * mib, 3 * mib + 77, 5 * mib, 8 * mib + 1] {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
            let map = map_of(&bytes);
            assert_eq!(map.id().as_bytes(), blake3::hash(&bytes).as_bytes(), "{size}");
            assert_eq!(PieceMap::from_bytes(&map.to_bytes(), map.id()).unwrap(), map);
            assert_eq!(map.to_bytes().len(), PieceMap::byte_len(map.layout()));
        }
    }

    #[test]
    fn any_change_is_found() {
        let map = map_of(&vec![3; 3 * PIECE_SIZE as usize]);
        let good = map.to_bytes();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let refused = PieceMap::from_bytes(&bad, map.id());
            // The size is bound by the number of values and, within the last piece, by the record.
            assert!(refused.is_err() || (8..16).contains(&at), "byte {at}");
        }
        assert!(PieceMap::from_bytes(&good[..good.len() - 1], map.id()).is_err());
        assert!(PieceMap::from_bytes(&[&good[..], &[0]].concat(), map.id()).is_err());
    }

    proptest! {
        #[test]
        fn a_part_is_that_of_the_file_form(pieces in 0..4usize, offset in 0..200usize, len in 0..200usize) {
            let map = map_of(&vec![3; pieces * PIECE_SIZE as usize]);
            let whole = map.to_bytes();
            let expected: Vec<u8> = whole.iter().skip(offset).take(len).copied().collect();
            prop_assert_eq!(map.part(offset, len), expected);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
            let bytes = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            let _ = PieceMap::from_bytes(&bytes, ContentId::from_bytes([0; 32]));
        }
    }
}
