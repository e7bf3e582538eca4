//! What the rest of the agent sees of a content, made from the engine's figures.

use std::collections::BTreeMap;
use std::sync::Arc;

use peerage_api::why::Because;
use peerage_policy::Reason;
use peerage_swarm::ByKind;

use super::Actor;
use super::withheld::sentence;
use crate::content::ContentStatus;
use crate::content::status::PeerRow;
use crate::relay::Unmet;
use crate::shared::Share;
use crate::why;

/// Told beside the reasons of policy.
const NO_RANGES: &str = "The origin, or a proxy on the way to it, ignores ranges and sends the whole file each time: it is \
                         used on one connection, from the first byte on.";

impl Actor {
    pub(super) fn counters(&self) -> (ByKind, ByKind, u64) {
        let stats = self.transfer.stats(self.now());
        let (received, sent, wasted) = &self.before;
        (received.plus(&stats.received), sent.plus(&stats.sent), wasted + stats.wasted)
    }

    pub(super) fn show(&mut self) {
        let stats = self.transfer.stats(self.now());
        self.shown_moving = stats.down_rate > 0 || stats.up_rate > 0;
        let (received, sent, wasted) = self.counters();
        let size = self.content.layout().size();
        let have = self.transfer.have();
        let last = peerage_content::PieceIndex(have.len().saturating_sub(1));
        let short = u64::from(peerage_content::PIECE_SIZE) - u64::from(self.content.layout().piece_len(last));
        let full = u64::from(have.count()) * u64::from(peerage_content::PIECE_SIZE);
        let verified = if have.contains(last) { full - short } else { full };
        let asked = self.fetches.values().filter_map(|running| self.cache_of(running.source));
        let (from_caches, cache_host) = (asked.clone().count(), asked.map(|at| at.host.to_string()).next());
        // Whoever is connected is known, whether discovery, the link, or it itself has told of it.
        let peers = self.peer_rows();
        let known_peers = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        let status = ContentStatus {
            wants: self.wants.keys().copied().collect(),
            complete: self.transfer.is_complete(),
            verified_bytes: verified.min(size),
            received,
            sent,
            wasted,
            down_rate: stats.down_rate,
            up_rate: stats.up_rate,
            known_peers,
            others: known_peers > 0 || self.http.values().any(|http| http.cache.is_some() && !http.left),
            http_connections: (self.fetches.len() - from_caches) as u32,
            cache_connections: from_caches as u32,
            cache_host,
            peers,
            trouble: self.trouble.clone(),
            share: Share::of(&self.allowed),
            held: self.held,
            reasons: self.reasons(),
            account: Arc::clone(&self.account),
        };
        self.status.send_replace(Arc::new(status));
    }

    fn reasons(&self) -> Vec<Because> {
        let mut reasons = self.reasons.clone();
        if self.http.values().any(|http| http.whole && http.cache.is_none()) {
            reasons.push(why::note(NO_RANGES.to_owned()));
        }
        let others = self.transfer.is_complete() || self.known.len() > self.links.len();
        if others && !self.known.is_empty() && !self.shared.places.is_free(self.shared.max_connections()) {
            let policy = self.shared.policy();
            reasons.push(why::because(&Reason::no_peer_place(&policy.settings), &policy.layers));
        }
        // Each reason once, and only of those who are still not there.
        let mut unmet: Vec<Unmet> = Vec::new();
        for (peer, why) in &self.unmet {
            if self.known.contains_key(peer) && !self.transfer.is_complete() && !unmet.contains(why) {
                unmet.push(*why);
            }
        }
        let policy = self.shared.policy();
        reasons.extend(unmet.into_iter().map(|why| why.because(&policy)));
        reasons
    }

    fn peer_rows(&self) -> Vec<PeerRow> {
        let mut rows = BTreeMap::new();
        for (peer, (addresses, kind)) in &self.known {
            let Some(address) = addresses.first() else { continue };
            let unmet = || self.unmet.get(peer).map(|why| why.note().to_owned());
            let note = self.shared.ban_note(peer).or_else(unmet);
            let parted = self.parted.get(peer).copied().unwrap_or_default();
            let row = PeerRow {
                peer: *peer,
                address: *address,
                kind: *kind,
                connected: false,
                relayed: false,
                received: parted.received,
                sent: parted.sent,
                down_rate: 0,
                up_rate: 0,
                note,
            };
            rows.insert(*peer, row);
        }
        for stats in self.transfer.peer_stats(self.now()) {
            let Some(link) = self.links.get(&stats.source) else { continue };
            let withheld = self.withholders.get(&stats.source);
            let withheld = withheld.map(|reason| format!("does not share now: {}", sentence(*reason)));
            let note = self.shared.ban_note(&stats.peer).or(withheld);
            let parted = self.parted.get(&stats.peer).copied().unwrap_or_default();
            let row = PeerRow {
                peer: stats.peer,
                address: link.address,
                kind: stats.kind,
                connected: true,
                relayed: link.relayed.is_some(),
                received: parted.received + stats.received,
                sent: parted.sent + stats.sent,
                down_rate: stats.down_rate,
                up_rate: stats.up_rate,
                note,
            };
            rows.insert(stats.peer, row);
        }
        rows.into_values().collect()
    }
}
