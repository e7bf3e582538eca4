//! Which directories the store is in: the home, and others from which everything is still to come.
//!
//! What survives a crash: each content and staging area, whole, in one directory or the other. Which directories there
//! were is for the store's user to remember; [`Store::take_along`] goes on with a move that broke off.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use peerage_content::ContentId;

use crate::config::StoreConfig;
use crate::dir::Dir;
use crate::error::StoreError;
use crate::info::ContentInfo;
use crate::root::Root;
use crate::store::Store;

/// Written to find out whether a directory can be written.
const PROBE: &str = "probe.new";

/// Something that is not in the home directory yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Away {
    /// A content.
    Content(ContentId),
    /// A staging area, by name.
    Staging(String),
}

impl Store {
    /// The home directory.
    pub fn home(&self) -> PathBuf {
        self.root().path().to_owned()
    }

    /// Makes `dir`, of which the directory above must exist, the home: what is made from now on is made there. What is
    /// elsewhere stays in use; [`Self::away`] tells what there is to be brought. Blocking.
    ///
    /// # Errors
    /// It cannot be made or written, another process has it, or the cache would not fit. Then nothing has changed.
    pub fn settle_in(&self, dir: &Path) -> Result<(), StoreError> {
        let home = self.root();
        let root = match self.held(dir) {
            Some(held) => held,
            None => {
                if !dir.parent().is_some_and(Path::is_dir) {
                    return Err(StoreError::NoParent { dir: dir.to_owned() });
                }
                self.check_room(&home, dir)?;
                let root = self.open_beside(dir)?;
                self.read_contents(&root)?;
                self.read_stages(&root)?;
                root
            }
        };
        if !Arc::ptr_eq(&root, &home) {
            let _making = self.making().lock();
            let mut others = self.others().lock();
            others.retain(|other| !Arc::ptr_eq(other, &root));
            others.push(home);
            self.set_root(&root);
        }
        Ok(())
    }

    /// Takes in what is in another cache directory, from which a move has not brought everything. One that is not there
    /// is none. Blocking.
    ///
    /// # Errors
    /// It cannot be read, or another process has it.
    pub fn take_along(&self, dir: &Path) -> Result<(), StoreError> {
        if self.held(dir).is_some() || !dir.is_dir() {
            return Ok(());
        }
        let root = self.open_beside(dir)?;
        self.read_contents(&root)?;
        self.read_stages(&root)?;
        self.others().lock().push(root);
        Ok(())
    }

    /// What is not in the home directory, in the order in which it should be brought there: what can be served first.
    pub fn away(&self) -> Vec<Away> {
        let home = self.root();
        let mut contents: Vec<_> =
            self.items().into_iter().filter(|item| !Arc::ptr_eq(&item.root(), &home)).collect();
        contents.sort_by_key(|item| (!item.state.lock().verified.is_full(), item.id()));
        let contents = contents.iter().map(|item| Away::Content(item.id()));
        let stages = self.stages().lock();
        let away = stages.values().filter(|stage| !Arc::ptr_eq(&stage.root(), &home));
        contents.chain(away.map(|stage| Away::Staging(stage.name.clone()))).collect()
    }

    /// Bytes that what is away takes.
    pub(crate) fn away_bytes(&self) -> u64 {
        let home = self.root();
        let items = self.items();
        let contents =
            items.iter().filter(|item| !Arc::ptr_eq(&item.root(), &home)).map(|item| item.allocated().0);
        let stages: Vec<_> = self.stages().lock().values().map(Arc::clone).collect();
        let staged = stages.iter().filter(|stage| !Arc::ptr_eq(&stage.root(), &home));
        contents.sum::<u64>()
            + staged.filter_map(|stage| stage.info()).map(|info| info.allocated).sum::<u64>()
    }

    /// Gives up the directories in which nothing is left, and returns those in which something is. Blocking.
    pub fn leave_empty(&self) -> Vec<PathBuf> {
        let mut others = self.others().lock();
        others.retain(|root| {
            // Every content and staging area in it holds it, too.
            let empty = Arc::strong_count(root) == 1;
            if empty {
                root.clear_away();
            }
            !empty
        });
        others.iter().map(|root| root.path().to_owned()).collect()
    }

    /// The directory, if it is one of ours by whatever name.
    fn held(&self, dir: &Path) -> Option<Arc<Root>> {
        let wanted = std::fs::metadata(dir).ok()?;
        let same = |root: &Arc<Root>| {
            root.dir().metadata().is_ok_and(|stat| (stat.dev(), stat.ino()) == (wanted.dev(), wanted.ino()))
        };
        let home = self.root();
        if same(&home) {
            return Some(home);
        }
        self.others().lock().iter().find(|root| same(root)).map(Arc::clone)
    }

    fn open_beside(&self, dir: &Path) -> Result<Arc<Root>, StoreError> {
        let root = Root::open(&StoreConfig { dir: dir.to_owned(), boot: self.boot() })?;
        let probed = root.dir().create(PROBE).and_then(|_| root.dir().remove_file(PROBE));
        probed.map_err(|error| StoreError::io("write to", dir, error))?;
        Ok(Arc::new(root))
    }

    /// Whether everything fits on the volume of `dir`, which need not be made yet.
    fn check_room(&self, home: &Root, dir: &Path) -> Result<(), StoreError> {
        let there = if dir.is_dir() { dir } else { dir.parent().unwrap_or(dir) };
        let failed = |error| StoreError::io("look at", there, error);
        let target = Dir::open_path(there).map_err(failed)?;
        if target.metadata().map_err(failed)?.dev() == home.dir().metadata().map_err(failed)?.dev() {
            return Ok(());
        }
        let volume = target.volume().map_err(failed)?;
        let free = volume.f_bavail.saturating_mul(volume.f_frsize);
        let contents: u64 = self.contents().iter().map(|content: &ContentInfo| content.allocated).sum();
        let needed = contents + self.staged().iter().map(|staging| staging.allocated).sum::<u64>();
        if free <= needed {
            return Err(StoreError::VolumeTooSmall { dir: dir.to_owned(), free, needed });
        }
        Ok(())
    }
}
