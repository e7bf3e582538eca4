//! One job: look what is known, ask the origin if need be, read the file, sign.

use std::time::Duration;

use peerage_content::{Digester, ScopeSet, Validators};
use peerage_origin::{ErrorKind, Known, OriginError, OriginInfo, RangeBody, RangeRequest, SourceUrl};
use tokio::sync::watch;

use super::{Cause, RECHECK, REFETCH, Refused, Shared, Stage};
use crate::records::{New, Record, RecordsError};

/// A broken fetch is taken up where it broke this many times without progress.
const RESUMES: u32 = 4;
/// Pause before the first of them; doubled each time.
const RESUME_PAUSE: Duration = Duration::from_millis(500);
/// Progress is told every so many bytes.
const TELL_EVERY: u64 = 1 << 20;

pub(super) struct Job<'a> {
    pub(super) shared: &'a Shared,
    pub(super) url: &'a SourceUrl,
    pub(super) cause: Cause,
    pub(super) stage: &'a watch::Sender<Stage>,
}

/// What a look at the origin says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fresh,
    Stale,
    /// It gives nothing that could be compared: only the bytes can tell.
    Silent,
}

impl Job<'_> {
    pub(super) async fn run(&self) -> Result<Record, Refused> {
        let _place = self.shared.places.acquire().await.map_err(|_| Refused::internal())?;
        let known = self.shared.records.by_url(self.url.as_str()).await.map_err(broken)?;
        match (self.cause, known) {
            // Whoever asked may have looked just before another job ended.
            (Cause::Unknown, Some(known)) => Ok(known),
            (Cause::Stale(serial), Some(known)) if known.get().serial != serial => Ok(known),
            (Cause::Stale(_), Some(known)) => match (self.look(&known).await?, self.shared.on_demand) {
                (Verdict::Fresh, _) | (Verdict::Silent, false) => Ok(known),
                (Verdict::Stale | Verdict::Silent, true) => self.fetch().await,
                (Verdict::Stale, false) => Err(Refused::unknown(
                    "the origin serves something else than was published, and on_demand is off".to_owned(),
                )),
            },
            (Cause::Unknown | Cause::Stale(_), None) | (Cause::Again, _) => self.fetch().await,
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

    async fn fetch(&self) -> Result<Record, Refused> {
        let (mut digester, mut told) = (Digester::new(), 0);
        let mut body = self.open(0, &Known::default()).await?;
        let info = body.info().clone();
        let mut failures = 0;
        loop {
            match body.chunk().await {
                Ok(Some(bytes)) => {
                    digester.update(&bytes);
                    failures = 0;
                    if digester.size() - told >= TELL_EVERY {
                        told = digester.size();
                        self.stage.send_replace(Stage::Working { fetched: told, size: info.size });
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    failures += 1;
                    body = self.resume(&info, digester.size(), failures, error).await?;
                }
            }
        }
        let digest = digester.finish().map_err(|error| Refused::origin(error.to_string()))?;
        let new = New {
            map: digest.map,
            sha256: digest.sha256,
            urls: vec![self.url.as_str().to_owned()],
            validators: info.validators,
            scopes: ScopeSet::ALL,
            valid_s: None,
        };
        self.shared.records.register(new).await.map_err(broken)
    }

    async fn open(&self, from: u64, known: &Known) -> Result<RangeBody, Refused> {
        let range = RangeRequest { from, to: None };
        let body = self.shared.origin.open(self.url, range, known).await.map_err(Refused::from)?;
        if body.start() != from {
            return Err(Refused::origin(format!("{}: the origin cannot resume a broken fetch", self.url)));
        }
        Ok(body)
    }

    /// Takes a broken fetch up again. Only where the origin can tell that it still has the same file.
    async fn resume(
        &self,
        info: &OriginInfo,
        from: u64,
        failures: u32,
        error: OriginError,
    ) -> Result<RangeBody, Refused> {
        let same = info.supports_ranges && info.validators != Validators::default();
        if !matches!(error.kind(), ErrorKind::Later { .. }) || !same || from == 0 || failures > RESUMES {
            return Err(error.into());
        }
        tracing::debug!(url = %self.url, from, %error, "fetch broke; taken up again");
        tokio::time::sleep(RESUME_PAUSE * 2u32.pow(failures - 1)).await;
        self.open(from, &info.known()).await
    }
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
