//! A bridge: a LAN that hosts and routers plug into.

use anyhow::Result;

use super::{Host, Port, World, netns};
use crate::tool;

/// The bridge interface's name inside its namespace.
const BRIDGE: &str = "br0";

/// A LAN. Multicast reaches every port (no IGMP snooping), as DNS-SD expects.
#[derive(Debug, Clone)]
pub struct Bridge {
    world: World,
    name: String,
    netns: String,
}

impl Bridge {
    pub(super) fn new(world: &World, name: &str) -> Result<Self> {
        let netns = world.add(name)?;
        tool::run("ip", ["-n", &netns, "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0"])?;
        tool::run("ip", ["-n", &netns, "link", "set", BRIDGE, "up"])?;
        Ok(Self { world: world.clone(), name: name.to_owned(), netns })
    }

    /// Plugs in a new host with one address, such as `10.77.0.11/24` or `fd77::11/64`.
    ///
    /// # Errors
    /// The name is taken or not 1 to 12 letters and digits; the address is none.
    pub fn host(&self, name: &str, address: &str) -> Result<Host> {
        Host::new(&self.world, self, name, address)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Lays a cable from the interface `device` of the namespace `netns` to this bridge.
    pub(super) fn plug(&self, netns: &str, device: &str, owner: &str, address: &str) -> Result<Port> {
        let end = format!("to-{owner}");
        let veth = [
            "link",
            "add",
            device,
            "netns",
            netns,
            "type",
            "veth",
            "peer",
            "name",
            &end,
            "netns",
            &self.netns,
        ];
        tool::run("ip", veth)?;
        tool::run("ip", ["-n", &self.netns, "link", "set", &end, "master", BRIDGE, "up"])?;
        netns::sysctl(&self.netns, &format!("net/ipv6/conf/{end}/disable_ipv6"), "1")?;
        Port::new(netns, device, &self.netns, &end, address)
    }
}
