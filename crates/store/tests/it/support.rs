//! Contents to store, and what every test asks of the store afterwards.

use std::path::Path;

use peerage_content::{BLOCK_SIZE, ContentId, Digester, Layout, PIECE_SIZE, PieceIndex, PieceMap};
use peerage_store::{BootId, Content, Store, StoreConfig, StoreError, Written};

pub(crate) const MIB: usize = PIECE_SIZE as usize;
pub(crate) const BLOCK: usize = BLOCK_SIZE as usize;
pub(crate) const BOOT: BootId = BootId::from_raw(1);
pub(crate) const NOW: u64 = 1_800_000_000;

/// A file and its map.
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) map: PieceMap,
}

impl Sample {
    pub(crate) fn new(size: usize, seed: u32) -> Self {
        let bytes: Vec<u8> =
            (0..size as u32).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let mut digester = Digester::new();
        digester.update(&bytes);
        Self { map: digester.finish().unwrap().map, bytes }
    }

    pub(crate) fn id(&self) -> ContentId {
        self.map.id()
    }

    pub(crate) fn layout(&self) -> Layout {
        self.map.layout()
    }

    pub(crate) fn piece(&self, piece: u32) -> &[u8] {
        &self.bytes[piece as usize * MIB..self.bytes.len().min((piece as usize + 1) * MIB)]
    }

    pub(crate) fn create(&self, store: &Store) -> Content {
        store.create(self.id(), self.layout(), Some(&self.map), NOW).unwrap()
    }

    pub(crate) fn write_piece(&self, content: &Content, piece: u32) -> Result<Written, StoreError> {
        content.write(PieceIndex(piece), 0, self.piece(piece))
    }

    /// Blocks `[first, first + count)` of a piece, or fewer at its end.
    pub(crate) fn write_blocks(
        &self,
        content: &Content,
        piece: u32,
        first: usize,
        count: usize,
    ) -> Result<Written, StoreError> {
        let piece_bytes = self.piece(piece);
        let to = piece_bytes.len().min((first + count) * BLOCK);
        content.write(PieceIndex(piece), (first * BLOCK) as u32, &piece_bytes[first * BLOCK..to])
    }

    /// Writes whatever is missing.
    pub(crate) fn finish(&self, content: &Content) {
        let missing: Vec<PieceIndex> = content.have().missing().collect();
        for piece in missing {
            // Wrong blocks may have been recovered from the disk; then the piece is dropped once.
            match self.write_piece(content, piece.0) {
                Err(StoreError::Mismatch { .. }) => {
                    assert_eq!(self.write_piece(content, piece.0).unwrap(), Written::Verified);
                }
                written => assert_eq!(written.unwrap(), Written::Verified, "piece {piece}"),
            }
        }
        assert!(content.is_complete());
        self.check(content);
    }

    /// Every piece is served right or refused.
    pub(crate) fn check(&self, content: &Content) {
        let mut buf = vec![0; MIB];
        for piece in self.layout().indexes() {
            let buf = &mut buf[..self.layout().piece_len(piece) as usize];
            let had = content.have().contains(piece);
            match content.read(piece, 0, buf) {
                Ok(()) => assert!(buf == self.piece(piece.0), "piece {piece} is served wrong"),
                Err(StoreError::NotVerified { .. }) => {
                    assert!(!had || !content.have().contains(piece), "verified piece {piece} is refused");
                }
                Err(error) => panic!("piece {piece}: {error}"),
            }
        }
    }
}

pub(crate) fn open(dir: &Path) -> Store {
    open_in(dir, BOOT)
}

pub(crate) fn open_in(dir: &Path, boot: BootId) -> Store {
    Store::open(StoreConfig { dir: dir.join("cache"), boot }).unwrap()
}

/// The directory of a content.
pub(crate) fn content_dir(dir: &Path, id: ContentId) -> std::path::PathBuf {
    let id = id.to_string();
    dir.join("cache/contents").join(&id[..2]).join(id)
}
