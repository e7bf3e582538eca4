//! How much the kernel is handed at once.
//!
//! Linux paces between the portions that it sends at once, not within one, and where round trips are below half a millisecond
//! a portion is 64 KiB however slow the pace is (`tcp_tso_autosize`): at 145 KB/s one burst every 0.45 s, which fills
//! the queue of a thin link, and goes on for as long after the pace has become another. What is
//! written as a record of its own (`MSG_EOR`) is never put together with what follows.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A bound, shared by who sends and who governs.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    /// In bytes; zero: none.
    most: AtomicU32,
}

impl Burst {
    /// Hands the kernel no more than `most` bytes at once from now on; `None`: as many as it takes.
    pub(crate) fn set(&self, most: Option<u32>) {
        self.most.store(most.map_or(0, |most| most.max(1)), Relaxed);
    }

    /// The bound in force.
    pub(crate) fn get(&self) -> Option<usize> {
        Some(self.most.load(Relaxed) as usize).filter(|most| *most > 0)
    }

    /// Writes what the bound allows of `bytes`, without waiting; returns how much the kernel has taken.
    pub(crate) fn write(&self, stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let Some(most) = self.get() else { return stream.try_write(bytes) };
        let portion = bytes.get(..most).unwrap_or(bytes);
        let flags = libc::MSG_EOR | libc::MSG_NOSIGNAL;
        stream.try_io(Interest::WRITABLE, || SockRef::from(stream).send_with_flags(portion, flags))
    }
}
