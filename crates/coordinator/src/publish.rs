//! Publish: a content whose bytes the publisher has hashed, or a URL that an administrator wants read.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerage_api::Code;
use peerage_api::coordinator::{IngestRequest, PublishRequest, PublishResponse, ResolveResponse};
use peerage_content::PieceMap;
use tokio::time::Instant;

use crate::ingest::{Cause, Stage, wait};
use crate::records::{New, Record};
use crate::resolve::MAX_WAIT;
use crate::state::{Failure, Parts, public_url};

const MAX_URLS: usize = 64;
const MAX_VALIDATOR: usize = 1024;
const VALID_S: std::ops::RangeInclusive<u64> = 60..=10 * 366 * 86_400;

impl Parts {
    /// Registers what a publisher says, once the map has proven the id.
    pub(crate) async fn publish(&self, request: PublishRequest) -> Result<PublishResponse, Failure> {
        let new = tokio::task::spawn_blocking(move || check(request))
            .await
            .map_err(|_| Failure::new(Code::Internal, "the coordinator failed; its log says why"))??;
        Ok(response(&self.records.register(new).await?))
    }

    /// Reads a URL, and says what it is or how far it is.
    pub(crate) async fn ingest(
        &self,
        request: &IngestRequest,
    ) -> Result<Result<PublishResponse, ResolveResponse>, Failure> {
        let url = public_url(&request.url)?;
        let patience = Duration::from_millis(request.wait_ms).min(MAX_WAIT);
        let job = self.ingester.start(&url, Cause::Again, None);
        match wait(job, Instant::now() + patience, &self.stop).await {
            Stage::Done(record) => Ok(Ok(response(&record))),
            Stage::Working { fetched, size } => Ok(Err(ResolveResponse::Pending { fetched, size })),
            Stage::Refused(refused) => Err(refused.into()),
        }
    }
}

fn response(record: &Record) -> PublishResponse {
    let said = record.get();
    PublishResponse { id: said.id, size: said.size, sha256: said.sha256, record: (&**record).into() }
}

fn check(request: PublishRequest) -> Result<New, Failure> {
    let PublishRequest { urls, sha256, map, id, validators, scopes, valid_s } = request;
    if urls.is_empty() || urls.len() > MAX_URLS {
        return Err(Failure::bad(format!("{} urls, allowed are 1 to {MAX_URLS}", urls.len())));
    }
    if let Some(found) = valid_s.filter(|found| !VALID_S.contains(found)) {
        let (from, to) = (VALID_S.start(), VALID_S.end());
        return Err(Failure::bad(format!("valid_s is {found}, allowed are {from} to {to}")));
    }
    for (name, text) in [("etag", &validators.etag), ("last_modified", &validators.last_modified)] {
        if text.len() > MAX_VALIDATOR || text.chars().any(char::is_control) {
            return Err(Failure::bad(format!("{name} is not one line of at most {MAX_VALIDATOR} bytes")));
        }
    }
    let mut public: Vec<String> = Vec::with_capacity(urls.len());
    for url in &urls {
        let url = public_url(url)?.as_str().to_owned();
        if !public.contains(&url) {
            public.push(url);
        }
    }
    let map = URL_SAFE_NO_PAD.decode(map).map_err(|_| Failure::bad("map is not base64url"))?;
    let map =
        PieceMap::from_bytes(&map, id).map_err(|error| Failure::new(Code::Integrity, error.to_string()))?;
    Ok(New { map, sha256, urls: public, validators, scopes, valid_s })
}
