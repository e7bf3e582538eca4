//! One connection: what either end was told and has asked, to hold the engine to it.

use std::time::Duration;

use peerage_content::{BLOCK_SIZE, Bitmap, BlockSet, Layout, PieceIndex};
use peerage_swarm::{SourceId, Time};
use peerage_wire::{MAX_REQUESTS, Message, RejectCode};

/// A request that is neither answered nor taken back.
#[derive(Debug, Clone, Copy)]
struct Asked {
    piece: PieceIndex,
    offset: u32,
    len: u32,
    left: BlockSet,
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
    /// When the last thing sent to this end arrives: nothing overtakes.
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

    /// This end sends `message`; `had` are the blocks that it has of the piece. Says which rule that breaks, if any.
    pub(crate) fn sends(
        &mut self,
        message: &Message,
        layout: Layout,
        have: &Bitmap,
        had: impl Fn(PieceIndex) -> BlockSet,
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
            Message::Request { piece, offset, len } => {
                let left = BlockSet::covered(offset, len, layout.piece_len(piece));
                if self.choked {
                    Err(format!("asks a peer that chokes it for piece {piece}"))
                } else if !layout.fits(piece, offset, len) || offset % BLOCK_SIZE != 0 {
                    Err(format!("asks for [{offset}, +{len}) of piece {piece}, which is not whole blocks of it"))
                } else if !self.knows.contains(piece) {
                    Err(format!("asks for piece {piece} of a peer that does not have it"))
                } else if left.minus(had(piece)) != left {
                    Err(format!("asks for [{offset}, +{len}) of piece {piece}, which it has in part"))
                } else if self.asked.iter().any(|asked| asked.piece == piece && asked.left.minus(left) != asked.left) {
                    Err(format!("asks one peer twice for a part of piece {piece}"))
                } else if self.asked.len() >= MAX_REQUESTS {
                    Err(format!("has more than {MAX_REQUESTS} requests outstanding"))
                } else {
                    self.asked.push(Asked { piece, offset, len, left });
                    Ok(())
                }
            }
            Message::Cancel { piece, offset, len } => {
                self.forget(piece, Some((offset, len)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `message` arrives at this end.
    pub(crate) fn hears(&mut self, message: &Message) {
        match *message {
            Message::Have(ref pieces) => pieces.iter().for_each(|piece| {
                self.knows.insert(*piece);
            }),
            Message::Choke => {
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

    /// Bytes arrive at this end.
    pub(crate) fn receives(&mut self, piece: PieceIndex, blocks: BlockSet) {
        for asked in self.asked.iter_mut().filter(|asked| asked.piece == piece) {
            asked.left = asked.left.minus(blocks);
        }
        self.asked.retain(|asked| !asked.left.is_empty());
    }

    fn forget(&mut self, piece: PieceIndex, part: Option<(u32, u32)>) {
        self.asked.retain(|asked| {
            asked.piece != piece || part.is_some_and(|part| part != (asked.offset, asked.len))
        });
    }
}

impl Conn {
    /// When something sent to end `to` now arrives, given that it cannot arrive before `earliest`.
    pub(crate) fn arrival(&mut self, to: usize, earliest: Time) -> Time {
        let end = &mut self.ends[to];
        end.last_arrival = end.last_arrival.max(earliest);
        end.last_arrival
    }
}
