//! A port: one interface with an address, cabled to a bridge; where rates are limited and bytes counted.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Limit;
use crate::tool;

/// An interface of a host or a router.
#[derive(Debug, Clone)]
pub struct Port {
    netns: String,
    device: String,
    bridge: String,
    bridge_end: String,
    ip: IpAddr,
}

/// What an interface has carried, in bytes of Ethernet frames: headers, acknowledgements and retransmissions included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
}

impl Counters {
    /// What was carried since `before`.
    pub fn since(self, before: Self) -> Self {
        Self { rx_bytes: self.rx_bytes - before.rx_bytes, tx_bytes: self.tx_bytes - before.tx_bytes }
    }
}

impl Port {
    pub(super) fn new(
        netns: &str,
        device: &str,
        bridge: &str,
        bridge_end: &str,
        address: &str,
    ) -> Result<Self> {
        let ip = address.split('/').next().unwrap_or_default().parse();
        let ip: IpAddr = ip.with_context(|| format!("{address:?} is no address like 10.77.0.11/24"))?;
        // An IPv6 address is unusable for seconds while duplicates are looked for (RFC 4862 §5.4).
        let flags: &[&str] = if ip.is_ipv6() { &["nodad"] } else { &[] };
        tool::run("ip", ["-n", netns, "addr", "add", address, "dev", device].iter().chain(flags))?;
        tool::run("ip", ["-n", netns, "link", "set", device, "up"])?;
        let [netns, device, bridge, bridge_end] = [netns, device, bridge, bridge_end].map(str::to_owned);
        Ok(Self { netns, device, bridge, bridge_end, ip })
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// Limits what leaves through this port; an earlier limit is replaced.
    ///
    /// # Errors
    /// `tc` refuses the limit.
    pub fn limit_egress(&self, limit: impl Into<Limit>) -> Result<()> {
        limit.into().apply(&self.netns, &self.device)
    }

    /// Limits what arrives through this port, at the bridge's end of the cable; an earlier limit is replaced.
    ///
    /// # Errors
    /// `tc` refuses the limit.
    pub fn limit_ingress(&self, limit: impl Into<Limit>) -> Result<()> {
        limit.into().apply(&self.bridge, &self.bridge_end)
    }

    /// Makes the kernel hand segments to this port one by one, not up to 64 KiB as one.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn single_segments(&self) -> Result<()> {
        tool::run("ip", ["-n", &self.netns, "link", "set", "dev", &self.device, "gso_max_segs", "1"])
            .map(drop)
    }

    /// What it has carried so far.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn counters(&self) -> Result<Counters> {
        let text = tool::run("ip", ["-n", &self.netns, "-s", "-j", "link", "show", "dev", &self.device])?;
        let json: Value = serde_json::from_str(&text).context("`ip -j` wrote no JSON")?;
        let bytes = |direction| {
            let value = json.pointer(&format!("/0/stats64/{direction}/bytes")).and_then(Value::as_u64);
            value.with_context(|| format!("no {direction} bytes in {text}"))
        };
        Ok(Counters { rx_bytes: bytes("rx")?, tx_bytes: bytes("tx")? })
    }
}
