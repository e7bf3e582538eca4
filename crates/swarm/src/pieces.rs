//! The pieces of one content as one device sees them.
//!
//! Invariant: a piece is in exactly one state — *had* (verified), *active* (some blocks are stored or asked for) or
//! *idle* (neither). Availability counts connected peers that are believed to deliver, and vanishes with them.

use std::collections::{BTreeMap, BTreeSet};

use peerage_content::{BLOCKS_PER_PIECE, Bitmap, BlockSet, Layout, PieceIndex};

use crate::{SourceId, SourceKind};

mod active;
mod picking;

pub(crate) use active::Active;

/// Believable peers that have a piece.
#[derive(Debug, Clone, Copy, Default)]
struct Holders {
    all: u16,
    near: u16,
}

#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    layout: Layout,
    have: Bitmap,
    active: BTreeMap<PieceIndex, Active>,
    idle: Bitmap,
    /// Who has each piece.
    holders: Vec<Holders>,
    /// Pieces that no believable peer has and that are not had here.
    scarce: u32,
    /// Pieces that came out wrong from a mix of sources: asked of one source at a time from then on.
    solo: BTreeSet<PieceIndex>,
    /// Blocks that were asked for or stored may be asked for again.
    reopened: bool,
}

impl Pieces {
    pub(crate) fn new(
        layout: Layout,
        have: Bitmap,
        partial: impl Iterator<Item = (PieceIndex, BlockSet)>,
    ) -> Self {
        let mut pieces = Self {
            layout,
            active: BTreeMap::new(),
            idle: Bitmap::for_layout(layout),
            holders: vec![Holders::default(); layout.pieces() as usize],
            scarce: layout.pieces() - have.count(),
            solo: BTreeSet::new(),
            reopened: false,
            have,
        };
        for piece in pieces.have.missing() {
            pieces.idle.insert(piece);
        }
        for (piece, got) in partial {
            if !got.is_empty() && pieces.idle.remove(piece) {
                pieces.active.insert(piece, Active::inherited(got));
            }
        }
        pieces
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) const fn have(&self) -> &Bitmap {
        &self.have
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.have.is_full()
    }

    /// How many pieces are not had.
    pub(crate) fn missing(&self) -> u32 {
        self.layout.pieces() - self.have.count()
    }

    pub(crate) fn active(&self, piece: PieceIndex) -> Option<&Active> {
        self.active.get(&piece)
    }

    fn all_blocks(&self, piece: PieceIndex) -> BlockSet {
        BlockSet::first(self.layout.blocks(piece))
    }

    /// Blocks of `piece` neither stored nor asked for.
    pub(crate) fn open_blocks(&self, piece: PieceIndex) -> BlockSet {
        let asked = self.active.get(&piece).map_or(BlockSet::default(), Active::asked);
        self.missing_blocks(piece).minus(asked)
    }

    /// Blocks neither stored nor asked for, of all pieces that believable peers have; of the last piece as if it were full.
    pub(crate) fn open_at_peers(&self) -> u32 {
        let begun = self.active.iter().filter(|(piece, _)| !self.is_scarce(**piece));
        let (begun, open) = begun.fold((0, 0), |(begun, open), (piece, active)| {
            (begun + 1, open + active.open(self.all_blocks(*piece)).count())
        });
        (self.missing() - self.scarce).saturating_sub(begun) * BLOCKS_PER_PIECE + open
    }

    /// Blocks of `piece` not stored, asked for or not.
    pub(crate) fn missing_blocks(&self, piece: PieceIndex) -> BlockSet {
        if self.have.contains(piece) {
            return BlockSet::default();
        }
        let all = self.all_blocks(piece);
        self.active.get(&piece).map_or(all, |active| all.minus(active.got()))
    }

    /// Whether blocks may have become open since they were last taken.
    pub(crate) const fn has_reopened(&self) -> bool {
        self.reopened
    }

    /// Whether blocks may have become open since this was last asked.
    pub(crate) const fn take_reopened(&mut self) -> bool {
        std::mem::replace(&mut self.reopened, false)
    }

    // === A piece's way ===

    fn begin(&mut self, piece: PieceIndex) -> &mut Active {
        self.idle.remove(piece);
        self.active.entry(piece).or_default()
    }

    fn end_if_idle(&mut self, piece: PieceIndex) {
        if self.active.get(&piece).is_some_and(Active::is_idle) {
            self.active.remove(&piece);
            self.idle.insert(piece);
        }
    }

    pub(crate) fn ask(&mut self, source: SourceId, piece: PieceIndex, blocks: BlockSet) {
        self.begin(piece).ask(source, blocks);
    }

    /// `blocks` will not come from `source`.
    pub(crate) fn unask(&mut self, source: SourceId, piece: PieceIndex, blocks: BlockSet) {
        self.reopened = true;
        if let Some(active) = self.active.get_mut(&piece) {
            active.unask(source, blocks);
        }
        self.end_if_idle(piece);
    }

    /// Forgets all that was asked of `source`.
    pub(crate) fn unask_all(&mut self, source: SourceId) {
        let asked: Vec<PieceIndex> = self
            .active
            .iter()
            .filter(|(_, active)| !active.asked_of(source).is_empty())
            .map(|(piece, _)| *piece)
            .collect();
        for piece in asked {
            self.unask(source, piece, BlockSet(u64::MAX));
        }
    }

    /// Blocks came from `source` and are stored.
    pub(crate) fn stored(&mut self, source: SourceId, piece: PieceIndex, blocks: BlockSet) {
        if self.have.contains(piece) || !self.layout.contains(piece) {
            return;
        }
        self.begin(piece).stored(source, blocks);
    }

    /// The piece is complete and right.
    pub(crate) fn verified(&mut self, piece: PieceIndex) -> Option<Active> {
        if self.have.insert(piece) && self.availability(piece) == 0 {
            self.scarce -= 1;
        }
        self.solo.remove(&piece);
        self.idle.remove(piece);
        self.active.remove(&piece)
    }

    /// The piece is wrong: nothing of it is left.
    pub(crate) fn corrupt(&mut self, piece: PieceIndex) -> Option<Active> {
        let active = self.active.remove(&piece)?;
        self.reopened = true;
        self.idle.insert(piece);
        if active.sole_contributor().is_none() {
            self.solo.insert(piece);
        }
        Some(active)
    }

    /// A piece that was had is no longer there. Returns whether it was had.
    pub(crate) fn lost(&mut self, piece: PieceIndex) -> bool {
        if !self.have.remove(piece) {
            return false;
        }
        self.reopened = true;
        self.idle.insert(piece);
        if self.availability(piece) == 0 {
            self.scarce += 1;
        }
        true
    }

    // === What believable peers have ===

    pub(crate) fn peer_has(&mut self, piece: PieceIndex, kind: SourceKind) {
        let Some(holders) = self.holders.get_mut(piece.0 as usize) else { return };
        holders.near = holders.near.saturating_add(u16::from(kind.is_near()));
        holders.all = holders.all.saturating_add(1);
        if holders.all == 1 && !self.have.contains(piece) {
            self.scarce -= 1;
        }
    }

    pub(crate) fn peer_lost(&mut self, piece: PieceIndex, kind: SourceKind) {
        let Some(holders) = self.holders.get_mut(piece.0 as usize).filter(|holders| holders.all > 0) else {
            return;
        };
        holders.near = holders.near.saturating_sub(u16::from(kind.is_near()));
        holders.all -= 1;
        if holders.all == 0 && !self.have.contains(piece) {
            self.scarce += 1;
        }
    }

    /// Pieces missing here that no believable peer has.
    pub(crate) const fn scarce(&self) -> u32 {
        self.scarce
    }

    pub(crate) fn is_scarce(&self, piece: PieceIndex) -> bool {
        self.layout.contains(piece) && self.availability(piece) == 0 && !self.have.contains(piece)
    }

    /// Believable peers that have the piece.
    pub(crate) fn availability(&self, piece: PieceIndex) -> u16 {
        self.holders.get(piece.0 as usize).map_or(0, |holders| holders.all)
    }

    /// Whether a near peer has the piece.
    pub(crate) fn is_near(&self, piece: PieceIndex) -> bool {
        self.holders.get(piece.0 as usize).is_some_and(|holders| holders.near > 0)
    }

    /// Pieces that nobody has begun, ascending from `start` and then from the beginning.
    pub(crate) fn idle_from(&self, start: u32) -> impl Iterator<Item = PieceIndex> + '_ {
        self.idle.common_from(&self.idle, PieceIndex(start))
    }

    /// Whether `source` may add to a piece. One that came out wrong from a mix is not asked of another while somebody is
    /// asked for it, so that the next time may show who lies.
    pub(crate) fn may_mix(&self, source: SourceId, piece: PieceIndex) -> bool {
        let asked = |active: &Active| active.is_asked_of_others(source);
        !self.solo.contains(&piece) || !self.active.get(&piece).is_some_and(asked)
    }

    /// Whether the piece came out wrong from a mix of sources.
    pub(crate) fn is_solo(&self, piece: PieceIndex) -> bool {
        self.solo.contains(&piece)
    }

    /// Whether there are such pieces.
    pub(crate) fn has_solo(&self) -> bool {
        !self.solo.is_empty()
    }

    /// Pieces begun by anybody.
    pub(crate) fn active_pieces(&self) -> impl Iterator<Item = (PieceIndex, &Active)> {
        self.active.iter().map(|(piece, active)| (*piece, active))
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::PIECE_SIZE;

    use super::*;

    const A: SourceId = SourceId(1);
    const B: SourceId = SourceId(2);

    fn pieces(n: u32) -> Pieces {
        let layout = Layout::new(u64::from(n) * u64::from(PIECE_SIZE)).unwrap();
        Pieces::new(layout, Bitmap::for_layout(layout), std::iter::empty())
    }

    fn pick(pieces: &Pieces, source: SourceId) -> Option<u32> {
        let everything = Bitmap::full(pieces.layout().pieces());
        pieces.pick_for_peer(source, &everything, |_| true, 3).map(|piece| piece.0)
    }

    #[test]
    fn own_then_abandoned_then_rarest_then_shared() {
        let mut p = pieces(10);
        for i in 0..10 {
            (0..if i == 7 { 2 } else { 5 }).for_each(|_| p.peer_has(PieceIndex(i), SourceKind::Lan));
        }
        assert_eq!(pick(&p, A), Some(7));
        p.ask(A, PieceIndex(4), BlockSet::first(16));
        assert_eq!((pick(&p, A), pick(&p, B)), (Some(4), Some(7)));
        p.stored(A, PieceIndex(4), BlockSet::first(16));
        assert_eq!(pick(&p, B), Some(4));
        p.ask(A, PieceIndex(4), BlockSet(1 << 20));
        for i in (0..10).filter(|i| *i != 4) {
            assert_ne!(pick(&p, B), Some(4));
            p.verified(PieceIndex(i));
        }
        assert_eq!(pick(&p, B), Some(4));
        p.unask_all(A);
        assert!(p.take_reopened() && !p.take_reopened() && p.active(PieceIndex(4)).is_some());
        p.corrupt(PieceIndex(4));
        assert!(p.active(PieceIndex(4)).is_none() && p.idle_from(9).eq([PieceIndex(4)]));
    }

    #[test]
    fn scarcity_counts_what_nobody_near_has() {
        let mut p = pieces(3);
        assert_eq!(p.scarce(), 3);
        p.peer_has(PieceIndex(1), SourceKind::Lan);
        p.peer_has(PieceIndex(1), SourceKind::Group);
        p.verified(PieceIndex(0));
        assert_eq!(p.scarce(), 1);
        p.peer_lost(PieceIndex(1), SourceKind::Lan);
        assert!(!p.is_near(PieceIndex(1)));
        p.verified(PieceIndex(1));
        p.peer_lost(PieceIndex(1), SourceKind::Group);
        assert_eq!(p.scarce(), 1);
        assert!(p.lost(PieceIndex(1)) && !p.lost(PieceIndex(1)));
        assert_eq!((p.scarce(), p.missing()), (2, 2));
    }

    #[test]
    fn a_wrong_mix_is_asked_of_one_source_at_a_time() {
        let mut p = pieces(1);
        let piece = PieceIndex(0);
        p.stored(A, piece, BlockSet::first(8));
        p.stored(B, piece, BlockSet::first(64));
        assert!(p.corrupt(piece).unwrap().sole_contributor().is_none());
        p.ask(A, piece, BlockSet::first(4));
        assert!(p.is_solo(piece) && p.may_mix(A, piece) && !p.may_mix(B, piece));
        p.unask_all(A);
        assert!(p.may_mix(B, piece));
    }

    #[test]
    fn nobody_is_blamed_for_blocks_that_were_there() {
        let layout = Layout::new(u64::from(PIECE_SIZE)).unwrap();
        let partial = [(PieceIndex(0), BlockSet::first(1)), (PieceIndex(5), BlockSet::first(1))];
        let mut p = Pieces::new(layout, Bitmap::for_layout(layout), partial.into_iter());
        p.stored(A, PieceIndex(0), BlockSet::first(64));
        assert!(p.corrupt(PieceIndex(0)).unwrap().sole_contributor().is_none());
    }
}
