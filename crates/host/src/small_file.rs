//! Reads of small files that never block, never follow into devices and never read more than was asked for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// Opens for reading. A FIFO without a writer does not block, a terminal does not become the controlling one.
pub(crate) fn open_file(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    open(path, flags, Mode::empty()).map(File::from)
}

/// Reads at most `limit` bytes.
pub(crate) fn read_at_most(file: &File, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| errno(&error))?;
    Ok(bytes)
}

/// The text of a file of `/proc` or `/sys`, cut after `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, Errno> {
    let bytes = read_at_most(&open_file(path)?, limit)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
