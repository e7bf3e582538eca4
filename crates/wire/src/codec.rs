//! Frames as bytes. Bulk data has a head of its own so that payload can go straight from the stream into a piece.

use peerage_content::{BitmapError, LayoutError, PieceIndex, Reader, ShortInput};

use crate::{FIRST_SKIPPABLE, MAX_DATA, MAX_LISTED, MAX_MAP_PART, MAX_SKIPPED, Message};

/// Bytes before the body of every frame: length and kind.
pub const HEAD_LEN: usize = 5;
/// Bytes before the payload of a data frame: frame head, piece and offset.
pub const DATA_HEAD_LEN: usize = HEAD_LEN + 8;

/// Foreign bytes break the protocol. Ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The frame is longer than its kind allows, or empty.
    #[error("frame of kind {kind:#04x} with {found} bytes, allowed are 1 to {allowed}")]
    Length {
        /// The kind byte.
        kind: u8,
        /// Length found, in bytes.
        found: u32,
        /// Longest allowed, in bytes.
        allowed: u32,
    },
    /// A kind that this version does not know and may not skip.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// The body does not parse.
    #[error(transparent)]
    Malformed(#[from] ShortInput),
    /// The bitmap of a hello is not right.
    #[error(transparent)]
    Bitmap(#[from] BitmapError),
    /// The size in a hello is beyond what can be handled.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "each kind is the message of the same name")]
pub enum Kind {
    Hello = 1,
    Have = 2,
    Fetching = 3,
    Request = 4,
    Data = 5,
    Cancel = 6,
    Choke = 7,
    Unchoke = 8,
    GetMap = 9,
    Map = 10,
    Reject = 11,
    Bye = 12,
    Ping = 13,
    // From here on: kinds that a peer which does not know them skips ([`FIRST_SKIPPABLE`]).
    Withheld = 0x80,
}

impl Kind {
    pub(crate) const ALL: [Self; 14] = [
        Self::Hello,
        Self::Have,
        Self::Fetching,
        Self::Request,
        Self::Data,
        Self::Cancel,
        Self::Choke,
        Self::Unchoke,
        Self::GetMap,
        Self::Map,
        Self::Reject,
        Self::Bye,
        Self::Ping,
        Self::Withheld,
    ];

    fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == value)
    }

    /// Longest frame of this kind: bytes after the length field.
    pub const fn max_len(self) -> u32 {
        1 + match self {
            // A bitmap of the largest content is 128 KiB; the ticket and the fixed part take less than 1 KiB.
            Self::Hello => (128 << 10) + 1024,
            Self::Have => 4 * MAX_LISTED as u32,
            Self::Fetching => 1 + 4 * MAX_LISTED as u32,
            Self::Request | Self::Cancel => 12,
            Self::Data => 8 + MAX_DATA,
            Self::Choke | Self::Unchoke | Self::Ping => 0,
            Self::GetMap => 8,
            Self::Map => 4 + MAX_MAP_PART,
            Self::Reject => 13,
            Self::Bye => 1,
            // One byte now; a later version may say more.
            Self::Withheld => 16,
        }
    }
}

/// The first five bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameHead {
    /// A known kind with a body of `body` bytes to read.
    Known {
        /// What it is.
        kind: Kind,
        /// Bytes of the body.
        body: u32,
    },
    /// An extension: read and forget `body` bytes.
    Skip {
        /// Bytes of the body.
        body: u32,
    },
}

impl FrameHead {
    /// Reads a frame's head.
    ///
    /// # Errors
    /// The length breaks the limit of the kind, or the kind is unknown and not skippable.
    pub fn decode(bytes: [u8; HEAD_LEN]) -> Result<Self, WireError> {
        let [a, b, c, d, raw] = bytes;
        let len = u32::from_be_bytes([a, b, c, d]);
        let known = Kind::from_u8(raw);
        let allowed = match known {
            Some(kind) => kind.max_len(),
            None if raw >= FIRST_SKIPPABLE => MAX_SKIPPED,
            None => return Err(WireError::UnknownKind(raw)),
        };
        if len == 0 || len > allowed {
            return Err(WireError::Length { kind: raw, found: len, allowed });
        }
        let body = len - 1;
        Ok(known.map_or(Self::Skip { body }, |kind| Self::Known { kind, body }))
    }

    pub(crate) fn encode(kind: Kind, body: usize) -> [u8; HEAD_LEN] {
        let [a, b, c, d] = (body as u32 + 1).to_be_bytes();
        [a, b, c, d, kind as u8]
    }
}

/// The head of bulk data: `piece u32` · `offset u32` · payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHead {
    /// The piece that the payload belongs to.
    pub piece: PieceIndex,
    /// Offset in the piece, in bytes.
    pub offset: u32,
    /// Bytes of payload that follow; 1 to [`MAX_DATA`].
    pub len: u32,
}

impl DataHead {
    /// All bytes before the payload, frame head included.
    pub fn encode(&self) -> [u8; DATA_HEAD_LEN] {
        let mut out = [0; DATA_HEAD_LEN];
        out[..HEAD_LEN].copy_from_slice(&FrameHead::encode(Kind::Data, 8 + self.len as usize));
        out[5..9].copy_from_slice(&self.piece.0.to_be_bytes());
        out[9..].copy_from_slice(&self.offset.to_be_bytes());
        out
    }

    /// Reads the 8 bytes after the frame head of a data frame whose body has `body` bytes.
    ///
    /// # Errors
    /// There is no payload.
    pub fn decode(body: u32, bytes: [u8; 8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(&bytes);
        let (piece, offset) = (PieceIndex(reader.u32("piece")?), reader.u32("offset")?);
        match body.checked_sub(8) {
            Some(len @ 1..=MAX_DATA) => Ok(Self { piece, offset, len }),
            _ => Err(ShortInput { field: "data", why: "no payload" }.into()),
        }
    }
}

/// One whole frame, for whoever has all its bytes at hand (tests, fuzzing, tools).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Anything but bulk data.
    Message(Message),
    /// Bulk data.
    Data(DataHead, &'a [u8]),
    /// An extension that is passed over.
    Skipped,
}

impl<'a> Frame<'a> {
    /// Reads the first frame of `bytes` and says how many bytes it took; `None` when bytes are missing.
    ///
    /// # Errors
    /// The bytes break the protocol.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, WireError> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let head = FrameHead::decode(*head)?;
        let (FrameHead::Known { body, .. } | FrameHead::Skip { body }) = head;
        let Some(raw) = rest.get(..body as usize) else { return Ok(None) };
        let frame = match head {
            FrameHead::Skip { .. } => Self::Skipped,
            FrameHead::Known { kind: Kind::Data, .. } => {
                let mut reader = Reader::new(raw);
                let head = DataHead::decode(body, reader.array("data head")?)?;
                Self::Data(head, reader.rest())
            }
            FrameHead::Known { kind, .. } => Self::Message(Message::decode(kind, raw)?),
        };
        Ok(Some((frame, HEAD_LEN + body as usize)))
    }
}
