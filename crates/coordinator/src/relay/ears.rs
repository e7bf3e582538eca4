//! Who can be called: devices whose question for their policy is out, or was a moment ago.
//!
//! A device that may be relayed asks with that question, which it always has out; so nothing is held for devices that may
//! not. Of several questions of one device the newest counts: older ones wait on connections that may be gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_api::coordinator::RelayCall;
use peerage_content::PeerId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::MEETING;

/// Longest that a question is out, and the pause before the next one.
const HEARS: Duration = Duration::from_secs(75);
/// Calls that wait for the device's next question.
const MOST_WAITING: usize = 16;

#[derive(Debug)]
struct Ear {
    turn: u64,
    until: Instant,
    waiting: Vec<(RelayCall, Instant)>,
    wake: Arc<Notify>,
}

/// The devices that can be called.
#[derive(Debug, Default)]
pub(super) struct Ears(Mutex<HashMap<PeerId, Ear>>);

impl Ears {
    /// A question has come; returns its number.
    pub(super) fn listen(&self, peer: PeerId, now: Instant) -> u64 {
        let mut ears = self.0.lock();
        let ear = ears.entry(peer).or_insert_with(|| Ear {
            turn: 0,
            until: now,
            waiting: Vec::new(),
            wake: Arc::default(),
        });
        (ear.turn, ear.until) = (ear.turn + 1, now + HEARS);
        ear.turn
    }

    /// Whether a call would reach the device.
    pub(super) fn hears(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.lock().get(peer).is_some_and(|ear| now < ear.until && ear.waiting.len() < MOST_WAITING)
    }

    /// Leaves a call for the device; `false`: it hears none.
    pub(super) fn call(&self, peer: &PeerId, call: RelayCall, now: Instant) -> bool {
        let mut ears = self.0.lock();
        let Some(ear) = ears.get_mut(peer).filter(|ear| now < ear.until) else { return false };
        ear.waiting.retain(|(_, until)| now < *until);
        let room = ear.waiting.len() < MOST_WAITING;
        if room {
            ear.waiting.push((call, now + MEETING));
            ear.wake.notify_waiters();
        }
        room
    }

    /// Waits for calls to the device with the question `turn`. Cancel-safe: what is not returned waits for the next one.
    pub(super) async fn called(&self, peer: &PeerId, turn: u64) -> Vec<RelayCall> {
        loop {
            let Some(wake) = self.0.lock().get(peer).map(|ear| Arc::clone(&ear.wake)) else {
                return std::future::pending().await;
            };
            let woken = wake.notified();
            tokio::pin!(woken);
            // From here on no call is missed.
            woken.as_mut().enable();
            match self.take(peer, turn) {
                None => return std::future::pending().await,
                Some(calls) if !calls.is_empty() => return calls,
                Some(_) => woken.await,
            }
        }
    }

    /// The calls that wait; `None`: another question is answered with them.
    fn take(&self, peer: &PeerId, turn: u64) -> Option<Vec<RelayCall>> {
        let now = Instant::now();
        let mut ears = self.0.lock();
        let ear = ears.get_mut(peer).filter(|ear| ear.turn == turn)?;
        let calls = std::mem::take(&mut ear.waiting);
        Some(calls.into_iter().filter(|(_, until)| now < *until).map(|(call, _)| call).collect())
    }

    /// The device cannot be called any more.
    pub(super) fn forget(&self, peer: &PeerId) {
        self.0.lock().remove(peer);
    }

    /// How many can be called, some of whom may have gone a moment ago.
    pub(super) fn count(&self) -> u64 {
        self.0.lock().len() as u64
    }

    /// Forgets who has not asked for long.
    pub(super) fn expire(&self, now: Instant) {
        let mut ears = self.0.lock();
        ears.retain(|_, ear| now < ear.until);
        if ears.capacity() > 64 + 4 * ears.len() {
            ears.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use peerage_content::{ContentId, RelayToken};

    use super::*;

    const A: PeerId = PeerId::from_bytes([1; 32]);

    fn call(n: u8) -> RelayCall {
        let token = RelayToken::from_bytes([n; 32]);
        RelayCall { token, peer: PeerId::from_bytes([n; 32]), content: ContentId::from_bytes([n; 32]) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_question_is_answered_and_calls_wait_for_the_next() {
        let (ears, now) = (Ears::default(), Instant::now());
        assert!(!ears.hears(&A, now) && !ears.call(&A, call(1), now), "it has never asked");
        let (old, new) = (ears.listen(A, now), ears.listen(A, now));
        assert!(ears.call(&A, call(1), now));
        assert_eq!(ears.called(&A, old).now_or_never(), None);
        assert_eq!(ears.called(&A, new).now_or_never(), Some(vec![call(1)]));
        assert_eq!(ears.called(&A, new).now_or_never(), None, "each call is told once");
        let (told, ()) = tokio::join!(ears.called(&A, new), async {
            tokio::task::yield_now().await;
            assert!(ears.call(&A, call(2), now));
        });
        assert_eq!(told, [call(2)]);
        // Between two questions.
        assert!(ears.call(&A, call(3), now));
        let next = ears.listen(A, now);
        assert_eq!(ears.called(&A, next).now_or_never(), Some(vec![call(3)]));
        assert!(ears.call(&A, call(4), now));
        tokio::time::advance(MEETING).await;
        assert_eq!(ears.called(&A, next).now_or_never(), None, "who waited has left");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_and_flooded_devices_are_not_called() {
        let (ears, now) = (Ears::default(), Instant::now());
        ears.listen(A, now);
        for n in 0..MOST_WAITING {
            assert!(ears.call(&A, call(n as u8), now));
        }
        assert!(!ears.hears(&A, now) && !ears.call(&A, call(99), now));
        let later = now + HEARS;
        assert!(!ears.hears(&A, later) && !ears.call(&A, call(1), later));
        ears.expire(later);
        assert!(ears.0.lock().is_empty());
        ears.listen(A, later);
        ears.forget(&A);
        assert!(!ears.hears(&A, later));
    }
}
