//! The relay: brings two devices together that cannot reach each other, and passes on what each says to the other.
//!
//! ```text
//! A ── POST /v1/relay ─▶ meetings ── answer to B's question for its policy (ears) ──▶ B
//! A ── greeting, token ─▶ door ◀─ greeting, token ── B        same port as the API, told apart by the first byte
//! A ◀═══════════════════ pump ═══════════════════▶ B          their own TLS, unread; paced, counted, cut when idle
//! ```
//!
//! Invariants: it connects nowhere itself; only two enrolled devices are brought together, only in a swarm in which each
//! may be named to the other, of different sites, and only if both have said that they may; each token lets one
//! end in, once, within [`MEETING`]. It holds no key of what it carries. All of it is soft state.

mod door;
mod ears;
mod meetings;
mod pace;
mod pump;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use peerage_api::Code;
use peerage_api::coordinator::{NoRelay, RelayCall, RelayCounts, RelayRequest, RelayResponse};
use peerage_content::{ContentId, PeerId, RelayToken};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

pub(crate) use self::door::is_for_relay;
use self::ears::Ears;
use self::meetings::{Meetings, Pair};
use self::pace::Pace;
use crate::random::{self, RandomError};
use crate::state::{Failure, Parts};

/// Both ends must be there within this time. Devices wait somewhat longer.
const MEETING: Duration = Duration::from_secs(10);

/// What the administrator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes a second, over all connections and both directions.
    pub(crate) rate: u64,
    /// Connections, those included that are being made.
    pub(crate) connections: usize,
}

/// A connection that has come to the door, and its place among all connections of this server.
pub(crate) struct Guest {
    pub(crate) stream: TcpStream,
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

/// The relay of a coordinator.
pub(crate) struct Relay {
    meetings: Mutex<Meetings<Guest>>,
    ears: Ears,
    pace: Pace,
    tally: Tally,
}

/// What it has done.
#[derive(Debug, Default)]
struct Tally {
    open: AtomicU64,
    connections: AtomicU64,
    bytes: AtomicU64,
    turned_away: AtomicU64,
}

impl Relay {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            meetings: Mutex::new(Meetings::new(limits.connections)),
            ears: Ears::default(),
            pace: Pace::new(limits.rate),
            tally: Tally::default(),
        }
    }

    /// The device's question for its policy is out: it may be called from now on.
    pub(crate) fn listen(&self, peer: PeerId) -> u64 {
        self.ears.listen(peer, Instant::now())
    }

    /// Waits until the device is called. Never returns for a question that a later one has followed.
    pub(crate) async fn called(&self, peer: &PeerId, turn: u64) -> Vec<RelayCall> {
        self.ears.called(peer, turn).await
    }

    /// The device may not be called any more, and meets nobody.
    pub(crate) fn forget(&self, peer: &PeerId) {
        self.ears.forget(peer);
        self.meetings.lock().part(peer);
    }

    /// The device does not want to be called.
    pub(crate) fn turn_off(&self, peer: &PeerId) {
        self.ears.forget(peer);
    }

    /// Forgets who has not asked for its policy for long.
    pub(crate) fn expire(&self) {
        self.ears.expire(Instant::now());
    }

    /// Calls `other` to a meeting with `asker`; returns the asker's token. Whether the two may meet has been asked before.
    pub(crate) fn call(
        &self,
        asker: PeerId,
        other: PeerId,
        content: ContentId,
    ) -> Result<Result<RelayToken, NoRelay>, RandomError> {
        let now = Instant::now();
        if !self.ears.hears(&other, now) {
            return Ok(Err(NoRelay::NotCalled));
        }
        let [own, theirs] = [random::bytes()?, random::bytes()?].map(RelayToken::from_bytes);
        let arranged = self.meetings.lock().arrange(Pair { asker, other, content }, [own, theirs], now);
        if let Err(why) = arranged {
            if why == NoRelay::Full {
                self.tally.turned_away.fetch_add(1, Relaxed);
            }
            return Ok(Err(why));
        }
        let call = RelayCall { token: theirs, peer: asker, content };
        Ok(if self.ears.call(&other, call, now) { Ok(own) } else { Err(NoRelay::NotCalled) })
    }

    /// The figures now.
    pub(crate) fn counts(&self) -> RelayCounts {
        let Tally { open, connections, bytes, turned_away } = &self.tally;
        let [open, connections, bytes, turned_away] =
            [open, connections, bytes, turned_away].map(|count| count.load(Relaxed));
        RelayCounts { callable: self.ears.count(), open, connections, bytes, turned_away }
    }
}

impl Parts {
    /// Brings `asker` together with a peer that it could not reach, if both may.
    pub(crate) async fn meet(&self, asker: PeerId, request: RelayRequest) -> Result<RelayResponse, Failure> {
        let RelayRequest { peer, content } = request;
        let refused = |why| Ok(RelayResponse::Refused { why });
        let Some(relay) = &self.relay else { return refused(NoRelay::Off) };
        self.meetings.take(asker, 1.0, Instant::now()).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            Failure::new(Code::TooMany, format!("too many questions for the relay; ask again in {seconds} s"))
        })?;
        // Whoever was revoked is in no swarm.
        if !self.registry.introduces(&asker, &peer, content).await {
            return refused(NoRelay::NotNamed);
        }
        match relay.call(asker, peer, content) {
            Ok(Ok(token)) => Ok(RelayResponse::Calling { token }),
            Ok(Err(why)) => refused(why),
            Err(error) => {
                tracing::error!(%error, "no token could be made");
                Err(Failure::new(Code::Internal, "the coordinator failed; its log says why"))
            }
        }
    }
}
