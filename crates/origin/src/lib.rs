//! Origin: HTTP range sources, and the guard of fetches that are made on somebody else's word.
//!
//! - [`SourceUrl`]: a URL that can be fetched; it knows whether it carries secrets and never prints them.
//! - [`OriginClient`]: [`open`](OriginClient::open) streams one range as a [`RangeBody`],
//!   [`probe`](OriginClient::probe) asks what the origin holds. Both follow redirects themselves, hop by hop.
//! - [`Known`]: what earlier answers said of the file; an answer that contradicts it is a change, not data.
//! - [`Intake`], [`Throttle`]: how a download is slowed down for the sake of others.
//! - [`ProxyMode`], [`WayOut`]: which proxy requests go through, and what is known of it.
//! - [`Guard`]: what the coordinator may fetch on demand; see its documentation for the rules.
//! - [`OriginError`]: what failed where, without secrets; [`OriginError::kind`] says what to do about it.
//! - [`headers`]: the pure parsers of header values.
//!
//! Every answer is hostile until checked: a range that is not the one asked for, a body longer or shorter than
//! announced, an encoding, a changed validator are errors, never bytes that reach the caller under a wrong offset.
//! Nothing here is stored, so nothing survives a crash.

mod address;
mod answer;
mod auto;
mod body;
mod cache_url;
mod client;
mod config;
mod connect;
mod error;
mod guard;
pub mod headers;
mod intake;
mod line;
pub mod pac;
mod proxy;
mod range;
mod resolve;
mod rule;
mod script_source;
mod secret;
mod socks;
mod source_url;
mod tls;
mod way_out;

pub use body::RangeBody;
pub use client::{MAX_REDIRECTS, OriginClient};
pub use config::{ConfigError, OriginConfig, ProxyConfig, ProxyMode};
pub use error::{ErrorKind, Failure, OriginError};
pub use guard::{Guard, Refusal};
pub use intake::{Intake, Throttle};
pub use range::{Known, OriginInfo, RangeRequest};
pub use resolve::{Lookup, Resolver, SystemResolver};
pub use rule::{HostRule, HostRuleError};
pub use script_source::Scripts;
pub use secret::Secret;
pub use source_url::{MAX_URL, SourceUrl, UrlError};
pub use way_out::{ChosenBy, ScriptState, WayOut};
