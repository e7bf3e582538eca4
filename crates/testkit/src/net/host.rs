//! A host: a namespace with one interface, in which programs run.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::ops::Deref;
use std::process::Command;

use anyhow::Result;

use super::{Bridge, Port, World, netns};
use crate::tool;

/// A machine of the world. It derefs to its one [`Port`], so `host.ip()` and `host.limit_egress("100mbit")` just work.
#[derive(Debug, Clone)]
pub struct Host {
    // Kept so that the world lives as long as any of its hosts.
    _world: World,
    name: String,
    netns: String,
    port: Port,
}

impl Host {
    pub(super) fn new(world: &World, lan: &Bridge, name: &str, address: &str) -> Result<Self> {
        let netns = world.add(name)?;
        let port = lan.plug(&netns, "eth0", name, address)?;
        Ok(Self { _world: world.clone(), name: name.to_owned(), netns, port })
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends what is not for its own subnet to `gateway`.
    ///
    /// # Errors
    /// The gateway is not in its subnet.
    pub fn default_route(&self, gateway: IpAddr) -> Result<()> {
        tool::run("ip", ["-n", &self.netns, "route", "replace", "default", "via", &gateway.to_string()])
            .map(drop)
    }

    /// A command that will run on this host, for [`crate::Daemon`] or [`crate::Process`]. Its pid is the program's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        netns::command(&self.netns, program)
    }

    /// Runs a program on this host to its end and returns what it wrote to stdout.
    ///
    /// # Errors
    /// It fails; with what it wrote to stderr.
    pub fn run<I, S>(&self, program: impl AsRef<OsStr>, args: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        tool::output(self.command(program).args(args), None)
    }

    /// Calls `work` on a thread of its own whose sockets are this host's.
    ///
    /// # Errors
    /// The host is gone. A panic of `work` goes on in the caller.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        netns::within(&self.netns, work)
    }

    /// Sets a kernel parameter of this host, such as `net/ipv4/tcp_congestion_control` to `cubic`.
    ///
    /// # Errors
    /// There is no such parameter, or it refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        netns::sysctl(&self.netns, key, value)
    }
}

impl Deref for Host {
    type Target = Port;
    fn deref(&self) -> &Port {
        &self.port
    }
}
