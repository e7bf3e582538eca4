//! Counts what is really written, and writes no more than the uplink lets through.
//!
//! The count of body bytes comes from the written stream itself: heads end with an empty line, bodies have the
//! lengths that the service announced. What the HTTP library holds in its buffers when a client leaves was never
//! written and never counted.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::bucket::Bucket;

/// What an origin has sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OriginStats {
    /// Bytes of bodies, over all connections.
    pub body_bytes: u64,
    /// Bytes of heads and bodies, over all connections. TCP and IP headers are not counted.
    pub wire_bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Every connection so far, oldest first.
    pub connections: Vec<ConnectionStats>,
}

/// What an origin has sent on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStats {
    /// The client.
    pub peer: SocketAddr,
    /// Bytes of bodies.
    pub body_bytes: u64,
    /// Bytes of heads and bodies.
    pub wire_bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Whether it is still open.
    pub open: bool,
}

/// The meters of all connections.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Vec<Arc<Meter>>>);

/// The meter of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    peer: SocketAddr,
    body_bytes: AtomicU64,
    wire_bytes: AtomicU64,
    requests: AtomicU64,
    open: AtomicBool,
    /// Lengths of bodies whose heads have not been written to their end.
    announced: Mutex<VecDeque<u64>>,
}

impl Counters {
    pub(super) fn connection(&self, peer: SocketAddr) -> Arc<Meter> {
        let meter = Arc::new(Meter {
            peer,
            body_bytes: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            open: AtomicBool::new(true),
            announced: Mutex::default(),
        });
        self.0.lock().push(Arc::clone(&meter));
        meter
    }

    pub(super) fn stats(&self) -> OriginStats {
        let connections: Vec<_> = self.0.lock().iter().map(|meter| meter.stats()).collect();
        OriginStats {
            body_bytes: connections.iter().map(|one| one.body_bytes).sum(),
            wire_bytes: connections.iter().map(|one| one.wire_bytes).sum(),
            requests: connections.iter().map(|one| one.requests).sum(),
            connections,
        }
    }

    pub(super) fn close_all(&self) {
        self.0.lock().iter().for_each(|meter| meter.close());
    }
}

impl Meter {
    /// Notes that the next answer has a body of `length` bytes.
    pub(super) fn announce(&self, length: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.announced.lock().push_back(length);
    }

    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    fn stats(&self) -> ConnectionStats {
        ConnectionStats {
            peer: self.peer,
            body_bytes: self.body_bytes.load(Ordering::Relaxed),
            wire_bytes: self.wire_bytes.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
        }
    }
}

/// Where the written stream stands.
#[derive(Debug)]
enum Part {
    /// In a head, of whose end `\r\n\r\n` so many bytes have just been written.
    Head(usize),
    /// In a body with so many bytes to go.
    Body(u64),
}

impl Part {
    /// Takes note of written bytes; how many of them were of bodies?
    fn written(&mut self, mut bytes: &[u8], announced: &Mutex<VecDeque<u64>>) -> u64 {
        const END: &[u8] = b"\r\n\r\n";
        let mut body_bytes = 0;
        while !bytes.is_empty() {
            let taken = match self {
                Self::Body(left) => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    body_bytes += taken as u64;
                    taken
                }
                Self::Head(matched) => {
                    let byte = bytes.first().copied().unwrap_or_default();
                    // A mismatch at "\r" may be the start of the next match.
                    *matched = match END.get(*matched) {
                        Some(next) if *next == byte => *matched + 1,
                        _ => usize::from(byte == b'\r'),
                    };
                    1
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            match self {
                Self::Body(0) => *self = Self::Head(0),
                Self::Head(matched) if *matched == END.len() => {
                    // An answer that the library made by itself (400) announces nothing and has no body.
                    *self = Self::Body(announced.lock().pop_front().unwrap_or(0));
                    if matches!(self, Self::Body(0)) {
                        *self = Self::Head(0);
                    }
                }
                _ => {}
            }
        }
        body_bytes
    }
}

/// A stream whose writes are counted and paced.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
    part: Part,
    pace: Option<Pace>,
}

/// A connection's place at the uplink.
#[derive(Debug)]
struct Pace {
    bucket: Arc<Bucket>,
    /// Bytes reserved and not yet written.
    granted: u64,
    /// What earlier turns left unused, at most one quantum (deficit round robin): a turn spent on a short head, or on
    /// the end of a block, must not cost the connection its share.
    unused: u64,
    /// When they may be written; `None`: now.
    wait: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// How many of `wanted` bytes may be written now.
    fn poll_grant(&mut self, cx: &mut Context<'_>, wanted: u64) -> Poll<u64> {
        if self.granted == 0 {
            let (now, quantum) = (Instant::now(), self.bucket.quantum());
            let turn = quantum + self.unused;
            let bytes = wanted.min(turn);
            self.unused = (turn - bytes).min(quantum);
            let due = self.bucket.reserve(bytes, now);
            self.granted = bytes;
            if due <= now {
                // Room that piled up while timers were late is for everybody: the others get their turn first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.wait = Some(Box::pin(sleep_until(due)));
        }
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(wanted.min(self.granted))
    }
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: Arc<Meter>, uplink: Option<Arc<Bucket>>) -> Self {
        let pace = uplink.map(|bucket| Pace { bucket, granted: 0, unused: 0, wait: None });
        Self { stream, meter, part: Part::Head(0), pace }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

// Vectored writes are left at their default, one slice at a time: the grant is one number of bytes.
impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut allowed = buf;
        if let Some(pace) = &mut this.pace
            && !buf.is_empty()
        {
            let granted = ready!(pace.poll_grant(cx, buf.len() as u64));
            allowed = buf.get(..usize::try_from(granted).unwrap_or(usize::MAX)).unwrap_or(buf);
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, allowed))?;
        if let Some(pace) = &mut this.pace {
            pace.granted = pace.granted.saturating_sub(written as u64);
        }
        let body = this.part.written(allowed.get(..written).unwrap_or(allowed), &this.meter.announced);
        this.meter.body_bytes.fetch_add(body, Ordering::Relaxed);
        this.meter.wire_bytes.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // However the stream is cut into writes, body bytes are those between the heads.
        #[test]
        fn bodies_are_told_from_heads(
            answers in prop::collection::vec((0..50_usize, "[\r\n]{0,8}"), 0..6),
            cuts in prop::collection::vec(1..40_usize, 1..40),
        ) {
            let announced = Mutex::new(VecDeque::new());
            let (mut stream, mut expected) = (Vec::new(), 0);
            for (length, noise) in answers {
                // A body may contain what looks like the end of a head.
                let body: Vec<u8> = noise.bytes().cycle().take(if noise.is_empty() { 0 } else { length }).collect();
                announced.lock().push_back(body.len() as u64);
                expected += body.len() as u64;
                stream.extend_from_slice(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
                stream.extend_from_slice(&body);
            }
            let (mut part, mut counted, mut rest) = (Part::Head(0), 0, &stream[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                counted += part.written(now, &announced);
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(counted, expected);
        }
    }

    #[test]
    fn a_partly_written_body_counts_for_what_was_written() {
        let announced = Mutex::new(VecDeque::from([1000]));
        let mut part = Part::Head(0);
        assert_eq!(part.written(b"HTTP/1.1 200 OK\r\r\n\r\n0123456789", &announced), 10);
    }
}
