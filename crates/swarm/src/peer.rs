//! One connected peer: what it has, what was asked of it, what it asked for.

use std::time::Duration;

use peerage_content::{BLOCK_SIZE, Bitmap, BlockSet, PeerId, PieceIndex};
use peerage_wire::MAX_REQUESTS;

use crate::pace::Pace;
use crate::rate::Tally;
use crate::serving::Serving;
use crate::{SourceKind, Time};

/// Blocks in one request: 256 KiB, so that a request can be taken back before a slow peer has sent a whole piece.
pub(crate) const REQUEST_BLOCKS: u32 = 16;
/// Blocks outstanding at a peer whose pace is not known: one piece.
const FIRST_DEPTH: u32 = 64;
/// Blocks outstanding at least: the next request is on its way as soon as one begins to arrive. A peer that serves thirty at
/// once may take half a second for each, and what it owes nobody else is asked for.
const MIN_DEPTH: u32 = REQUEST_BLOCKS;
/// Blocks outstanding at most: what the wire allows.
const MAX_DEPTH: u32 = MAX_REQUESTS as u32 * REQUEST_BLOCKS;
/// Outstanding requests cover the peer's latency and this much time, in which either side may be busy otherwise. More
/// would commit the swarm early: what is asked of one source is not asked of a better one.
const DEPTH_TIME: Duration = Duration::from_millis(50);

/// Where little is left and others could bring it too, a peer owes its share of that, but what it sends in this time …
const LEAST_DEPTH_TIME: Duration = Duration::from_millis(10);
/// … and so many blocks at least …
const LEAST_DEPTH: u32 = 2;
/// … or so many, while its pace is not known.
const FIRST_LEAST_DEPTH: u32 = 8;

/// One request on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) piece: PieceIndex,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    /// Blocks of it that have not arrived.
    pub(crate) left: BlockSet,
}

#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) kind: SourceKind,
    pub(crate) have: Bitmap,
    pub(crate) joined: Time,
    /// It has said something since it joined: what it is fetching, if anything, comes first.
    pub(crate) has_spoken: bool,
    /// It does not answer requests.
    pub(crate) choking_us: bool,
    /// Its pieces are taken for available: it is believed to deliver.
    pub(crate) counted: bool,
    pub(crate) requests: Vec<Request>,
    /// Since when it has owed bytes without delivering any.
    pub(crate) waiting_since: Option<Time>,
    /// Since when it has been its fault that nothing comes: it owes bytes, or chokes us.
    pub(crate) at_fault_since: Option<Time>,
    /// How long that had been so when it last choked us instead of delivering: whoever chokes and unchokes all the time gets no
    /// more patience than whoever is mute.
    blamed: Duration,
    /// It has been silent for too long, or is on trial; what it owes is asked of others too, and of it nothing more than a
    /// probe, until it has delivered so many bytes.
    redeems: Option<u64>,
    /// How often it has been silent for too long.
    silences: u32,
    /// It has nothing that could be asked for at the moment.
    pub(crate) dry: bool,
    pub(crate) pace: Pace,
    /// Shortest time from a request on an empty queue to its first bytes.
    latency: Option<Duration>,
    /// When a request was put on an empty queue, until bytes arrive.
    asked_at: Option<Time>,
    pub(crate) down: Tally,
    pub(crate) up: Tally,
    /// What it wants of us.
    pub(crate) serving: Serving,
    /// It is being disconnected; nothing more is asked of it or done for it.
    pub(crate) leaving: bool,
    /// Pieces that it claimed and did not deliver.
    pub(crate) broken_words: u32,
}

// Fifty of these are looked at ten times a second.
const _: () = assert!(size_of::<Peer>() <= 400);

impl Peer {
    pub(crate) fn new(id: PeerId, kind: SourceKind, have: Bitmap, counted: bool, now: Time) -> Self {
        Self {
            id,
            kind,
            have,
            joined: now,
            has_spoken: false,
            choking_us: true,
            counted,
            requests: Vec::new(),
            waiting_since: None,
            at_fault_since: Some(now),
            blamed: Duration::ZERO,
            redeems: None,
            silences: 0,
            dry: false,
            pace: Pace::default(),
            latency: None,
            asked_at: None,
            down: Tally::default(),
            up: Tally::default(),
            serving: Serving::new(now),
            leaving: false,
            broken_words: 0,
        }
    }

    /// Whether it still lacks something.
    pub(crate) fn downloads(&self) -> bool {
        !self.leaving && !self.have.is_full()
    }

    /// Whether it can be asked for pieces.
    pub(crate) const fn usable(&self) -> bool {
        !self.choking_us && !self.leaving
    }

    /// Whether it has been silent for too long and not made up for it, or is on trial.
    pub(crate) const fn is_silent(&self) -> bool {
        self.redeems.is_some()
    }

    /// It has been silent for too long: each time it must deliver twice as much to be believed again, or a peer that
    /// comes and goes would stop the origin each time it comes.
    pub(crate) fn fall_silent(&mut self) {
        self.silences += 1;
        self.redeems = Some(u64::from(REQUEST_BLOCKS * BLOCK_SIZE) << self.silences.min(5));
    }

    /// It is believed when it has delivered so many bytes.
    pub(crate) const fn try_out(&mut self, evidence: u64) {
        self.redeems = Some(evidence);
    }

    pub(crate) fn outstanding(&self) -> u32 {
        self.requests.iter().map(|request| request.left.count()).sum()
    }

    /// Blocks that may still be asked of it now.
    pub(crate) fn room(&self, now: Time) -> u32 {
        if !self.usable() || self.requests.len() >= MAX_REQUESTS {
            return 0;
        }
        if self.is_silent() {
            return if self.requests.is_empty() { REQUEST_BLOCKS } else { 0 };
        }
        let depth = match self.pace.rate(now) {
            None => FIRST_DEPTH,
            Some(rate) => {
                let span = self.latency.unwrap_or_default() + DEPTH_TIME;
                ((rate * span.as_secs_f64() / f64::from(BLOCK_SIZE)) as u32).clamp(MIN_DEPTH, MAX_DEPTH)
            }
        };
        // Whole requests: half of one would be no use.
        depth.saturating_sub(self.outstanding()).next_multiple_of(REQUEST_BLOCKS)
    }

    /// Blocks that it owes where little is left and others could bring it too, if its share of that is `share`.
    pub(crate) fn part(&self, share: u32, now: Time) -> u32 {
        let Some(rate) = self.pace.rate(now) else { return share.max(FIRST_LEAST_DEPTH) };
        let latency = self.latency.unwrap_or_default();
        let blocks = |span: Duration| (rate * span.as_secs_f64() / f64::from(BLOCK_SIZE)) as u32;
        let (least, most) = (blocks(latency + LEAST_DEPTH_TIME), blocks(latency + DEPTH_TIME));
        share.min(most).max(least.clamp(LEAST_DEPTH, MIN_DEPTH))
    }

    /// Notes a request for blocks `[first, first + count)` of a piece of `piece_len` bytes, and says what to send.
    pub(crate) fn ask(
        &mut self,
        piece: PieceIndex,
        first: u32,
        count: u32,
        piece_len: u32,
        now: Time,
    ) -> Request {
        let offset = first * BLOCK_SIZE;
        let len = (count * BLOCK_SIZE).min(piece_len - offset);
        let left = BlockSet(BlockSet::first(count).0 << first);
        let request = Request { piece, offset, len, left };
        if self.requests.is_empty() {
            self.asked_at = Some(now);
        }
        self.requests.push(request);
        self.waiting_since.get_or_insert(now);
        self.at_fault_since.get_or_insert(now - self.blamed);
        self.pace.begin(now);
        request
    }

    /// Blocks arrived.
    pub(crate) fn delivered(&mut self, piece: PieceIndex, blocks: BlockSet, bytes: u64, now: Time) {
        self.down.add(bytes, now);
        self.pace.add(bytes, now);
        if let Some(asked_at) = self.asked_at.take() {
            let latency = now.since(asked_at);
            self.latency = Some(self.latency.map_or(latency, |known| known.min(latency)));
        }
        self.redeems = self.redeems.and_then(|left| left.checked_sub(bytes)).filter(|left| *left > 0);
        for request in self.requests.iter_mut().filter(|request| request.piece == piece) {
            request.left = request.left.minus(blocks);
        }
        self.requests.retain(|request| !request.left.is_empty());
        self.waiting_since = Some(now);
        (self.at_fault_since, self.blamed) = (Some(now), Duration::ZERO);
        self.owes_nothing_if_so();
    }

    /// Takes the requests that `which` names off the list.
    pub(crate) fn drop_requests(&mut self, mut which: impl FnMut(&Request) -> bool) -> Vec<Request> {
        let dropped = self.requests.extract_if(.., |request| which(request)).collect();
        self.owes_nothing_if_so();
        dropped
    }

    /// It chokes us or no longer does.
    pub(crate) fn set_choking(&mut self, choking: bool, now: Time) {
        self.choking_us = choking;
        if choking {
            let since = *self.at_fault_since.get_or_insert(now);
            if !self.requests.is_empty() {
                self.blamed = now.since(since);
            }
        }
        self.owes_nothing_if_so();
    }

    fn owes_nothing_if_so(&mut self) {
        if self.requests.is_empty() {
            (self.waiting_since, self.asked_at) = (None, None);
            self.pace.end();
            if !self.choking_us {
                self.at_fault_since = None;
            }
        }
    }

    /// Seconds until it will have delivered what was asked of it, judged by its pace and its silence.
    pub(crate) fn eta(&self, now: Time) -> f64 {
        let silent = self.waiting_since.map_or(0.0, |since| now.since(since).as_secs_f64());
        let owed = f64::from(self.outstanding()) * f64::from(BLOCK_SIZE);
        self.pace.rate(now).map_or(2.0 * silent, |rate| owed / rate).max(silent)
    }
}
