//! The fleet's site key: handed to enrolled devices, replaced when one of them is revoked.
//!
//! Devices get the present key with their enrolment and with each session, so a new one has reached all that are in touch
//! within a session's life. Whoever was revoked keeps the old one, which then opens no door.
//!
//! What survives a crash: the key in its file; a new one is written before it is handed out.

use std::io;
use std::path::PathBuf;

use parking_lot::RwLock;
use peerage_content::{Sha256, SiteKey};

use crate::data_dir::{DataDir, replace};
use crate::identity::SITE_KEY;
use crate::random;

/// The present key.
#[derive(Debug)]
pub(crate) struct Site {
    path: PathBuf,
    key: RwLock<SiteKey>,
}

impl Site {
    pub(crate) fn new(dir: &DataDir, key: SiteKey) -> Self {
        Self { path: dir.path(SITE_KEY), key: RwLock::new(key) }
    }

    /// The present key.
    pub(crate) fn key(&self) -> SiteKey {
        self.key.read().clone()
    }

    /// Makes a new key. Blocking.
    ///
    /// # Errors
    /// There is no randomness, or the key cannot be written: then the old one stays in force.
    pub(crate) fn renew(&self) -> io::Result<()> {
        let secret = random::bytes::<32>().map_err(io::Error::other)?;
        let mut key = self.key.write();
        replace(&self.path, format!("{}\n", Sha256::from_bytes(secret)).as_bytes())?;
        *key = SiteKey::from_bytes(secret);
        Ok(())
    }
}
