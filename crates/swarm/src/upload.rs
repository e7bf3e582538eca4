//! The serving side: who is unchoked, and what becomes of requests.
//!
//! A fleet has one owner, so there is no tit-for-tat: everyone who wants something is served. Only when more peers want
//! something than can be served well at once do they take turns.

use std::time::Duration;

use peerage_content::PieceIndex;
use peerage_wire::{Message, RejectCode};

use crate::{Action, SourceId, Time, Transfer};

/// Peers served at once: all, unless an administrator allows many more connections than there are by default.
const MAX_UNCHOKED: usize = 64;
/// How long a peer is served at least when others wait.
const TURN: Duration = Duration::from_secs(10);

impl Transfer {
    pub(crate) fn requested(
        &mut self,
        source: SourceId,
        piece: PieceIndex,
        offset: u32,
        len: u32,
        now: Time,
    ) {
        let fits = self.pieces.layout().fits(piece, offset, len);
        let here = self.pieces.have().contains(piece);
        let Some(peer) = self.peers.get_mut(&source) else { return };
        if !fits {
            self.breach(source, "a request outside the content");
        } else if peer.serving.choked || !self.limits.upload_to_peers {
            // It may have been sent before our `Choke` arrived; the `Choke` is the answer.
        } else if !here {
            self.send(source, Message::Reject { code: RejectCode::NotHere, piece, offset, len });
        } else if peer.serving.want(piece, offset, len) {
            self.serving_pace.begin(now);
            self.hand_out(source, now);
        } else {
            self.breach(source, "more than 64 outstanding requests");
        }
    }

    /// An upload has left.
    pub(crate) fn sent(&mut self, source: SourceId, len: u32, now: Time) {
        self.to_all.add(u64::from(len), now);
        self.serving_pace.add(u64::from(len), now);
        let Some(peer) = self.peers.get_mut(&source) else {
            if let Some(kind) = self.departed.kind(source) {
                *self.stats.sent.get_mut(kind) += u64::from(len);
            }
            return;
        };
        peer.up.add(u64::from(len), now);
        self.uploads -= peer.serving.under_way().min(1);
        *self.stats.sent.get_mut(peer.kind) += u64::from(len);
        if peer.serving.sent(now) && !peer.leaving {
            // It may have been let in again meanwhile.
            self.chokes_due = self.chokes_due.or(peer.serving.respite_ends());
            self.send(source, Message::Choke);
        }
        self.hand_out(source, now);
        if self.uploads == 0 {
            self.served = true;
            self.serving_pace.end();
        }
    }

    /// Hands the next chunks for `source` to the driver.
    fn hand_out(&mut self, source: SourceId, now: Time) {
        let Some(peer) = self.peers.get_mut(&source).filter(|peer| !peer.leaving) else { return };
        let rate = peer.up.rate(now);
        while let Some(chunk) = peer.serving.next(rate) {
            let (piece, offset, len) = (chunk.piece, chunk.offset, chunk.len);
            self.uploads += 1;
            self.actions.push_back(Action::Upload { source, piece, offset, len });
        }
    }

    /// A piece is not here any more: whoever waits for it is told.
    pub(crate) fn stop_serving(&mut self, piece: PieceIndex) {
        for (source, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.leaving) {
            for chunk in peer.serving.lost(piece) {
                let (code, offset, len) = (RejectCode::NotHere, chunk.offset, chunk.len);
                let message = Message::Reject { code, piece, offset, len };
                self.actions.push_back(Action::Send { source: *source, message });
            }
        }
    }

    /// Decides who is served: all who want something, up to [`MAX_UNCHOKED`]; beyond that in turns.
    pub(crate) fn review_chokes(&mut self, now: Time) {
        (self.chokes_reviewed, self.chokes_due) = (now, None);
        let allowed = self.limits.upload_to_peers;
        let have = self.pieces.have();
        // Whoever is not complete will want what is still on its way here.
        let mut wanting: Vec<SourceId> = self
            .peers
            .iter()
            .filter(|(_, peer)| allowed && !peer.leaving && !peer.have.is_full())
            .map(|(source, _)| *source)
            .collect();
        if wanting.len() > MAX_UNCHOKED {
            // Those that something can be sent to; of them first those whose turn is not over, then those who have
            // waited longest. The rest fill up: a piece may arrive here at any moment.
            wanting.sort_by_cached_key(|source| {
                self.peers.get(source).map(|peer| {
                    let useful = have.has_beyond(&peer.have);
                    let in_turn = !peer.serving.choked && now.since(peer.serving.since) < TURN;
                    (!useful, !in_turn, !peer.serving.choked, peer.serving.since)
                })
            });
            wanting.truncate(MAX_UNCHOKED);
        }
        wanting.sort_unstable();
        for (source, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.leaving) {
            let serve = wanting.binary_search(source).is_ok();
            if peer.serving.choked != serve {
                continue;
            }
            let (said, message) = if serve {
                let said = peer.serving.unchoke(now);
                if let Some(ends) = peer.serving.respite_ends() {
                    self.chokes_due = Some(self.chokes_due.map_or(ends, |due| due.min(ends)));
                }
                (said, Message::Unchoke)
            } else {
                (peer.serving.choke(now), Message::Choke)
            };
            if said {
                self.actions.push_back(Action::Send { source: *source, message });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::{Bitmap, Layout, PeerId};

    use super::*;
    use crate::{Event, Limits, SourceKind, Start};

    /// What is said of chokes until nothing more is to be done, letting time pass up to `until`.
    fn said(engine: &mut Transfer, now: &mut Time, until: Time) -> Vec<(Time, Message)> {
        let mut said = Vec::new();
        loop {
            while let Some(action) = engine.poll_action(*now) {
                if let Action::Send { message: message @ (Message::Choke | Message::Unchoke), .. } = action {
                    said.push((*now, message));
                }
            }
            match engine.poll_timeout() {
                Some(due) if due <= until => *now = due.max(*now),
                _ => return said,
            }
            engine.handle_timeout(*now);
        }
    }

    #[test]
    fn who_may_be_served_again_hears_of_it_half_a_second_after_the_opposite() {
        let layout = Layout::new(5 << 20).unwrap();
        let mut engine = Transfer::new(Start {
            me: PeerId::from_bytes([1; 32]),
            layout,
            have: Bitmap::full(layout.pieces()),
            partial: Vec::new(),
            limits: Limits::default(),
            seed: 1,
        });
        let mut now = Time::from_micros(10_000_000);
        let (peer, have) = (PeerId::from_bytes([2; 32]), Bitmap::for_layout(layout));
        engine.handle(Event::PeerJoined { source: SourceId(1), peer, kind: SourceKind::Lan, have }, now);
        let begun = now;
        assert_eq!(said(&mut engine, &mut now, begun), [(begun, Message::Unchoke)]);
        let closed = Limits { upload_to_peers: false, ..Limits::default() };
        engine.handle(Event::Limits(closed), now);
        engine.handle(Event::Limits(Limits::default()), now);
        let told = said(&mut engine, &mut now, begun + Duration::from_secs(5));
        let half = begun + Duration::from_millis(500);
        assert_eq!(told, [(begun, Message::Choke), (half, Message::Unchoke)]);
        // As long as it may not be, nothing is said, and nobody is woken for it.
        engine.handle(Event::Limits(closed), now);
        let later = now + Duration::from_secs(5);
        assert_eq!(said(&mut engine, &mut now, later).len(), 1);
        assert!(engine.chokes_due.is_none());
    }
}
