//! Frames from the other side.

use std::sync::Arc;

use peerage_wire::{DATA_HEAD_LEN, DataHead, FrameHead, HEAD_LEN, Kind, Message};

use crate::inbox::Inbox;
use crate::{Counters, TransportError};

/// A body of more than this is not kept allocated until the next message.
const KEEP_BODY: usize = 16 << 10;

/// What has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Anything but bulk data.
    Message(Message),
    /// Bulk data: the payload is still to be read, with [`FrameReader::read_payload`] or
    /// [`FrameReader::skip_payload`].
    Data(DataHead),
}

/// What part of a frame comes next.
#[derive(Debug)]
enum Part {
    /// The frame's head, and for data the payload's head, gathered in `head`.
    Head,
    /// A message body, gathered in `body`.
    Body(Kind),
    /// Bytes that nobody wants.
    Skip,
    /// Payload for the caller.
    Payload,
}

/// The receiving half of a connection. Needs no lock and no help from the sending half.
///
/// After an error the stream is lost: every call from then on fails.
#[derive(Debug)]
pub struct FrameReader {
    inbox: Inbox,
    counters: Arc<Counters>,
    part: Part,
    head: [u8; DATA_HEAD_LEN],
    head_len: usize,
    body: Vec<u8>,
    /// Bytes left of the part, for all parts but the head.
    left: usize,
}

impl FrameReader {
    pub(crate) fn new(inbox: Inbox, counters: Arc<Counters>) -> Self {
        Self {
            inbox,
            counters,
            part: Part::Head,
            head: [0; DATA_HEAD_LEN],
            head_len: 0,
            body: Vec::new(),
            left: 0,
        }
    }

    /// The next message, or the head of the next data frame. Passes over extensions (wire: "Frames") and over whatever
    /// is left of the payload before. Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`TransportError::Closed`] if the other side closed between two frames; otherwise the connection has failed or
    /// the other side broke the protocol.
    pub async fn next(&mut self) -> Result<Incoming, TransportError> {
        loop {
            match self.part {
                Part::Payload => self.skip_payload().await?,
                Part::Skip => {
                    self.skip().await?;
                    self.part = Part::Head;
                }
                Part::Head => {
                    if let Some(incoming) = self.next_head().await? {
                        return Ok(incoming);
                    }
                }
                Part::Body(kind) => {
                    while self.left > 0 {
                        let chunk = self.inbox.chunk().await.map_err(within_frame)?;
                        let len = chunk.len().min(self.left);
                        // Grows with what has arrived, not with what a head promises.
                        self.body.extend_from_slice(&chunk[..len]);
                        self.inbox.consume(len);
                        self.left -= len;
                    }
                    let message = Message::decode(kind, &self.body)?;
                    self.body.clear();
                    self.body.shrink_to(KEEP_BODY);
                    self.part = Part::Head;
                    return Ok(Incoming::Message(message));
                }
            }
        }
    }

    /// Fills `out` with the next bytes of the payload. It may be called for the payload in parts of any size; large
    /// parts (64 KiB and more) are the fastest, since records are then opened straight into `out`.
    ///
    /// Not cancel-safe: when the future is dropped, how much of `out` was filled is not known any more. The rest of
    /// the payload can still be skipped.
    ///
    /// # Errors
    /// `out` is longer than [`Self::payload_left`]; or the connection has failed, and `out` holds nothing to be used.
    pub async fn read_payload(&mut self, mut out: &mut [u8]) -> Result<(), TransportError> {
        let allowed = self.payload_left();
        if out.len() > allowed {
            return Err(TransportError::PayloadLength { found: out.len(), allowed });
        }
        while !out.is_empty() {
            let len = self.inbox.read(out).await.map_err(within_frame)?;
            self.left -= len;
            self.counters.add_payload_in(len);
            out = &mut out[len..];
        }
        Ok(())
    }

    /// Bytes of the present data frame's payload that have not been read.
    pub const fn payload_left(&self) -> usize {
        if matches!(self.part, Part::Payload) { self.left } else { 0 }
    }

    /// Passes over the rest of the payload. Cancel-safe.
    ///
    /// # Errors
    /// The connection has failed.
    pub async fn skip_payload(&mut self) -> Result<(), TransportError> {
        if matches!(self.part, Part::Payload) {
            let counters = self.counters.clone();
            let before = self.left;
            let result = self.skip().await;
            counters.add_payload_in(before - self.left);
            result?;
            self.part = Part::Head;
        }
        Ok(())
    }

    async fn skip(&mut self) -> Result<(), TransportError> {
        while self.left > 0 {
            let len = self.inbox.chunk().await.map_err(within_frame)?.len().min(self.left);
            self.inbox.consume(len);
            self.left -= len;
        }
        Ok(())
    }

    /// Gathers a head and sets out the part that follows it.
    async fn next_head(&mut self) -> Result<Option<Incoming>, TransportError> {
        self.gather(HEAD_LEN).await?;
        let [a, b, c, d, kind, ..] = self.head;
        let head = FrameHead::decode([a, b, c, d, kind])?;
        let (FrameHead::Known { body, .. } | FrameHead::Skip { body }) = head;
        self.left = body as usize;
        match head {
            FrameHead::Skip { .. } => self.part = Part::Skip,
            FrameHead::Known { kind: Kind::Data, .. } => {
                if body < 8 {
                    // The head of the payload does not fit: let the codec say so.
                    DataHead::decode(body, [0; 8])?;
                }
                self.gather(DATA_HEAD_LEN).await?;
                let [_, _, _, _, _, rest @ ..] = self.head;
                let head = DataHead::decode(body, rest)?;
                self.left = head.len as usize;
                self.head_len = 0;
                self.part = Part::Payload;
                return Ok(Some(Incoming::Data(head)));
            }
            FrameHead::Known { kind, .. } => self.part = Part::Body(kind),
        }
        self.head_len = 0;
        Ok(None)
    }

    async fn gather(&mut self, want: usize) -> Result<(), TransportError> {
        while self.head_len < want {
            let inside = self.head_len > 0;
            let chunk = match self.inbox.chunk().await {
                Err(error) if inside => return Err(within_frame(error)),
                chunk => chunk?,
            };
            let len = chunk.len().min(want - self.head_len);
            self.head[self.head_len..self.head_len + len].copy_from_slice(&chunk[..len]);
            self.head_len += len;
            self.inbox.consume(len);
        }
        Ok(())
    }
}

/// An orderly end is one between frames.
fn within_frame(error: TransportError) -> TransportError {
    match error {
        TransportError::Closed => TransportError::Truncated,
        other => other,
    }
}
