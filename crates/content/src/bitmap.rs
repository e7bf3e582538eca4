//! A fixed-length set of piece indexes.

use crate::{Layout, PieceIndex};

/// Foreign bytes are not a bitmap of the expected length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// The number of bytes does not fit the number of pieces.
    #[error("bitmap of {found} bytes, expected {expected}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes that the number of pieces needs.
        expected: usize,
    },
    /// A bit beyond the last piece is set.
    #[error("bitmap has a bit set beyond the last piece")]
    Spare,
}

/// Which pieces of one content somebody has. Bit `i` is the lowest bit first of byte `i / 8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    len: u32,
    ones: u32,
    words: Vec<u64>,
}

impl Bitmap {
    /// An empty set over `pieces` pieces.
    pub fn new(pieces: u32) -> Self {
        Self { len: pieces, ones: 0, words: vec![0; (pieces as usize).div_ceil(64)] }
    }

    /// A full set over `pieces` pieces.
    pub fn full(pieces: u32) -> Self {
        let mut map = Self::new(pieces);
        for i in 0..pieces {
            map.insert(PieceIndex(i));
        }
        map
    }

    /// An empty set for the pieces of a layout.
    pub fn for_layout(layout: Layout) -> Self {
        Self::new(layout.pieces())
    }

    /// Number of pieces it ranges over.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no piece is in it.
    pub const fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// Whether all pieces are in it (true for a content without pieces).
    pub const fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// How many pieces are in it.
    pub const fn count(&self) -> u32 {
        self.ones
    }

    /// Whether `piece` is in it; false beyond the end.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        piece.0 < self.len && self.words[(piece.0 / 64) as usize] >> (piece.0 % 64) & 1 == 1
    }

    /// Adds `piece`; returns whether it was new. Indexes beyond the end are ignored.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.len || self.contains(piece) {
            return false;
        }
        self.words[(piece.0 / 64) as usize] |= 1 << (piece.0 % 64);
        self.ones += 1;
        true
    }

    /// Takes `piece` out; returns whether it was there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        if !self.contains(piece) {
            return false;
        }
        self.words[(piece.0 / 64) as usize] &= !(1 << (piece.0 % 64));
        self.ones -= 1;
        true
    }

    /// The pieces in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| bits(at, word))
    }

    /// The pieces that are in both, ascending from `start` to the end and then from the beginning. Takes time by the words
    /// of 64 pieces that it passes, and by what it finds.
    pub fn common_from<'a>(
        &'a self,
        other: &'a Self,
        start: PieceIndex,
    ) -> impl Iterator<Item = PieceIndex> + 'a {
        let both = move |at: usize| {
            self.words.get(at).copied().unwrap_or_default() & other.words.get(at).copied().unwrap_or_default()
        };
        let (words, first) = (self.words.len(), (start.0 / 64) as usize);
        let from_start = u64::MAX << (start.0 % 64);
        let head = std::iter::once((first, both(first) & from_start));
        let tail = std::iter::once((first, both(first) & !from_start));
        let between = (first + 1..words).chain(0..first.min(words)).map(move |at| (at, both(at)));
        head.chain(between).chain(tail).flat_map(|(at, word)| bits(at, word))
    }

    /// The pieces not in it, ascending.
    pub fn missing(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.len).map(PieceIndex).filter(|piece| !self.contains(*piece))
    }

    /// Whether it has a piece that `other` lacks.
    pub fn has_beyond(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(mine, theirs)| mine & !theirs != 0)
    }

    /// Bytes that a set over `pieces` pieces takes.
    pub const fn byte_len(pieces: u32) -> usize {
        (pieces as usize).div_ceil(8)
    }

    /// The wire and file form: [`Self::byte_len`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        out.truncate(Self::byte_len(self.len));
        out
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// The length does not fit `pieces`, or a spare bit is set.
    pub fn from_bytes(bytes: &[u8], pieces: u32) -> Result<Self, BitmapError> {
        let expected = Self::byte_len(pieces);
        if bytes.len() != expected {
            return Err(BitmapError::Length { found: bytes.len(), expected });
        }
        let mut map = Self::new(pieces);
        for (at, &byte) in bytes.iter().enumerate() {
            map.words[at / 8] |= u64::from(byte) << (at % 8 * 8);
        }
        if !pieces.is_multiple_of(64) && map.words.last().is_some_and(|last| last >> (pieces % 64) != 0) {
            return Err(BitmapError::Spare);
        }
        map.ones = map.words.iter().map(|word| word.count_ones()).sum();
        Ok(map)
    }
}

/// The pieces of the word at `at`, ascending.
fn bits(at: usize, word: u64) -> impl Iterator<Item = PieceIndex> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let bit = rest.trailing_zeros();
        rest &= rest - 1;
        Some(PieceIndex(at as u32 * 64 + bit))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(len in 0u32..300, ops in prop::collection::vec((any::<bool>(), 0u32..320), 0..200)) {
            let (mut map, mut set) = (Bitmap::new(len), BTreeSet::new());
            for (add, i) in ops {
                if add {
                    prop_assert_eq!(map.insert(PieceIndex(i)), i < len && set.insert(i));
                } else {
                    prop_assert_eq!(map.remove(PieceIndex(i)), set.remove(&i));
                }
            }
            prop_assert_eq!(map.count() as usize, set.len());
            prop_assert!(map.iter().map(|p| p.0).eq(set.iter().copied()));
            prop_assert_eq!(map.missing().count(), len as usize - set.len());
            let back = Bitmap::from_bytes(&map.to_bytes(), len).unwrap();
            prop_assert_eq!(back, map);
        }

        #[test]
        fn what_two_have_in_common_from_any_place(
            len in 0u32..300,
            own in prop::collection::btree_set(0u32..300, 0..200),
            theirs in prop::collection::btree_set(0u32..300, 0..200),
            start in 0u32..400,
        ) {
            let (mut a, mut b) = (Bitmap::new(len), Bitmap::new(len));
            for i in &own {
                a.insert(PieceIndex(*i));
            }
            for i in &theirs {
                b.insert(PieceIndex(*i));
            }
            let both: Vec<u32> = own.intersection(&theirs).copied().filter(|i| *i < len).collect();
            let (before, after): (Vec<u32>, Vec<u32>) = both.into_iter().partition(|i| *i < start);
            let found: Vec<u32> = a.common_from(&b, PieceIndex(start)).map(|piece| piece.0).collect();
            prop_assert_eq!(found, [after, before].concat());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), len in any::<u32>()) {
            let len = len % 600;
            if let Ok(map) = Bitmap::from_bytes(&bytes, len) {
                prop_assert_eq!(map.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn full_is_full() {
        assert!(Bitmap::full(0).is_full() && Bitmap::full(65).is_full());
        assert!(
            Bitmap::full(65).has_beyond(&Bitmap::new(65)) && !Bitmap::new(65).has_beyond(&Bitmap::full(65))
        );
    }
}
