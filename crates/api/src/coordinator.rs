//! The coordinator's API, version 1. All bodies are JSON unless said otherwise.
//!
//! | request | credentials | does |
//! |---|---|---|
//! | `POST /v1/enroll` | token in the body | [`EnrollRequest`] → [`EnrollResponse`] |
//! | `POST /v1/session` | signature in the body | [`SessionRequest`] → [`SessionResponse`] |
//! | `POST /v1/resolve` | session | [`ResolveRequest`] → [`ResolveResponse`] |
//! | `POST /v1/announce` | session | [`AnnounceRequest`] → [`AnnounceResponse`] |
//! | `GET /v1/maps/{content id}` | session | the piece map's file form |
//! | `GET /v1/policy` | session | [`PolicyQuery`] → [`PolicyResponse`], held back until there is something new |
//! | `POST /v1/relay` | session | [`RelayRequest`] → [`RelayResponse`] |
//! | `POST /v1/publish` | admin token | [`PublishRequest`] → [`PublishResponse`] |
//! | `POST /v1/ingest` | admin token | [`IngestRequest`] → [`PublishResponse`] |
//! | `POST /v1/tokens` | admin token | [`NewTokenRequest`] → [`NewTokenResponse`] |
//! | `GET /v1/policies` | admin token | [`HistoryQuery`] → list of [`PolicyRevision`], newest first |
//! | `POST /v1/policies` | admin token | [`PushPolicyRequest`] → [`PolicyRevision`] |
//! | `POST /v1/policies/remove` | admin token | [`RemovePolicyRequest`] → [`PolicyRevision`] |
//! | `POST /v1/policies/rollback` | admin token | [`RollbackRequest`] → [`PolicyRevision`] |
//! | `GET /v1/devices` | admin token | list of [`Device`] |
//! | `DELETE /v1/devices/{peer id}` | admin token | revokes a device |
//! | `GET /v1/health` | none | [`Health`], with its counts when the admin token is shown |
//!
//! Session and admin credentials travel as `Authorization: Bearer …`.

mod relay;

use std::net::{IpAddr, SocketAddr};

use peerage_content::{ContentId, PeerId, PublicKey, ScopeSet, Sha256, SiteKey, Unchecked, Validators};
use serde::{Deserialize, Serialize};

pub use relay::{NoRelay, RelayCall, RelayCounts, RelayRequest, RelayResponse};

/// Joins a device to the fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// The device's key.
    pub peer: PeerId,
    /// The enrolment token's secret, base64url.
    pub secret: String,
    /// What the device is called; shown to administrators, at most 255 bytes.
    pub name: String,
    /// Signature of the device's key over [`enroll_proof`], base64url: it really holds the key.
    pub proof: String,
}

/// The device is enrolled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// Keys whose records and tickets are to be trusted.
    pub catalog_keys: Vec<PublicKey>,
    /// The fleet's secret by which its devices know each other while no coordinator is at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_key: Option<SiteKey>,
}

/// What a device signs to enrol.
pub fn enroll_proof(peer: &PeerId, secret: &str) -> Vec<u8> {
    format!("peerage enroll v1\0{peer}\0{secret}").into_bytes()
}

/// Opens a session of an enrolled device, so that further requests need no signature.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRequest {
    /// The device's key.
    pub peer: PeerId,
    /// Unix seconds by the device's clock; must be within an hour of the coordinator's.
    pub time: u64,
    /// Signature over [`session_proof`], base64url.
    pub proof: String,
}

/// What a device signs to open a session. Bound to the coordinator's TLS key so that it is worthless elsewhere.
pub fn session_proof(peer: &PeerId, time: u64, tls_pin: &Sha256) -> Vec<u8> {
    format!("peerage session v1\0{peer}\0{time}\0{tls_pin}").into_bytes()
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionResponse {
    /// The bearer token.
    pub token: String,
    /// Seconds it is good for.
    pub expires_in: u64,
    /// Unix seconds by the coordinator's clock; devices judge tickets and records by it.
    pub time: u64,
    /// Keys whose records and tickets are to be trusted.
    pub catalog_keys: Vec<PublicKey>,
    /// The fleet's secret by which its devices know each other while no coordinator is at hand; a new one after a device
    /// was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_key: Option<SiteKey>,
    /// The address that the coordinator sees the device at.
    pub seen_as: IpAddr,
}

/// Asks what a URL (or id, or SHA-256) is. Exactly one of the three is set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ResolveRequest {
    /// The source URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The content id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ContentId>,
    /// The SHA-256 of the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Milliseconds that the answer may be held back while the URL is being ingested; at most 30,000.
    #[serde(default)]
    pub wait_ms: u64,
    /// A record of this serial was found stale (the origin serves something else): look again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_serial: Option<u64>,
    /// If set, the device also announces itself for the content found: one round trip instead of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<AnnounceRequest>,
}

/// What the coordinator knows. `A` is the answer to an announce: the coordinator has it as text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ResolveResponse<A = AnnounceResponse> {
    /// The content is known.
    Known {
        /// The signed record (check it with the catalog keys).
        record: Unchecked,
        /// The piece map's file form, base64url, when it is small (at most 64 KiB): saves a round trip.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        map: Option<String>,
        /// The answer to the announce that came along; its single item is for this content.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        announce: Option<A>,
    },
    /// The coordinator is fetching the URL; ask again.
    Pending {
        /// Bytes fetched so far.
        fetched: u64,
        /// Size, when known.
        #[serde(default)]
        size: Option<u64>,
    },
    /// It is not known and will not be ingested.
    Refused {
        /// Why, for `peerage why`.
        reason: String,
        /// Whether asking again later may help.
        retry_after_s: Option<u64>,
    },
}

/// Tells which contents the device holds or wants, and asks for peers (DO reference §2.2, what Array learns).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AnnounceRequest {
    /// Where peers can reach this device. Empty: nowhere (it may still connect out).
    pub addresses: Vec<SocketAddr>,
    /// Group id, when in group mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The scopes that this device's policy allows.
    pub scopes: ScopeSet,
    /// One item for each content; at most 1,000. In [`ResolveRequest`], one item whose content is ignored.
    pub items: Vec<AnnounceItem>,
}

/// One content in an announce.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnnounceItem {
    /// The content.
    pub content: ContentId,
    /// What happened.
    pub event: AnnounceEvent,
    /// Bytes still missing; 0 = a seed.
    pub left: u64,
    /// How many peers are wanted; at most 50.
    pub want: u16,
}

/// What happened to a content on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnnounceEvent {
    /// It is held or being downloaded.
    Alive,
    /// It is no longer shared here.
    Stopped,
}

/// The answer to an announce.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AnnounceResponse {
    /// Seconds until the next announce is due; without one the device is forgotten after three of them.
    pub interval_s: u64,
    /// Unix seconds by the coordinator's clock.
    pub time: u64,
    /// One item for each content asked about that may be shared.
    pub items: Vec<SwarmItem>,
}

/// A swarm as one device sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SwarmItem {
    /// The content.
    pub content: ContentId,
    /// The ticket for it.
    pub ticket: Unchecked,
    /// Position of this device in the order of arrival; spreads the first requests of devices that start together.
    pub ordinal: u32,
    /// Devices in the scopes of the asker (itself included) that hold or want the content.
    pub members: u32,
    /// How many of them hold all of it.
    pub seeds: u32,
    /// Peers to connect to, best first.
    pub peers: Vec<PeerInfo>,
}

/// One peer to connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its key.
    pub peer: PeerId,
    /// Where it can be reached, best first; at most 8.
    pub addresses: Vec<SocketAddr>,
    /// In which circle it was found.
    pub scope: peerage_content::Scope,
    /// Whether it holds everything.
    pub seed: bool,
}

/// Registers a content whose bytes the publisher has hashed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishRequest {
    /// Source URLs; at least one.
    pub urls: Vec<String>,
    /// SHA-256 of the whole file.
    pub sha256: Sha256,
    /// The piece map's file form, base64url. Size and id follow from it.
    pub map: String,
    /// The id that the map must prove.
    pub id: ContentId,
    /// What the origin says of it, if known.
    #[serde(default)]
    pub validators: Validators,
    /// In which scopes it may be shared.
    pub scopes: ScopeSet,
    /// Seconds the record is valid; default 30 days.
    #[serde(default)]
    pub valid_s: Option<u64>,
}

/// Fetches a URL and registers what it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IngestRequest {
    /// The URL.
    pub url: String,
    /// Milliseconds to wait for the end; at most 30,000. When it has not ended, the answer is 202 with [`ResolveResponse::Pending`].
    #[serde(default)]
    pub wait_ms: u64,
}

/// A registered content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishResponse {
    /// Its id.
    pub id: ContentId,
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Sha256,
    /// The signed record.
    pub record: Unchecked,
}

/// Makes an enrolment token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NewTokenRequest {
    /// How many devices may use it; absent: any number.
    #[serde(default)]
    pub uses: Option<u32>,
    /// Seconds it is good for; absent: for ever.
    #[serde(default)]
    pub valid_s: Option<u64>,
    /// Tags that the devices carry which enrol with it; at most 16.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// An enrolment token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewTokenResponse {
    /// Its text form, to be given to devices.
    pub token: String,
}

/// An enrolled device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Device {
    /// Its key.
    pub peer: PeerId,
    /// What it calls itself.
    pub name: String,
    /// Unix seconds of enrolment.
    pub enrolled: u64,
    /// The tags that it carries since then.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Unix seconds of its last question; absent: none since the coordinator started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<u64>,
    /// The address at which the coordinator saw it then, which says its site; absent: it has not been heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<IpAddr>,
    /// The group that it was in then; absent: none, or it has not been heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Which policy it had then; absent: it has not been heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<DevicePolicy>,
}

/// The fleet policy that a device has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePolicy {
    /// The serial of the document in force there; absent: it has none. A document is numbered as the newest policy of the
    /// fleet was when it was made, whomever that was for.
    pub serial: Option<u64>,
    /// The published policies that are for this device now, the strongest first.
    #[serde(default)]
    pub due: Vec<DuePolicy>,
    /// Whether that says all that is published for it now. The serial itself may be lower than the newest one: it moves
    /// on for a device when something changes for it.
    pub current: bool,
    /// Whether the device has refused a newer one.
    pub refused: bool,
}

/// A published policy that is for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuePolicy {
    /// Its serial, as `peerage policy history` shows it.
    pub serial: u64,
    /// Whom it is for.
    pub selector: String,
}

/// Asks for the fleet policy of a device, in a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyQuery {
    /// The digest of the document that the device has seen last, 64 hex digits; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have: Option<Sha256>,
    /// The group that the device is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The device's own addresses, comma-separated; at most 16. They matter where many subnets are seen at one address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// Milliseconds that the answer may be held back while there is nothing new; at most 60,000.
    #[serde(default)]
    pub wait_ms: u64,
    /// The serial of the document in force at the device; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Whether the document that the device has seen last was refused there.
    #[serde(default)]
    pub refused: bool,
    /// Whether the device may be called to the relay while it waits for the answer.
    #[serde(default)]
    pub relay: bool,
}

/// The fleet policy of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PolicyResponse {
    /// What the device has seen still holds.
    Current,
    /// Another document holds.
    New {
        /// The signed document (check it with the catalog keys).
        document: Unchecked,
    },
    /// Nothing is said of the policy: peers wait for the device at the relay. Only when [`PolicyQuery::relay`] was given.
    Called {
        /// Who waits.
        calls: Vec<RelayCall>,
    },
}

/// Publishes a policy for some devices.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PushPolicyRequest {
    /// The devices: `all`, `tag:NAME`, `subnet:CIDR`, `group:GUID`.
    pub selector: String,
    /// The settings, as in a policy file. Empty: nothing is set for them any more.
    pub text: String,
    /// How many of them get it, in percent, 0 to 100.
    pub percent: u8,
    /// The serial shall be at least this: after a coordinator was restored from an old backup, devices hold higher ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_serial: Option<u64>,
}

/// Publishes again what held before the newest policy of some devices.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The devices, as in [`PushPolicyRequest::selector`].
    pub selector: String,
    /// The revision to go back to; absent: what the newest policy replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Takes away what is published for some devices.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemovePolicyRequest {
    /// The devices, as in [`PushPolicyRequest::selector`].
    pub selector: String,
}

/// How many enrolled devices a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Reach {
    /// Those that its selector means.
    pub devices: u64,
    /// Those of them that the percentage takes.
    pub taken: u64,
    /// Those that have not been heard of since the coordinator started, so that their subnet and group are not known.
    pub unheard: u64,
}

/// Which revisions are asked for, in a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// Those of one selector only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Also those that hold on no device any more; at most 1000 are told.
    #[serde(default)]
    pub all: bool,
}

/// One published policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyRevision {
    /// Its number: higher than all before, over all selectors.
    pub serial: u64,
    /// The devices that it is for.
    pub selector: String,
    /// How many of them get it, in percent.
    pub percent: u8,
    /// Its settings.
    pub text: String,
    /// Unix seconds.
    pub created: u64,
    /// How it came about, such as `rolled back to 3`; empty for a push.
    pub note: String,
    /// Whether it may hold on some device.
    pub live: bool,
    /// How many devices it is for; told when it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// State of the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// Its version.
    pub version: String,
    /// How much there is; for administrators only.
    #[serde(flatten)]
    pub counts: Option<Counts>,
}

/// How much a coordinator keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Contents in the catalog.
    pub contents: u64,
    /// Enrolled devices.
    pub devices: u64,
    /// Members of all swarms.
    pub members: u64,
    /// What the relay does; absent: it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayCounts>,
}
