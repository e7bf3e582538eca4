//! The actor: one loop around the engine of one content.
//!
//! It ends by itself: when nobody here wants an incomplete content any more, and when a complete one has had no peers
//! for a while (the next peer starts it again). What survives it is in the store.

mod actions;
mod caches;
mod conditions;
mod dial;
mod peers;
mod show;
mod withheld;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerage_api::why::Because;
use peerage_content::{ContentId, ContentRecord, PeerId, PieceMap, Place as SeenAt, Signed};
use peerage_origin::{Known, SourceUrl};
use peerage_policy::{Allowed, Class};
use peerage_store::{Busy, Content, StoreError};
use peerage_swarm::{
    ByKind, Event, FetchError, FetchId, Limits, Offence, SourceId, SourceKind, Start, Transfer,
};
use peerage_wire::{ByeReason, Withheld};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use conditions::Place;

use super::connection::{Control, Link};
use super::status::Parted;
use super::{Command, ContentHandle, ContentStatus, Trouble, Want};
use crate::budgets::Lane;
use crate::caches::CachedAt;
use crate::housekeeping::DISK_RETRY;
use crate::rangeless::host_key;
use crate::relay::Unmet;
use crate::shared::Shared;
use crate::why::Account;

/// Commands that may wait: enough that reporting tasks seldom do.
const QUEUE: usize = 1024;
/// How often the state is shown while something moves.
const STATUS_EVERY: Duration = Duration::from_millis(200);
/// A complete content without peers is kept awake this long.
const IDLE_END: Duration = Duration::from_secs(30);
/// Counters are saved this often: what a `kill -9` may lose of them.
const SAVE_EVERY: Duration = Duration::from_secs(10);

struct Http {
    url: SourceUrl,
    known: Known,
    /// It ignores ranges.
    whole: bool,
    /// The cache that it is; else the origin.
    cache: Option<CachedAt>,
    /// It must not be asked any more.
    left: bool,
}

/// A range on its way.
struct Running {
    source: SourceId,
    start: u64,
    task: tokio::task::AbortHandle,
}

struct Actor {
    /// Keeps the content from being evicted. First: it is let go of before the status channel tells of the end.
    _busy: Busy,
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
    fetches: HashMap<FetchId, Running>,
    /// Addresses and kind of the peers that discovery named.
    known: BTreeMap<PeerId, (Vec<SocketAddr>, SourceKind)>,
    /// Why those of them that could not be reached were not met through the relay either.
    unmet: BTreeMap<PeerId, Unmet>,
    /// What came from and went to peers over connections that have ended.
    parted: BTreeMap<PeerId, Parted>,
    /// Why connected peers do not serve this device, as far as they say.
    withholders: BTreeMap<SourceId, Withheld>,
    /// Why peers of each kind are not served here, as policy has decided it.
    own_reason: Withheld,
    trouble: Option<Trouble>,
    retry_at: Option<Instant>,
    idle_since: Option<Instant>,
    /// Its time in the cache is over.
    retired: bool,
    /// What policy lets this content do.
    allowed: Allowed,
    /// Files that may be served at once.
    slots: Option<u64>,
    /// Whether this one is among them.
    place: Place,
    /// Policy holds the download back for now.
    held: bool,
    /// Where the coordinator saw this device last.
    seen_at: Option<SeenAt>,
    /// The network of [`crate::policy::PolicyView::network`] that was seen last.
    network: u64,
    limits: Limits,
    lane: Arc<Lane>,
    reasons: Vec<Because>,
    /// Which decisions held while bytes were missing.
    account: Arc<Account>,
    /// Counters of what did not come through this actor: from before it, and what downloads brought along.
    before: (ByKind, ByKind, u64),
    saved_at: Instant,
    /// The state shown last had bytes moving: it must be shown again when they have stopped.
    shown_moving: bool,
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
    let lane = shared.budgets.lane(Class::Background);
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
    let record = crate::notes::record(&notes, &shared.record_keys());
    let (allowed, network) = (shared.decide_device().allowed, shared.policy().network);
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
        unmet: BTreeMap::new(),
        parted: BTreeMap::new(),
        withholders: BTreeMap::new(),
        own_reason: Withheld::Nothing,
        trouble: None,
        retry_at: None,
        idle_since: Some(Instant::now()),
        retired: false,
        allowed,
        slots: None,
        place: Place::Served,
        held: false,
        seen_at: None,
        network,
        limits,
        lane,
        reasons: Vec::new(),
        account: Arc::new(crate::notes::account(&notes)),
        saved_at: Instant::now(),
        shown_moving: false,
        _busy: busy,
    };
    actor.apply_policy();
    actor.show();
    let shared = Arc::clone(&actor.shared);
    tokio::spawn(async move {
        actor.run(inbox).await;
        shared.cache_news.notify_one();
    });
    Ok(handle)
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut policy = self.shared.policy.clone();
        let mut neighbours = self.shared.neighbours.changes();
        let mut next_status = Instant::now();
        loop {
            self.perform();
            let now = Instant::now();
            if now >= next_status {
                if self.slots.is_some() && self.ask_place() != self.place {
                    self.apply_policy();
                }
                self.show();
                next_status = now + STATUS_EVERY;
            }
            if self.is_over(now) {
                break;
            }
            let timeout = self.transfer.poll_timeout().map(|time| self.shared.clock.instant(time));
            let moving = self.shown_moving
                || !self.links.is_empty()
                || !self.fetches.is_empty()
                || !self.wants.is_empty();
            let wake = [timeout, self.retry_at, moving.then_some(next_status), self.end_at()];
            let wake = wake.into_iter().flatten().min();
            tokio::select! {
                command = inbox.recv() => match command {
                    None | Some(Command::Stop) => break,
                    Some(command) => {
                        self.command(command);
                        for _ in 0..QUEUE {
                            match inbox.try_recv() {
                                Ok(Command::Stop) => return self.end(inbox, ByeReason::ShuttingDown).await,
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
                Ok(()) = neighbours.changed() => self.meet_neighbours(),
            }
        }
        self.end(inbox, ByeReason::Stopped).await;
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
        (idle && self.retired) || self.end_at().is_some_and(|end| now >= end)
    }

    /// A download that joins too late sees the status channel close and starts another actor.
    async fn end(mut self, mut inbox: mpsc::Receiver<Command>, reason: ByeReason) {
        for (_, running) in self.fetches.drain() {
            running.task.abort();
        }
        for link in self.links.values() {
            let _ = link.control.send(Control::Close(reason));
        }
        self.shared.leave_slot(self.id());
        self.save_counters();
        // Whoever comes from here on waits for the end and starts another; it reads the counters saved now.
        inbox.close();
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
            self.feed(Event::Pause(self.held));
        }
        if self.saved_at.elapsed() >= SAVE_EVERY {
            self.save_counters();
        }
    }

    fn save_counters(&mut self) {
        self.saved_at = Instant::now();
        let (received, sent, wasted) = self.counters();
        let (content, record, account) =
            (self.content.clone(), self.record.clone(), Arc::clone(&self.account));
        tokio::task::block_in_place(|| {
            let saved = content.change_notes(|notes| {
                crate::notes::set_counters(notes, &received, &sent, wasted);
                crate::notes::set_source(notes, None, record.as_ref());
                crate::notes::set_account(notes, &account);
            });
            if let Err(error) = saved {
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
            Command::Unmet { peer, why } => self.unmet(peer, why),
            Command::Event(Event::PeerLeft { source }) => self.peer_left(source),
            Command::Event(event) => {
                match &event {
                    Event::FetchDone { fetch } => {
                        let ended = self.fetches.remove(fetch);
                        if let Some(at) = ended.as_ref().and_then(|ended| self.cache_of(ended.source)) {
                            self.shared.caches.delivered(at);
                        }
                        let ended = ended.filter(|ended| ended.start > 0);
                        let http = ended.and_then(|ended| self.http.get(&ended.source));
                        if let Some(http) = http.filter(|http| !http.whole && http.cache.is_none()) {
                            self.shared.rangeless.obeys(&http.url);
                        }
                    }
                    Event::FetchFailed { fetch, error } => {
                        let of = self.fetches.remove(fetch).map(|running| running.source);
                        let http = of.and_then(|source| self.http.get_mut(&source));
                        if let Some(http) = http.filter(|_| *error == FetchError::Whole) {
                            http.whole = true;
                            if http.cache.is_none() {
                                self.shared.rangeless.note(&http.url, self.shared.clock.unix());
                            }
                        }
                    }
                    Event::Stored { .. } => self.set_trouble(None),
                    _ => {}
                }
                self.feed(event);
            }
            Command::HttpFailed { source, error } => self.http_failed(source, error),
            Command::Withheld { source, peer, reason } => self.withheld(source, peer, reason),
            Command::OriginFailed(error) => self.set_trouble(Some(Trouble::Origin(error))),
            Command::Trouble(error) => self.disk_trouble(error),
            Command::Breach { source, peer, what } => {
                self.shared.charge(peer, Offence::Protocol(what));
                self.peer_left(source);
                self.feed(Event::Banned { peer });
            }
            Command::Retire => self.retired = true,
            // Handled by the loop.
            Command::Stop => {}
        }
    }

    /// A later block of an earlier request must not hide that the origin serves something else.
    fn set_trouble(&mut self, trouble: Option<Trouble>) {
        if let Some(trouble) = trouble.as_ref().filter(|_| !self.transfer.is_complete()) {
            Arc::make_mut(&mut self.account).trouble(crate::file_status::sentence(trouble));
        }
        if self.trouble.as_ref().is_none_or(|held| held.proves_stale().is_none()) {
            self.trouble = trouble;
        }
    }

    fn join(&mut self, want: Want) {
        (self.idle_since, self.retired) = (None, false);
        if let Some(record) = &want.record {
            self.record = Some(record.clone());
        }
        if let Some((url, known)) = want.origin.clone()
            && !self.http.values().any(|http| http.url.as_str() == url.as_str())
        {
            let source = self.new_source();
            let known_rate = self.shared.origin_rate(&host_key(&url));
            self.http.insert(source, Http { url, known, whole: false, cache: None, left: false });
            self.feed(Event::HttpJoined { source, kind: SourceKind::Cdn, known_rate });
        }
        let (received, _, wasted) = &mut self.before;
        received.cdn += want.brought.kept.saturating_sub(want.brought.cached);
        received.cache_server += want.brought.cached;
        *wasted += want.brought.vain;
        self.wants.insert(want.id, want);
        self.apply_policy();
        // A complete content has nothing else to show, and the download waits to be counted.
        self.show();
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
        self.set_trouble(Some(Trouble::Disk(error)));
        self.retry_at = Some(Instant::now() + DISK_RETRY);
        self.shared.make_room.notify_one();
        self.feed(Event::Pause(true));
    }
}
