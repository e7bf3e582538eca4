//! A router between LANs, with or without address translation.

use anyhow::Result;

use super::{Bridge, Port, World, netns};
use crate::tool;

/// A router. Plug it into bridges with [`Router::port`]; hosts need a [`super::Host::default_route`] to it.
#[derive(Debug, Clone)]
pub struct Router {
    // Kept so that the world lives as long as any of its routers.
    _world: World,
    name: String,
    netns: String,
}

impl Router {
    pub(super) fn new(world: &World, name: &str) -> Result<Self> {
        let netns = world.add(name)?;
        netns::sysctl(&netns, "net/ipv4/ip_forward", "1")?;
        netns::sysctl(&netns, "net/ipv6/conf/all/forwarding", "1")?;
        Ok(Self { _world: world.clone(), name: name.to_owned(), netns })
    }

    /// Plugs the router into `lan` with an address there.
    ///
    /// # Errors
    /// It is plugged in there already, or the address is none.
    pub fn port(&self, lan: &Bridge, address: &str) -> Result<Port> {
        lan.plug(&self.netns, &format!("if-{}", lan.name()), &self.name, address)
    }

    /// Hides everything behind the router from what is beyond `outside`: its packets leave with that port's address,
    /// and only answers come back in. Source ports are kept where they are free, as home routers do; with `random`
    /// each destination sees another one (RFC 4787 §4.1: endpoint-dependent mapping).
    ///
    /// # Errors
    /// `nft` cannot load the rules.
    pub fn masquerade(&self, outside: &Port, random: bool) -> Result<()> {
        let (device, how) = (outside.device(), if random { "masquerade fully-random" } else { "masquerade" });
        let rules = format!(
            "table inet lab {{\n\
               chain out {{ type nat hook postrouting priority srcnat;\n oifname \"{device}\" {how}\n }}\n\
               chain in {{ type filter hook forward priority filter;\n\
                 iifname \"{device}\" ct state new drop\n\
               }}\n\
             }}\n"
        );
        tool::output(netns::command(&self.netns, "nft").args(["-f", "-"]), Some(&rules)).map(drop)
    }
}
