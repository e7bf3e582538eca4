//! From a source to the store: gathers bytes of one piece, writes whole blocks, reports what became of them.
//!
//! Each byte is copied from the stream into the buffer once, and hashed and written from there. What became of it is
//! reported by the write itself: a source that is dropped in the middle must not leave blocks in the store that the engine
//! does not know of. One write is under way
//! while the next bytes are read, so that hashing and disk run beside the network. On a fast link a write is a whole buffer or
//! the end of a request: each costs two changes of threads. On a slow one blocks are written as they come, so that a `kill -9`
//! loses next to nothing.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use peerage_content::{BLOCK_SIZE, PieceIndex};
use peerage_store::{Content, StoreError, Written};
use peerage_swarm::{Event, Outcome, SourceId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Command;
use super::buffers::{BUFFER_LEN, Buffer};

/// Whole blocks wait no longer than this for more.
const FLUSH_AFTER: Duration = Duration::from_millis(10);

/// Parts of one piece are written and reported one after the other. Else the report that the piece is whole could overtake
/// that of a part, and the download would end with bytes that nobody has counted. By piece; contents share turns by chance.
static TURNS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];

type Write = JoinHandle<Result<(), Gone>>;

/// The actor is gone: stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone;

#[derive(Debug, Clone, Copy)]
struct Span {
    source: SourceId,
    piece: PieceIndex,
    offset: u32,
    len: u32,
}

/// Gathers the bytes of one source.
#[derive(Debug)]
pub(crate) struct Sink {
    content: Content,
    source: SourceId,
    commands: mpsc::Sender<Command>,
    /// Held while there are bytes in it.
    buffer: Option<Buffer>,
    filled: usize,
    /// Piece and offset of the first byte in the buffer.
    base: (PieceIndex, u32),
    flushed: Instant,
    writing: Option<Write>,
}

impl Sink {
    pub(crate) fn new(content: Content, source: SourceId, commands: mpsc::Sender<Command>) -> Self {
        Self {
            content,
            source,
            commands,
            buffer: None,
            filled: 0,
            base: (PieceIndex(0), 0),
            flushed: Instant::now(),
            writing: None,
        }
    }

    /// Whose bytes it gathers.
    pub(crate) const fn source(&self) -> SourceId {
        self.source
    }

    /// Room for the next bytes, which belong at `offset` of `piece`: at most to the end of the piece.
    pub(crate) async fn room(&mut self, piece: PieceIndex, offset: u32) -> Result<&mut [u8], Gone> {
        let next = self.base.1 + self.filled as u32;
        if self.filled > 0 && (self.base.0 != piece || next != offset) {
            self.flush().await?;
            // Bytes that do not fill a block cannot be stored; they will be asked for again.
            self.filled = 0;
        }
        if self.filled == 0 {
            self.base = (piece, offset);
        }
        let end = self.content.layout().piece_len(piece).saturating_sub(self.base.1) as usize;
        let end = end.min(BUFFER_LEN);
        Ok(&mut self.buffer.get_or_insert_with(Buffer::take)[self.filled.min(end)..end])
    }

    /// `len` bytes were put into the room.
    pub(crate) async fn filled(&mut self, len: usize) -> Result<(), Gone> {
        self.filled += len;
        let piece_end =
            self.base.1 as usize + self.filled >= self.content.layout().piece_len(self.base.0) as usize;
        let due = self.filled >= BLOCK_SIZE as usize && self.flushed.elapsed() >= FLUSH_AFTER;
        if piece_end || due || self.filled == BUFFER_LEN { self.flush().await } else { Ok(()) }
    }

    /// Writes the whole blocks that are there; keeps the rest.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        let (piece, offset) = self.base;
        let piece_len = self.content.layout().piece_len(piece) as usize;
        let at_end = offset as usize + self.filled >= piece_len;
        let whole = if at_end { self.filled } else { self.filled - self.filled % BLOCK_SIZE as usize };
        if whole == 0 {
            return Ok(());
        }
        self.settle().await?;
        let Some(full) = self.buffer.take() else { return Ok(()) };
        let rest = self.filled - whole;
        if rest > 0 {
            self.buffer.get_or_insert_with(Buffer::take)[..rest].copy_from_slice(&full[whole..self.filled]);
        }
        self.filled = rest;
        self.base = (piece, offset + whole as u32);
        self.flushed = Instant::now();
        let (content, commands, source) = (self.content.clone(), self.commands.clone(), self.source);
        let span = Span { source, piece, offset, len: whole as u32 };
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let _turn = TURNS.get(piece.0 as usize % TURNS.len()).map(Mutex::lock);
            let written = content.write(piece, offset, &full[..whole]);
            drop(full);
            report(&content, &commands, span, written)
        }));
        Ok(())
    }

    /// Everything is written and reported.
    pub(crate) async fn finish(&mut self) -> Result<(), Gone> {
        self.flush().await?;
        self.settle().await
    }

    /// Waits for the write under way.
    async fn settle(&mut self) -> Result<(), Gone> {
        let Some(write) = self.writing.take() else { return Ok(()) };
        write.await.unwrap_or(Err(Gone))
    }
}

/// Tells the actor what became of a write. Blocking.
fn report(
    content: &Content,
    commands: &mpsc::Sender<Command>,
    span: Span,
    written: Result<Written, StoreError>,
) -> Result<(), Gone> {
    let Span { source, piece, offset, len } = span;
    let tell = |command| commands.blocking_send(command).map_err(|_| Gone);
    let outcome = match written {
        Ok(Written::Partial) => Outcome::Partial,
        Ok(Written::Verified) => Outcome::Verified,
        // Had already, and perhaps verified before this actor began: the engine learns it now at the latest.
        Ok(Written::Duplicate) if content.have().contains(piece) => Outcome::Verified,
        Ok(Written::Duplicate) => Outcome::Duplicate,
        Err(StoreError::Mismatch { .. }) => Outcome::Corrupt,
        Err(error) => {
            tell(Command::Trouble(std::sync::Arc::new(error)))?;
            return Err(Gone);
        }
    };
    tell(Command::Event(Event::Stored { source, piece, offset, len, outcome }))
}
