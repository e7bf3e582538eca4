//! What a content does when conditions change: its turn among those that may be served, and another network.

use peerage_swarm::{Event, FetchError};

use super::Actor;

/// A content's place among the files that may be served at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Served,
    /// Somebody wants it, and others are served.
    Waits,
    /// Nobody wants it.
    Unwanted,
}

impl Actor {
    /// Whether this content may be served now, as far as others leave room.
    pub(super) fn ask_place(&self) -> Place {
        if self.slots.is_some() && !(self.allowed.serve_any() && self.transfer.is_wanted()) {
            self.shared.leave_slot(self.id());
            return Place::Unwanted;
        }
        if self.shared.upload_slot(self.id(), self.slots) { Place::Served } else { Place::Waits }
    }

    /// The network is another one: connections of before may lead nowhere.
    pub(super) fn begin_anew(&mut self) {
        for (fetch, running) in std::mem::take(&mut self.fetches) {
            running.task.abort();
            self.feed(Event::FetchFailed { fetch, error: FetchError::Retry(None) });
        }
        self.feed(Event::NetworkChanged);
        if !self.transfer.is_complete() {
            self.shared.announcer.poke(self.id());
        }
    }
}
