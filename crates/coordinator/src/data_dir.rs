//! The data directory: for this daemon's user alone, one daemon at a time, secrets written so that a crash leaves the
//! old file or the new one, never half of one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Nothing kept here is larger; a longer file is not ours.
const MAX_FILE: u64 = 1 << 20;

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or opened.
    #[error("could not open data directory {path:?}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody else, who could read or change the keys.
    #[error("data directory {path:?} belongs to user {found}, expected {expected}")]
    Owner {
        /// The directory.
        path: PathBuf,
        /// User id of its owner.
        found: u32,
        /// User id of this process.
        expected: u32,
    },
    /// Another coordinator uses it.
    #[error("data directory {path:?} is in use by another coordinator")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A file in it cannot be read.
    #[error("could not read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("could not write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file in it is not what it should be.
    #[error("{path:?} is damaged: {why}; restore it from a backup, or remove it to start anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The open data directory; locked until dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    _lock: File,
}

impl DataDir {
    pub(crate) fn open(root: &Path) -> Result<Self, DataDirError> {
        let fail = |source| DataDirError::Open { path: root.to_owned(), source };
        make_private_dir(root).map_err(fail)?;
        let (found, expected) =
            (fs::metadata(root).map_err(fail)?.uid(), rustix::process::geteuid().as_raw());
        if found != expected {
            return Err(DataDirError::Owner { path: root.to_owned(), found, expected });
        }
        // It may have been made by hand before, readable by all.
        fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(fail)?;
        let lock = private_file(&root.join("lock")).map_err(fail)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DataDirError::Busy { path: root.to_owned() },
            TryLockError::Error(source) => fail(source),
        })?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The contents of a file; `None` when there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DataDirError> {
        let path = self.path(name);
        match read_limited(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataDirError::Read { path, source }),
        }
    }

    /// Writes a file that only this user can read, in one step.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.path(name);
        replace(&path, bytes).map_err(|source| DataDirError::Write { path, source })
    }

    /// Makes an empty private file unless it is there: for libraries that open it themselves.
    pub(crate) fn touch(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path(name);
        private_file(&path).map_err(|source| DataDirError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    pub(crate) fn damaged(&self, name: &str, why: impl std::fmt::Display) -> DataDirError {
        DataDirError::Damaged { path: self.path(name), why: why.to_string() }
    }
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(bytes)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Makes a directory (and those above it) with mode 0700.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces `path` by a file of mode 0600: written beside it, synced, renamed over it, the directory synced.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let beside = dir.join(format!(".{:016x}.tmp", u64::from_le_bytes(random)));
    let written = (|| {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_locked_and_atomic() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("a/b");
        let dir = DataDir::open(&root).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&root), 0o700);
        assert!(matches!(DataDir::open(&root), Err(DataDirError::Busy { .. })));
        assert!(dir.read("key").unwrap().is_none());
        dir.write("key", b"one").unwrap();
        dir.write("key", b"two").unwrap();
        assert_eq!(dir.read("key").unwrap().unwrap(), b"two");
        assert_eq!((mode(&dir.path("key")), mode(&dir.touch("db").unwrap())), (0o600, 0o600));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 3, "lock, key, db and nothing half-written");
        drop(dir);
        fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        let _again = DataDir::open(&root).unwrap();
        assert_eq!(mode(&root), 0o700, "tightened");
    }
}
