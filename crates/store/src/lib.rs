//! Store: one directory of verified pieces.
//!
//! - [`Store`]: one cache directory, held by one process; contents, staging areas, pins, expiry, [eviction](plan_eviction).
//! - [`Content`]: a handle to one content: [`write`](Content::write) blocks, [`read`](Content::read) verified pieces,
//!   [`seal`](Content::seal) it when it is complete.
//! - [`Staging`]: bytes in order, of a download whose content is not known.
//! - [`deliver()`]: the finished file to its user, in the user's process.
//!
//! Blocking: every method may wait for the disk. Call it where that is allowed (`spawn_blocking`).
//!
//! # Promises
//!
//! 1. Nothing is served that was not verified, and nothing that was changed from outside since it was sealed, before it
//!    has been verified again.
//! 2. After `kill -9` every verified piece is there, and every block of 16 KiB whose `write` had returned.
//! 3. After a power cut everything sealed is there. Of the rest, verified pieces count again once they have been hashed
//!    again; lone blocks are lost.
//! 4. Full disk, read-only volume, lost rights, deleted directory: an error that says so
//!    ([`StoreError::is_mendable`]), and the same call works when it is mended.
//!
//! # On disk
//!
//! ```text
//! lock
//! contents/<2 hex>/<64 hex id>/{data, map, pieces, meta.json}
//! staging/<name>/{data, state.json}
//! ```
//!
//! `data` is the file itself, sparse until it is complete, so that it can be delivered by reflink or hard link. `pieces`
//! says what of it is here; each entry carries its own check, so damage costs a piece to be hashed again and never makes
//! one look verified. `meta.json` has a second line with its check.
//!
//! No `fsync` while downloading: the boot id in `pieces` tells a killed process (the page cache survived) from a power
//! cut (it did not). A content is synced once, when it is sealed.
//!
//! # More than one directory
//!
//! The home directory is where new contents go. It [can become another one](Store::settle_in) while the store is open;
//! what is in the former ones stays in use and [comes after](Store::bring_home), one content at a time.
//!
//! What is not hashed when the store opens, however much is in doubt, is hashed when its first handle is asked for.

mod cached;
mod config;
mod content;
mod copy;
mod deliver;
mod dir;
mod error;
mod evict;
mod files;
mod gate;
mod import;
mod info;
mod item;
mod ledger;
mod map_file;
mod meta;
mod moving;
mod places;
mod progress;
mod recheck;
mod recover;
mod root;
mod seal;
mod stage;
mod staging;
mod store;
mod usage;
mod write;

pub use config::{BootId, StoreConfig};
pub use content::{Busy, Content};
pub use deliver::{DeliverMethod, DeliverOptions, Delivered, deliver};
pub use error::StoreError;
pub use evict::{EvictReason, Evicted, Limits, next_expiry, overdue, plan_eviction};
pub use import::ImportReport;
pub use info::ContentInfo;
pub use meta::{MAX_NOTES_LEN, Notes};
pub use places::Away;
pub use recheck::{MapReport, VerifyReport};
pub use stage::StagingInfo;
pub use staging::Staging;
pub use store::{MAX_EXPIRY_S, Store};
pub use usage::{Reach, Usage};
pub use write::Written;
