//! Within which limits: rates, delays, places, and the size of the cache.

use crate::choice::PeerEncryption;

use super::Class;

/// The most that the cache may hold, to be worked out anew as the volume fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheLimit {
    /// No limit of its own; low disk space still evicts.
    None,
    /// This many bytes.
    Bytes(u64),
    /// This percentage of the volume's free bytes and the cache's own.
    Percent(u64),
}

impl CacheLimit {
    /// The limit in bytes, for `free` bytes on the volume and `own` bytes in the cache; `None`: no limit.
    pub fn bytes(self, free: u64, own: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Percent(percent) => {
                let share = (u128::from(free) + u128::from(own)) * u128::from(percent.min(100)) / 100;
                Some(u64::try_from(share).unwrap_or(u64::MAX))
            }
        }
    }
}

/// Within which limits. Rates are in bytes per second; `None`: no limit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All foreground downloads together.
    pub foreground_download: Option<u64>,
    /// All background downloads together.
    pub background_download: Option<u64>,
    /// All foreground downloads together, in percent of the downlink; peers of the LAN are exempt.
    pub foreground_percent: Option<u64>,
    /// All background downloads together, likewise.
    pub background_percent: Option<u64>,
    /// All uploads together.
    pub upload: Option<u64>,
    /// Files served at once; `None`: all.
    pub upload_slots: Option<u64>,
    /// For how many seconds the origin is held back from this content; 0 unless peers may be fetched from.
    pub origin_delay: u64,
    /// For how many seconds after that it is held back in favour of connected caches; 0 unless there are any.
    pub cache_delay: u64,
    /// Peers connected at once.
    pub peer_connections: u64,
    /// Whether connections between peers must be encrypted.
    pub peer_encryption: PeerEncryption,
    /// For how many seconds a completed content is kept; `None`: until space is needed.
    pub cache_age: Option<u64>,
    /// The most that the cache may hold.
    pub cache_size: CacheLimit,
}

impl Limits {
    /// The limit of a class of downloads.
    pub const fn download(&self, class: Class) -> Option<u64> {
        match class {
            Class::Foreground => self.foreground_download,
            Class::Background => self.background_download,
        }
    }

    /// The limit of a class of downloads in percent of the downlink.
    pub const fn downlink_percent(&self, class: Class) -> Option<u64> {
        match class {
            Class::Foreground => self.foreground_percent,
            Class::Background => self.background_percent,
        }
    }
}
