//! What can go wrong in the store, with what the user can mend kept apart ([`StoreError::is_mendable`]).

use std::io;
use std::path::PathBuf;

use peerage_content::{BlockSet, ContentId, PieceIndex};

/// An operation of the store failed. Whatever was verified before is still there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The volume or the quota of the user is full.
    #[error("no space left for {path}")]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// `ENOSPC` or `EDQUOT`.
        #[source]
        source: io::Error,
    },
    /// The volume is mounted read-only.
    #[error("{path} is on a read-only file system")]
    ReadOnly {
        /// What was being written.
        path: PathBuf,
        /// `EROFS`.
        #[source]
        source: io::Error,
    },
    /// This user may not do that there.
    #[error("no permission for {path}")]
    Permission {
        /// What was being reached.
        path: PathBuf,
        /// `EACCES` or `EPERM`.
        #[source]
        source: io::Error,
    },
    /// The file system cannot hold a file of this size (FAT: 4 GiB), or a process limit forbids it.
    #[error("{path} grows beyond the largest file that its file system or the process limit allows")]
    FileTooLarge {
        /// What was being written.
        path: PathBuf,
        /// `EFBIG`.
        #[source]
        source: io::Error,
    },
    /// Somebody deleted the directory, or a part of it, while the store was open.
    #[error("{path} was deleted while in use")]
    Vanished {
        /// What is gone.
        path: PathBuf,
    },
    /// Another process has the directory.
    #[error("cache directory {dir} is in use by {}", holder(*.pid))]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The holder, as it wrote itself into the lock file.
        pid: Option<u32>,
    },
    /// The directory belongs to someone else, who could change it under the store.
    #[error("cache directory {dir} belongs to user {owner}, expected user {expected}")]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user of this process.
        expected: u32,
    },
    /// Others may write to the directory.
    #[error("cache directory {dir} has mode {mode:03o}, which lets others write to it; expected 700")]
    NotPrivate {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory above the one that is to be made is not there: most often a volume that is not mounted.
    #[error("cache directory {dir} cannot be made: {} is not there", parent(dir))]
    NoParent {
        /// The directory.
        dir: PathBuf,
    },
    /// The cache would not fit on the volume that it is to move to.
    #[error("the volume of {dir} has {free} bytes free, and the cache takes {needed}")]
    VolumeTooSmall {
        /// The directory.
        dir: PathBuf,
        /// Bytes that this user may still write there.
        free: u64,
        /// Bytes that the cache takes.
        needed: u64,
    },
    /// Any other failure of the system.
    #[error("could not {op} {path}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// All blocks of a piece arrived and they are wrong. All of them were dropped.
    #[error("piece {piece} of {id} does not match its piece map")]
    Mismatch {
        /// The content.
        id: ContentId,
        /// The piece.
        piece: PieceIndex,
        /// Blocks that were not written since the store was opened, so nobody connected now is to blame for them.
        recovered: BlockSet,
    },
    /// The piece is not verified, so it is not served.
    #[error("piece {piece} of {id} is not verified")]
    NotVerified {
        /// The content.
        id: ContentId,
        /// The piece.
        piece: PieceIndex,
    },
    /// A write of other than whole blocks, or a range that the piece does not have.
    #[error(
        "bytes [{offset}, +{len}) of piece {piece} of {id}: expected a range within it, and whole blocks to write"
    )]
    Misaligned {
        /// The content.
        id: ContentId,
        /// The piece.
        piece: PieceIndex,
        /// Offset in the piece.
        offset: u32,
        /// Number of bytes.
        len: usize,
    },
    /// Pieces are missing.
    #[error("{id} is not complete: {have} of {pieces} pieces")]
    Incomplete {
        /// The content.
        id: ContentId,
        /// Verified pieces.
        have: u32,
        /// Pieces in all.
        pieces: u32,
    },
    /// The piece map is that of another content, or of another size.
    #[error("piece map of {found} ({found_size} bytes) given for {id} ({size} bytes)")]
    WrongMap {
        /// The content.
        id: ContentId,
        /// Its size.
        size: u64,
        /// The content of the map.
        found: ContentId,
        /// The size in the map.
        found_size: u64,
    },
    /// The content is already here with another size; one of the two is a lie.
    #[error("{id} is stored with {stored} bytes, not {found}")]
    WrongSize {
        /// The content.
        id: ContentId,
        /// The size it is stored with.
        stored: u64,
        /// The size asked for.
        found: u64,
    },
    /// The content is not here.
    #[error("{id} is not in the cache")]
    Unknown {
        /// The content.
        id: ContentId,
    },
    /// The content was removed while this handle was held.
    #[error("{id} was removed from the cache")]
    Removed {
        /// The content.
        id: ContentId,
    },
    /// Pinned contents are removed by force only.
    #[error("{id} is pinned")]
    Pinned {
        /// The content.
        id: ContentId,
    },
    /// A download or delivery has it open; removed by force only.
    #[error("{id} is in use")]
    Busy {
        /// The content.
        id: ContentId,
    },
    /// An expiry more than a year ahead (DO reference §4.5).
    #[error("the expiry of {id} is {} days beyond the limit of one year ahead", found.saturating_sub(*limit).div_ceil(86_400))]
    ExpiryTooFar {
        /// The content.
        id: ContentId,
        /// Unix seconds asked for.
        found: u64,
        /// Largest allowed.
        limit: u64,
    },
    /// Notes that would make the state file unreasonably large.
    #[error("notes of {found} bytes are above the limit of {limit}")]
    NotesTooLarge {
        /// Bytes of keys and values.
        found: usize,
        /// Largest allowed.
        limit: usize,
    },
    /// Not a name for a staging area.
    #[error("staging name {found:?}: expected 1 to 128 of A-Z a-z 0-9 . _ - and no dot at the start")]
    BadName {
        /// What was found, shortened to 130 characters.
        found: String,
    },
    /// The staging area was promoted or discarded.
    #[error("staging area {name} is closed")]
    StagingClosed {
        /// Its name.
        name: String,
    },
    /// Staged bytes must follow each other.
    #[error("staging area {name} holds {len} bytes, found a write at {offset}")]
    StagingGap {
        /// Its name.
        name: String,
        /// Bytes held.
        len: u64,
        /// Where the write was to go.
        offset: u64,
    },
    /// A delivery would replace something that is not a file.
    #[error("{path} exists and is not a regular file")]
    NotAFile {
        /// The destination.
        path: PathBuf,
    },
    /// The source of a copy ended early.
    #[error("{path} changed while it was copied: {copied} of {expected} bytes")]
    Truncated {
        /// The destination.
        path: PathBuf,
        /// Bytes copied.
        copied: u64,
        /// Bytes expected.
        expected: u64,
    },
}

fn parent(dir: &std::path::Path) -> std::path::Display<'_> {
    dir.parent().unwrap_or(dir).display()
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl StoreError {
    /// Sorts a failure of the system by what the user can do about it.
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            io::ErrorKind::PermissionDenied => Self::Permission { path, source },
            io::ErrorKind::FileTooLarge => Self::FileTooLarge { path, source },
            _ => Self::Io { op, path, source },
        }
    }

    /// As [`Self::io`], for paths inside the cache directory: there, absence means that somebody deleted them.
    pub(crate) fn inside(op: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), source.into());
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle => Self::Vanished { path },
            _ => Self::io(op, path, source),
        }
    }

    /// Whether the user can mend it outside this program (free space, mount, rights, the directory, the other
    /// process), after which the same call works: pause and show it, do not give up.
    pub const fn is_mendable(&self) -> bool {
        matches!(
            self,
            Self::DiskFull { .. }
                | Self::ReadOnly { .. }
                | Self::Permission { .. }
                | Self::FileTooLarge { .. }
                | Self::Vanished { .. }
                | Self::Locked { .. }
                | Self::NotOurs { .. }
                | Self::NotPrivate { .. }
                | Self::NoParent { .. }
                | Self::VolumeTooSmall { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_what_the_user_can_mend() {
        let sorted = |errno: rustix::io::Errno| StoreError::inside("write", "/x", io::Error::from(errno));
        use rustix::io::Errno;
        assert!(matches!(sorted(Errno::NOSPC), StoreError::DiskFull { .. }));
        assert!(matches!(sorted(Errno::DQUOT), StoreError::DiskFull { .. }));
        assert!(matches!(sorted(Errno::ROFS), StoreError::ReadOnly { .. }));
        assert!(matches!(sorted(Errno::ACCESS), StoreError::Permission { .. }));
        assert!(matches!(sorted(Errno::PERM), StoreError::Permission { .. }));
        assert!(matches!(sorted(Errno::FBIG), StoreError::FileTooLarge { .. }));
        assert!(matches!(sorted(Errno::NOENT), StoreError::Vanished { .. }));
        assert!(!sorted(Errno::IO).is_mendable() && sorted(Errno::NOSPC).is_mendable());
        let locked = StoreError::Locked { dir: "/c".into(), pid: Some(7) };
        assert_eq!(locked.to_string(), "cache directory /c is in use by process 7");
    }
}
