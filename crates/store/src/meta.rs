//! What is remembered of one content beside its pieces: `meta.json`, and the stamp of its sealed data.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// Free-form notes of the store's user, such as the source URL and the signed record.
pub type Notes = BTreeMap<String, String>;

/// Largest sum of keys and values of [`Notes`], in bytes. A signed record is a few KiB.
pub const MAX_NOTES_LEN: usize = 256 << 10;

/// Name of the file.
pub(crate) const META: &str = "meta.json";

/// Size and modification time of data that was synced and will not be written again. Whoever changes the file
/// changes them too. The change time would say more, but every hard link made or removed moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    size: u64,
    mtime: i64,
    mtime_ns: i64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), mtime: metadata.mtime(), mtime_ns: metadata.mtime_nsec() }
    }
}

/// The state file of one content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) size: u64,
    pub(crate) created: u64,
    pub(crate) last_used: u64,
    pub(crate) last_completed: Option<u64>,
    pub(crate) expire_on: Option<u64>,
    pub(crate) pinned: bool,
    /// Set while all pieces are verified and synced.
    pub(crate) sealed: Option<Stamp>,
    pub(crate) notes: Notes,
}

impl Meta {
    pub(crate) const fn new(size: u64, now: u64) -> Self {
        Self {
            size,
            created: now,
            last_used: now,
            last_completed: None,
            expire_on: None,
            pinned: false,
            sealed: None,
            notes: Notes::new(),
        }
    }
}

/// Notes small enough to be kept.
pub(crate) fn check_notes(notes: &Notes) -> Result<(), StoreError> {
    let found = notes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if found > MAX_NOTES_LEN {
        return Err(StoreError::NotesTooLarge { found, limit: MAX_NOTES_LEN });
    }
    Ok(())
}
