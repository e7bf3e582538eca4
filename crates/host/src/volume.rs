//! The size of the volume that holds a directory.

use std::path::Path;

use peerage_policy::Volume;
use rustix::fs::statvfs;
use rustix::io::Errno;

use crate::error::HostError;

/// Capacity and free space of the volume that holds `directory`, or that will: of a directory that is not made yet,
/// the nearest one above it that is.
///
/// # Errors
/// The file system does not answer.
pub fn volume_of(directory: &Path) -> Result<Volume, HostError> {
    let mut at = directory;
    loop {
        match statvfs(at) {
            Ok(stat) => {
                let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
                return Ok(Volume { capacity: bytes(stat.f_blocks), free: bytes(stat.f_bavail) });
            }
            Err(Errno::NOENT) => match at.parent() {
                Some(above) if !above.as_os_str().is_empty() => at = above,
                _ => return Err(HostError::Volume { path: directory.to_owned(), source: Errno::NOENT }),
            },
            Err(source) => return Err(HostError::Volume { path: directory.to_owned(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_made_yet_is_on_the_volume_above() {
        let root = tempfile::tempdir().unwrap();
        let here = volume_of(root.path()).unwrap();
        let below = volume_of(&root.path().join("not/made/yet")).unwrap();
        assert_eq!(here.capacity, below.capacity);
        assert!(here.capacity > 0 && here.free <= here.capacity);
    }

    #[test]
    fn what_is_no_directory_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let below = file.path().join("cache");
        assert_eq!(volume_of(&below), Err(HostError::Volume { path: below.clone(), source: Errno::NOTDIR }));
        assert!(volume_of(Path::new("no-such-directory")).is_err());
    }
}
