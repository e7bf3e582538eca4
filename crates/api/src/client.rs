//! The typed clients of the two APIs.
//!
//! - [`CoordinatorClient`]: the coordinator's endpoints that need no credentials; [`DeviceClient`] and [`AdminClient`]
//!   are made from it and add those that do, so that a call without the right credentials does not compile.
//!   [`TlsTrust`] says whom to believe that it is the coordinator.
//! - [`AgentClient`] and [`fetch_file`]: the agent's unix sockets.
//!
//! Every failure is an [`ApiError`](crate::ApiError): what the other side said, or
//! [`Code::Unreachable`](crate::Code::Unreachable) when it could not be asked. Answers are read up to a limit.
//! Clients hold no state that a crash could lose: a lost session is opened again.

mod admin;
mod agent;
mod coordinator;
mod device;
mod files;
mod http_json;
mod policy;
mod trust;

pub use admin::{AdminClient, Ingested, bearer_of};
pub use agent::{AgentClient, Download};
pub use coordinator::{ClientOptions, CoordinatorClient};
pub use device::{DeviceClient, DeviceCredentials};
pub use files::fetch_file;
pub use trust::{TlsTrust, TrustError, spki_pin};

#[cfg(test)]
mod tests;
