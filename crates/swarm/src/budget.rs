//! Budgets: how many bytes may pass now.
//!
//! - [`Budget`]: a tree of caps (device > class > scope > download). What passes must fit into every cap above it.
//! - [`Downlink`]: what the downlink can carry, for caps that are percentages of it.
//! - [`Courtesy`]: how much the background may take while somebody waits for a foreground download.

mod courtesy;
mod downlink;
mod tree;

pub use courtesy::Courtesy;
pub use downlink::Downlink;
pub use tree::{Budget, Node};
