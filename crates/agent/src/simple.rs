//! Simple mode: plain HTTP from byte 0, no peers (product §2; DO mode 99). Never an error: what happens when there is no
//! record (yet), no coordinator, or policy does not allow more.
//!
//! Bytes go to a staging file with the validators they came with, so that an interrupted download goes on where it was,
//! and a changed file begins anew. What is here to its last byte counts only when the origin says that it still has the
//! same. Nothing here is verified beyond what the caller knows; nothing here is ever served.

use std::sync::Arc;
use std::time::Duration;

use peerage_api::{ApiError, Code};
use peerage_content::{Digester, Validators};
use peerage_origin::{ErrorKind, Failure, Known, OriginError, RangeRequest, SourceUrl};
use peerage_store::{Notes, Staging, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::budgets::Gate;
use crate::housekeeping::DISK_RETRY;
use crate::shared::Shared;

/// Bytes written at once.
const BATCH: usize = 256 << 10;
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const MAX_BACK_OFF: Duration = Duration::from_secs(30);

/// A note: somebody who knows the file's hash was given these bytes and found them wrong.
const DOUBTED: &str = "doubted";

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SimpleState {
    pub(crate) size: Option<u64>,
    pub(crate) bytes: u64,
    /// Bytes received since the agent started, thrown-away ones included.
    pub(crate) received: u64,
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
        Ok((Self { shared, url, staging, gate, state: sender, no_progress }, receiver))
    }

    /// Downloads to the end. Dropping the future stops the traffic and keeps what has arrived.
    pub(crate) async fn run(&self) -> Result<(), SimpleEnd> {
        let (mut failures, mut progress_at, mut progress) = (0u32, Instant::now(), self.staging.len());
        loop {
            let known = known_of(&self.staging.notes());
            let wait = match self.attempt(&known).await {
                Ok(()) => return Ok(()),
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
                        _ => return Err(ApiError::new(Code::Origin, error.to_string()).into()),
                    }
                }
            };
            if self.staging.len() != progress {
                (progress, progress_at, failures) = (self.staging.len(), Instant::now(), failures.min(1));
            }
            if progress_at.elapsed() + wait >= self.no_progress {
                let last = self.state.borrow().trouble.clone().unwrap_or_default();
                let message = format!("no progress for {} s. {last}", self.no_progress.as_secs());
                return Err(ApiError::new(Code::NoProgress, message).into());
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

    async fn attempt(&self, known: &Known) -> Result<(), Stop> {
        if known.size == Some(self.staging.len()) {
            if self.is_current(known).await.map_err(Stop::Origin)? {
                return Ok(());
            }
            self.staging.begin_anew().map_err(Stop::Disk)?;
            return Box::pin(self.attempt(&Known::default())).await;
        }
        let from = self.staging.len();
        let range = RangeRequest { from, to: None };
        let mut body = match self.shared.origin_for(self.gate.class()).open(&self.url, range, known).await {
            Ok(body) => body,
            // All bytes are here, the end was not noticed before a crash.
            Err(OriginError { failure: Failure::OutOfRange { size: Some(size), .. }, .. })
                if size == from =>
            {
                return self.note(&Known { size: Some(size), ..known.clone() }).map_err(Stop::Disk);
            }
            Err(error) => return Err(Stop::Origin(error)),
        };
        let found = body.info().known();
        let mut at = body.start();
        if at != from {
            // The origin ignores ranges and begins at byte 0.
            self.shared.rangeless.note(&self.url, self.shared.clock.unix());
            self.staging.truncate(at).map_err(Stop::Disk)?;
        }
        self.note(&found).map_err(Stop::Disk)?;
        self.say(None, false);
        let mut batch: Vec<u8> = Vec::with_capacity(BATCH);
        loop {
            let chunk = body.chunk().await;
            let ended = !matches!(chunk, Ok(Some(_)));
            if let Ok(Some(bytes)) = &chunk {
                self.gate.pass(bytes.len() as u64).await;
                batch.extend_from_slice(bytes);
            }
            if batch.len() >= BATCH || (ended && !batch.is_empty()) {
                batch = self.write(at, batch).await?;
                at = self.staging.len();
            }
            match chunk {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return Err(Stop::Origin(error)),
            }
        }
        // A body without an announced length ends where it ends.
        self.note(&Known { size: Some(at), ..found }).map_err(Stop::Disk)
    }

    async fn write(&self, at: u64, batch: Vec<u8>) -> Result<Vec<u8>, Stop> {
        let (staging, len) = (self.staging.clone(), batch.len() as u64);
        let written = tokio::task::spawn_blocking(move || staging.write_at(at, &batch).map(|_| batch)).await;
        let mut batch = match written {
            Ok(written) => written.map_err(Stop::Disk)?,
            Err(_) => Vec::new(),
        };
        batch.clear();
        let bytes = self.staging.len();
        self.state.send_modify(|state| {
            state.bytes = bytes;
            state.received += len;
            state.trouble = None;
            state.paused = false;
        });
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
}
