//! Which piece to ask a peer for.

use peerage_content::{Bitmap, PieceIndex};

use super::Pieces;
use crate::SourceId;
use crate::rng::mix;

/// Idle pieces looked at to find a rare one. A sample is as good as the whole, and a content may have a million.
const SAMPLE: usize = 128;

impl Pieces {
    /// A piece for a peer that has `theirs`, among those that `may` be asked of it. In this order:
    ///
    /// 1. one that it has begun: a piece from one source tells who is to blame if it is wrong;
    /// 2. one that nobody goes on with;
    /// 3. the rarest that nobody has begun, of those from `start` on, a random place; of several that are as rare, any: new
    ///    ones lie side by side, and were it the first of them, all neighbours would ask for the same;
    /// 4. what others have begun and not yet asked for: so the end of a content is shared out.
    pub(crate) fn pick_for_peer(
        &self,
        source: SourceId,
        theirs: &Bitmap,
        may: impl Fn(PieceIndex) -> bool,
        start: u32,
    ) -> Option<PieceIndex> {
        let wanted = |piece: PieceIndex| theirs.contains(piece) && may(piece);
        let (mut abandoned, mut shared) = (None, None);
        for (piece, active) in &self.active {
            if active.open(self.all_blocks(*piece)).is_empty()
                || !wanted(*piece)
                || !self.may_mix(source, *piece)
            {
                continue;
            }
            if active.is_of(source) {
                return Some(*piece);
            }
            let found = if active.asked().is_empty() { &mut abandoned } else { &mut shared };
            found.get_or_insert(*piece);
        }
        abandoned.or_else(|| self.rarest(theirs, may, start)).or(shared)
    }

    fn rarest(&self, theirs: &Bitmap, may: impl Fn(PieceIndex) -> bool, start: u32) -> Option<PieceIndex> {
        let candidates = self.idle.common_from(theirs, PieceIndex(start)).filter(|piece| may(*piece));
        let place = |piece: PieceIndex| mix(u64::from(start) << 32 | u64::from(piece.0));
        candidates.take(SAMPLE).min_by_key(|piece| (self.availability(*piece), place(*piece)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use peerage_content::{Layout, PIECE_SIZE};

    use super::*;
    use crate::SourceKind;

    #[test]
    fn neighbours_do_not_all_ask_for_the_first_of_new_pieces() {
        let layout = Layout::new(100 * u64::from(PIECE_SIZE)).unwrap();
        let mut p = Pieces::new(layout, Bitmap::for_layout(layout), std::iter::empty());
        (40..48).for_each(|i| p.peer_has(PieceIndex(i), SourceKind::Lan));
        let mut new = Bitmap::for_layout(p.layout());
        (40..48).for_each(|i| assert!(new.insert(PieceIndex(i))));
        let picked = (0..100).filter_map(|start| p.pick_for_peer(SourceId(1), &new, |_| true, start));
        let picked: BTreeSet<_> = picked.collect();
        assert_eq!(picked.len(), 8, "{picked:?}");
    }
}
