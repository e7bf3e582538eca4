//! Host: what this Linux device is, read from the device itself.
//!
//! - [`Monitor`]: all facts that policy asks for, and when they change; what cannot be read is left unknown and told.
//! - [`installed_ram`], [`volume_of`], [`interfaces`], [`boot_id`], [`host_name`]: the single facts.
//! - [`announce_addresses`]: which of the addresses peers are told.
//! - [`DnsSd`]: neighbours on the same link.
//! - [`read_group_sources`], [`read_leases`], [`ask_servers`]: what could name the device's group.
//! - [`read_leases`], [`wpad_url`]: where the network names a proxy auto-configuration script.
//! - [`PolicyFiles`]: the policy files of the device, and when they change.
//!
//! Nothing here knows downloads. Where a fact is read from: `docs/device-facts.md`.

mod addresses;
mod bus;
mod dhcp;
mod dns_sd;
mod error;
mod group_sources;
mod identity;
mod ini;
mod links;
mod memory;
mod monitor;
mod policy_files;
mod power;
mod small_file;
mod volume;
mod wpad;
mod zone;

pub use addresses::{MAX_ANNOUNCED, announce_addresses};
pub use dhcp::{
    CACHE_HOST_OPTION, DhcpSays, GROUP_OPTION, Offered, SCRIPT_OPTION, Wanted, ask_servers, parse_dhclient,
    parse_networkd, parse_reply, read_leases,
};
pub use dns_sd::{DnsSd, DnsSdError, MAX_ADDRESSES, MAX_ADVERT, SERVICE, Sight, is_on_link, read_sight};
pub use error::HostError;
pub use group_sources::read_group_sources;
pub use identity::{boot_id, host_name};
pub use links::interfaces;
pub use memory::installed_ram;
pub use monitor::{Look, Monitor, Observed};
pub use policy_files::{MAX_POLICY_FILES, PolicyFileError, PolicyFiles, PolicyFilesError};
pub use volume::volume_of;
pub use wpad::{url_in as wpad_url_in, wpad_url};
