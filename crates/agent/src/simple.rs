//! Simple mode: plain HTTP from byte 0, no peers (product §2; DO mode 99). Never an error: what happens when there is no
//! record (yet), no coordinator, or policy does not allow more.
//!
//! Connected caches are asked before the origin. What they send must be of the file that the origin says it has, as far as
//! size and validators tell; the origin is asked for those, not for bytes.
//!
//! Bytes go to a staging file with the validators they came with, so that an interrupted download goes on where it was,
//! and a changed file begins anew. What is here to its last byte counts only when the origin says that it still has the
//! same. Nothing here is verified beyond what the caller knows; nothing here is ever served.

mod ways;

use std::sync::Arc;
use std::time::Duration;

use peerage_api::{ApiError, Code};
use peerage_content::{Digester, Validators};
use peerage_origin::{ErrorKind, Failure, Known, OriginError, RangeRequest, SourceUrl};
use peerage_policy::CacheHost;
use peerage_store::{Notes, Staging, StoreError};
use peerage_swarm::{ByKind, SourceId, SourceKind};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::budgets::Gate;
use crate::caches::CachedAt;
use crate::housekeeping::DISK_RETRY;
use crate::shared::Shared;
use ways::{Way, Ways};

/// Bytes written at once.
const BATCH: usize = 256 << 10;
/// What comes slowly is written this often all the same: it is to be seen, and to outlive a crash.
const SHOWN_EVERY: Duration = Duration::from_millis(250);
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const MAX_BACK_OFF: Duration = Duration::from_secs(30);
/// While the origin waits for caches, they are looked at again after this time.
const CACHE_PAUSE: Duration = Duration::from_millis(250);
/// Sentences about caches that are kept.
const MAX_TROUBLES: usize = 8;
/// An origin that takes longer to say what it has is treated as away.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A note: somebody who knows the file's hash was given these bytes and found them wrong.
const DOUBTED: &str = "doubted";

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SimpleState {
    pub(crate) size: Option<u64>,
    pub(crate) bytes: u64,
    /// Bytes received since the agent started, thrown-away ones included.
    pub(crate) received: ByKind,
    /// The connected cache that is asked now.
    pub(crate) cache: Option<CacheHost>,
    /// How connected caches failed, in sentences.
    pub(crate) cache_troubles: Vec<String>,
    pub(crate) trouble: Option<String>,
    pub(crate) paused: bool,
}

/// One download in simple mode.
#[derive(Debug)]
pub(crate) struct Simple {
    shared: Arc<Shared>,
    url: SourceUrl,
    pub(crate) staging: Staging,
    gate: Gate,
    state: watch::Sender<SimpleState>,
    no_progress: Duration,
    ways: Ways,
}

/// The next download of a finished file is to fetch it again.
pub(crate) fn doubt(staging: &Staging) {
    let mut notes = staging.notes();
    notes.insert(DOUBTED.into(), String::new());
    // A closed area is gone already.
    let _ = staging.set_notes(notes);
}

/// Whether a staging area holds a file to its last byte.
pub(crate) fn is_finished(staging: &Staging) -> bool {
    known_of(&staging.notes()).size == Some(staging.len())
}

/// The staging name of a URL.
pub(crate) fn staging_name(url: &str) -> String {
    let mut digester = Digester::new();
    digester.update(url.as_bytes());
    let id = digester.finish().map(|digest| digest.id.to_string()).unwrap_or_default();
    format!("url-{}", &id[..id.len().min(32)])
}

fn known_of(notes: &Notes) -> Known {
    let get = |key: &str| notes.get(key).cloned().unwrap_or_default();
    Known {
        size: get("size").parse().ok(),
        validators: Validators { etag: get("etag"), last_modified: get("last_modified") },
    }
}

fn notes_of(url: &SourceUrl, known: &Known) -> Notes {
    let mut notes = Notes::new();
    notes.insert("url".into(), url.as_str().into());
    notes.insert("etag".into(), known.validators.etag.clone());
    notes.insert("last_modified".into(), known.validators.last_modified.clone());
    if let Some(size) = known.size {
        notes.insert("size".into(), size.to_string());
    }
    notes
}

impl Simple {
    /// Opens (or goes on with) the staging of `url`. Blocking.
    pub(crate) fn open(
        shared: Arc<Shared>,
        url: SourceUrl,
        gate: Gate,
        no_progress: Duration,
    ) -> Result<(Self, watch::Receiver<SimpleState>), StoreError> {
        let staging = shared.store.stage(&staging_name(url.as_str()))?;
        let known = known_of(&staging.notes());
        let state = SimpleState { size: known.size, bytes: staging.len(), ..SimpleState::default() };
        let (sender, receiver) = watch::channel(state);
        let ways = Ways::default();
        Ok((Self { shared, url, staging, gate, state: sender, no_progress, ways }, receiver))
    }

    /// Policy lets these caches be asked, and the origin wait for `delay`. Returns whether a request that is under way may
    /// not be what is wanted now.
    pub(crate) fn allow(&self, hosts: &[CacheHost], delay: Duration) -> bool {
        let Some(rests) = self.ways.allow(&self.shared, &self.url, hosts, delay) else { return false };
        rests.into_iter().for_each(|sentence| self.cache_trouble(sentence));
        true
    }

    /// The network is another one.
    pub(crate) fn forgive(&self) {
        self.ways.forgive();
    }

    fn cache_failed(&self, source: SourceId, at: &CachedAt, error: &OriginError) {
        self.ways.failed(&self.shared, source, at, error);
        self.state.send_modify(|state| state.cache = None);
        self.cache_trouble(crate::file_status::cache_failed(&at.host, error));
    }

    fn cache_trouble(&self, sentence: String) {
        self.state.send_modify(|state| {
            if state.cache_troubles.len() < MAX_TROUBLES && !state.cache_troubles.contains(&sentence) {
                state.cache_troubles.push(sentence);
            }
        });
    }

    /// Downloads to the end. Dropping the future stops the traffic and keeps what has arrived.
    pub(crate) async fn run(&self) -> Result<(), SimpleEnd> {
        let (mut failures, mut progress_at, mut progress) = (0u32, Instant::now(), self.staging.len());
        let mut at_origin = None;
        loop {
            let known = known_of(&self.staging.notes());
            let way = self.ways.next(self.shared.clock.now());
            let wait = match self.attempt(&known, &way, &mut at_origin).await {
                Ok(Done::File) => return Ok(()),
                Ok(Done::Again) => Duration::ZERO,
                Ok(Done::Waits) => CACHE_PAUSE,
                Err(Stop::Disk(
                    StoreError::Vanished { .. }
                    | StoreError::Removed { .. }
                    | StoreError::StagingClosed { .. },
                )) => return Err(SimpleEnd::Lost),
                Err(Stop::Disk(error)) => {
                    self.say(Some(format!("Paused: {}", crate::file_status::chain(&error))), true);
                    self.shared.make_room.notify_one();
                    if !error.is_mendable() {
                        return Err(ApiError::new(Code::Disk, crate::file_status::chain(&error)).into());
                    }
                    DISK_RETRY
                }
                Err(Stop::Cache(source, at, error)) => {
                    self.cache_failed(source, &at, &error);
                    Duration::ZERO
                }
                Err(Stop::Origin(error)) => {
                    self.say(Some(format!("The last request to the origin failed: {error}.")), false);
                    match error.kind() {
                        ErrorKind::Stale => {
                            self.begin_anew()?;
                            Duration::ZERO
                        }
                        ErrorKind::Protocol if !self.staging.is_empty() => {
                            // A server without ranges, or one that forgot the file's size: only from the start.
                            self.begin_anew()?;
                            FIRST_BACK_OFF
                        }
                        ErrorKind::Later { .. } | ErrorKind::Connect | ErrorKind::Dns => {
                            let own = (FIRST_BACK_OFF * 2u32.pow(failures.min(6))).min(MAX_BACK_OFF);
                            failures += 1;
                            match error.kind() {
                                ErrorKind::Later { delay: Some(delay) } => {
                                    delay.min(Duration::from_secs(600))
                                }
                                _ => own,
                            }
                        }
                        ErrorKind::Proxy => return Err(SimpleEnd::NoWayOut(error)),
                        _ => return Err(ApiError::new(Code::Origin, error.to_string()).into()),
                    }
                }
            };
            if self.staging.len() != progress {
                (progress, progress_at, failures) = (self.staging.len(), Instant::now(), failures.min(1));
            }
            if progress_at.elapsed() + wait >= self.no_progress {
                let last = self.state.borrow().trouble.clone().unwrap_or_default();
                return Err(crate::file_status::no_progress(self.no_progress, &last).into());
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn say(&self, trouble: Option<String>, paused: bool) {
        let (bytes, size) = (self.staging.len(), known_of(&self.staging.notes()).size);
        self.state.send_modify(|state| {
            (state.trouble, state.paused, state.bytes) = (trouble, paused, bytes);
            state.size = size.or(state.size);
        });
    }

    fn begin_anew(&self) -> Result<(), ApiError> {
        let done = self.staging.begin_anew();
        done.map_err(|error| ApiError::new(Code::Disk, crate::file_status::chain(&error)))
    }

    /// Whether the origin still has the file that is here. Without validators nothing can be said of it: no.
    async fn is_current(&self, known: &Known) -> Result<bool, OriginError> {
        if self.staging.notes().contains_key(DOUBTED) {
            return Ok(false);
        }
        let found = self.shared.origin_for(self.gate.class()).probe(&self.url).await?;
        if found.size.is_some_and(|size| Some(size) != known.size) {
            return Ok(false);
        }
        let (found, known) = (&found.validators, &known.validators);
        // A tag says more than a date, and a weak one enough for a file as a whole (RFC 9110 §8.8.1).
        let tag = |validators: &Validators| validators.etag.trim_start_matches("W/").to_owned();
        Ok(match (tag(found), tag(known)) {
            (found, known) if !found.is_empty() && !known.is_empty() => found == known,
            _ => !known.last_modified.is_empty() && found.last_modified == known.last_modified,
        })
    }

    async fn attempt(&self, known: &Known, way: &Way, at_origin: &mut Option<Known>) -> Result<Done, Stop> {
        if known.size == Some(self.staging.len()) {
            if self.is_current(known).await.map_err(Stop::Origin)? {
                return Ok(Done::File);
            }
            if self.staging.notes().contains_key(DOUBTED) {
                // Whoever sent the wrong bytes: this time they come from the origin.
                self.ways.distrust();
            }
            self.staging.begin_anew().map_err(Stop::Disk)?;
            return Ok(Done::Again);
        }
        let way = match way {
            Way::None => return Ok(Done::Waits),
            Way::Origin => None,
            Way::Cache(source, at) => Some((*source, at)),
        };
        let known = match way {
            None => known.clone(),
            Some(_) => self.expected(known, at_origin).await?,
        };
        let failed = |error: OriginError| match way {
            None => Stop::Origin(error),
            Some((source, at)) => Stop::Cache(source, at.clone(), error),
        };
        let (client, url, kind) = match way {
            None => (self.shared.origin_for(self.gate.class()), &self.url, SourceKind::Cdn),
            Some((_, at)) => (self.shared.caches.client(self.gate.class()), &at.url, SourceKind::CacheServer),
        };
        let from = self.staging.len();
        let range = RangeRequest { from, to: None };
        let mut body = match client.open(url, range, &known).await {
            Ok(body) => body,
            // All bytes are here, the end was not noticed before a crash.
            Err(OriginError { failure: Failure::OutOfRange { size: Some(size), .. }, .. })
                if size == from =>
            {
                self.note(&Known { size: Some(size), ..known }).map_err(Stop::Disk)?;
                return Ok(Done::File);
            }
            Err(error) => return Err(failed(error)),
        };
        let found = body.info().known().or(&known);
        let mut at = body.start();
        if at != from && way.is_some() {
            return Err(failed(OriginError { url: url.to_string(), failure: Failure::NoRanges }));
        }
        if at != from {
            // The origin ignores ranges and begins at byte 0.
            self.shared.rangeless.note(&self.url, self.shared.clock.unix());
            self.staging.truncate(at).map_err(Stop::Disk)?;
        }
        self.note(&found).map_err(Stop::Disk)?;
        self.say(None, false);
        self.state.send_modify(|state| state.cache = way.map(|(_, at)| at.host.clone()));
        let mut batch: Vec<u8> = Vec::with_capacity(BATCH);
        let mut written = Instant::now();
        loop {
            let chunk = body.chunk().await;
            let mut rest: &[u8] =
                chunk.as_ref().map_or(&[][..], |chunk| chunk.as_deref().unwrap_or_default());
            let ended = !matches!(chunk, Ok(Some(_)));
            loop {
                if !rest.is_empty() {
                    let (now, later) = rest.split_at(self.gate.pass_some(rest.len(), 1).await);
                    batch.extend_from_slice(now);
                    rest = later;
                }
                let due = batch.len() >= BATCH || written.elapsed() >= SHOWN_EVERY;
                if !batch.is_empty() && (due || ended) {
                    // Not what is held: a request before this one may still be writing.
                    let next = at + batch.len() as u64;
                    batch = self.write(at, batch, kind).await?;
                    (at, written) = (next, Instant::now());
                }
                if rest.is_empty() {
                    break;
                }
            }
            match chunk {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        if let Some((source, at)) = way {
            self.ways.delivered(&self.shared, source, at);
        }
        // A body without an announced length ends where it ends.
        self.note(&Known { size: Some(at), ..found }).map_err(Stop::Disk)?;
        Ok(Done::File)
    }

    /// What a cache must send: the file that the origin says it has, and of which a part may be here. An origin that cannot
    /// be asked says nothing; caches may finish the download without it (product §8).
    async fn expected(&self, known: &Known, at_origin: &mut Option<Known>) -> Result<Known, Stop> {
        let found = match at_origin {
            Some(found) => found.clone(),
            None => {
                let client = self.shared.origin_for(self.gate.class());
                match timeout(PROBE_TIMEOUT, client.probe(&self.url)).await {
                    Ok(Ok(info)) => info.known(),
                    Ok(Err(error)) => match error.kind() {
                        ErrorKind::Connect | ErrorKind::Dns | ErrorKind::Proxy | ErrorKind::Later { .. } => {
                            Known::default()
                        }
                        _ => return Err(Stop::Origin(error)),
                    },
                    Err(_) => Known::default(),
                }
            }
        };
        let found = at_origin.insert(found);
        let changed = |failure| Stop::Origin(OriginError { url: self.url.to_string(), failure });
        known.check(found).map_err(changed)?;
        Ok(found.clone().or(known))
    }

    async fn write(&self, at: u64, batch: Vec<u8>, kind: SourceKind) -> Result<Vec<u8>, Stop> {
        let (staging, state) = (self.staging.clone(), self.state.clone());
        // Whoever stops waiting for it does not stop the write: it counts itself.
        let write = move || {
            let bytes = staging.write_at(at, &batch)?;
            state.send_modify(|state| {
                state.bytes = bytes;
                *state.received.get_mut(kind) += batch.len() as u64;
                state.trouble = None;
                state.paused = false;
            });
            Ok(batch)
        };
        let mut batch = match tokio::task::spawn_blocking(write).await {
            Ok(written) => written.map_err(Stop::Disk)?,
            Err(_) => Vec::new(),
        };
        batch.clear();
        Ok(batch)
    }

    fn note(&self, known: &Known) -> Result<(), StoreError> {
        self.staging.set_notes(notes_of(&self.url, known))?;
        self.state.send_modify(|state| state.size = known.size.or(state.size));
        Ok(())
    }
}

/// Why simple mode ended without the file.
#[derive(Debug)]
pub(crate) enum SimpleEnd {
    /// The staging area was deleted, or swept as an old one.
    Lost,
    /// A proxy lets nothing through to the origin, and no cache has the file.
    NoWayOut(OriginError),
    /// It failed for good.
    Failed(ApiError),
}

impl From<ApiError> for SimpleEnd {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

enum Stop {
    Disk(StoreError),
    Origin(OriginError),
    Cache(SourceId, CachedAt, OriginError),
}

enum Done {
    File,
    /// Nothing of it is here any more: from the beginning.
    Again,
    /// It is nobody's turn.
    Waits,
}
