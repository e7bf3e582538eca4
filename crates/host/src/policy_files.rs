//! The policy files of the device: `policy.toml`, then `policy.d/*.toml` in the order of their names, later ones over
//! earlier ones.
//!
//! They are polled, not watched: a poll costs one `stat` per file, works on every file system and cannot lose an event.
//! Files are read only when their stamps changed. A write within the clock tick of the last reading leaves the stamp as it
//! was, so after a change the files are read again at the next polls too. Nothing is kept on disk.
//!
//! One bad file refuses the whole layer; the caller keeps the last good one.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use peerage_policy::{Layer, MAX_POLICY_TEXT, PolicyErrors, parse_layer};
use rustix::fs::{FileType, Stat, fstat, stat};
use rustix::io::Errno;

use crate::small_file::{errno, open_file, read_at_most};

/// The most files that `policy.d` may have.
pub const MAX_POLICY_FILES: usize = 64;

/// Polls after a change at which the files are read although their stamps stay. File systems' clocks tick within 2 s
/// (FAT), and polls are a second apart.
const SETTLING_POLLS: u8 = 3;

/// What is wrong with one policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFileError {
    /// `policy.d` cannot be listed.
    #[error("cannot list {}: {errno}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// More files than allowed.
    #[error("{}: {found} policy files, allowed are {MAX_POLICY_FILES}", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {errno}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// A directory, FIFO, device or socket.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Anybody may write it, so it is nobody's policy.
    #[error("{}: mode {mode:04o} lets everyone write it, allowed is at most 0775", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than allowed.
    #[error("{}: more than {MAX_POLICY_TEXT} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("{}: not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Not a policy.
    #[error("{0}")]
    Policy(PolicyErrors),
}

/// Everything that is wrong with the policy files; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFilesError(pub Vec<PolicyFileError>);

impl std::error::Error for PolicyFilesError {}

impl fmt::Display for PolicyFilesError {
    /// One line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

/// What changes when a file is written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    // Set by the kernel alone: catches a write after which the modification time was put back.
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, Errno> {
        let found: Stat = stat(path)?;
        Ok(Self {
            device: found.st_dev,
            inode: found.st_ino,
            size: found.st_size,
            modified: (found.st_mtime, found.st_mtime_nsec as i64),
            changed: (found.st_ctime, found.st_ctime_nsec as i64),
        })
    }
}

/// The policy files of one configuration directory.
#[derive(Debug)]
pub struct PolicyFiles {
    main: PathBuf,
    directory: PathBuf,
    stamps: Option<Vec<(PathBuf, Result<Stamp, Errno>)>>,
    settling: u8,
    told: Option<Result<Layer, PolicyFilesError>>,
}

impl PolicyFiles {
    /// Those of `configuration` (`/etc/peerage`): `policy.toml` and `policy.d`. Neither need exist.
    pub fn new(configuration: &Path) -> Self {
        let (main, directory) = (configuration.join("policy.toml"), configuration.join("policy.d"));
        Self { main, directory, stamps: None, settling: 0, told: None }
    }

    /// Reads the files if they changed. `None`: they say what they said at the last call; the first call always tells.
    /// Meant to be called once a second; blocks only for the file system.
    pub fn poll(&mut self) -> Option<Result<Layer, PolicyFilesError>> {
        let listed = list(&self.directory);
        let below = listed.as_ref().map_or(&[][..], Vec::as_slice);
        // Stamps are taken before the reading: a write in between shows at the next poll.
        let paths = std::iter::once(&self.main).chain(below);
        let stamps: Vec<_> = paths.map(|path| (path.clone(), Stamp::of(path))).collect();
        if self.stamps.as_ref() != Some(&stamps) {
            self.settling = SETTLING_POLLS;
        } else if self.settling > 0 {
            self.settling -= 1;
        } else if listed.is_ok() {
            return None;
        }
        let read = self.read(listed);
        self.stamps = Some(stamps);
        if self.told.as_ref() == Some(&read) {
            return None;
        }
        self.told = Some(read.clone());
        Some(read)
    }

    fn read(&self, listed: Result<Vec<PathBuf>, PolicyFileError>) -> Result<Layer, PolicyFilesError> {
        let mut layer = Layer::default();
        let mut errors = Vec::new();
        match read_file(&self.main) {
            Ok(main) => layer.overlay(main),
            Err(PolicyFileError::Read { errno: Errno::NOENT, .. }) => {}
            Err(error) => errors.push(error),
        }
        for path in listed.unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        }) {
            match read_file(&path) {
                Ok(later) => layer.overlay(later),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(layer) } else { Err(PolicyFilesError(errors)) }
    }
}

/// The policy files of `policy.d`, by name. Hidden files and other suffixes are editors' and package managers' leftovers.
fn list(directory: &Path) -> Result<Vec<PathBuf>, PolicyFileError> {
    let error = |error: &io::Error| PolicyFileError::List { path: directory.to_owned(), errno: errno(error) };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(other) => return Err(error(&other)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|other| error(&other))?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_bytes().starts_with(b"."));
        if !hidden && path.extension() == Some(OsStr::new("toml")) {
            paths.push(path);
        }
    }
    if paths.len() > MAX_POLICY_FILES {
        return Err(PolicyFileError::TooMany { path: directory.to_owned(), found: paths.len() });
    }
    paths.sort();
    Ok(paths)
}

/// Reads one file. Symbolic links are followed (configuration managers and Kubernetes place files by them), but what they
/// lead to must be a regular file: the opened file itself is judged, so it cannot be swapped in between.
fn read_file(path: &Path) -> Result<Layer, PolicyFileError> {
    let own = || path.to_owned();
    let unreadable = |errno| PolicyFileError::Read { path: path.to_owned(), errno };
    let file = open_file(path).map_err(unreadable)?;
    let found = fstat(&file).map_err(unreadable)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(PolicyFileError::NotAFile { path: own() });
    }
    if found.st_mode & 0o002 != 0 {
        return Err(PolicyFileError::Writable { path: own(), mode: found.st_mode & 0o7777 });
    }
    // One byte more than allowed tells a file that is too large, whatever its size was a moment ago.
    let bytes = read_at_most(&file, MAX_POLICY_TEXT + 1).map_err(unreadable)?;
    if bytes.len() > MAX_POLICY_TEXT {
        return Err(PolicyFileError::TooLarge { path: own() });
    }
    let text = String::from_utf8(bytes).map_err(|_| PolicyFileError::NotText { path: own() })?;
    parse_layer(&path.display().to_string(), &text).map_err(PolicyFileError::Policy)
}

#[cfg(test)]
mod tests;
