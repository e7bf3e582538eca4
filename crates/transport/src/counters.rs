//! Bytes that one connection has moved.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a connection has moved since it was opened, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Payload of data frames handed to the caller or skipped.
    pub payload_in: u64,
    /// Payload of data frames accepted for sending.
    pub payload_out: u64,
    /// Bytes read from the socket, handshake included.
    pub wire_in: u64,
    /// Bytes written to the socket, handshake included.
    pub wire_out: u64,
}

/// Counts while the connection runs; readable from any task, also after the connection has ended.
#[derive(Debug, Default)]
pub struct Counters {
    payload_in: AtomicU64,
    payload_out: AtomicU64,
    wire_in: AtomicU64,
    wire_out: AtomicU64,
}

impl Counters {
    /// The figures now.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            payload_in: self.payload_in.load(Relaxed),
            payload_out: self.payload_out.load(Relaxed),
            wire_in: self.wire_in.load(Relaxed),
            wire_out: self.wire_out.load(Relaxed),
        }
    }

    pub(crate) fn add_payload_in(&self, bytes: usize) {
        self.payload_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn add_payload_out(&self, bytes: usize) {
        self.payload_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn add_wire_in(&self, bytes: u64) {
        self.wire_in.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_wire_out(&self, bytes: u64) {
        self.wire_out.fetch_add(bytes, Relaxed);
    }
}
