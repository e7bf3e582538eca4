//! On-demand ingestion: reads a URL once, hashes it on the way, signs what it is (architecture §3).
//!
//! - One job per URL at a time; whoever asks meanwhile joins it. A job belongs to the coordinator, not to who asked.
//! - Every fetch goes through the guard of `peerage_origin`; no byte is stored, only digests.
//! - A URL that failed is not tried again at once: the refusal is remembered, twice as long each time.
//! - A device that found a record stale makes the coordinator look for itself. What the probe proves wrong is forgotten
//!   before the new fetch begins, so a record known to be stale is never handed out.
//!
//! Jobs live in memory: after a crash the next asker starts anew.

mod job;
mod lanes;
mod refusals;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_origin::{OriginClient, SourceUrl};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::records::{Record, Records};
use job::Job;
use refusals::Refusals;
pub(crate) use refusals::Refused;

/// Jobs at once, waiting ones included.
const MAX_JOBS: usize = 1000;
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
    places: Semaphore,
    /// Longest time for reading one file.
    max_time: Duration,
    jobs: Mutex<HashMap<SourceUrl, watch::Receiver<Stage>>>,
    refusals: Mutex<Refusals>,
    /// When a URL's claim of staleness may be heard again.
    checks: Mutex<HashMap<SourceUrl, Instant>>,
    tasks: TaskTracker,
    stop: CancellationToken,
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
            places: Semaphore::new(config.ingest_concurrency),
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
        self.shared.jobs.lock().get(url).filter(|job| is_alive(job)).cloned()
    }

    /// Why a URL was refused lately.
    pub(crate) fn refused(&self, url: &SourceUrl) -> Option<Refused> {
        self.shared.refusals.lock().current(url, Instant::now())
    }

    /// Whether a claim that the record of a URL is stale is to be looked into now.
    pub(crate) fn may_check(&self, url: &SourceUrl) -> bool {
        self.shared.checks.lock().get(url).is_none_or(|until| *until <= Instant::now())
    }

    /// The job for a URL: the one under way, or a new one.
    pub(crate) fn start(&self, url: &SourceUrl, cause: Cause) -> watch::Receiver<Stage> {
        let mut jobs = self.shared.jobs.lock();
        if let Some(running) = jobs.get(url).filter(|job| is_alive(job)) {
            return running.clone();
        }
        let ending = self.shared.stop.is_cancelled();
        if ending || jobs.len() >= MAX_JOBS {
            let why =
                if ending { ENDING.to_owned() } else { format!("{MAX_JOBS} urls are being fetched already") };
            return watch::channel(Stage::Refused(Refused::busy(why))).1;
        }
        let (sender, receiver) = watch::channel(Stage::Working { fetched: 0, size: None });
        jobs.insert(url.clone(), receiver.clone());
        drop(jobs);
        let (this, url) = (self.clone(), url.clone());
        self.shared.tasks.spawn(async move { this.run(url, cause, sender).await });
        receiver
    }

    async fn run(self, url: SourceUrl, cause: Cause, stage: watch::Sender<Stage>) {
        let shared = &*self.shared;
        let job = Job { shared, url: &url, cause, stage: &stage };
        let result = tokio::select! {
            result = job.run() => result,
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
