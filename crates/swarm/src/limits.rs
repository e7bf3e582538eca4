//! What policy lets a transfer do, as plain values. May change while it runs.

use std::time::Duration;

/// Limits of one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Peers connected at once (`max_peer_connections`).
    pub max_peers: usize,
    /// Whether bytes may come from peers.
    pub download_from_peers: bool,
    /// Whether bytes may go to peers.
    pub upload_to_peers: bool,
    /// Hold the origin back for this long (`delay_…_from_http`). Ends early when nobody else is known.
    pub origin_delay: Duration,
    /// Hold it back for this long after that, in favour of caches (`delay_cache_server_fallback_…`).
    pub cache_delay: Duration,
    /// Below this many bytes a second, HTTP tops up although peers have the pieces (`min_background_qos`).
    pub min_rate: u64,
    /// Background transfers are content with `min_rate`; foreground ones want whatever the origin can give.
    pub foreground: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_peers: 50,
            download_from_peers: true,
            upload_to_peers: true,
            origin_delay: Duration::ZERO,
            cache_delay: Duration::ZERO,
            min_rate: 2_500_000,
            foreground: false,
        }
    }
}
