//! On-demand ingestion: reads a URL once, hashes it on the way, signs what it is (architecture §3).
//!
//! - One job per URL at a time; whoever asks meanwhile joins it. A job belongs to the coordinator, not to who asked.
//! - Every fetch goes through the guard of `peerage_origin`; no byte is stored, only digests.
//! - Nobody takes all places: there is a limit for a device and for a host, one place beyond the rest for
//!   administrators, and a file that comes too slowly is given up.
//! - A URL that failed is not tried again at once: the refusal is remembered, twice as long each time.
//! - A device that found a record stale makes the coordinator look for itself. What the probe proves wrong is forgotten
//!   before the new fetch begins, so a record known to be stale is never handed out.
//!
//! Jobs live in memory: after a crash the next asker starts anew.

mod job;
mod lanes;
mod pace;
mod places;
mod refusals;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_content::PeerId;
use peerage_origin::{OriginClient, SourceUrl};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::records::{Record, Records};
use job::Job;
use places::{Asker, Places};
use refusals::Refusals;
pub(crate) use refusals::Refused;

/// Jobs at once, waiting ones included.
const MAX_JOBS: usize = 1000;
/// The same for one device.
const MAX_JOBS_OF_ONE: usize = 250;
/// After a look at the origin, claims that its record is stale are not heard for this long.
const RECHECK: Duration = Duration::from_secs(60);
/// The same when the origin gives nothing to compare, so that a look is a whole fetch.
const REFETCH: Duration = Duration::from_secs(600);
/// URLs whose last check is remembered.
const MAX_CHECKS: usize = 10_000;

const ENDING: &str = "the coordinator is shutting down";

/// How far a job is.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Waiting for a free place, asking the origin, or fetching.
    Working { fetched: u64, size: Option<u64> },
    /// The URL is known.
    Done(Record),
    /// It will not be.
    Refused(Refused),
}

/// Why a job is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing is known of the URL.
    Unknown,
    /// Somebody says that the record of this serial is stale.
    Stale(u64),
    /// An administrator wants it read again, whatever is known.
    Again,
}

/// Starts and shares jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ingester {
    shared: Arc<Shared>,
}

struct Shared {
    origin: OriginClient,
    records: Arc<Records>,
    /// Whether a device's word is reason enough to fetch.
    on_demand: bool,
    places: Places,
    /// Longest time for reading one file.
    max_time: Duration,
    jobs: Mutex<HashMap<SourceUrl, Listed>>,
    refusals: Mutex<Refusals>,
    /// When a URL's claim of staleness may be heard again.
    checks: Mutex<HashMap<SourceUrl, Instant>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A job in the table.
struct Listed {
    stage: watch::Receiver<Stage>,
    /// Who had it started; `None`: an administrator.
    device: Option<PeerId>,
    /// An administrator waits for it: it may have the administrators' place.
    urgent: CancellationToken,
}

impl Ingester {
    pub(crate) fn new(
        origin: OriginClient,
        records: Arc<Records>,
        config: &Config,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            origin,
            records,
            on_demand: config.on_demand,
            places: Places::new(config.ingest_concurrency),
            max_time: Duration::from_secs(config.ingest_max_time),
            jobs: Mutex::default(),
            refusals: Mutex::default(),
            checks: Mutex::default(),
            tasks,
            stop,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The job under way for a URL.
    pub(crate) fn running(&self, url: &SourceUrl) -> Option<watch::Receiver<Stage>> {
        self.shared.jobs.lock().get(url).map(|job| job.stage.clone()).filter(is_alive)
    }

    /// Why a URL was refused lately.
    pub(crate) fn refused(&self, url: &SourceUrl) -> Option<Refused> {
        self.shared.refusals.lock().current(url, Instant::now())
    }

    /// Whether a claim that the record of a URL is stale is to be looked into now.
    pub(crate) fn may_check(&self, url: &SourceUrl) -> bool {
        self.shared.checks.lock().get(url).is_none_or(|until| *until <= Instant::now())
    }

    /// The job for a URL: the one under way, or a new one. `device`: who asks; `None`: an administrator.
    pub(crate) fn start(
        &self,
        url: &SourceUrl,
        cause: Cause,
        device: Option<PeerId>,
    ) -> watch::Receiver<Stage> {
        let mut jobs = self.shared.jobs.lock();
        if let Some(running) = jobs.get(url).filter(|job| is_alive(&job.stage)) {
            if device.is_none() {
                running.urgent.cancel();
            }
            return running.stage.clone();
        }
        let refused = if self.shared.stop.is_cancelled() {
            Some(ENDING.to_owned())
        } else {
            device.and_then(|device| no_room(&jobs, device))
        };
        if let Some(why) = refused {
            return watch::channel(Stage::Refused(Refused::busy(why))).1;
        }
        let (sender, stage) = watch::channel(Stage::Working { fetched: 0, size: None });
        let urgent = CancellationToken::new();
        if device.is_none() {
            urgent.cancel();
        }
        jobs.insert(url.clone(), Listed { stage: stage.clone(), device, urgent: urgent.clone() });
        drop(jobs);
        let asker = Asker { device, host: format!("{}:{}", url.host(), url.port()), urgent };
        let (this, url) = (self.clone(), url.clone());
        self.shared.tasks.spawn(async move { this.run(url, cause, asker, sender).await });
        stage
    }

    async fn run(self, url: SourceUrl, cause: Cause, asker: Asker, stage: watch::Sender<Stage>) {
        let shared = &*self.shared;
        let job = Job::new(shared, &url, cause, &stage);
        let work = async {
            let _place = shared.places.take(asker).await;
            job.run().await
        };
        let result = tokio::select! {
            result = work => result,
            () = shared.stop.cancelled() => Err(Refused::busy(ENDING.to_owned())),
        };
        let last = match result {
            Ok(record) => {
                shared.refusals.lock().clear(&url);
                Stage::Done(record)
            }
            Err(refused) => {
                tracing::info!(%url, reason = %refused.reason, "not ingested");
                Stage::Refused(shared.refusals.lock().remember(&url, refused, Instant::now()))
            }
        };
        // Out of the table first: whoever sees the end of a job must be able to start the next one.
        shared.jobs.lock().remove(&url);
        stage.send_replace(last);
    }
}

impl Shared {
    fn note_check(&self, url: &SourceUrl, pause: Duration) {
        let now = Instant::now();
        let mut checks = self.checks.lock();
        if checks.len() >= MAX_CHECKS {
            checks.retain(|_, until| *until > now);
        }
        if checks.len() < MAX_CHECKS {
            checks.insert(url.clone(), now + pause);
        }
    }
}

/// Why no job can be added for a device. Administrators always have room.
fn no_room(jobs: &HashMap<SourceUrl, Listed>, device: PeerId) -> Option<String> {
    let own = || jobs.values().filter(|job| job.device == Some(device)).count();
    if jobs.len() >= MAX_JOBS {
        Some(format!("{MAX_JOBS} urls are being fetched already"))
    } else if own() >= MAX_JOBS_OF_ONE {
        Some(format!("{MAX_JOBS_OF_ONE} urls are being fetched for this device already"))
    } else {
        None
    }
}

/// Jobs leave the table before they end, so one that stands there without a task has panicked.
fn is_alive(job: &watch::Receiver<Stage>) -> bool {
    job.has_changed().is_ok()
}

/// Waits until a job ends, at most until `deadline`; returns how far it is then.
pub(crate) async fn wait(
    mut job: watch::Receiver<Stage>,
    deadline: Instant,
    stop: &CancellationToken,
) -> Stage {
    let ended = job.wait_for(|stage| !matches!(stage, Stage::Working { .. }));
    let ended = tokio::select! {
        ended = tokio::time::timeout_at(deadline, ended) => matches!(ended, Ok(Ok(_))),
        () = stop.cancelled() => false,
    };
    let stage = job.borrow().clone();
    match stage {
        // The job's task is gone without an answer: it panicked.
        Stage::Working { .. } if !ended && job.has_changed().is_err() => {
            Stage::Refused(Refused::busy("the fetch was given up".into()))
        }
        stage => stage,
    }
}
