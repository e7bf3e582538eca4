//! Peers that have left, for bytes that are not counted yet.
//!
//! A peer may say all that it has to say and close; what it brought is reported when the store has it, and what was
//! sent to it when the socket has taken it: both after the engine was told that the peer left. Those bytes went over
//! the wire, so they count like any others.

use std::collections::VecDeque;

use crate::{SourceId, SourceKind};

/// How many are remembered: more than can leave in the time that a write takes, by the limit of connections.
const KEPT: usize = 128;

/// What kind of peers those were that left last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Departed(VecDeque<(SourceId, SourceKind)>);

impl Departed {
    pub(crate) fn add(&mut self, source: SourceId, kind: SourceKind) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((source, kind));
    }

    pub(crate) fn kind(&self, source: SourceId) -> Option<SourceKind> {
        self.0.iter().rev().find(|(left, _)| *left == source).map(|(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::{Bitmap, Layout, PeerId, PieceIndex};

    use super::*;
    use crate::{Event, Limits, Outcome, Start, Time, Transfer};

    #[test]
    fn bytes_that_are_told_of_after_the_peer_has_left_count() {
        let layout = Layout::new(77).unwrap();
        let have = Bitmap::for_layout(layout);
        let (me, peer) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
        let start =
            Start { me, layout, have: have.clone(), partial: Vec::new(), limits: Limits::default(), seed: 1 };
        let (mut engine, source, now) = (Transfer::new(start), SourceId(1), Time::from_micros(1));
        engine.handle(Event::PeerJoined { source, peer, kind: SourceKind::Lan, have }, now);
        engine.handle(Event::PeerLeft { source }, now);
        let (piece, outcome) = (PieceIndex(0), Outcome::Verified);
        engine.handle(Event::Stored { source, piece, offset: 0, len: 77, outcome }, now);
        engine.handle(Event::Sent { source, len: 5 }, now);
        let mut stats = engine.stats(now);
        assert_eq!((*stats.received.get_mut(SourceKind::Lan), stats.wasted), (77, 0));
        assert_eq!(*stats.sent.get_mut(SourceKind::Lan), 5);
    }

    #[test]
    fn the_last_are_remembered_and_no_more() {
        let mut departed = Departed::default();
        let count = KEPT as u32 + 1;
        (0..count).for_each(|number| departed.add(SourceId(number), SourceKind::Lan));
        assert_eq!(departed.kind(SourceId(0)), None);
        assert_eq!(departed.kind(SourceId(1)), Some(SourceKind::Lan));
        assert_eq!(departed.kind(SourceId(count - 1)), Some(SourceKind::Lan));
        assert_eq!(departed.0.len(), KEPT);
    }
}
