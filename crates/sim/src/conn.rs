//! One connection: what either end was told and has asked, to hold the engine to it.

use std::time::Duration;

use peerage_content::{BLOCK_SIZE, Bitmap, BlockSet, Layout, PieceIndex};
use peerage_swarm::{SourceId, Time};
use peerage_wire::{MAX_REQUESTS, Message, RejectCode};

/// Requests taken back that are remembered, as a driver does, to know what still arrives for them.
const MAX_CANCELLED: usize = 256;

/// A request whose bytes may still arrive.
#[derive(Debug, Clone, Copy)]
struct Asked {
    piece: PieceIndex,
    offset: u32,
    /// The next byte to arrive.
    at: u32,
    end: u32,
    cancelled: bool,
}

/// What to do with bytes that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Store them.
    Take,
    /// They were asked for and then taken back: forget them.
    Skip,
    /// Nobody asked for them.
    Refuse,
}

/// One end of a connection, by its place in the list of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Socket {
    conn: u32,
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Dialled,
    Answered,
}

impl Socket {
    /// The ends of connection `conn`: the first has dialled.
    pub(crate) const fn both(conn: usize) -> [Self; 2] {
        let conn = conn as u32;
        [Self { conn, side: Side::Dialled }, Self { conn, side: Side::Answered }]
    }

    /// The other end.
    pub(crate) const fn other(self) -> Self {
        let side = match self.side {
            Side::Dialled => Side::Answered,
            Side::Answered => Side::Dialled,
        };
        Self { conn: self.conn, side }
    }

    /// The connection.
    pub(crate) const fn conn(self) -> usize {
        self.conn as usize
    }
}

/// What one end has been told and has asked.
#[derive(Debug)]
pub(crate) struct End {
    device: u32,
    pub(crate) life: u32,
    /// What this end calls the other.
    pub(crate) source: SourceId,
    pub(crate) open: bool,
    /// It has said goodbye.
    pub(crate) leaving: bool,
    /// When the last thing that left this end arrives at the other. Nothing overtakes it; but messages overtake bulk data
    /// that still waits for the uplink, as they do in a driver.
    last_arrival: Time,
    /// What the other end has, as far as this one has been told.
    pub(crate) knows: Bitmap,
    choked: bool,
    asked: Vec<Asked>,
}

#[derive(Debug)]
pub(crate) struct Conn {
    dialled: End,
    answered: End,
    pub(crate) latency: Duration,
    /// Both are of one site.
    pub(crate) near: bool,
}

impl End {
    pub(crate) const fn new(device: usize, life: u32, knows: Bitmap) -> Self {
        Self {
            device: device as u32,
            life,
            source: SourceId(0),
            open: false,
            leaving: false,
            last_arrival: Time::ZERO,
            knows,
            choked: true,
            asked: Vec::new(),
        }
    }

    /// The connection has come about.
    pub(crate) fn open(&mut self, source: SourceId, knows: Bitmap, now: Time) {
        (self.source, self.open, self.knows, self.last_arrival) = (source, true, knows, now);
    }

    /// The device at this end.
    pub(crate) const fn device(&self) -> usize {
        self.device as usize
    }

    /// When something that leaves this end arrives at the other, given that it cannot arrive before `earliest`.
    pub(crate) fn arrival(&mut self, earliest: Time) -> Time {
        self.last_arrival = self.last_arrival.max(earliest);
        self.last_arrival
    }

    /// This end sends `message`; `stored` are the blocks that it has of a piece.
    ///
    /// # Errors
    /// The rule that this breaks.
    pub(crate) fn sends(
        &mut self,
        message: &Message,
        layout: Layout,
        have: &Bitmap,
        stored: impl Fn(PieceIndex) -> BlockSet,
    ) -> Result<(), String> {
        match *message {
            Message::Have(ref pieces) => match pieces.iter().find(|piece| !have.contains(**piece)) {
                Some(piece) => Err(format!("offers piece {piece} without having verified it")),
                None => Ok(()),
            },
            Message::Fetching { active: true, ref pieces } => {
                match pieces.iter().find(|piece| have.contains(**piece)) {
                    Some(piece) => Err(format!("says that it fetches piece {piece}, which it has")),
                    None => Ok(()),
                }
            }
            Message::Request { piece, offset, len } => self
                .asks(piece, offset, len, layout, stored(piece))
                .map_err(|rule| format!("asks for [{offset}, +{len}) of piece {piece}, {rule}")),
            Message::Cancel { piece, offset, len } => {
                self.forget(piece, Some((offset, len)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn asks(
        &mut self,
        piece: PieceIndex,
        offset: u32,
        len: u32,
        layout: Layout,
        stored: BlockSet,
    ) -> Result<(), &'static str> {
        let wanted = BlockSet::covered(offset, len, layout.piece_len(piece));
        let mut outstanding = self.asked.iter().filter(|asked| !asked.cancelled);
        if self.choked {
            Err("of a peer that chokes it")
        } else if !layout.fits(piece, offset, len) || !offset.is_multiple_of(BLOCK_SIZE) {
            Err("which is not whole blocks of it")
        } else if !self.knows.contains(piece) {
            Err("of a peer that does not have it")
        } else if wanted.minus(stored) != wanted {
            Err("which it has in part")
        } else if outstanding.clone().count() >= MAX_REQUESTS {
            Err("with 64 requests outstanding")
        } else if outstanding
            .any(|asked| asked.piece == piece && asked.at < offset + len && offset < asked.end)
        {
            Err("of a peer that it has asked for a part of that")
        } else {
            self.asked.push(Asked { piece, offset, at: offset, end: offset + len, cancelled: false });
            Ok(())
        }
    }

    /// `message` arrives at this end.
    pub(crate) fn hears(&mut self, message: &Message) {
        match *message {
            Message::Have(ref pieces) => pieces.iter().for_each(|piece| {
                self.knows.insert(*piece);
            }),
            Message::Choke => {
                // Bytes may not follow a `Choke` (wire §4): what they were asked with is forgotten.
                self.choked = true;
                self.asked.clear();
            }
            Message::Unchoke => self.choked = false,
            Message::Reject { code, piece, offset, len } => {
                self.forget(piece, Some((offset, len)));
                if code == RejectCode::NotHere {
                    self.knows.remove(piece);
                    self.forget(piece, None);
                }
            }
            _ => {}
        }
    }

    /// Bytes `[offset, offset + len)` of an answer that ends at `until` arrive at this end. Answers ascend within a request
    /// (wire §4); of two requests that they fit, one of which was taken back, they answer the other.
    pub(crate) fn receives(&mut self, piece: PieceIndex, offset: u32, len: u32, until: u32) -> Verdict {
        let fits = |asked: &&mut Asked| asked.piece == piece && asked.at == offset && asked.end == until;
        let Some(asked) = self.asked.iter_mut().filter(fits).min_by_key(|asked| asked.cancelled) else {
            return Verdict::Refuse;
        };
        asked.at += len;
        let cancelled = asked.cancelled;
        self.asked.retain(|asked| asked.at < asked.end);
        if cancelled { Verdict::Skip } else { Verdict::Take }
    }

    fn forget(&mut self, piece: PieceIndex, part: Option<(u32, u32)>) {
        for asked in self.asked.iter_mut().filter(|asked| asked.piece == piece) {
            asked.cancelled |= part.is_none_or(|part| part == (asked.offset, asked.end - asked.offset));
        }
        while self.asked.iter().filter(|asked| asked.cancelled).count() > MAX_CANCELLED {
            let oldest = self.asked.iter().position(|asked| asked.cancelled);
            oldest.map(|at| self.asked.remove(at));
        }
    }
}

impl Conn {
    pub(crate) fn new([dialled, answered]: [End; 2], latency: Duration, near: bool) -> Self {
        Self { dialled, answered, latency, near }
    }

    pub(crate) const fn end(&self, socket: Socket) -> &End {
        match socket.side {
            Side::Dialled => &self.dialled,
            Side::Answered => &self.answered,
        }
    }

    pub(crate) const fn end_mut(&mut self, socket: Socket) -> &mut End {
        match socket.side {
            Side::Dialled => &mut self.dialled,
            Side::Answered => &mut self.answered,
        }
    }
}
