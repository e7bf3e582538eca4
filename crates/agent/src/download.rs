//! One download, from the first caller to the last byte (product §6).
//!
//! Phases: *resolve* (what is this URL?), then *swarm* (the content's actor does the work) when there is a record, or
//! *simple* (plain HTTP) meanwhile or instead. A record that arrives while simple mode runs turns the staged bytes into
//! verified pieces and the download joins the swarm. A record that proves stale is dropped and the download goes on in
//! simple mode until there is a new one.

mod disk;
mod named;
mod plain;
mod swarming;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use peerage_api::agent::{DownloadRequest, FileStatus};
use peerage_api::why::Why;
use peerage_api::{ApiError, Code};
use peerage_content::ContentId;
use peerage_origin::SourceUrl;
use peerage_policy::Class;
use peerage_store::{Content, Staging, StoreError};
use peerage_swarm::ByKind;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::content::Brought;
use crate::downloads::{DownloadState, Key, Tell};
use crate::file_status::{self, Counts, chain};
use crate::resolve::Resolution;
use crate::search::Search;
use crate::shared::Shared;
use crate::why::Account;
use crate::wish::{Found, Wish};

/// How long the origin waits for the coordinator's word before bytes flow without it. A coordinator of the site answers
/// in a few milliseconds; with its answer the first bytes asked for are the right ones. A later answer still counts.
const RECORD_GRACE: Duration = Duration::from_millis(200);
/// DO reference §2.4: no-progress time-out, default and least.
const NO_PROGRESS: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(60));
/// How often the state is told to callers.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Whoever deletes the cache gets a moment to finish.
const LOST_PAUSE: Duration = Duration::from_secs(1);
/// A record that keeps turning out stale is not tried for ever.
const MAX_STALE: u32 = 3;
/// An actor ends under a download when it was about to as the download came, or when pieces are verified anew.
const MAX_RESTARTS: u32 = 20;

/// What a download ends with.
#[derive(Debug, Clone)]
pub(crate) enum Finished {
    /// A verified content of the cache.
    Content(Content),
    /// A file of simple mode, not in the cache. Opened at its end: a later download may begin the area anew.
    Staged(Staging, Arc<File>),
}

impl Finished {
    /// Opens it for delivery to a caller, who may know what it must be. Blocking.
    pub(crate) fn open_for(&self, wish: Wish) -> Result<File, ApiError> {
        self.check(wish)?;
        let opened = match self {
            Self::Content(content) => content.open_file(),
            Self::Staged(staging, file) => reopen(file).map_err(|source| StoreError::Io {
                op: "open",
                path: staging.name().into(),
                source,
            }),
        };
        let file = opened.map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
        if let Self::Content(_) = self {
            // The caller may link it, if nobody writes to it by accident any more, not even its owner. Else it is copied.
            let protect = |file: &File| match file.metadata()?.permissions().mode() & 0o777 {
                0o444 => Ok(()),
                _ => file.set_permissions(std::fs::Permissions::from_mode(0o444)),
            };
            if let Err(error) = protect(&file) {
                tracing::debug!(%error, "a delivered file is not protected");
            }
        }
        Ok(file)
    }

    /// The record binds both hashes and every piece was verified; a caller that names the SHA-256 gets a pass over the
    /// whole file nevertheless.
    fn check(&self, wish: Wish) -> Result<(), ApiError> {
        if wish.is_none() {
            return Ok(());
        }
        let disk = |error: &dyn std::error::Error| ApiError::new(Code::Disk, chain(error));
        match self {
            Self::Content(content) if wish.names_sha256() => {
                let sha256 = content.sha256().map_err(|error| disk(&error))?;
                wish.check(&Found { id: content.id(), sha256 })
            }
            Self::Content(content) => wish.check_id(content.id()),
            Self::Staged(staging, file) => {
                let found = reopen(file).and_then(|file| Found::read(&file)).map_err(|error| disk(&error))?;
                let checked = wish.check(&found);
                if checked.is_err() {
                    crate::simple::doubt(staging);
                }
                checked
            }
        }
    }
}

/// The same file with a position of its own.
fn reopen(file: &File) -> std::io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
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
        account: Arc::default(),
        found: None,
        brought: Brought::default(),
        earlier: None,
        began: Instant::now(),
        stale: 0,
        restarts: 0,
        fetches: false,
    };
    let end = download.run().await;
    if let Err(error) = &end {
        tracing::info!(%error, "download ended");
        download.remember(error);
        if let (Code::Cancelled, Key::Url(url)) = (error.code, &download.key) {
            crate::adopt::forget_later(Arc::clone(&download.shared), crate::simple::staging_name(url));
        }
    }
    let (mut status, earlier) = (download.status.clone(), download.earlier());
    status.download_duration = download.lasted();
    if let Ok(Finished::Content(content)) = &end
        && download.fetches
    {
        let lasted = download.lasted();
        let noted = tokio::task::block_in_place(|| {
            content.change_notes(|notes| crate::notes::set_duration(notes, lasted))
        });
        if let Err(error) = noted {
            tracing::debug!(%error, "how long the download took was not noted");
        }
    }
    download.state.send_replace(Arc::new(DownloadState {
        status,
        earlier,
        account: download.account,
        found: download.found,
        end: Some(end),
    }));
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
    /// Which decisions held in simple mode.
    account: Arc<Account>,
    /// What the file is, once the origin has not objected to the record that says so.
    found: Option<Found>,
    /// What simple mode brought, until the content's actor has counted it.
    brought: Brought,
    /// The content that it is about, and what had come for that before.
    earlier: Option<(ContentId, Counts)>,
    began: Instant,
    /// Records found stale so far.
    stale: u32,
    /// Actors that ended under it so far.
    restarts: u32,
    /// Whether something of the content was missing when this began with it.
    fetches: bool,
}

/// Why a phase ended.
enum Phase {
    Done(Finished),
    /// The record does not fit what the origin serves.
    Stale {
        serial: u64,
        why: String,
    },
    /// Somebody deleted the cache while it was in use.
    Lost,
    /// The content's actor ended under the download.
    Ended(Box<Resolution>),
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
        let mut search = Search::new(Arc::clone(&self.shared), self.key.clone(), self.request())?;
        let mut phase = self.begin(&mut search).await?;
        loop {
            phase = match phase {
                Phase::Done(finished) => return Ok(finished),
                Phase::Resolved(resolution) => self.swarm(*resolution, &search).await?,
                Phase::Ended(resolution) => {
                    self.restarts += 1;
                    if self.restarts > MAX_RESTARTS {
                        let message = "the download's engine keeps ending unexpectedly";
                        return Err(ApiError::new(Code::Internal, message));
                    }
                    Phase::Resolved(resolution)
                }
                Phase::Lost => {
                    self.note("The cache was deleted while in use; the download begins anew.".to_owned());
                    sleep(LOST_PAUSE).await;
                    self.begin(&mut search).await?
                }
                Phase::Stale { serial, why } => {
                    self.stale += 1;
                    self.note(format!(
                        "The record no longer fits what the origin serves ({why}); a new one is asked for."
                    ));
                    search.stale(serial);
                    if self.stale >= MAX_STALE {
                        search.give_up("its records keep turning out stale");
                    }
                    self.simple(&mut search).await?
                }
            };
        }
    }

    /// Asks what the file is, and begins without the answer if it does not come at once.
    async fn begin(&mut self, search: &mut Search) -> Ended<Phase> {
        if search.url().is_none() {
            return self.named(search).await;
        }
        if search.may_hope()
            && let Ok(Some(resolution)) = timeout(RECORD_GRACE, search.at_hand()).await
        {
            return Ok(Phase::Resolved(Box::new(resolution)));
        }
        self.simple(search).await
    }

    /// Keeps why its bytes came from where they came, if it ends in simple mode: what has come waits for another caller,
    /// but has no content that could tell.
    fn remember(&self, error: &ApiError) {
        if !self.status.file_id.starts_with("url-") {
            return;
        }
        let received = ByKind {
            cdn: self.status.bytes_from_cdn,
            cache_server: self.status.bytes_from_cache_server,
            ..ByKind::default()
        };
        let mut told = Why {
            file_id: self.status.file_id.clone(),
            file_size: self.status.file_size,
            source_url: self.status.source_url.clone(),
            ..self.account.tell(&received)
        };
        told.findings.push(crate::why::fate(
            "ended",
            format!("the download ended without the file: {}", error.message),
        ));
        tokio::task::block_in_place(|| self.shared.past.put(told));
    }

    /// Milliseconds since it began.
    fn lasted(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
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

    /// What all callers together want. What each knows of the file is checked for it alone ([`Wish`]); the hashes here are
    /// the same for all where they are all that names the file.
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

    fn class(&self) -> Class {
        if self.request().foreground { Class::Foreground } else { Class::Background }
    }

    fn no_progress(&self) -> Duration {
        let asked = self.request().no_progress_timeout_s.map(Duration::from_secs);
        asked.unwrap_or(NO_PROGRESS.0).max(NO_PROGRESS.1)
    }

    fn note(&mut self, note: String) {
        tracing::info!(note, "download");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        if self.notes.len() > 20 {
            self.notes.remove(0);
        }
    }

    // === Showing ===

    fn earlier(&self) -> Counts {
        self.earlier.map(|(_, counts)| counts).unwrap_or_default()
    }

    fn show(&mut self, mut row: FileStatus) {
        let request = self.request();
        row.priority = file_status::priority(request.foreground);
        row.predefined_caller_application = request.caller;
        row.download_duration = self.lasted();
        row.download_mode = self.shared.policy().settings.download_mode.name().to_owned();
        if let Key::Url(url) = &self.key {
            row.source_url = SourceUrl::parse(url).map_or_else(|_| String::new(), |url| url.to_string());
        }
        self.status = row.clone();
        self.state.send_replace(Arc::new(DownloadState {
            status: row,
            earlier: self.earlier(),
            account: Arc::clone(&self.account),
            found: self.found,
            end: None,
        }));
    }
}
