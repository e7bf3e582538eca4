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

/// What one end has been told and has asked.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) device: usize,
    pub(crate) life: u32,
    /// What this end calls the other.
    pub(crate) source: SourceId,
    pub(crate) open: bool,
    /// It has said goodbye.
    pub(crate) leaving: bool,
    /// When the last thing that left for this end arrives. Nothing overtakes it; but messages overtake bulk data that
    /// still waits for the uplink, as they do in a driver.
    pub(crate) last_arrival: Time,
    /// What the other end has, as far as this one has been told.
    pub(crate) knows: Bitmap,
    choked: bool,
    asked: Vec<Asked>,
}

#[derive(Debug)]
pub(crate) struct Conn {
    /// The first has dialled.
    pub(crate) ends: [End; 2],
    pub(crate) latency: Duration,
}

impl End {
    pub(crate) const fn new(device: usize, life: u32, knows: Bitmap) -> Self {
        Self {
            device,
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
    /// When something that leaves for end `to` arrives, given that it cannot arrive before `earliest`.
    pub(crate) fn arrival(&mut self, to: usize, earliest: Time) -> Time {
        let end = &mut self.ends[to];
        end.last_arrival = end.last_arrival.max(earliest);
        end.last_arrival
    }
}
