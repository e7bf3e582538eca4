//! What a content does when conditions change: policy and facts, its turn among those that may be served, another network.

use std::sync::Arc;
use std::time::Duration;

use peerage_policy::{Class, ContentFacts, Reason, RecordState};
use peerage_swarm::{Event, FetchError, Limits};

use super::Actor;
use super::withheld::reason_of;
use crate::caches::origin_url;
use crate::why;

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
    /// Decides anew what this content may do, and does what follows from it.
    pub(super) fn apply_policy(&mut self) {
        let foreground = self.wants.values().any(|want| want.foreground);
        let class = if foreground { Class::Foreground } else { Class::Background };
        let state = match &self.record {
            None => RecordState::Missing,
            Some(record) if self.shared.record_keys().contains(&record.signer()) => {
                RecordState::Held(record.get())
            }
            Some(_) => RecordState::Untrusted,
        };
        let origin = self.http.values().find(|http| http.cache.is_none()).map(|http| &http.url);
        let facts = ContentFacts {
            class,
            record: state,
            size: Some(self.content.layout().size()),
            origin: origin_url(origin),
        };
        let decision = self.shared.decide(&facts);
        let policy = self.shared.policy();
        self.own_reason = reason_of(&decision);
        self.reasons = decision.reasons.iter().map(|reason| why::because(reason, &policy.layers)).collect();
        // What is decided later is about sharing, not about where the bytes came from.
        if !self.wants.is_empty() && !self.transfer.is_complete() {
            let received = self.counters().0;
            let decided =
                why::decided(&decision, class, &policy.layers, None, &received, self.shared.clock.unix());
            Arc::make_mut(&mut self.account).decided(decided);
        }
        let regrouped = (self.allowed.group, self.allowed.link_local.of_group)
            != (decision.allowed.group, decision.allowed.link_local.of_group);
        let mut changed = self.allowed != decision.allowed;
        self.allowed = decision.allowed;
        if regrouped {
            self.leave_group();
        }
        self.slots = decision.limits.upload_slots;
        self.place = self.ask_place();
        if self.place == Place::Waits {
            self.reasons.push(why::because(&Reason::no_upload_slot(&policy.settings), &policy.layers));
        }
        // Before what follows from it: a reason comes before the choke or the goodbye that it brings about.
        self.tell_reasons();
        let limits = Limits {
            max_peers: decision.limits.peer_connections as usize,
            download_from_peers: self.allowed.fetch_any(),
            upload_to_peers: self.allowed.serve_any() && self.place == Place::Served,
            origin_delay: Duration::from_secs(decision.limits.origin_delay),
            cache_delay: Duration::from_secs(decision.limits.cache_delay),
            min_rate: self.shared.policy().settings.min_background_qos,
            foreground,
        };
        self.lane.set_class(class);
        changed |= limits.max_peers > self.limits.max_peers;
        if limits != self.limits || self.idle_since.is_some() {
            self.limits = limits;
            self.feed(Event::Limits(limits));
        }
        self.dismiss_known();
        self.set_caches(&decision.caches);
        changed |= self.part_from_strangers();
        self.leave_links();
        let held = !self.allowed.download;
        if held != self.held {
            self.held = held;
            self.feed(Event::Pause(held || self.retry_at.is_some()));
        }
        let network = self.shared.policy().network;
        if std::mem::replace(&mut self.network, network) != network {
            self.begin_anew();
        } else if changed && !self.transfer.is_complete() {
            // Peers that were not allowed are to be tried without waiting for what earlier failures have earned them.
            self.feed(Event::NetworkChanged);
            self.shared.announcer.poke(self.id());
        }
        self.meet_neighbours();
    }

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
