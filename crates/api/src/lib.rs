//! API: every request and response between the parts, and the typed clients.
//!
//! - [`coordinator`]: what devices and publishers ask of the coordinator (HTTPS, JSON, `/v1/…`). The roles are DO's
//!   services (DO reference §2.1): enrolment and session = bootstrap (Geo, KeyValue), resolve and maps = content
//!   policy and metadata, announce = Discovery and Array.
//! - [`agent`]: what local programs ask of the agent over its unix socket.
//! - [`doctor`], [`why`]: what an agent tells of itself and of its downloads.
//! - [`error`]: one table of stable error codes, HTTP statuses and exit codes.
//! - [`client`]: HTTP over a unix socket or over TLS pinned to an enrolment token.
//!
//! Types only grow: a field is added with a default, never renamed or given another meaning, so that an older agent and
//! a newer coordinator (and the other way round) still talk.

pub mod agent;
pub mod client;
pub mod coordinator;
pub mod doctor;
pub mod error;
pub mod why;

pub use error::{ApiError, Code};
