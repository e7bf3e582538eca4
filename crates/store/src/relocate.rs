//! Moving a cache to another directory, with all that is in it.
//!
//! Content by content, each by a rename: on the same volume at once, to another one after a copy. A kill in between leaves
//! every content whole in one of both places; the same call goes on where it was.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::config::StoreConfig;
use crate::dir::{Access, Dir};
use crate::error::StoreError;
use crate::root::Root;

const BUFFER: usize = 1 << 20;
/// Names with these ends are half made or half removed.
const SWEPT: [&str; 2] = [".new", ".gone"];

/// Moves the contents and staging areas of the cache in `from` to that in `to`; returns how many. No store may be open in
/// either. What is in both places stays as it is in `to`. Blocking.
///
/// # Errors
/// The disk, or another process holds one of them. What has been moved by then stays moved.
pub fn relocate(from: &Path, to: &Path) -> Result<u64, StoreError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if !from.is_dir() || real(from) == real(to) {
        return Ok(0);
    }
    let old = Root::open(&StoreConfig::new(from))?;
    let new = Root::open(&StoreConfig::new(to))?;
    let moved = || -> io::Result<u64> {
        let mut moved = move_all(&old.staging()?, &new.staging()?)?;
        let (shelves, target) = (old.contents()?, new.contents()?);
        for shelf in names(&shelves)? {
            moved += move_all(&shelves.dir(&shelf)?, &target.make_dir(&shelf)?)?;
        }
        Ok(moved)
    };
    moved().map_err(|error| StoreError::io("move the cache to", to, error))
}

fn names(dir: &Dir) -> io::Result<Vec<String>> {
    Ok(dir.names()?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Moves every directory of `from` to `to`.
fn move_all(from: &Dir, to: &Dir) -> io::Result<u64> {
    let mut moved = 0;
    for name in names(from)? {
        if SWEPT.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        if to.stat(name.as_str()).is_ok() {
            from.remove_tree(&name)?;
            continue;
        }
        match from.rename(name.as_str(), to, name.as_str()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                copy_over(from, to, &name)?;
                from.remove_tree(&name)?;
            }
            Err(error) => return Err(error),
        }
        moved += 1;
    }
    to.sync()?;
    Ok(moved)
}

/// Copies one directory of files; it gets its name when all of it is on the disk.
fn copy_over(from: &Dir, to: &Dir, name: &str) -> io::Result<()> {
    let half = format!("{name}.new");
    if to.stat(half.as_str()).is_ok() {
        to.remove_tree(&half)?;
    }
    let (source, target) = (from.dir(name)?, to.make_dir(&half)?);
    for file in names(&source)? {
        let (old, new) = (source.open(&file, Access::Read)?, target.create(&file)?);
        copy_sparse(&old, &new)?;
        let metadata = old.metadata()?;
        new.set_permissions(metadata.permissions())?;
        new.set_modified(metadata.modified()?)?;
        new.sync_all()?;
    }
    target.sync()?;
    to.rename(half.as_str(), to, name)?;
    to.sync()
}

/// Copies what has been written of a file: one that is half there must not take all its space.
fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let (mut at, mut buffer) = (0, vec![0; BUFFER]);
    loop {
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(at))?;
        while at < end {
            let room = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
            let got = from.read_at(&mut buffer[..room], at)?;
            if got == 0 {
                return Ok(());
            }
            to.write_all_at(&buffer[..got], at)?;
            at += got as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn holes_stay_holes_and_bytes_stay_bytes() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.set_len(64 << 20).unwrap();
        from.write_all_at(b"early", 4096).unwrap();
        from.write_all_at(b"late", (64 << 20) - 4).unwrap();
        copy_sparse(&from, &to).unwrap();
        let mut found = [0; 5];
        to.read_exact_at(&mut found, 4096).unwrap();
        assert_eq!(&found, b"early");
        to.read_exact_at(&mut found[..4], (64 << 20) - 4).unwrap();
        assert_eq!(&found[..4], b"late");
        assert_eq!(to.metadata().unwrap().len(), 64 << 20);
        assert!(to.metadata().unwrap().blocks() * 512 < 8 << 20);
    }

    #[test]
    fn a_directory_is_copied_whole_and_what_was_half_made_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            std::fs::create_dir(root.path().join(name)).unwrap();
            Dir::open_path(&root.path().join(name)).unwrap()
        };
        let (from, to) = (dir("from"), dir("to"));
        std::fs::create_dir(root.path().join("from/x")).unwrap();
        std::fs::write(root.path().join("from/x/data"), "bytes").unwrap();
        std::fs::create_dir(root.path().join("to/x.new")).unwrap();
        std::fs::write(root.path().join("to/x.new/stray"), "").unwrap();
        copy_over(&from, &to, "x").unwrap();
        assert_eq!(std::fs::read(root.path().join("to/x/data")).unwrap(), b"bytes");
        assert!(!root.path().join("to/x/stray").exists() && !root.path().join("to/x.new").exists());
    }
}
