//! The brake of a download: what its owner sets, and what its socket obeys.
//!
//! Downloads that nobody waits for leave the link to others (RFC 9840): how fast they may go is decided outside of this
//! room; here reading slows down, and with it, as the receive window closes, the sender.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Is told of every connection that a client opens, and may slow it down.
pub trait Intake: Send + Sync + fmt::Debug {
    /// A connection to an origin, a cache or a proxy has been made. What is returned is obeyed as long as it lives; it may
    /// be shared by several.
    fn connected(&self, socket: &Arc<TcpStream>) -> Arc<Throttle>;
}

/// No limit.
const FREE: u64 = u64::MAX;
/// Time's worth of bytes that may be read at once.
const BURST: Duration = Duration::from_millis(10);
/// And no fewer than this: about two segments.
const LEAST_BURST: f64 = 2896.0;
/// Longest sleep before the rate is looked at again.
const PATIENCE: Duration = Duration::from_millis(100);

/// How fast connections may be read, all that share it together. May be changed at any time; a wait that is under way
/// notices within 100 ms.
#[derive(Debug)]
pub struct Throttle {
    rate: AtomicU64,
    bucket: Mutex<Bucket>,
}

/// What may still be read, in bytes, as of a moment.
#[derive(Debug)]
struct Bucket {
    credit: f64,
    at: Instant,
}

impl Default for Throttle {
    fn default() -> Self {
        let bucket = Mutex::new(Bucket { credit: 0.0, at: Instant::now() });
        Self { rate: AtomicU64::new(FREE), bucket }
    }
}

impl Throttle {
    /// Sets the limit in bytes/s; `None`: none.
    pub fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(FREE), Ordering::Relaxed);
    }

    /// How many bytes may be read now, or how long it takes until some may.
    fn room(&self) -> Result<usize, Duration> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == FREE {
            return Ok(usize::MAX);
        }
        let (rate, now) = (rate.max(1) as f64, Instant::now());
        let burst = (rate * BURST.as_secs_f64()).max(LEAST_BURST);
        let mut bucket = self.bucket.lock();
        bucket.credit = (bucket.credit + rate * now.duration_since(bucket.at).as_secs_f64()).min(burst);
        bucket.at = now;
        // Half a burst, not a byte at a time: each read is a system call and a window update.
        if bucket.credit >= burst / 2.0 {
            return Ok(bucket.credit as usize);
        }
        let missing = Duration::from_secs_f64((burst / 2.0 - bucket.credit) / rate);
        Err(missing.clamp(Duration::from_millis(1), PATIENCE))
    }
}

/// One socket's view of a [`Throttle`].
#[derive(Debug)]
pub(crate) struct Valve {
    throttle: Arc<Throttle>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Valve {
    pub(crate) const fn new(throttle: Arc<Throttle>) -> Self {
        Self { throttle, wait: None }
    }

    /// How many bytes may be read now; waits until that is at least one.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self.throttle.room() {
                Ok(room) => return Poll::Ready(room),
                Err(wait) => self.wait = Some(Box::pin(sleep(wait))),
            }
        }
    }

    /// Bytes have been read. Connections that were let through at the same moment overdraw; the next ones wait longer.
    pub(crate) fn passed(&self, bytes: usize) {
        self.throttle.bucket.lock().credit -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn holds_the_rate_and_notices_a_new_one() {
        let throttle = Arc::new(Throttle::default());
        let mut valve = Valve::new(throttle.clone());
        assert_eq!(poll_fn(|cx| valve.poll_room(cx)).await, usize::MAX);
        throttle.set(Some(100_000));
        let (began, mut bytes) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(10) {
            let room = poll_fn(|cx| valve.poll_room(cx)).await;
            valve.passed(room);
            bytes += room;
        }
        assert!((980_000..1_020_000).contains(&bytes), "{bytes}");
        throttle.set(Some(1));
        let slow = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                let room = poll_fn(|cx| valve.poll_room(cx)).await;
                valve.passed(room);
            }
        });
        assert!(slow.await.is_err());
        throttle.set(None);
        let free = tokio::time::timeout(Duration::from_secs(1), poll_fn(|cx| valve.poll_room(cx)));
        assert_eq!(free.await, Ok(usize::MAX));
    }
}
