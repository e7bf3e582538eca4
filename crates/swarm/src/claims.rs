//! Claims: "I am fetching these pieces from the origin, leave them to me". They are what lets a site take each piece
//! over the Internet link once, and nothing but hints of neighbours who may be slow, dead or liars. So:
//!
//! - a neighbour's claims are honoured up to a credit that grows with what it has shown to have;
//! - a claim that is not made good within its time voids all claims of its author, in this connection and the next, until
//!   one is made good after all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerage_content::{PeerId, PieceIndex};

use crate::{SourceId, Time};

/// Claims honoured of a neighbour that has nothing yet …
const FIRST_CREDIT: u32 = 8;
/// … and of any neighbour.
const MAX_CREDIT: u32 = 32;
/// A claim may take this long beside the time that its pieces take.
const GRACE: Duration = Duration::from_millis(500);
/// … and its pieces this many times longer than they would take here …
const SLACK: f64 = 2.0;
/// … of which so many count at most: pieces are claimed when they are asked for, so the oldest is next. Whoever has kept no
/// word yet is asking for its first piece, and for no other before it knows its pace.
const MAX_PENDING: usize = 2;
/// Where uplinks are the bottleneck, neighbours hear late of a piece that was fetched in time: a claim may take this many times
/// as long as claims have taken of late …
const LATE: f64 = 1.5;
/// … which a liar can drag out only so far: to this many times what is granted otherwise …
const MOST_LATE: f64 = 4.0;
/// … and of which the last counts this much.
const USUAL_WEIGHT: f64 = 0.125;
/// Claims of a neighbour that may still be made good although their pieces are here.
const MAX_OVERTAKEN: usize = 32;
/// Neighbours remembered that broke their word and left.
const MAX_REMEMBERED: usize = 1000;

#[derive(Debug, Clone)]
struct Claimant {
    peer: PeerId,
    claims: BTreeMap<PieceIndex, Time>,
    /// Claims not made good in time, on pieces that have come another way.
    overtaken: BTreeSet<PieceIndex>,
    /// A claim was not made good in time.
    hollow: bool,
    /// One was made good.
    kept: bool,
    /// Patience with it, 1 to 1.5: neighbours do not all lose it at the same moment.
    temper: f64,
}

/// The claims of all neighbours.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    claimants: BTreeMap<SourceId, Claimant>,
    /// Neighbours that are gone and whose claims were hollow.
    broke_their_word: BTreeSet<PeerId>,
    /// Seconds that it has taken of late until a claim was made good, whosever.
    usual: f64,
    /// How many claims stand on a piece.
    standing: BTreeMap<PieceIndex, u32>,
}

impl Claims {
    /// `source`, which has `has` pieces, claims `piece`. Returns whether the claim is honoured.
    pub(crate) fn claim(
        &mut self,
        source: SourceId,
        peer: PeerId,
        piece: PieceIndex,
        has: u32,
        temper: f64,
        now: Time,
    ) -> bool {
        let hollow = self.broke_their_word.contains(&peer);
        let fresh = || Claimant {
            peer,
            claims: BTreeMap::new(),
            overtaken: BTreeSet::new(),
            hollow,
            kept: false,
            temper,
        };
        let claimant = self.claimants.entry(source).or_insert_with(fresh);
        let credit = (FIRST_CREDIT + has).min(MAX_CREDIT) as usize;
        if !claimant.claims.contains_key(&piece) {
            if claimant.claims.len() >= credit {
                return false;
            }
            claimant.claims.insert(piece, now);
            if !claimant.hollow {
                *self.standing.entry(piece).or_default() += 1;
            }
        }
        !claimant.hollow
    }

    /// `source` has given `piece` up.
    pub(crate) fn withdraw(&mut self, source: SourceId, piece: PieceIndex) {
        self.take(source, piece);
    }

    /// `source` has `piece`: if it claimed it, it has kept its word.
    pub(crate) fn made_good(&mut self, source: SourceId, piece: PieceIndex, now: Time) {
        let since = self.claimants.get(&source).and_then(|claimant| claimant.claims.get(&piece));
        if let Some(since) = since {
            self.usual += (now.since(*since).as_secs_f64() - self.usual) * USUAL_WEIGHT;
        }
        let claimed = self.take(source, piece);
        if let Some(claimant) = self.claimants.get_mut(&source).filter(|_| claimed) {
            claimant.kept = true;
        }
        if let Some(claimant) = self.claimants.get_mut(&source).filter(|claimant| claimant.hollow)
            && (claimant.overtaken.remove(&piece) || claimed)
        {
            claimant.hollow = false;
            self.broke_their_word.remove(&claimant.peer);
            claimant.claims.keys().for_each(|piece| *self.standing.entry(*piece).or_default() += 1);
        }
    }

    /// `source` has left.
    pub(crate) fn leave(&mut self, source: SourceId) {
        let Some(claimant) = self.claimants.remove(&source) else { return };
        if !claimant.hollow {
            claimant.claims.keys().for_each(|piece| drop_one(&mut self.standing, *piece));
        } else if self.broke_their_word.len() < MAX_REMEMBERED {
            self.broke_their_word.insert(claimant.peer);
        }
    }

    /// Nobody needs to fetch `piece` any more.
    pub(crate) fn settle(&mut self, piece: PieceIndex) {
        self.standing.remove(&piece);
        for claimant in self.claimants.values_mut() {
            if claimant.claims.remove(&piece).is_some()
                && claimant.hollow
                && claimant.overtaken.len() < MAX_OVERTAKEN
            {
                claimant.overtaken.insert(piece);
            }
        }
    }

    /// Whether somebody credible is fetching `piece`.
    pub(crate) fn is_claimed(&self, piece: PieceIndex) -> bool {
        self.standing.contains_key(&piece)
    }

    /// Neighbours, of those that are `among` these, whose claims are honoured.
    pub(crate) fn claimants(&self, among: impl Fn(PeerId) -> bool) -> usize {
        let honoured = |claimant: &&Claimant| !claimant.hollow && !claimant.claims.is_empty();
        self.claimants.values().filter(honoured).filter(|claimant| among(claimant.peer)).count()
    }

    /// Whether there are such neighbours.
    pub(crate) fn any(&self) -> bool {
        self.claimants(|_| true) > 0
    }

    /// Voids claims that were not made good in time; `piece_time` is what one piece takes over HTTP here. Returns
    /// whether there were any.
    pub(crate) fn expire(&mut self, piece_time: Duration, now: Time) -> bool {
        let mut any = false;
        for claimant in self.claimants.values_mut().filter(|claimant| !claimant.hollow) {
            let most = if claimant.kept { MAX_PENDING } else { 1 };
            let pieces = piece_time.as_secs_f64() * SLACK * claimant.claims.len().min(most) as f64;
            let least = GRACE.as_secs_f64() + pieces;
            let usual = (self.usual * LATE).min(least * MOST_LATE);
            let patience = least.max(usual) * claimant.temper;
            let oldest = claimant.claims.values().min();
            if oldest.is_some_and(|since| now.since(*since).as_secs_f64() > patience) {
                claimant.hollow = true;
                claimant.claims.keys().for_each(|piece| drop_one(&mut self.standing, *piece));
                any = true;
            }
        }
        any
    }

    /// Takes a claim off; returns whether there was one.
    fn take(&mut self, source: SourceId, piece: PieceIndex) -> bool {
        let Some(claimant) = self.claimants.get_mut(&source) else { return false };
        let found = claimant.claims.remove(&piece).is_some();
        if found && !claimant.hollow {
            drop_one(&mut self.standing, piece);
        }
        found
    }
}

fn drop_one(standing: &mut BTreeMap<PieceIndex, u32>, piece: PieceIndex) {
    if let Some(count) = standing.get_mut(&piece) {
        *count -= 1;
        if *count == 0 {
            standing.remove(&piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SourceId = SourceId(1);
    const B: SourceId = SourceId(2);
    const ID: PeerId = PeerId::from_bytes([7; 32]);
    const SECOND: Duration = Duration::from_secs(1);

    fn p(i: u32) -> PieceIndex {
        PieceIndex(i)
    }

    #[test]
    fn credit_grows_with_what_is_shown() {
        let mut claims = Claims::default();
        let honoured = |claims: &mut Claims, has| {
            (0..100).filter(|i| claims.claim(A, ID, p(*i), has, 1.0, Time::ZERO)).count()
        };
        assert_eq!(honoured(&mut claims, 0), FIRST_CREDIT as usize);
        assert_eq!(honoured(&mut claims, 10), 18);
        assert_eq!(honoured(&mut claims, 1000), MAX_CREDIT as usize);
        claims.leave(A);
        assert!(claims.standing.is_empty());
    }

    #[test]
    fn a_broken_word_voids_all_until_one_is_kept() {
        let mut claims = Claims::default();
        assert!(
            claims.claim(A, ID, p(0), 0, 1.0, Time::ZERO) && claims.claim(B, ID, p(0), 0, 1.5, Time::ZERO)
        );
        assert!(claims.claim(A, ID, p(1), 0, 1.0, Time::ZERO));
        assert!(!claims.expire(SECOND, Time::ZERO + SECOND * 2));
        assert!(claims.expire(SECOND, Time::ZERO + SECOND * 6));
        assert!(!claims.is_claimed(p(1)));
        assert!(!claims.claim(A, ID, p(2), 0, 1.0, Time::ZERO) && !claims.is_claimed(p(2)));
        claims.made_good(A, p(9), Time::ZERO + SECOND * 6);
        assert!(!claims.is_claimed(p(2)));
        claims.made_good(A, p(1), Time::ZERO + SECOND * 6);
        assert!(claims.is_claimed(p(2)) && claims.is_claimed(p(0)) && !claims.is_claimed(p(1)));
        claims.withdraw(A, p(2));
        claims.settle(p(0));
        assert!(claims.standing.is_empty());
    }

    #[test]
    fn who_has_kept_no_word_gets_the_time_of_one_piece() {
        let at = |tenths: u32| Time::ZERO + SECOND * tenths / 10;
        let mut claims = Claims::default();
        (0..3).for_each(|piece| assert!(claims.claim(A, ID, p(piece), 0, 1.0, Time::ZERO)));
        let mut kept = claims.clone();
        kept.made_good(A, p(0), Time::ZERO);
        assert!(!claims.expire(SECOND, at(24)) && claims.expire(SECOND, at(26)));
        assert!(!kept.expire(SECOND, at(44)) && kept.expire(SECOND, at(46)));
    }

    #[test]
    fn where_claims_take_long_they_may() {
        let mut claims = Claims::default();
        let at = |seconds| Time::ZERO + SECOND * seconds;
        let kept = |claims: &mut Claims, takes| {
            (0..50).for_each(|i| {
                claims.claim(A, ID, p(i), i, 1.0, at(100 * i));
                claims.made_good(A, p(i), at(100 * i + takes));
            });
            assert!(claims.claim(B, ID, p(99), 0, 1.0, at(6000)));
        };
        kept(&mut claims, 2);
        assert!(claims.clone().expire(SECOND, at(6004)), "half a second and twice a piece's time are over");
        kept(&mut claims, 1000);
        assert!(!claims.clone().expire(SECOND, at(6009)) && claims.expire(SECOND, at(6011)));
    }

    #[test]
    fn a_new_connection_is_no_new_word() {
        let mut claims = Claims::default();
        assert!(claims.claim(A, ID, p(0), 0, 1.0, Time::ZERO));
        assert!(claims.expire(SECOND, Time::ZERO + SECOND * 6));
        claims.leave(A);
        assert!(!claims.claim(B, ID, p(0), 0, 1.0, Time::ZERO + SECOND * 7) && !claims.is_claimed(p(0)));
        claims.made_good(B, p(0), Time::ZERO + SECOND * 7);
        claims.leave(B);
        assert!(claims.claim(A, ID, p(1), 1, 1.0, Time::ZERO + SECOND * 8));
    }
}
