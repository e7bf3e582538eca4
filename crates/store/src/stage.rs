//! Staging areas, for downloads whose content id is not known (simple mode): bytes in order, one after another.
//!
//! What is here is the length of the file: bytes are only appended, so after `kill -9` the file says how far it came.
//! After a power cut the length may be ahead of the bytes, so the file is cut back to what was synced last. Nothing here
//! is verified; [`Staging::promote`](crate::Staging::promote) does that once the piece map is known.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::config::BootId;
use crate::dir::{Access, Dir};
use crate::error::StoreError;
use crate::item::DATA;
use crate::ledger::{self, Durable};
use crate::meta::Notes;
use crate::root::{Root, STAGING};
use crate::staging::Staging;
use crate::store::Store;

pub(crate) const STATE: &str = "state.json";
/// Names of the store's own staging areas begin so; they do not outlive the process.
const OWN: char = '.';

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StageState {
    pub(crate) boot: BootId,
    /// Bytes that a power cut cannot take.
    pub(crate) synced: u64,
    pub(crate) notes: Notes,
}

/// One staging area.
#[derive(Debug)]
pub(crate) struct Stage {
    root: RwLock<Arc<Root>>,
    pub(crate) name: String,
    pub(crate) inner: Mutex<StageInner>,
}

#[derive(Debug)]
pub(crate) struct StageInner {
    pub(crate) data: File,
    pub(crate) len: u64,
    pub(crate) state: StageState,
    /// How often bytes were taken back: whoever copies it has to begin anew.
    pub(crate) turns: u64,
    /// Promoted or discarded.
    pub(crate) closed: bool,
}

/// A summary of one staging area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingInfo {
    /// Its name.
    pub name: String,
    /// Bytes held.
    pub len: u64,
    /// Bytes that it really takes on disk.
    pub allocated: u64,
    /// When it was last written, in unix seconds.
    pub modified: u64,
    /// Whether somebody has a handle to it.
    pub in_use: bool,
}

// === impl Store ===

impl Store {
    /// The staging area `name`, made if it is not here.
    ///
    /// # Errors
    /// The name is not allowed, or the disk fails.
    pub fn stage(&self, name: &str) -> Result<Staging, StoreError> {
        if name.starts_with(OWN) || !is_name(name) {
            return Err(StoreError::BadName { found: name.chars().take(130).collect() });
        }
        self.stage_any(name)
    }

    /// A staging area that nobody else has, gone with the process.
    pub(crate) fn stage_own(&self, name: &str) -> Result<Staging, StoreError> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.stage_any(&format!("{OWN}{name}-{number}"))
    }

    fn stage_any(&self, name: &str) -> Result<Staging, StoreError> {
        let root = self.live_root()?;
        // Looked at without the lock of all areas: it may be in the middle of a write.
        let known = self.stages().lock().get(name).map(Arc::clone);
        if let Some(stage) = known.as_ref().filter(|stage| stage.is_there()) {
            if stage.inner.lock().closed {
                return Err(StoreError::StagingClosed { name: name.to_owned() });
            }
            return Ok(Staging::new(self.clone(), Arc::clone(stage)));
        }
        let mut stages = self.stages().lock();
        let since = stages.get(name).filter(|stage| !known.is_some_and(|known| Arc::ptr_eq(&known, stage)));
        let stage = match since {
            Some(stage) => Arc::clone(stage),
            None => {
                let made = Arc::new(Stage::make(root, name)?);
                stages.insert(name.to_owned(), Arc::clone(&made));
                made
            }
        };
        Ok(Staging::new(self.clone(), stage))
    }

    /// All staging areas, in no order.
    pub fn staged(&self) -> Vec<StagingInfo> {
        let stages: Vec<Arc<Stage>> = self.stages().lock().values().map(Arc::clone).collect();
        // The store itself holds one, and this list.
        let info = |stage: &Arc<Stage>| {
            stage.info().map(|info| StagingInfo { in_use: Arc::strong_count(stage) > 2, ..info })
        };
        stages.iter().filter_map(info).collect()
    }

    pub(crate) fn read_stages(&self, root: &Arc<Root>) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("read", root.path().join(STAGING), error);
        let staging = root.staging().map_err(failed)?;
        for name in staging.names().map_err(failed)? {
            let Some(name) = name.to_str().filter(|name| is_name(name)) else { continue };
            let loaded = if name.starts_with(OWN) { Ok(None) } else { Stage::load(root, &staging, name) };
            let known = self.stages().lock().contains_key(name);
            match loaded {
                Ok(Some(stage)) if !known => {
                    self.stages().lock().insert(name.to_owned(), Arc::new(stage));
                }
                // What a move that broke off has left of one that is here.
                Ok(_) => {
                    if let Err(error) = staging.remove_tree(name) {
                        tracing::warn!(name, %error, "could not remove a useless staging area");
                    }
                }
                Err(error) => {
                    tracing::warn!(name, %error, "staging area cannot be read now; leaving it alone")
                }
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

// === impl Stage ===

impl Stage {
    fn make(root: Arc<Root>, name: &str) -> Result<Self, StoreError> {
        let state = StageState { boot: root.boot(), synced: 0, notes: Notes::new() };
        let make = || -> io::Result<File> {
            let staging = root.staging()?;
            staging.remove_tree(name)?;
            let dir = staging.make_dir(name)?;
            ledger::store(&dir, STATE, &state, Durable::No)?;
            dir.create(DATA)
        };
        let data = make().map_err(|error| StoreError::inside("create", root.staging_path(name), error))?;
        let inner = Mutex::new(StageInner { data, len: 0, state, turns: 0, closed: false });
        Ok(Self { root: RwLock::new(root), name: name.to_owned(), inner })
    }

    /// Reads an area after a restart; `None` when its validators are lost, so that it cannot be continued.
    fn load(root: &Arc<Root>, staging: &Dir, name: &str) -> io::Result<Option<Self>> {
        let dir = staging.dir(name)?;
        let Some(mut state) = ledger::load::<StageState>(&dir, STATE)? else { return Ok(None) };
        let data = match dir.open(DATA, Access::Write) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut len = data.metadata()?.len();
        if len < state.synced {
            return Ok(None);
        }
        if !state.boot.same(root.boot()) {
            len = state.synced;
            data.set_len(len)?;
            state.boot = root.boot();
            ledger::store(&dir, STATE, &state, Durable::No)?;
        }
        let inner = Mutex::new(StageInner { data, len, state, turns: 0, closed: false });
        Ok(Some(Self { root: RwLock::new(Arc::clone(root)), name: name.to_owned(), inner }))
    }

    /// The cache directory that holds it.
    pub(crate) fn root(&self) -> Arc<Root> {
        Arc::clone(&self.root.read())
    }

    /// It is in another cache directory now.
    pub(crate) fn moved_to(&self, root: &Arc<Root>) {
        *self.root.write() = Arc::clone(root);
    }

    pub(crate) fn dir(&self) -> io::Result<Dir> {
        self.root().staging()?.dir(&self.name)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root().staging_path(&self.name)
    }

    fn is_there(&self) -> bool {
        self.inner.lock().data.metadata().is_ok_and(|stat| stat.nlink() > 0)
    }

    pub(crate) fn info(&self) -> Option<StagingInfo> {
        let inner = self.inner.lock();
        let stat = inner.data.metadata().ok().filter(|_| !inner.closed)?;
        Some(StagingInfo {
            name: self.name.clone(),
            len: inner.len,
            allocated: stat.blocks() * 512,
            modified: u64::try_from(stat.mtime()).unwrap_or(0),
            in_use: false,
        })
    }
}
