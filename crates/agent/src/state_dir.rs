//! The agent's state directory: the device's key, its enrolment, what was set here and by the fleet. Private to the daemon's user.
//!
//! Files are written to a temporary name and renamed, so a power cut leaves the old or the new one.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use peerage_content::{PublicKey, SecretKey, Sha256, SiteKey};
use serde::{Deserialize, Serialize};

/// State cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{op} {path}")]
pub struct StateError {
    /// What was tried.
    pub op: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// What enrolment left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enrolment {
    pub(crate) coordinator: String,
    pub(crate) tls_pin: Sha256,
    pub(crate) catalog_keys: Vec<PublicKey>,
    /// The secret by which neighbours of the fleet are known.
    #[serde(default)]
    pub(crate) site_key: Option<SiteKey>,
}

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Opens the directory, made if needed.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(failed("could not make", path))?;
        Ok(Self(path.to_owned()))
    }

    /// The device's key, made at the first start.
    pub(crate) fn device_key(&self) -> Result<SecretKey, StateError> {
        let path = self.0.join("device.key");
        match std::fs::read(&path) {
            Ok(bytes) => {
                let seed: [u8; 32] = bytes.try_into().map_err(|_| {
                    let wrong = io::Error::new(io::ErrorKind::InvalidData, "not 32 bytes");
                    failed("could not use", &path)(wrong)
                })?;
                Ok(SecretKey::from_seed(&seed))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed)
                    .map_err(|e| failed("no randomness for", &path)(io::Error::other(e)))?;
                self.write("device.key", &seed)?;
                Ok(SecretKey::from_seed(&seed))
            }
            Err(error) => Err(failed("could not read", &path)(error)),
        }
    }

    /// The enrolment, if there is one.
    pub(crate) fn enrolment(&self) -> Result<Option<Enrolment>, StateError> {
        let path = self.0.join("enrolment.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                let read = serde_json::from_slice(&bytes);
                read.map(Some).map_err(|error| failed("could not use", &path)(error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("could not read", &path)(error)),
        }
    }

    /// Keeps an enrolment.
    pub(crate) fn set_enrolment(&self, enrolment: &Enrolment) -> Result<(), StateError> {
        let bytes = serde_json::to_vec_pretty(enrolment)
            .map_err(|error| failed("could not write", &self.0.join("enrolment.json"))(error.into()))?;
        self.write("enrolment.json", &bytes)
    }

    /// Where a file of the daemon's own is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Removes a file; it need not be there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("could not remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Reads a small file of the daemon's own; `None` when it is not there or unreadable.
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(name)).ok()
    }

    /// Writes a file whole.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.0.join(name);
        let temporary = self.0.join(format!(".{name}.new"));
        let written = (|| {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            // Else a power cut could bring an older policy back.
            std::fs::File::open(&self.0)?.sync_all()
        })();
        written.map_err(failed("could not write", &path))
    }
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError { op, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("a/b")).unwrap();
        let key = state.device_key().unwrap().public();
        assert_eq!(state.device_key().unwrap().public(), key);
        assert_eq!(state.enrolment().unwrap(), None);
        let enrolment = Enrolment {
            coordinator: "https://c".into(),
            tls_pin: Sha256::from_bytes([1; 32]),
            catalog_keys: vec![key],
            site_key: Some(SiteKey::from_bytes([7; 32])),
        };
        state.set_enrolment(&enrolment).unwrap();
        assert_eq!(state.enrolment().unwrap(), Some(enrolment));
        state.write("device.key", b"short").unwrap();
        assert!(state.device_key().is_err());
        state.write("enrolment.json", b"{").unwrap();
        assert!(state.enrolment().is_err());
    }
}
