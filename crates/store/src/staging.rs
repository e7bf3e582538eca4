//! The handle to a staging area: appending, delivering, promoting.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

use peerage_content::PieceMap;

use crate::content::Content;
use crate::copy;
use crate::dir::{Access, or_gone};
use crate::error::StoreError;
use crate::import::ImportReport;
use crate::item::DATA;
use crate::ledger::{self, Durable};
use crate::meta::{Notes, check_notes};
use crate::stage::{STATE, Stage, StageInner, StageState};
use crate::store::Store;

/// A power cut costs at most this much of a staged download, in bytes.
const SYNC_EVERY: u64 = 256 << 20;

/// A handle to a staging area. Cheap to clone. All methods may block on the disk.
#[derive(Debug, Clone)]
pub struct Staging {
    store: Store,
    stage: Arc<Stage>,
}

// === impl Staging ===

impl Staging {
    pub(crate) const fn new(store: Store, stage: Arc<Stage>) -> Self {
        Self { store, stage }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.stage.name
    }

    /// Bytes held, from the start of the file without a gap.
    pub fn len(&self) -> u64 {
        self.stage.inner.lock().len
    }

    /// Whether no byte is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The notes kept with it, such as the source URL and its validators.
    pub fn notes(&self) -> Notes {
        self.stage.inner.lock().state.notes.clone()
    }

    /// Replaces the notes.
    ///
    /// # Errors
    /// They are larger than [`crate::MAX_NOTES_LEN`], or cannot be written; then the old ones stay.
    pub fn set_notes(&self, notes: Notes) -> Result<(), StoreError> {
        check_notes(&notes)?;
        self.with(|inner| {
            let state = StageState { notes, ..inner.state.clone() };
            self.store_state(&state, Durable::No)?;
            inner.state = state;
            Ok(())
        })
    }

    /// Takes `bytes` at `offset`, which is not beyond the bytes held. What is held already is passed over. Returns the
    /// bytes held afterwards.
    ///
    /// # Errors
    /// A gap, a closed area, or a failing disk; then what was held stays.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        self.with(|inner| {
            let len = inner.len;
            let Some(held) = len.checked_sub(offset) else {
                return Err(StoreError::StagingGap { name: self.name().to_owned(), len, offset });
            };
            let fresh = usize::try_from(held).ok().and_then(|held| bytes.get(held..)).unwrap_or(&[]);
            if fresh.is_empty() {
                return Ok(len);
            }
            let stat = inner.data.metadata().map_err(|error| self.failed("read", error))?;
            if stat.nlink() == 0 {
                return Err(StoreError::Vanished { path: self.stage.path() });
            }
            if let Err(error) = inner.data.write_all_at(fresh, len) {
                // The length of the file is what a restart goes by.
                _ = inner.data.set_len(len);
                return Err(self.failed("write", error));
            }
            inner.len = len + fresh.len() as u64;
            if inner.len - inner.state.synced >= SYNC_EVERY {
                self.sync_inner(inner)?;
            }
            Ok(inner.len)
        })
    }

    /// Cuts it back to `len` bytes, because the source has changed.
    ///
    /// # Errors
    /// A closed area, or a failing disk.
    pub fn truncate(&self, len: u64) -> Result<(), StoreError> {
        self.with(|inner| {
            if len >= inner.len {
                return Ok(());
            }
            if len < inner.state.synced {
                let state = StageState { synced: len, ..inner.state.clone() };
                self.store_state(&state, Durable::Yes)?;
                inner.state = state;
            }
            inner.data.set_len(len).map_err(|error| self.failed("truncate", error))?;
            inner.len = len;
            inner.turns += 1;
            Ok(())
        })
    }

    /// Begins anew with an empty file and no notes, because the source has changed. Whoever has the old file open, or
    /// linked it, keeps it whole.
    ///
    /// # Errors
    /// A closed area, or a failing disk.
    pub fn begin_anew(&self) -> Result<(), StoreError> {
        self.with(|inner| {
            // The file first: old bytes under a state without validators would be taken for the new file's. An empty
            // file that is shorter than its state says is useless, and swept.
            let data = self.stage.dir().and_then(|dir| dir.create(DATA));
            inner.data = data.map_err(|error| self.failed("create", error))?;
            inner.len = 0;
            inner.turns += 1;
            let state = StageState { synced: 0, notes: Notes::new(), ..inner.state.clone() };
            self.store_state(&state, Durable::Yes)?;
            inner.state = state;
            Ok(())
        })
    }

    /// Makes what is held survive a power cut. Done by itself every 256 MiB.
    ///
    /// # Errors
    /// A closed area, or a failing disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.with(|inner| self.sync_inner(inner))
    }

    /// Opens the file for reading, to deliver it.
    ///
    /// # Errors
    /// A closed area, or a failing disk.
    pub fn open_file(&self) -> Result<File, StoreError> {
        self.with(|_| {
            let file = self.stage.dir().and_then(|dir| dir.open(DATA, Access::Read));
            file.map_err(|error| self.failed("open", error))
        })
    }

    /// Removes it and what it holds.
    ///
    /// # Errors
    /// The disk fails.
    pub fn discard(&self) -> Result<(), StoreError> {
        self.stage.inner.lock().closed = true;
        let removed = self.stage.root().staging().and_then(|staging| staging.remove_tree(self.name()));
        // The cache may have been deleted under it.
        or_gone(removed).map_err(|error| StoreError::io("remove", self.stage.path(), error))?;
        let mut stages = self.store.stages().lock();
        if stages.get(self.name()).is_some_and(|stage| Arc::ptr_eq(stage, &self.stage)) {
            stages.remove(self.name());
        }
        Ok(())
    }

    /// Makes the held bytes part of the content of `map`, verifies them, and closes the area. The content may be here
    /// already: then what it lacks is taken over. `now` is in unix seconds. A complete content is left to be sealed.
    ///
    /// # Errors
    /// A closed area, or a failing disk. What was not taken over is still staged.
    pub fn promote(&self, map: &PieceMap, now: u64) -> Result<(Content, ImportReport), StoreError> {
        let (file, len) = self.with(|inner| {
            let len = inner.len.min(map.layout().size());
            let file = inner.data.try_clone().map_err(|error| self.failed("open", error))?;
            inner.closed = true;
            Ok((file, len))
        })?;
        // Where the area is, so that it is a rename; both move on together.
        let root = self.stage.root();
        let done = self.store.take_over(map, &file, len, now, &root, |dir| {
            self.stage.dir()?.rename(DATA, dir, DATA)?;
            // Not before: in a staging area the length says how much is here. Should it fail, whole pieces still count.
            if let Err(error) = file.set_len(map.layout().size()) {
                tracing::debug!(name = self.name(), %error, "could not extend promoted data");
            }
            Ok(())
        });
        match done {
            Ok(done) => {
                self.discard()?;
                Ok(done)
            }
            Err(error) => {
                if self.is_kept() {
                    self.stage.inner.lock().closed = false;
                } else if let Err(error) = self.discard() {
                    tracing::debug!(name = self.name(), %error, "could not remove an emptied staging area");
                }
                Err(error)
            }
        }
    }

    /// Fills an empty area with the first `len` bytes of a file.
    pub(crate) fn fill(&self, source: &File, len: u64) -> Result<(), StoreError> {
        self.with(|inner| {
            if !copy::reflink(source, &inner.data).map_err(|error| self.failed("write", error))? {
                copy::copy(source, &inner.data, len).map_err(|error| self.failed("write", error))?;
            }
            let copied = inner.data.metadata().map_err(|error| self.failed("read", error))?.len();
            if copied < len {
                return Err(StoreError::Truncated { path: self.stage.path(), copied, expected: len });
            }
            inner.len = len;
            Ok(())
        })
    }

    /// Whether the data is still in the staging area.
    fn is_kept(&self) -> bool {
        self.stage.dir().and_then(|dir| dir.stat(DATA)).is_ok()
    }

    fn with<T>(&self, run: impl FnOnce(&mut StageInner) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.stage.inner.lock();
        if inner.closed {
            return Err(StoreError::StagingClosed { name: self.name().to_owned() });
        }
        run(&mut inner)
    }

    fn sync_inner(&self, inner: &mut StageInner) -> Result<(), StoreError> {
        inner.data.sync_all().map_err(|error| self.failed("sync", error))?;
        let state = StageState { synced: inner.len, ..inner.state.clone() };
        self.store_state(&state, Durable::Yes)?;
        inner.state = state;
        Ok(())
    }

    fn store_state(&self, state: &StageState, durable: Durable) -> Result<(), StoreError> {
        let stored = self.stage.dir().and_then(|dir| ledger::store(&dir, STATE, state, durable));
        stored.map_err(|error| self.failed("write", error))
    }

    fn failed(&self, op: &'static str, error: io::Error) -> StoreError {
        StoreError::inside(op, self.stage.path(), error)
    }
}
