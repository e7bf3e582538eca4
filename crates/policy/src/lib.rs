//! Policy: settings, their layers, and the decision what a device may do.
//!
//! - [`Key`], [`Setting`]: the one table of all settings; everything below follows from it.
//! - [`Layer`], [`parse_layer`], [`Layers`]: who says what, and who wins.
//! - [`fleet`]: what the coordinator says, for whom, and how far it is rolled out.
//! - [`Settings`]: the effective values, typed, in base units.
//! - [`decide`]: settings + facts + content + time → [`Decision`] with its [`Reason`]s.
//! - [`check`], [`diff`]: what is contradictory in a policy, and what it would change.
//! - [`import()`]: settings as Windows tools write them.
//! - [`units`]: sizes, rates and durations as people write them.
//!
//! This room is pure: no files, no clock, no environment. Every parser of foreign text has limits and never panics.

mod cache_host;
mod caches;
mod check;
mod choice;
mod decision;
mod diff;
mod error;
mod facts;
mod field;
pub mod fleet;
mod group;
mod hours;
mod import;
mod layer;
mod layers;
mod reason;
mod retired;
mod rule;
mod setting;
mod table;
pub mod units;

pub use cache_host::{CacheHost, CacheHostError};
pub use caches::{CacheChoice, CacheFrom, OriginUrl};
pub use check::{Advice, Level, check};
pub use choice::{
    CacheHostSource, Choice, DownloadMode, GroupIdSource, MeteredDownloads, PeerEncryption, PeerRestriction,
};
pub use decision::{
    Allowed, CacheLimit, Class, ContentFacts, Decision, Limits, LinkLocal, RecordState, Relay, decide,
    decide_device,
};
pub use diff::{Difference, diff};
pub use error::{PolicyError, PolicyErrors};
pub use facts::{
    Connection, DhcpCacheHosts, Facts, Interface, InterfaceAddress, LinkKind, Power, Volume, VpnSign,
};
pub use group::{GroupChoice, GroupId, GroupIdError, GroupSources, SourceSays};
pub use hours::{Days, Hours};
pub use import::{ImportError, Imported, MAX_IMPORT, Remark, import};
pub use layer::{Layer, MAX_POLICY_TEXT, parse_layer};
pub use layers::{Layers, Provider, Row, Said};
pub use reason::{Code, Reason};
pub use rule::{Rule, Unit};
pub use setting::Setting;
pub use table::{Key, Settings};
