//! The cache directory itself: made private, owned by this user, held by one process.
//!
//! ```text
//! lock                            flock'ed while the store is open; holds the pid
//! contents/<2 hex>/<64 hex id>/   data · map · pieces · meta.json
//! contents/<2 hex>/<64 hex id>.new, .gone    half made, half removed: swept at the next open
//! staging/<name>/                 data · state.json
//! ```

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use peerage_content::ContentId;
use rustix::fs::FlockOperation;

use crate::config::{BootId, StoreConfig};
use crate::dir::Dir;
use crate::error::StoreError;

const LOCK: &str = "lock";
pub(crate) const CONTENTS: &str = "contents";
pub(crate) const STAGING: &str = "staging";

/// The open cache directory. The lock is held as long as any content of it is.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    dir: Dir,
    boot: BootId,
    _lock: File,
}

impl Root {
    /// Makes or opens the directory and locks it.
    pub(crate) fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let path = config.dir.clone();
        make_private(&path).map_err(|error| StoreError::io("create", &path, error))?;
        let dir = Dir::open_path(&path).map_err(|error| StoreError::io("open", &path, error))?;
        let stat = dir.metadata().map_err(|error| StoreError::io("read", &path, error))?;
        let expected = rustix::process::geteuid().as_raw();
        if stat.uid() != expected {
            return Err(StoreError::NotOurs { dir: path, owner: stat.uid(), expected });
        }
        if stat.mode() & 0o022 != 0 {
            return Err(StoreError::NotPrivate { dir: path, mode: stat.mode() & 0o777 });
        }
        let lock = lock(&dir, &path)?;
        for name in [CONTENTS, STAGING] {
            dir.make_dir(name).map_err(|error| StoreError::io("create", path.join(name), error))?;
        }
        Ok(Self { path, dir, boot: config.boot, _lock: lock })
    }

    pub(crate) const fn boot(&self) -> BootId {
        self.boot
    }

    pub(crate) const fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory was deleted. A moved one is still ours.
    pub(crate) fn is_gone(&self) -> bool {
        // In a removed directory nothing can be made, on every file system; link counts differ.
        self.contents().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// The directory above all contents, made again if it was deleted.
    pub(crate) fn contents(&self) -> io::Result<Dir> {
        self.dir.make_dir(CONTENTS)
    }

    /// The directory above all staging areas, made again if it was deleted.
    pub(crate) fn staging(&self) -> io::Result<Dir> {
        self.dir.make_dir(STAGING)
    }

    /// The directory above that of a content.
    pub(crate) fn shelf(&self, id: ContentId) -> io::Result<Dir> {
        self.dir.dir(CONTENTS)?.dir(&shelf_name(id))
    }

    /// The directory of a content.
    pub(crate) fn content(&self, id: ContentId) -> io::Result<Dir> {
        self.shelf(id)?.dir(&id.to_string())
    }

    /// Removes what a cache that has moved away leaves: empty directories, what was half made or half removed, and the
    /// lock. The directory itself stays, and whatever is not the cache's.
    pub(crate) fn clear_away(&self) {
        let cleared = || -> io::Result<()> {
            let contents = self.dir.dir(CONTENTS)?;
            for shelf_name in contents.names()?.iter().filter_map(|name| name.to_str()) {
                let shelf = contents.dir(shelf_name)?;
                for name in shelf.names()?.iter().filter_map(|name| name.to_str()) {
                    if name.ends_with(".new") || name.ends_with(".gone") {
                        shelf.remove_tree(name)?;
                    }
                }
                contents.remove_empty(shelf_name)?;
            }
            self.dir.remove_empty(CONTENTS)?;
            self.dir.remove_empty(STAGING)?;
            self.dir.remove_file(LOCK)
        };
        if let Err(error) = cleared() {
            tracing::warn!(dir = %self.path.display(), %error, "something is left where the cache was");
        }
    }

    /// For messages.
    pub(crate) fn content_path(&self, id: ContentId, name: &str) -> PathBuf {
        self.path.join(CONTENTS).join(shelf_name(id)).join(id.to_string()).join(name)
    }

    /// For messages.
    pub(crate) fn staging_path(&self, name: &str) -> PathBuf {
        self.path.join(STAGING).join(name)
    }
}

/// The name of the directory that holds a content's directory.
pub(crate) fn shelf_name(id: ContentId) -> String {
    format!("{:02x}", id.as_bytes()[0])
}

fn make_private(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn lock(dir: &Dir, path: &Path) -> Result<File, StoreError> {
    let at = || path.join(LOCK);
    // Not for writing: the volume of an idle cache can be made read-only.
    let mut file = dir.open_or_touch(LOCK).map_err(|error| StoreError::io("open", at(), error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let read = file.by_ref().take(32).read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(StoreError::Locked { dir: path.to_owned(), pid });
        }
        Err(error) => return Err(StoreError::io("lock", at(), error)),
    }
    // The pid is a courtesy to the next one who comes; a full disk must not keep the store from opening.
    let noted = dir.open_or_create(LOCK).and_then(|file| {
        file.set_len(0)?;
        file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    });
    if let Err(error) = noted {
        tracing::debug!(%error, "could not note the pid in the lock file");
    }
    Ok(file)
}
