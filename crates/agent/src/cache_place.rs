//! Where the cache is: where policy wants it (`modify_cache_drive`), else where the configuration does.
//!
//! A new place becomes the store's home at once, or is refused with the reason and asked for again; what is in the former
//! place is used from there until it has come after, one content at a time ([`Store::bring_home`]). All places in which
//! something may be are written down before the first thing is moved, so the next start goes on with a move that was cut
//! off, whatever policy says by then.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use peerage_store::{Store, StoreConfig, StoreError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::file_status::chain;
use crate::policy::PolicyView;
use crate::shared::Shared;
use crate::state_dir::StateDir;

/// Remembers the home, and below it the other directories in which something may be; one in a line.
const FILE: &str = "cache-directory";
/// Between two tries of what a disk keeps from working.
const RETRY: Duration = Duration::from_secs(10);
/// How long whoever sets a place waits to hear whether it can be used.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the cache is, and what keeps it from being elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CachePlace {
    /// Where new contents go.
    pub(crate) home: PathBuf,
    /// Former directories from which not everything has come yet.
    pub(crate) others: Vec<PathBuf>,
    /// Why it is not, or not wholly, where policy wants it.
    pub(crate) trouble: Option<String>,
    /// Where policy wanted it when this was found out.
    pub(crate) wanted: PathBuf,
}

/// What keeps the cache from `wanted`, once that has been tried; `None`: nothing, or it takes longer than anybody waits.
pub(crate) async fn trouble(mut place: watch::Receiver<CachePlace>, wanted: &Path) -> Option<String> {
    let tried = timeout(PATIENCE, place.wait_for(|place| place.wanted == wanted)).await;
    tried.ok()?.ok()?.trouble.clone()
}

/// Where it is without a setting. It is written down, and the next start may be in another directory.
pub(crate) fn own(config: &Config) -> PathBuf {
    std::path::absolute(&config.cache_dir).unwrap_or_else(|_| config.cache_dir.clone())
}

/// The store, the places that it has been in, and how others learn of them.
#[derive(Debug)]
pub(crate) struct Mover {
    state: StateDir,
    store: Store,
    place: watch::Sender<CachePlace>,
}

impl Mover {
    /// Opens the cache where it was last, takes along what a move has not brought, and makes `wanted` its home if that is
    /// possible. Blocking.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(
        config: &Config,
        state: StateDir,
        wanted: &Path,
        place: watch::Sender<CachePlace>,
    ) -> Result<Self, StoreError> {
        let known = state.read(FILE).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let mut known = known.lines().map(PathBuf::from);
        let own = own(config);
        let home = known.next().unwrap_or_else(|| own.clone());
        let store = match Store::open(StoreConfig::new(&home)) {
            Err(error) if home != own && !matches!(error, StoreError::Locked { .. }) => {
                tracing::error!(error = %chain(&error), place = %home.display(), "the cache cannot be opened where it was");
                Store::open(StoreConfig::new(&own))
            }
            opened => opened,
        }?;
        for other in known {
            if let Err(error) = store.take_along(&other) {
                tracing::warn!(error = %chain(&error), place = %other.display(), "a former cache cannot be read");
            }
        }
        let mover = Self { state, store, place };
        mover.settle_in(wanted);
        Ok(mover)
    }

    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Makes `wanted` the home, or says why not. Blocking.
    fn settle_in(&self, wanted: &Path) {
        let before = self.store.home();
        let mut trouble = None;
        if before != wanted {
            let others = self.store.leave_empty();
            let written = self.write(&before, others.iter().map(PathBuf::as_path).chain([wanted]));
            let settled = match written {
                Ok(()) => self.store.settle_in(wanted).map_err(|error| chain(&error)),
                Err(error) => Err(chain(&error)),
            };
            match settled {
                Ok(()) => tracing::info!(from = %before.display(), to = %wanted.display(), "the cache moves"),
                Err(error) => {
                    let why = format!("it stays in {}: {error}", before.display());
                    if self.place.borrow().trouble.as_ref() != Some(&why) {
                        tracing::warn!(error, place = %wanted.display(), "the cache stays where it is");
                    }
                    trouble = Some(why);
                }
            }
        }
        self.tell(trouble, wanted);
    }

    /// Brings one thing home. Blocking.
    fn bring(&self, away: &peerage_store::Away) -> Option<String> {
        let error = chain(&self.store.bring_home(away).err()?);
        tracing::warn!(error, ?away, "not all of the cache could be moved");
        Some(format!("not all of it has moved yet: {error}"))
    }

    /// Writes down where everything is, and tells it. Blocking.
    fn tell(&self, trouble: Option<String>, wanted: &Path) {
        let (home, others) = (self.store.home(), self.store.leave_empty());
        if let Err(error) = self.write(&home, others.iter().map(PathBuf::as_path)) {
            tracing::warn!(error = %chain(&error), "the place of the cache was not noted");
        }
        let now = CachePlace { home, others, trouble, wanted: wanted.to_owned() };
        self.place.send_if_modified(|place| std::mem::replace(place, now.clone()) != now);
    }

    fn write<'a>(
        &self,
        home: &'a Path,
        others: impl Iterator<Item = &'a Path>,
    ) -> Result<(), crate::state_dir::StateError> {
        let mut lines: Vec<&str> = Vec::new();
        for place in std::iter::once(home).chain(others).filter_map(Path::to_str) {
            if !lines.contains(&place) {
                lines.push(place);
            }
        }
        let text = lines.join("\n");
        if self.state.read(FILE).as_deref() == Some(text.as_bytes()) {
            return Ok(());
        }
        self.state.write(FILE, text.as_bytes())
    }

    /// Moves the cache as policy says, until the agent ends.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        let mover = Arc::new(self);
        let mut policy = shared.policy.clone();
        loop {
            let place = policy.borrow_and_update().settings.modify_cache_drive.clone();
            let (it, to) = (Arc::clone(&mover), place.clone());
            let mut trouble = None;
            if place != mover.store.home() {
                let settled = tokio::task::spawn_blocking(move || it.settle_in(&to)).await;
                if settled.is_err() {
                    return;
                }
                trouble = mover.place.borrow().trouble.clone();
            }
            let changed_mind = |policy: &watch::Receiver<Arc<PolicyView>>| {
                policy.borrow().settings.modify_cache_drive != place
            };
            for away in mover.store.away() {
                let it = Arc::clone(&mover);
                let Ok(failed) = tokio::task::spawn_blocking(move || it.bring(&away)).await else { return };
                trouble = trouble.or(failed);
                if changed_mind(&policy) {
                    break;
                }
            }
            let (it, to) = (Arc::clone(&mover), place.clone());
            if tokio::task::spawn_blocking(move || it.tell(trouble, &to)).await.is_err() {
                return;
            }
            let done = {
                let place = mover.place.borrow();
                place.others.is_empty() && place.trouble.is_none()
            };
            // A download that joined the cache meanwhile comes after; so does what failed.
            let retry = async { if done { std::future::pending().await } else { sleep(RETRY).await } };
            tokio::pin!(retry);
            loop {
                if changed_mind(&policy) {
                    break;
                }
                tokio::select! {
                    () = &mut retry => break,
                    changed = policy.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}
