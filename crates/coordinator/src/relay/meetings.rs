//! Who is to meet whom: one entry for each pair that was called or is connected.
//!
//! Invariants: a token is known until it is used or too old, and never again; there are at most as many meetings as
//! connections are allowed, and at most [`MOST_OF_ONE`] of one device; a pair meets for one content once at a time.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use peerage_api::coordinator::NoRelay;
use peerage_content::{ContentId, PeerId, RelayToken};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::MEETING;

/// Meetings that one device may be part of, as asker or as asked: a device that asks for many leaves room for others.
const MOST_OF_ONE: usize = 8;

/// Who meets, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) asker: PeerId,
    pub(super) other: PeerId,
    pub(super) content: ContentId,
}

impl Pair {
    fn is_of(&self, peer: &PeerId) -> bool {
        self.asker == *peer || self.other == *peer
    }

    fn turned(&self) -> Self {
        Self { asker: self.other, other: self.asker, ..*self }
    }
}

#[derive(Debug)]
struct Meeting<G> {
    pair: Pair,
    tokens: [RelayToken; 2],
    /// Until then both ends must have come.
    until: Instant,
    /// The end that came first waits here.
    first: Option<oneshot::Sender<G>>,
    /// Both ends have come.
    met: bool,
    cut: CancellationToken,
}

/// What a token opens.
#[derive(Debug)]
pub(super) struct Entry<G> {
    pub(super) meeting: u64,
    pub(super) pair: Pair,
    /// Ends the meeting from outside.
    pub(super) cut: CancellationToken,
    pub(super) part: Part<G>,
}

/// Which of the two ends it is.
#[derive(Debug)]
pub(super) enum Part<G> {
    /// The first, which waits for the other until then and carries the connection.
    First(oneshot::Receiver<G>, Instant),
    /// The second, which hands itself to the first.
    Second(oneshot::Sender<G>),
}

/// All meetings.
#[derive(Debug)]
pub(super) struct Meetings<G> {
    most: usize,
    next: u64,
    held: BTreeMap<u64, Meeting<G>>,
    tokens: HashMap<RelayToken, u64>,
}

impl<G> Meetings<G> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, next: 0, held: BTreeMap::new(), tokens: HashMap::new() }
    }

    /// Makes a meeting with a token for each end, the asker's first. One that the same device asked for before ends: it would
    /// not ask if that were of use.
    pub(super) fn arrange(
        &mut self,
        pair: Pair,
        tokens: [RelayToken; 2],
        now: Instant,
    ) -> Result<u64, NoRelay> {
        self.expire(now);
        if self.held.values().any(|meeting| meeting.pair == pair.turned()) {
            return Err(NoRelay::Connected);
        }
        let former = self.held.iter().find(|(_, meeting)| meeting.pair == pair).map(|(id, _)| *id);
        former.into_iter().for_each(|id| self.end(id));
        let of = |peer: &PeerId| self.held.values().filter(|meeting| meeting.pair.is_of(peer)).count();
        let busiest = of(&pair.asker).max(of(&pair.other));
        if self.held.len() >= self.most || busiest >= MOST_OF_ONE {
            return Err(NoRelay::Full);
        }
        let id = self.next;
        self.next += 1;
        self.tokens.extend(tokens.map(|token| (token, id)));
        let (until, cut) = (now + MEETING, CancellationToken::new());
        self.held.insert(id, Meeting { pair, tokens, until, first: None, met: false, cut });
        Ok(id)
    }

    /// Somebody has come with this token.
    pub(super) fn enter(&mut self, token: &RelayToken, now: Instant) -> Option<Entry<G>> {
        self.expire(now);
        let id = self.tokens.remove(token)?;
        let meeting = self.held.get_mut(&id)?;
        let (pair, cut) = (meeting.pair, meeting.cut.clone());
        let part = match meeting.first.take() {
            Some(first) => {
                meeting.met = true;
                Part::Second(first)
            }
            None => {
                let (first, second) = oneshot::channel();
                meeting.first = Some(first);
                Part::First(second, meeting.until)
            }
        };
        Some(Entry { meeting: id, pair, cut, part })
    }

    /// A meeting is over.
    pub(super) fn end(&mut self, id: u64) {
        if let Some(meeting) = self.held.remove(&id) {
            meeting.cut.cancel();
            for token in meeting.tokens {
                self.tokens.remove(&token);
            }
        }
    }

    /// Ends all meetings of a device.
    pub(super) fn part(&mut self, peer: &PeerId) {
        let theirs = self.held.iter().filter(|(_, meeting)| meeting.pair.is_of(peer));
        for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(id);
        }
    }

    fn expire(&mut self, now: Instant) {
        let late = self.held.iter().filter(|(_, meeting)| !meeting.met && meeting.until <= now);
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(id);
        }
    }
}

/// A meeting of which somebody sees to the end: whatever ends that task ends the meeting.
pub(super) struct Held<'a, G> {
    meetings: &'a Mutex<Meetings<G>>,
    id: u64,
}

impl<'a, G> Held<'a, G> {
    pub(super) const fn new(meetings: &'a Mutex<Meetings<G>>, id: u64) -> Self {
        Self { meetings, id }
    }
}

impl<G> Drop for Held<'_, G> {
    fn drop(&mut self) {
        self.meetings.lock().end(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn token(n: u8) -> RelayToken {
        RelayToken::from_bytes([n; 32])
    }

    fn pair(asker: u8, other: u8) -> Pair {
        let peer = |n| PeerId::from_bytes([n; 32]);
        Pair { asker: peer(asker), other: peer(other), content: ContentId::from_bytes([1; 32]) }
    }

    fn meetings(most: usize) -> (Meetings<u8>, Instant) {
        (Meetings::new(most), Instant::now())
    }

    #[tokio::test]
    async fn each_token_opens_once_and_in_time() {
        let (mut meetings, now) = meetings(5);
        meetings.arrange(pair(1, 2), [token(1), token(2)], now).unwrap();
        assert!(meetings.enter(&token(9), now).is_none(), "nobody made it");
        let first = meetings.enter(&token(2), now).unwrap();
        assert!(meetings.enter(&token(2), now).is_none(), "used");
        let second = meetings.enter(&token(1), now + MEETING / 2).unwrap();
        let (Part::First(waits, _), Part::Second(hands)) = (first.part, second.part) else { panic!() };
        hands.send(7).unwrap();
        assert_eq!(waits.await, Ok(7));
        assert!(meetings.enter(&token(1), now).is_none() && meetings.tokens.is_empty());

        meetings.arrange(pair(3, 4), [token(3), token(4)], now).unwrap();
        assert!(meetings.enter(&token(3), now + MEETING).is_none(), "too old");
        assert_eq!(meetings.held.len(), 1, "those who have met are not forgotten");
        meetings.end(first.meeting);
        assert!(first.cut.is_cancelled() && meetings.held.is_empty());
    }

    #[test]
    fn who_came_alone_is_forgotten_too() {
        let (mut meetings, now) = meetings(1);
        meetings.arrange(pair(1, 2), [token(1), token(2)], now).unwrap();
        let alone = meetings.enter(&token(1), now).unwrap();
        let later = now + MEETING + Duration::from_secs(1);
        meetings.arrange(pair(3, 4), [token(3), token(4)], later).unwrap();
        assert!(alone.cut.is_cancelled());
        assert!(meetings.enter(&token(2), later).is_none());
    }

    #[test]
    fn limits_over_all_and_for_one() {
        let (mut meetings, now) = meetings(3);
        for n in 0..3 {
            meetings.arrange(pair(n, 100 + n), [token(2 * n), token(2 * n + 1)], now).unwrap();
        }
        assert_eq!(meetings.arrange(pair(50, 51), [token(50), token(51)], now), Err(NoRelay::Full));
        meetings.part(&pair(102, 0).asker);
        meetings.arrange(pair(50, 51), [token(50), token(51)], now).unwrap();

        let (mut meetings, now) = (Meetings::<u8>::new(100), now);
        for n in 0..u8::try_from(MOST_OF_ONE).unwrap() {
            // As asker and as asked.
            let pair = if n % 2 == 0 { pair(200, n) } else { pair(n, 200) };
            meetings.arrange(pair, [token(2 * n), token(2 * n + 1)], now).unwrap();
        }
        assert_eq!(meetings.arrange(pair(90, 200), [token(90), token(91)], now), Err(NoRelay::Full));
        meetings.arrange(pair(90, 91), [token(90), token(91)], now).unwrap();
    }

    #[test]
    fn a_pair_meets_once_and_anew_when_the_same_one_asks() {
        let (mut meetings, now) = meetings(9);
        meetings.arrange(pair(1, 2), [token(1), token(2)], now).unwrap();
        assert_eq!(meetings.arrange(pair(2, 1), [token(3), token(4)], now), Err(NoRelay::Connected));
        let former = meetings.enter(&token(1), now).unwrap();
        meetings.arrange(pair(1, 2), [token(5), token(6)], now).unwrap();
        assert!(former.cut.is_cancelled() && meetings.enter(&token(2), now).is_none());
        assert_eq!((meetings.held.len(), meetings.tokens.len()), (1, 2));
    }
}
