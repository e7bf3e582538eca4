//! From the state of a content to the rows that `peerage status` shows (DO reference §4.1).

use std::time::Duration;

use peerage_api::agent::{FileState, FileStatus, PeerStatus, PeerType, Priority};
use peerage_api::why::Because;
use peerage_api::{ApiError, Code};
use peerage_content::ContentId;
use peerage_origin::{Failure, OriginError};
use peerage_policy::CacheHost;
use peerage_store::ContentInfo;
use peerage_swarm::{ByKind, SourceKind};

use crate::caches::Rest;
use crate::content::{ContentStatus, Trouble};
use crate::shared::Share;

/// The row of a content whose actor runs.
pub(crate) fn of_content(
    id: ContentId,
    info: &ContentInfo,
    status: &ContentStatus,
    peers: bool,
) -> FileStatus {
    let mut row = FileStatus {
        file_id: id.to_string(),
        file_size: info.size,
        file_size_in_cache: status.verified_bytes,
        status: match (status.complete, status.share.any()) {
            (false, _) if status.held => FileState::Paused,
            (false, _) if matches!(status.trouble, Some(Trouble::Disk(_))) => FileState::Paused,
            (false, _) => FileState::Downloading,
            (true, true) => FileState::Caching,
            (true, false) => FileState::Complete,
        },
        http_connection_count: status.http_connections,
        cache_server_connection_count: status.cache_connections,
        cache_host: status.cache_host.clone().unwrap_or_default(),
        num_peers: status.known_peers,
        wasted_bytes: status.wasted,
        download_rate: status.down_rate,
        upload_rate: status.up_rate,
        expire_on: info.expire_on,
        is_pinned: info.pinned,
        reasons: status.reasons.iter().map(Because::line).collect(),
        ..FileStatus::default()
    };
    if let Some(trouble) = &status.trouble {
        row.reasons.push(sentence(trouble));
    }
    add_received(&mut row, &status.received);
    row.bytes_to_lan_peers = status.sent.lan;
    row.bytes_to_link_local_peers = status.sent.link_local;
    row.bytes_to_group_peers = status.sent.group;
    row.bytes_to_internet_peers = status.sent.internet;
    for peer in status.peers.iter().filter(|peer| peer.connected) {
        row.connected_peers += 1;
        match peer.kind {
            SourceKind::Lan => row.lan_connection_count += 1,
            SourceKind::LinkLocal => row.link_local_connection_count += 1,
            SourceKind::Group => row.group_connection_count += 1,
            SourceKind::Internet => row.internet_connection_count += 1,
            SourceKind::Cdn | SourceKind::CacheServer => {}
        }
    }
    if peers {
        row.peers = status.peers.iter().map(peer_row).collect();
        row.peers.sort_by_key(|peer| std::cmp::Reverse(peer.bytes_received));
    }
    row
}

/// The row of a cached content whose actor does not run.
pub(crate) fn of_cached(info: &ContentInfo, counters: &(ByKind, ByKind, u64), share: Share) -> FileStatus {
    let status = ContentStatus {
        complete: info.complete,
        verified_bytes: info.verified,
        received: counters.0,
        sent: counters.1,
        wasted: counters.2,
        share,
        ..ContentStatus::default()
    };
    let mut row = of_content(info.id, info, &status, false);
    if !info.complete {
        row.status = FileState::Paused;
    }
    row
}

/// What had come for a file by some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Useful or not.
    pub(crate) received: ByKind,
    pub(crate) wasted: u64,
}

impl Counts {
    /// What a row says.
    pub(crate) const fn of(row: &FileStatus) -> Self {
        let received = ByKind {
            link_local: row.bytes_from_link_local_peers,
            lan: row.bytes_from_lan_peers,
            group: row.bytes_from_group_peers,
            internet: row.bytes_from_internet_peers,
            cache_server: row.bytes_from_cache_server,
            cdn: row.bytes_from_cdn,
        };
        Self { received, wasted: row.wasted_bytes }
    }

    /// The row as it would be if nothing had come before this.
    pub(crate) fn since(&self, row: &FileStatus) -> FileStatus {
        let mut later = row.clone();
        add_received(&mut later, &Self::of(row).received.since(&self.received));
        later.wasted_bytes = row.wasted_bytes.saturating_sub(self.wasted);
        later
    }
}

/// Fills in the counters of received bytes and what follows from them (product §7).
pub(crate) fn add_received(row: &mut FileStatus, received: &ByKind) {
    row.bytes_from_cdn = received.cdn;
    row.bytes_from_cache_server = received.cache_server;
    row.bytes_from_lan_peers = received.lan;
    row.bytes_from_link_local_peers = received.link_local;
    row.bytes_from_group_peers = received.group;
    row.bytes_from_internet_peers = received.internet;
    row.bytes_from_peers = received.peers();
    row.bytes_from_http = received.http();
    row.total_bytes_downloaded = received.total();
    row.percent_peer_caching = percent(received.peers(), received.total());
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// A download has waited `limit` in vain; `why` is a sentence, or empty.
pub(crate) fn no_progress(limit: Duration, why: &str) -> ApiError {
    let message = format!("no progress for {} s. {why}", limit.as_secs());
    ApiError::new(Code::NoProgress, message.trim_end())
}

/// The priority of a download.
pub(crate) const fn priority(foreground: bool) -> Priority {
    if foreground { Priority::Foreground } else { Priority::Background }
}

fn peer_row(peer: &crate::content::status::PeerRow) -> PeerStatus {
    PeerStatus {
        ip: peer.address,
        peer_id: peer.peer,
        peer_type: match peer.kind {
            SourceKind::Lan => PeerType::Lan,
            SourceKind::LinkLocal => PeerType::LinkLocal,
            SourceKind::Group => PeerType::Group,
            SourceKind::Internet => PeerType::Internet,
            SourceKind::CacheServer => PeerType::CacheServer,
            SourceKind::Cdn => PeerType::Cdn,
        },
        connection_established: peer.connected,
        relayed: peer.relayed,
        bytes_sent: peer.sent,
        bytes_received: peer.received,
        upload_rate_bytes: peer.up_rate,
        download_rate_bytes: peer.down_rate,
        note: peer.note.clone(),
    }
}

/// A trouble in a sentence.
pub(crate) fn sentence(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Disk(error) => {
            format!("Paused: {}. It goes on by itself when that is mended.", chain(error.as_ref()))
        }
        Trouble::Origin(error) => format!("The last request to the origin failed: {error}."),
        Trouble::Cache { host, error } => cache_failed(host, error),
        Trouble::CacheCorrupt { host } => format!(
            "{host}, a connected cache, sent wrong bytes: they were thrown away, and it is left alone for 5 min."
        ),
        Trouble::OriginCorrupt => {
            "Bytes from the origin do not match the signed record; they were thrown away.".to_owned()
        }
    }
}

/// A connected cache failed, in a sentence.
pub(crate) fn cache_failed(host: &CacheHost, error: &OriginError) -> String {
    let what = cache_did(&error.failure);
    format!(
        "{host}, a connected cache, failed: {what}. It is left alone for 5 min, unless the origin waits for it."
    )
}

/// A connected cache is left alone because it failed before.
pub(crate) fn cache_rests(host: &CacheHost, rest: &Rest) -> String {
    format!(
        "{host}, a connected cache, was left alone for {} s more, unless the origin waited for it: it failed before ({}).",
        rest.left.as_secs(),
        rest.why
    )
}

/// What a cache did wrong.
pub(crate) fn cache_did(failure: &Failure) -> String {
    match failure {
        Failure::Busy { status, .. }
        | Failure::Gone { status }
        | Failure::Denied { status }
        | Failure::Status { status } => format!("it answers {status}"),
        Failure::Redirects { .. } => "it redirects elsewhere".to_owned(),
        Failure::NoRanges => "it ignores ranges".to_owned(),
        Failure::Changed { what, found, known } => {
            format!("its copy is not the origin's file: {what} is {found:?}, at the origin {known:?}")
        }
        failure => failure.to_string(),
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_is_not_counted() {
        let mut row = FileStatus { wasted_bytes: 7, file_size: 100, ..FileStatus::default() };
        add_received(&mut row, &ByKind { lan: 30, cdn: 10, ..ByKind::default() });
        let earlier = Counts::of(&row);
        assert_eq!(earlier, Counts { received: ByKind { lan: 30, cdn: 10, ..ByKind::default() }, wasted: 7 });
        add_received(&mut row, &ByKind { lan: 60, cdn: 20, cache_server: 10, ..ByKind::default() });
        row.wasted_bytes = 8;
        let later = earlier.since(&row);
        assert_eq!((later.bytes_from_lan_peers, later.bytes_from_http, later.wasted_bytes), (30, 20, 1));
        assert_eq!((later.total_bytes_downloaded, later.file_size), (50, 100));
        assert!((later.percent_peer_caching - 60.0).abs() < 1e-9, "{later:?}");
        // Counters of a content that was evicted and came again begin anew.
        assert_eq!(Counts::of(&row).since(&later).total_bytes_downloaded, 0);
    }
}
