//! Resolve: what a URL, a content id or a SHA-256 is (DO: Content policy and metadata).

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerage_api::Code;
use peerage_api::coordinator::{AnnounceRequest, ResolveRequest, ResolveResponse};
use peerage_content::PeerId;
use peerage_origin::SourceUrl;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::ingest::{Cause, Refused, Stage, wait};
use crate::records::Record;
use crate::state::{Failure, Parts, public_url};

/// Longest that an answer is held back.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);
/// Largest map sent along, in bytes: contents of up to 2 GiB.
const MAX_MAP: usize = 64 << 10;

/// With the answer to the announce as it is written.
pub(crate) type Resolved = ResolveResponse<Box<RawValue>>;

impl Parts {
    /// Handles a resolve of `peer`, seen at `seen`.
    pub(crate) async fn resolve(
        &self,
        peer: PeerId,
        seen: IpAddr,
        request: ResolveRequest,
    ) -> Result<Resolved, Failure> {
        let named = [request.url.is_some(), request.id.is_some(), request.sha256.is_some()];
        if named.iter().filter(|named| **named).count() != 1 {
            return Err(Failure::bad("exactly one of url, id and sha256 must be given"));
        }
        if request.announce.as_ref().is_some_and(|announce| announce.items.len() != 1) {
            return Err(Failure::bad("an embedded announce has exactly one item"));
        }
        let stage = match (&request.url, request.id, request.sha256) {
            (Some(url), ..) => self.by_url(peer, url, &request).await?,
            (None, Some(id), _) => known_or("content id", self.records.by_id(id).await?),
            (None, None, Some(sha256)) => known_or("SHA-256", self.records.by_sha256(sha256).await?),
            // Excluded above.
            (None, None, None) => known_or("name", None),
        };
        match stage {
            Stage::Done(record) => self.known(peer, seen, &record, request.announce).await,
            Stage::Working { fetched, size } => Ok(ResolveResponse::Pending { fetched, size }),
            Stage::Refused(Refused { reason, retry_after_s, .. }) => {
                Ok(ResolveResponse::Refused { reason, retry_after_s })
            }
        }
    }

    async fn by_url(&self, peer: PeerId, text: &str, request: &ResolveRequest) -> Result<Stage, Failure> {
        let url = match public_url(text) {
            Ok(url) => url,
            Err(refused) => return Ok(Stage::Refused(refused)),
        };
        let known = self.records.by_url(url.as_str()).await?;
        let cause = match (&known, request.stale_serial) {
            (None, _) => Cause::Unknown,
            (Some(record), Some(serial)) if record.get().serial == serial => Cause::Stale(serial),
            (Some(record), _) => return Ok(Stage::Done(record.clone())),
        };
        if let Some(running) = self.ingester.running(&url) {
            return Ok(self.wait(running, request).await);
        }
        match known {
            // Looked at a moment ago: found fresh, or read anew.
            Some(record) if !self.ingester.may_check(&url) => return Ok(Stage::Done(record)),
            _ => {}
        }
        if let Some(refused) = self.may_start(peer, &url, cause) {
            return Ok(Stage::Refused(refused));
        }
        Ok(self.wait(self.ingester.start(&url, cause, Some(peer)), request).await)
    }

    /// Why this device cannot have this URL fetched now.
    fn may_start(&self, peer: PeerId, url: &SourceUrl, cause: Cause) -> Option<Refused> {
        if let Some(refused) = self.ingester.refused(url) {
            return Some(refused);
        }
        if cause == Cause::Unknown && !self.on_demand {
            let reason = "nobody has published this url, and on_demand is off".to_owned();
            return Some(Refused::unknown(reason));
        }
        match self.fetches.take(peer, 1.0, Instant::now()) {
            Ok(()) => None,
            Err(_) => Some(Refused::busy("this device has had too many urls looked at lately".to_owned())),
        }
    }

    async fn wait(&self, job: tokio::sync::watch::Receiver<Stage>, request: &ResolveRequest) -> Stage {
        let patience = Duration::from_millis(request.wait_ms).min(MAX_WAIT);
        wait(job, Instant::now() + patience, &self.stop).await
    }

    async fn known(
        &self,
        peer: PeerId,
        seen: IpAddr,
        record: &Record,
        announce: Option<AnnounceRequest>,
    ) -> Result<Resolved, Failure> {
        let id = record.get().id;
        let map = self.records.map(id).await?.filter(|bytes| bytes.len() <= MAX_MAP);
        let announce = match announce {
            None => None,
            Some(mut announce) => {
                announce.items.iter_mut().for_each(|item| item.content = id);
                let answer = self.announce(peer, seen, &announce).await?;
                let broken =
                    |_| Failure::new(Code::Internal, "the coordinator could not answer the announce");
                Some(RawValue::from_string(answer).map_err(broken)?)
            }
        };
        let map = map.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        Ok(ResolveResponse::Known { record: (&**record).into(), map, announce })
    }
}

fn known_or(what: &str, found: Option<Record>) -> Stage {
    match found {
        Some(record) => Stage::Done(record),
        None => Stage::Refused(Refused::unknown(format!(
            "no record of this {what} holds; publish it or ask by url"
        ))),
    }
}
