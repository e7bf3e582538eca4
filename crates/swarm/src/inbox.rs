//! What peers say.

use peerage_content::{BlockSet, PieceIndex};
use peerage_wire::{ByeReason, Message, RejectCode};

use crate::origin::NEARLY_DONE;
use crate::{FetchId, Offence, SourceId, Time, Transfer};

/// With so few pieces missing, whoever turns out to have one may take it over from a slower peer at once.
const NEARLY_COMPLETE: u32 = 16;
/// Pieces that a peer may claim and then refuse: one or two may honestly have been lost.
const MAX_BROKEN_WORDS: u32 = 3;

impl Transfer {
    pub(crate) fn message(&mut self, source: SourceId, message: Message, now: Time) {
        let Some(peer) = self.peers.get_mut(&source).filter(|peer| !peer.leaving) else { return };
        peer.has_spoken |= !matches!(message, Message::Fetching { .. });
        let layout = self.pieces.layout();
        let outside = |pieces: &[PieceIndex]| pieces.iter().any(|piece| !layout.contains(*piece));
        match message {
            Message::Have(pieces) | Message::Fetching { pieces, .. } if outside(&pieces) => {
                self.breach(source, "a piece outside the content");
            }
            Message::Have(pieces) => self.peer_has(source, &pieces, now),
            Message::Fetching { active: true, pieces } => self.peer_claims(source, &pieces, now),
            Message::Fetching { active: false, pieces } => {
                pieces.into_iter().for_each(|piece| self.claims.withdraw(source, piece));
                self.http_due = true;
            }
            Message::Choke => {
                peer.set_choking(true, now);
                peer.drop_requests(|_| true);
                self.pieces.unask_all(source);
            }
            Message::Unchoke => {
                peer.set_choking(false, now);
                self.ready.insert(source);
            }
            Message::Request { piece, offset, len } => self.requested(source, piece, offset, len, now),
            Message::Cancel { piece, offset, len } => peer.serving.unwant(piece, offset, len),
            Message::Reject { code, piece, .. } => self.rejected(source, code, piece, now),
            Message::Hello(_) => self.breach(source, "a second hello"),
            // The driver answers these itself.
            Message::GetMap { .. }
            | Message::Map { .. }
            | Message::Bye(_)
            | Message::Ping
            | Message::Withheld(_) => {}
        }
    }

    fn peer_has(&mut self, source: SourceId, pieces: &[PieceIndex], now: Time) {
        for piece in pieces {
            self.claims.made_good(source, *piece, now);
            let Some(peer) = self.peers.get_mut(&source) else { return };
            if !peer.have.insert(*piece) {
                continue;
            }
            if peer.counted {
                self.pieces.peer_has(*piece, peer.kind);
            }
            if !self.pieces.have().contains(*piece) {
                peer.dry = false;
                self.ready.insert(source);
                self.late_due |= self.pieces.missing() <= NEARLY_COMPLETE;
                self.heard_at = now;
                let fetches_it = self.ranges_with(*piece).next().is_some();
                self.http_due |= fetches_it;
            }
        }
        self.answer_news(source, pieces);
        if self.is_complete() && self.peers.get(&source).is_some_and(|peer| peer.have.is_full()) {
            self.disconnect(source, ByeReason::Complete);
        }
    }

    /// A neighbour fetches pieces from outside. If this device does so too, one of them has to leave it,
    /// unless it has all but a little of it: then the other one leaves it when it hears so.
    fn peer_claims(&mut self, source: SourceId, pieces: &[PieceIndex], now: Time) {
        // Whoever has everything fetches nothing.
        let Some(peer) = self.peers.get(&source).filter(|peer| peer.downloads()) else { return };
        let (id, has, precedes) = (peer.id, peer.have.count(), peer.id < self.me);
        let near = peer.kind.is_near() && peer.counted;
        self.crosses_all &= !near;
        for piece in pieces.iter().copied() {
            if self.pieces.have().contains(piece) {
                continue;
            }
            let temper = 1.0 + f64::from(self.rng.below(500)) / 1000.0;
            let honoured = self.claims.claim(source, id, piece, has, temper, now);
            if honoured && precedes && self.limits.download_from_peers && self.leaves_to_others(piece) {
                if near && !self.peers_slow {
                    self.leave_crossing(piece);
                }
                let left: Vec<FetchId> = self
                    .ranges_with(piece)
                    .filter(|range| range.left() > NEARLY_DONE)
                    .map(|range| range.fetch)
                    .collect();
                left.into_iter().for_each(|fetch| self.give_up(fetch));
            }
        }
    }

    fn rejected(&mut self, source: SourceId, code: RejectCode, piece: PieceIndex, now: Time) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        let dropped = peer.drop_requests(|request| request.piece == piece);
        let blocks = dropped.iter().fold(BlockSet::default(), |all, request| all.union(request.left));
        if code != RejectCode::NotHere {
            // Whatever it is, it does not want to be asked until it says so again.
            peer.set_choking(true, now);
            peer.drop_requests(|_| true);
            self.pieces.unask_all(source);
        } else if peer.have.remove(piece) {
            if peer.counted {
                self.pieces.peer_lost(piece, peer.kind);
            }
            peer.broken_words += 1;
            if peer.broken_words >= MAX_BROKEN_WORDS {
                self.breach(source, "it does not have what it claims to have");
            }
        }
        self.pieces.unask(source, piece, blocks);
    }

    /// A peer broke the rules: it is charged with it and disconnected.
    pub(crate) fn breach(&mut self, source: SourceId, what: &'static str) {
        let Some(peer) = self.peers.get(&source) else { return };
        self.charge(peer.id, Offence::Protocol(what));
        self.disconnect(source, ByeReason::Banned);
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::{BLOCK_SIZE, BLOCKS_PER_PIECE, Bitmap, Layout, PIECE_SIZE, PeerId};

    use super::*;
    use crate::{Action, Event, Limits, Outcome, SourceKind, Start};

    const ORIGIN: SourceId = SourceId(0);
    const NEIGHBOUR: SourceId = SourceId(1);
    const PIECE: PieceIndex = PieceIndex(0);

    /// Whether a device that has `blocks` of the only piece from the origin leaves the rest to a neighbour with a lower key.
    fn leaves_it_after(blocks: u32) -> bool {
        let layout = Layout::new(u64::from(PIECE_SIZE)).unwrap();
        let mut engine = Transfer::new(Start {
            me: PeerId::from_bytes([9; 32]),
            layout,
            have: Bitmap::for_layout(layout),
            partial: Vec::new(),
            limits: Limits::default(),
            seed: 1,
        });
        let mut actions = Vec::new();
        let mut tell = |event| {
            engine.handle(event, Time::ZERO);
            actions.extend(std::iter::from_fn(|| engine.poll_action(Time::ZERO)));
        };
        tell(Event::HttpJoined { source: ORIGIN, kind: SourceKind::Cdn, known_rate: None });
        for block in 0..blocks {
            let (offset, outcome) = (block * BLOCK_SIZE, Outcome::Partial);
            tell(Event::Stored { source: ORIGIN, piece: PIECE, offset, len: BLOCK_SIZE, outcome });
        }
        let (peer, kind) = (PeerId::from_bytes([1; 32]), SourceKind::Lan);
        tell(Event::PeerJoined { source: NEIGHBOUR, peer, kind, have: Bitmap::for_layout(layout) });
        let message = Message::Fetching { active: true, pieces: vec![PIECE] };
        tell(Event::Message { source: NEIGHBOUR, message });
        assert!(actions.iter().any(|action| matches!(action, Action::Fetch { start: 0, .. })));
        actions.iter().any(|action| matches!(action, Action::CancelFetch { .. }))
    }

    #[test]
    fn what_has_nearly_come_is_not_left_to_a_neighbour() {
        assert!(leaves_it_after(0) && leaves_it_after(BLOCKS_PER_PIECE / 2));
        assert!(!leaves_it_after(BLOCKS_PER_PIECE - 8));
    }
}
