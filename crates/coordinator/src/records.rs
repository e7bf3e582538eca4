//! Records: making, finding and serving the catalog's signed word, together with the piece maps it speaks of.
//!
//! A record is handed out only while it holds and only together with a map that this coordinator can serve. Order of
//! writing: map first, record second, so that after a crash there may be a map without a record, never the reverse.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use peerage_content::{
    ContentId, ContentRecord, PieceMap, PublicKey, ScopeSet, SecretKey, Sha256, Signed, SignedError,
    Validators,
};

use crate::clock::Clock;
use crate::maps::{MapError, Maps};
use crate::store::{Catalog, StoreError, Terms};

/// Terms are looked up again after this many seconds: another coordinator may have changed them.
const TERMS_LIFE_S: u32 = 60;
/// Contents whose terms are remembered; beyond that all are looked up anew.
const MAX_TERMS: usize = 1 << 18;
/// Records are kept this long after their end, so that an administrator can still see what there was.
const KEEP_ENDED_S: u64 = 30 * 86_400;

/// A record cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Map(#[from] MapError),
    /// A stored record is not one that this catalog signed: the database or the key was exchanged.
    #[error("stored record of {what} cannot be trusted: {source}")]
    Foreign {
        what: String,
        #[source]
        source: SignedError,
    },
}

/// What a new record is to say.
#[derive(Debug, Clone)]
pub(crate) struct New {
    pub(crate) map: PieceMap,
    pub(crate) sha256: Sha256,
    pub(crate) urls: Vec<String>,
    pub(crate) validators: Validators,
    pub(crate) scopes: ScopeSet,
    /// Seconds; `None`: as configured.
    pub(crate) valid_s: Option<u64>,
}

/// A signed record, shared.
pub(crate) type Record = Arc<Signed<ContentRecord>>;

pub(crate) struct Records {
    catalog: Arc<dyn Catalog>,
    maps: Maps,
    key: SecretKey,
    trusted: [PublicKey; 1],
    valid_s: u64,
    clock: Clock,
    /// Terms and when they were looked up (uptime seconds).
    terms: RwLock<HashMap<ContentId, (Option<Terms>, u32)>>,
}

impl Records {
    pub(crate) fn new(
        catalog: Arc<dyn Catalog>,
        maps: Maps,
        key: SecretKey,
        valid_s: u64,
        clock: Clock,
    ) -> Self {
        let trusted = [key.public()];
        Self { catalog, maps, key, trusted, valid_s, clock, terms: RwLock::default() }
    }

    /// The keys that devices are to trust.
    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        self.trusted.to_vec()
    }

    /// Makes, signs and keeps a record and its map.
    pub(crate) async fn register(&self, new: New) -> Result<Record, RecordsError> {
        self.maps.put(&new.map).await?;
        let now = self.clock.unix();
        let record = ContentRecord {
            id: new.map.id(),
            size: new.map.layout().size(),
            sha256: new.sha256,
            urls: new.urls,
            validators: new.validators,
            scopes: new.scopes,
            not_before: now,
            not_after: now.saturating_add(new.valid_s.unwrap_or(self.valid_s)),
            serial: self.catalog.next_serial().await?,
        };
        let signed = Signed::new(record, &self.key);
        self.catalog.put(&signed).await?;
        let record = signed.get();
        let terms = Terms { scopes: record.scopes, not_after: record.not_after };
        self.remember([(record.id, Some(terms))]);
        tracing::info!(id = %record.id, size = record.size, serial = record.serial, "record signed");
        Ok(Arc::new(signed))
    }

    /// The record that speaks for a (normalised) URL now.
    pub(crate) async fn by_url(&self, url: &str) -> Result<Option<Record>, RecordsError> {
        self.open(self.catalog.by_url(url).await?, || "a url".to_owned()).await
    }

    /// The newest record of a content that still holds.
    pub(crate) async fn by_id(&self, id: ContentId) -> Result<Option<Record>, RecordsError> {
        self.open(self.catalog.by_id(id).await?, || id.to_string()).await
    }

    /// The newest record with a SHA-256 that still holds.
    pub(crate) async fn by_sha256(&self, sha256: Sha256) -> Result<Option<Record>, RecordsError> {
        self.open(self.catalog.by_sha256(sha256).await?, || sha256.to_string()).await
    }

    async fn open(
        &self,
        found: Option<Vec<u8>>,
        what: impl FnOnce() -> String,
    ) -> Result<Option<Record>, RecordsError> {
        let Some(bytes) = found else { return Ok(None) };
        let signed = Signed::<ContentRecord>::from_bytes(&bytes, &self.trusted)
            .map_err(|source| RecordsError::Foreign { what: what(), source })?;
        if signed.get().check_time(self.clock.unix()).is_err() {
            return Ok(None);
        }
        // A lost map makes the record useless; looked up again, the content is ingested anew.
        if self.maps.get(signed.get().id).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(signed)))
    }

    /// The file form of a content's map.
    pub(crate) async fn map(&self, id: ContentId) -> Result<Option<Bytes>, RecordsError> {
        Ok(self.maps.get(id).await?)
    }

    /// The URL serves something else than the record of this serial says.
    pub(crate) async fn forget_url(&self, url: &str, serial: u64) -> Result<(), RecordsError> {
        Ok(self.catalog.forget_url(url, serial).await?)
    }

    /// Where contents may be shared now, in the order asked; nowhere if there is no record that holds.
    pub(crate) async fn scopes(&self, ids: &[ContentId]) -> Result<Vec<ScopeSet>, RecordsError> {
        let (now, uptime) = (self.clock.unix(), self.clock.uptime());
        let holding = |terms: Option<Terms>| {
            terms.filter(|terms| now <= terms.not_after).map_or(ScopeSet::NONE, |terms| terms.scopes)
        };
        let mut missing = Vec::new();
        let mut scopes: Vec<ScopeSet> = {
            let known = self.terms.read();
            let look = |id| match known.get(id) {
                Some((terms, at)) if uptime.saturating_sub(*at) < TERMS_LIFE_S => holding(*terms),
                _ => {
                    missing.push(*id);
                    ScopeSet::NONE
                }
            };
            ids.iter().map(look).collect()
        };
        if !missing.is_empty() {
            let looked_up = self.catalog.terms(&missing).await?;
            let found: HashMap<_, _> = missing.into_iter().zip(looked_up).collect();
            for (id, scopes) in ids.iter().zip(&mut scopes) {
                if let Some(terms) = found.get(id) {
                    *scopes = holding(*terms);
                }
            }
            self.remember(found);
        }
        Ok(scopes)
    }

    /// Where the newest record of a content lets it be shared, even if that record has ended; everywhere without one.
    pub(crate) async fn restriction(&self, id: ContentId) -> Result<ScopeSet, RecordsError> {
        let terms = self.catalog.terms(&[id]).await?;
        Ok(terms.into_iter().next().flatten().map_or(ScopeSet::ALL, |terms| terms.scopes))
    }

    fn remember(&self, found: impl IntoIterator<Item = (ContentId, Option<Terms>)>) {
        let uptime = self.clock.uptime();
        let mut terms = self.terms.write();
        if terms.len() > MAX_TERMS {
            terms.clear();
        }
        terms.extend(found.into_iter().map(|(id, known)| (id, (known, uptime))));
    }

    /// How many contents there are.
    pub(crate) async fn count(&self) -> Result<u64, RecordsError> {
        Ok(self.catalog.count().await?)
    }

    /// Drops records that ended long ago, and the maps that nothing speaks of any more.
    pub(crate) async fn purge(&self) -> Result<(), RecordsError> {
        let gone = self.catalog.purge(self.clock.unix().saturating_sub(KEEP_ENDED_S)).await?;
        for id in &gone {
            self.maps.remove(*id).await?;
        }
        if !gone.is_empty() {
            tracing::info!(contents = gone.len(), "dropped contents whose records ended");
        }
        Ok(())
    }
}
