//! Testkit: what process tests, the network lab and the benches stand on. Never part of the shipped binary.
//!
//! - [`World`]: network namespaces with bridges, hosts, routers, NAT and rate limits; gone when the test is over,
//!   however it ends.
//! - [`Process`], [`Daemon`]: a real program, its readiness, its log, what it costs; stopped on drop.
//! - [`Site`], [`Bottleneck`]: whole scenes of namespaces and programs.
//! - [`Nginx`], [`TestCa`]: a real HTTP origin that counts what it served.
//! - [`SystemBus`]: a D-Bus with stand-ins for UPower and NetworkManager.
//! - [`Office`]: origin, coordinator and agents on the loopback interface, for what needs no network of its own.
//! - [`wait_until`], [`random_file`], [`peerage_bin`]: the small things that every such test needs.
//!
//! All of it is blocking: a test of processes reads best from top to bottom, and works inside or outside a runtime.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use peerage_testkit::{Limit, Nginx, World};
//!
//! let (files, world) = (std::path::Path::new("/srv/files"), World::new()?);
//! let lan = world.bridge("lan")?;
//! let origin = lan.host("origin", "10.77.0.1/24")?;
//! let device = lan.host("dev1", "10.77.0.11/24")?;
//! origin.limit_egress(Limit::rate("100mbit"))?;
//! let nginx = Nginx::serve(files).on(&origin).start(files)?;
//! device.run("curl", ["--fail", "--output", "/dev/null", &nginx.url("a.bin")])?;
//! # Ok(())
//! # }
//! ```

mod bin;
mod bottleneck;
mod bus;
mod ca;
mod daemon;
mod files;
mod fleet;
mod net;
mod nginx;
mod office;
mod process;
mod rows;
mod site;
mod tool;
mod usage;
mod wait;

pub use bin::peerage_bin;
pub use bottleneck::Bottleneck;
pub use bus::SystemBus;
pub use ca::{Identity, TestCa};
pub use daemon::Daemon;
pub use files::{random_bytes, random_file, same_file, sparse_file};
pub use fleet::{Agent, Fleet, Job, OPEN_POLICY, Output};
pub use net::{Bridge, Counters, Host, Limit, Port, Router, World};
pub use nginx::{Hit, Nginx, NginxBuilder};
pub use office::Office;
pub use process::{Finished, Process};
pub use rows::number;
pub use site::Site;
pub use usage::Usage;
pub use wait::{wait_for, wait_until};
