//! Everything but bulk data.

use peerage_content::{PieceIndex, Reader, ShortInput, Writer};

use crate::codec::{FrameHead, HEAD_LEN};
use crate::{Hello, Kind, MAX_LISTED, MAX_MAP_PART, WireError};

/// Why a request or a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RejectCode {
    /// No ticket, a void one, or nothing to share. Says no more on purpose.
    NotAdmitted = 1,
    /// The piece is not there (any more).
    NotHere = 2,
    /// The requester is choked.
    Choked = 3,
    /// Too many requests are outstanding.
    TooMany = 4,
    /// A reason of a later version.
    Other = 255,
}

/// Why a side closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ByeReason {
    /// Both sides have everything.
    Complete = 1,
    /// The content is no longer shared or wanted here.
    Stopped = 2,
    /// The daemon ends.
    ShuttingDown = 3,
    /// There are too many connections.
    TooManyConnections = 4,
    /// The other side broke the protocol or sent wrong bytes.
    Banned = 5,
    /// The pair is already connected.
    AlreadyConnected = 6,
    /// A reason of a later version.
    Other = 255,
}

/// Why a side does not serve the other now. A short list on purpose: a peer of the same swarm may know the kind of reason, for
/// its owner will ask, and no more of the device than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Withheld {
    /// Nothing is withheld (any more).
    Nothing = 0,
    /// The device runs on battery.
    Battery = 1,
    /// Its connection is metered.
    Metered = 2,
    /// It is on a VPN.
    Vpn = 3,
    /// It has uploaded as much as it may this month.
    MonthlyCap = 4,
    /// It serves as many other files as it may.
    Slots = 5,
    /// Its policy does not let it share this, for another reason.
    Policy = 6,
    /// A reason of a later version.
    Other = 255,
}

/// A frame that is not bulk data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// See [`Hello`]. Boxed: it is many times as large as the rest, and comes once.
    Hello(Box<Hello>),
    /// These pieces have been verified and may be asked for.
    Have(Vec<PieceIndex>),
    /// These pieces are being fetched from the origin (`active`), or no longer are.
    Fetching {
        /// Whether the fetch begins or has been given up. Success is told by `Have`.
        active: bool,
        /// The pieces.
        pieces: Vec<PieceIndex>,
    },
    /// Asks for a part of a piece.
    Request {
        /// The piece.
        piece: PieceIndex,
        /// Offset in the piece, in bytes.
        offset: u32,
        /// Number of bytes.
        len: u32,
    },
    /// Takes a request back.
    Cancel {
        /// The piece.
        piece: PieceIndex,
        /// Offset in the piece, in bytes.
        offset: u32,
        /// Number of bytes.
        len: u32,
    },
    /// Requests will not be answered.
    Choke,
    /// Requests will be answered.
    Unchoke,
    /// Asks for a part of the piece map's file form.
    GetMap {
        /// Offset in the file form, in bytes.
        offset: u32,
        /// Number of bytes, at most [`MAX_MAP_PART`].
        len: u32,
    },
    /// A part of the piece map's file form.
    Map {
        /// Offset in the file form, in bytes.
        offset: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A request (or, with zeroes, the connection) is refused.
    Reject {
        /// Why.
        code: RejectCode,
        /// The piece of the request.
        piece: PieceIndex,
        /// Its offset.
        offset: u32,
        /// Its length.
        len: u32,
    },
    /// The sender closes.
    Bye(ByeReason),
    /// Still there.
    Ping,
    /// Why the sender does not serve the receiver, or that it does again. Tells, asks for nothing.
    Withheld(Withheld),
}

// There are as many of these as events.
const _: () = assert!(size_of::<Message>() <= 32);

impl Message {
    /// The refusal that tells nothing.
    pub const NOT_ADMITTED: Self =
        Self::Reject { code: RejectCode::NotAdmitted, piece: PieceIndex(0), offset: 0, len: 0 };

    /// What kind of frame it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Have(_) => Kind::Have,
            Self::Fetching { .. } => Kind::Fetching,
            Self::Request { .. } => Kind::Request,
            Self::Cancel { .. } => Kind::Cancel,
            Self::Choke => Kind::Choke,
            Self::Unchoke => Kind::Unchoke,
            Self::GetMap { .. } => Kind::GetMap,
            Self::Map { .. } => Kind::Map,
            Self::Reject { .. } => Kind::Reject,
            Self::Bye(_) => Kind::Bye,
            Self::Ping => Kind::Ping,
            Self::Withheld(_) => Kind::Withheld,
        }
    }

    /// The whole frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Hello(hello) => hello.write(&mut writer),
            Self::Have(pieces) => write_pieces(&mut writer, pieces),
            Self::Fetching { active, pieces } => {
                writer.u8(u8::from(*active));
                write_pieces(&mut writer, pieces);
            }
            Self::Request { piece, offset, len } | Self::Cancel { piece, offset, len } => {
                writer.u32(piece.0).u32(*offset).u32(*len);
            }
            Self::Choke | Self::Unchoke | Self::Ping => {}
            Self::GetMap { offset, len } => {
                writer.u32(*offset).u32(*len);
            }
            Self::Map { offset, bytes } => {
                writer.u32(*offset).raw(&bytes[..bytes.len().min(MAX_MAP_PART as usize)]);
            }
            Self::Reject { code, piece, offset, len } => {
                writer.u8(*code as u8).u32(piece.0).u32(*offset).u32(*len);
            }
            Self::Bye(reason) => {
                writer.u8(*reason as u8);
            }
            Self::Withheld(reason) => {
                writer.u8(*reason as u8);
            }
        }
        let body = writer.finish();
        let mut frame = Vec::with_capacity(HEAD_LEN + body.len());
        frame.extend_from_slice(&FrameHead::encode(self.kind(), body.len()));
        frame.extend_from_slice(&body);
        frame
    }

    /// Reads the body of a frame of `kind`, which must not be [`Kind::Data`].
    ///
    /// # Errors
    /// The body does not parse.
    pub fn decode(kind: Kind, body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            Kind::Hello => return Ok(Self::Hello(Box::new(Hello::read(&mut reader)?))),
            Kind::Have => Self::Have(read_pieces(&mut reader)?),
            Kind::Fetching => {
                let active = reader.u8("active")? != 0;
                Self::Fetching { active, pieces: read_pieces(&mut reader)? }
            }
            Kind::Request | Kind::Cancel => {
                let (piece, offset) = (PieceIndex(reader.u32("piece")?), reader.u32("offset")?);
                let len = reader.u32("len")?;
                if kind == Kind::Request {
                    Self::Request { piece, offset, len }
                } else {
                    Self::Cancel { piece, offset, len }
                }
            }
            Kind::Data => return Err(ShortInput { field: "kind", why: "data is not a message" }.into()),
            Kind::Choke => Self::Choke,
            Kind::Unchoke => Self::Unchoke,
            Kind::GetMap => Self::GetMap { offset: reader.u32("offset")?, len: reader.u32("len")? },
            Kind::Map => {
                let offset = reader.u32("offset")?;
                let bytes = reader.take(reader.rest().len(), "map")?.to_vec();
                Self::Map { offset, bytes }
            }
            Kind::Reject => Self::Reject {
                code: reject_code(reader.u8("code")?),
                piece: PieceIndex(reader.u32("piece")?),
                offset: reader.u32("offset")?,
                len: reader.u32("len")?,
            },
            Kind::Bye => Self::Bye(bye_reason(reader.u8("reason")?)),
            Kind::Ping => Self::Ping,
            // A later version may append to it: what follows is ignored.
            Kind::Withheld => return Ok(Self::Withheld(withheld(reader.u8("reason")?))),
        };
        reader.end("frame")?;
        Ok(message)
    }
}

fn write_pieces(writer: &mut Writer, pieces: &[PieceIndex]) {
    for piece in pieces.iter().take(MAX_LISTED) {
        writer.u32(piece.0);
    }
}

fn read_pieces(reader: &mut Reader<'_>) -> Result<Vec<PieceIndex>, WireError> {
    let raw = reader.take(reader.rest().len(), "pieces")?;
    let (pieces, rest) = raw.as_chunks::<4>();
    if !rest.is_empty() || pieces.is_empty() || pieces.len() > MAX_LISTED {
        return Err(ShortInput { field: "pieces", why: "not 1 to 16384 whole indexes" }.into());
    }
    Ok(pieces.iter().map(|raw| PieceIndex(u32::from_be_bytes(*raw))).collect())
}

fn reject_code(value: u8) -> RejectCode {
    match value {
        1 => RejectCode::NotAdmitted,
        2 => RejectCode::NotHere,
        3 => RejectCode::Choked,
        4 => RejectCode::TooMany,
        _ => RejectCode::Other,
    }
}

fn withheld(value: u8) -> Withheld {
    match value {
        0 => Withheld::Nothing,
        1 => Withheld::Battery,
        2 => Withheld::Metered,
        3 => Withheld::Vpn,
        4 => Withheld::MonthlyCap,
        5 => Withheld::Slots,
        6 => Withheld::Policy,
        _ => Withheld::Other,
    }
}

fn bye_reason(value: u8) -> ByeReason {
    match value {
        1 => ByeReason::Complete,
        2 => ByeReason::Stopped,
        3 => ByeReason::ShuttingDown,
        4 => ByeReason::TooManyConnections,
        5 => ByeReason::Banned,
        6 => ByeReason::AlreadyConnected,
        _ => ByeReason::Other,
    }
}
