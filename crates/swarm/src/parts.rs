//! Parts: how what is left is divided among the peers that have it.
//!
//! A piece is the unit of verification, a block that of progress: any source may bring any blocks of a piece. While near
//! peers have much to give, each is asked for as much as its pace allows and goes on with the piece that it has begun
//! ([`Peer::room`](crate::peer::Peer::room)). When they have little – all the time, if the content is one piece – the first
//! to have it would be asked for all of it, and whoever has it a moment later for nothing, however slow the first may be.
//! So each is then asked for its share of what nobody has been asked for, over and over, with one share left for whoever
//! comes next (guided self-scheduling: Polychronopoulos and Kuck, 1987). The shares shrink as the end comes near, so that
//! all sources are done at about the same time.
//!
//! What one source is asked for, no other is, unless it is late (`late.rs`): parts bring nothing twice. A wrong piece that
//! several had a part in proves nothing against any of them; it is then asked of one source at a time
//! (`Pieces::may_mix`), and shares do not apply to it. Nor do they where peers of other sites are known: what near peers
//! leave open would be asked of those, through a link that the whole site shares.

use peerage_content::PieceIndex;

use crate::peer::REQUEST_BLOCKS;
use crate::{SourceId, Time, Transfer};

/// Missing pieces, up to which those that peers have are shared out.
const FEW_PIECES: u32 = 16;

impl Transfer {
    /// Whether the content itself has few pieces.
    pub(crate) fn has_few_pieces(&self) -> bool {
        self.pieces.layout().pieces() <= FEW_PIECES
    }

    /// Blocks that may be asked of `source` now, of `room` that it has room for, beginning with `piece`.
    pub(crate) fn share(&self, source: SourceId, piece: PieceIndex, room: u32, now: Time) -> u32 {
        let Some(peer) = self.peers.get(&source) else { return 0 };
        let few = self.pieces.missing() <= FEW_PIECES && !self.knows_far_peers;
        if !few || !peer.counted || peer.is_silent() || self.pieces.is_solo(piece) {
            return room;
        }
        let (owed, holders) = (peer.outstanding(), u32::from(self.pieces.availability(piece)));
        let part = peer.part((self.pieces.open_at_peers() + owed).div_ceil(holders + 1), now);
        let more = part.saturating_sub(owed);
        // A request a block would be no use either.
        if more < (part / 2).min(REQUEST_BLOCKS) { 0 } else { room.min(more) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::time::Duration;

    use peerage_content::{BLOCK_SIZE, BLOCKS_PER_PIECE, Bitmap, BlockSet, Layout, PIECE_SIZE, PeerId};
    use peerage_wire::Message;

    use super::*;
    use crate::{Action, Event, Limits, Offence, Outcome, SourceKind, Start};

    const A: SourceId = SourceId(1);
    const B: SourceId = SourceId(2);
    const PIECE: PieceIndex = PieceIndex(0);

    /// A device that lacks a content of one piece, and what it has asked its peers for.
    struct Device {
        engine: Transfer,
        now: Time,
        asked: BTreeMap<SourceId, VecDeque<(u32, u32)>>,
        charged: Vec<PeerId>,
    }

    impl Device {
        fn new() -> Self {
            let layout = Layout::new(u64::from(PIECE_SIZE)).unwrap();
            let engine = Transfer::new(Start {
                me: PeerId::from_bytes([9; 32]),
                layout,
                have: Bitmap::for_layout(layout),
                partial: Vec::new(),
                limits: Limits::default(),
                seed: 1,
            });
            Self { engine, now: Time::ZERO, asked: BTreeMap::new(), charged: Vec::new() }
        }

        fn tell(&mut self, event: Event) {
            self.engine.handle(event, self.now);
            while let Some(action) = self.engine.poll_action(self.now) {
                match action {
                    Action::Send { source, message: Message::Request { offset, len, .. } } => {
                        self.asked.entry(source).or_default().push_back((offset, len));
                    }
                    Action::Send { source, message: Message::Cancel { offset, len, .. } } => {
                        self.asked.entry(source).or_default().retain(|asked| *asked != (offset, len));
                    }
                    Action::Charge { peer, offence: Offence::BadPiece(_) } => self.charged.push(peer),
                    _ => {}
                }
            }
        }

        /// A neighbour that has everything serves this device.
        fn meet(&mut self, source: SourceId) {
            let (peer, kind) = (PeerId::from_bytes([source.0 as u8; 32]), SourceKind::Lan);
            self.tell(Event::PeerJoined { source, peer, kind, have: Bitmap::full(1) });
            self.tell(Event::Message { source, message: Message::Unchoke });
        }

        fn owed(&self, source: SourceId) -> u32 {
            let asked = self.asked.get(&source).into_iter().flatten();
            asked.map(|(_, len)| len.div_ceil(BLOCK_SIZE)).sum()
        }

        /// Both send block by block, the second one four times as fast, until the piece is there; returns how many blocks each
        /// has sent.
        fn deliver(&mut self, end: Outcome) -> [u32; 2] {
            let (mut got, mut sent) = (BlockSet::default(), [0, 0]);
            for source in [A, B, B, B, B].into_iter().cycle().take(1000) {
                self.now = self.now + Duration::from_millis(1);
                let Some((offset, len)) = self.asked.entry(source).or_default().pop_front() else { continue };
                if len > BLOCK_SIZE {
                    let rest = (offset + BLOCK_SIZE, len - BLOCK_SIZE);
                    self.asked.entry(source).or_default().push_front(rest);
                }
                let block = BlockSet::covered(offset, BLOCK_SIZE, PIECE_SIZE);
                assert_eq!(got.minus(block), got, "block {} comes twice", offset / BLOCK_SIZE);
                got = got.union(block);
                sent[usize::from(source == B)] += 1;
                let all = got.count() == BLOCKS_PER_PIECE;
                let outcome = if all { end } else { Outcome::Partial };
                self.tell(Event::Stored { source, piece: PIECE, offset, len: BLOCK_SIZE, outcome });
                if all {
                    return sent;
                }
            }
            panic!("the piece does not become complete: {:?} of {} blocks", self.asked, got.count());
        }
    }

    #[test]
    fn whoever_has_a_piece_later_brings_a_part_of_it() {
        let mut device = Device::new();
        device.meet(A);
        assert_eq!((device.owed(A), device.owed(B)), (BLOCKS_PER_PIECE / 2, 0));
        device.meet(B);
        assert!((8..BLOCKS_PER_PIECE / 2).contains(&device.owed(B)), "{}", device.owed(B));
        let [slow, fast] = device.deliver(Outcome::Verified);
        assert!(device.engine.is_complete() && slow >= 8 && fast >= BLOCKS_PER_PIECE / 2, "{slow} {fast}");
    }

    #[test]
    fn a_wrong_mix_is_asked_again_of_one_who_then_answers_for_it() {
        let mut device = Device::new();
        device.meet(A);
        device.meet(B);
        device.deliver(Outcome::Corrupt);
        assert!(device.charged.is_empty(), "either may have lied");
        let by_a = device.owed(A) > 0;
        assert!(by_a != (device.owed(B) > 0), "one at a time");
        assert_eq!(device.deliver(Outcome::Corrupt).iter().filter(|sent| **sent > 0).count(), 1);
        assert_eq!(device.charged, [PeerId::from_bytes([if by_a { 1 } else { 2 }; 32])]);
    }
}
