//! Who may fetch now: so many files at once, and nobody all of them.
//!
//! Half of the places for one device, all but one for one host, and one more for administrators: what devices ask for
//! never keeps them waiting. Whoever waits holds nothing.

use std::pin::pin;

use parking_lot::Mutex;
use peerage_content::PeerId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Who wants a place.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    /// The device that asked; `None`: an administrator.
    pub(super) device: Option<PeerId>,
    /// Host and port of the origin.
    pub(super) host: String,
    /// Cancelled once an administrator waits for it.
    pub(super) urgent: CancellationToken,
}

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    taken: Mutex<Vec<Asker>>,
    freed: Notify,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    asker: Asker,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, taken: Mutex::default(), freed: Notify::new() }
    }

    /// Waits for a place.
    pub(super) async fn take(&self, asker: Asker) -> Place<'_> {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            let urgent = asker.urgent.is_cancelled();
            if self.try_take(&asker, urgent) {
                return Place { places: self, asker };
            }
            tokio::select! {
                () = freed => {}
                () = asker.urgent.cancelled(), if !urgent => {}
            }
        }
    }

    fn try_take(&self, asker: &Asker, urgent: bool) -> bool {
        let mut taken = self.taken.lock();
        let free = if urgent {
            taken.len() <= self.limit
        } else {
            let of_host = taken.iter().filter(|other| other.host == asker.host).count();
            let of_device = taken.iter().filter(|other| other.device == asker.device).count();
            taken.len() < self.limit
                && of_host < (self.limit - 1).max(1)
                && of_device < (self.limit / 2).max(1)
        };
        if free {
            taken.push(asker.clone());
        }
        free
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        let own = |other: &Asker| other.device == self.asker.device && other.host == self.asker.host;
        if let Some(at) = taken.iter().position(own) {
            taken.swap_remove(at);
        }
        drop(taken);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use peerage_content::SecretKey;

    use super::*;

    fn asker(device: u8, host: &str) -> Asker {
        let device = (device > 0).then(|| SecretKey::from_seed(&[device; 32]).public());
        let urgent = CancellationToken::new();
        if device.is_none() {
            urgent.cancel();
        }
        Asker { device, host: host.to_owned(), urgent }
    }

    #[test]
    fn nobody_takes_all() {
        let places = Places::new(4);
        let take = |device, host| places.take(asker(device, host)).now_or_never();
        let (_one, two) = (take(1, "a").unwrap(), take(1, "a").unwrap());
        assert!(take(1, "b").is_none(), "half of the places for one device");
        let _three = take(2, "a").unwrap();
        assert!(take(3, "a").is_none(), "one place is not this host's");
        let _four = take(3, "b").unwrap();
        assert!(take(4, "c").is_none());
        let admin = take(0, "a").unwrap();
        assert!(take(0, "a").is_none());
        drop(two);
        assert!(take(4, "c").is_none(), "the administrator's place is lent, not given");
        drop(admin);
        assert!(take(4, "c").is_some());
    }

    #[tokio::test]
    async fn what_an_administrator_waits_for_is_urgent() {
        let places = Places::new(1);
        let _place = places.take(asker(1, "a")).await;
        let second = asker(2, "b");
        let urgent = second.urgent.clone();
        let mut waiting = pin!(places.take(second));
        assert!(waiting.as_mut().now_or_never().is_none());
        urgent.cancel();
        waiting.await;
    }

    #[tokio::test]
    async fn a_place_given_back_is_taken() {
        let places = Places::new(1);
        let place = places.take(asker(1, "a")).await;
        let mut waiting = pin!(places.take(asker(2, "b")));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(place);
        waiting.await;
    }
}
