//! One connected peer: what it has, what was asked of it, what it asked for.

use std::collections::VecDeque;
use std::time::Duration;

use peerage_content::{BLOCK_SIZE, Bitmap, BlockSet, PeerId, PieceIndex};
use peerage_wire::MAX_REQUESTS;

use crate::{RateMeter, SourceKind, Time};

/// Blocks in one request: 256 KiB, so that a request can be taken back before a slow peer has sent a whole piece.
pub(crate) const REQUEST_BLOCKS: u32 = 16;
/// Bytes sent in one go for a peer's request.
pub(crate) const UPLOAD_CHUNK: u32 = 256 << 10;
/// Chunks handed to the driver and not yet sent, for each peer.
pub(crate) const UPLOADS_UNDER_WAY: usize = 4;
/// Blocks outstanding at a peer whose rate is not known: two pieces.
const FIRST_DEPTH: u32 = 128;
/// Blocks outstanding at most: what the wire allows.
const MAX_DEPTH: u32 = MAX_REQUESTS as u32 * REQUEST_BLOCKS;
/// Outstanding requests should cover this time at the peer's rate.
const DEPTH_TIME: Duration = Duration::from_millis(100);
/// A peer that owes bytes and delivers none for this long is stalled (product §8: 4 s, 4 s a MiB; a request is less).
pub(crate) const STALL_TIME: Duration = Duration::from_secs(4);

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
    /// It does not answer requests.
    pub(crate) choking_us: bool,
    /// We do not answer its requests.
    pub(crate) choked: bool,
    /// When it was last unchoked or choked by us.
    pub(crate) choke_changed: Time,
    pub(crate) requests: Vec<Request>,
    /// Since when it has owed bytes without delivering any.
    pub(crate) waiting_since: Option<Time>,
    /// It owed bytes for too long; it gets one request at a time until it delivers.
    pub(crate) stalled: bool,
    pub(crate) down: RateMeter,
    pub(crate) up: RateMeter,
    /// What it asked for and has not been handed to the driver.
    pub(crate) wanted: VecDeque<(PieceIndex, u32, u32)>,
    pub(crate) sending: usize,
    /// It is being disconnected; nothing more is asked of it or done for it.
    pub(crate) leaving: bool,
    /// How often it claimed pieces it did not deliver.
    pub(crate) rejected: u32,
}

impl Peer {
    pub(crate) fn new(id: PeerId, kind: SourceKind, have: Bitmap, now: Time) -> Self {
        Self {
            id,
            kind,
            have,
            choking_us: true,
            choked: true,
            choke_changed: now,
            requests: Vec::new(),
            waiting_since: None,
            stalled: false,
            down: RateMeter::default(),
            up: RateMeter::default(),
            wanted: VecDeque::new(),
            sending: 0,
            leaving: false,
            rejected: 0,
        }
    }

    /// Whether it can be asked for pieces.
    pub(crate) const fn usable(&self) -> bool {
        !self.choking_us && !self.leaving
    }

    fn outstanding(&self) -> u32 {
        self.requests.iter().map(|request| request.left.count()).sum()
    }

    /// Blocks that may still be asked of it now.
    pub(crate) fn room(&self, now: Time) -> u32 {
        if !self.usable() || self.requests.len() >= MAX_REQUESTS {
            return 0;
        }
        let depth = if self.stalled {
            REQUEST_BLOCKS
        } else {
            let blocks = self.down.rate(now) as f64 * DEPTH_TIME.as_secs_f64() / f64::from(BLOCK_SIZE);
            (blocks as u32).clamp(FIRST_DEPTH, MAX_DEPTH)
        };
        depth.saturating_sub(self.outstanding())
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
        self.requests.push(request);
        self.waiting_since.get_or_insert(now);
        request
    }

    /// Blocks arrived.
    pub(crate) fn delivered(&mut self, piece: PieceIndex, blocks: BlockSet, bytes: u64, now: Time) {
        self.down.add(bytes, now);
        self.stalled = false;
        for request in self.requests.iter_mut().filter(|request| request.piece == piece) {
            request.left = request.left.minus(blocks);
        }
        self.requests.retain(|request| !request.left.is_empty());
        self.waiting_since = (!self.requests.is_empty()).then_some(now);
    }

    /// Takes the requests for `piece` that `which` names off the list.
    pub(crate) fn drop_requests(&mut self, mut which: impl FnMut(&Request) -> bool) -> Vec<Request> {
        let dropped = self.requests.extract_if(.., |request| which(request)).collect();
        if self.requests.is_empty() {
            self.waiting_since = None;
        }
        dropped
    }

    /// Seconds until it will have delivered what was asked of it, judged by its rate; `None`: who knows.
    pub(crate) fn eta(&self, now: Time) -> Option<f64> {
        let rate = self.down.rate(now);
        let owed = f64::from(self.outstanding()) * f64::from(BLOCK_SIZE);
        (rate > 0).then(|| owed / rate as f64)
    }
}
