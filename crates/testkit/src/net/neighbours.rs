//! Room for the neighbours of a large world.
//!
//! The kernel counts the IPv4 neighbours that all namespaces of a machine know together (`gc_thresh3` in arp(7), 1024 unless set
//! otherwise), and what goes beyond cannot be connected to: 33 devices that all talk to each other are more. It is the one setting
//! of the machine itself that a world touches, and it is put back with the world.

use std::fs;

use anyhow::{Context as _, Result};

/// From so many namespaces on the machine's own limit may not do.
pub(super) const MANY: usize = 24;

/// Enough for 120 devices in one LAN.
const ROOM: u32 = 16 << 10;

const LIMIT: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";

/// The limit as it was, put back when this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    before: u32,
}

impl Room {
    /// Raises the limit. `None`: it is high enough already.
    pub(super) fn make() -> Result<Option<Self>> {
        let text = fs::read_to_string(LIMIT).with_context(|| format!("cannot read {LIMIT}"))?;
        let before = text.trim().parse().with_context(|| format!("{LIMIT} has {text:?}"))?;
        if before >= ROOM {
            return Ok(None);
        }
        set(ROOM)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = set(self.before) {
            #[expect(
                clippy::print_stderr,
                reason = "drop cannot fail, but must not hide what it left behind"
            )]
            {
                eprintln!("network lab: {error:#}");
            }
        }
    }
}

fn set(limit: u32) -> Result<()> {
    fs::write(LIMIT, limit.to_string()).with_context(|| format!("cannot set {LIMIT} to {limit}"))
}
