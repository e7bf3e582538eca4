//! Far peers: those of other sites. What comes from them crosses a link that the site shares, as the origin's bytes do,
//! so it is to cross it once (product §2): a piece that a near peer has, or is fetching, is left to it, and what this
//! device asks far peers for is claimed like what it fetches from the origin. Claims alone would come too late: all
//! neighbours hear of a far piece at the same moment. So each piece falls to one of them, by its key.

use std::time::Duration;

use peerage_content::{BLOCK_SIZE, PeerId, PieceIndex};
use peerage_wire::Message;

use crate::peer::Peer;
use crate::rng::mix;
use crate::trust::PATIENCE;
use crate::{SourceId, SourceKind, Time, Transfer};

/// What far peers bring is measured over this time.
pub(crate) const FAR_WINDOW: Duration = Duration::from_millis(500);
/// Far peers together owe what came from them in so much time, with their latency …
const FAR_DEPTH: Duration = Duration::from_millis(250);
/// … and so many blocks at least.
const LEAST_FAR_DEPTH: u32 = 24;
/// A piece from far peers takes this long at most, if there is an origin.
const CROSSING_TIME: Duration = Duration::from_secs(2);
/// Pieces looked at to find one that nobody gets.
const LOOKED_AT: usize = 512;

/// The first bytes of a key, as a number.
pub(crate) fn number(peer: &PeerId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *peer.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Transfer {
    /// The pieces that a peer of `kind` may be asked for now.
    pub(crate) fn may_ask(&self, kind: SourceKind) -> impl Fn(PieceIndex) -> bool + '_ {
        let near = || self.peers.values().filter(|peer| peer.kind.is_near() && peer.counted);
        // Slow neighbours are helped by the origin, which is asked piece by piece as well; by far peers where there is none.
        let helpless = || self.peers_slow && self.https.values().all(|http| http.unusable);
        let any = kind.is_near() || near().next().is_none() || helpless();
        let rivals = if any { Vec::new() } else { near().filter(|peer| peer.downloads()).collect() };
        let rivals: Vec<u64> = rivals.into_iter().map(|peer| number(&peer.id)).collect();
        let own = number(&self.me);
        let falls_to_me = move |piece: PieceIndex| {
            let place = |number: u64| mix(number ^ u64::from(piece.0));
            rivals.iter().all(|rival| place(own) <= place(*rival))
        };
        let free = move |piece| !self.claims.is_claimed(piece) && (self.crosses_all || falls_to_me(piece));
        move |piece| {
            any || (!self.pieces.is_near(piece) && (self.crossing.contains_key(&piece) || free(piece)))
        }
    }

    /// Blocks that may still be asked of far peers now. They all are behind one link, which the whole site shares: were each
    /// asked for as much as a near one, bytes would queue up there for a minute, and be in the way when a neighbour has
    /// the piece.
    pub(crate) fn far_room(&self, now: Time) -> u32 {
        let owed: u32 = self.peers.values().filter(|peer| !peer.kind.is_near()).map(Peer::outstanding).sum();
        let rate = self.from_far.rate(now) as f64;
        let depth = (rate * FAR_DEPTH.as_secs_f64() / f64::from(BLOCK_SIZE)) as u32;
        depth.max(LEAST_FAR_DEPTH).saturating_sub(owed)
    }

    /// When far peers have had something to give for a while and nobody has asked, those whom it fell to are not getting
    /// it: they may not be connected to whoever has it. Until a neighbour claims something, this device takes it all.
    /// Called once a tick.
    pub(crate) fn review_crossings(&mut self, now: Time) {
        // As long as neighbours get something, they get to the rest.
        let nobody = !self.claims.any() && self.crossing.is_empty();
        let spare = nobody && self.spare_piece().is_some();
        self.spare_since = if spare { self.spare_since.or(Some(now)) } else { None };
        self.crosses_all |= self.spare_since.is_some_and(|since| now.since(since) >= PATIENCE);
    }

    /// A piece that an idle far peer could give and that nobody gets.
    fn spare_piece(&self) -> Option<PieceIndex> {
        let idle = |peer: &&Peer| !peer.kind.is_near() && peer.usable() && peer.requests.is_empty();
        let free = |piece: &PieceIndex| !self.pieces.is_near(*piece) && !self.claims.is_claimed(*piece);
        self.peers.values().filter(idle).find_map(|peer| {
            let looked_at = self.pieces.idle_from(0).take(LOOKED_AT);
            looked_at.filter(free).find(|piece| peer.have.contains(*piece))
        })
    }

    /// A far peer has been asked for a part of `piece`: the neighbours may leave it to this device.
    pub(crate) fn claim_crossing(&mut self, piece: PieceIndex, now: Time) {
        if self.limits.upload_to_peers && !self.crossing.contains_key(&piece) {
            self.crossing.insert(piece, now);
            self.tell_neighbours(&Message::Fetching { active: true, pieces: vec![piece] });
        }
    }

    /// A neighbour with the lower key is getting `piece`: what far peers owe of it is taken back.
    pub(crate) fn leave_crossing(&mut self, piece: PieceIndex) {
        if self.crossing.remove(&piece).is_some() {
            for source in self.far_peers() {
                self.cancel_requests(source, |request| request.piece == piece);
            }
            self.tell_neighbours(&Message::Fetching { active: false, pieces: vec![piece] });
        }
    }

    /// Withdraws claims on pieces that no far peer is asked for any more.
    pub(crate) fn withdraw_crossings(&mut self) {
        let far = self.far_peers();
        let asked = |piece: &PieceIndex| {
            let active = self.pieces.active(*piece);
            active.is_some_and(|active| far.iter().any(|source| !active.asked_of(*source).is_empty()))
        };
        let over: Vec<_> = self.crossing.keys().copied().filter(|piece| !asked(piece)).collect();
        self.crossing.retain(|piece, _| !over.contains(piece));
        let given_up: Vec<_> =
            over.into_iter().filter(|piece| !self.pieces.have().contains(*piece)).collect();
        if !given_up.is_empty() {
            self.tell_neighbours(&Message::Fetching { active: false, pieces: given_up });
        }
    }

    /// A piece that far peers have not brought in time, beginning with its next open byte: what they still owe of it is taken
    /// back, and the origin brings the rest. Else neighbours would lose their patience, and one of them fetch all of it.
    pub(crate) fn late_crossing(&mut self, source: SourceId, now: Time) -> Option<(u64, u64)> {
        let late = |piece: &PieceIndex, since: Time| {
            now.since(since) >= CROSSING_TIME
                && !self.pieces.is_near(*piece)
                && !self.claims.is_claimed(*piece)
                && self.pieces.may_mix(source, *piece)
        };
        let (piece, _) = self.crossing.iter().find(|(piece, since)| late(piece, **since))?;
        let piece = *piece;
        for far in self.far_peers() {
            self.cancel_requests(far, |request| request.piece == piece);
        }
        let range = self.pieces.open_blocks(piece).runs().next();
        let Some((first, count)) = range else {
            self.crossing.remove(&piece);
            return None;
        };
        let layout = self.pieces.layout();
        let start = layout.offset(piece) + u64::from(first * BLOCK_SIZE);
        Some((start, (start + u64::from(count * BLOCK_SIZE)).min(layout.size())))
    }

    fn far_peers(&self) -> Vec<SourceId> {
        self.peers.iter().filter(|(_, peer)| !peer.kind.is_near()).map(|(source, _)| *source).collect()
    }

    fn tell_neighbours(&mut self, message: &Message) {
        let near = self.peers.iter().filter(|(_, peer)| peer.kind.is_near() && peer.downloads());
        let near: Vec<_> = near.map(|(source, _)| *source).collect();
        near.into_iter().for_each(|source| self.send(source, message.clone()));
    }
}
