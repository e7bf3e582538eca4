//! Agent: the daemon on each device. Downloads, keeps, serves pieces to peers, obeys policy.
//!
//! It drives the engine of `peerage-swarm` with the rooms that touch the world: `store`, `transport`, `origin`, `host`.
//! The way of a download, from the local API to the disk:
//!
//! `server::downloads` → `downloads` (callers share) → `download` (phases) → `resolve` (what is it?) →
//! `content::actor` (one per content, drives the engine) → `content::connection` and `content::fetch` (bytes in) →
//! `content::sink` (whole blocks to the store) → `server::handout` (the finished file).
//!
//! What survives a crash: verified pieces, blocks of pieces on their way, records, enrolment, what `peerage set` and the
//! fleet's policy say, counters up to 10 s ago.
//! What does not: connections, bans, callers; they come again.

mod admin;
mod admission;
mod adopt;
mod announcer;
mod app;
mod budgets;
mod cache_place;
mod caches;
mod catalog;
mod clock;
mod config;
mod content;
mod coordinator;
mod deliveries;
pub mod doctor;
mod download;
mod downloads;
mod file_status;
mod fleet;
mod governor;
mod housekeeping;
mod kept_policy;
mod listener;
mod months;
mod naming;
mod neighbours;
mod network;
mod notes;
mod places;
mod policy;
mod rangeless;
mod relay;
mod resolve;
mod search;
mod server;
mod shared;
mod simple;
mod state_dir;
mod tickets;
mod why;
mod wish;

pub use app::{Agent, Running, build, enrol, read_token};
pub use config::{Config, ConfigError, ConfigFile, PEER_PORT};
pub use peerage_origin::{ErrorKind, OriginClient, OriginConfig, SourceUrl};
pub use peerage_store::{DeliverMethod, DeliverOptions, Delivered, StoreError, deliver};
pub use state_dir::StateError;
