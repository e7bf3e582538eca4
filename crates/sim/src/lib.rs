//! Sim: whole fleets in virtual time. The engine is the real one ([`peerage_swarm::Transfer`]); devices, links, HTTP
//! sources and the coordinator are models of a few lines each, and this room plays the driver between them.
//!
//! A scenario is a line: `world().devices(8).pieces(200).run(seed)`. The same seed gives the same course, event by event.
//! After every event the engine concerned is held to its invariants; a breach ends the run with a [`Violation`] that
//! names the seed:
//!
//! - a piece is verified before it is offered or uploaded;
//! - nothing is asked for or fetched that is stored already, nor twice of one source;
//! - at most 64 requests are outstanding on a connection, all of them asked while unchoked, of a peer that has the piece;
//! - no action names a source that has left; a paused transfer asks for nothing;
//! - every byte is accounted for, once;
//! - every run comes to an end: all honest devices are complete, and none of them fetches on.
//!
//! Not modelled: loss and congestion (a lossy link is a slower one), the time that hashing and storing take, TLS.

mod apart;
mod conn;
mod device;
mod disk;
mod drive;
mod fault;
mod lie;
mod link;
mod manner;
mod net;
mod outside;
mod power;
mod queue;
mod registry;
mod report;
mod run;
mod server;
mod shared;
mod sources;
mod trunk;
mod uplink;
mod violation;
mod wan;
mod way;
mod world;

pub use fault::Fault;
pub use manner::Manner;
pub use peerage_swarm::{ByKind, Limits};
pub use report::{DeviceReport, Progress, Report, SiteReport};
pub use server::Health;
pub use violation::Violation;
pub use world::{Begin, DeviceSetup, World, world};
