//! Worlds of network namespaces: real kernels' TCP, bridges, queues and NAT between processes on one machine.
//!
//! Everything lives inside namespaces of its own, the bridges too: nothing touches the machine's network, but one limit
//! that all namespaces share is raised while a large world exists (`neighbours.rs`). Needs root,
//! and `ip`, `tc` and `nft`. A world is removed with its last handle, also when the test panics; what a killed test
//! left behind is removed by the next [`World::new`].

mod bridge;
mod host;
mod limit;
mod neighbours;
mod netns;
mod port;
mod router;
mod world;

pub use bridge::Bridge;
pub use host::Host;
pub use limit::Limit;
pub use port::{Counters, Port};
pub use router::Router;
pub use world::World;
