//! The pieces of one content as one device sees them.
//!
//! Invariant: a piece is in exactly one state — *had* (verified), *active* (some blocks are stored or asked for) or
//! *missing*. Counters of availability and claims concern connected peers only and vanish with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerage_content::{Bitmap, BlockSet, Layout, PieceIndex};

use crate::{Rng, SourceId, Time};

/// A claim ("I am fetching this from the origin") that is not renewed for this long is void.
pub(crate) const CLAIM_TIME: Duration = Duration::from_secs(6);
/// Claims of one peer that are honoured at once: nobody can reserve a whole content.
const MAX_CLAIMS: usize = 256;

/// Stands for whoever sent the blocks that were in the store at the start: nobody connected now can be blamed for them.
const PAST: SourceId = SourceId(u32::MAX);

/// A piece on its way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Active {
    /// Blocks in the store, not verified.
    pub(crate) got: BlockSet,
    /// Blocks asked for and not arrived, by source.
    asked: Vec<(SourceId, BlockSet)>,
    /// Sources whose blocks are in it.
    contributors: BTreeSet<SourceId>,
}

impl Active {
    /// Blocks that somebody has been asked for.
    pub(crate) fn asked(&self) -> BlockSet {
        self.asked.iter().fold(BlockSet::default(), |all, (_, blocks)| all.union(*blocks))
    }

    /// Blocks that `source` has been asked for.
    pub(crate) fn asked_of(&self, source: SourceId) -> BlockSet {
        self.asked.iter().find(|(of, _)| *of == source).map_or(BlockSet::default(), |(_, blocks)| *blocks)
    }

    /// Who has been asked for any of `blocks`.
    pub(crate) fn askers(&self, blocks: BlockSet) -> impl Iterator<Item = SourceId> + '_ {
        self.asked.iter().filter(move |(_, asked)| asked.0 & blocks.0 != 0).map(|(source, _)| *source)
    }

    /// The only source that this piece's blocks came from, if there is just one.
    pub(crate) fn sole_contributor(&self) -> Option<SourceId> {
        let mut all = self.contributors.iter();
        all.next().copied().filter(|_| all.next().is_none())
    }

    fn is_idle(&self) -> bool {
        self.got.is_empty() && self.asked.is_empty()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    layout: Layout,
    have: Bitmap,
    active: BTreeMap<PieceIndex, Active>,
    /// Connected peers that have the piece.
    avail: Vec<u16>,
    /// Pieces that no connected peer has and that are not had here.
    scarce: u32,
    claims: BTreeMap<PieceIndex, BTreeMap<SourceId, Time>>,
    claims_of: BTreeMap<SourceId, usize>,
    /// Pieces that came out wrong from a mix of sources: asked of one source only from then on.
    solo: BTreeSet<PieceIndex>,
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
            avail: vec![0; layout.pieces() as usize],
            scarce: layout.pieces() - have.count(),
            claims: BTreeMap::new(),
            claims_of: BTreeMap::new(),
            solo: BTreeSet::new(),
            have,
        };
        for (piece, got) in partial {
            if !pieces.have.contains(piece) && !got.is_empty() && layout.contains(piece) {
                let active = pieces.active.entry(piece).or_default();
                active.got = got;
                active.contributors.insert(PAST);
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

    pub(crate) fn active(&self, piece: PieceIndex) -> Option<&Active> {
        self.active.get(&piece)
    }

    pub(crate) fn all_blocks(&self, piece: PieceIndex) -> BlockSet {
        BlockSet::first(self.layout.blocks(piece))
    }

    /// Blocks of `piece` neither stored nor asked for.
    pub(crate) fn open_blocks(&self, piece: PieceIndex) -> BlockSet {
        if self.have.contains(piece) {
            return BlockSet::default();
        }
        let all = self.all_blocks(piece);
        self.active.get(&piece).map_or(all, |active| all.minus(active.got).minus(active.asked()))
    }

    /// Blocks of `piece` not stored, asked for or not.
    pub(crate) fn missing_blocks(&self, piece: PieceIndex) -> BlockSet {
        if self.have.contains(piece) {
            return BlockSet::default();
        }
        let all = self.all_blocks(piece);
        self.active.get(&piece).map_or(all, |active| all.minus(active.got))
    }

    pub(crate) fn ask(&mut self, source: SourceId, piece: PieceIndex, blocks: BlockSet) {
        let active = self.active.entry(piece).or_default();
        match active.asked.iter_mut().find(|(of, _)| *of == source) {
            Some((_, asked)) => *asked = asked.union(blocks),
            None => active.asked.push((source, blocks)),
        }
    }

    /// `blocks` will not come from `source`.
    pub(crate) fn unask(&mut self, source: SourceId, piece: PieceIndex, blocks: BlockSet) {
        let Some(active) = self.active.get_mut(&piece) else { return };
        for (of, asked) in &mut active.asked {
            if *of == source {
                *asked = asked.minus(blocks);
            }
        }
        active.asked.retain(|(_, asked)| !asked.is_empty());
        if active.is_idle() {
            self.active.remove(&piece);
        }
    }

    /// Forgets all that was asked of `source`.
    pub(crate) fn unask_all(&mut self, source: SourceId) {
        self.active.retain(|_, active| {
            active.asked.retain(|(of, _)| *of != source);
            !active.is_idle()
        });
    }

    /// Blocks came from `source` and are stored.
    pub(crate) fn stored(&mut self, source: SourceId, piece: PieceIndex, blocks: BlockSet) {
        if self.have.contains(piece) {
            return;
        }
        let active = self.active.entry(piece).or_default();
        active.got = active.got.union(blocks);
        active.contributors.insert(source);
        self.unask(source, piece, blocks);
    }

    /// The piece is complete and right.
    pub(crate) fn verified(&mut self, piece: PieceIndex) -> Option<Active> {
        if self.have.insert(piece) && self.avail.get(piece.0 as usize) == Some(&0) {
            self.scarce -= 1;
        }
        self.drop_claims(piece);
        self.solo.remove(&piece);
        self.active.remove(&piece)
    }

    /// The piece is wrong: nothing of it is left.
    pub(crate) fn corrupt(&mut self, piece: PieceIndex) -> Option<Active> {
        let active = self.active.remove(&piece);
        if active.as_ref().is_some_and(|active| active.contributors.len() > 1) {
            self.solo.insert(piece);
        }
        active
    }

    /// A piece that was had is no longer there.
    pub(crate) fn lost(&mut self, piece: PieceIndex) {
        if self.have.remove(piece) && self.avail.get(piece.0 as usize) == Some(&0) {
            self.scarce += 1;
        }
    }

    // === What peers have and claim ===

    pub(crate) fn peer_has(&mut self, piece: PieceIndex) {
        if let Some(count) = self.avail.get_mut(piece.0 as usize) {
            *count = count.saturating_add(1);
            if *count == 1 && !self.have.contains(piece) {
                self.scarce -= 1;
            }
        }
    }

    pub(crate) fn peer_lost(&mut self, piece: PieceIndex) {
        if let Some(count) = self.avail.get_mut(piece.0 as usize).filter(|count| **count > 0) {
            *count -= 1;
            if *count == 0 && !self.have.contains(piece) {
                self.scarce += 1;
            }
        }
    }

    /// Pieces missing here that no connected peer has.
    pub(crate) const fn scarce(&self) -> u32 {
        self.scarce
    }

    pub(crate) fn is_scarce(&self, piece: PieceIndex) -> bool {
        self.avail.get(piece.0 as usize) == Some(&0) && !self.have.contains(piece)
    }

    pub(crate) fn claim(&mut self, source: SourceId, piece: PieceIndex, now: Time) {
        if !self.layout.contains(piece) || self.have.contains(piece) {
            return;
        }
        let count = self.claims_of.entry(source).or_default();
        let holders = self.claims.entry(piece).or_default();
        if let Some(at) = holders.get_mut(&source) {
            *at = now;
        } else if *count < MAX_CLAIMS {
            *count += 1;
            holders.insert(source, now);
        }
        if holders.is_empty() {
            self.claims.remove(&piece);
        }
    }

    pub(crate) fn unclaim(&mut self, source: SourceId, piece: PieceIndex) {
        let Some(holders) = self.claims.get_mut(&piece) else { return };
        if holders.remove(&source).is_some()
            && let Some(count) = self.claims_of.get_mut(&source)
        {
            *count -= 1;
        }
        if holders.is_empty() {
            self.claims.remove(&piece);
        }
    }

    pub(crate) fn unclaim_all(&mut self, source: SourceId) {
        self.claims.retain(|_, holders| {
            holders.remove(&source);
            !holders.is_empty()
        });
        self.claims_of.remove(&source);
    }

    fn drop_claims(&mut self, piece: PieceIndex) {
        for source in self.claims.remove(&piece).into_iter().flatten().map(|(source, _)| source) {
            if let Some(count) = self.claims_of.get_mut(&source) {
                *count -= 1;
            }
        }
    }

    /// Whether a peer says that it is getting the piece from the origin, and said so lately.
    pub(crate) fn is_claimed(&self, piece: PieceIndex, now: Time) -> bool {
        self.claims.get(&piece).is_some_and(|holders| holders.values().any(|at| now.since(*at) < CLAIM_TIME))
    }

    // === Picking ===

    /// A piece for a peer that has `theirs`: one already begun first (it will soon be worth something to others), else
    /// the rarest, ties broken by a random place to start so that neighbours do not all ask for the same.
    pub(crate) fn pick_for_peer(
        &self,
        source: SourceId,
        theirs: &Bitmap,
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        let begun = self.active.keys().copied().find(|piece| {
            theirs.contains(*piece) && !self.open_blocks(*piece).is_empty() && self.may_mix(source, *piece)
        });
        if begun.is_some() {
            return begun;
        }
        let pieces = self.layout.pieces();
        let start = rng.below(pieces);
        let mut best: Option<(u16, PieceIndex)> = None;
        for at in 0..pieces {
            let piece = PieceIndex((start + at) % pieces);
            if self.have.contains(piece) || !theirs.contains(piece) || self.active.contains_key(&piece) {
                continue;
            }
            let count = self.avail[piece.0 as usize];
            if best.is_none_or(|(least, _)| count < least) {
                best = Some((count, piece));
                if count <= 1 {
                    break;
                }
            }
        }
        best.map(|(_, piece)| piece)
    }

    /// Whether `source` may add to a piece that others have begun.
    pub(crate) fn may_mix(&self, source: SourceId, piece: PieceIndex) -> bool {
        if !self.solo.contains(&piece) {
            return true;
        }
        self.active.get(&piece).is_none_or(|active| {
            active.contributors.iter().all(|one| *one == source)
                && active.asked.iter().all(|(one, _)| *one == source)
        })
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

    fn pieces(n: u32) -> Pieces {
        let layout = Layout::new(u64::from(n) * u64::from(PIECE_SIZE)).unwrap();
        Pieces::new(layout, Bitmap::for_layout(layout), std::iter::empty())
    }

    #[test]
    fn rarest_first_then_begun_first() {
        let (mut p, mut rng) = (pieces(10), Rng::new(3));
        let everything = Bitmap::full(10);
        for i in 0..10 {
            for _ in 0..(if i == 7 { 2 } else { 5 }) {
                p.peer_has(PieceIndex(i));
            }
        }
        assert_eq!(p.pick_for_peer(SourceId(1), &everything, &mut rng), Some(PieceIndex(7)));
        p.ask(SourceId(1), PieceIndex(4), BlockSet::first(16));
        assert_eq!(p.pick_for_peer(SourceId(2), &everything, &mut rng), Some(PieceIndex(4)));
        p.unask_all(SourceId(1));
        assert!(p.active(PieceIndex(4)).is_none());
    }

    #[test]
    fn claims_expire_and_are_limited() {
        let (mut p, now) = (pieces(600), Time::from_micros(5));
        (0..600).for_each(|i| p.claim(SourceId(1), PieceIndex(i), now));
        assert_eq!((0..600).filter(|i| p.is_claimed(PieceIndex(*i), now)).count(), MAX_CLAIMS);
        assert!(!p.is_claimed(PieceIndex(0), now + CLAIM_TIME));
        p.verified(PieceIndex(0));
        p.claim(SourceId(1), PieceIndex(599), now);
        assert!(p.is_claimed(PieceIndex(599), now));
        p.unclaim_all(SourceId(1));
        assert!(!p.is_claimed(PieceIndex(599), now));
    }

    #[test]
    fn scarcity_counts_what_nobody_near_has() {
        let mut p = pieces(3);
        assert_eq!(p.scarce(), 3);
        p.peer_has(PieceIndex(1));
        p.peer_has(PieceIndex(1));
        p.verified(PieceIndex(0));
        assert_eq!(p.scarce(), 1);
        p.peer_lost(PieceIndex(1));
        p.verified(PieceIndex(1));
        p.peer_lost(PieceIndex(1));
        assert_eq!(p.scarce(), 1);
        p.lost(PieceIndex(1));
        assert_eq!(p.scarce(), 2);
    }

    #[test]
    fn a_wrong_mix_is_asked_of_one_source_only() {
        let mut p = pieces(1);
        p.stored(SourceId(1), PieceIndex(0), BlockSet::first(8));
        p.stored(SourceId(2), PieceIndex(0), BlockSet::first(64));
        assert!(p.corrupt(PieceIndex(0)).unwrap().sole_contributor().is_none());
        p.ask(SourceId(1), PieceIndex(0), BlockSet::first(4));
        assert!(p.may_mix(SourceId(1), PieceIndex(0)) && !p.may_mix(SourceId(2), PieceIndex(0)));
    }
}
