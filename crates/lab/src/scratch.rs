//! The one directory of a run: caches, logs, sockets. Gone when the run ends.
//!
//! A lab that was killed cannot clean up; the next one does. What may be removed is known by a file `lock` in the directory,
//! which a living lab holds locked and which a directory that is to be kept does not have.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, flock, statvfs};
use tempfile::TempDir;

use crate::human;

const PREFIX: &str = "peerage-lab-";
const LOCK: &str = "lock";
/// `sun_path` of unix(7), with its final zero.
const MAX_SOCKET_PATH: usize = 107;
/// The longest path that an agent's socket has below the directory.
const SOCKET_BELOW: &str = "/device-1000/agent.sock.files";
/// Free space that copies must leave: databases, piece maps, logs.
const SPARE: u64 = 64 << 20;

/// The directory of a run. Dropping it removes it, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: TempDir,
    /// Held locked while the lab lives; `None`: the directory is to be kept.
    lock: Option<File>,
}

impl Scratch {
    /// Makes a directory in `base`, after removing what killed labs left there.
    ///
    /// # Errors
    /// It cannot be made, or its name is too long for the sockets in it.
    pub(crate) fn new(base: Option<&Path>, keep: bool) -> Result<Self> {
        let base = base.map_or_else(std::env::temp_dir, Path::to_owned);
        let base = base.canonicalize().with_context(|| format!("could not find {}", base.display()))?;
        sweep(&base);
        let mut dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&base)
            .with_context(|| format!("could not make a directory in {}", base.display()))?;
        dir.disable_cleanup(keep);
        let longest = dir.path().as_os_str().len() + SOCKET_BELOW.len();
        ensure!(
            longest <= MAX_SOCKET_PATH,
            "{} is too long a name: sockets in it would have {longest} bytes, allowed are {MAX_SOCKET_PATH}; \
             choose another --dir",
            dir.path().display()
        );
        let lock = if keep { None } else { Some(lock(dir.path()).context("could not lock the directory")?) };
        Ok(Self { dir, lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Checks that `copies` copies of `size` bytes fit.
    ///
    /// # Errors
    /// They do not.
    pub(crate) fn check_space(&self, copies: u32, size: u64) -> Result<()> {
        let stat = statvfs(self.path()).context("could not ask for the free space")?;
        let (free, needed) = (stat.f_bavail.saturating_mul(stat.f_frsize), needed(copies, size));
        ensure!(
            free >= needed,
            "{copies} copies of {} need {} in {}, free are {}; choose another --dir or fewer --devices",
            human::size(size),
            human::size(needed),
            self.path().parent().unwrap_or(self.path()).display(),
            human::size(free)
        );
        Ok(())
    }

    /// Removes it, or says where it stays.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub(crate) fn close(self) -> Result<Option<PathBuf>> {
        if self.lock.is_none() {
            return Ok(Some(self.dir.keep()));
        }
        let path = self.dir.path().to_owned();
        self.dir.close().with_context(|| format!("could not remove {}", path.display()))?;
        Ok(None)
    }
}

fn needed(copies: u32, size: u64) -> u64 {
    u64::from(copies).saturating_mul(size).saturating_add(SPARE)
}

/// Makes the locked file. It gets its name only when it is locked: a lab that sweeps must not find it between.
fn lock(dir: &Path) -> Result<File> {
    let fresh = dir.join("lock.new");
    let file = File::create(&fresh)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    fs::rename(&fresh, dir.join(LOCK))?;
    Ok(file)
}

/// Removes directories of this user's labs that no longer run. What cannot be looked at or removed stays.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    let own = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Of the entry itself, not of what a symbolic link leads to.
        let is_ours = || entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == own);
        if !named || !is_ours() {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => tracing::info!(path = %entry.path().display(), "removed what a killed lab left"),
                Err(error) => tracing::warn!(path = %entry.path().display(), %error, "could not be removed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &Path) -> Vec<PathBuf> {
        fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_dead_lab_is_swept_and_a_living_or_kept_one_is_not() {
        let base = tempfile::tempdir().unwrap();
        let living = Scratch::new(Some(base.path()), false).unwrap();
        let dead = base.path().join("peerage-lab-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let kept = base.path().join("peerage-lab-kept");
        fs::create_dir(&kept).unwrap();
        let other = base.path().join("another");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(LOCK), "").unwrap();
        let next = Scratch::new(Some(base.path()), true).unwrap();
        assert!(!dead.exists());
        for there in [living.path(), &kept, &other, next.path()] {
            assert!(there.is_dir(), "{}", there.display());
        }
        let stays = next.close().unwrap().unwrap();
        assert!(stays.is_dir());
        drop(living);
        assert_eq!(names(base.path()).len(), 3);
    }

    #[test]
    fn space_and_names_are_checked_first() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(Some(base.path()), false).unwrap();
        scratch.check_space(1, 1).unwrap();
        let error = scratch.check_space(1000, 1 << 60).unwrap_err().to_string();
        assert!(error.contains("1000 copies of") && error.contains("--dir"), "{error}");
        assert_eq!(needed(1000, u64::MAX), u64::MAX);
        let long = base.path().join("x".repeat(90));
        fs::create_dir(&long).unwrap();
        let error = Scratch::new(Some(&long), false).unwrap_err().to_string();
        assert!(error.contains("allowed are 107"), "{error}");
        assert!(names(&long).is_empty());
        assert!(Scratch::new(Some(&base.path().join("missing")), false).is_err());
    }
}
