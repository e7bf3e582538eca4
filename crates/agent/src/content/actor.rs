//! The actor: one loop around the engine of one content.
//!
//! It ends by itself: when nobody here wants an incomplete content any more, and when a complete one has had no peers
//! for a while (the next peer starts it again). What survives it is in the store.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_api::coordinator::SwarmItem;
use peerage_content::{ContentId, ContentRecord, PeerId, PieceMap, Scope, Signed};
use peerage_origin::{Known, SourceUrl};
use peerage_policy::{Class, RecordState};
use peerage_store::{Busy, Content, StoreError};
use peerage_swarm::{
    Action, ByKind, Candidate, Event, FetchId, Limits, Offence, SourceId, SourceKind, Start, Transfer,
};
use peerage_transport as transport;
use peerage_wire::{ByeReason, DataHead, Message};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::connection::{self, Control, Link, Parts};
use super::expect::Expected;
use super::fetch::{self, Fetch};
use super::sink::Sink;
use super::status::PeerRow;
use super::{Command, ContentHandle, ContentStatus, Trouble, Want};
use crate::admission::{self, Admitted};
use crate::shared::Shared;

/// Commands that may wait: enough that reporting tasks seldom do.
const QUEUE: usize = 1024;
/// How often the state is shown while something moves.
const STATUS_EVERY: Duration = Duration::from_millis(200);
/// A complete content without peers is kept awake this long.
const IDLE_END: Duration = Duration::from_secs(30);
/// After trouble with the disk it is tried again after this time.
const DISK_RETRY: Duration = Duration::from_secs(2);
/// Counters are saved this often: what a `kill -9` may lose of them.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// A connection that was told to close is dropped after this time.
const CLOSE_TIME: Duration = Duration::from_secs(1);

struct Http {
    url: SourceUrl,
    known: Known,
}

struct Actor {
    shared: Arc<Shared>,
    content: Content,
    map: PieceMap,
    transfer: Transfer,
    commands: mpsc::Sender<Command>,
    status: watch::Sender<Arc<ContentStatus>>,
    wants: BTreeMap<u64, Want>,
    record: Option<Signed<ContentRecord>>,
    links: BTreeMap<SourceId, Link>,
    next_source: u32,
    http: BTreeMap<SourceId, Http>,
    fetches: HashMap<FetchId, tokio::task::AbortHandle>,
    /// Addresses and kind of the peers that discovery named.
    known: BTreeMap<PeerId, (Vec<SocketAddr>, SourceKind)>,
    trouble: Option<Trouble>,
    retry_at: Option<Instant>,
    idle_since: Option<Instant>,
    share: bool,
    limits: Limits,
    reasons: Vec<String>,
    /// Counters from before this actor.
    before: (ByKind, ByKind, u64),
    saved_at: Instant,
    /// Keeps the content from being evicted.
    _busy: Busy,
}

/// Starts the actor of a content.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    content: Content,
    map: PieceMap,
) -> Result<ContentHandle, StoreError> {
    let (commands, inbox) = mpsc::channel(QUEUE);
    let (status, status_out) = watch::channel(Arc::new(ContentStatus::default()));
    let busy = content.busy()?;
    let notes = content.notes();
    let limits = Limits::default();
    let mut seed = [0; 8];
    // Without randomness the engine's choices are the same as another device's: worse spread, nothing broken.
    let _ = getrandom::fill(&mut seed);
    let transfer = Transfer::new(Start {
        me: shared.identity.peer(),
        layout: content.layout(),
        have: content.have(),
        partial: content.partials(),
        limits,
        seed: u64::from_le_bytes(seed),
    });
    let handle = ContentHandle {
        id: content.id(),
        content: content.clone(),
        commands: commands.clone(),
        status: status_out,
    };
    let record = crate::notes::record(&notes, &shared.coordinator.catalog_keys());
    let mut actor = Actor {
        before: crate::notes::counters(&notes),
        shared,
        content,
        map,
        transfer,
        commands,
        status,
        wants: BTreeMap::new(),
        record,
        links: BTreeMap::new(),
        next_source: 0,
        http: BTreeMap::new(),
        fetches: HashMap::new(),
        known: BTreeMap::new(),
        trouble: None,
        retry_at: None,
        idle_since: Some(Instant::now()),
        share: false,
        limits,
        reasons: Vec::new(),
        saved_at: Instant::now(),
        _busy: busy,
    };
    actor.apply_policy();
    actor.show();
    tokio::spawn(actor.run(inbox));
    Ok(handle)
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut policy = self.shared.policy.clone();
        let mut next_status = Instant::now();
        loop {
            self.perform();
            let now = Instant::now();
            if now >= next_status {
                self.show();
                next_status = now + STATUS_EVERY;
            }
            if self.is_over(now) {
                break;
            }
            let timeout = self.transfer.poll_timeout().map(|time| self.shared.clock.instant(time));
            let moving = !self.links.is_empty() || !self.fetches.is_empty() || !self.wants.is_empty();
            let wake = [timeout, self.retry_at, moving.then_some(next_status), self.end_at()];
            let wake = wake.into_iter().flatten().min();
            tokio::select! {
                command = inbox.recv() => match command {
                    None | Some(Command::Stop) => break,
                    Some(command) => {
                        self.command(command);
                        for _ in 0..QUEUE {
                            match inbox.try_recv() {
                                Ok(Command::Stop) => return self.end(ByeReason::ShuttingDown).await,
                                Ok(command) => self.command(command),
                                Err(_) => break,
                            }
                        }
                    }
                },
                () = async { tokio::time::sleep_until(wake.unwrap_or(now)).await }, if wake.is_some() => self.tick(),
                changed = policy.changed() => match changed {
                    Ok(()) => self.apply_policy(),
                    Err(_) => break,
                },
            }
        }
        self.end(ByeReason::Stopped).await;
    }

    fn id(&self) -> ContentId {
        self.content.id()
    }

    fn now(&self) -> peerage_swarm::Time {
        self.shared.clock.now()
    }

    fn feed(&mut self, event: Event) {
        let now = self.now();
        self.transfer.handle(event, now);
    }

    // === Life and death ===

    fn end_at(&self) -> Option<Instant> {
        self.idle_since.map(|since| since + IDLE_END)
    }

    fn is_over(&mut self, now: Instant) -> bool {
        if !self.transfer.is_complete() {
            // Between its start and the first join it waits a little.
            return self.wants.is_empty() && self.end_at().is_none_or(|end| now >= end);
        }
        let idle = self.wants.is_empty() && self.links.is_empty();
        self.idle_since = if idle { self.idle_since.or(Some(now)) } else { None };
        self.end_at().is_some_and(|end| now >= end)
    }

    async fn end(mut self, reason: ByeReason) {
        for (_, fetch) in self.fetches.drain() {
            fetch.abort();
        }
        for link in self.links.values() {
            let _ = link.control.send(Control::Close(reason));
        }
        self.save_counters();
        self.show();
        if !self.transfer.is_complete() {
            self.shared.announcer.poke(self.id());
        }
        // The writers need a moment to say goodbye; dropping the links ends what is left of them.
        let goodbye = async {
            for link in self.links.values() {
                link.control.closed().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), goodbye).await;
    }

    fn tick(&mut self) {
        let now = self.now();
        self.transfer.handle_timeout(now);
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            self.feed(Event::Pause(false));
        }
        if self.saved_at.elapsed() >= SAVE_EVERY {
            self.save_counters();
        }
    }

    fn save_counters(&mut self) {
        self.saved_at = Instant::now();
        let (received, sent, wasted) = self.counters();
        let (content, record) = (self.content.clone(), self.record.clone());
        tokio::task::block_in_place(|| {
            let mut notes = content.notes();
            crate::notes::set_counters(&mut notes, &received, &sent, wasted);
            crate::notes::set_source(&mut notes, None, record.as_ref());
            if let Err(error) = content.set_notes(notes) {
                tracing::debug!(%error, "counters were not saved");
            }
        });
    }

    // === Commands ===

    fn command(&mut self, command: Command) {
        match command {
            Command::Join(want) => self.join(*want),
            Command::Leave { want } => self.leave(want),
            Command::Swarm(item) => self.discovered(item),
            Command::Connected(admitted) => self.connected(*admitted),
            Command::Event(Event::PeerLeft { source }) => self.peer_left(source),
            Command::Event(event) => {
                match &event {
                    Event::FetchDone { fetch } | Event::FetchFailed { fetch, .. } => {
                        self.fetches.remove(fetch);
                    }
                    Event::Stored { .. } => self.trouble = None,
                    _ => {}
                }
                self.feed(event);
            }
            Command::HttpFailed(error) => self.trouble = Some(Trouble::Origin(error)),
            Command::Trouble(error) => self.disk_trouble(error),
            Command::Breach { source, peer, what } => {
                self.shared.charge(peer, Offence::Protocol(what));
                self.peer_left(source);
                self.feed(Event::Banned { peer });
            }
            // Handled by the loop.
            Command::Stop => {}
        }
    }

    fn join(&mut self, want: Want) {
        self.idle_since = None;
        if let Some(record) = &want.record {
            self.record = Some(record.clone());
        }
        if let Some((url, known)) = want.origin.clone()
            && !self.http.values().any(|http| http.url.as_str() == url.as_str())
        {
            let source = self.new_source();
            let known_rate = self.shared.origin_rate(&host_key(&url));
            self.http.insert(source, Http { url, known });
            self.feed(Event::HttpJoined { source, kind: SourceKind::Cdn, known_rate });
        }
        self.wants.insert(want.id, want);
        self.apply_policy();
    }

    fn leave(&mut self, want: u64) {
        self.wants.remove(&want);
        self.apply_policy();
    }

    fn new_source(&mut self) -> SourceId {
        self.next_source += 1;
        SourceId(self.next_source)
    }

    /// The disk failed: stop asking for bytes, say why, let the cache make room, try again.
    fn disk_trouble(&mut self, error: Arc<StoreError>) {
        if self.retry_at.is_none() {
            tracing::warn!(content = %self.id(), %error, "downloads pause: the disk failed");
        }
        self.trouble = Some(Trouble::Disk(error));
        self.retry_at = Some(Instant::now() + DISK_RETRY);
        self.shared.make_room.notify_one();
        self.feed(Event::Pause(true));
    }

    // === Peers ===

    fn discovered(&mut self, item: Option<Box<SwarmItem>>) {
        let Some(item) = item else {
            self.feed(Event::Discovered { candidates: Vec::new(), ordinal: None, downloaders: 0 });
            return;
        };
        let own = self.shared.identity.peer();
        let mut candidates = Vec::new();
        for info in item.peers {
            if info.peer == own || self.shared.is_banned(&info.peer) || info.addresses.is_empty() {
                continue;
            }
            let kind = match info.scope {
                Scope::Lan => SourceKind::Lan,
                Scope::Group => SourceKind::Group,
                Scope::Internet => SourceKind::Internet,
            };
            let mut addresses = info.addresses;
            addresses.truncate(8);
            self.known.insert(info.peer, (addresses, kind));
            candidates.push(Candidate { peer: info.peer, kind, seed: info.seed });
        }
        let others = item.members.saturating_sub(item.seeds);
        let downloaders = others.saturating_sub(u32::from(!self.transfer.is_complete()));
        self.feed(Event::Discovered { candidates, ordinal: Some(item.ordinal), downloaders });
    }

    fn dial(&mut self, peer: PeerId) {
        let Some((addresses, kind)) = self.known.get(&peer).cloned() else {
            self.feed(Event::DialFailed { peer });
            return;
        };
        let (shared, commands, content) =
            (Arc::clone(&self.shared), self.commands.clone(), self.content.clone());
        tokio::spawn(async move {
            let command = match dial(&shared, peer, &addresses, kind, &content).await {
                Ok(admitted) => Command::Connected(Box::new(admitted)),
                Err(why) => {
                    tracing::debug!(peer = %peer.short(), why, "no connection");
                    Command::Event(Event::DialFailed { peer })
                }
            };
            let _ = commands.send(command).await;
        });
    }

    fn connected(&mut self, admitted: Admitted) {
        let Admitted { peer, address, kind, dialled, have, told, reader, writer } = admitted;
        if self.shared.is_banned(&peer) {
            self.feed(Event::DialFailed { peer });
            return;
        }
        if let Some((source, old)) = self.links.iter().find(|(_, link)| link.peer == peer) {
            // Both sides keep the connection that the lower key opened.
            let own_is_lower = self.shared.identity.peer() < peer;
            let keep_new = dialled == own_is_lower && old.dialled != own_is_lower;
            if !keep_new {
                tokio::spawn(say_bye(writer, ByeReason::AlreadyConnected));
                return;
            }
            let source = *source;
            if let Some(old) = self.links.get(&source) {
                let _ = old.control.send(Control::Close(ByeReason::AlreadyConnected));
            }
            self.peer_left(source);
        }
        let source = self.new_source();
        let parts = Parts {
            source,
            peer,
            content: self.content.clone(),
            map: self.map.clone(),
            commands: self.commands.clone(),
            expected: Arc::new(Mutex::new(Expected::default())),
            down: self.limiter(),
            up: Arc::clone(&self.shared.limiters.upload),
        };
        self.known.entry(peer).or_insert_with(|| (vec![address], kind));
        let link = connection::start(parts, reader, writer, address, dialled);
        // What was verified between our hello and now.
        let news: Vec<_> = self.transfer.have().iter().filter(|piece| !told.contains(*piece)).collect();
        if !news.is_empty() {
            let _ = link.control.send(Control::Send(Message::Have(news)));
        }
        self.links.insert(source, link);
        self.feed(Event::PeerJoined { source, peer, kind, have });
    }

    fn peer_left(&mut self, source: SourceId) {
        if self.links.remove(&source).is_some() {
            self.feed(Event::PeerLeft { source });
        }
    }

    // === Actions ===

    fn perform(&mut self) {
        loop {
            let now = self.now();
            let Some(action) = self.transfer.poll_action(now) else { break };
            match action {
                Action::Dial { peer } => self.dial(peer),
                Action::Send { source, message } => self.send(source, message),
                Action::Upload { source, piece, offset, len } => {
                    if let Some(link) = self.links.get(&source) {
                        let _ = link.uploads.send(DataHead { piece, offset, len });
                    }
                }
                Action::Fetch { source, fetch, start, end } => self.fetch(source, fetch, start, end),
                Action::CancelFetch { fetch } => {
                    if let Some(task) = self.fetches.remove(&fetch) {
                        task.abort();
                    }
                }
                Action::Disconnect { source, reason } => self.disconnect(source, reason),
                Action::Charge { peer, offence } => self.shared.charge(peer, offence),
                Action::HttpCorrupt { .. } => self.trouble = Some(Trouble::OriginCorrupt),
                Action::NeedPeers => self.shared.announcer.poke(self.id()),
                Action::Complete => self.complete(),
            }
        }
    }

    fn send(&mut self, source: SourceId, message: Message) {
        let Some(link) = self.links.get(&source) else { return };
        match message {
            Message::Request { piece, offset, len } => link.expected.lock().ask(piece, offset, len),
            Message::Cancel { piece, offset, len } => link.expected.lock().cancel(piece, offset, len),
            _ => {}
        }
        let _ = link.control.send(Control::Send(message));
    }

    fn disconnect(&mut self, source: SourceId, reason: ByeReason) {
        let Some(link) = self.links.get(&source) else { return };
        let _ = link.control.send(Control::Close(reason));
        let commands = self.commands.clone();
        tokio::spawn(async move {
            tokio::time::sleep(CLOSE_TIME).await;
            let _ = commands.send(Command::Event(Event::PeerLeft { source })).await;
        });
    }

    fn limiter(&self) -> Arc<crate::limiter::Limiter> {
        let limiters = &self.shared.limiters;
        Arc::clone(if self.limits.foreground { &limiters.foreground } else { &limiters.background })
    }

    fn fetch(&mut self, source: SourceId, id: FetchId, start: u64, end: u64) {
        let Some(http) = self.http.get(&source) else { return };
        let fetch = Fetch { id, url: http.url.clone(), start, end, known: http.known.clone() };
        let sink = Sink::new(self.content.clone(), source, self.commands.clone());
        let (origin, limiter, commands) = (self.shared.origin.clone(), self.limiter(), self.commands.clone());
        let task = tokio::spawn(fetch::run(fetch, origin, sink, limiter, commands));
        self.fetches.insert(id, task.abort_handle());
    }

    fn complete(&mut self) {
        for http in self.http.values() {
            if let Some(rate) = self.transfer.http_rate(SourceKind::Cdn) {
                self.shared.learn_origin_rate(&host_key(&http.url), rate);
            }
        }
        self.save_counters();
        self.shared.announcer.poke(self.id());
        self.show();
        self.seal();
    }

    /// Syncs the complete content to the disk, beside everything else: whoever waits for the file need not wait for
    /// that. After a power cut before its end the pieces are hashed again.
    fn seal(&self) {
        let (content, unix, commands) =
            (self.content.clone(), self.shared.clock.unix(), self.commands.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = content.seal(unix) {
                // The actor's queue is its own affair; a lost word means that sealing is tried at the next start.
                let _ = commands.try_send(Command::Trouble(Arc::new(error)));
            }
        });
    }

    // === Policy ===

    fn apply_policy(&mut self) {
        let foreground = self.wants.values().any(|want| want.foreground);
        let class = if foreground { Class::Foreground } else { Class::Background };
        let state =
            self.record.as_ref().map_or(RecordState::Missing, |record| RecordState::Held(record.get()));
        let decision = self.shared.decide(class, state, Some(self.content.layout().size()));
        self.reasons = decision.reasons.iter().map(peerage_policy::Reason::sentence).collect();
        self.share = !decision.allowed.serve.is_empty();
        let limits = Limits {
            max_peers: decision.limits.peer_connections as usize,
            download_from_peers: !decision.allowed.fetch.is_empty(),
            upload_to_peers: self.share,
            origin_delay: Duration::from_secs(decision.limits.origin_delay),
            min_rate: self.shared.policy().settings.min_background_qos,
            foreground,
        };
        if limits != self.limits || self.idle_since.is_some() {
            self.limits = limits;
            self.feed(Event::Limits(limits));
        }
    }

    // === Showing ===

    fn counters(&self) -> (ByKind, ByKind, u64) {
        let stats = self.transfer.stats(self.now());
        let (received, sent, wasted) = &self.before;
        (received.plus(&stats.received), sent.plus(&stats.sent), wasted + stats.wasted)
    }

    fn show(&self) {
        let stats = self.transfer.stats(self.now());
        let (received, sent, wasted) = self.counters();
        let size = self.content.layout().size();
        let have = self.transfer.have();
        let last = peerage_content::PieceIndex(have.len().saturating_sub(1));
        let short = u64::from(peerage_content::PIECE_SIZE) - u64::from(self.content.layout().piece_len(last));
        let full = u64::from(have.count()) * u64::from(peerage_content::PIECE_SIZE);
        let verified = if have.contains(last) { full - short } else { full };
        let status = ContentStatus {
            complete: self.transfer.is_complete(),
            verified_bytes: verified.min(size),
            received,
            sent,
            wasted,
            down_rate: stats.down_rate,
            up_rate: stats.up_rate,
            known_peers: stats.known_peers,
            http_connections: self.fetches.len() as u32,
            peers: self.peer_rows(),
            trouble: self.trouble.clone(),
            share: self.share,
            reasons: self.reasons.clone(),
        };
        self.status.send_replace(Arc::new(status));
    }

    fn peer_rows(&self) -> Vec<PeerRow> {
        let mut rows = BTreeMap::new();
        for (peer, (addresses, kind)) in &self.known {
            let Some(address) = addresses.first() else { continue };
            let note = self.shared.ban_note(peer);
            let row = PeerRow {
                peer: *peer,
                address: *address,
                kind: *kind,
                connected: false,
                received: 0,
                sent: 0,
                down_rate: 0,
                up_rate: 0,
                note,
            };
            rows.insert(*peer, row);
        }
        for stats in self.transfer.peer_stats(self.now()) {
            let Some(link) = self.links.get(&stats.source) else { continue };
            let note = self.shared.ban_note(&stats.peer);
            let row = PeerRow {
                peer: stats.peer,
                address: link.address,
                kind: stats.kind,
                connected: true,
                received: stats.received,
                sent: stats.sent,
                down_rate: stats.down_rate,
                up_rate: stats.up_rate,
                note,
            };
            rows.insert(stats.peer, row);
        }
        rows.into_values().collect()
    }
}

fn host_key(url: &SourceUrl) -> String {
    format!("{}:{}", url.host(), url.port())
}

/// Connects to one of a peer's addresses and exchanges hellos.
async fn dial(
    shared: &Shared,
    peer: PeerId,
    addresses: &[SocketAddr],
    kind: SourceKind,
    content: &Content,
) -> Result<Admitted, String> {
    let options = shared.connect_options();
    let mut why = "no address".to_owned();
    for address in addresses {
        let address = *address;
        // A socket bound to an IPv4 address cannot reach IPv6, and the other way round.
        let options = transport::Options {
            bind: options.bind.filter(|bind| bind.is_ipv4() == address.is_ipv4()),
            ..options
        };
        match transport::connect(address, peer, &shared.identity, &options).await {
            Ok(connection) => {
                let have = content.have();
                return admission::greet(shared, connection, kind, content.id(), content.layout(), have)
                    .await
                    .map_err(|refused| refused.to_string());
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

async fn say_bye(mut writer: transport::FrameWriter, reason: ByeReason) {
    let bye = async {
        writer.send(&Message::Bye(reason)).await?;
        writer.flush().await?;
        writer.close().await
    };
    let _ = tokio::time::timeout(CLOSE_TIME, bye).await;
}
