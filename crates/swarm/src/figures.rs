//! The figures of a transfer and of its connected peers, for whoever shows or reports them. Nothing is decided by them here.

use peerage_content::PeerId;

use crate::http::Http;
use crate::{ByKind, SourceId, SourceKind, Time, Transfer};

/// Figures of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes received and stored, by kind of source.
    pub received: ByKind,
    /// Bytes sent, by kind of peer.
    pub sent: ByKind,
    /// Bytes received for nothing: wrong, or had already.
    pub wasted: u64,
    /// Bytes a second received now.
    pub down_rate: u64,
    /// Bytes a second sent now.
    pub up_rate: u64,
    /// Peers known.
    pub known_peers: u32,
}

/// Figures of one connected peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStats {
    /// The source.
    pub source: SourceId,
    /// Its key.
    pub peer: PeerId,
    /// Its kind.
    pub kind: SourceKind,
    /// Bytes received from it.
    pub received: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes a second from it.
    pub down_rate: u64,
    /// Bytes a second to it.
    pub up_rate: u64,
    /// Whether it answers our requests.
    pub unchoked: bool,
}

impl Transfer {
    /// The figures.
    pub fn stats(&self, now: Time) -> Stats {
        Stats {
            down_rate: self.from_all.rate(now),
            up_rate: self.to_all.rate(now),
            known_peers: self.dialer.known() as u32,
            ..self.stats
        }
    }

    /// The figures of the connected peers.
    pub fn peer_stats(&self, now: Time) -> impl Iterator<Item = PeerStats> + '_ {
        self.peers.iter().map(move |(source, peer)| PeerStats {
            source: *source,
            peer: peer.id,
            kind: peer.kind,
            received: peer.down.total(),
            sent: peer.up.total(),
            down_rate: peer.down.rate(now),
            up_rate: peer.up.rate(now),
            unchoked: !peer.choking_us,
        })
    }

    /// The best rate that an HTTP source of `kind` has shown here, in bytes a second.
    pub fn http_rate(&self, kind: SourceKind) -> Option<u64> {
        self.https.values().filter(|http| http.kind == kind).filter_map(Http::best_rate).max()
    }
}
