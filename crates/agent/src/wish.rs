//! What a caller knows of the file it asks for, and must not be given another one for.
//!
//! Callers share a download, not their wishes: one that expects something else is told so and leaves, the others stay.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};

use peerage_api::agent::DownloadRequest;
use peerage_api::{ApiError, Code};
use peerage_content::{ContentId, Digest, Digester, Sha256};

/// The hashes that a caller expects; none: whatever the source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    id: Option<ContentId>,
    sha256: Option<Sha256>,
}

/// What a file is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: ContentId,
    pub(crate) sha256: Sha256,
}

impl Wish {
    pub(crate) const fn of(request: &DownloadRequest) -> Self {
        Self { id: request.id, sha256: request.sha256 }
    }

    /// Whether anything will do.
    pub(crate) const fn is_none(&self) -> bool {
        self.id.is_none() && self.sha256.is_none()
    }

    /// Whether it names the file's SHA-256.
    pub(crate) const fn names_sha256(&self) -> bool {
        self.sha256.is_some()
    }

    /// # Errors
    /// The file is another one.
    pub(crate) fn check(&self, found: &Found) -> Result<(), ApiError> {
        self.check_id(found.id)?;
        match self.sha256.filter(|wish| *wish != found.sha256) {
            None => Ok(()),
            Some(wish) => Err(wrong("SHA-256", &found.sha256, &wish)),
        }
    }

    /// # Errors
    /// The file is another one.
    pub(crate) fn check_id(&self, found: ContentId) -> Result<(), ApiError> {
        match self.id.filter(|wish| *wish != found) {
            None => Ok(()),
            Some(wish) => Err(wrong("content id", &found, &wish)),
        }
    }
}

fn wrong(what: &str, found: &dyn Display, wish: &dyn Display) -> ApiError {
    ApiError::new(Code::Integrity, format!("the file has {what} {found}, asked for was {wish}"))
}

impl Found {
    /// Reads a file to its end. Blocking.
    pub(crate) fn read(mut file: &File) -> io::Result<Self> {
        let mut digester = Digester::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => digester.update(&buffer[..n]),
            }
        }
        let Digest { id, sha256, .. } = digester.finish().map_err(io::Error::other)?;
        Ok(Self { id, sha256 })
    }
}
