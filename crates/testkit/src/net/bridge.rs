//! A bridge: a LAN that hosts and routers plug into.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

use super::{Counters, Host, Port, World, netns};
use crate::tool;

/// The bridge interface's name inside its namespace.
const BRIDGE: &str = "br0";
/// What the bridge's end of a cable is called, before the name of whoever is at the other end.
const END: &str = "to-";

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

    /// What everybody who is plugged in has sent and received so far, by name: one look at the kernel's table, cheap
    /// enough to be taken many times a second.
    ///
    /// # Errors
    /// The bridge is gone.
    pub fn carried(&self) -> Result<BTreeMap<String, Counters>> {
        // Of this very thread: a process as a whole may be elsewhere.
        let text = netns::within(&self.netns, || fs::read_to_string("/proc/thread-self/net/dev"))??;
        let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(END)?.split_once(':'));
        lines.map(|(name, figures)| Ok((name.to_owned(), seen_from_afar(figures)?))).collect()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Lays a cable from the interface `device` of the namespace `netns` to this bridge.
    pub(super) fn plug(&self, netns: &str, device: &str, owner: &str, address: &str) -> Result<Port> {
        let end = format!("{END}{owner}");
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

/// The counters of a line of `/proc/net/dev` (proc_net(5)) as the other end of the cable has them.
fn seen_from_afar(figures: &str) -> Result<Counters> {
    let mut fields = figures.split_ascii_whitespace();
    let mut next = |skipped: usize| fields.nth(skipped).and_then(|field| field.parse::<u64>().ok());
    let counters =
        next(0).zip(next(7)).map(|(received, sent)| Counters { rx_bytes: sent, tx_bytes: received });
    counters.with_context(|| format!("no counters in {figures:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_receives_what_the_other_sends() {
        let line = "  1500   10 0 0 0 0 0 0   700    5 0 0 0 0 0 0";
        assert_eq!(seen_from_afar(line).unwrap(), Counters { rx_bytes: 700, tx_bytes: 1500 });
        assert!(seen_from_afar(" 1 2 3").is_err());
    }
}
