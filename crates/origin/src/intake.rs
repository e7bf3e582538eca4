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
/// Time's worth of bytes that may be saved up while nothing is read.
const SAVED: Duration = Duration::from_millis(10);
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

    /// Whether may be read now, or how long it takes until then. All that there is may be read, on credit: the kernel's
    /// measure of the round trip counts only what arrives while nothing waits to be read.
    fn room(&self) -> Result<(), Duration> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == FREE {
            return Ok(());
        }
        let (rate, now) = (rate.max(1) as f64, Instant::now());
        let mut bucket = self.bucket.lock();
        let earned = rate * now.duration_since(bucket.at).as_secs_f64();
        bucket.credit = (bucket.credit + earned).min(rate * SAVED.as_secs_f64());
        bucket.at = now;
        if bucket.credit >= 0.0 {
            return Ok(());
        }
        Err(Duration::from_secs_f64(-bucket.credit / rate).clamp(Duration::from_millis(1), PATIENCE))
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

    /// Waits until may be read.
    pub(crate) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self.throttle.room() {
                Ok(()) => return Poll::Ready(()),
                Err(wait) => self.wait = Some(Box::pin(sleep(wait))),
            }
        }
    }

    /// Bytes have been read.
    pub(crate) fn passed(&self, bytes: usize) {
        if self.throttle.rate.load(Ordering::Relaxed) != FREE {
            self.throttle.bucket.lock().credit -= bytes as f64;
        }
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
        poll_fn(|cx| valve.poll_open(cx)).await;
        throttle.set(Some(100_000));
        let (began, mut bytes) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(10) {
            poll_fn(|cx| valve.poll_open(cx)).await;
            valve.passed(3000);
            bytes += 3000;
        }
        assert!((980_000..1_020_000).contains(&bytes), "{bytes}");
        throttle.set(Some(1));
        let slow = tokio::time::timeout(Duration::from_secs(5), poll_fn(|cx| valve.poll_open(cx)));
        assert!(slow.await.is_err());
        throttle.set(None);
        let free = tokio::time::timeout(Duration::from_secs(1), poll_fn(|cx| valve.poll_open(cx)));
        assert_eq!(free.await, Ok(()));
    }
}
