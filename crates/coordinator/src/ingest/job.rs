//! One job: look what is known, ask the origin if need be, read the file, sign.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use peerage_content::{Digest, Digester, ScopeSet, Validators};
use peerage_origin::{
    ErrorKind, Failure, Known, OriginError, OriginInfo, RangeBody, RangeRequest, SourceUrl,
};
use tokio::sync::watch;

use super::pace::Pace;
use super::{Cause, RECHECK, REFETCH, Refused, Shared, Stage, lanes};
use crate::records::{New, Record, RecordsError};

/// A broken fetch is taken up where it broke this many times without progress.
const RESUMES: u32 = 4;
/// Pause before the first of them; doubled each time.
const RESUME_PAUSE: Duration = Duration::from_millis(500);
/// Progress is told every so many bytes.
const TELL_EVERY: u64 = 1 << 20;

pub(super) struct Job<'a> {
    shared: &'a Shared,
    url: &'a SourceUrl,
    cause: Cause,
    stage: &'a watch::Sender<Stage>,
    pace: Pace,
}

/// What a look at the origin says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fresh,
    Stale,
    /// It gives nothing that could be compared: only the bytes can tell.
    Silent,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        url: &'a SourceUrl,
        cause: Cause,
        stage: &'a watch::Sender<Stage>,
    ) -> Self {
        Self { shared, url, cause, stage, pace: Pace::default() }
    }

    pub(super) async fn run(&self) -> Result<Record, Refused> {
        let known = self.shared.records.by_url(self.url.as_str()).await.map_err(broken)?;
        match (self.cause, known) {
            // Whoever asked may have looked just before another job ended.
            (Cause::Unknown, Some(known)) => Ok(known),
            (Cause::Stale(serial), Some(known)) if known.get().serial != serial => Ok(known),
            (Cause::Stale(_), Some(known)) => match (self.look(&known).await?, self.shared.on_demand) {
                (Verdict::Fresh, _) | (Verdict::Silent, false) => Ok(known),
                (Verdict::Stale | Verdict::Silent, true) => self.fetch(known.get().scopes).await,
                (Verdict::Stale, false) => Err(Refused::unknown(
                    "the origin serves something else than was published, and on_demand is off".to_owned(),
                )),
            },
            (Cause::Unknown | Cause::Stale(_), None) | (Cause::Again, _) => self.fetch(ScopeSet::ALL).await,
        }
    }

    /// What the origin says of a record, without fetching the file.
    async fn look(&self, known: &Record) -> Result<Verdict, Refused> {
        let (record, url) = (known.get(), self.url);
        let found = self.shared.origin.probe(url).await.map_err(Refused::from)?;
        if let Err(stale) = record.check_fresh(found.size, &found.validators) {
            tracing::info!(%url, serial = record.serial, %stale, "record is stale");
            self.shared.records.forget_url(url.as_str(), record.serial).await.map_err(broken)?;
            self.shared.note_check(url, RECHECK);
            return Ok(Verdict::Stale);
        }
        let tells = comparable(&record.validators, &found.validators);
        self.shared.note_check(url, if tells { RECHECK } else { REFETCH });
        Ok(if tells { Verdict::Fresh } else { Verdict::Silent })
    }

    /// Reads the file and signs what it is; it may be shared in `scopes` at most.
    ///
    /// What a publisher has restricted stays so whoever asks, by whatever url: only an administrator may widen it.
    async fn fetch(&self, scopes: ScopeSet) -> Result<Record, Refused> {
        let max = self.shared.max_time;
        let read = async {
            tokio::select! {
                read = self.read() => read,
                slow = self.pace.too_slow() => Err(slow),
            }
        };
        let read = tokio::time::timeout(max, read).await;
        let (digest, info) =
            read.map_err(|_| Refused::origin(format!("not read within {} s", max.as_secs())))??;
        let scopes = match self.cause {
            Cause::Again => scopes,
            Cause::Unknown | Cause::Stale(_) => {
                let held = self.shared.records.restriction(digest.id).await.map_err(broken)?;
                ScopeSet::from_bits(scopes.bits() & held.bits())
            }
        };
        let new = New {
            map: digest.map,
            sha256: digest.sha256,
            urls: vec![self.url.as_str().to_owned()],
            validators: info.validators,
            scopes,
            valid_s: None,
        };
        self.shared.records.register(new).await.map_err(broken)
    }

    /// Reads the whole file.
    async fn read(&self) -> Result<(Digest, OriginInfo), Refused> {
        let mut progress = Progress { digester: Digester::new(), told: 0, size: None, stage: self.stage };
        let first = RangeRequest { from: 0, to: Some(lanes::STRIPE) };
        let body = match self.shared.origin.open(self.url, first, &Known::default()).await {
            // An empty file has no first byte.
            Err(OriginError { failure: Failure::OutOfRange { .. }, .. }) => {
                self.open(0, &Known::default()).await?
            }
            opened => opened?,
        };
        let info = body.info().clone();
        progress.size = info.size;
        match lanes::size_in_stripes(&body) {
            Some(size) => {
                let mut stripes = pin!(lanes::read(&self.shared.origin, self.url, body, size, &self.pace));
                while let Some(stripe) = stripes.next().await {
                    progress.add(&stripe?);
                }
            }
            None => self.read_on(body, &mut progress).await?,
        }
        let digest = progress.digester.finish().map_err(|error| Refused::origin(error.to_string()))?;
        Ok((digest, info))
    }

    /// Reads to the end of the file over one connection at a time.
    async fn read_on(&self, mut body: RangeBody, progress: &mut Progress<'_>) -> Result<(), Refused> {
        let info = body.info().clone();
        let (mut failures, mut opened_at) = (0, 0);
        loop {
            match body.chunk().await {
                Ok(Some(bytes)) => {
                    self.pace.add(bytes.len());
                    progress.add(&bytes);
                    failures = 0;
                }
                // The first answer is of the first stripe only.
                Ok(None) if info.size.is_some_and(|size| progress.digester.size() < size) => {
                    let at = progress.digester.size();
                    lanes::enough(self.url, at - opened_at)?;
                    opened_at = at;
                    body = self.open(at, &info.known()).await?;
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    failures += 1;
                    body = self.resume(&info, progress.digester.size(), failures, error).await?;
                }
            }
        }
    }

    async fn open(&self, from: u64, known: &Known) -> Result<RangeBody, Refused> {
        let range = RangeRequest { from, to: None };
        let body = self.shared.origin.open(self.url, range, known).await.map_err(Refused::from)?;
        if body.start() != from {
            return Err(Refused::origin(format!("{}: the origin cannot resume a broken fetch", self.url)));
        }
        Ok(body)
    }

    /// Takes a broken fetch up again.
    async fn resume(
        &self,
        info: &OriginInfo,
        from: u64,
        failures: u32,
        error: OriginError,
    ) -> Result<RangeBody, Refused> {
        let same = info.supports_ranges && info.validators != Validators::default() && from > 0;
        let Some(pause) = resume_pause(&error, failures).filter(|_| same) else { return Err(error.into()) };
        tracing::debug!(url = %self.url, from, %error, "fetch broke; taken up again");
        tokio::time::sleep(pause).await;
        self.open(from, &info.known()).await
    }
}

/// What has been read.
struct Progress<'a> {
    digester: Digester,
    told: u64,
    size: Option<u64>,
    stage: &'a watch::Sender<Stage>,
}

impl Progress<'_> {
    fn add(&mut self, bytes: &[u8]) {
        self.digester.update(bytes);
        if self.digester.size() - self.told >= TELL_EVERY {
            self.told = self.digester.size();
            self.stage.send_replace(Stage::Working { fetched: self.told, size: self.size });
        }
    }
}

/// How long to wait before a broken fetch is taken up again; `None`: it is not.
pub(super) fn resume_pause(error: &OriginError, failures: u32) -> Option<Duration> {
    let may = matches!(error.kind(), ErrorKind::Later { .. }) && failures <= RESUMES;
    may.then(|| RESUME_PAUSE * 2u32.pow(failures.saturating_sub(1)))
}

/// Whether two answers of an origin say something that could differ.
fn comparable(a: &Validators, b: &Validators) -> bool {
    let both = |a: &str, b: &str| !a.is_empty() && !b.is_empty();
    both(&a.etag, &b.etag) || both(&a.last_modified, &b.last_modified)
}

fn broken(error: RecordsError) -> Refused {
    tracing::error!(error = &error as &dyn std::error::Error, "catalog failed");
    Refused::internal()
}
