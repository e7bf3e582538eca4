//! What the rest of the agent sees of a content.

use std::net::SocketAddr;
use std::sync::Arc;

use peerage_api::why::Because;
use peerage_content::PeerId;
use peerage_origin::{ErrorKind, OriginError};
use peerage_policy::CacheHost;
use peerage_store::StoreError;
use peerage_swarm::{ByKind, SourceKind};

use crate::shared::Share;
use crate::why::Account;

/// Why a download does not get on. It goes on by itself when the trouble is over.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// The disk is full, read-only or gone.
    Disk(Arc<StoreError>),
    /// The last HTTP range failed.
    Origin(OriginError),
    /// The last HTTP range failed at a connected cache.
    Cache {
        /// Which.
        host: CacheHost,
        /// Why.
        error: OriginError,
    },
    /// Pieces from a connected cache do not match the record.
    CacheCorrupt {
        /// Which.
        host: CacheHost,
    },
    /// Pieces from the origin do not match the record.
    OriginCorrupt,
}

impl Trouble {
    /// Why the origin does not serve what the record says, if that is the trouble. It stays so whatever else goes well.
    pub(crate) fn proves_stale(&self) -> Option<String> {
        match self {
            Self::Origin(error) if error.kind() == ErrorKind::Stale => Some(error.failure.to_string()),
            Self::OriginCorrupt => Some("its bytes are not those of the record".to_owned()),
            Self::Origin(_) | Self::Disk(_) | Self::Cache { .. } | Self::CacheCorrupt { .. } => None,
        }
    }
}

/// One row of the peers of a content.
#[derive(Debug, Clone)]
pub(crate) struct PeerRow {
    pub(crate) peer: PeerId,
    pub(crate) address: SocketAddr,
    pub(crate) kind: SourceKind,
    pub(crate) connected: bool,
    /// Through the relay, whose address it is then.
    pub(crate) relayed: bool,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) down_rate: u64,
    pub(crate) up_rate: u64,
    pub(crate) note: Option<String>,
}

/// What came from and went to a peer over connections that have ended, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parted {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// A moment of a content.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContentStatus {
    /// The downloads that it counts ([`super::Want::id`]).
    pub(crate) wants: Vec<u64>,
    pub(crate) complete: bool,
    pub(crate) verified_bytes: u64,
    /// Bytes received by kind of source, over restarts.
    pub(crate) received: ByKind,
    pub(crate) sent: ByKind,
    pub(crate) wasted: u64,
    pub(crate) down_rate: u64,
    pub(crate) up_rate: u64,
    pub(crate) known_peers: u32,
    /// Whether somebody else than the origin may have it: a peer is known, or a cache may be asked.
    pub(crate) others: bool,
    /// To the origin.
    pub(crate) http_connections: u32,
    pub(crate) cache_connections: u32,
    /// The cache that is asked now.
    pub(crate) cache_host: Option<String>,
    pub(crate) peers: Vec<PeerRow>,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) share: Share,
    /// Policy holds the download back for now.
    pub(crate) held: bool,
    /// Why it may and may not do what it does now.
    pub(crate) reasons: Vec<Because>,
    /// Which decisions held while its bytes came.
    pub(crate) account: Arc<Account>,
}
