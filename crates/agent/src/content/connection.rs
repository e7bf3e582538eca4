//! The two tasks of a peer connection: one reads, one writes. They know frames, not plans.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_content::{PeerId, PieceMap};
use peerage_store::{Content, StoreError};
use peerage_swarm::{Event, SourceId, SourceKind};
use peerage_transport::{FrameReader, FrameWriter, Incoming, TransportError};
use peerage_wire::{ByeReason, DataHead, IDLE_TIMEOUT, MAX_MAP_PART, Message, PING_AFTER, RejectCode};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Command;
use super::expect::{Expected, Verdict};
use super::sink::Sink;
use crate::budgets::Gate;

/// A peer that takes no bytes for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is not given up while it takes this many bytes a second.
const SLOWEST: u32 = 1 << 10;
/// Bytes read from a connection at once: small enough that progress is seen and limits hold.
const READ_STEP: usize = 256 << 10;

/// What the writer is told beside bulk data.
#[derive(Debug)]
pub(crate) enum Control {
    Send(Message),
    /// Say goodbye and close.
    Close(ByeReason),
}

/// The actor's end of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: PeerId,
    pub(crate) kind: SourceKind,
    /// Whether this device opened it.
    pub(crate) dialled: bool,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) control: mpsc::UnboundedSender<Control>,
    pub(crate) uploads: mpsc::UnboundedSender<DataHead>,
    pub(crate) expected: Arc<Mutex<Expected>>,
    pub(crate) tasks: [tokio::task::AbortHandle; 2],
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// What both tasks need.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) source: SourceId,
    pub(crate) peer: PeerId,
    pub(crate) content: Content,
    pub(crate) map: PieceMap,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) expected: Arc<Mutex<Expected>>,
    pub(crate) down: Gate,
    pub(crate) up: Gate,
}

/// Starts both tasks.
pub(crate) fn start(
    parts: Parts,
    reader: FrameReader,
    writer: FrameWriter,
    kind: SourceKind,
    address: std::net::SocketAddr,
    dialled: bool,
) -> Link {
    let (control, control_in) = mpsc::unbounded_channel();
    let (uploads, uploads_in) = mpsc::unbounded_channel();
    let (peer, expected) = (parts.peer, Arc::clone(&parts.expected));
    let answers = control.clone();
    let read = tokio::spawn(read_task(parts.clone(), reader, answers));
    let write = tokio::spawn(write_task(parts, writer, control_in, uploads_in));
    let tasks = [read.abort_handle(), write.abort_handle()];
    Link { peer, kind, dialled, address, control, uploads, expected, tasks }
}

async fn read_task(parts: Parts, mut reader: FrameReader, answers: mpsc::UnboundedSender<Control>) {
    let mut sink = Sink::new(parts.content.clone(), parts.source, parts.commands.clone());
    let end = read(&parts, &mut reader, &mut sink, &answers).await;
    // What has arrived is worth keeping, whatever ended the connection.
    let _ = sink.finish().await;
    let command = match end {
        End::Breach(what) => Command::Breach { source: parts.source, peer: parts.peer, what },
        End::Closed => Command::Event(Event::PeerLeft { source: parts.source }),
    };
    let _ = parts.commands.send(command).await;
}

enum End {
    Closed,
    Breach(&'static str),
}

async fn read(
    parts: &Parts,
    reader: &mut FrameReader,
    sink: &mut Sink,
    answers: &mpsc::UnboundedSender<Control>,
) -> End {
    loop {
        let incoming = match timeout(IDLE_TIMEOUT, reader.next()).await {
            Err(_) => return End::Closed,
            Ok(Err(error)) => return end_of(&error),
            Ok(Ok(incoming)) => incoming,
        };
        match incoming {
            Incoming::Data(head) => {
                let verdict = parts.expected.lock().judge(&head);
                let last = match verdict {
                    Verdict::Take { last } => last,
                    Verdict::Skip => {
                        if reader.skip_payload().await.is_err() {
                            return End::Closed;
                        }
                        continue;
                    }
                    Verdict::Refuse => return End::Breach("data that nobody asked for"),
                };
                if let Some(end) = take(parts, reader, sink, &head, last).await {
                    return end;
                }
            }
            Incoming::Message(Message::Ping) => {}
            Incoming::Message(Message::Bye(reason)) => {
                tracing::debug!(peer = %parts.peer.short(), ?reason, "peer says goodbye");
                return End::Closed;
            }
            Incoming::Message(Message::GetMap { offset, len }) => {
                let _ = answers.send(Control::Send(map_part(&parts.map, offset, len)));
            }
            Incoming::Message(Message::Map { .. }) => {
                return End::Breach("a piece map that nobody asked for");
            }
            Incoming::Message(message) => {
                match message {
                    Message::Choke => parts.expected.lock().choked(),
                    Message::Reject { piece, offset, len, .. } => {
                        parts.expected.lock().rejected(piece, offset, len);
                    }
                    _ => {}
                }
                let event = Event::Message { source: parts.source, message };
                if parts.commands.send(Command::Event(event)).await.is_err() {
                    return End::Closed;
                }
            }
        }
    }
}

/// Takes the payload of a data frame into the sink.
async fn take(
    parts: &Parts,
    reader: &mut FrameReader,
    sink: &mut Sink,
    head: &DataHead,
    last: bool,
) -> Option<End> {
    let mut at = head.offset;
    while at < head.offset + head.len {
        let Ok(room) = sink.room(head.piece, at).await else { return Some(End::Closed) };
        let step = room.len().min(READ_STEP).min((head.offset + head.len - at) as usize);
        if step == 0 {
            return Some(End::Breach("data beyond the end of a piece"));
        }
        parts.down.pass(step as u64).await;
        match timeout(IDLE_TIMEOUT, reader.read_payload(&mut room[..step])).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Some(end_of(&error)),
            Err(_) => return Some(End::Closed),
        }
        if sink.filled(step).await.is_err() {
            return Some(End::Closed);
        }
        at += step as u32;
    }
    (last && sink.finish().await.is_err()).then_some(End::Closed)
}

fn end_of(error: &TransportError) -> End {
    match error {
        TransportError::Frame(_) => End::Breach("a malformed frame"),
        _ => End::Closed,
    }
}

/// A part of the piece map in file form, or the refusal of a range that it does not have.
pub(crate) fn map_part(map: &PieceMap, offset: u32, len: u32) -> Message {
    let bytes = map.to_bytes();
    let from = offset as usize;
    let to = from.saturating_add(len.min(MAX_MAP_PART) as usize).min(bytes.len());
    match bytes.get(from..to).filter(|part| !part.is_empty()) {
        Some(part) => Message::Map { offset, bytes: part.to_vec() },
        None => {
            Message::Reject { code: RejectCode::NotHere, piece: peerage_content::PieceIndex(0), offset, len }
        }
    }
}

async fn write_task(
    parts: Parts,
    mut writer: FrameWriter,
    mut control: mpsc::UnboundedReceiver<Control>,
    mut uploads: mpsc::UnboundedReceiver<DataHead>,
) {
    let mut buffer = Vec::new();
    let mut next: Option<DataHead> = None;
    let result: Result<(), TransportError> = async {
        loop {
            // Messages overtake bulk data: a cancel or a have must not wait behind a megabyte.
            tokio::select! {
                biased;
                message = control.recv() => match message {
                    Some(Control::Send(message)) => {
                        send(&mut writer, &message).await?;
                        while let Ok(more) = control.try_recv() {
                            match more {
                                Control::Send(message) => send(&mut writer, &message).await?,
                                Control::Close(reason) => return close(&mut writer, reason).await,
                            }
                        }
                        flush(&mut writer).await?;
                    }
                    Some(Control::Close(reason)) => return close(&mut writer, reason).await,
                    None => return Ok(()),
                },
                head = allowed(&parts.up, next), if next.is_some() => {
                    next = None;
                    upload(&parts, &mut writer, head, &mut buffer).await?;
                }
                Some(head) = uploads.recv(), if next.is_none() => next = Some(head),
                () = tokio::time::sleep(PING_AFTER) => {
                    send(&mut writer, &Message::Ping).await?;
                    flush(&mut writer).await?;
                }
            }
        }
    }
    .await;
    if let Err(error) = result {
        tracing::debug!(peer = %parts.peer.short(), %error, "writing failed");
    }
    let _ = writer.close().await;
    let _ = parts.commands.send(Command::Event(Event::PeerLeft { source: parts.source })).await;
}

/// Waits until policy lets the next upload go. Cancel-safe.
async fn allowed(up: &Gate, next: Option<DataHead>) -> DataHead {
    match next {
        Some(head) => {
            up.pass(u64::from(head.len)).await;
            head
        }
        None => std::future::pending().await,
    }
}

async fn upload(
    parts: &Parts,
    writer: &mut FrameWriter,
    head: DataHead,
    buffer: &mut Vec<u8>,
) -> Result<(), TransportError> {
    let DataHead { piece, offset, len } = head;
    let file = if writer.takes_files() { parts.content.cached_file(piece, offset, len) } else { Ok(None) };
    let found = match file {
        Ok(None) => read_piece(&parts.content, head, buffer).map(|()| None),
        found => found,
    };
    match found {
        Ok(file) => {
            let send = async {
                match &file {
                    Some((file, at)) => writer.send_file(head, file, *at).await?,
                    None => writer.send_data(head, buffer).await?,
                }
                writer.flush().await
            };
            // A governed connection may be slow on purpose, beside somebody else's traffic.
            let patience = WRITE_TIMEOUT + Duration::from_secs(u64::from(len / SLOWEST));
            timeout(patience, send).await.unwrap_or_else(|_| Err(stalled()))?;
        }
        Err(error) => {
            // Found damaged or gone: the peer must look elsewhere, and nobody may ask for it again.
            tracing::warn!(%error, "a piece cannot be served");
            send(writer, &Message::Reject { code: RejectCode::NotHere, piece, offset, len }).await?;
            let _ = parts.commands.send(Command::Event(Event::Lost { piece })).await;
        }
    }
    let event = Event::Sent { source: parts.source, len: head.len };
    let _ = parts.commands.send(Command::Event(event)).await;
    Ok(())
}

/// Fills `buffer` with what was asked for; waits for the disk only if it must.
fn read_piece(content: &Content, head: DataHead, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
    let DataHead { piece, offset, len } = head;
    buffer.resize(len as usize, 0);
    if content.read_cached(piece, offset, buffer)? {
        return Ok(());
    }
    tokio::task::block_in_place(|| content.read(piece, offset, buffer))
}

async fn send(writer: &mut FrameWriter, message: &Message) -> Result<(), TransportError> {
    timeout(WRITE_TIMEOUT, writer.send(message)).await.unwrap_or_else(|_| Err(stalled()))
}

async fn flush(writer: &mut FrameWriter) -> Result<(), TransportError> {
    timeout(WRITE_TIMEOUT, writer.flush()).await.unwrap_or_else(|_| Err(stalled()))
}

async fn close(writer: &mut FrameWriter, reason: ByeReason) -> Result<(), TransportError> {
    send(writer, &Message::Bye(reason)).await?;
    flush(writer).await
}

fn stalled() -> TransportError {
    TransportError::Send(std::io::Error::from(std::io::ErrorKind::TimedOut))
}
