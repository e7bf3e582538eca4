//! What the cache really takes, and what its volume has.

use crate::error::StoreError;
use crate::info::ContentInfo;
use crate::store::Store;

/// Bytes, as the file system counts them (sparse files take what was written).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Contents that are not pinned.
    pub content_bytes: u64,
    /// Pinned contents.
    pub pinned_bytes: u64,
    /// Staging areas.
    pub staging_bytes: u64,
    /// What of all this is not in the home directory yet, and so takes nothing of its volume.
    pub away_bytes: u64,
    /// Size of the volume.
    pub volume_total: u64,
    /// What this user can still write to the volume.
    pub volume_free: u64,
}

impl Usage {
    /// All that the cache takes.
    pub const fn cache_bytes(&self) -> u64 {
        self.content_bytes + self.pinned_bytes + self.staging_bytes
    }
}

/// What bounds a single file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Size of the volume.
    pub volume_total: u64,
    /// Pinned contents: nothing makes them go.
    pub pinned_bytes: u64,
}

impl Store {
    /// What a file could have if all that may go went. Looks at no content but the pinned ones: every download asks.
    ///
    /// # Errors
    /// The volume cannot be asked.
    pub fn reach(&self) -> Result<Reach, StoreError> {
        let root = self.root();
        let volume = root.dir().volume().map_err(|error| StoreError::inside("read", root.path(), error))?;
        let pinned = self.items().into_iter().filter(|item| item.meta.lock().pinned);
        let pinned_bytes = pinned.map(|item| item.allocated().0).sum();
        Ok(Reach { volume_total: volume.f_blocks.saturating_mul(volume.f_frsize), pinned_bytes })
    }

    /// Adds up what the cache takes.
    ///
    /// # Errors
    /// The volume cannot be asked.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let root = self.root();
        let volume = root.dir().volume().map_err(|error| StoreError::inside("read", root.path(), error))?;
        let sum = |contents: &[ContentInfo], pinned| {
            contents.iter().filter(|content| content.pinned == pinned).map(|content| content.allocated).sum()
        };
        let contents = self.contents();
        Ok(Usage {
            content_bytes: sum(&contents, false),
            pinned_bytes: sum(&contents, true),
            staging_bytes: self.staged().iter().map(|staging| staging.allocated).sum(),
            away_bytes: self.away_bytes(),
            volume_total: volume.f_blocks.saturating_mul(volume.f_frsize),
            volume_free: volume.f_bavail.saturating_mul(volume.f_frsize),
        })
    }
}
