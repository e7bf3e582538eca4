//! Host: what this Linux device is, read from the device itself.
//!
//! - [`observe`]: all facts that policy asks for, in one go; what cannot be read is left unknown and told.
//! - [`installed_ram`], [`volume_of`], [`interfaces`], [`boot_id`], [`host_name`]: the single facts.
//! - [`announce_addresses`]: which of the addresses peers are told.
//! - [`DnsSd`]: neighbours on the same link.
//! - [`read_group_sources`], [`read_leases`], [`ask_servers`]: what could name the device's group.
//! - [`PolicyFiles`]: the policy files of the device, and when they change.
//!
//! Facts are read anew at each call and never kept. Nothing here knows downloads.

mod addresses;
mod dhcp;
mod dns_sd;
mod error;
mod facts;
mod group_sources;
mod identity;
mod ini;
mod interfaces;
mod memory;
mod policy_files;
mod small_file;
mod volume;

pub use addresses::{MAX_ANNOUNCED, announce_addresses};
pub use dhcp::{
    CACHE_HOST_OPTION, DhcpSays, GROUP_OPTION, Offered, ask_servers, parse_dhclient, parse_networkd,
    parse_reply, read_leases,
};
pub use dns_sd::{DnsSd, DnsSdError, MAX_ADDRESSES, MAX_ADVERT, SERVICE, Sight, is_on_link, read_sight};
pub use error::HostError;
pub use facts::{Observed, observe};
pub use group_sources::read_group_sources;
pub use identity::{boot_id, host_name};
pub use interfaces::interfaces;
pub use memory::installed_ram;
pub use policy_files::{MAX_POLICY_FILES, PolicyFileError, PolicyFiles, PolicyFilesError};
pub use volume::volume_of;
