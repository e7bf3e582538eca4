//! One download, from the first caller to the last byte (product §6).
//!
//! Phases: *resolve* (what is this URL?), then *swarm* (the content's actor does the work) when there is a record, or
//! *simple* (plain HTTP) meanwhile or instead. A record that arrives while simple mode runs turns the staged bytes into
//! verified pieces and the download joins the swarm. A record that proves stale is dropped and the download goes on in
//! simple mode until there is a new one.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use peerage_api::agent::{DownloadRequest, FileState, FileStatus};
use peerage_api::{ApiError, Code};
use peerage_content::{ContentRecord, PieceMap, Signed};
use peerage_origin::{ErrorKind, Known, OriginError, SourceUrl};
use peerage_policy::{Class, RecordState};
use peerage_store::{Content, Staging};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::content::{Command, ContentHandle, ContentStatus, Trouble, Want};
use crate::downloads::{DownloadState, Key, Tell};
use crate::file_status::{self, chain};
use crate::resolve::{Resolution, Resolver};
use crate::shared::Shared;
use crate::simple::{Simple, SimpleState};

/// How long the origin waits for the coordinator's word before bytes flow without it. A coordinator of the site answers
/// in a few milliseconds; with its answer the first bytes asked for are the right ones.
const RECORD_GRACE: Duration = Duration::from_millis(200);
/// DO reference §2.4: no-progress time-out, default and least.
const NO_PROGRESS: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(60));
/// An origin that takes longer to say whether the record is fresh is treated as away.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the state is told to callers.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// A record that keeps turning out stale is not tried for ever.
const MAX_STALE: u32 = 3;

/// What a download ends with.
#[derive(Debug, Clone)]
pub(crate) enum Finished {
    /// A verified content of the cache.
    Content(Content),
    /// A file of simple mode, not in the cache.
    Staged(Staging),
}

impl Finished {
    /// Opens it for delivery. Blocking.
    pub(crate) fn open(&self) -> Result<File, ApiError> {
        let opened = match self {
            Self::Content(content) => content.open_file(),
            Self::Staged(staging) => staging.open_file(),
        };
        opened.map_err(|error| ApiError::new(Code::Disk, chain(&error)))
    }
}

/// Runs a download until it ends and its end has been seen, or until nobody wants it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    key: Key,
    tells: mpsc::UnboundedReceiver<Tell>,
    state: watch::Sender<Arc<DownloadState>>,
) {
    let mut download = Download {
        shared,
        key,
        tells,
        state,
        callers: BTreeMap::new(),
        status: FileStatus::default(),
        notes: Vec::new(),
        began: Instant::now(),
        stale: 0,
    };
    let end = download.run().await;
    if let Err(error) = &end {
        tracing::info!(%error, "download ended");
    }
    let mut status = download.status.clone();
    status.download_duration = download.began.elapsed().as_millis() as u64;
    download.state.send_replace(Arc::new(DownloadState { status, end: Some(end) }));
}

struct Download {
    shared: Arc<Shared>,
    key: Key,
    tells: mpsc::UnboundedReceiver<Tell>,
    state: watch::Sender<Arc<DownloadState>>,
    callers: BTreeMap<u64, DownloadRequest>,
    status: FileStatus,
    /// Why it runs as it does, beside what policy says.
    notes: Vec<String>,
    began: Instant,
    /// Records found stale so far.
    stale: u32,
}

/// Why a phase ended.
enum Phase {
    Done(Finished),
    /// The record does not fit what the origin serves.
    Stale {
        serial: u64,
        why: String,
    },
    /// Simple mode was joined by a record.
    Resolved(Box<Resolution>),
}

type Ended<T> = Result<T, ApiError>;

fn cancelled() -> ApiError {
    ApiError::new(Code::Cancelled, "nobody waits for the file any more")
}

impl Download {
    async fn run(&mut self) -> Ended<Finished> {
        // The first caller is in the queue already.
        self.take_tells()?;
        let mut resolver = Resolver::new(Arc::clone(&self.shared), self.key.clone(), self.request())?;
        let mut phase = self.begin(&mut resolver).await?;
        loop {
            phase = match phase {
                Phase::Done(finished) => return Ok(finished),
                Phase::Resolved(resolution) => self.swarm(*resolution, &resolver).await?,
                Phase::Stale { serial, why } => {
                    self.stale += 1;
                    self.note(format!(
                        "The record no longer fits what the origin serves ({why}); a new one is asked for."
                    ));
                    resolver.stale(serial);
                    if self.stale >= MAX_STALE {
                        resolver.give_up("its records keep turning out stale");
                    }
                    self.simple(&mut resolver).await?
                }
            };
        }
    }

    /// Asks what the file is, and begins without the answer if it does not come at once.
    async fn begin(&mut self, resolver: &mut Resolver) -> Ended<Phase> {
        if resolver.url().is_none() {
            // Only a record can say where the file is.
            return match resolver.resolve().await {
                Ok(resolution) => Ok(Phase::Resolved(Box::new(resolution))),
                Err(why) => Err(ApiError::new(Code::NotFound, why)),
            };
        }
        if resolver.may_hope()
            && let Ok(Ok(resolution)) = timeout(RECORD_GRACE, resolver.resolve()).await
        {
            return Ok(Phase::Resolved(Box::new(resolution)));
        }
        self.simple(resolver).await
    }

    // === Callers ===

    fn take_tells(&mut self) -> Ended<()> {
        while let Ok(tell) = self.tells.try_recv() {
            self.told(tell);
        }
        if self.callers.is_empty() { Err(cancelled()) } else { Ok(()) }
    }

    fn told(&mut self, tell: Tell) {
        match tell {
            Tell::Joined { caller, request } => drop(self.callers.insert(caller, request)),
            Tell::Left { caller } => drop(self.callers.remove(&caller)),
        }
    }

    /// Waits until a caller comes or goes; an error when the last one has gone.
    async fn next_tell(&mut self) -> Ended<()> {
        match self.tells.recv().await {
            Some(tell) => self.told(tell),
            None => return Err(cancelled()),
        }
        self.take_tells()
    }

    /// What all callers together want.
    fn request(&self) -> DownloadRequest {
        let mut all = DownloadRequest::default();
        for request in self.callers.values() {
            all.url = all.url.or_else(|| request.url.clone());
            all.id = all.id.or(request.id);
            all.sha256 = all.sha256.or(request.sha256);
            all.foreground |= request.foreground;
            all.caller = request.caller.clone();
            all.no_progress_timeout_s = all.no_progress_timeout_s.max(request.no_progress_timeout_s);
        }
        all
    }

    fn no_progress(&self) -> Duration {
        let asked = self.request().no_progress_timeout_s.map(Duration::from_secs);
        asked.unwrap_or(NO_PROGRESS.0).max(NO_PROGRESS.1)
    }

    fn note(&mut self, note: String) {
        tracing::info!(note, "download");
        if self.notes.last() != Some(&note) {
            self.notes.push(note);
        }
        if self.notes.len() > 20 {
            self.notes.remove(0);
        }
    }

    // === Swarm ===

    /// The content's actor does the work; this waits for it and watches over the record.
    async fn swarm(&mut self, resolution: Resolution, resolver: &Resolver) -> Ended<Phase> {
        self.check_wish(resolution.record.get())?;
        let Resolution { record, map, announce, staged } = resolution;
        let content = match staged {
            Some(content) => content,
            None => self.open_content(record.get(), map.clone()).await?,
        };
        self.note_source(&content, &record, resolver.url());
        let map = content_map(&content, map)?;
        let (shared, own) = (Arc::clone(&self.shared), content.clone());
        let started = tokio::task::spawn_blocking(move || shared.contents.start(&shared, own, map)).await;
        let handle = started
            .map_err(|error| ApiError::new(Code::Internal, error.to_string()))?
            .map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
        let want = self.shared.next_number();
        self.join(&handle, want, &record, resolver).await?;
        match announce {
            Some(item) => crate::announcer::accept(&self.shared, item).await,
            None => self.shared.announcer.poke(handle.id),
        }
        let end = self.watch(&handle, want, &record, resolver).await;
        handle.tell(Command::Leave { want }).await;
        end
    }

    /// A caller that knows the file's hash must not be given another one.
    fn check_wish(&self, record: &ContentRecord) -> Ended<()> {
        let wish = self.request();
        if let Some(id) = wish.id.filter(|id| *id != record.id) {
            let message = format!("the file has content id {}, asked for was {id}", record.id);
            return Err(ApiError::new(Code::Integrity, message));
        }
        if let Some(sha256) = wish.sha256.filter(|sha256| *sha256 != record.sha256) {
            let message = format!("the file has SHA-256 {}, asked for was {sha256}", record.sha256);
            return Err(ApiError::new(Code::Integrity, message));
        }
        Ok(())
    }

    async fn open_content(&self, record: &ContentRecord, map: Option<PieceMap>) -> Ended<Content> {
        let (shared, id, layout) = (Arc::clone(&self.shared), record.id, record.layout());
        let opened = tokio::task::spawn_blocking(move || {
            let now = shared.clock.unix();
            shared.store.create(id, layout, map.as_ref(), now)
        });
        opened
            .await
            .map_err(|error| ApiError::new(Code::Internal, error.to_string()))?
            .map_err(|error| ApiError::new(Code::Disk, chain(&error)))
    }

    fn note_source(&self, content: &Content, record: &Signed<ContentRecord>, url: Option<&SourceUrl>) {
        tokio::task::block_in_place(|| {
            let mut notes = content.notes();
            crate::notes::set_source(&mut notes, url.map(SourceUrl::as_str), Some(record));
            if let Err(error) = content.set_notes(notes) {
                tracing::debug!(%error, "the source was not noted");
            }
        });
    }

    async fn join(
        &self,
        handle: &ContentHandle,
        want: u64,
        record: &Signed<ContentRecord>,
        resolver: &Resolver,
    ) -> Ended<()> {
        let known = Known { size: Some(record.get().size), validators: record.get().validators.clone() };
        let origin = resolver.url().cloned().or_else(|| {
            let url = record.get().urls.first()?;
            SourceUrl::parse(url).ok()
        });
        let want = Want {
            id: want,
            foreground: self.request().foreground,
            origin: origin.map(|url| (url, known)),
            record: Some(record.clone()),
        };
        if handle.tell(Command::Join(Box::new(want))).await {
            Ok(())
        } else {
            Err(ApiError::new(Code::Internal, "the download's engine ended unexpectedly"))
        }
    }

    async fn watch(
        &mut self,
        handle: &ContentHandle,
        want: u64,
        record: &Signed<ContentRecord>,
        resolver: &Resolver,
    ) -> Ended<Phase> {
        let mut fresh =
            tokio::spawn(check_fresh(Arc::clone(&self.shared), resolver.url().cloned(), record.clone()));
        let (mut is_fresh, mut foreground) = (false, self.request().foreground);
        let mut status = handle.status.clone();
        let mut progress = (0, Instant::now());
        loop {
            let now = Arc::clone(&status.borrow_and_update());
            self.show_content(handle, &now);
            if now.complete && is_fresh {
                self.show_content(handle, &now);
                return self.deliverable(handle).await.map(|content| Phase::Done(Finished::Content(content)));
            }
            if let Some(why) = proves_stale(&now) {
                return Ok(Phase::Stale { serial: record.get().serial, why });
            }
            if now.verified_bytes != progress.0 || now.complete {
                progress = (now.verified_bytes, Instant::now());
            }
            if progress.1.elapsed() >= self.no_progress() {
                let trouble = now.trouble.as_ref().map(file_status::sentence).unwrap_or_default();
                let seconds = self.no_progress().as_secs();
                return Err(ApiError::new(
                    Code::NoProgress,
                    format!("no progress for {seconds} s. {trouble}"),
                ));
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    return Err(ApiError::new(Code::Internal, "the download's engine ended unexpectedly"));
                },
                told = self.next_tell() => {
                    if let Err(error) = told {
                        fresh.abort();
                        return Err(error);
                    }
                    self.check_wish(record.get())?;
                    if self.request().foreground != foreground {
                        foreground = !foreground;
                        self.join(handle, want, record, resolver).await?;
                    }
                }
                checked = &mut fresh, if !is_fresh => match checked {
                    Ok(Ok(())) => is_fresh = true,
                    Ok(Err(why)) => return Ok(Phase::Stale { serial: record.get().serial, why }),
                    Err(error) => return Err(ApiError::new(Code::Internal, error.to_string())),
                },
                () = sleep(TELL_EVERY) => {}
            }
        }
    }

    /// The complete content; a hash that the caller brought is checked over the whole file.
    async fn deliverable(&self, handle: &ContentHandle) -> Ended<Content> {
        let Some(wish) = self.request().sha256 else { return Ok(handle.content.clone()) };
        let content = handle.content.clone();
        let hashed = tokio::task::spawn_blocking(move || content.sha256()).await;
        let found = hashed
            .map_err(|error| ApiError::new(Code::Internal, error.to_string()))?
            .map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
        if found == wish {
            Ok(handle.content.clone())
        } else {
            let message = format!("the file has SHA-256 {found}, asked for was {wish}");
            Err(ApiError::new(Code::Integrity, message))
        }
    }

    fn show_content(&mut self, handle: &ContentHandle, status: &ContentStatus) {
        let mut row = file_status::of_content(handle.id, &handle.content.info(), status, false);
        row.reasons.extend(self.notes.iter().cloned());
        self.show(row);
    }

    fn show(&mut self, mut row: FileStatus) {
        let request = self.request();
        row.priority = file_status::priority(request.foreground);
        row.predefined_caller_application = request.caller;
        row.download_duration = self.began.elapsed().as_millis() as u64;
        row.download_mode = self.shared.policy().settings.download_mode.name().to_owned();
        if let Key::Url(url) = &self.key {
            row.source_url = SourceUrl::parse(url).map_or_else(|_| String::new(), |url| url.to_string());
        }
        self.status = row.clone();
        self.state.send_replace(Arc::new(DownloadState { status: row, end: None }));
    }

    // === Simple ===

    /// Plain HTTP, until it is done or a record arrives.
    async fn simple(&mut self, resolver: &mut Resolver) -> Ended<Phase> {
        let Some(url) = resolver.url().cloned() else {
            return Err(ApiError::new(Code::NotFound, "only a record could say where the file is"));
        };
        let limiters = &self.shared.limiters;
        let foreground = self.request().foreground;
        let limiter = Arc::clone(if foreground { &limiters.foreground } else { &limiters.background });
        let opened = Simple::open(Arc::clone(&self.shared), url, limiter, self.no_progress());
        let (simple, mut state) = opened.map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
        let staging = simple.staging.clone();
        let begun = staging.len();
        let run = simple.run();
        tokio::pin!(run);
        loop {
            let now = state.borrow_and_update().clone();
            self.show_simple(&simple, &now, resolver);
            tokio::select! {
                done = &mut run => {
                    done?;
                    let now = state.borrow().clone();
                    self.show_simple(&simple, &now, resolver);
                    return self.finish_simple(staging, resolver).await;
                }
                resolved = resolver.resolve(), if resolver.may_hope() => match resolved {
                    Ok(mut resolution) => {
                        self.promote(&staging, &mut resolution, begun).await?;
                        return Ok(Phase::Resolved(Box::new(resolution)));
                    }
                    Err(why) => self.note(why),
                },
                told = self.next_tell() => told?,
                _ = state.changed() => sleep(Duration::from_millis(20)).await,
                () = sleep(TELL_EVERY) => {}
            }
        }
    }

    /// Turns what simple mode has into verified pieces.
    async fn promote(&self, staging: &Staging, resolution: &mut Resolution, begun: u64) -> Ended<()> {
        if staging.is_empty() {
            let _ = staging.discard();
            return Ok(());
        }
        let Some(map) = resolution.map.clone() else { return Ok(()) };
        let (staging, shared) = (staging.clone(), Arc::clone(&self.shared));
        let held = staging.len();
        let promoted = tokio::task::spawn_blocking(move || {
            let (content, report) = staging.promote(&map, shared.clock.unix())?;
            // They came from the origin, in simple mode.
            let mut notes = content.notes();
            let (mut received, sent, wasted) = crate::notes::counters(&notes);
            let kept = u64::from(report.verified) * u64::from(peerage_content::PIECE_SIZE);
            received.cdn += kept.min(held);
            crate::notes::set_counters(
                &mut notes,
                &received,
                &sent,
                wasted + held.saturating_sub(kept.max(begun)),
            );
            content.set_notes(notes)?;
            Ok::<_, peerage_store::StoreError>(content)
        });
        let content = promoted
            .await
            .map_err(|error| ApiError::new(Code::Internal, error.to_string()))?
            .map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
        resolution.staged = Some(content);
        Ok(())
    }

    async fn finish_simple(&mut self, staging: Staging, resolver: &mut Resolver) -> Ended<Phase> {
        let wish = self.request();
        if wish.sha256.is_some() || wish.id.is_some() {
            let file = staging.open_file().map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
            let digest = tokio::task::spawn_blocking(move || digest(file)).await;
            let digest = digest
                .map_err(|error| ApiError::new(Code::Internal, error.to_string()))?
                .map_err(|error| ApiError::new(Code::Disk, error.to_string()))?;
            let wrong = wish
                .sha256
                .filter(|wish| *wish != digest.sha256)
                .map(|wish| format!("the file has SHA-256 {}, asked for was {wish}", digest.sha256));
            let wrong = wrong.or_else(|| {
                let wish = wish.id.filter(|wish| *wish != digest.id)?;
                Some(format!("the file has content id {}, asked for was {wish}", digest.id))
            });
            if let Some(message) = wrong {
                let _ = staging.discard();
                return Err(ApiError::new(Code::Integrity, message));
            }
        }
        // The coordinator may still be reading the file itself. When its record comes, the copy here becomes a seed.
        if resolver.may_hope() {
            crate::adopt::later(resolver.clone(), staging.clone());
        } else {
            crate::adopt::discard_later(staging.clone());
        }
        self.status.status = FileState::Complete;
        Ok(Phase::Done(Finished::Staged(staging)))
    }

    fn show_simple(&mut self, simple: &Simple, state: &SimpleState, resolver: &Resolver) {
        let size = state.size.unwrap_or(0);
        let mut row = FileStatus {
            file_id: simple.staging.name().to_owned(),
            file_size: size,
            file_size_in_cache: state.bytes,
            status: if state.paused { FileState::Paused } else { FileState::Downloading },
            http_connection_count: u32::from(state.trouble.is_none()),
            ..FileStatus::default()
        };
        let received = peerage_swarm::ByKind { cdn: state.received, ..Default::default() };
        file_status::add_received(&mut row, &received);
        let class = if self.request().foreground { Class::Foreground } else { Class::Background };
        let decision = self.shared.decide(class, RecordState::Missing, state.size);
        row.reasons = decision.reasons.iter().map(peerage_policy::Reason::sentence).collect();
        row.reasons.extend(resolver.why());
        row.reasons.extend(self.notes.iter().cloned());
        row.reasons.extend(state.trouble.clone());
        let elapsed = self.began.elapsed().as_secs_f64().max(0.001);
        row.download_rate = (state.received as f64 / elapsed) as u64;
        self.show(row);
    }
}

/// Whether the engine found that the origin serves something else.
fn proves_stale(status: &ContentStatus) -> Option<String> {
    match &status.trouble {
        Some(Trouble::Origin(error)) if error.kind() == ErrorKind::Stale => Some(error.failure.to_string()),
        Some(Trouble::OriginCorrupt) => Some("its bytes are not those of the record".to_owned()),
        _ => None,
    }
}

/// Asks the origin whether it still serves what the record says. An origin that cannot be asked does not object: peers
/// and cache may finish the download without it (product §8).
async fn check_fresh(
    shared: Arc<Shared>,
    url: Option<SourceUrl>,
    record: Signed<ContentRecord>,
) -> Result<(), String> {
    let Some(url) = url else { return Ok(()) };
    match timeout(PROBE_TIMEOUT, shared.origin.probe(&url)).await {
        Ok(Ok(info)) => {
            record.get().check_fresh(info.size, &info.validators).map_err(|error| error.to_string())
        }
        Ok(Err(error)) => judge_probe(&error),
        Err(_) => Ok(()),
    }
}

fn judge_probe(error: &OriginError) -> Result<(), String> {
    match error.kind() {
        // The origin says that the file is no longer there, or not for this device: the record must not stand in.
        ErrorKind::Gone | ErrorKind::Denied | ErrorKind::Stale => Err(error.to_string()),
        _ => {
            tracing::info!(%error, "the origin could not say whether the record is fresh");
            Ok(())
        }
    }
}

fn content_map(content: &Content, map: Option<PieceMap>) -> Ended<PieceMap> {
    if let Some(map) = map {
        return Ok(map);
    }
    let held = tokio::task::block_in_place(|| content.map());
    held.map_err(|error| ApiError::new(Code::Disk, chain(&error)))?
        .ok_or_else(|| ApiError::new(Code::Internal, "the piece map is missing"))
}

fn digest(mut file: File) -> std::io::Result<peerage_content::Digest> {
    let mut digester = peerage_content::Digester::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => break,
            n => digester.update(&buffer[..n]),
        }
    }
    digester.finish().map_err(std::io::Error::other)
}
