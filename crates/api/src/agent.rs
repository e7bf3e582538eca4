//! The agent's local API, version 1, over its unix socket. All bodies are JSON unless said otherwise.
//!
//! | request | does |
//! |---|---|
//! | `POST /v1/downloads` | [`DownloadRequest`] → a stream of [`DownloadEvent`]s, one JSON object a line, until the end. The caller is the connection: when it closes and no other caller wants the file, the download is cancelled |
//! | `GET /v1/status` | list of [`FileStatus`]; `?file_id=` for one, `&peers=true` with [`PeerStatus`] |
//! | `GET /v1/why?file=` | [`Why`](crate::why::Why): by content id or its beginning, or by URL |
//! | `GET /v1/files` | list of [`CachedFile`] |
//! | `POST /v1/files/{id}/{pin,unpin,verify}`, `POST /v1/files/{id}/expire` ([`ExpireRequest`]), `DELETE /v1/files/{id}?force=` | the local cache |
//! | `GET /v1/config` | `Facts` of the device, `Settings`: each with its layers (`peerage_policy::Row` as JSON), `DoConfig`: DO's names, `Fleet` ([`FleetState`]), errors |
//! | `PUT /v1/settings/{name}` ([`SetRequest`]), `DELETE /v1/settings/{name}` | the administrator's layer → the setting as in `Settings` |
//! | `POST /v1/policy/diff` | [`DiffRequest`] → list of `peerage_policy::Difference` as JSON |
//! | `POST /v1/enroll` | [`EnrollRequest`] |
//! | `GET /v1/health` | [`Health`] |
//! | `GET /v1/doctor` | [`Checkup`](crate::doctor::Checkup) |
//!
//! # Delivery
//!
//! The agent never writes to a path that a caller names. [`DownloadEvent::Done`] carries a one-time `delivery` word;
//! the caller connects to the socket `<agent.sock>.files`, sends the word and a newline, and receives an open read-only
//! file descriptor of the verified file (SCM_RIGHTS). It then links or copies with its own rights.

use std::net::SocketAddr;

use peerage_content::{ContentId, PeerId, Sha256};
use serde::{Deserialize, Serialize};

/// Asks for a file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DownloadRequest {
    /// The source URL; required unless `id` or `sha256` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The content id that the file must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ContentId>,
    /// The SHA-256 that the file must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Someone waits for it.
    #[serde(default)]
    pub foreground: bool,
    /// Who asks; shown as `PredefinedCallerApplication`.
    #[serde(default)]
    pub caller: String,
    /// Seconds without progress after which it fails; default 300, at least 60 (DO reference §2.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_progress_timeout_s: Option<u64>,
}

/// What happens to a download. The counters of received and of wasted bytes in a `status` are those since the caller wanted
/// the file; [`AgentClient::status`](crate::client::AgentClient::status) tells all that came for as long as the file is held.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DownloadEvent {
    /// A few times a second while it runs.
    Progress {
        /// The state.
        status: Box<FileStatus>,
    },
    /// The file is complete and verified.
    Done {
        /// The final state.
        status: Box<FileStatus>,
        /// The one-time word for the files socket; good for 60 s.
        delivery: String,
    },
    /// It failed.
    Failed {
        /// Why.
        error: crate::ApiError,
        /// The last state.
        status: Box<FileStatus>,
    },
}

/// State of a file (DO reference §4.1, `Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FileState {
    /// On its way.
    #[default]
    Downloading,
    /// Complete, not shared.
    Complete,
    /// Complete and ready to be uploaded.
    Caching,
    /// Waiting: the caller left, the network or disk is gone.
    Paused,
}

/// Priority of a file (DO reference §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Priority {
    /// Nobody waits.
    #[default]
    Background,
    /// Someone waits.
    Foreground,
}

/// One file, under the field names of `Get-DeliveryOptimizationStatus` (DO reference §4.1), plus ours at the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileStatus {
    /// The content id, or while that is unknown a name that begins with `url-`.
    pub file_id: String,
    /// Bytes of the whole file; 0 while unknown.
    pub file_size: u64,
    /// Bytes held in the cache.
    pub file_size_in_cache: u64,
    /// Bytes from any source.
    pub total_bytes_downloaded: u64,
    /// 100 × BytesFromPeers / TotalBytesDownloaded.
    pub percent_peer_caching: f64,
    /// LAN + LinkLocal + group + Internet.
    pub bytes_from_peers: u64,
    /// Origin and cache server.
    pub bytes_from_http: u64,
    /// The state.
    pub status: FileState,
    /// The priority.
    pub priority: Priority,
    /// From the origin.
    pub bytes_from_cdn: u64,
    /// From connected caches.
    pub bytes_from_cache_server: u64,
    /// From LAN peers.
    pub bytes_from_lan_peers: u64,
    /// From peers found by DNS-SD.
    pub bytes_from_link_local_peers: u64,
    /// From group peers.
    pub bytes_from_group_peers: u64,
    /// From Internet peers.
    pub bytes_from_internet_peers: u64,
    /// To LAN peers.
    pub bytes_to_lan_peers: u64,
    /// To peers found by DNS-SD.
    pub bytes_to_link_local_peers: u64,
    /// To group peers.
    pub bytes_to_group_peers: u64,
    /// To Internet peers.
    pub bytes_to_internet_peers: u64,
    /// Milliseconds that the download has run.
    pub download_duration: u64,
    /// HTTP connections to the origin now.
    pub http_connection_count: u32,
    /// Connections to connected caches now.
    pub cache_server_connection_count: u32,
    /// Connections to LAN peers now.
    pub lan_connection_count: u32,
    /// Connections to peers found by DNS-SD now.
    pub link_local_connection_count: u32,
    /// Connections to group peers now.
    pub group_connection_count: u32,
    /// Connections to Internet peers now.
    pub internet_connection_count: u32,
    /// The mode in use for this file.
    pub download_mode: String,
    /// Where it comes from.
    #[serde(rename = "SourceURL")]
    pub source_url: String,
    /// The connected cache that is asked now; empty: none.
    pub cache_host: String,
    /// Peers returned by discovery.
    pub num_peers: u32,
    /// Peers really connected.
    pub connected_peers: u32,
    /// The last caller.
    pub predefined_caller_application: String,
    /// Unix seconds of planned expiry.
    pub expire_on: Option<u64>,
    /// Pinned in the cache.
    pub is_pinned: bool,
    /// Bytes that were fetched and thrown away (wrong, or had twice).
    pub wasted_bytes: u64,
    /// Bytes a second now, all sources (average over up to 5 s).
    pub download_rate: u64,
    /// Bytes a second sent to peers now.
    pub upload_rate: u64,
    /// Why it runs as it does, in sentences, newest last.
    pub reasons: Vec<String>,
    /// Potential and connected peers, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerStatus>,
}

/// Kinds of peers (DO reference §4.1, `-PeerInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerType {
    /// The same site.
    #[serde(rename = "LAN")]
    Lan,
    /// The origin.
    #[serde(rename = "CDN")]
    Cdn,
    /// Anywhere.
    Internet,
    /// The same group.
    Group,
    /// A connected cache.
    CacheServer,
    /// Found by DNS-SD.
    LinkLocal,
}

/// One peer of a file (DO reference §4.1, `-PeerInfo`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PeerStatus {
    /// Its address.
    #[serde(rename = "IP")]
    pub ip: SocketAddr,
    /// Its key.
    pub peer_id: PeerId,
    /// Its kind.
    pub peer_type: PeerType,
    /// Whether it is connected now.
    pub connection_established: bool,
    /// Whether that goes through the coordinator's relay, whose address is told then.
    #[serde(default)]
    pub relayed: bool,
    /// Bytes sent to it.
    pub bytes_sent: u64,
    /// Bytes received from it.
    pub bytes_received: u64,
    /// Bytes a second to it, 20 s average.
    pub upload_rate_bytes: u64,
    /// Bytes a second from it, 20 s average.
    pub download_rate_bytes: u64,
    /// Why it is not connected or was banned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One file in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CachedFile {
    /// The content id.
    pub file_id: ContentId,
    /// Bytes of the whole file.
    pub file_size: u64,
    /// Bytes held and verified.
    pub file_size_in_cache: u64,
    /// Where it came from.
    #[serde(rename = "SourceURL")]
    pub source_url: String,
    /// Unix seconds of completion.
    pub completed: Option<u64>,
    /// Unix seconds of planned expiry.
    pub expire_on: Option<u64>,
    /// Pinned.
    pub is_pinned: bool,
}

/// Result of re-hashing a cached file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VerifyResult {
    /// Pieces that are right.
    pub good: u32,
    /// Pieces that were wrong and have been dropped.
    pub dropped: u32,
}

/// Changes the expiry of a cached file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExpireRequest {
    /// Unix seconds, at most one year ahead (DO reference §4.5); absent: back to the policy's.
    pub expire_on: Option<u64>,
}

/// Sets a value in the administrator's layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRequest {
    /// The value as text, as on a command line.
    pub value: String,
}

/// Asks what a policy file would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRequest {
    /// What the answer calls the file.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The layer in whose place it is thought; absent: `policy.toml`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<PolicyLayer>,
    /// In the fleet's layer: the devices that it is for, as `peerage policy push --group` has them; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A layer that a policy file may be thought in place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyLayer {
    /// What the coordinator says.
    Fleet,
    /// `policy.toml`; `policy.d` stays.
    #[default]
    Policy,
    /// What `peerage set` has set.
    Admin,
}

/// The fleet's policy on a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FleetState {
    /// The serial of the document in force; none: the coordinator has given none.
    pub serial: Option<u64>,
    /// The policies in it, the weakest first.
    pub parts: Vec<String>,
    /// Why the newest document is not in force.
    pub error: Option<String>,
}

/// Joins a coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// The coordinator's URL.
    pub coordinator: String,
    /// The enrolment token.
    pub token: String,
}

/// State of the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// Its version.
    pub version: String,
    /// Its key.
    pub peer_id: PeerId,
    /// The coordinator, if enrolled.
    pub coordinator: Option<String>,
    /// Whether the coordinator answered the last request.
    pub coordinator_reachable: bool,
    /// Where peers connect, while sharing is allowed.
    pub peers_listen: Option<SocketAddr>,
    /// Devices of the fleet that DNS-SD finds on the same link.
    #[serde(default)]
    pub neighbours: usize,
}
