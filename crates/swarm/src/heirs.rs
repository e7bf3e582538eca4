//! Heirs: how a piece of a small content goes from one to one.
//!
//! No schedule of whole pieces spreads one faster than this: whoever has it passes it to one other, and then both pass it
//! on. So that two of them do not come to the same third, without a word about it, all devices lie on a ring, by the hash of
//! piece and key. Whoever has the piece is to supply an arc of that ring, its heirs: whoever fetched it the whole ring behind
//! itself. It tells the one in the middle of the arc, and leaves it what lies behind: as many as lie between the two, which
//! the other sees as well. Then it goes on with the half before the middle. That is a binomial tree, made by halving.
//!
//! Where two devices do not see the same ring somebody is told twice, or not at all, and then with all others a little
//! later. Where nobody is connected to all the rings would differ too much.

use std::time::Duration;

use peerage_content::{PIECE_SIZE, PeerId, PieceIndex};

use crate::far::number;
use crate::news::VERY_SOON;
use crate::peer::Peer;
use crate::rng::mix;
use crate::{SourceId, Time, Transfer};

/// The next heir is told after this, or after as many times as long as a piece has taken of late, however slowly the last one
/// is served: were two served at once, none of them could pass the piece on before both have it.
const NEXT_HEIR: Duration = Duration::from_millis(100);
const LATE_HEIR: f64 = 1.25;
/// … but at the latest after this.
const LAST_HEIR: Duration = Duration::from_secs(2);

/// The arc of whoever was told by `giver`: of the ring behind it, as many as lie between the two.
fn arc<T: PartialEq>(mut ring: Vec<T>, giver: Option<T>) -> Vec<T> {
    if let Some(giver) = giver.and_then(|giver| ring.iter().position(|one| *one == giver)) {
        let between = ring.len() - giver - 1;
        ring.truncate(between.min(giver));
    }
    ring
}

/// Takes the middle of an arc off, and all that lies behind it.
fn split<T>(arc: &mut Vec<T>) -> Option<T> {
    arc.split_off(arc.len() / 2).into_iter().next()
}

impl Transfer {
    /// Whether a new piece goes from one to one.
    pub(crate) fn has_only_heirs(&self) -> bool {
        self.is_small() && self.has_few_pieces() && self.sees_all()
    }

    /// Whether this device is connected to all that download, as far as is known.
    fn sees_all(&self) -> bool {
        self.peers.len() < self.limits.max_peers && self.peers.len() >= self.downloaders as usize
    }

    /// Those whom this device is to supply with `piece`, which it has from the neighbour `from` or fetched itself.
    pub(crate) fn heirs(&self, piece: PieceIndex, from: Option<SourceId>) -> Vec<SourceId> {
        let place = |peer: &PeerId| mix(number(peer) ^ u64::from(piece.0));
        let own = place(&self.me);
        let on_ring = |(source, peer): &(&SourceId, &Peer)| {
            Some(**source) == from || (!peer.leaving && !peer.have.contains(piece))
        };
        let behind = |(source, peer): (&SourceId, &Peer)| (place(&peer.id).wrapping_sub(own), *source);
        let mut ring: Vec<(u64, SourceId)> = self.peers.iter().filter(on_ring).map(behind).collect();
        ring.sort_unstable();
        let ring = ring.into_iter().map(|(_, source)| source).collect();
        arc(ring, from)
    }

    /// Whether somebody is still to be supplied.
    pub(crate) fn has_heirs(&self) -> bool {
        self.news.iter().any(|news| !news.heirs.is_empty())
    }

    /// Tells the next heir: of the piece that has the longest way before it.
    pub(crate) fn tell_next_heir(&mut self, now: Time) {
        let mut all = std::mem::take(&mut self.news);
        for news in all.iter_mut().filter(|news| !news.heirs.is_empty()) {
            news.heirs.retain(|heir| !news.told.contains(heir) && self.lacks(*heir, news.piece));
        }
        if let Some(news) = all.iter_mut().max_by_key(|news| news.heirs.len())
            && let Some(heir) = split(&mut news.heirs)
        {
            self.tell_one(news, heir, now);
            self.heir_said = now;
        }
        self.news = all;
    }

    /// The last heir may not want the piece, or get it slowly: the others do not wait for that. Called once a tick.
    pub(crate) fn hurry_heirs(&mut self, now: Time) {
        let piece = |rate: f64| f64::from(PIECE_SIZE) / rate.max(1.0) * LATE_HEIR;
        let served = self.serving_pace.rate(now).map_or(0.0, piece).min(LAST_HEIR.as_secs_f64());
        let patience = match self.is_serving() {
            true => Duration::from_secs_f64(served).max(NEXT_HEIR),
            false => VERY_SOON,
        };
        if self.has_heirs() && now.since(self.heir_said) >= patience {
            self.tell_next_heir(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ring of `devices` places, seen from behind `place`, without those that have the piece but `giver`.
    fn ring(devices: usize, place: usize, giver: Option<usize>, has: &[bool]) -> Vec<usize> {
        let behind = (1..devices).map(|step| (place + step) % devices);
        behind.filter(|other| !has[*other] || Some(*other) == giver).collect()
    }

    #[test]
    fn all_have_it_after_as_many_rounds_as_it_takes_to_double() {
        for devices in 1..=64usize {
            for root in [0, devices / 3, devices - 1] {
                let mut has = vec![false; devices];
                has[root] = true;
                let mut holders = vec![arc(ring(devices, root, None, &has), None)];
                let mut places = vec![root];
                let (mut rounds, mut twice) = (0, 0);
                while holders.iter().any(|arc| !arc.is_empty()) {
                    let told: Vec<(usize, usize)> = places
                        .iter()
                        .zip(&mut holders)
                        .filter_map(|(giver, arc)| Some((*giver, split(arc)?)))
                        .collect();
                    for (giver, heir) in told {
                        if std::mem::replace(&mut has[heir], true) {
                            twice += 1;
                            continue;
                        }
                        // Who else has it by now the heir does not know; what lies between it and its giver does not.
                        let mut known = vec![false; devices];
                        known[giver] = true;
                        places.push(heir);
                        holders.push(arc(ring(devices, heir, Some(giver), &known), Some(giver)));
                    }
                    rounds += 1;
                }
                assert!(has.iter().all(|has| *has), "{devices} devices, from {root}: {has:?}");
                let least = devices.next_power_of_two().ilog2();
                assert_eq!(rounds, least, "{devices} devices, from {root}");
                // An heir sees how long its arc is to within one.
                let most = if devices.is_power_of_two() { 0 } else { devices * 2 / 3 };
                assert!(twice <= most, "{devices} devices, from {root}: {twice} are told twice");
            }
        }
    }
}
