//! The two tasks of a peer connection: one reads, one writes. They know frames, not plans.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_content::{BLOCK_SIZE, PeerId, PieceMap, Scope};
use peerage_store::{Content, StoreError};
use peerage_swarm::{Event, SourceId, SourceKind};
use peerage_transport::{FrameReader, FrameWriter, Incoming, TransportError};
use peerage_wire::{
    ByeReason, DataHead, IDLE_TIMEOUT, MAX_MAP_PART, Message, PING_AFTER, RejectCode, Withheld,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Command;
use super::buffers::{BUFFER_LEN, Buffer};
use super::expect::{Expected, Verdict};
pub(crate) use super::outbox::Control;
use super::outbox::{Outbox, Overflow, Words, outbox};
use super::sink::Sink;
use crate::budgets::Gate;
use crate::places::Place;

/// A peer that takes no bytes for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is not given up while it takes this many bytes a second.
const SLOWEST: u32 = 1 << 10;

/// The actor's end of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: PeerId,
    /// Whether this device opened it.
    pub(crate) dialled: bool,
    pub(crate) address: std::net::SocketAddr,
    /// Our end of it.
    pub(crate) local: std::net::SocketAddr,
    /// It was an address of this device when the connection was made, as far as could be seen.
    pub(crate) reached: bool,
    pub(crate) kind: SourceKind,
    /// It goes through the relay, to a peer that was named in this scope. Whatever that is, it is Internet traffic.
    pub(crate) relayed: Option<Scope>,
    /// Where the coordinator saw the peer when it connected; `None`: it is a neighbour by DNS-SD.
    pub(crate) seen_at: Option<peerage_content::Place>,
    /// Whether its frames are encrypted.
    pub(crate) encrypted: bool,
    /// Its place among all connections; `None`: it is being parted from.
    pub(crate) place: Option<Place>,
    /// What it was told last of why it is not served.
    pub(crate) withheld: Withheld,
    pub(crate) control: Outbox,
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
    pub(crate) address: std::net::SocketAddr,
    pub(crate) local: std::net::SocketAddr,
    pub(crate) reached: bool,
    pub(crate) kind: SourceKind,
    pub(crate) relayed: Option<Scope>,
    pub(crate) seen_at: Option<peerage_content::Place>,
    pub(crate) encrypted: bool,
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
    place: Place,
    reader: FrameReader,
    writer: FrameWriter,
    dialled: bool,
) -> Link {
    let (control, words) = outbox();
    let (uploads, uploads_in) = mpsc::unbounded_channel();
    let (peer, expected) = (parts.peer, Arc::clone(&parts.expected));
    let (address, local, reached) = (parts.address, parts.local, parts.reached);
    let (kind, relayed, seen_at) = (parts.kind, parts.relayed, parts.seen_at);
    let (encrypted, place) = (parts.encrypted, Some(place));
    let answers = control.clone();
    let read = tokio::spawn(read_task(parts.clone(), reader, answers));
    let write = tokio::spawn(write_task(parts, writer, words, uploads_in));
    let tasks = [read.abort_handle(), write.abort_handle()];
    Link {
        peer,
        dialled,
        address,
        local,
        reached,
        kind,
        relayed,
        seen_at,
        encrypted,
        place,
        withheld: Withheld::Nothing,
        control,
        uploads,
        expected,
        tasks,
    }
}

async fn read_task(parts: Parts, mut reader: FrameReader, answers: Outbox) {
    let mut sink = Sink::new(parts.content.clone(), parts.source, parts.commands.clone());
    let end = tokio::select! {
        end = read(&parts, &mut reader, &mut sink, &answers) => end,
        overflow = answers.overflow() => match overflow {
            Overflow::Breach(what) => End::Breach(what),
            Overflow::Unread => End::Closed,
        },
    };
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

async fn read(parts: &Parts, reader: &mut FrameReader, sink: &mut Sink, answers: &Outbox) -> End {
    let mut pace = Step::default();
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
                if let Some(end) = take(parts, reader, sink, &head, last, &mut pace).await {
                    return end;
                }
            }
            Incoming::Message(Message::Ping) => {}
            Incoming::Message(Message::Withheld(reason)) => {
                let told = Command::Withheld { source: parts.source, peer: parts.peer, reason };
                if parts.commands.send(told).await.is_err() {
                    return End::Closed;
                }
            }
            Incoming::Message(Message::Bye(reason)) => {
                tracing::debug!(peer = %parts.peer.short(), ?reason, "peer says goodbye");
                return End::Closed;
            }
            Incoming::Message(Message::GetMap { offset, len }) => {
                if let Err(Overflow::Breach(what)) = answers.send(Control::Map { offset, len }) {
                    return End::Breach(what);
                }
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
    pace: &mut Step,
) -> Option<End> {
    let mut at = head.offset;
    while at < head.offset + head.len {
        let Ok(room) = sink.room(head.piece, at).await else { return Some(End::Closed) };
        let most = (pace.0 as usize).min(room.len()).min((head.offset + head.len - at) as usize);
        if most == 0 {
            return Some(End::Breach("data beyond the end of a piece"));
        }
        let began = Instant::now();
        let step = parts.down.pass_some(most, 1).await;
        pace.waited(step as u32, began.elapsed());
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
fn map_part(map: &PieceMap, offset: u32, len: u32) -> Message {
    let bytes = map.part(offset as usize, len.min(MAX_MAP_PART) as usize);
    if bytes.is_empty() {
        Message::Reject { code: RejectCode::NotHere, piece: peerage_content::PieceIndex(0), offset, len }
    } else {
        Message::Map { offset, bytes }
    }
}

async fn write_task(
    parts: Parts,
    mut writer: FrameWriter,
    mut words: Words,
    mut uploads: mpsc::UnboundedReceiver<DataHead>,
) {
    let mut next: Option<Upload> = None;
    let mut step = Step::default();
    let result: Result<(), TransportError> = async {
        loop {
            // Messages overtake bulk data: a cancel or a have must not wait behind a megabyte.
            tokio::select! {
                biased;
                word = words.next() => {
                    let mut word = Some(word.unwrap_or(Control::Close(ByeReason::Stopped)));
                    while let Some(now) = word {
                        match now {
                            Control::Send(message) => send(&mut writer, &message).await?,
                            Control::Map { offset, len } => {
                                send(&mut writer, &map_part(&parts.map, offset, len)).await?;
                            }
                            Control::Close(reason) => return close(&mut writer, reason).await,
                        }
                        word = words.try_next();
                    }
                    flush(&mut writer).await?;
                },
                (head, rest) = allowed(&parts.up, next, &mut step), if next.is_some() => {
                    let rest = upload(&parts, &mut writer, head, rest).await?;
                    next = Some(rest).filter(|rest| rest.left.len > 0);
                    if next.is_none() {
                        let event = Event::Sent { source: parts.source, len: rest.whole };
                        let _ = parts.commands.send(Command::Event(event)).await;
                    }
                }
                Some(head) = uploads.recv(), if next.is_none() => next = Some(Upload { left: head, whole: head.len }),
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

/// An answer on its way.
#[derive(Debug, Clone, Copy)]
struct Upload {
    left: DataHead,
    /// Bytes of all of it.
    whole: u32,
}

impl Upload {
    /// What is left after `len` bytes.
    const fn after(self, len: u32) -> Self {
        let DataHead { piece, offset, len: left } = self.left;
        Self { left: DataHead { piece, offset: offset + len, len: left - len }, ..self }
    }
}

/// Bytes sent or taken in one go. Where a cap makes them wait, it is less at a time: a device that hears nothing of a peer
/// for a quarter of a second looks elsewhere.
#[derive(Debug)]
struct Step(u32);

impl Default for Step {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Step {
    const LONG: Duration = Duration::from_millis(50);

    fn waited(&mut self, len: u32, span: Duration) {
        if span > Self::LONG {
            self.0 = (len / 2).next_multiple_of(BLOCK_SIZE);
        } else if span < Self::LONG / 4 && len == self.0 {
            self.0 = self.0.saturating_mul(2);
        }
    }
}

/// Waits until policy lets the next bytes go. Cancel-safe.
async fn allowed(up: &Gate, next: Option<Upload>, step: &mut Step) -> (DataHead, Upload) {
    match next {
        Some(rest) => {
            let most = rest.left.len.min(step.0).min(BUFFER_LEN as u32);
            let began = Instant::now();
            let len = up.pass_some(most as usize, BLOCK_SIZE as usize).await;
            let len = u32::try_from(len).unwrap_or(most);
            step.waited(len, began.elapsed());
            (DataHead { len, ..rest.left }, rest)
        }
        None => std::future::pending().await,
    }
}

/// Sends `head` of what is `left`, or says that it cannot be had; returns what is left then.
async fn upload(
    parts: &Parts,
    writer: &mut FrameWriter,
    head: DataHead,
    rest: Upload,
) -> Result<Upload, TransportError> {
    let DataHead { piece, offset, len } = head;
    let file = if writer.takes_files() { parts.content.cached_file(piece, offset, len) } else { Ok(None) };
    let found = match file {
        Ok(None) => read_piece(&parts.content, head).map(Found::Bytes),
        Ok(Some((file, at))) => Ok(Found::File(file, at)),
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => {
            let send = async {
                match &found {
                    Found::File(file, at) => writer.send_file(head, file, *at).await?,
                    Found::Bytes(buffer) => writer.send_data(head, &buffer[..len as usize]).await?,
                }
                writer.flush().await
            };
            // A governed connection may be slow on purpose, beside somebody else's traffic.
            let patience = WRITE_TIMEOUT + Duration::from_secs(u64::from(len / SLOWEST));
            timeout(patience, send).await.unwrap_or_else(|_| Err(stalled()))?;
            Ok(rest.after(len))
        }
        Err(error) => {
            // Found damaged or gone: the peer must look elsewhere, and nobody may ask for it again.
            tracing::warn!(%error, "a piece cannot be served");
            let DataHead { piece, offset, len } = rest.left;
            send(writer, &Message::Reject { code: RejectCode::NotHere, piece, offset, len }).await?;
            let _ = parts.commands.send(Command::Event(Event::Lost { piece })).await;
            Ok(rest.after(len))
        }
    }
}

/// Where the bytes of an answer are.
enum Found {
    /// In the page cache, at this place in the file.
    File(Arc<std::fs::File>, u64),
    /// Here, and whatever else the buffer has room for.
    Bytes(Buffer),
}

/// Reads what was asked for; waits for the disk only if it must.
fn read_piece(content: &Content, head: DataHead) -> Result<Buffer, StoreError> {
    let DataHead { piece, offset, len } = head;
    let mut buffer = Buffer::take();
    let bytes = &mut buffer[..len as usize];
    if !content.read_cached(piece, offset, bytes)? {
        tokio::task::block_in_place(|| content.read(piece, offset, bytes))?;
    }
    Ok(buffer)
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
