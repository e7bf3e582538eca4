//! Handing a complete file over to the user who asked for it, in that user's process and with that user's rights.
//!
//! The file appears under its name at once or not at all: it is made under a temporary name beside it and renamed. A
//! symlink in that place is replaced, not followed. A kill may leave a `.peerage-…` file behind.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::copy;
use crate::dir::Dir;
use crate::error::StoreError;

/// Tries to find a free temporary name.
const NAMES: u32 = 64;

/// What is allowed for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeliverOptions {
    /// A hard link to the cache's file will do: no space, but read-only, and the same file. Taken only when the source
    /// belongs to this process's user.
    pub hard_link: bool,
}

/// How a file was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliverMethod {
    /// Shares its extents with the cache until either is written.
    Reflink,
    /// Is the cache's file, by another name.
    HardLink,
    /// A copy.
    Copy,
}

/// A delivery that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// How.
    pub method: DeliverMethod,
    /// Bytes in the file.
    pub bytes: u64,
}

/// Makes `dest` the file `source`: by reflink, else by hard link if allowed, else by copy.
///
/// # Errors
/// `dest` is something else than a file or a symlink, its directory cannot be written, or the disk fails. Then `dest` is
/// as it was.
pub fn deliver(source: &File, dest: &Path, how: DeliverOptions) -> Result<Delivered, StoreError> {
    let failed = |op, error: io::Error| StoreError::io(op, dest, error);
    let not_a_file = || StoreError::NotAFile { path: dest.to_owned() };
    let name = dest.file_name().ok_or_else(not_a_file)?;
    let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = Dir::open_path(parent).map_err(|error| failed("open the directory of", error))?;
    match dir.stat(name) {
        // Renaming over a device or a socket would destroy it; `-o /dev/null` is for the caller to handle.
        Ok(stat) if !stat.is_file() && !stat.is_symlink() => return Err(not_a_file()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", error)),
    }
    let (temp, method) = place(source, &dir, dest, how)?;
    let bytes = source.metadata().map_err(|error| failed("read the source of", error))?.len();
    dir.rename(&temp.name, &dir, name).map_err(|error| failed("rename to", error))?;
    Ok(Delivered { method, bytes })
}

/// A temporary name, removed when dropped. After the rename it is gone already; but renaming one link of a file over
/// another does nothing (rename(2)), and then it is not.
struct Temp<'a> {
    dir: &'a Dir,
    name: String,
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.dir.remove_file(&self.name) {
            tracing::warn!(name = self.name, %error, "could not remove a temporary file");
        }
    }
}

impl<'a> Temp<'a> {
    /// Makes something under a name that is free.
    fn make<T>(dir: &'a Dir, make: impl Fn(&str) -> io::Result<T>) -> io::Result<(Self, T)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..NAMES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".peerage-{}-{number}", std::process::id());
            match make(&name) {
                Ok(made) => return Ok((Self { dir, name }, made)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Makes the file under a temporary name.
fn place<'a>(
    source: &File,
    dir: &'a Dir,
    dest: &Path,
    how: DeliverOptions,
) -> Result<(Temp<'a>, DeliverMethod), StoreError> {
    let failed = |op, error: io::Error| StoreError::io(op, dest, error);
    let (temp, file) =
        Temp::make(dir, |name| dir.create_public(name)).map_err(|error| failed("create", error))?;
    if copy::reflink(source, &file).map_err(|error| failed("write", error))? {
        return Ok((temp, DeliverMethod::Reflink));
    }
    let stat = source.metadata().map_err(|error| failed("read the source of", error))?;
    let read_only = stat.mode() & 0o222 == 0;
    if how.hard_link && read_only && stat.uid() == rustix::process::geteuid().as_raw() {
        // Other volume, a file system without links, too many of them, or no /proc: then a copy.
        if let Ok((linked, ())) = Temp::make(dir, |name| dir.link_from(source, name)) {
            return Ok((linked, DeliverMethod::HardLink));
        }
    }
    let copied = copy::copy(source, &file, stat.len()).map_err(|error| failed("write", error))?;
    if copied != stat.len() {
        return Err(StoreError::Truncated { path: dest.to_owned(), copied, expected: stat.len() });
    }
    Ok((temp, DeliverMethod::Copy))
}
