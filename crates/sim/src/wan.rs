//! A site's link to the rest of the world, shared by its devices.

use peerage_swarm::Time;

use crate::link::Link;

/// The link of one site, and what has crossed it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wan {
    pub(crate) down: Link,
    pub(crate) up: Link,
    /// Bytes that came from outside.
    pub(crate) received: u64,
    /// Bytes that left the site.
    pub(crate) sent: u64,
}

/// When the first and the last of some bytes leave a link.
pub(crate) type Leaves = (Time, Time);

impl Wan {
    /// Rates in bytes a second.
    pub(crate) const fn new(down: u64, up: u64) -> Self {
        Self { down: Link::new(down), up: Link::new(up), received: 0, sent: 0 }
    }

    /// Bytes that left a device of the site leave the site.
    pub(crate) fn out(&mut self, bytes: u64, leaves: Leaves) -> Leaves {
        self.sent += bytes;
        let (first, last) = self.up.take(bytes, leaves.0);
        (first, last.max(leaves.1))
    }

    /// Bytes come in.
    pub(crate) fn take_in(&mut self, bytes: u64, comes: Leaves) -> Leaves {
        self.received += bytes;
        let (first, last) = self.down.take(bytes, comes.0);
        (first, last.max(comes.1))
    }
}
