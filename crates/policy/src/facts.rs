//! Facts about the device, as plain values. How they are read is the business of the room `host`.

use std::net::IpAddr;

use crate::{CacheHost, GroupSources};

/// What is known about the device. A fact that is unknown forbids nothing: the settings that ask for it spare weak
/// devices and guard no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Installed RAM, in bytes.
    pub installed_ram: Option<u64>,
    /// The volume that holds the cache.
    pub cache_volume: Option<Volume>,
    /// Bytes uploaded to Internet peers in this calendar month.
    pub internet_uploaded: u64,
    /// Network interfaces that are up.
    pub interfaces: Vec<Interface>,
    /// What could name the device's group.
    pub group_sources: GroupSources,
    /// Connected caches that DHCP option 235 names.
    pub dhcp_cache_hosts: DhcpCacheHosts,
}

/// What DHCP option 235 says: connected caches, or why it names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpCacheHosts(pub Result<Vec<CacheHost>, String>);

impl Default for DhcpCacheHosts {
    /// It has not been looked at.
    fn default() -> Self {
        Self(Err("not looked at".to_owned()))
    }
}

/// A file system's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that an unprivileged process could still write.
    pub free: u64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// The length of its subnet's prefix, in bits.
    pub prefix: u8,
}
