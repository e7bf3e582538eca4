//! Policy: settings, their layers, and the decision what a device may do.
//!
//! - [`Key`], [`Setting`]: the one table of all settings; everything below follows from it.
//! - [`Layer`], [`parse_layer`], [`Layers`]: who says what, and who wins.
//! - [`Settings`]: the effective values, typed, in base units.
//! - [`decide`]: settings + facts + content + time → [`Decision`] with its [`Reason`]s.
//! - [`units`]: sizes, rates and durations as people write them.
//!
//! This room is pure: no files, no clock, no environment. Every parser of foreign text has limits and never panics.

mod cache_host;
mod choice;
mod decision;
mod error;
mod facts;
mod field;
mod group;
mod hours;
mod layer;
mod layers;
mod reason;
mod rule;
mod setting;
mod table;
pub mod units;

pub use cache_host::{CacheHost, CacheHostError};
pub use choice::{
    CacheHostSource, Choice, DownloadMode, GroupIdSource, MeteredDownloads, PeerEncryption, PeerRestriction,
};
pub use decision::{
    Allowed, CacheLimit, Class, ContentFacts, Decision, Limits, LinkLocal, RecordState, decide, decide_device,
};
pub use error::{PolicyError, PolicyErrors};
pub use facts::{DhcpCacheHosts, Facts, Interface, InterfaceAddress, Volume};
pub use group::{GroupChoice, GroupId, GroupIdError, GroupSources, SourceSays};
pub use hours::{Days, Hours};
pub use layer::{Layer, MAX_POLICY_TEXT, parse_layer};
pub use layers::{Layers, Provider, Row, Said};
pub use reason::{Code, Reason};
pub use rule::{Rule, Unit};
pub use setting::Setting;
pub use table::{Key, Settings};
