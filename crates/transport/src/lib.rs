//! Transport: encrypted connections between peers, with both keys pinned.
//!
//! - [`Identity`]: the device's Ed25519 key, ready for TLS.
//! - [`connect`], [`Listener`] and [`accept`]: a TCP connection and a TLS 1.3 handshake with raw public keys (RFC 7250)
//!   give a [`Connection`] to a proven peer.
//! - [`Relayed`]: the same for two peers that cannot reach each other, through a relay that both can.
//! - [`Connection::split`]: [`FrameReader`] and [`FrameWriter`], which speak the frames of `peerage-wire` and share
//!   nothing but the socket.
//! - [`Path`], [`PathInfo`]: what the kernel knows of the way between them, and the brake.
//!
//! # Why an own record layer
//!
//! The handshake is rustls'. What comes after it is the hottest path of the whole product, and a record layer is small:
//! [RFC 8446 §5](https://www.rfc-editor.org/rfc/rfc8446#section-5). Ours moves each payload byte once in either
//! direction: sealed from the sender's memory into the buffer of the socket call, opened from there into the receiver's
//! memory. It shares nothing between the directions, so that each has its own task.
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | handshake | 5 s ([`Options::handshake_timeout`]), 32 KiB |
//! | waiting for the other end at a relay | 12 s |
//! | records under one key | 2^24, then [`TransportError::RecordLimit`]: connect again |
//! | key updates, tickets and other messages after the handshake | refused |
//! | records without content | 32 in a row |
//! | frames | those of `peerage-wire`, checked before a body is read |
//! | a peer that acknowledges nothing | 60 s (`TCP_USER_TIMEOUT`), then the kernel ends the connection |
//!
//! Silence of a live peer, too many handshakes from one address and too many connections are for the caller to bound.

mod buffer;
mod burst;
mod connect;
mod connection;
mod counters;
mod error;
mod handshake;
mod identity;
mod inbox;
mod outbox;
mod pinned;
mod reader;
mod record;
mod relayed;
mod sockopt;
mod writer;

pub use connect::{Listener, Options, accept, connect};
pub use connection::{Connection, Path};
pub use counters::{Counters, Traffic};
pub use error::TransportError;
pub use identity::{Encryption, Identity};
pub use reader::{FrameReader, Incoming};
pub use relayed::Relayed;
pub use sockopt::{DSCP_LE, NOTSENT_LOWAT, PathInfo};
pub use writer::FrameWriter;
