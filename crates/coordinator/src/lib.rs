//! Coordinator: who has what, what content is genuine, and who belongs to the fleet (architecture §5).
//!
//! [`Config`] → [`Config::build`] (opens and binds) → [`Coordinator::spawn`] → [`Running::drain`].
//!
//! | part | state | after a crash |
//! |---|---|---|
//! | catalog, enrolments, tokens, policies (SQLite), piece maps (files), keys (files) | hard | all that was answered is there |
//! | sessions | none: tokens carry a MAC | still good |
//! | swarms, tickets given out, ingestion under way, rate limits | soft | heals by re-announce and by asking again |
//! | relayed connections | soft | gone: devices ask for the next one |
//!
//! The API is `peerage_api::coordinator`; its handlers only unpack and pack. Peers are chosen by the pure
//! `peerage_swarm::matching`, bytes fetched by the guarded `peerage_origin`.

mod announce;
mod app;
mod claims;
mod clock;
mod config;
mod contacts;
mod data_dir;
mod descriptors;
mod enrol;
mod http;
mod identity;
mod ingest;
mod maps;
mod policies;
mod publish;
mod random;
mod rate;
mod records;
mod registry;
mod relay;
mod resolve;
mod roster;
mod seen;
mod serve;
mod session;
mod site;
mod source;
mod state;
mod store;
mod tickets;

pub use app::{BuildError, Coordinator, Running};
pub use config::{Config, ConfigError};
pub use data_dir::DataDirError;
pub use identity::IdentityError;
pub use random::RandomError;
pub use store::StoreError;

#[cfg(test)]
mod tests;
