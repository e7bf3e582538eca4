//! What can go wrong with a connection, and how the TLS alert protocol says it to the other side.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use peerage_content::PeerId;
use peerage_wire::WireError;
use rustls::AlertDescription;

/// A connection could not be made, or has ended. No variant can be recovered from on the same connection, except
/// [`TransportError::PayloadLength`], which says that nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The device's own key does not make a TLS configuration.
    #[error("identity of {peer} cannot be used for TLS")]
    Identity {
        /// The public half of the key.
        peer: PeerId,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// The address for incoming connections cannot be opened.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Taking a waiting connection failed. The listener stays usable.
    #[error("cannot accept a connection")]
    Accept(#[source] io::Error),
    /// The other side cannot be reached.
    #[error("cannot connect to {addr}")]
    Connect {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The other side did not answer in time.
    #[error("no connection to {addr} within {after:?}")]
    ConnectTimeout {
        /// The address.
        addr: SocketAddr,
        /// The time allowed.
        after: Duration,
    },
    /// The relay did not bring the two ends together.
    #[error("the relay at {addr} {what}")]
    Relay {
        /// The relay's address.
        addr: SocketAddr,
        /// What it did.
        what: &'static str,
    },
    /// A socket option cannot be read or set.
    #[error("socket option {name}")]
    Option {
        /// The option, as the system's headers call it.
        name: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The handshake was not finished in time.
    #[error("handshake not finished within {after:?}")]
    HandshakeTimeout {
        /// The time allowed.
        after: Duration,
    },
    /// The other side does not speak TLS 1.3 as a peer does.
    #[error("handshake: {what}")]
    Handshake {
        /// What was found.
        what: &'static str,
    },
    /// The TLS library refuses the handshake, or the other side did with an alert.
    #[error("handshake refused")]
    Tls(#[source] rustls::Error),
    /// The other side proved a key, but not the expected one.
    #[error("peer {found} answered, expected {expected}")]
    WrongPeer {
        /// Whom the caller asked for.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// Reading from the socket failed.
    #[error("cannot receive")]
    Receive(#[source] io::Error),
    /// Writing to the socket failed.
    #[error("cannot send")]
    Send(#[source] io::Error),
    /// The other side closed in good order, between two frames.
    #[error("closed by the peer")]
    Closed,
    /// The connection is no longer there.
    #[error("the connection has ended")]
    Ended,
    /// The connection ended inside a frame or without the closing alert: somebody may have cut it (RFC 8446 §6.1).
    #[error("cut off before its end")]
    Truncated,
    /// A record was changed on its way, or is not what its sender sealed.
    #[error("record does not authenticate")]
    BadRecord,
    /// A record longer than RFC 8446 §5.2 allows, or too short to hold anything.
    #[error("record of {found} bytes, allowed are 17 to 16640")]
    RecordLength {
        /// Bytes found after the record's header.
        found: usize,
    },
    /// Something other than data where only data may stand.
    #[error("unexpected record: {what}")]
    UnexpectedRecord {
        /// What was found.
        what: &'static str,
    },
    /// The other side gave up with this TLS alert (RFC 8446 §6.2).
    #[error("peer gave up with TLS alert {0}")]
    Alert(u8),
    /// The keys of this direction have sealed or opened as many records as is safe. Connect again.
    #[error("2^24 records under one key; connect again")]
    RecordLimit,
    /// A frame breaks the peer protocol.
    #[error(transparent)]
    Frame(#[from] WireError),
    /// Caller's mistake: the payload is not as long as its head says, or more was asked for than is left.
    #[error("payload of {found} bytes, allowed are {allowed}")]
    PayloadLength {
        /// Bytes given or asked for.
        found: usize,
        /// Bytes the frame has (left).
        allowed: usize,
    },
    /// Caller's mistake: an earlier `send` or `send_data` was dropped half-way, so the stream has half a frame.
    #[error("an earlier frame was left unfinished")]
    TornFrame,
}

impl TransportError {
    /// The alert that tells the other side of this error; `None` when there is nothing to tell or nobody to hear it.
    pub(crate) const fn alert(&self) -> Option<AlertDescription> {
        match self {
            Self::BadRecord => Some(AlertDescription::BadRecordMac),
            Self::RecordLength { .. } => Some(AlertDescription::RecordOverflow),
            Self::UnexpectedRecord { .. } => Some(AlertDescription::UnexpectedMessage),
            // The peer protocol has no alert of its own; the agent says `Bye` when it has a reason to give.
            Self::Frame(_) => Some(AlertDescription::DecodeError),
            _ => None,
        }
    }
}
