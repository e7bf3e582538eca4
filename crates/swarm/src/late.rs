//! Late bytes: what was asked of a slow source goes to a faster one, if that has nothing better to do.
//!
//! Some bytes may then arrive twice, so it is done only when the other source would be much later.

use std::time::Duration;

use peerage_content::{BLOCK_SIZE, BlockSet, PIECE_SIZE, PieceIndex};

use crate::peer::{REQUEST_BLOCKS, Request};
use crate::{SourceId, Time, Transfer};

/// A source takes over if the other would be late by this factor …
const FACTOR: f64 = 2.0;
/// … and by this many seconds.
const GAIN: f64 = 0.25;
/// The origin takes over from slow peers of a device that downloads alone by this factor already: the few bytes that come
/// twice cost nobody else anything.
const ALONE_FACTOR: f64 = 1.25;
/// A peer keeps what it is sending if that is there within this time.
const ARRIVES: Duration = Duration::from_secs(1);
/// What a source of unknown pace is taken for, in bytes a second.
const UNKNOWN_RATE: f64 = (1 << 20) as f64;

/// The last `count` of `blocks`, or all of them.
pub(crate) fn last_blocks(blocks: BlockSet, count: u32) -> BlockSet {
    (count..blocks.count()).fold(blocks, |last, _| BlockSet(last.0 & (last.0 - 1)))
}

impl Transfer {
    /// Whether anybody owes bytes that another peer could be asked for instead.
    pub(crate) fn is_anybody_late(&self, now: Time) -> bool {
        let mut askers = self.pieces.active_pieces().flat_map(|(_, active)| active.askers(active.asked()));
        askers.any(|source| self.wait_for(source, now) > GAIN)
    }

    /// An idle peer takes over a request from the slowest source; returns whether it has something to do now.
    pub(crate) fn take_over(&mut self, source: SourceId, now: Time) -> bool {
        let Some(peer) = self.peers.get(&source) else { return false };
        let own = f64::from(REQUEST_BLOCKS * BLOCK_SIZE) / peer.pace.rate(now).unwrap_or(UNKNOWN_RATE);
        let late = {
            let may_ask = self.may_ask(peer.kind);
            let may = |piece| peer.have.contains(piece) && may_ask(piece);
            self.latest(source, own * FACTOR + GAIN, ARRIVES, now, may)
        };
        let Some((piece, blocks)) = late else { return false };
        // From the far end: what the slow one will send last.
        let far = last_blocks(blocks, REQUEST_BLOCKS);
        let slow: Vec<SourceId> =
            self.pieces.active(piece).map(|active| active.askers(far).collect()).unwrap_or_default();
        let asked = self.ask_peer(source, piece, far, REQUEST_BLOCKS, now);
        if asked {
            for other in slow {
                self.cancel_requests(other, |request| {
                    request.piece == piece && request.left.minus(far).is_empty()
                });
            }
        }
        asked
    }

    /// Bytes that were asked of peers who are late with them and that no other peer has: the HTTP source would bring
    /// them sooner. The requests are taken back when the piece is complete.
    pub(crate) fn late_range(&self, source: SourceId, now: Time) -> Option<(u64, u64)> {
        let http = self.https.get(&source)?;
        let rate = http.rate(now).unwrap_or(UNKNOWN_RATE);
        let limit = match self.peers_slow && self.is_alone() {
            // It would bring them after what it owes.
            true => (http.owed() as f64 + f64::from(REQUEST_BLOCKS * BLOCK_SIZE)) / rate * ALONE_FACTOR,
            false => f64::from(PIECE_SIZE) / rate * FACTOR + GAIN,
        };
        let slow = self.is_to_top_up(now);
        let (piece, blocks) = self.latest(source, limit, Duration::ZERO, now, |piece| {
            (slow || self.pieces.is_scarce(piece)) && !self.leaves_to_others(piece)
        })?;
        let (first, count) = blocks.runs().last()?;
        let layout = self.pieces.layout();
        let start = layout.offset(piece) + u64::from(first * BLOCK_SIZE);
        Some((start, (start + u64::from(count * BLOCK_SIZE)).min(layout.size())))
    }

    /// The piece that others will be latest with, by more than `limit` seconds from now, and its blocks that `source` may
    /// ask for: not those that are on their way and there within `arrives`, for they would come twice.
    fn latest(
        &self,
        source: SourceId,
        limit: f64,
        arrives: Duration,
        now: Time,
        may: impl Fn(PieceIndex) -> bool,
    ) -> Option<(PieceIndex, BlockSet)> {
        // Several that bring a piece in parts may all be slow: for whoever waits the origin brings what any of them is late with.
        let stands_in = self.limits.foreground && self.https.contains_key(&source);
        self.pieces
            .active_pieces()
            .filter(|(piece, _)| may(*piece) && self.pieces.may_mix(source, *piece))
            .filter_map(|(piece, active)| {
                let late = self.pieces.missing_blocks(piece).minus(active.asked_of(source));
                let arriving = active.askers(late).map(|other| self.arriving(other, piece, arrives, now));
                let mut blocks = arriving.fold(late, BlockSet::minus);
                // Somebody has taken over already. A third copy would only slow the other two down.
                if stands_in {
                    blocks = blocks.minus(active.asked_twice());
                } else if active.askers(blocks).count() > 1 {
                    return None;
                }
                let waits = active.askers(blocks).map(|other| (self.wait_for(other, now), other));
                let (wait, slowest) = waits.max_by(|a, b| a.0.total_cmp(&b.0))?;
                let blocks = BlockSet(blocks.0 & active.asked_of(slowest).0);
                (wait > limit).then_some((piece, blocks, wait))
            })
            .max_by(|a, b| a.2.total_cmp(&b.2))
            .map(|(piece, blocks, _)| (piece, blocks))
    }

    /// The blocks of `piece` that a peer is sending and will have sent within `span`.
    fn arriving(&self, source: SourceId, piece: PieceIndex, span: Duration, now: Time) -> BlockSet {
        let peer = self.peers.get(&source);
        // It answers in the order in which it was asked.
        let oldest = peer.and_then(|peer| Some((peer.requests.first()?, peer.pace.rate(now)?)));
        let arrives = |(request, rate): &(&Request, f64)| {
            request.piece == piece
                && f64::from(request.left.count() * BLOCK_SIZE) <= rate * span.as_secs_f64()
        };
        oldest.filter(arrives).map_or(BlockSet::default(), |(request, _)| request.left)
    }

    /// Seconds until `source` will have delivered what it owes.
    fn wait_for(&self, source: SourceId, now: Time) -> f64 {
        if let Some(peer) = self.peers.get(&source) {
            return peer.eta(now);
        }
        let http = self.https.get(&source);
        http.map_or(f64::INFINITY, |http| http.rate(now).map_or(1.0, |rate| http.owed() as f64 / rate))
    }
}
