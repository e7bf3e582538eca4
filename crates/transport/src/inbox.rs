//! Bytes from the socket: records in large gulps, opened where they are wanted.
//!
//! One buffer holds what has been received and not been taken yet: `plain`, the rest of the record opened last, and
//! behind it `raw`, records still sealed. Nothing unauthenticated ever leaves this file as data: a record is opened
//! whole, and the first that does not authenticate is the last that is read.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use crate::buffer::{BUFFER_LEN, Buffer, BufferPool};
use crate::record::{ALERT, DATA, HANDSHAKE, HEADER, Opener, ciphertext_len, opened_len};
use crate::{Counters, TransportError, sockopt};

/// "A few" bytes: four segments, two acknowledgements.
const FEW: usize = 4 * 1460;

/// Records without content that may follow one another; more are an attempt to keep us busy.
const MAX_EMPTY: u8 = 32;

/// Bytes of the largest read straight into the caller's buffer; below, clear text goes through our own.
const DIRECT: usize = 16 << 10;

/// The receiving side of a connection.
#[derive(Debug)]
pub(crate) struct Inbox {
    stream: Arc<TcpStream>,
    /// `None`: clear text.
    opener: Option<Opener>,
    pool: BufferPool,
    counters: Arc<Counters>,
    buffer: Option<Buffer>,
    plain: Range<usize>,
    raw: Range<usize>,
    /// Set by the first record after which nothing more may be read.
    end: Option<End>,
    empty: u8,
}

impl Inbox {
    pub(crate) fn new(
        stream: Arc<TcpStream>,
        opener: Option<Opener>,
        pool: BufferPool,
        counters: Arc<Counters>,
        early: &[u8],
    ) -> Self {
        let mut inbox = Self {
            stream,
            opener,
            pool,
            counters,
            buffer: None,
            plain: 0..0,
            raw: 0..early.len(),
            end: None,
            empty: 0,
        };
        if !early.is_empty() {
            // The handshake takes at most 32 KiB, so this fits.
            let mut buffer = inbox.pool.take();
            buffer[..early.len()].copy_from_slice(early);
            inbox.buffer = Some(buffer);
        }
        inbox
    }

    /// Plaintext that is at hand, at least one byte, waiting for it if need be. Take it with [`Self::consume`].
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`TransportError::Closed`] at an orderly end, [`TransportError::Truncated`] at any other.
    pub(crate) async fn chunk(&mut self) -> Result<&[u8], TransportError> {
        while self.plain.is_empty() {
            if self.opener.is_none() && !self.raw.is_empty() {
                self.plain = self.raw.clone();
                self.raw.start = self.raw.end;
            } else if let Some(len) = self.record()? {
                self.open(len)?;
            } else {
                self.receive().await?;
            }
        }
        Ok(self.buffer.as_deref().and_then(|buffer| buffer.get(self.plain.clone())).unwrap_or_default())
    }

    /// Passes over `len` bytes of the last [`Self::chunk`].
    pub(crate) fn consume(&mut self, len: usize) {
        self.plain.start = self.plain.end.min(self.plain.start + len);
    }

    /// Reads at least one byte into `out`, which must not be empty; returns how many. Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub(crate) async fn read(&mut self, out: &mut [u8]) -> Result<usize, TransportError> {
        loop {
            if self.plain.is_empty() {
                if self.opener.is_some() {
                    if let Some(len) = self.record()?
                        && opened_len(len) <= out.len()
                    {
                        match self.open_to(len, out)? {
                            0 => continue,
                            len => return Ok(len),
                        }
                    }
                } else if self.raw.is_empty() && out.len() >= DIRECT {
                    return self.receive_to(out).await;
                }
            }
            let chunk = self.chunk().await?;
            let len = chunk.len().min(out.len());
            out[..len].copy_from_slice(&chunk[..len]);
            self.consume(len);
            return Ok(len);
        }
    }

    /// The length of the next record, once all of it is there.
    fn record(&self) -> Result<Option<usize>, TransportError> {
        match self.end {
            Some(End::Closed) => return Err(TransportError::Closed),
            Some(End::Failed) => return Err(TransportError::Truncated),
            None => {}
        }
        let raw = self.buffer.as_deref().and_then(|buffer| buffer.get(self.raw.clone())).unwrap_or_default();
        let Some(header) = raw.first_chunk::<HEADER>() else { return Ok(None) };
        let len = HEADER + ciphertext_len(*header)?;
        Ok((raw.len() >= len).then_some(len))
    }

    /// Opens the next record, of `len` bytes, in place; `plain` is its content.
    fn open(&mut self, len: usize) -> Result<(), TransportError> {
        let (Some(opener), Some(buffer)) = (&mut self.opener, &mut self.buffer) else { return Ok(()) };
        let at = self.raw.start;
        self.raw.start += len;
        let opened = opener.open_in_place(&mut buffer[at..at + len]);
        let content = at + HEADER..;
        let judged = opened.and_then(|(kind, len)| Ok((judge(kind, &buffer[content][..len])?, len)));
        let len = self.note(judged)?;
        self.plain = at + HEADER..at + HEADER + len;
        Ok(())
    }

    /// Opens the next record, of `len` bytes, straight into `out`; returns the length of its content.
    fn open_to(&mut self, len: usize, out: &mut [u8]) -> Result<usize, TransportError> {
        let (Some(opener), Some(buffer)) = (&mut self.opener, &self.buffer) else { return Ok(0) };
        let at = self.raw.start;
        self.raw.start += len;
        let opened = opener.open_to(&buffer[at..at + len], out);
        let judged = opened.and_then(|(kind, len)| Ok((judge(kind, &out[..len])?, len)));
        self.note(judged)
    }

    /// Keeps the books on a record; returns how many bytes of data it brought.
    fn note(&mut self, record: Result<(Record, usize), TransportError>) -> Result<usize, TransportError> {
        let (end, error) = match record {
            Ok((Record::Data, 0)) if self.empty < MAX_EMPTY => {
                self.empty += 1;
                return Ok(0);
            }
            Ok((Record::Data, 0)) => {
                (End::Failed, TransportError::UnexpectedRecord { what: "33rd without content" })
            }
            Ok((Record::Data, len)) => {
                self.empty = 0;
                return Ok(len);
            }
            Ok((Record::CloseNotify, _)) => (End::Closed, TransportError::Closed),
            Err(error) => (End::Failed, error),
        };
        self.end = Some(end);
        Err(error)
    }

    /// Waits for bytes and puts them behind `raw`. Cancel-safe. `plain` must be empty.
    async fn receive(&mut self) -> Result<(), TransportError> {
        if self.raw.is_empty() {
            self.raw = 0..0;
        } else if self.raw.end > BUFFER_LEN / 2
            && let Some(buffer) = &mut self.buffer
        {
            // Less than a record, since the rest of the gulp has been opened; and room for the next gulp.
            buffer.copy_within(self.raw.clone(), 0);
            self.raw = 0..self.raw.len();
        }
        self.plain = self.raw.start..self.raw.start;
        match poll_fn(|cx| self.poll_receive(cx)).await.map_err(TransportError::Receive)? {
            0 => Err(self.end()),
            len => {
                self.counters.add_wire_in(len as u64);
                self.raw.end += len;
                Ok(())
            }
        }
    }

    /// Reads if there is something to read; gives an empty buffer back while there is not.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            if self.stream.poll_read_ready(cx)?.is_pending() {
                if self.raw.is_empty()
                    && let Some(buffer) = self.buffer.take()
                {
                    self.pool.put(buffer);
                }
                return Poll::Pending;
            }
            let buffer = self.buffer.get_or_insert_with(|| self.pool.take());
            match self.stream.try_read(&mut buffer[self.raw.end..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    acknowledge_few(&self.stream, &done);
                    return Poll::Ready(done);
                }
            }
        }
    }

    /// Waits for clear text and puts it straight into `out`. Cancel-safe.
    async fn receive_to(&mut self, out: &mut [u8]) -> Result<usize, TransportError> {
        let read = poll_fn(|cx| {
            loop {
                ready!(self.stream.poll_read_ready(cx))?;
                match self.stream.try_read(out) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => {
                        acknowledge_few(&self.stream, &done);
                        return Poll::Ready(done);
                    }
                }
            }
        });
        match read.await.map_err(TransportError::Receive)? {
            0 => Err(self.end()),
            len => {
                self.counters.add_wire_in(len as u64);
                Ok(len)
            }
        }
    }

    /// What the end of the TCP stream means. Clear text has no closing alert, so there an end is as good as another.
    fn end(&self) -> TransportError {
        if self.opener.is_none() { TransportError::Closed } else { TransportError::Truncated }
    }
}

/// Has a read of a few segments acknowledged at once. Over a thin path segments come one by one, and the kernel would hold
/// the acknowledgement back for up to 40 ms in the hope of a second: a governed sender takes that for a queue, the more
/// the slower it is, and of several senders the slowest would never come up again. Where bytes come faster, more of
/// them are read at once, and acknowledged anyway.
fn acknowledge_few(stream: &TcpStream, read: &io::Result<usize>) {
    if read.as_ref().is_ok_and(|len| *len <= FEW) {
        sockopt::acknowledge(stream);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.put(buffer);
        }
    }
}

/// Why nothing more may be read.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The other side said so.
    Closed,
    /// A record that should not be.
    Failed,
}

/// What a record is for.
#[derive(Debug, Clone, Copy)]
enum Record {
    Data,
    CloseNotify,
}

/// Sorts out what is not data (RFC 8446 §5.1, §6).
fn judge(kind: u8, content: &[u8]) -> Result<Record, TransportError> {
    const CLOSE_NOTIFY: u8 = 0;
    match (kind, content) {
        (DATA, _) => Ok(Record::Data),
        (ALERT, [_, CLOSE_NOTIFY]) => Ok(Record::CloseNotify),
        (ALERT, [_, description]) => Err(TransportError::Alert(*description)),
        (HANDSHAKE, _) => Err(TransportError::UnexpectedRecord { what: "handshake message or key update" }),
        _ => Err(TransportError::UnexpectedRecord { what: "neither data nor alert" }),
    }
}
