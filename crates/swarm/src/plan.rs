//! The plan: what to ask of whom, now.
//!
//! Peers are asked for whatever they have, rarest first. The origin is asked for what no peer has and no peer is
//! already fetching; for more only when peers do not deliver. That is how a site takes each piece over the Internet
//! link once (product §6.5) and is never slower than plain HTTP (product §6.1).

use std::time::Duration;

use peerage_content::{BLOCK_SIZE, BlockSet, PIECE_SIZE, PieceIndex};
use peerage_wire::{ByeReason, MAX_LISTED, Message};

use crate::http::Range;
use crate::peer::{REQUEST_BLOCKS, STALL_TIME};
use crate::{Action, FetchId, SourceId, Time, Transfer};

/// Peers that do not deliver for this long are not waited for (product §6.1).
const PATIENCE: Duration = Duration::from_millis(250);
/// A peer's rate is judged against the origin's after this much time with work on hand.
const JUDGE_TIME: Duration = Duration::from_secs(1);
/// How often claims are renewed while their bytes flow; others give them up after `CLAIM_TIME`.
const RENEW: Duration = Duration::from_secs(2);
const CHOKE_REVIEW: Duration = Duration::from_secs(1);
/// A faster source takes a request over only if it is this much faster: both may send some bytes twice.
const TAKE_OVER_FACTOR: f64 = 2.0;
const TAKE_OVER_GAIN_S: f64 = 0.25;
/// What a source of unknown rate is taken for, in bytes a second.
const UNKNOWN_RATE: u64 = 1 << 20;
/// Ask for more peers when fewer than this are connected and something is missing.
const FEW_PEERS: usize = 4;

/// How freely the origin may be used at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OriginUse {
    /// Not at all.
    Hold,
    /// For pieces that no peer has and nobody is fetching.
    Scarce,
    /// For anything that is missing.
    Any,
}

impl Transfer {
    pub(crate) fn plan(&mut self, now: Time) {
        self.tell_news();
        self.plan_uploads();
        self.note_backlog(now);
        if !self.is_complete() && !self.paused {
            self.plan_dials(now);
            if self.limits.download_from_peers {
                self.plan_peers(now);
            }
            self.plan_http(now);
            if self.limits.download_from_peers {
                self.plan_take_over(now);
            }
        }
        self.part_from_complete();
        self.say_complete();
    }

    /// Time-outs.
    pub(crate) fn time_passes(&mut self, now: Time) {
        for http in self.https.values_mut() {
            http.learn_rate(now);
        }
        let stalled: Vec<SourceId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.waiting_since.is_some_and(|since| now.since(since) >= STALL_TIME))
            .map(|(source, _)| *source)
            .collect();
        for source in stalled {
            self.cancel_requests(source, |_| true);
            if let Some(peer) = self.peers.get_mut(&source) {
                peer.stalled = true;
            }
        }
        if now.since(self.claims_renewed) >= RENEW {
            self.claims_renewed = now;
            let claimed = self.own_claims();
            if !claimed.is_empty() {
                self.tell_downloaders(&Message::Fetching { active: true, pieces: claimed });
            }
        }
        if now.since(self.chokes_reviewed) >= CHOKE_REVIEW {
            self.review_chokes(now);
        }
        if !self.is_complete() && now >= self.need_peers_at && self.limits.download_from_peers {
            self.need_peers_at = now + Duration::from_secs(30);
            if self.peers.len() < FEW_PEERS {
                self.actions.push_back(Action::NeedPeers);
            }
        }
    }

    // === Telling ===

    fn tell_news(&mut self) {
        if self.news.is_empty() {
            return;
        }
        let news = std::mem::take(&mut self.news);
        for chunk in news.chunks(MAX_LISTED) {
            let wanting = self
                .peers
                .iter()
                .filter(|(_, peer)| !peer.leaving && chunk.iter().any(|piece| !peer.have.contains(*piece)));
            let wanting: Vec<_> = wanting.map(|(source, _)| *source).collect();
            wanting.into_iter().for_each(|source| self.send(source, Message::Have(chunk.to_vec())));
        }
    }

    /// Sends to everyone who still downloads.
    pub(crate) fn tell_downloaders(&mut self, message: &Message) {
        let downloaders = self.peers.iter().filter(|(_, peer)| !peer.leaving && !peer.have.is_full());
        let downloaders: Vec<_> = downloaders.map(|(source, _)| *source).collect();
        downloaders.into_iter().for_each(|source| self.send(source, message.clone()));
    }

    /// Pieces that this device is fetching over HTTP.
    pub(crate) fn own_claims(&self) -> Vec<PieceIndex> {
        let ranges = self.https.values().flat_map(|http| http.ranges.iter());
        let pieces = ranges.flat_map(Range::pieces).filter(|piece| !self.pieces.have().contains(*piece));
        pieces.take(MAX_LISTED).collect()
    }

    // === Peers ===

    fn plan_dials(&mut self, now: Time) {
        if !self.limits.download_from_peers {
            return;
        }
        while let Some(peer) = self.dialer.next(self.peers.len(), self.limits.max_peers, now) {
            self.actions.push_back(Action::Dial { peer });
        }
    }

    fn plan_peers(&mut self, now: Time) {
        // The fastest first: near the end it should get the work.
        let mut order: Vec<(u64, SourceId)> =
            self.peers.iter().filter(|(_, p)| p.usable()).map(|(s, p)| (p.down.rate(now), *s)).collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        let tail = self.is_tail(order.len());
        for (_, source) in order {
            while let Some(peer) = self.peers.get(&source) {
                let room = peer.room(now);
                if room == 0 {
                    break;
                }
                let Some(piece) = self.pieces.pick_for_peer(source, &peer.have, &mut self.rng) else { break };
                let open = self.pieces.open_blocks(piece);
                // Near the end and in small contents several sources share a piece, a request each.
                let most = if tail { REQUEST_BLOCKS } else { 64 };
                if !self.ask_peer(source, piece, open, most, now) {
                    break;
                }
            }
        }
    }

    /// Whether so little is left that whole pieces would leave sources without work.
    fn is_tail(&self, sources: usize) -> bool {
        let missing = self.pieces.layout().pieces() - self.pieces.have().count();
        (missing as usize) <= 2 * sources.max(1)
    }

    /// Asks `source` for up to `most` of `blocks`; returns whether anything was asked.
    fn ask_peer(
        &mut self,
        source: SourceId,
        piece: PieceIndex,
        blocks: BlockSet,
        most: u32,
        now: Time,
    ) -> bool {
        let piece_len = self.pieces.layout().piece_len(piece);
        let Some(peer) = self.peers.get_mut(&source) else { return false };
        let mut left = most;
        for (first, count) in blocks.runs() {
            let mut at = first;
            while at < first + count && left > 0 && peer.requests.len() < peerage_wire::MAX_REQUESTS {
                let take = REQUEST_BLOCKS.min(first + count - at).min(left);
                let request = peer.ask(piece, at, take, piece_len, now);
                self.pieces.ask(source, piece, request.left);
                let (offset, len) = (request.offset, request.len);
                self.actions
                    .push_back(Action::Send { source, message: Message::Request { piece, offset, len } });
                at += take;
                left -= take;
            }
        }
        left < most
    }

    /// Sources with nothing to do take over what slower ones are late with.
    fn plan_take_over(&mut self, now: Time) {
        let idle: Vec<SourceId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.usable() && peer.requests.is_empty() && !peer.stalled)
            .map(|(source, _)| *source)
            .collect();
        for source in idle {
            self.take_over(source, now);
        }
    }

    fn take_over(&mut self, source: SourceId, now: Time) {
        let Some(peer) = self.peers.get(&source) else { return };
        let own = f64::from(REQUEST_BLOCKS * BLOCK_SIZE) / peer.down.rate(now).max(UNKNOWN_RATE) as f64;
        let late = self
            .pieces
            .active_pieces()
            .filter(|(piece, _)| peer.have.contains(*piece) && self.pieces.may_mix(source, *piece));
        let worst = late
            .filter_map(|(piece, active)| {
                let blocks = self.pieces.missing_blocks(piece).minus(active.asked_of(source));
                let wait = active.askers(blocks).map(|other| self.wait_for(other, now)).reduce(f64::min)?;
                (wait > own * TAKE_OVER_FACTOR + TAKE_OVER_GAIN_S).then_some((piece, blocks, wait))
            })
            .max_by(|a, b| a.2.total_cmp(&b.2));
        let Some((piece, blocks, _)) = worst else { return };
        // From the far end: what the slow one will send last.
        let keep = blocks.count().saturating_sub(REQUEST_BLOCKS);
        let mut far = blocks;
        for _ in 0..keep {
            far.0 &= far.0 - 1;
        }
        let slow: Vec<SourceId> =
            self.pieces.active(piece).map(|active| active.askers(far).collect()).unwrap_or_default();
        if self.ask_peer(source, piece, far, REQUEST_BLOCKS, now) {
            for other in slow {
                self.cancel_requests(other, |request| request.piece == piece && request.left.0 & !far.0 == 0);
            }
        }
    }

    /// Seconds until `source` will have delivered what it owes.
    fn wait_for(&self, source: SourceId, now: Time) -> f64 {
        if let Some(peer) = self.peers.get(&source) {
            let silent = peer.waiting_since.map_or(0.0, |since| now.since(since).as_secs_f64());
            return peer.eta(now).unwrap_or(2.0 * silent).max(silent);
        }
        let Some(http) = self.https.get(&source) else { return f64::INFINITY };
        let owed: u64 = http.ranges.iter().map(|range| range.end - range.at).sum();
        let rate = http.down.rate(now);
        if rate == 0 { 1.0 } else { owed as f64 / rate as f64 }
    }

    /// Both sides have everything: nothing left to do for each other.
    fn part_from_complete(&mut self) {
        if !self.is_complete() {
            return;
        }
        let done = self.peers.iter().filter(|(_, peer)| peer.have.is_full() && !peer.leaving);
        let done: Vec<_> = done.map(|(source, _)| *source).collect();
        done.into_iter().for_each(|source| self.disconnect(source, ByeReason::Complete));
    }

    // === Origin and caches ===

    /// Since when have connected peers had something that is missing here?
    fn note_backlog(&mut self, now: Time) {
        let missing = self.pieces.layout().pieces() - self.pieces.have().count();
        let have_work = missing > self.pieces.scarce();
        self.backlog_since = if have_work { self.backlog_since.or(Some(now)) } else { None };
    }

    fn origin_use(&self, now: Time) -> OriginUse {
        let Some(started) = self.started else { return OriginUse::Hold };
        let hope = self.limits.download_from_peers && (!self.discovered || self.dialer.has_hope());
        let hope = hope || !self.peers.is_empty();
        if now.since(started) < self.limits.origin_delay && hope {
            return OriginUse::Hold;
        }
        if !self.limits.download_from_peers {
            return OriginUse::Any;
        }
        // Near peers hold everything: the origin is only the backstop (product §6.1).
        if self.peers.is_empty() && self.hope_since.is_some_and(|since| now.since(since) < PATIENCE) {
            return OriginUse::Hold;
        }
        if self.peers_fail(now) { OriginUse::Any } else { OriginUse::Scarce }
    }

    /// Whether peers have what is missing and do not deliver it: not at all, or slower than HTTP would.
    fn peers_fail(&self, now: Time) -> bool {
        let Some(since) = self.backlog_since else { return false };
        let waited = now.since(since);
        if waited < PATIENCE {
            return false;
        }
        let progress = self.from_peers.last().max(self.hope_since);
        let quiet = progress.is_none_or(|last| now.since(last) >= PATIENCE);
        if quiet {
            return true;
        }
        let known = self.https.values().filter_map(crate::http::Http::best_rate).max();
        let wanted = match (known, self.limits.foreground) {
            (Some(known), true) => known,
            (Some(known), false) => known.min(self.limits.min_rate),
            (None, _) => self.limits.min_rate,
        };
        waited >= JUDGE_TIME && self.from_all.rate(now) < wanted
    }

    fn plan_http(&mut self, now: Time) {
        let allowed = self.origin_use(now);
        if allowed == OriginUse::Hold {
            return;
        }
        // Caches before the origin.
        let mut order: Vec<SourceId> = self.https.keys().copied().collect();
        order.sort_by_key(|source| self.https.get(source).map(|http| http.kind));
        for source in order {
            while let Some(http) = self.https.get(&source).filter(|http| http.has_lane(now)) {
                let alone = self.downloaders == 0 && self.peers.values().all(|peer| peer.have.is_full());
                let most = http.range_pieces(alone, self.pieces.layout().pieces(), now);
                let range = self.pick_range(source, allowed, most, now);
                let late = || (allowed == OriginUse::Any).then(|| self.late_range(source, now)).flatten();
                let Some((start, end)) = range.or_else(late) else { break };
                self.fetch(source, start, end);
            }
        }
    }

    /// Bytes that were asked of peers who are late with them: the origin would bring them sooner. Their requests are
    /// taken back by `verified` when the piece is complete.
    fn late_range(&self, source: SourceId, now: Time) -> Option<(u64, u64)> {
        let http = self.https.get(&source)?;
        let own = f64::from(PIECE_SIZE) / http.best_rate().unwrap_or(0).max(UNKNOWN_RATE) as f64;
        let (piece, blocks) = self
            .pieces
            .active_pieces()
            .filter(|(piece, _)| self.pieces.may_mix(source, *piece))
            .filter_map(|(piece, active)| {
                let blocks = self.pieces.missing_blocks(piece).minus(active.asked_of(source));
                let wait = active.askers(blocks).map(|other| self.wait_for(other, now)).reduce(f64::min)?;
                (wait > own * TAKE_OVER_FACTOR + TAKE_OVER_GAIN_S).then_some((piece, blocks, wait))
            })
            .max_by(|a, b| a.2.total_cmp(&b.2))
            .map(|(piece, blocks, _)| (piece, blocks))?;
        let (first, count) = blocks.runs().last()?;
        let start = self.pieces.layout().offset(piece) + u64::from(first * BLOCK_SIZE);
        Some((start, (start + u64::from(count * BLOCK_SIZE)).min(self.pieces.layout().size())))
    }

    /// Whether the origin should be asked for `piece`.
    fn wants_from_origin(&self, piece: PieceIndex, allowed: OriginUse, idle: bool, now: Time) -> bool {
        if self.pieces.open_blocks(piece).is_empty() {
            return false;
        }
        match allowed {
            OriginUse::Hold => false,
            OriginUse::Any => idle || !self.pieces.is_claimed(piece, now),
            OriginUse::Scarce => {
                self.pieces.is_scarce(piece) && (idle || !self.pieces.is_claimed(piece, now))
            }
        }
    }

    /// Nothing has been verified for much longer than usual: claims of others are not to be trusted.
    fn is_idle_too_long(&self, now: Time) -> bool {
        let (Some(started), gap) = (self.started, self.verify_gap) else { return false };
        let last = self.last_verified.unwrap_or(started).max(self.from_all.last().unwrap_or(started));
        now.since(last) >= (gap * 4).clamp(Duration::from_secs(2), Duration::from_secs(60))
    }

    /// A run of bytes to ask an HTTP source for.
    fn pick_range(
        &mut self,
        source: SourceId,
        allowed: OriginUse,
        most: u32,
        now: Time,
    ) -> Option<(u64, u64)> {
        let layout = self.pieces.layout();
        let pieces = layout.pieces();
        let idle = self.is_idle_too_long(now);
        let wants = |piece: PieceIndex| self.wants_from_origin(piece, allowed, idle, now);
        let cursor = self.https.get(&source)?;
        let under_way =
            cursor.ranges.last().map(|range| PieceIndex((range.end / u64::from(PIECE_SIZE)) as u32));
        let cursor = under_way.or(cursor.cursor).filter(|piece| wants(*piece));
        let first = match cursor {
            Some(piece) => piece,
            None => {
                // The first place follows the order of arrival (golden ratio: any number of devices spread evenly),
                // later ones are random: two neighbours rarely pick the same piece in the moment before they hear
                // of each other's claim.
                let start = match self.ordinal.take() {
                    Some(ordinal) => {
                        let turn = u64::from(ordinal.wrapping_mul(0x9e37_79b9));
                        ((turn * u64::from(pieces)) >> 32) as u32
                    }
                    None => self.rng.below(pieces),
                };
                let wants = |piece: PieceIndex| self.wants_from_origin(piece, allowed, idle, now);
                (0..pieces).map(|at| PieceIndex((start + at) % pieces)).find(|piece| wants(*piece))?
            }
        };
        let wants = |piece: PieceIndex| self.wants_from_origin(piece, allowed, idle, now);
        let (run_at, run_len) = self.pieces.open_blocks(first).runs().next()?;
        let block = u64::from(BLOCK_SIZE);
        let start = layout.offset(first) + u64::from(run_at) * block;
        let mut end = layout.offset(first) + u64::from(run_at + run_len) * block;
        let mut next = PieceIndex(first.0 + 1);
        while end >= layout.offset(next)
            && next.0 - first.0 < most
            && wants(next)
            && self.pieces.open_blocks(next).contains(0)
        {
            let (_, run) = self.pieces.open_blocks(next).runs().next()?;
            end = layout.offset(next) + u64::from(run) * block;
            next = PieceIndex(next.0 + 1);
        }
        Some((start, end.min(layout.size())))
    }

    fn fetch(&mut self, source: SourceId, start: u64, end: u64) {
        let fetch = FetchId(self.next_fetch);
        self.next_fetch += 1;
        let first = PieceIndex((start / u64::from(PIECE_SIZE)) as u32);
        let range = Range { fetch, end, at: start };
        let pieces: Vec<PieceIndex> = range.pieces().collect();
        for piece in &pieces {
            let blocks = self.blocks_between(*piece, start, end);
            self.pieces.ask(source, *piece, blocks);
        }
        debug_assert_eq!(pieces.first(), Some(&first));
        if let Some(http) = self.https.get_mut(&source) {
            http.ranges.push(range);
        }
        self.tell_downloaders(&Message::Fetching { active: true, pieces });
        self.actions.push_back(Action::Fetch { source, fetch, start, end });
    }
}
