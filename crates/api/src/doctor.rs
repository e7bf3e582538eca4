//! What a check-up of the agent finds (`GET /v1/doctor`): facts, no judgement. `peerage_agent::doctor` judges them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::why::Because;

/// The agent's own state and what it knows of the device, now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Checkup {
    /// Its version.
    pub version: String,
    /// Which settings are in force.
    pub policy: PolicyState,
    /// The coordinator, asked for this check-up.
    pub coordinator: CoordinatorState,
    /// Whether peers may be used.
    pub peering: Peering,
    /// Installed RAM in bytes, if it is known.
    #[serde(rename = "InstalledRAM")]
    pub installed_ram: Option<u64>,
    /// Where files are kept.
    pub cache: CacheState,
    /// Where peers connect.
    pub port: PortState,
    /// Peers of the same link.
    pub discovery: DiscoveryState,
    /// The device's group.
    pub group: GroupState,
    /// The way to origins.
    pub proxy: ProxyState,
    /// Origins that have ignored ranges, the last first.
    #[serde(default)]
    pub rangeless: Vec<Rangeless>,
    /// The connected caches in use, in the order in which they are asked.
    #[serde(default)]
    pub caches: Vec<ConnectedCache>,
    /// What policy looks at.
    pub device: DeviceState,
}

/// Whether each layer's newest settings are in force; `None`: they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PolicyState {
    /// What is wrong with the device's policy files.
    pub files: Option<String>,
    /// What is wrong with what `peerage set` has set.
    pub admin: Option<String>,
    /// What is wrong with the fleet's policy.
    pub fleet: Option<String>,
    /// The serial of the fleet's policy in force.
    pub serial: Option<u64>,
    /// Settings that are not at their default.
    pub set: usize,
}

/// The coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CoordinatorState {
    /// Its URL; `None`: the device has joined none.
    pub url: Option<String>,
    /// Whether the download mode uses one.
    pub used: bool,
    /// Why it does not answer; `None`: it does.
    pub trouble: Option<String>,
}

/// What policy says of the device as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Peering {
    /// The download mode.
    pub mode: String,
    /// Whether some peer may be fetched from now.
    pub fetch: bool,
    /// Whether some peer may be served now.
    pub serve: bool,
    /// Bytes of RAM that peers need.
    #[serde(rename = "NeededRAM")]
    pub needed_ram: u64,
    /// Bytes of volume that peers need.
    pub needed_volume: u64,
    /// The reasons of the decision.
    pub because: Vec<Because>,
}

/// The cache directory and its volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CacheState {
    /// The directory.
    pub directory: String,
    /// Bytes of its volume, if they are known.
    pub capacity: Option<u64>,
    /// Bytes that are free there.
    pub free: Option<u64>,
    /// Why it cannot be written; `None`: it can.
    pub trouble: Option<String>,
    /// Why it is not, or not wholly, where policy wants it; `None`: it is.
    #[serde(default)]
    pub stays: Option<String>,
}

/// The port that peers connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortState {
    /// Where it is to be.
    pub configured: SocketAddr,
    /// Where it is; `None`: it is closed.
    pub listening: Option<SocketAddr>,
    /// Whether policy wants it open.
    pub wanted: bool,
    /// Why it could not be opened.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// Local discovery (DNS-SD).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiscoveryState {
    /// Whether neighbours are looked for.
    pub running: bool,
    /// Devices of the fleet that it finds.
    pub neighbours: usize,
    /// Why it does not run.
    pub trouble: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
}

/// The device's group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GroupState {
    /// Its GUID.
    pub id: Option<String>,
    /// `group_id`, or the source that named it.
    pub source: Option<String>,
}

/// The way to origins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProxyState {
    /// What chooses it.
    pub by: ProxyBy,
    /// Proxies that are known by name.
    pub proxies: Vec<String>,
    /// Where a script was read.
    pub script: Option<String>,
    /// What is wrong with the script, or why there is none.
    pub trouble: Option<String>,
    /// Proxies that could not be connected to of late.
    pub failed: Vec<String>,
    /// Proxies that answer 407: they want a user name and a password, or others than they were given.
    pub refused: Vec<String>,
}

/// What chooses the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyBy {
    /// There is none.
    #[default]
    Nothing,
    /// The variables `http_proxy` and so on.
    Environment,
    /// The configuration names one.
    Configuration,
    /// A script that the configuration names.
    Script,
    /// A script that the network names (WPAD).
    Discovery,
}

/// An origin that sends whole files when it is asked for parts, or that a proxy makes do so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rangeless {
    /// Its host and port.
    pub host: String,
    /// Unix seconds when it was last seen.
    pub seen: u64,
}

/// A connected cache.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConnectedCache {
    /// Its name or address, and its port.
    pub host: String,
    /// Seconds for which it is still left alone, because it failed.
    pub out_of_use: Option<u64>,
    /// Whose files it is not asked for then; `None`: anybody's.
    pub origin: Option<String>,
    /// What it did.
    pub why: Option<String>,
}

/// What policy looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceState {
    /// Network interfaces with an address, the loopback apart.
    pub networks: Vec<String>,
    /// By what the device is known to be on a VPN.
    #[serde(rename = "VPN")]
    pub vpn: Option<String>,
    /// Whether the connection is metered, if that is known.
    pub metered: Option<bool>,
    /// Whether it runs on battery, if that is known.
    pub on_battery: Option<bool>,
    /// The battery's charge in percent.
    pub battery_charge: Option<u8>,
}
