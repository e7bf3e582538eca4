//! What goes into a transfer and what comes out of it.

use std::time::Duration;

use peerage_content::{Bitmap, PeerId, PieceIndex};
use peerage_wire::{ByeReason, Message};

use crate::{SourceId, SourceKind};

/// A range of bytes asked of an HTTP source; given by the engine, never reused within a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// What became of bytes that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Stored; the piece is not complete yet.
    Partial,
    /// Stored, and the piece is complete and right.
    Verified,
    /// They were there already.
    Duplicate,
    /// They completed the piece, and the piece is wrong: all its blocks have been dropped.
    Corrupt,
}

/// Why an HTTP range ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchError {
    /// Try again, not before this has passed (the source's own wish, if it gave one).
    Retry(Option<Duration>),
    /// This source cannot serve the content (any more).
    Unusable,
    /// This source ignores ranges and sends the whole content. From now on it is asked for everything up to the end; the
    /// driver lets pass what comes before the start of a fetch ([`Event::Passed`]).
    Whole,
}

/// A device that might be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its key.
    pub peer: PeerId,
    /// What it would be as a source.
    pub kind: SourceKind,
    /// Whether it is known to hold everything.
    pub seed: bool,
    /// Whether it is to be found elsewhere than when it was last named: failures there say nothing any more.
    pub moved: bool,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Discovery answered: candidates, best first, and this device's place in the order of arrival.
    Discovered {
        /// Whom to connect to.
        candidates: Vec<Candidate>,
        /// Order of arrival in the swarm, if known.
        ordinal: Option<u32>,
        /// Other devices that are downloading the same content now, connected or not.
        downloaders: u32,
    },
    /// Both hellos were exchanged; `have` is what the peer has.
    PeerJoined {
        /// Its source id from now on.
        source: SourceId,
        /// Its key.
        peer: PeerId,
        /// What kind of source it is.
        kind: SourceKind,
        /// What it has.
        have: Bitmap,
    },
    /// A dialled peer could not be reached or did not admit us.
    DialFailed {
        /// Its key.
        peer: PeerId,
    },
    /// A connection has ended.
    PeerLeft {
        /// The source.
        source: SourceId,
    },
    /// A message arrived. Only those that concern pieces; the driver keeps hellos, maps and pings to itself.
    Message {
        /// Who sent it.
        source: SourceId,
        /// The message.
        message: Message,
    },
    /// An HTTP source may be used.
    HttpJoined {
        /// Its source id from now on.
        source: SourceId,
        /// `Cdn` or `CacheServer`.
        kind: SourceKind,
        /// Bytes a second that it is known to deliver, if it was used before.
        known_rate: Option<u64>,
    },
    /// An HTTP source must not be used any more. What it has sent still counts.
    HttpLeft {
        /// The source.
        source: SourceId,
    },
    /// A cache is known to have failed elsewhere: it is out of use for so long.
    HttpRests {
        /// The source.
        source: SourceId,
        /// What is left of that time.
        left: Duration,
    },
    /// Bytes of a piece arrived and were handed to the store.
    Stored {
        /// Who sent them.
        source: SourceId,
        /// The piece.
        piece: PieceIndex,
        /// Offset in the piece; on a block boundary.
        offset: u32,
        /// Number of bytes.
        len: u32,
        /// What became of them.
        outcome: Outcome,
    },
    /// Bytes of an HTTP source that ignores ranges arrived before the start of what was asked, and were dropped.
    Passed {
        /// Who sent them.
        source: SourceId,
        /// Number of bytes.
        len: u64,
    },
    /// An HTTP range has been delivered wholly.
    FetchDone {
        /// Which.
        fetch: FetchId,
    },
    /// An HTTP range ended early.
    FetchFailed {
        /// Which.
        fetch: FetchId,
        /// Why.
        error: FetchError,
    },
    /// An [`Action::Upload`] has left.
    Sent {
        /// To whom.
        source: SourceId,
        /// Bytes.
        len: u32,
    },
    /// A piece is no longer in the store (it was found damaged).
    Lost {
        /// The piece.
        piece: PieceIndex,
    },
    /// A peer was banned, here or in another transfer.
    Banned {
        /// Its key.
        peer: PeerId,
    },
    /// Policy says anew whether a candidate may be connected to.
    Admits {
        /// Its key.
        peer: PeerId,
        /// Whether it may.
        admitted: bool,
    },
    /// The network is another one: whoever could not be reached may be reached now, and is tried at once.
    NetworkChanged,
    /// The policy changed.
    Limits(crate::Limits),
    /// Stop asking (disk full, caller gone) or go on. Uploads are not touched.
    Pause(bool),
}

/// What a peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// A piece that came from it alone is wrong.
    BadPiece(PieceIndex),
    /// It asked for, claimed or sent something outside the content or the rules.
    Protocol(&'static str),
}

/// Do something.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Connect to a candidate; answered by `PeerJoined` or `DialFailed`.
    Dial {
        /// Its key.
        peer: PeerId,
    },
    /// Send a message. Requests among them must be remembered as expected data.
    Send {
        /// To whom.
        source: SourceId,
        /// The message.
        message: Message,
    },
    /// Read verified bytes and send them; answered by `Sent`.
    Upload {
        /// To whom.
        source: SourceId,
        /// The piece.
        piece: PieceIndex,
        /// Offset in the piece.
        offset: u32,
        /// Number of bytes.
        len: u32,
    },
    /// Fetch bytes `[start, end)` of the content; answered by `Stored`… and `FetchDone` or `FetchFailed`.
    Fetch {
        /// From which HTTP source.
        source: SourceId,
        /// Name of the range.
        fetch: FetchId,
        /// First byte; on a block boundary.
        start: u64,
        /// End (not included); on a block boundary or the end of the content.
        end: u64,
    },
    /// Stop a fetch; answered by nothing.
    CancelFetch {
        /// Which.
        fetch: FetchId,
    },
    /// Say goodbye and close; answered by `PeerLeft`.
    Disconnect {
        /// Whom.
        source: SourceId,
        /// Why.
        reason: ByeReason,
    },
    /// Hold this against a peer; the driver keeps the list of bans of all transfers.
    Charge {
        /// Its key.
        peer: PeerId,
        /// What it did.
        offence: Offence,
    },
    /// A piece that came from an HTTP source alone is wrong: the record may be stale.
    HttpCorrupt {
        /// The source.
        source: SourceId,
        /// The piece.
        piece: PieceIndex,
    },
    /// Ask the coordinator for more peers soon.
    NeedPeers,
    /// Everything is verified. Said once.
    Complete,
}
