//! One content as the store keeps it in memory, and its files while somebody holds a handle.
//!
//! Invariants
//! - A piece is in `verified` only if its bytes in `data` were hashed and found right, and nothing is known to have
//!   touched them since. It is then in neither `doubtful` nor `partial`.
//! - `doubtful` pieces are claims to be hashed again; while there are any, nothing is read or written.
//! - A writer's slot counts only while it is the one in `partial`. When trust is taken back, slots become `orphans`; each
//!   is closed, after its writer is through, before anything else happens.
//! - No lock of one content is held while another's bytes are hashed or moved. Locks within one content are taken in the
//!   order `gate` < `rechecking` < a slot's `work` < `meta` < the session's < `state`, and `state` never over I/O.
//! - Whoever changes its files, or opens them by name, passes the `gate`; only its move to another directory closes it.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use peerage_content::{Bitmap, BlockSet, ContentId, Layout, PieceHasher, PieceIndex};

use crate::dir::Dir;
use crate::error::StoreError;
use crate::files::{OpenFiles, Session};
use crate::gate::Gate;
use crate::ledger::{self, Durable};
use crate::map_file::MAP;
use crate::meta::{META, Meta, Stamp};
use crate::progress::Progress;
use crate::root::Root;

pub(crate) const DATA: &str = "data";
pub(crate) const PIECES: &str = "pieces";

/// One content.
#[derive(Debug)]
pub(crate) struct Item {
    place: RwLock<Place>,
    pub(crate) gate: Gate,
    pub(crate) progress: Progress,
    pub(crate) state: Mutex<State>,
    pub(crate) meta: Mutex<Meta>,
    /// Held while pieces are hashed again, so that it is done once.
    pub(crate) rechecking: Mutex<()>,
    /// Shared by all handles; the files close with the last of them.
    pub(crate) session: Mutex<Weak<Session>>,
    last_used: AtomicU64,
}

/// Where its directory is.
#[derive(Debug)]
struct Place {
    root: Arc<Root>,
    /// Volume and inode of the data that was left behind by the last move: whoever still reads it reads the right bytes.
    left: Option<(u64, u64)>,
}

/// What is known of the pieces.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) verified: Bitmap,
    pub(crate) doubtful: Bitmap,
    pub(crate) partial: HashMap<PieceIndex, Arc<Slot>>,
    /// Whether the map file is there and proven.
    pub(crate) has_map: bool,
    /// Set while sealed.
    pub(crate) stamp: Option<Stamp>,
    /// The progress file must be written anew before pieces are recorded in it.
    pub(crate) stale: bool,
    pub(crate) orphans: Vec<Arc<Slot>>,
    /// How often trust was taken back.
    pub(crate) doubts: u64,
    pub(crate) busy: u32,
    pub(crate) removed: bool,
}

/// A piece of which some blocks are here.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// A [`BlockSet`]; changed by the holder of `work` only.
    have: AtomicU64,
    pub(crate) work: Mutex<Work>,
}

/// Held by whoever writes to the piece.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// What was hashed since the store was opened or the last error: at most `have`.
    pub(crate) hasher: Option<PieceHasher>,
    /// Blocks written since the store was opened.
    pub(crate) fresh: BlockSet,
    /// The slot is no longer that of its piece.
    pub(crate) closed: bool,
}

impl Slot {
    pub(crate) fn new(have: BlockSet) -> Self {
        Self { have: AtomicU64::new(have.0), work: Mutex::default() }
    }

    pub(crate) fn have(&self) -> BlockSet {
        BlockSet(self.have.load(Ordering::Acquire))
    }

    pub(crate) fn set_have(&self, have: BlockSet) {
        self.have.store(have.0, Ordering::Release);
    }
}

impl State {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            verified: Bitmap::for_layout(layout),
            doubtful: Bitmap::for_layout(layout),
            partial: HashMap::new(),
            has_map: false,
            stamp: None,
            stale: false,
            orphans: Vec::new(),
            doubts: 0,
            busy: 0,
            removed: false,
        }
    }

    /// Whether pieces may be read and written.
    pub(crate) const fn is_settled(&self) -> bool {
        self.doubtful.is_empty() && !self.stale
    }
}

impl Item {
    pub(crate) fn new(root: Arc<Root>, progress: Progress, meta: Meta, state: State) -> Self {
        Self {
            place: RwLock::new(Place { root, left: None }),
            gate: Gate::default(),
            progress,
            last_used: AtomicU64::new(meta.last_used),
            state: Mutex::new(state),
            meta: Mutex::new(meta),
            rechecking: Mutex::default(),
            session: Mutex::default(),
        }
    }

    pub(crate) const fn id(&self) -> ContentId {
        self.progress.id
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.progress.layout
    }

    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Remembers a use at `now`, in memory.
    pub(crate) fn touch(&self, now: u64) {
        self.last_used.fetch_max(now, Ordering::Relaxed);
    }

    /// The session of the handles there are, or a new one.
    pub(crate) fn session(&self) -> Arc<Session> {
        let mut held = self.session.lock();
        held.upgrade().unwrap_or_else(|| {
            let session = Arc::new(Session::default());
            *held = Arc::downgrade(&session);
            session
        })
    }

    /// The cache directory that holds it.
    pub(crate) fn root(&self) -> Arc<Root> {
        Arc::clone(&self.place.read().root)
    }

    /// It is in another cache directory now; `left` is its data in the former one, if that was another file.
    pub(crate) fn moved_to(&self, root: &Arc<Root>, left: Option<&Metadata>) {
        let left = left.map(|stat| (stat.dev(), stat.ino()));
        *self.place.write() = Place { root: Arc::clone(root), left };
    }

    /// Whether an open file is the data that the last move left behind.
    pub(crate) fn is_left_behind(&self, stat: &Metadata) -> bool {
        self.place.read().left == Some((stat.dev(), stat.ino()))
    }

    pub(crate) fn dir(&self) -> Result<Dir, StoreError> {
        self.root().content(self.id()).map_err(|error| self.failed("open", "", error))
    }

    /// Whether its directory was deleted by somebody else.
    pub(crate) fn is_gone(&self) -> bool {
        let stat = self.root().content(self.id()).and_then(|dir| dir.stat(DATA));
        stat.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    /// Bytes that its files really take, and whether its data is also known by another name (a hard-linked delivery),
    /// so that removing it frees nothing.
    pub(crate) fn allocated(&self) -> (u64, bool) {
        let Ok(dir) = self.root().content(self.id()) else { return (0, false) };
        let stats = [DATA, MAP, PIECES, META].map(|name| dir.stat(name).ok());
        let linked = stats[0].as_ref().is_some_and(|data| data.nlink() > 1);
        (stats.iter().flatten().map(|stat| stat.blocks() * 512).sum(), linked)
    }

    /// Changes the state file. On failure nothing has changed.
    pub(crate) fn change_meta(
        &self,
        durable: Durable,
        change: impl FnOnce(&mut Meta),
    ) -> Result<(), StoreError> {
        let _gate = self.gate.pass();
        let mut meta = self.meta.lock();
        let mut next = meta.clone();
        change(&mut next);
        next.last_used = next.last_used.max(self.last_used());
        ledger::store(&self.dir()?, META, &next, durable)
            .map_err(|error| self.failed("write", META, error))?;
        *meta = next;
        Ok(())
    }

    /// Takes back trust in everything: the data may have been changed or replaced.
    pub(crate) fn doubt(&self, session: &Session) {
        let mut files = session.files.lock();
        let mut state = self.state.lock();
        let state = &mut *state;
        for piece in state.verified.iter() {
            state.doubtful.insert(piece);
        }
        state.verified = Bitmap::for_layout(self.layout());
        state.orphans.extend(state.partial.drain().map(|(_, slot)| slot));
        state.stale = true;
        state.doubts += 1;
        *files = OpenFiles::default();
    }

    /// A failure of the system on one of its files.
    pub(crate) fn failed(&self, op: &'static str, name: &str, error: std::io::Error) -> StoreError {
        StoreError::inside(op, self.root().content_path(self.id(), name), error)
    }
}
