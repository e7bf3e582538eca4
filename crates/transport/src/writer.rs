//! Frames to the other side.

use std::fs::File;
use std::sync::Arc;

use peerage_wire::{DataHead, MAX_DATA, Message};
use rustls::AlertDescription;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::outbox::Outbox;
use crate::record::MAX_PLAIN;
use crate::{Counters, TransportError};

/// Records kept for the frame that is being written and the closing alert: a data frame takes 66.
const RESERVED_RECORDS: u64 = 256;

/// The sending half of a connection. Needs no lock and no help from the receiving half.
///
/// Frames are gathered and reach the other side with [`FrameWriter::flush`], or when 256 KiB are pending.
#[derive(Debug)]
pub struct FrameWriter {
    outbox: Outbox,
    stream: Arc<TcpStream>,
    counters: Arc<Counters>,
    inside_frame: bool,
}

impl FrameWriter {
    pub(crate) fn new(outbox: Outbox, stream: Arc<TcpStream>, counters: Arc<Counters>) -> Self {
        Self { outbox, stream, counters, inside_frame: false }
    }

    /// Sends a message. Waits only if 256 KiB are pending.
    ///
    /// Not cancel-safe: if the future is dropped while it waits, the stream has half a frame, and every further frame
    /// is refused with [`TransportError::TornFrame`].
    ///
    /// # Errors
    /// The connection has failed, or its keys are used up.
    pub async fn send(&mut self, message: &Message) -> Result<(), TransportError> {
        self.begin()?;
        self.outbox.push(&message.encode()).await?;
        self.inside_frame = false;
        Ok(())
    }

    /// Sends a data frame. The payload is sealed from where it is and not kept. Not cancel-safe, as [`Self::send`].
    ///
    /// # Errors
    /// `payload` is not as long as `head` says, empty, or longer than [`MAX_DATA`]: nothing has been sent. Otherwise as
    /// [`Self::send`].
    pub async fn send_data(&mut self, head: DataHead, payload: &[u8]) -> Result<(), TransportError> {
        let found = payload.len();
        check(head, found)?;
        self.begin()?;
        self.outbox.push(&head.encode()).await?;
        if found >= MAX_PLAIN {
            self.outbox.align()?;
        }
        self.outbox.push(payload).await?;
        self.inside_frame = false;
        self.counters.add_payload_out(found);
        Ok(())
    }

    /// Whether a payload is better sent with [`Self::send_file`]: only clear text needs nothing done to it on the way, and only
    /// where bursts are not bounded ([`crate::Path::set_burst`]) the kernel may take as much at once as it likes.
    pub fn takes_files(&self) -> bool {
        self.outbox.is_clear() && !self.outbox.is_bounded()
    }

    /// Sends a data frame whose payload is in `file` from byte `at`: the kernel sends it from its own memory
    /// (sendfile(2)), without a copy. What is not in its memory is read from the disk meanwhile, which blocks the thread.
    /// Not cancel-safe, as [`Self::send`].
    ///
    /// # Errors
    /// The connection is encrypted, or the length not allowed: nothing has been sent. Otherwise as [`Self::send`]; so
    /// also when the file ends too early.
    pub async fn send_file(&mut self, head: DataHead, file: &File, at: u64) -> Result<(), TransportError> {
        let len = head.len as usize;
        check(head, if self.outbox.is_clear() { len } else { 0 })?;
        self.begin()?;
        self.outbox.push(&head.encode()).await?;
        self.outbox.push_file(file, at, len).await?;
        self.inside_frame = false;
        self.counters.add_payload_out(len);
        Ok(())
    }

    /// Sends everything that is pending; done when the kernel has it. Cancel-safe.
    ///
    /// # Errors
    /// The connection has failed.
    pub async fn flush(&mut self) -> Result<(), TransportError> {
        self.outbox.flush().await
    }

    /// Sends everything, says that nothing more comes, and ends this direction. The other direction stays open.
    ///
    /// # Errors
    /// The connection has failed; or a frame was left unfinished, and the other side will see a cut-off stream.
    pub async fn close(mut self) -> Result<(), TransportError> {
        if self.inside_frame {
            return Err(TransportError::TornFrame);
        }
        self.outbox.push_alert(alert_body(AlertDescription::CloseNotify)).await?;
        self.outbox.flush().await?;
        SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write).map_err(TransportError::Send)
    }

    /// Tells the other side why its stream cannot be read, where TLS wants that (RFC 8446 §6.2). Does not wait; what
    /// is pending and does not fit is not sent.
    pub fn abort(mut self, cause: &TransportError) {
        if let Some(alert) = cause.alert() {
            self.outbox.abort(alert_body(alert));
        }
    }

    fn begin(&mut self) -> Result<(), TransportError> {
        if std::mem::replace(&mut self.inside_frame, true) {
            return Err(TransportError::TornFrame);
        }
        if self.outbox.records_left() < RESERVED_RECORDS {
            // Before the frame, so that the other side sees whole frames and an orderly end.
            self.inside_frame = false;
            return Err(TransportError::RecordLimit);
        }
        Ok(())
    }
}

/// Whether a payload of `found` bytes is what its head says, and allowed.
fn check(head: DataHead, found: usize) -> Result<(), TransportError> {
    let allowed = head.len.min(MAX_DATA) as usize;
    if found != head.len as usize || found != allowed || found == 0 {
        return Err(TransportError::PayloadLength { found, allowed });
    }
    Ok(())
}

/// Level and description (RFC 8446 §6).
fn alert_body(description: AlertDescription) -> [u8; 2] {
    let level = if description == AlertDescription::CloseNotify { 1 } else { 2 };
    [level, description.into()]
}
