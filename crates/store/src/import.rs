//! Taking over bytes that are in a file already: an import, or a staged download whose map came.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use peerage_content::{ContentId, Layout, PIECE_SIZE, PieceHasher, PieceIndex, PieceMap};

use crate::content::Content;
use crate::dir::Dir;
use crate::error::StoreError;
use crate::item::DATA;
use crate::root::Root;
use crate::store::{Adopted, Store};

/// What was found in bytes that were taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportReport {
    /// Whole pieces in the bytes that the content lacked before.
    pub offered: u32,
    /// Of these, the right ones; verified now.
    pub verified: u32,
    /// Bytes that are here now and were not before, blocks of pieces that were not whole included.
    pub kept: u64,
}

impl Store {
    /// Makes the content of `map` out of an existing file: by reflink, else by copy. Every piece is hashed; wrong ones
    /// are left out. A content that is here already takes over what it lacks. A complete one is sealed at `now`.
    ///
    /// # Errors
    /// The disk fails; what could be taken over until then is kept.
    pub fn import(
        &self,
        source: &File,
        map: &PieceMap,
        now: u64,
    ) -> Result<(Content, ImportReport), StoreError> {
        let stat =
            source.metadata().map_err(|error| StoreError::io("read", "source of the import", error))?;
        let (content, report) = match self.get(map.id())? {
            Some(content) if !content.item.is_gone() => {
                let report = merge(&content, source, stat.len(), map)?;
                (content, report)
            }
            _ => {
                // By way of a staging area, so that no lock is held and no half-made content is seen while it is copied.
                let staging = self.stage_own(&map.id().to_string())?;
                let done = staging.fill(source, stat.len().min(map.layout().size()));
                let done = done.and_then(|()| staging.promote(map, now));
                if done.is_err() {
                    staging.discard()?;
                }
                done?
            }
        };
        if content.is_complete() {
            content.seal(now)?;
        }
        Ok((content, report))
    }

    /// Has `place` move `file`, of which `len` bytes count, into a new content in `root`; or merges it into the one that is here.
    pub(crate) fn take_over(
        &self,
        map: &PieceMap,
        file: &File,
        len: u64,
        now: u64,
        root: &Arc<Root>,
        place: impl FnOnce(&Dir) -> io::Result<()>,
    ) -> Result<(Content, ImportReport), StoreError> {
        let place = |root: &Root, dir: &Dir| {
            let path = root.content_path(map.id(), DATA);
            place(dir).map_err(|error| StoreError::inside("move a file to", path, error))
        };
        match self.adopt(map, len, now, root, place)? {
            Adopted::New(item) => {
                let content = Content::open(item)?;
                let layout = map.layout();
                let offered = layout.indexes().filter(|piece| is_within(layout, *piece, len)).count() as u32;
                let report = ImportReport { offered, verified: content.have().count(), kept: content.held() };
                Ok((content, report))
            }
            Adopted::Existing(item) => {
                let content = Content::open(item)?;
                let report = merge(&content, file, len, map)?;
                Ok((content, report))
            }
        }
    }
}

fn is_within(layout: Layout, piece: PieceIndex, len: u64) -> bool {
    layout.offset(piece) + u64::from(layout.piece_len(piece)) <= len
}

/// Takes what the content lacks out of the first `len` bytes of `file`, as far as it is right. Wrong pieces are left out
/// before they can spoil blocks that came from elsewhere.
fn merge(content: &Content, file: &File, len: u64, map: &PieceMap) -> Result<ImportReport, StoreError> {
    content.set_map(map)?;
    let (layout, before) = (content.layout(), content.held());
    let mut report = ImportReport { offered: 0, verified: 0, kept: 0 };
    let mut buffer = vec![0; PIECE_SIZE as usize];
    let lacking: Vec<PieceIndex> = content.have().missing().collect();
    for piece in lacking.into_iter().filter(|piece| is_within(layout, *piece, len)) {
        let bytes = &mut buffer[..layout.piece_len(piece) as usize];
        let read = file.read_exact_at(bytes, layout.offset(piece));
        read.map_err(|error| StoreError::io("read", source_name(content.id()), error))?;
        report.offered += 1;
        let mut hasher = PieceHasher::new(map.clone(), piece);
        if hasher.update(0, bytes).is_err() || hasher.finish().is_err() {
            continue;
        }
        // Blocks that are here already are not overwritten. If they are wrong, they are dropped and these come instead.
        match content.write(piece, 0, bytes) {
            Err(StoreError::Mismatch { .. }) => _ = content.write(piece, 0, bytes)?,
            written => _ = written?,
        }
        report.verified += 1;
    }
    report.kept = content.held().saturating_sub(before);
    Ok(report)
}

fn source_name(id: ContentId) -> String {
    format!("source of {id}")
}
