//! Everything that the handlers share.

use std::net::IpAddr;
use std::sync::Arc;

use peerage_api::{ApiError, Code};
use peerage_content::{EnrolToken, PeerId, Sha256};
use peerage_origin::SourceUrl;
use peerage_swarm::matching::Sites;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::contacts::Contacts;
use crate::ingest::{Ingester, Refused};
use crate::policies::FleetPolicies;
use crate::rate::RateLimit;
use crate::records::{Records, RecordsError};
use crate::registry::SwarmRegistry;
use crate::relay::Relay;
use crate::roster::Roster;
use crate::seen::Proxies;
use crate::session::Sessions;
use crate::site::Site;
use crate::store::StoreError;
use crate::tickets::Tickets;

/// A source of requests that need no credentials: an IPv4 address or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(u64);

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(ip.to_bits())),
            IpAddr::V6(ip) => Self((ip.to_bits() >> 64) as u64),
        }
    }
}

/// The parts of a coordinator.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) pin: Sha256,
    pub(crate) admin: EnrolToken,
    pub(crate) sessions: Sessions,
    pub(crate) site: Arc<Site>,
    pub(crate) roster: Roster,
    pub(crate) contacts: Contacts,
    pub(crate) records: Arc<Records>,
    pub(crate) policies: FleetPolicies,
    pub(crate) ingester: Ingester,
    pub(crate) registry: Arc<dyn SwarmRegistry>,
    pub(crate) tickets: Tickets,
    pub(crate) sites: Sites,
    pub(crate) proxies: Proxies,
    /// Keys the hash that stands for a group id.
    pub(crate) group_key: [u8; 32],
    /// Keys the hash that stands for a site in tickets.
    pub(crate) site_tag_key: [u8; 32],
    pub(crate) on_demand: bool,
    pub(crate) announce_interval_s: u64,
    /// For enrolments and sessions, by source address.
    pub(crate) doors: RateLimit<Source>,
    /// For unknown URLs and claims of staleness, by device.
    pub(crate) fetches: RateLimit<PeerId>,
    /// For questions for a way through the relay, by device.
    pub(crate) meetings: RateLimit<PeerId>,
    /// For devices that cannot reach each other; `None`: the administrator has not switched it on.
    pub(crate) relay: Option<Arc<Relay>>,
    /// Ends long polls when the coordinator drains.
    pub(crate) stop: CancellationToken,
}

/// The handlers' handle.
pub(crate) type Shared = Arc<Parts>;

/// A failure of ours: logged in full, told in general.
fn internal(error: &(dyn std::error::Error + 'static)) -> ApiError {
    tracing::error!(error, "request failed");
    ApiError::new(Code::Internal, "the coordinator failed; its log says why")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(internal(&error))
    }
}

impl From<RecordsError> for Failure {
    fn from(error: RecordsError) -> Self {
        Self(internal(&error))
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self(ApiError::new(refused.code, refused.reason))
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

/// What a handler answers instead of its result.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) ApiError);

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self(ApiError::new(code, message))
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }
}

/// A URL that may be recorded, or why not.
pub(crate) fn public_url(text: &str) -> Result<SourceUrl, Refused> {
    crate::source::public_url(text).map_err(|error| Refused::never(error.to_string()))
}
