//! Host: what this Linux device is, read from the device itself.
//!
//! - [`Monitor`]: all facts that policy asks for, and when they change; what cannot be read is left unknown and told.
//! - [`installed_ram`], [`volume_of`], [`interfaces`], [`boot_id`], [`host_name`]: the single facts.
//! - [`announce_addresses`]: which of the addresses peers are told.
//! - [`PolicyFiles`]: the policy files of the device, and when they change.
//!
//! Nothing here knows downloads. Where a fact is read from: `docs/device-facts.md`.

mod addresses;
mod bus;
mod error;
mod identity;
mod links;
mod memory;
mod monitor;
mod policy_files;
mod power;
mod small_file;
mod volume;
mod zone;

pub use addresses::{MAX_ANNOUNCED, announce_addresses};
pub use error::HostError;
pub use identity::{boot_id, host_name};
pub use links::interfaces;
pub use memory::installed_ram;
pub use monitor::{Look, Monitor, Observed};
pub use policy_files::{MAX_POLICY_FILES, PolicyFileError, PolicyFiles, PolicyFilesError};
pub use volume::volume_of;
