//! Neighbours come and go. Whoever goes takes its requests, claims and availability with it.

use peerage_content::{Bitmap, PeerId};
use peerage_wire::{ByeReason, Message};

use crate::peer::Peer;
use crate::plan::FIRST_NEED;
use crate::{Action, Offence, SourceId, SourceKind, Time, Transfer};

impl Transfer {
    pub(crate) fn peer_joined(
        &mut self,
        source: SourceId,
        id: PeerId,
        kind: SourceKind,
        have: Bitmap,
        now: Time,
    ) {
        self.dialer.connected(id);
        self.knows_far_peers |= !kind.is_near();
        if have.len() != self.pieces.layout().pieces() {
            let nothing = Bitmap::for_layout(self.pieces.layout());
            self.peers.insert(source, Peer::new(id, kind, nothing, true, now));
            self.breach(source, "a bitmap of another length");
            return;
        }
        let complete = have.is_full();
        let tried = complete && self.may_count(kind) && self.tries_newcomers();
        let counted = self.may_count(kind) && self.trusts_newcomers() && !tried;
        if counted {
            have.iter().for_each(|piece| self.pieces.peer_has(piece, kind));
        }
        let mut newcomer = Peer::new(id, kind, have, counted, now);
        if tried {
            newcomer.try_out(self.evidence());
        }
        self.peers.insert(source, newcomer);
        if complete && self.is_complete() {
            self.disconnect(source, ByeReason::Complete);
            return;
        }
        let mut claimed = self.own_claims();
        if kind.is_near() {
            claimed.extend(self.crossing.keys().filter(|piece| !self.pieces.have().contains(**piece)));
        }
        if !claimed.is_empty() && !complete {
            self.send(source, Message::Fetching { active: true, pieces: claimed });
        }
        self.http_due = true;
        // A dial has come to its end: there is room for the next, which a small content has no time to wait for.
        self.dial_due |= !self.knows_far_peers;
        self.review_chokes(now);
    }

    pub(crate) fn peer_left(&mut self, source: SourceId, now: Time) {
        self.set_counted(source, false);
        let Some(peer) = self.peers.remove(&source) else { return };
        self.departed.add(source, peer.kind);
        self.uploads -= peer.serving.under_way();
        self.pieces.unask_all(source);
        self.claims.leave(source);
        self.dialer.gone(peer.id, &mut self.rng, now);
        (self.http_due, self.dial_due) = (true, true);
        if self.peers.is_empty() {
            // It may have restarted, and be found elsewhere.
            self.need_peers_at = self.need_peers_at.min(now + FIRST_NEED);
            self.need_peers_wait = FIRST_NEED * 2;
        }
        self.review_chokes(now);
    }

    pub(crate) fn disconnect(&mut self, source: SourceId, reason: ByeReason) {
        self.set_counted(source, false);
        let Some(peer) = self.peers.get_mut(&source).filter(|peer| !peer.leaving) else { return };
        peer.leaving = true;
        peer.drop_requests(|_| true);
        peer.serving.clear();
        self.pieces.unask_all(source);
        self.claims.leave(source);
        self.actions.push_back(Action::Disconnect { source, reason });
    }

    pub(crate) fn charge(&mut self, peer: PeerId, offence: Offence) {
        self.actions.push_back(Action::Charge { peer, offence });
        if matches!(offence, Offence::Protocol(_)) {
            self.dialer.banned(peer);
        }
    }

    pub(crate) fn send(&mut self, source: SourceId, message: Message) {
        self.actions.push_back(Action::Send { source, message });
    }
}
