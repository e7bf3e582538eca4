//! The handle to one content: what is here of it, and reading.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

use peerage_content::{Bitmap, BlockSet, ContentId, Layout, PieceIndex, PieceMap};

use crate::cached;
use crate::dir::Access;
use crate::error::StoreError;
use crate::files::Session;
use crate::info::ContentInfo;
use crate::item::{DATA, Item};
use crate::ledger::Durable;
use crate::meta::{Notes, Stamp, check_notes};

/// A use is written to disk when it is this much later than the last one written, in seconds.
const TOUCH_EVERY: u64 = 3600;

/// One content of the store. Cheap to clone; files are open while there is a handle. All methods may block on the disk.
#[derive(Debug, Clone)]
pub struct Content {
    pub(crate) item: Arc<Item>,
    pub(crate) session: Arc<Session>,
}

/// Keeps a content from being evicted while it lives.
#[derive(Debug)]
pub struct Busy {
    item: Arc<Item>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.item.state.lock();
        state.busy = state.busy.saturating_sub(1);
    }
}

// === impl Content ===

impl Content {
    /// A handle whose doubtful pieces have been hashed again.
    pub(crate) fn open(item: Arc<Item>) -> Result<Self, StoreError> {
        let session = item.session();
        let content = Self { item, session };
        content.settle()?;
        Ok(content)
    }

    /// The content's name.
    pub fn id(&self) -> ContentId {
        self.item.id()
    }

    /// How it is cut.
    pub fn layout(&self) -> Layout {
        self.item.layout()
    }

    /// The piece map, if it is known.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn map(&self) -> Result<Option<PieceMap>, StoreError> {
        self.session.map(&self.item)
    }

    /// The verified pieces.
    pub fn have(&self) -> Bitmap {
        self.item.state.lock().verified.clone()
    }

    /// The blocks that are here of a piece not verified yet; all of them while the piece waits for its map.
    pub fn partial(&self, piece: PieceIndex) -> BlockSet {
        self.item.state.lock().partial.get(&piece).map_or(BlockSet::default(), |slot| slot.have())
    }

    /// All pieces that are here in part, ascending.
    pub fn partials(&self) -> Vec<(PieceIndex, BlockSet)> {
        let mut all: Vec<_> =
            self.item.state.lock().partial.iter().map(|(piece, slot)| (*piece, slot.have())).collect();
        all.retain(|(_, blocks)| !blocks.is_empty());
        all.sort_unstable_by_key(|(piece, _)| *piece);
        all
    }

    /// Whether all pieces are verified.
    pub fn is_complete(&self) -> bool {
        self.item.state.lock().verified.is_full()
    }

    /// Whether it was removed: by eviction, on request, or by somebody else, as far as that was noticed.
    pub fn is_removed(&self) -> bool {
        self.item.state.lock().removed
    }

    /// Bytes that are here, those of partly received pieces included. Doubtful ones do not count.
    pub fn held(&self) -> u64 {
        let (layout, state) = (self.layout(), self.item.state.lock());
        let whole: u64 = state.verified.iter().map(|piece| u64::from(layout.piece_len(piece))).sum();
        let in_part = state.partial.iter().map(|(piece, slot)| {
            let blocks = u64::from(slot.have().count()) * u64::from(peerage_content::BLOCK_SIZE);
            blocks.min(u64::from(layout.piece_len(*piece)))
        });
        whole + in_part.sum::<u64>()
    }

    /// A summary.
    pub fn info(&self) -> ContentInfo {
        ContentInfo::of(&self.item)
    }

    /// The notes kept with it.
    pub fn notes(&self) -> Notes {
        self.item.meta.lock().notes.clone()
    }

    /// Replaces the notes.
    ///
    /// # Errors
    /// They are larger than [`crate::MAX_NOTES_LEN`], or cannot be written; then the old ones stay.
    pub fn set_notes(&self, notes: Notes) -> Result<(), StoreError> {
        check_notes(&notes)?;
        self.item.change_meta(Durable::No, |meta| meta.notes = notes)
    }

    /// Changes the notes, as one step: of two who do so neither takes the other's back.
    ///
    /// # Errors
    /// As [`Self::set_notes`].
    pub fn change_notes(&self, change: impl FnOnce(&mut Notes)) -> Result<(), StoreError> {
        let mut checked = Ok(());
        self.item.change_meta(Durable::No, |meta| {
            let mut notes = meta.notes.clone();
            change(&mut notes);
            checked = check_notes(&notes);
            if checked.is_ok() {
                meta.notes = notes;
            }
        })?;
        checked
    }

    /// Remembers that it was used (served, delivered) at `now`, unix seconds: eviction takes the longest unused first.
    ///
    /// # Errors
    /// The state file is due and cannot be written. The use is remembered in memory nevertheless.
    pub fn touch(&self, now: u64) -> Result<(), StoreError> {
        self.item.touch(now);
        let written = self.item.meta.lock().last_used;
        if now.saturating_sub(written) < TOUCH_EVERY {
            return Ok(());
        }
        self.item.change_meta(Durable::No, |_| {})
    }

    /// Marks it as in use until the result is dropped: not evicted, and removed by force only.
    ///
    /// # Errors
    /// It was removed.
    pub fn busy(&self) -> Result<Busy, StoreError> {
        let mut state = self.item.state.lock();
        if state.removed {
            return Err(StoreError::Removed { id: self.id() });
        }
        state.busy += 1;
        Ok(Busy { item: Arc::clone(&self.item) })
    }

    /// Fills `buf` from `offset` in a verified piece. Data that somebody changed since it was sealed is verified again first.
    ///
    /// # Errors
    /// The piece is not verified, the range is not in it, or the disk fails.
    pub fn read(&self, piece: PieceIndex, offset: u32, buf: &mut [u8]) -> Result<(), StoreError> {
        let id = self.id();
        let at = self.place(piece, offset, buf.len())?;
        for _ in 0..2 {
            self.settle()?;
            let data = self.session.reading(&self.item)?;
            let stamp = self.readable(piece)?;
            let read = data.read_exact_at(buf, at);
            // Looked at after the bytes were taken: a change before that is seen.
            let untouched = self.is_untouched(&data, stamp)?;
            match read {
                Ok(()) if untouched => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Changed, cut short, replaced or unreadable: hash it all again, so that what is bad can be fetched anew.
                Ok(()) | Err(_) => self.item.doubt(&self.session),
            }
        }
        Err(StoreError::NotVerified { id, piece })
    }

    /// As [`Self::read`], without waiting for the disk: `false` when the bytes are not all in the kernel's page cache, or
    /// when something else has to be done first. Then `buf` holds nothing to be used, and [`Self::read`] is the way.
    /// Most of what neighbours ask for was asked for a moment ago; handing each such read to another thread would cost
    /// more than the read.
    ///
    /// # Errors
    /// The piece is not verified, or the range is not in it.
    pub fn read_cached(&self, piece: PieceIndex, offset: u32, buf: &mut [u8]) -> Result<bool, StoreError> {
        let at = self.place(piece, offset, buf.len())?;
        if !self.item.state.lock().is_settled() {
            return Ok(false);
        }
        let Some(data) = self.session.open_for_reading() else { return Ok(false) };
        let stamp = self.readable(piece)?;
        Ok(cached::read_at(&data, buf, at) && self.is_untouched(&data, stamp)?)
    }

    /// The data file, and where in it a range of a verified piece begins, for sending it as it is. `None` when
    /// [`Self::read`] is the way: the range does not seem to be in the kernel's page cache, judged by its ends, or
    /// something else has to be done first.
    ///
    /// Whoever may write the file can still change it before it is sent. Then the receiver finds out.
    ///
    /// # Errors
    /// The piece is not verified, or the range is not in it.
    pub fn cached_file(
        &self,
        piece: PieceIndex,
        offset: u32,
        len: u32,
    ) -> Result<Option<(Arc<File>, u64)>, StoreError> {
        let at = self.place(piece, offset, len as usize)?;
        let last = offset.saturating_add(len.saturating_sub(1));
        let cached = self.read_cached(piece, offset, &mut [0])? && self.read_cached(piece, last, &mut [0])?;
        Ok(self.session.open_for_reading().filter(|_| cached).map(|file| (file, at)))
    }

    /// Where a range of a piece is in the file.
    fn place(&self, piece: PieceIndex, offset: u32, len: usize) -> Result<u64, StoreError> {
        let fits = u32::try_from(len).is_ok_and(|len| self.layout().fits(piece, offset, len));
        if !fits {
            return Err(StoreError::Misaligned { id: self.id(), piece, offset, len });
        }
        Ok(self.layout().offset(piece) + u64::from(offset))
    }

    /// The stamp that the data must have for a piece to be read from it.
    fn readable(&self, piece: PieceIndex) -> Result<Option<Stamp>, StoreError> {
        let (id, state) = (self.id(), self.item.state.lock());
        if state.removed {
            return Err(StoreError::Removed { id });
        }
        if !state.verified.contains(piece) {
            return Err(StoreError::NotVerified { id, piece });
        }
        Ok(state.stamp)
    }

    /// Opens the file of a complete content for reading, to deliver it or to send it as it is.
    ///
    /// # Errors
    /// Pieces are missing, or the disk fails.
    pub fn open_file(&self) -> Result<File, StoreError> {
        for _ in 0..2 {
            self.settle()?;
            self.require_complete()?;
            let _gate = self.item.gate.pass();
            let file = self.item.dir()?.open(DATA, Access::Read);
            let file = file.map_err(|error| self.item.failed("open", DATA, error))?;
            let stamp = self.item.state.lock().stamp;
            if self.is_untouched(&file, stamp)? {
                return Ok(file);
            }
            self.item.doubt(&self.session);
        }
        Err(self.incomplete())
    }

    /// Whether the data is as it was sealed, or of full size if it was not.
    fn is_untouched(&self, data: &File, stamp: Option<Stamp>) -> Result<bool, StoreError> {
        let Some(stat) = self.stat(data)? else { return Ok(false) };
        Ok(stamp.map_or(stat.len() == self.layout().size(), |stamp| stamp == Stamp::of(&stat)))
    }

    /// What is known of an open data file. `None` when it is no longer the content's file, because somebody deleted or
    /// replaced it: then trust was taken back, and another try finds what is there now.
    pub(crate) fn stat(&self, data: &File) -> Result<Option<Metadata>, StoreError> {
        let stat = data.metadata().map_err(|error| self.item.failed("read", DATA, error))?;
        if stat.nlink() > 0 || self.item.is_left_behind(&stat) {
            return Ok(Some(stat));
        }
        self.item.doubt(&self.session);
        Ok(None)
    }

    pub(crate) fn require_complete(&self) -> Result<(), StoreError> {
        if self.is_complete() { Ok(()) } else { Err(self.incomplete()) }
    }

    pub(crate) fn incomplete(&self) -> StoreError {
        let have = self.item.state.lock().verified.count();
        StoreError::Incomplete { id: self.id(), have, pieces: self.layout().pieces() }
    }
}
