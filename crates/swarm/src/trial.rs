//! Trials: what a device that downloads alone makes of peers of which it knows nothing.
//!
//! Neighbours that are named as holders of everything get a moment from then on, a small share of what the origin would take
//! ([`Transfer::first_patience`]), and time for a handshake if nobody waits for the file. Whoever has shown a pace by then is
//! believed, and the origin is not asked. All others are on trial, and so is whoever comes later: the origin delivers as if
//! they were not there, and they are asked for one request, of what the origin will bring last. Who has delivered the first
//! of it, and not slowly, is believed, and the origin is left alone.
//!
//! So a useless neighbour costs that moment and nothing else, and a good one that needs longer costs the origin what it sends
//! meanwhile. In company nobody is on trial: what one device fetches beside its peers is worth less than what all of
//! them would.

use peerage_content::{BLOCK_SIZE, BlockSet, PieceIndex};

use crate::late::last_blocks;
use crate::origin::NEARLY_DONE;
use crate::pace::EVIDENCE;
use crate::peer::REQUEST_BLOCKS;
use crate::{SourceId, Time, Transfer};

/// Where somebody waits for the file, this share of the origin's rate is enough at first: first bytes say less of what peers can
/// do than those that follow, by which they are judged.
const FIRST_SHARE: f64 = 0.5;

impl Transfer {
    /// Whether named holders still have their moment.
    pub(crate) fn hopes(&self, now: Time) -> bool {
        !self.on_trial && self.hope_since.is_some_and(|since| now < since + self.first_patience())
    }

    /// When that moment is over, of a device that downloads alone.
    pub(crate) fn hope_ends(&self) -> Option<Time> {
        let alone = !self.on_trial && self.is_alone();
        self.hope_since.filter(|_| alone).map(|since| since + self.first_patience())
    }

    /// Puts peers on trial when their moment is over. Called once a tick.
    pub(crate) fn review_trials(&mut self, now: Time) {
        if self.on_trial || !self.is_alone() || self.hopes(now) {
            return;
        }
        self.on_trial = true;
        if self.are_fair(now) {
            return;
        }
        for source in self.peers.keys().copied().collect::<Vec<_>>() {
            self.set_counted(source, false);
            // Its requests stand: what it still delivers is welcome.
            self.pieces.unask_all(source);
            let evidence = self.evidence();
            if let Some(peer) = self.peers.get_mut(&source) {
                peer.try_out(evidence);
            }
        }
    }

    /// Whether a newcomer that has everything is on trial.
    pub(crate) fn tries_newcomers(&self) -> bool {
        self.on_trial && self.is_alone()
    }

    /// Bytes by which a peer shows its pace: a block is enough where it need not be fast.
    pub(crate) const fn evidence(&self) -> u64 {
        if self.limits.foreground { EVIDENCE } else { BLOCK_SIZE as u64 }
    }

    /// Whether believed peers have shown paces for which the origin may be left alone until they are judged.
    pub(crate) fn are_fair(&self, now: Time) -> bool {
        let share = if self.limits.foreground { FIRST_SHARE } else { 1.0 };
        let least = self.wanted_rate(now).unwrap_or_default() * share;
        let evidence = self.evidence();
        let believed = self.peers.values().filter(|peer| peer.counted);
        let paces = believed.filter_map(|peer| peer.pace.rate_of(evidence, now));
        paces.reduce(|sum, pace| sum + pace).is_some_and(|sum| sum >= least)
    }

    /// What a peer on trial is asked for when the origin has been asked for everything: what that will bring last.
    pub(crate) fn far_end(&self, source: SourceId) -> Option<(PieceIndex, BlockSet)> {
        let peer = self.peers.get(&source).filter(|peer| peer.is_silent() && self.tries_newcomers())?;
        let range = self.https.values().flat_map(|http| http.ranges.iter()).last()?;
        let piece = range.pieces().last().filter(|piece| peer.have.contains(*piece))?;
        if range.left() <= NEARLY_DONE || self.pieces.is_solo(piece) {
            return None;
        }
        let to_come = self.blocks_between(piece, range.at, range.end);
        let missing = to_come.minus(to_come.minus(self.pieces.missing_blocks(piece)));
        // Not what another one on trial is asked for.
        let asked =
            self.peers.values().flat_map(|peer| &peer.requests).filter(|request| request.piece == piece);
        let free = asked.fold(missing, |free, request| free.minus(request.left));
        (!free.is_empty()).then(|| (piece, last_blocks(free, REQUEST_BLOCKS)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use peerage_content::{BLOCK_SIZE, Bitmap, Layout, PIECE_SIZE, PeerId};
    use peerage_wire::Message;

    use super::*;
    use crate::{Action, Candidate, Event, Limits, Outcome, SourceKind, Start};

    const ORIGIN: SourceId = SourceId(0);
    const NEIGHBOUR: SourceId = SourceId(1);
    const PEER: PeerId = PeerId::from_bytes([1; 32]);

    /// A device that somebody waits for, to which a neighbour has been named that has all of four pieces, and an origin of
    /// which nothing is known. A moment is half a millisecond then.
    struct Device {
        engine: Transfer,
        now: Time,
    }

    impl Device {
        fn new() -> Self {
            let layout = Layout::new(4 * u64::from(PIECE_SIZE)).unwrap();
            let mut device = Self {
                engine: Transfer::new(Start {
                    me: PeerId::from_bytes([9; 32]),
                    layout,
                    have: Bitmap::for_layout(layout),
                    partial: Vec::new(),
                    limits: Limits { foreground: true, ..Limits::default() },
                    seed: 1,
                }),
                now: Time::ZERO,
            };
            let candidate = Candidate { peer: PEER, kind: SourceKind::Lan, seed: true, moved: false };
            let told = Event::Discovered { candidates: vec![candidate], ordinal: Some(1), downloaders: 0 };
            assert_eq!(device.tell(told), [Action::Dial { peer: PEER }]);
            let origin = Event::HttpJoined { source: ORIGIN, kind: SourceKind::Cdn, known_rate: None };
            assert!(device.tell(origin).is_empty(), "the neighbour has its moment");
            device
        }

        fn tell(&mut self, event: Event) -> Vec<Action> {
            self.engine.handle(event, self.now);
            std::iter::from_fn(|| self.engine.poll_action(self.now)).collect()
        }

        /// Time passes until the engine wants to be woken up.
        fn wait(&mut self) -> Vec<Action> {
            self.now = self.engine.poll_timeout().unwrap();
            self.engine.handle_timeout(self.now);
            std::iter::from_fn(|| self.engine.poll_action(self.now)).collect()
        }

        fn meet(&mut self) -> Vec<Action> {
            let (source, peer, kind, have) = (NEIGHBOUR, PEER, SourceKind::Lan, Bitmap::full(4));
            let mut actions = self.tell(Event::PeerJoined { source, peer, kind, have });
            actions.extend(self.tell(Event::Message { source, message: Message::Unchoke }));
            actions
        }

        fn receive(&mut self, piece: PieceIndex, block: u32) -> Vec<Action> {
            self.now = self.now + Duration::from_micros(100);
            let (offset, outcome) = (block * BLOCK_SIZE, Outcome::Partial);
            self.tell(Event::Stored { source: NEIGHBOUR, piece, offset, len: BLOCK_SIZE, outcome })
        }
    }

    fn asks(actions: &[Action]) -> Vec<(u32, u32)> {
        let request = |action: &Action| match action {
            Action::Send { message: Message::Request { piece, offset, .. }, .. } => {
                Some((piece.0, *offset / BLOCK_SIZE))
            }
            _ => None,
        };
        actions.iter().filter_map(request).collect()
    }

    fn fetches(actions: &[Action]) -> bool {
        actions.iter().any(|action| matches!(action, Action::Fetch { .. }))
    }

    fn gives_up(actions: &[Action]) -> bool {
        actions.iter().any(|action| matches!(action, Action::CancelFetch { .. }))
    }

    #[test]
    fn whoever_is_in_time_keeps_the_origin_waiting_and_is_asked_for_much() {
        let mut device = Device::new();
        let asked = asks(&device.meet());
        assert_eq!(asked.len(), 4, "{asked:?}");
        for (block, piece) in (0..4).map(|block| (block, PieceIndex(asked[0].0))) {
            device.receive(piece, block);
        }
        assert!(!fetches(&device.wait()));
    }

    #[test]
    fn whoever_is_not_is_passed_over_without_a_pause() {
        let mut device = Device::new();
        assert_eq!(asks(&device.meet()).len(), 4);
        assert!(fetches(&device.wait()) && device.now <= Time::from_micros(600), "{:?}", device.now);
        assert!(!gives_up(&device.wait()));
    }

    #[test]
    fn whoever_comes_late_shows_what_it_can_at_the_far_end() {
        let mut device = Device::new();
        assert!(fetches(&device.wait()));
        let actions = device.meet();
        // Pieces 2 and 3 were asked for first, then 0 and 1.
        assert!(!gives_up(&actions) && asks(&actions) == [(1, 48)], "{actions:?}");
        let actions: Vec<Action> = (48..53).flat_map(|block| device.receive(PieceIndex(1), block)).collect();
        assert!(gives_up(&actions) && asks(&actions).len() > 1, "{actions:?}");
    }
}
