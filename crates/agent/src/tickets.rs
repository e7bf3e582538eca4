//! The swarm tickets that this device holds.

use std::collections::HashMap;

use parking_lot::Mutex;
use peerage_content::{ContentId, Signed, SwarmTicket};
use tokio::sync::watch;

/// A ticket is not shown in its last minute: it might be void when it arrives.
const MARGIN_S: u64 = 60;

/// Tickets by content.
#[derive(Debug)]
pub(crate) struct Tickets {
    held: Mutex<HashMap<ContentId, (u64, Vec<u8>)>>,
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
        held.retain(|_, (not_after, _)| *not_after > now);
        held.insert(ticket.get().content, (ticket.get().not_after, ticket.as_bytes().to_vec()));
        drop(held);
        self.changed.send_modify(|count| *count += 1);
    }

    /// The bytes of the ticket for `id`, if it holds for another minute.
    pub(crate) fn get(&self, id: ContentId) -> Option<Vec<u8>> {
        let now = *self.now.lock();
        self.held
            .lock()
            .get(&id)
            .filter(|(not_after, _)| *not_after > now + MARGIN_S)
            .map(|(_, raw)| raw.clone())
    }

    /// Wakes whenever a ticket arrives.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
