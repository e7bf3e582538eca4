//! The swarm tickets that this device holds.

use std::collections::HashMap;

use parking_lot::Mutex;
use peerage_content::{ContentId, Place, Signed, SwarmTicket};
use tokio::sync::watch;

/// A ticket is not shown in its last minute: it might be void when it arrives.
const MARGIN_S: u64 = 60;

/// A ticket of this device.
#[derive(Debug, Clone)]
pub(crate) struct OwnTicket {
    not_after: u64,
    /// Where the coordinator sees this device.
    pub(crate) place: Place,
    /// What is shown to peers.
    pub(crate) bytes: Vec<u8>,
}

/// Tickets by content.
#[derive(Debug)]
pub(crate) struct Tickets {
    held: Mutex<HashMap<ContentId, OwnTicket>>,
    changed: watch::Sender<u64>,
    /// Unix seconds by the coordinator's clock, as of the last answer; good enough to drop old tickets.
    now: Mutex<u64>,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { held: Mutex::default(), changed: watch::Sender::new(0), now: Mutex::default() }
    }
}

impl Tickets {
    /// Keeps a ticket that was checked.
    pub(crate) fn put(&self, ticket: &Signed<SwarmTicket>, now: u64) {
        *self.now.lock() = now;
        let mut held = self.held.lock();
        held.retain(|_, own| own.not_after > now);
        let SwarmTicket { content, not_after, place, .. } = *ticket.get();
        held.insert(content, OwnTicket { not_after, place, bytes: ticket.as_bytes().to_vec() });
        drop(held);
        self.changed.send_modify(|count| *count += 1);
    }

    /// The ticket for `id`, if it holds for another minute.
    pub(crate) fn get(&self, id: ContentId) -> Option<OwnTicket> {
        let now = *self.now.lock();
        self.held.lock().get(&id).filter(|own| own.not_after > now + MARGIN_S).cloned()
    }

    /// Wakes whenever a ticket arrives.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
