//! Trials: what a device that downloads alone makes of peers of which it knows nothing.
//!
//! Neighbours that are named as holders of everything get a moment from then on, a small share of what the origin would take
//! ([`Transfer::first_patience`]). Whoever has shown a pace by then is believed, and the origin is not asked. All others are
//! on trial, and so is whoever comes later: the origin delivers as if they were not there, and they are asked for one
//! request, of what the origin will bring last. Who has delivered the first of it, and not slowly, is believed,
//! and the origin is left alone.
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
