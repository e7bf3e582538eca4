//! Bytes to the socket: sealed into one buffer of sixteen records, sent in one go.
//!
//! The buffer holds `sent..sealed`, records that the socket has not taken yet, and behind them the open record: room
//! for its header and `open` bytes of plaintext. Long data is sealed from where the caller has it, without a copy.
//! Clear text is the same without records, and can be sent straight from a file.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Poll, ready};

use rustix::fs::sendfile;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::buffer::{BUFFER_LEN, Buffer, BufferPool};
use crate::burst::Burst;
use crate::record::{ALERT, DATA, HEADER, MAX_PLAIN, MAX_SEALED, Sealer, TRAILER};
use crate::{Counters, TransportError};

/// The sending side of a connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    stream: Arc<TcpStream>,
    /// `None`: clear text.
    sealer: Option<Sealer>,
    pool: BufferPool,
    counters: Arc<Counters>,
    burst: Arc<Burst>,
    buffer: Option<Buffer>,
    sent: usize,
    sealed: usize,
    open: usize,
}

impl Outbox {
    pub(crate) fn new(
        stream: Arc<TcpStream>,
        sealer: Option<Sealer>,
        pool: BufferPool,
        counters: Arc<Counters>,
        burst: Arc<Burst>,
    ) -> Self {
        Self { stream, sealer, pool, counters, burst, buffer: None, sent: 0, sealed: 0, open: 0 }
    }

    /// Records that may still be sealed; without end for clear text.
    pub(crate) fn records_left(&self) -> u64 {
        self.sealer.as_ref().map_or(u64::MAX, Sealer::left)
    }

    /// Takes `bytes` into the buffer, sending it whenever it is full. When dropped half-way, part of `bytes` is taken.
    pub(crate) async fn push(&mut self, mut bytes: &[u8]) -> Result<(), TransportError> {
        while !bytes.is_empty() {
            if self.room() == 0 {
                self.close_record()?;
                self.drain().await?;
            }
            let taken = match &mut self.sealer {
                Some(sealer) if self.open == 0 && bytes.len() >= MAX_PLAIN => {
                    let buffer = self.buffer.get_or_insert_with(|| self.pool.take());
                    let out = &mut buffer[self.sealed..self.sealed + MAX_SEALED];
                    sealer.seal_from(DATA, &bytes[..MAX_PLAIN], out)?;
                    self.sealed += MAX_SEALED;
                    MAX_PLAIN
                }
                None if bytes.len() >= MAX_PLAIN => self.send_through(bytes).await?,
                _ => self.append(bytes)?,
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Ends the open record, so that long data after it fills whole records: sealed from where it is, and opened by the
    /// other side to where it belongs. A record costs 22 bytes, the copy of a full one far more.
    pub(crate) fn align(&mut self) -> Result<(), TransportError> {
        self.close_record()
    }

    /// Sends everything. Cancel-safe: call it again to go on.
    pub(crate) async fn flush(&mut self) -> Result<(), TransportError> {
        self.close_record()?;
        self.drain().await
    }

    /// Seals an alert behind everything else; nothing for clear text, which has none.
    pub(crate) async fn push_alert(&mut self, alert: [u8; 2]) -> Result<(), TransportError> {
        self.flush().await?;
        self.seal_alert(alert)
    }

    /// Says `alert` without waiting: what the socket does not take at once is not sent.
    pub(crate) fn abort(&mut self, alert: [u8; 2]) {
        // Best effort on a connection that has failed already.
        let _ = self.close_record().and_then(|()| self.try_drain()).and_then(|()| self.seal_alert(alert));
        let _ = self.try_drain();
    }

    /// Plaintext bytes that the open record can still take.
    fn room(&self) -> usize {
        match self.sealer {
            Some(_) if BUFFER_LEN - self.sealed < MAX_SEALED => 0,
            Some(_) => MAX_PLAIN - self.open,
            None => BUFFER_LEN - self.sealed,
        }
    }

    /// Copies as much of `bytes` as there is room for, and seals the open record if that fills it.
    fn append(&mut self, bytes: &[u8]) -> Result<usize, TransportError> {
        let len = bytes.len().min(self.room());
        let at = self.sealed + self.open + if self.sealer.is_some() { HEADER } else { 0 };
        let buffer = self.buffer.get_or_insert_with(|| self.pool.take());
        buffer[at..at + len].copy_from_slice(&bytes[..len]);
        if self.sealer.is_none() {
            self.sealed += len;
            return Ok(len);
        }
        self.open += len;
        if self.open == MAX_PLAIN {
            self.close_record()?;
        }
        Ok(len)
    }

    /// Seals the open record, if there is one.
    fn close_record(&mut self) -> Result<(), TransportError> {
        let (Some(sealer), Some(buffer)) = (&mut self.sealer, &mut self.buffer) else { return Ok(()) };
        if self.open > 0 {
            let end = self.sealed + HEADER + self.open + TRAILER;
            sealer.seal_in_place(DATA, self.open, &mut buffer[self.sealed..end])?;
            (self.sealed, self.open) = (end, 0);
        }
        Ok(())
    }

    fn seal_alert(&mut self, alert: [u8; 2]) -> Result<(), TransportError> {
        let Some(sealer) = &mut self.sealer else { return Ok(()) };
        let buffer = self.buffer.get_or_insert_with(|| self.pool.take());
        let end = self.sealed + HEADER + alert.len() + TRAILER;
        if let Some(out) = buffer.get_mut(self.sealed..end) {
            sealer.seal_from(ALERT, &alert, out)?;
            self.sealed = end;
        }
        Ok(())
    }

    /// Sends what is sealed; there must be no open record. Cancel-safe.
    async fn drain(&mut self) -> Result<(), TransportError> {
        while self.sent < self.sealed {
            poll_fn(|cx| self.stream.poll_write_ready(cx)).await.map_err(TransportError::Send)?;
            self.try_drain()?;
        }
        Ok(())
    }

    /// Sends what is sealed as far as the socket takes it now; gives the buffer back if that is all.
    fn try_drain(&mut self) -> Result<(), TransportError> {
        let Some(buffer) = &self.buffer else { return Ok(()) };
        while self.sent < self.sealed {
            match self.burst.write(&self.stream, &buffer[self.sent..self.sealed]) {
                Ok(len) => {
                    self.sent += len;
                    self.counters.add_wire_out(len as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(TransportError::Send(error)),
            }
        }
        self.release();
        Ok(())
    }

    /// Everything has been sent: the buffer goes back.
    fn release(&mut self) {
        debug_assert_eq!(self.open, 0, "an open record stands behind what was sent");
        (self.sent, self.sealed) = (0, 0);
        if let Some(buffer) = self.buffer.take() {
            self.pool.put(buffer);
        }
    }

    /// Whether what is sent can be read by everybody on the way.
    pub(crate) const fn is_clear(&self) -> bool {
        self.sealer.is_none()
    }

    /// Whether bursts are bounded now. The kernel bounds none that it takes from a file.
    pub(crate) fn is_bounded(&self) -> bool {
        self.burst.get().is_some()
    }

    /// Sends `len` bytes of `file` from `at` as they are, behind what is pending: the kernel takes them from its own
    /// memory. Clear text only. When dropped half-way, part of them is sent.
    pub(crate) async fn push_file(
        &mut self,
        file: &File,
        mut at: u64,
        len: usize,
    ) -> Result<(), TransportError> {
        debug_assert!(self.is_clear(), "a file would leave unsealed");
        self.drain_before_more().await?;
        let mut left = len;
        while left > 0 {
            let socket = &*self.stream;
            let sent =
                socket.async_io(Interest::WRITABLE, || Ok(sendfile(socket, file, Some(&mut at), left)?));
            match sent.await {
                // The file ends before its content does.
                Ok(0) => return Err(TransportError::Send(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    self.counters.add_wire_out(sent as u64);
                    left -= sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TransportError::Send(error)),
            }
        }
        Ok(())
    }

    /// Sends what is pending, and lets the kernel keep what does not fill a segment for what follows.
    async fn drain_before_more(&mut self) -> Result<(), TransportError> {
        while self.sent < self.sealed {
            let pending = self.buffer.as_deref().map_or(&[][..], |buffer| &buffer[self.sent..self.sealed]);
            let socket = &*self.stream;
            let more = || SockRef::from(socket).send_with_flags(pending, libc::MSG_MORE | libc::MSG_NOSIGNAL);
            let sent = socket.async_io(Interest::WRITABLE, more).await.map_err(TransportError::Send)?;
            self.sent += sent;
            self.counters.add_wire_out(sent as u64);
        }
        self.release();
        Ok(())
    }

    /// Sends clear text from where it is, behind what is pending; returns how much of it went.
    async fn send_through(&mut self, bytes: &[u8]) -> Result<usize, TransportError> {
        let len = poll_fn(|cx| {
            loop {
                ready!(self.stream.poll_write_ready(cx))?;
                let pending =
                    self.buffer.as_deref().map_or(&[][..], |buffer| &buffer[self.sent..self.sealed]);
                let written = if !self.is_bounded() {
                    self.stream.try_write_vectored(&[IoSlice::new(pending), IoSlice::new(bytes)])
                } else {
                    self.burst.write(&self.stream, if pending.is_empty() { bytes } else { pending })
                };
                match written {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return Poll::Ready(done),
                }
            }
        })
        .await
        .map_err(TransportError::Send)?;
        self.counters.add_wire_out(len as u64);
        let pending = self.sealed - self.sent;
        if len < pending {
            self.sent += len;
            return Ok(0);
        }
        self.release();
        Ok(len - pending)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.put(buffer);
        }
    }
}
