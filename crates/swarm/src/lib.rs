//! Swarm: the transfer engine and its parts, as state machines without I/O.
//!
//! - [`Transfer`]: one content on one device. Events in ([`Transfer::handle`]), actions out
//!   ([`Transfer::poll_action`]), one timer ([`Transfer::poll_timeout`]).
//! - [`Bans`]: what peers did, over all transfers of a device.
//! - [`ledbat`]: how fast transfers that nobody waits for may go.
//! - [`budget`]: how many bytes may pass now.
//! - [`matching`]: which neighbours the coordinator gives to a device.
//!
//! Time, randomness and ids are arguments. The same engine runs in the agent, in `peerage-sim` and in property tests.

mod ban;
pub mod budget;
mod bytes;
mod claims;
mod departed;
mod dial;
mod event;
mod far;
mod figures;
mod heirs;
mod http;
mod inbox;
mod late;
pub mod ledbat;
mod limits;
pub mod matching;
mod neighbours;
mod news;
mod origin;
mod pace;
mod parts;
mod peer;
mod peers;
mod pieces;
mod plan;
mod rate;
mod ready;
mod rng;
mod rota;
mod serving;
mod slots;
mod source;
mod time;
mod transfer;
mod trial;
mod trust;
mod upload;

pub use ban::{BAD_PIECES, BAN_TIME, Bans};
pub use event::{Action, Candidate, Event, FetchError, FetchId, Offence, Outcome};
pub use figures::{PeerStats, Stats};
pub use limits::Limits;
pub use rate::RateMeter;
pub use rng::Rng;
pub use rota::{OUT_OF_USE, Rota, Turn};
pub use slots::Slots;
pub use source::{ByKind, SourceId, SourceKind};
pub use time::Time;
pub use transfer::{Start, Transfer};
