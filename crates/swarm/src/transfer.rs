//! One content on one device: the transfer engine.
//!
//! A `Transfer` is driven like this, in any order and as often as wanted: [`Transfer::handle`] an event, then
//! [`Transfer::poll_action`] until it returns `None`, then wait for the next event or for [`Transfer::poll_timeout`],
//! whichever is first, and call [`Transfer::handle_timeout`]. `now` must not run backwards.
//!
//! Invariants: a piece is offered only after it was verified; nothing is asked for that is had; nothing is asked of a
//! source beyond its limits; every source that leaves takes its requests, claims and availability with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerage_content::{BLOCK_SIZE, Bitmap, BlockSet, Layout, PeerId, PieceIndex};
use peerage_wire::{ByeReason, Message, RejectCode};

use crate::dial::Dialer;
use crate::http::Http;
use crate::peer::Peer;
use crate::pieces::Pieces;
use crate::{
    Action, ByKind, Event, FetchError, FetchId, Limits, Offence, Outcome, RateMeter, Rng, SourceId,
    SourceKind, Time,
};

/// How often time-outs are looked at while something is missing …
const TICK: Duration = Duration::from_millis(100);
/// … and while only seeding to connected peers.
const SEED_TICK: Duration = Duration::from_secs(1);
/// Rejected requests after which a peer is a liar.
const MAX_REJECTED: u32 = 3;

/// How a transfer begins.
#[derive(Debug, Clone)]
pub struct Start {
    /// How the content is cut.
    pub layout: Layout,
    /// Pieces that are verified in the store.
    pub have: Bitmap,
    /// Blocks that are in the store and not verified.
    pub partial: Vec<(PieceIndex, BlockSet)>,
    /// What policy allows.
    pub limits: Limits,
    /// Seed of all random choices.
    pub seed: u64,
}

/// Figures of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes received and stored, by kind of source.
    pub received: ByKind,
    /// Bytes sent, by kind of peer.
    pub sent: ByKind,
    /// Bytes received for nothing: wrong, or had already.
    pub wasted: u64,
    /// Bytes a second received now.
    pub down_rate: u64,
    /// Bytes a second sent now.
    pub up_rate: u64,
    /// Peers known.
    pub known_peers: u32,
}

/// Figures of one connected peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStats {
    /// The source.
    pub source: SourceId,
    /// Its key.
    pub peer: PeerId,
    /// Its kind.
    pub kind: SourceKind,
    /// Bytes received from it.
    pub received: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes a second from it.
    pub down_rate: u64,
    /// Bytes a second to it.
    pub up_rate: u64,
    /// Whether it answers our requests.
    pub unchoked: bool,
}

/// The engine of one content.
#[derive(Debug, Clone)]
pub struct Transfer {
    pub(crate) pieces: Pieces,
    pub(crate) peers: BTreeMap<SourceId, Peer>,
    pub(crate) https: BTreeMap<SourceId, Http>,
    pub(crate) dialer: Dialer,
    pub(crate) limits: Limits,
    pub(crate) rng: Rng,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) started: Option<Time>,
    pub(crate) discovered: bool,
    pub(crate) ordinal: Option<u32>,
    /// Other devices that download the same content, by the last answer of discovery.
    pub(crate) downloaders: u32,
    /// Since when there has been reason to hope that near peers deliver all: the answer that named them, or the last join.
    pub(crate) hope_since: Option<Time>,
    pub(crate) paused: bool,
    pub(crate) next_fetch: u64,
    pub(crate) from_peers: RateMeter,
    pub(crate) from_all: RateMeter,
    pub(crate) to_all: RateMeter,
    /// Since when some missing piece could have come from a connected peer, without pause.
    pub(crate) backlog_since: Option<Time>,
    /// When a piece was last verified, and the smoothed time between two of them.
    pub(crate) last_verified: Option<Time>,
    pub(crate) verify_gap: Duration,
    pub(crate) claims_renewed: Time,
    pub(crate) chokes_reviewed: Time,
    pub(crate) need_peers_at: Time,
    tick: Option<Time>,
    dirty: bool,
    pub(crate) news: Vec<PieceIndex>,
    complete_said: bool,
    stats: Stats,
}

impl Transfer {
    /// A transfer without sources.
    pub fn new(start: Start) -> Self {
        Self {
            pieces: Pieces::new(start.layout, start.have, start.partial.into_iter()),
            peers: BTreeMap::new(),
            https: BTreeMap::new(),
            dialer: Dialer::default(),
            limits: start.limits,
            rng: Rng::new(start.seed),
            actions: VecDeque::new(),
            started: None,
            discovered: false,
            ordinal: None,
            downloaders: 0,
            hope_since: None,
            paused: false,
            next_fetch: 0,
            from_peers: RateMeter::default(),
            from_all: RateMeter::default(),
            to_all: RateMeter::default(),
            backlog_since: None,
            last_verified: None,
            verify_gap: Duration::ZERO,
            claims_renewed: Time::ZERO,
            chokes_reviewed: Time::ZERO,
            need_peers_at: Time::ZERO,
            tick: None,
            dirty: true,
            news: Vec::new(),
            complete_said: false,
            stats: Stats::default(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Time) {
        self.begin(now);
        self.dirty = true;
        match event {
            Event::Discovered { candidates, ordinal, downloaders } => {
                self.discovered = true;
                self.downloaders = downloaders;
                if candidates.iter().any(|one| one.seed && one.kind.is_near()) {
                    self.hope_since.get_or_insert(now);
                }
                self.ordinal = self.ordinal.or(ordinal);
                self.dialer.learn(candidates);
            }
            Event::PeerJoined { source, peer, kind, have } => self.peer_joined(source, peer, kind, have, now),
            Event::DialFailed { peer } => self.dialer.gone(peer, &mut self.rng, now),
            Event::PeerLeft { source } => self.peer_left(source, now),
            Event::Message { source, message } => self.message(source, message, now),
            Event::HttpJoined { source, kind, known_rate } => {
                self.https.insert(source, Http::new(kind, known_rate));
            }
            Event::Stored { source, piece, offset, len, outcome } => {
                self.stored(source, piece, offset, len, outcome, now);
            }
            Event::FetchDone { fetch } => self.fetch_ended(fetch, None, now),
            Event::FetchFailed { fetch, error } => self.fetch_ended(fetch, Some(error), now),
            Event::Sent { source, len } => self.sent(source, len, now),
            Event::Lost { piece } => {
                self.pieces.lost(piece);
                self.complete_said = false;
            }
            Event::Banned { peer } => {
                self.dialer.banned(peer);
                let sources = self.peers.iter().filter(|(_, known)| known.id == peer);
                let sources: Vec<_> = sources.map(|(source, _)| *source).collect();
                sources.into_iter().for_each(|source| self.disconnect(source, ByeReason::Banned));
            }
            Event::Limits(limits) => self.set_limits(limits),
            Event::Pause(paused) => self.pause(paused),
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        self.begin(now);
        if self.tick.is_some_and(|tick| tick <= now) {
            self.tick = None;
            self.dirty = true;
            self.time_passes(now);
        }
    }

    /// What to do next; `None`: nothing until the next event or time-out.
    pub fn poll_action(&mut self, now: Time) -> Option<Action> {
        if self.actions.is_empty() && self.dirty {
            self.dirty = false;
            self.plan(now);
            let busy = !self.is_complete() && !self.paused;
            let period = if busy { Some(TICK) } else { (!self.peers.is_empty()).then_some(SEED_TICK) };
            self.tick = period.map(|period| self.tick.map_or(now + period, |tick| tick.min(now + period)));
        }
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] is due; `None`: never, until something happens.
    pub const fn poll_timeout(&self) -> Option<Time> {
        self.tick
    }

    /// Whether every piece is verified.
    pub fn is_complete(&self) -> bool {
        self.pieces.is_complete()
    }

    /// The pieces that are verified.
    pub const fn have(&self) -> &Bitmap {
        self.pieces.have()
    }

    /// The figures.
    pub fn stats(&self, now: Time) -> Stats {
        Stats {
            down_rate: self.from_all.rate(now),
            up_rate: self.to_all.rate(now),
            known_peers: self.dialer.known() as u32,
            ..self.stats
        }
    }

    /// The figures of the connected peers.
    pub fn peer_stats(&self, now: Time) -> impl Iterator<Item = PeerStats> + '_ {
        self.peers.iter().map(move |(source, peer)| PeerStats {
            source: *source,
            peer: peer.id,
            kind: peer.kind,
            received: peer.down.total(),
            sent: peer.up.total(),
            down_rate: peer.down.rate(now),
            up_rate: peer.up.rate(now),
            unchoked: !peer.choking_us,
        })
    }

    /// The best rate that an HTTP source of `kind` has shown here, in bytes a second.
    pub fn http_rate(&self, kind: SourceKind) -> Option<u64> {
        self.https.values().filter(|http| http.kind == kind).filter_map(Http::best_rate).max()
    }

    fn begin(&mut self, now: Time) {
        if self.started.is_none() {
            (self.started, self.claims_renewed, self.need_peers_at) =
                (Some(now), now, now + Duration::from_secs(10));
        }
    }

    // === Peers come and go ===

    fn peer_joined(&mut self, source: SourceId, id: PeerId, kind: SourceKind, have: Bitmap, now: Time) {
        self.dialer.connected(id);
        if have.len() != self.pieces.layout().pieces() {
            self.offend(source, id, Offence::Protocol("bitmap of another length"));
            return;
        }
        have.iter().for_each(|piece| self.pieces.peer_has(piece));
        let complete = have.is_full();
        self.hope_since = Some(now);
        self.peers.insert(source, Peer::new(id, kind, have, now));
        let claimed = self.own_claims();
        if !claimed.is_empty() && !complete {
            self.send(source, Message::Fetching { active: true, pieces: claimed });
        }
        self.review_chokes(now);
    }

    fn peer_left(&mut self, source: SourceId, now: Time) {
        let Some(peer) = self.peers.remove(&source) else { return };
        peer.have.iter().for_each(|piece| self.pieces.peer_lost(piece));
        self.pieces.unask_all(source);
        self.pieces.unclaim_all(source);
        self.dialer.gone(peer.id, &mut self.rng, now);
        self.review_chokes(now);
    }

    pub(crate) fn disconnect(&mut self, source: SourceId, reason: ByeReason) {
        let Some(peer) = self.peers.get_mut(&source).filter(|peer| !peer.leaving) else { return };
        peer.leaving = true;
        peer.requests.clear();
        peer.wanted.clear();
        self.pieces.unask_all(source);
        self.pieces.unclaim_all(source);
        self.actions.push_back(Action::Disconnect { source, reason });
    }

    fn offend(&mut self, source: SourceId, peer: PeerId, offence: Offence) {
        self.actions.push_back(Action::Charge { peer, offence });
        if matches!(offence, Offence::Protocol(_)) {
            self.dialer.banned(peer);
            if self.peers.contains_key(&source) {
                self.disconnect(source, ByeReason::Banned);
            } else {
                self.actions.push_back(Action::Disconnect { source, reason: ByeReason::Banned });
            }
        }
    }

    pub(crate) fn send(&mut self, source: SourceId, message: Message) {
        self.actions.push_back(Action::Send { source, message });
    }

    // === Messages ===

    fn message(&mut self, source: SourceId, message: Message, now: Time) {
        let Some(peer) = self.peers.get_mut(&source).filter(|peer| !peer.leaving) else { return };
        let (id, layout) = (peer.id, self.pieces.layout());
        let outside = |pieces: &[PieceIndex]| pieces.iter().any(|piece| !layout.contains(*piece));
        match message {
            Message::Have(pieces) | Message::Fetching { pieces, .. } if outside(&pieces) => {
                self.offend(source, id, Offence::Protocol("a piece outside the content"));
            }
            Message::Have(pieces) => {
                for piece in pieces {
                    self.pieces.unclaim(source, piece);
                    if peer.have.insert(piece) {
                        self.pieces.peer_has(piece);
                    }
                }
            }
            Message::Fetching { active: true, pieces } => {
                pieces.into_iter().for_each(|piece| self.pieces.claim(source, piece, now));
            }
            Message::Fetching { active: false, pieces } => {
                pieces.into_iter().for_each(|piece| self.pieces.unclaim(source, piece));
            }
            Message::Choke => {
                peer.choking_us = true;
                peer.drop_requests(|_| true);
                self.pieces.unask_all(source);
            }
            Message::Unchoke => peer.choking_us = false,
            Message::Request { piece, offset, len } => self.requested(source, piece, offset, len),
            Message::Cancel { piece, offset, len } => {
                peer.wanted.retain(|(p, o, l)| {
                    *p != piece
                        || *o < offset
                        || u64::from(*o) + u64::from(*l) > u64::from(offset) + u64::from(len)
                });
            }
            Message::Reject { code, piece, .. } => self.rejected(source, code, piece),
            Message::Hello(_) => self.offend(source, id, Offence::Protocol("a second hello")),
            // The driver answers these itself.
            Message::GetMap { .. } | Message::Map { .. } | Message::Bye(_) | Message::Ping => {}
        }
    }

    /// A request was refused: what it promised is not there. A peer may lose a piece honestly (eviction) once or twice.
    fn rejected(&mut self, source: SourceId, code: RejectCode, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        let dropped = peer.drop_requests(|request| request.piece == piece);
        let blocks = dropped.iter().fold(BlockSet::default(), |all, request| all.union(request.left));
        self.pieces.unask(source, piece, blocks);
        if code != RejectCode::NotHere {
            return;
        }
        if peer.have.remove(piece) {
            self.pieces.peer_lost(piece);
        }
        peer.rejected += 1;
        if peer.rejected >= MAX_REJECTED {
            let id = peer.id;
            self.offend(source, id, Offence::Protocol("it does not have what it claims to have"));
        }
    }

    // === Bytes ===

    fn stored(
        &mut self,
        source: SourceId,
        piece: PieceIndex,
        offset: u32,
        len: u32,
        outcome: Outcome,
        now: Time,
    ) {
        let piece_len = self.pieces.layout().piece_len(piece);
        let blocks = BlockSet::covered(offset, len, piece_len);
        let bytes = u64::from(len);
        self.from_all.add(bytes, now);
        let kind = if let Some(peer) = self.peers.get_mut(&source) {
            peer.delivered(piece, blocks, bytes, now);
            self.from_peers.add(bytes, now);
            Some(peer.kind)
        } else if let Some(http) = self.https.get_mut(&source) {
            http.delivered(self.pieces.layout().offset(piece) + u64::from(offset), bytes, now);
            Some(http.kind)
        } else {
            None
        };
        if outcome == Outcome::Duplicate || self.pieces.have().contains(piece) {
            self.pieces.unask(source, piece, blocks);
            self.stats.wasted += bytes;
            return;
        }
        if let Some(kind) = kind {
            *self.stats.received.get_mut(kind) += bytes;
        }
        self.pieces.stored(source, piece, blocks);
        match outcome {
            Outcome::Partial | Outcome::Duplicate => {}
            Outcome::Verified => self.verified(piece, now),
            Outcome::Corrupt => self.corrupt(piece),
        }
    }

    fn verified(&mut self, piece: PieceIndex, now: Time) {
        // Others were asked for blocks of it too: take that back.
        let late = self.pieces.verified(piece).map(|active| {
            active
                .askers(BlockSet(u64::MAX))
                .filter(|source| self.peers.contains_key(source))
                .collect::<Vec<_>>()
        });
        for source in late.into_iter().flatten() {
            self.cancel_requests(source, |request| request.piece == piece);
        }
        self.news.push(piece);
        if let Some(last) = self.last_verified {
            let gap = now.since(last);
            self.verify_gap = if self.verify_gap.is_zero() { gap } else { (self.verify_gap * 7 + gap) / 8 };
        }
        self.last_verified = Some(now);
    }

    fn corrupt(&mut self, piece: PieceIndex) {
        self.stats.wasted += u64::from(self.pieces.layout().piece_len(piece));
        let Some(active) = self.pieces.corrupt(piece) else { return };
        for source in active.askers(BlockSet(u64::MAX)).collect::<Vec<_>>() {
            self.cancel_requests(source, |request| request.piece == piece);
        }
        // Only a piece that came wholly from one source proves anything against it.
        let Some(source) = active.sole_contributor() else { return };
        if let Some(peer) = self.peers.get(&source) {
            let id = peer.id;
            self.offend(source, id, Offence::BadPiece(piece));
        } else if self.https.contains_key(&source) {
            self.actions.push_back(Action::HttpCorrupt { source, piece });
        }
    }

    pub(crate) fn cancel_requests(
        &mut self,
        source: SourceId,
        which: impl FnMut(&crate::peer::Request) -> bool,
    ) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        for request in peer.drop_requests(which) {
            self.pieces.unask(source, request.piece, request.left);
            let (piece, offset, len) = (request.piece, request.offset, request.len);
            self.actions.push_back(Action::Send { source, message: Message::Cancel { piece, offset, len } });
        }
    }

    fn fetch_ended(&mut self, fetch: FetchId, error: Option<FetchError>, now: Time) {
        let Some((source, http)) =
            self.https.iter_mut().find(|(_, h)| h.ranges.iter().any(|r| r.fetch == fetch))
        else {
            return;
        };
        let source = *source;
        let Some(range) = http.end(fetch) else { return };
        match error {
            None => {
                http.cursor = Some(PieceIndex((range.end / u64::from(peerage_content::PIECE_SIZE)) as u32))
            }
            Some(FetchError::Retry(wish)) => http.back_off(wish, now),
            Some(FetchError::Unusable) => http.unusable = true,
        }
        self.release_range(source, &range);
    }

    /// The rest of a range will not come: free its blocks and tell the others.
    pub(crate) fn release_range(&mut self, source: SourceId, range: &crate::http::Range) {
        let mut given_up = Vec::new();
        for piece in range.pieces() {
            let asked =
                self.pieces.active(piece).map_or(BlockSet::default(), |active| active.asked_of(source));
            let inside = self.blocks_between(piece, range.at, range.end);
            self.pieces.unask(source, piece, BlockSet(asked.0 & inside.0));
            if !self.pieces.have().contains(piece) {
                given_up.push(piece);
            }
        }
        if !given_up.is_empty() {
            self.tell_downloaders(&Message::Fetching { active: false, pieces: given_up });
        }
    }

    /// The blocks of `piece` that lie in content bytes `[from, to)`, wholly or in part.
    pub(crate) fn blocks_between(&self, piece: PieceIndex, from: u64, to: u64) -> BlockSet {
        let layout = self.pieces.layout();
        let (start, len) = (layout.offset(piece), u64::from(layout.piece_len(piece)));
        let from = (from.saturating_sub(start)).min(len) / u64::from(BLOCK_SIZE);
        let to = (to.saturating_sub(start)).min(len).div_ceil(u64::from(BLOCK_SIZE));
        BlockSet::first(to as u32).minus(BlockSet::first(from as u32))
    }

    // === Policy ===

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        if !limits.download_from_peers && !limits.upload_to_peers {
            let sources: Vec<_> = self.peers.keys().copied().collect();
            sources.into_iter().for_each(|source| self.disconnect(source, ByeReason::Stopped));
        }
        if !limits.download_from_peers {
            let sources: Vec<_> = self.peers.keys().copied().collect();
            sources.into_iter().for_each(|source| self.cancel_requests(source, |_| true));
        }
    }

    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        if !paused {
            return;
        }
        let sources: Vec<_> = self.peers.keys().copied().collect();
        sources.into_iter().for_each(|source| self.cancel_requests(source, |_| true));
        let ranges: Vec<_> = self
            .https
            .iter_mut()
            .flat_map(|(source, http)| {
                http.ranges.drain(..).map(|range| (*source, range)).collect::<Vec<_>>()
            })
            .collect();
        for (source, range) in ranges {
            self.actions.push_back(Action::CancelFetch { fetch: range.fetch });
            self.release_range(source, &range);
        }
    }

    pub(crate) fn say_complete(&mut self) {
        if self.is_complete() && !self.complete_said {
            self.complete_said = true;
            self.actions.push_back(Action::Complete);
        }
    }

    pub(crate) fn count_sent(&mut self, kind: SourceKind, bytes: u64) {
        *self.stats.sent.get_mut(kind) += bytes;
    }
}
