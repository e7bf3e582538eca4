//! The progress file `pieces`: what is known of each piece of one content.
//!
//! ```text
//! head, 80 bytes   magic 8 · content id 32 · size u64 · boot id u128 · zero 8 · check 8
//! piece, 16 bytes  mask of blocks u64 · state u32 (1 blocks received, 2 verified) · check u32
//! ```
//!
//! Big-endian. An entry of zeros is a piece of which nothing is here. A check covers the content id and the index too,
//! so damage, and entries of another content, are found: such a piece is *doubtful* and hashed again. An entry never
//! straddles a page, so a kill leaves it old or new; data is written before the entry that speaks of it.
//!
//! After `kill -9` (same boot) the page cache survived and entries are believed. After a power cut (another boot)
//! they are claims to be hashed again, unless the content was sealed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use peerage_content::{Bitmap, BlockSet, ContentId, Layout, PieceIndex};

use crate::config::BootId;

const MAGIC: &[u8; 8] = b"PGHAVE1\n";
const HEAD: usize = 80;
const ENTRY: usize = 16;
const RECEIVED: u32 = 1;
const VERIFIED: u32 = 2;

/// What is known of one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing is here.
    Empty,
    /// These blocks were received, and not verified.
    Blocks(BlockSet),
    /// The whole piece is here and right.
    Verified,
}

/// What a progress file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The boot it was written in.
    pub(crate) boot: BootId,
    /// Pieces that were verified.
    pub(crate) verified: Bitmap,
    /// Pieces whose entry is damaged.
    pub(crate) damaged: Bitmap,
    /// Blocks of pieces that were not verified.
    pub(crate) blocks: Vec<(PieceIndex, BlockSet)>,
}

/// Reads and writes the progress of one content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) id: ContentId,
    pub(crate) layout: Layout,
}

impl Progress {
    /// Bytes of the file.
    pub(crate) fn len(self) -> u64 {
        (HEAD + self.layout.pieces() as usize * ENTRY) as u64
    }

    /// Records one piece.
    pub(crate) fn record(self, file: &File, piece: PieceIndex, entry: Entry) -> io::Result<()> {
        let at = HEAD as u64 + u64::from(piece.0) * ENTRY as u64;
        file.write_all_at(&self.encode(piece, entry), at)
    }

    /// Fills an empty file.
    pub(crate) fn fill(
        self,
        file: &File,
        boot: BootId,
        entries: impl Iterator<Item = (PieceIndex, Entry)>,
    ) -> io::Result<()> {
        // Empty entries are written, too, and not left as a hole: a disk that is full later must not keep a verified
        // piece from being recorded.
        let mut body = vec![0; self.layout.pieces() as usize * ENTRY];
        for (piece, entry) in entries {
            let at = piece.0 as usize * ENTRY;
            if let Some(slot) = body.get_mut(at..at + ENTRY) {
                slot.copy_from_slice(&self.encode(piece, entry));
            }
        }
        file.write_all_at(&body, HEAD as u64)?;
        file.write_all_at(&self.head(boot), 0)
    }

    /// Reads the file; `None` when its head is damaged or it is not of this content.
    pub(crate) fn load(self, file: &File) -> io::Result<Option<Loaded>> {
        if file.metadata()?.len() != self.len() {
            return Ok(None);
        }
        let mut bytes = vec![0; self.len() as usize];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(self.parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(self, bytes: &[u8]) -> Option<Loaded> {
        let (head, body) = bytes.split_at_checked(HEAD)?;
        let boot = BootId::from_raw(u128::from_be_bytes(head.get(48..64)?.try_into().ok()?));
        if head != self.head(boot) || bytes.len() as u64 != self.len() {
            return None;
        }
        let mut loaded = Loaded {
            boot,
            verified: Bitmap::for_layout(self.layout),
            damaged: Bitmap::for_layout(self.layout),
            blocks: Vec::new(),
        };
        let (entries, _) = body.as_chunks::<ENTRY>();
        for (piece, entry) in self.layout.indexes().zip(entries) {
            match self.decode(piece, entry) {
                Some(Entry::Empty) => {}
                Some(Entry::Blocks(blocks)) => loaded.blocks.push((piece, blocks)),
                Some(Entry::Verified) => _ = loaded.verified.insert(piece),
                None => _ = loaded.damaged.insert(piece),
            }
        }
        Some(loaded)
    }

    fn head(self, boot: BootId) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..8].copy_from_slice(MAGIC);
        out[8..40].copy_from_slice(self.id.as_bytes());
        out[40..48].copy_from_slice(&self.layout.size().to_be_bytes());
        out[48..64].copy_from_slice(&boot.to_raw().to_be_bytes());
        let check = blake3::hash(&out[..72]);
        out[72..].copy_from_slice(&check.as_bytes()[..8]);
        out
    }

    /// All blocks of a piece.
    pub(crate) fn full(self, piece: PieceIndex) -> BlockSet {
        BlockSet::first(self.layout.blocks(piece))
    }

    fn encode(self, piece: PieceIndex, entry: Entry) -> [u8; ENTRY] {
        let (mask, state) = match entry {
            Entry::Empty => return [0; ENTRY],
            Entry::Blocks(blocks) if blocks.is_empty() => return [0; ENTRY],
            Entry::Blocks(blocks) => (blocks, RECEIVED),
            Entry::Verified => (self.full(piece), VERIFIED),
        };
        // Id, index, mask and state fit one BLAKE3 block: a single compression.
        let mut input = [0; 48];
        input[..32].copy_from_slice(self.id.as_bytes());
        input[32..36].copy_from_slice(&piece.0.to_be_bytes());
        input[36..44].copy_from_slice(&mask.0.to_be_bytes());
        input[44..].copy_from_slice(&state.to_be_bytes());
        let mut out = [0; ENTRY];
        out[..12].copy_from_slice(&input[36..]);
        out[12..].copy_from_slice(&blake3::hash(&input).as_bytes()[..4]);
        out
    }

    fn decode(self, piece: PieceIndex, bytes: &[u8; ENTRY]) -> Option<Entry> {
        let [m0, m1, m2, m3, m4, m5, m6, m7, s0, s1, s2, s3, ..] = *bytes;
        let mask = BlockSet(u64::from_be_bytes([m0, m1, m2, m3, m4, m5, m6, m7]));
        let entry = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => Entry::Empty,
            RECEIVED if mask.minus(self.full(piece)).is_empty() => Entry::Blocks(mask),
            VERIFIED => Entry::Verified,
            _ => return None,
        };
        // Whatever does not come out again as it went in is damage.
        (self.encode(piece, entry) == *bytes).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOOT: BootId = BootId::from_raw(7);

    fn progress(size: u64) -> Progress {
        Progress { id: ContentId::from_bytes([9; 32]), layout: Layout::new(size).unwrap() }
    }

    fn entries() -> impl Strategy<Value = Vec<(PieceIndex, Entry)>> {
        let entry = prop_oneof![
            Just(Entry::Empty),
            Just(Entry::Verified),
            (1u64..1 << 5).prop_map(|mask| Entry::Blocks(BlockSet(mask)))
        ];
        // The last of the four pieces has exactly five blocks.
        prop::collection::vec(entry, 4)
            .prop_map(|entries| (0..).map(PieceIndex).zip(entries).collect::<Vec<_>>())
    }

    const SIZE: u64 = (3 << 20) + 4 * 16384 + 1;

    fn written(entries: &[(PieceIndex, Entry)]) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        progress(SIZE).fill(&file, BOOT, entries.iter().copied()).unwrap();
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn says_what_was_recorded(entries in entries()) {
            let loaded = progress(SIZE).parse(&written(&entries)).unwrap();
            prop_assert_eq!(loaded.boot, BOOT);
            prop_assert!(loaded.damaged.is_empty());
            for (piece, entry) in entries {
                prop_assert_eq!(loaded.verified.contains(piece), entry == Entry::Verified);
                let blocks = loaded.blocks.iter().find(|(at, _)| *at == piece).map(|(_, blocks)| *blocks);
                prop_assert_eq!(blocks.map(Entry::Blocks), matches!(entry, Entry::Blocks(_)).then_some(entry));
            }
        }

        #[test]
        fn damage_never_makes_a_piece_verified(
            entries in entries(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..9),
        ) {
            let mut bytes = written(&entries);
            for (at, flip) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            if let Some(loaded) = progress(SIZE).parse(&bytes) {
                for piece in loaded.verified.iter() {
                    prop_assert_eq!(entries[piece.0 as usize].1, Entry::Verified);
                }
            }
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 0u64..20 << 20) {
            prop_assert_eq!(progress(size).parse(&bytes), None);
        }
    }

    #[test]
    fn of_another_content_is_void() {
        let bytes = written(&[(PieceIndex(0), Entry::Verified)]);
        let other = Progress { id: ContentId::from_bytes([8; 32]), ..progress(SIZE) };
        assert_eq!(other.parse(&bytes), None);
        assert_eq!(progress(SIZE + 1).parse(&bytes), None);
        // An entry carried over under a right head is found out by its own check.
        let mut mixed = other.head(BOOT).to_vec();
        mixed.extend_from_slice(&bytes[HEAD..]);
        let loaded = other.parse(&mixed).unwrap();
        assert!(loaded.verified.is_empty() && loaded.damaged.contains(PieceIndex(0)));
    }

    #[test]
    fn record_replaces_one_entry() {
        let (file, progress) = (tempfile::tempfile().unwrap(), progress(SIZE));
        progress.fill(&file, BOOT, std::iter::empty()).unwrap();
        progress.record(&file, PieceIndex(3), Entry::Blocks(BlockSet(0b1_0000))).unwrap();
        progress.record(&file, PieceIndex(1), Entry::Verified).unwrap();
        let loaded = progress.load(&file).unwrap().unwrap();
        assert_eq!(loaded.blocks, [(PieceIndex(3), BlockSet(0b1_0000))]);
        assert!(loaded.verified.iter().eq([PieceIndex(1)]));
        file.set_len(progress.len() - 1).unwrap();
        assert_eq!(progress.load(&file).unwrap(), None);
    }
}
