//! What one peer wants of us, and whether it gets it.

use std::collections::VecDeque;
use std::time::Duration;

use peerage_content::PieceIndex;

use crate::Time;

/// Bytes sent in one go for a peer's request.
const CHUNK: u32 = 256 << 10;
/// Chunks handed to the driver and not yet sent, for each peer, at most …
const UNDER_WAY: usize = 4;
/// … and, but for one, no more than leave in this time: what the driver has cannot be taken back, and a peer to which
/// little flows is likely to get it elsewhere.
const UNDER_WAY_TIME: Duration = Duration::from_millis(100);
/// A peer that has been told that it is choked is told the opposite after this at the earliest: requests that it sent
/// before it knew arrive meanwhile, and are not taken for new ones, whose answers it would throw away. More than a round trip
/// over any link worth serving; far less than the 2 s within which a policy that is taken back has to hold again.
const RESPITE: Duration = Duration::from_millis(500);
/// Chunks that may wait: what 64 requests of the largest size come to, twice, because those of a still longer round trip
/// may stand beside the ones that follow the next `Unchoke`.
const MAX_WANTED: usize = 2 * peerage_wire::MAX_REQUESTS * (peerage_wire::MAX_DATA / CHUNK) as usize;

/// A part of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) piece: PieceIndex,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// The serving side of one connection.
///
/// A `Choke` may not be followed by bytes (wire §4), and messages overtake bytes that wait in the driver. So it is said
/// only when everything handed to the driver has been sent.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    wanted: VecDeque<Chunk>,
    under_way: usize,
    /// Its requests are not answered.
    pub(crate) choked: bool,
    /// It has been choked and not been told.
    choke_due: bool,
    /// When it was last choked or unchoked.
    pub(crate) since: Time,
    /// When it was last told that it is choked.
    choke_said: Option<Time>,
}

impl Serving {
    pub(crate) const fn new(now: Time) -> Self {
        Self {
            wanted: VecDeque::new(),
            under_way: 0,
            choked: true,
            choke_due: false,
            since: now,
            choke_said: None,
        }
    }

    /// Takes a request; false if it is more than a peer may have outstanding.
    pub(crate) fn want(&mut self, piece: PieceIndex, offset: u32, len: u32) -> bool {
        let mut at = offset;
        let end = offset.saturating_add(len);
        while at < end {
            if self.wanted.len() >= MAX_WANTED {
                return false;
            }
            let len = CHUNK.min(end - at);
            self.wanted.push_back(Chunk { piece, offset: at, len });
            at += len;
        }
        true
    }

    /// A request was taken back.
    pub(crate) fn unwant(&mut self, piece: PieceIndex, offset: u32, len: u32) {
        let end = u64::from(offset) + u64::from(len);
        self.wanted.retain(|chunk| {
            let inside = offset <= chunk.offset && u64::from(chunk.offset) + u64::from(chunk.len) <= end;
            chunk.piece != piece || !inside
        });
    }

    /// The piece is not here any more; returns what was wanted of it.
    pub(crate) fn lost(&mut self, piece: PieceIndex) -> Vec<Chunk> {
        let gone = self.wanted.iter().filter(|chunk| chunk.piece == piece).copied().collect();
        self.wanted.retain(|chunk| chunk.piece != piece);
        gone
    }

    /// The next chunk for the driver, if it is soon done with what it has at `rate`, the bytes a second that leave for this
    /// peer.
    pub(crate) fn next(&mut self, rate: u64) -> Option<Chunk> {
        let soon = rate as f64 * UNDER_WAY_TIME.as_secs_f64() / f64::from(CHUNK);
        if self.choked || self.under_way >= (soon as usize).clamp(1, UNDER_WAY) {
            return None;
        }
        let chunk = self.wanted.pop_front()?;
        self.under_way += 1;
        Some(chunk)
    }

    /// A chunk has been sent. Returns whether a `Choke` is to be said now.
    pub(crate) fn sent(&mut self, now: Time) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        let due = self.under_way == 0 && std::mem::replace(&mut self.choke_due, false);
        self.say_choke(due, now)
    }

    /// Stops serving. Returns whether a `Choke` is to be said now.
    pub(crate) fn choke(&mut self, now: Time) -> bool {
        (self.choked, self.since) = (true, now);
        self.wanted.clear();
        self.choke_due = self.under_way > 0;
        self.say_choke(!self.choke_due, now)
    }

    fn say_choke(&mut self, say: bool, now: Time) -> bool {
        self.choke_said = if say { Some(now) } else { self.choke_said };
        say
    }

    /// Serves from now on. Returns whether an `Unchoke` is to be said: not while a `Choke` is still due,
    /// nor soon after one.
    pub(crate) fn unchoke(&mut self, now: Time) -> bool {
        if self.choke_due || self.choke_said.is_some_and(|said| now.since(said) < RESPITE) {
            return false;
        }
        (self.choked, self.since) = (false, now);
        true
    }

    /// When it may be told that it is served, if that is because of a `Choke` that it has just been told.
    pub(crate) fn respite_ends(&self) -> Option<Time> {
        self.choke_said.filter(|_| self.choked && !self.choke_due).map(|said| said + RESPITE)
    }

    /// Forgets everything: the connection is being closed.
    pub(crate) fn clear(&mut self) {
        self.wanted.clear();
    }

    /// Chunks handed to the driver and not yet sent. None: nothing waits either, for whoever may be served is handed the
    /// next chunk at once.
    pub(crate) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Bytes that are wanted beyond those that the driver has or could be given at once.
    pub(crate) fn backlog(&self) -> u64 {
        let wanted: u64 = self.wanted.iter().map(|chunk| u64::from(chunk.len)).sum();
        let free = UNDER_WAY.saturating_sub(self.under_way) as u64;
        wanted.saturating_sub(free * u64::from(CHUNK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PieceIndex = PieceIndex(7);
    const FAST: u64 = 1 << 30;

    #[test]
    fn a_choke_waits_for_what_is_under_way() {
        let mut serving = Serving::new(Time::ZERO);
        assert!(serving.unchoke(Time::ZERO) && serving.want(P, 0, 5 * CHUNK + 1));
        let handed = std::iter::from_fn(|| serving.next(FAST)).count();
        assert_eq!((handed, serving.backlog()), (UNDER_WAY, u64::from(CHUNK) + 1));
        assert!(!serving.choke(Time::ZERO) && !serving.unchoke(Time::ZERO));
        assert_eq!((0..UNDER_WAY).map(|_| serving.sent(Time::ZERO)).filter(|said| *said).count(), 1);
        assert!(!serving.unchoke(Time::ZERO), "requests sent before the peer knew may still arrive");
        let later = Time::ZERO + RESPITE;
        assert_eq!(serving.respite_ends(), Some(later));
        assert!(serving.unchoke(later) && serving.next(FAST).is_none());
        assert!(serving.respite_ends().is_none() && serving.choke(later));
    }

    #[test]
    fn what_leaves_slowly_can_be_taken_back() {
        let mut serving = Serving::new(Time::ZERO);
        assert!(serving.unchoke(Time::ZERO) && serving.want(P, 0, 3 * CHUNK));
        assert!(serving.next(0).is_some() && serving.next(400_000).is_none());
        assert_eq!(serving.backlog(), 0, "the driver could be given it all");
        serving.unwant(P, CHUNK, CHUNK);
        assert_eq!(serving.next(6_000_000), Some(Chunk { piece: P, offset: 2 * CHUNK, len: CHUNK }));
    }

    #[test]
    fn requests_are_bounded_and_can_be_taken_back() {
        let mut serving = Serving::new(Time::ZERO);
        serving.unchoke(Time::ZERO);
        assert!((0..MAX_WANTED as u32).all(|i| serving.want(PieceIndex(i), 0, CHUNK)));
        assert!(!serving.want(P, 0, 1));
        serving.unwant(P, 0, u32::MAX);
        assert!(serving.want(P, CHUNK, 10));
        serving.unwant(P, 0, CHUNK);
        assert_eq!(serving.lost(P), [Chunk { piece: P, offset: CHUNK, len: 10 }]);
    }
}
