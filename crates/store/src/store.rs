//! The store: which contents and staging areas there are, making and removing them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use peerage_content::{BlockSet, ContentId, Layout, PieceIndex, PieceMap};

use crate::config::{BootId, StoreConfig};
use crate::content::Content;
use crate::dir::Dir;
use crate::error::StoreError;
use crate::info::ContentInfo;
use crate::item::{DATA, Item, PIECES};
use crate::ledger::{self, Durable};
use crate::meta::{META, Meta};
use crate::progress::{Entry, Progress};
use crate::root::{CONTENTS, Root, shelf_name};
use crate::stage::Stage;
use crate::{map_file, recover};

/// Seconds in a year: how far ahead an expiry may lie (DO reference §4.5).
pub const MAX_EXPIRY_S: u64 = 366 * 24 * 3600;

/// An open cache. Cheap to clone; the directory is free for others when the last clone, handle and staging
/// area is gone. All methods may block on the disk.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: StoreConfig,
    /// The home directory.
    root: RwLock<Arc<Root>>,
    /// Other directories in which there is still something, or was when last looked at.
    others: Mutex<Vec<Arc<Root>>>,
    /// Whether moving between them is to end.
    stopping: AtomicBool,
    items: RwLock<HashMap<ContentId, Arc<Item>>>,
    stages: Mutex<HashMap<String, Arc<Stage>>>,
    /// Held while directories of contents are made or removed; never while bytes are hashed or copied.
    making: Mutex<()>,
}

/// What became of a file that was offered.
#[derive(Debug)]
pub(crate) enum Adopted {
    /// It is the content's data now.
    New(Arc<Item>),
    /// The content was there; the file was left where it is.
    Existing(Arc<Item>),
}

// === impl Store ===

impl Store {
    /// Opens the directory, made if missing, and reads what is in it. Hashes nothing: what has to be hashed again after
    /// a power cut is hashed when a handle is asked for ([`ContentInfo::doubtful`]).
    ///
    /// # Errors
    /// Another process has it, it is not this user's alone, or the disk fails.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let root = Arc::new(Root::open(&config)?);
        let store = Self {
            inner: Arc::new(Inner {
                config,
                root: RwLock::new(Arc::clone(&root)),
                others: Mutex::default(),
                stopping: AtomicBool::default(),
                items: RwLock::default(),
                stages: Mutex::default(),
                making: Mutex::default(),
            }),
        };
        store.read_contents(&root)?;
        store.read_stages(&root)?;
        Ok(store)
    }

    /// All contents, in no order.
    pub fn contents(&self) -> Vec<ContentInfo> {
        self.items().iter().map(|item| ContentInfo::of(item)).collect()
    }

    /// Names of all contents, in no order. Their files are not looked at.
    pub fn ids(&self) -> Vec<ContentId> {
        self.items().iter().map(|item| item.id()).collect()
    }

    /// Names of the contents that are complete, in no order. Their files are not looked at.
    pub fn complete_ids(&self) -> Vec<ContentId> {
        let items = self.items();
        items.iter().filter(|item| item.state.lock().verified.is_full()).map(|item| item.id()).collect()
    }

    /// A handle to a content, if it is here and nobody has deleted it. Hashes its doubtful pieces first.
    ///
    /// # Errors
    /// Doubtful pieces cannot be hashed.
    pub fn get(&self, id: ContentId) -> Result<Option<Content>, StoreError> {
        self.item(id).filter(|item| !item.is_gone()).map(Content::open).transpose()
    }

    /// Forgets the contents that somebody else has deleted: which.
    pub fn forget_gone(&self) -> Vec<ContentId> {
        let _making = self.inner.making.lock();
        let mut gone = self.items();
        gone.retain(|item| item.is_gone());
        for item in &gone {
            tracing::warn!(id = %item.id(), "content was deleted from the cache by somebody else");
            item.state.lock().removed = true;
            self.inner.items.write().remove(&item.id());
        }
        gone.iter().map(|item| item.id()).collect()
    }

    /// A handle to a content, made at `now` (unix seconds) if it is not here. A deleted cache directory is made again.
    ///
    /// # Errors
    /// It is here with another size, the map is not its map, or the disk fails.
    pub fn create(
        &self,
        id: ContentId,
        layout: Layout,
        map: Option<&PieceMap>,
        now: u64,
    ) -> Result<Content, StoreError> {
        if let Some(map) = map.filter(|map| map.id() != id || map.layout() != layout) {
            let (found, found_size) = (map.id(), map.layout().size());
            return Err(StoreError::WrongMap { id, size: layout.size(), found, found_size });
        }
        let item = {
            let _making = self.inner.making.lock();
            match self.usable(id)? {
                Some(item) => item,
                None => {
                    self.make(&self.root(), Progress { id, layout }, map, now, Vec::new(), |root, dir| {
                        let data = dir.create(DATA).and_then(|data| data.set_len(layout.size()));
                        data.map_err(|error| StoreError::io("create", root.content_path(id, DATA), error))
                    })?
                }
            }
        };
        if item.layout() != layout {
            return Err(StoreError::WrongSize { id, stored: item.layout().size(), found: layout.size() });
        }
        let content = Content::open(item)?;
        if let Some(map) = map {
            content.set_map(map)?;
        }
        Ok(content)
    }

    /// Makes a content of `map` in `root` out of the first `len` bytes, not verified yet, of a file that `place` moves into
    /// its directory; or hands back the content if it is here already.
    pub(crate) fn adopt(
        &self,
        map: &PieceMap,
        len: u64,
        now: u64,
        root: &Arc<Root>,
        place: impl FnOnce(&Root, &Dir) -> Result<(), StoreError>,
    ) -> Result<Adopted, StoreError> {
        let progress = Progress { id: map.id(), layout: map.layout() };
        let _making = self.inner.making.lock();
        if let Some(item) = self.usable(map.id())? {
            return Ok(Adopted::Existing(item));
        }
        self.make(root, progress, Some(map), now, received(progress, len), place).map(Adopted::New)
    }

    /// Removes a content and returns the bytes freed.
    ///
    /// # Errors
    /// It is not here, it is pinned or in use and `force` is not given, or the disk fails.
    pub fn remove(&self, id: ContentId, force: bool) -> Result<u64, StoreError> {
        self.remove_even(id, force, force)
    }

    /// Removes a content, even one that is pinned or in use if so asked.
    pub(crate) fn remove_even(&self, id: ContentId, pinned: bool, busy: bool) -> Result<u64, StoreError> {
        let making = self.inner.making.lock();
        let item = self.known(id)?;
        if !pinned && item.meta.lock().pinned {
            return Err(StoreError::Pinned { id });
        }
        let freed = ContentInfo::of(&item).frees();
        {
            let mut state = item.state.lock();
            if !busy && state.busy > 0 {
                return Err(StoreError::Busy { id });
            }
            state.removed = true;
        }
        let root = item.root();
        let buried = bury(&root, id);
        let grave = buried.map_err(|error| {
            item.state.lock().removed = false;
            StoreError::io("remove", root.content_path(id, ""), error)
        })?;
        self.inner.items.write().remove(&id);
        drop(making);
        // It counts as removed from here on; what cannot be freed now is swept when the store opens next.
        if let Some((shelf, name)) = grave
            && let Err(error) = shelf.remove_tree(&name)
        {
            tracing::warn!(%id, %error, "could not free the space of a removed content");
        }
        Ok(freed)
    }

    /// Keeps a content until its expiry, outside the quota.
    ///
    /// # Errors
    /// It is not here, or the state file cannot be written.
    pub fn pin(&self, id: ContentId) -> Result<(), StoreError> {
        self.known(id)?.change_meta(Durable::Yes, |meta| meta.pinned = true)
    }

    /// Takes the pin away.
    ///
    /// # Errors
    /// It is not here, or the state file cannot be written.
    pub fn unpin(&self, id: ContentId) -> Result<(), StoreError> {
        self.known(id)?.change_meta(Durable::Yes, |meta| meta.pinned = false)
    }

    /// Sets when a content is to go, in unix seconds, or lets the common age hold again. Of a running download it holds
    /// from its completion on.
    ///
    /// # Errors
    /// It is not here, `on` is more than a year after `now`, or the state file cannot be written.
    pub fn expire(&self, id: ContentId, on: Option<u64>, now: u64) -> Result<(), StoreError> {
        let limit = now.saturating_add(MAX_EXPIRY_S);
        if let Some(found) = on.filter(|on| *on > limit) {
            return Err(StoreError::ExpiryTooFar { id, found, limit });
        }
        self.known(id)?.change_meta(Durable::Yes, |meta| meta.expire_on = on)
    }

    pub(crate) fn root(&self) -> Arc<Root> {
        Arc::clone(&self.inner.root.read())
    }

    pub(crate) fn set_root(&self, root: &Arc<Root>) {
        *self.inner.root.write() = Arc::clone(root);
    }

    pub(crate) fn others(&self) -> &Mutex<Vec<Arc<Root>>> {
        &self.inner.others
    }

    pub(crate) fn stopping(&self) -> &AtomicBool {
        &self.inner.stopping
    }

    pub(crate) fn making(&self) -> &Mutex<()> {
        &self.inner.making
    }

    /// All contents, without a look at their files.
    pub(crate) fn items(&self) -> Vec<Arc<Item>> {
        self.inner.items.read().values().map(Arc::clone).collect()
    }

    pub(crate) fn boot(&self) -> BootId {
        self.inner.config.boot
    }

    pub(crate) fn stages(&self) -> &Mutex<HashMap<String, Arc<Stage>>> {
        &self.inner.stages
    }

    pub(crate) fn item(&self, id: ContentId) -> Option<Arc<Item>> {
        self.inner.items.read().get(&id).map(Arc::clone)
    }

    fn known(&self, id: ContentId) -> Result<Arc<Item>, StoreError> {
        self.item(id).ok_or(StoreError::Unknown { id })
    }

    /// The content, unless it, or the whole cache directory, was deleted by somebody else. To be called with `making`.
    fn usable(&self, id: ContentId) -> Result<Option<Arc<Item>>, StoreError> {
        let root = self.live_root()?;
        let Some(item) = self.item(id) else {
            // It may have been unreadable when the store was opened, and be readable now.
            let found = recover::load(&root, id).ok().flatten().map(Arc::new);
            if let Some(item) = &found {
                self.inner.items.write().insert(id, Arc::clone(item));
            }
            return Ok(found);
        };
        if !item.is_gone() {
            return Ok(Some(item));
        }
        tracing::warn!(%id, "content was deleted from the cache by somebody else");
        item.state.lock().removed = true;
        self.inner.items.write().remove(&id);
        Ok(None)
    }

    /// The cache directory, made again if it was deleted.
    pub(crate) fn live_root(&self) -> Result<Arc<Root>, StoreError> {
        let mut root = self.inner.root.write();
        if root.is_gone() {
            tracing::warn!(dir = %root.path().display(), "cache directory was deleted; making it again");
            let config = StoreConfig { dir: root.path().to_owned(), boot: self.inner.config.boot };
            let gone = std::mem::replace(&mut *root, Arc::new(Root::open(&config)?));
            self.inner.items.write().retain(|_, item| {
                let lost = Arc::ptr_eq(&item.root(), &gone);
                item.state.lock().removed |= lost;
                !lost
            });
            self.inner.stages.lock().retain(|_, stage| !Arc::ptr_eq(&stage.root(), &gone));
        }
        Ok(Arc::clone(&root))
    }

    /// Makes a content's directory under a name that is swept after a crash, gives it its name, and has `place` put the
    /// data into it: a content without data does not count.
    fn make(
        &self,
        root: &Arc<Root>,
        progress: Progress,
        map: Option<&PieceMap>,
        now: u64,
        entries: Vec<(PieceIndex, Entry)>,
        place: impl FnOnce(&Root, &Dir) -> Result<(), StoreError>,
    ) -> Result<Arc<Item>, StoreError> {
        let id = progress.id;
        let failed = |error| StoreError::inside("create", root.content_path(id, ""), error);
        let name = id.to_string();
        let temp = format!("{name}.new");
        let shelf =
            root.contents().and_then(|contents| contents.make_dir(&shelf_name(id))).map_err(failed)?;
        let build = || -> io::Result<Dir> {
            shelf.remove_tree(&temp)?;
            let dir = shelf.make_dir(&temp)?;
            progress.fill(&dir.create(PIECES)?, root.boot(), entries.into_iter())?;
            if let Some(map) = map {
                map_file::store(&dir, map)?;
            }
            ledger::store(&dir, META, &Meta::new(progress.layout.size(), now), Durable::No)?;
            // What is left of a content that could not be read.
            shelf.remove_tree(&name)?;
            shelf.rename(&temp, &shelf, &name)?;
            Ok(dir)
        };
        let placed = build().map_err(failed).and_then(|dir| place(root, &dir));
        if let Err(error) = placed {
            for name in [&temp, &name] {
                if let Err(error) = shelf.remove_tree(name) {
                    tracing::debug!(%id, %error, "could not clean up after a failed creation");
                }
            }
            return Err(error);
        }
        let item = recover::load(root, id).map_err(failed)?;
        let item = Arc::new(item.ok_or_else(|| StoreError::Vanished { path: root.content_path(id, "") })?);
        self.inner.items.write().insert(id, Arc::clone(&item));
        Ok(item)
    }

    pub(crate) fn read_contents(&self, root: &Arc<Root>) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("read", root.path().join(CONTENTS), error);
        let contents = root.contents().map_err(failed)?;
        for shelf_name in contents.names().map_err(failed)? {
            let Some(shelf_name) = shelf_name.to_str() else { continue };
            let Ok(shelf) = contents.dir(shelf_name) else { continue };
            for name in shelf.names().map_err(failed)? {
                if let Some(name) = name.to_str() {
                    self.read_content(root, &shelf, shelf_name, name);
                }
            }
        }
        Ok(())
    }

    fn read_content(&self, root: &Arc<Root>, shelf: &Dir, on: &str, name: &str) {
        let id = name.parse::<ContentId>().ok().filter(|id| id.to_string() == name && shelf_name(*id) == on);
        let _making = self.inner.making.lock();
        let loaded = match id {
            // What a move that broke off has left of one that is here.
            Some(id) if self.inner.items.read().contains_key(&id) => Ok(None),
            Some(id) => recover::load(root, id),
            None if name.ends_with(".new") || name.ends_with(".gone") => Ok(None),
            // Not made by us.
            None => return,
        };
        match loaded {
            Ok(Some(item)) => _ = self.inner.items.write().insert(item.id(), Arc::new(item)),
            Ok(None) => {
                tracing::warn!(name, "nothing usable is left of this content; removing it");
                if let Err(error) = shelf.remove_tree(name) {
                    tracing::warn!(name, %error, "could not remove it");
                }
            }
            Err(error) => tracing::warn!(name, %error, "content cannot be read now; leaving it alone"),
        }
    }
}

/// Entries of a content whose first `len` bytes are here, unverified.
fn received(progress: Progress, len: u64) -> Vec<(PieceIndex, Entry)> {
    let layout = progress.layout;
    let whole_from = |piece| len.saturating_sub(layout.offset(piece)).min(u64::from(layout.piece_len(piece)));
    let entry = |piece| {
        let blocks = BlockSet::covered(0, whole_from(piece) as u32, layout.piece_len(piece));
        (piece, Entry::Blocks(blocks))
    };
    layout.indexes().take_while(|piece| layout.offset(*piece) < len).map(entry).collect()
}

/// Takes a content's directory out of sight in one step. `None` if it was not there. Returns where it is now.
pub(crate) fn bury(root: &Root, id: ContentId) -> io::Result<Option<(Dir, String)>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = id.to_string();
    let grave = format!("{name}.{}.gone", NEXT.fetch_add(1, Ordering::Relaxed));
    let buried = root.shelf(id).and_then(|shelf| {
        shelf.rename(&name, &shelf, &grave)?;
        Ok(shelf)
    });
    match buried {
        Ok(shelf) => Ok(Some((shelf, grave))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
