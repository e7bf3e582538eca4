//! Which fact could not be read, and why.

use std::path::PathBuf;

use rustix::io::Errno;

/// A fact about the device that is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// A file of `/proc` or `/sys` cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// A file of `/proc` or `/sys` says something else than it should.
    #[error("{}: found {found:?}, expected {expected}", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
        /// What was found, shortened to 80 characters.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The size of a volume cannot be had.
    #[error("cannot get the size of the volume of {}", path.display())]
    Volume {
        /// The directory on it.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The network interfaces cannot be listed.
    #[error("cannot list the network interfaces: {reason}")]
    Interfaces {
        /// Why.
        reason: String,
    },
}
