//! The catalog: all signed records, and which one speaks for a URL, a content or a SHA-256 today.

use peerage_content::{ContentId, ContentRecord, ScopeSet, Sha256, Signed};

use super::Stored;

/// What announcing needs to know of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Where it may be shared.
    pub(crate) scopes: ScopeSet,
    /// Until when (Unix seconds).
    pub(crate) not_after: u64,
}

/// Keeps records. The record with the highest serial speaks for each of its URLs, its content and its SHA-256; older
/// ones of a URL stay reachable by content and SHA-256.
pub(crate) trait Catalog: Send + Sync {
    /// The next serial: higher than all before, also over restarts.
    fn next_serial(&self) -> Stored<'_, u64>;

    /// Keeps a record, durably once this returns.
    fn put<'a>(&'a self, record: &'a Signed<ContentRecord>) -> Stored<'a, ()>;

    /// The signed bytes of the record that speaks for a URL.
    fn by_url<'a>(&'a self, url: &'a str) -> Stored<'a, Option<Vec<u8>>>;

    /// The signed bytes of the newest record of a content.
    fn by_id(&self, id: ContentId) -> Stored<'_, Option<Vec<u8>>>;

    /// The signed bytes of the newest record with a SHA-256.
    fn by_sha256(&self, sha256: Sha256) -> Stored<'_, Option<Vec<u8>>>;

    /// The terms of contents, in the order asked; `None` where there is no record.
    fn terms<'a>(&'a self, ids: &'a [ContentId]) -> Stored<'a, Vec<Option<Terms>>>;

    /// The URL serves something else now: the record of this serial no longer speaks for it.
    fn forget_url<'a>(&'a self, url: &'a str, serial: u64) -> Stored<'a, ()>;

    /// Drops records that ended before `time`; returns contents that have no record any more.
    fn purge(&self, time: u64) -> Stored<'_, Vec<ContentId>>;

    /// How many contents there are.
    fn count(&self) -> Stored<'_, u64>;
}

#[cfg(test)]
pub(crate) mod conformance {
    use peerage_content::{SecretKey, Validators};

    use super::*;

    fn record(id: u8, urls: &[&str], serial: u64, not_after: u64) -> Signed<ContentRecord> {
        let record = ContentRecord {
            id: ContentId::from_bytes([id; 32]),
            size: 9,
            sha256: Sha256::from_bytes([id + 100; 32]),
            urls: urls.iter().map(ToString::to_string).collect(),
            validators: Validators::default(),
            scopes: ScopeSet::from_bits(id),
            not_before: 0,
            not_after,
            serial,
        };
        Signed::new(record, &SecretKey::from_seed(&[5; 32]))
    }

    /// What every [`Catalog`] must do. `reopen` gives the same catalog after a restart.
    pub(crate) async fn run<C: Catalog, F: Future<Output = C>>(reopen: impl Fn() -> F) {
        let catalog = reopen().await;
        let (id, sha) = (|n| ContentId::from_bytes([n; 32]), |n: u8| Sha256::from_bytes([n + 100; 32]));
        let text = |signed: &Signed<ContentRecord>| Some(signed.as_bytes().to_vec());
        assert!(catalog.by_url("http://a/").await.unwrap().is_none());
        let first = catalog.next_serial().await.unwrap();
        assert!(catalog.next_serial().await.unwrap() > first);

        let (old, new) =
            (record(1, &["http://a/", "http://b/"], 10, 500), record(2, &["http://a/"], 11, 900));
        catalog.put(&old).await.unwrap();
        catalog.put(&new).await.unwrap();
        assert_eq!(catalog.by_url("http://a/").await.unwrap(), text(&new));
        assert_eq!(catalog.by_url("http://b/").await.unwrap(), text(&old));
        assert_eq!(
            catalog.by_id(id(1)).await.unwrap(),
            text(&old),
            "reachable by id though its url moved on"
        );
        assert_eq!(catalog.by_sha256(sha(2)).await.unwrap(), text(&new));
        assert_eq!(catalog.count().await.unwrap(), 2);

        let late = record(1, &["http://a/", "http://c/"], 9, 700);
        catalog.put(&late).await.unwrap();
        assert_eq!(catalog.by_url("http://a/").await.unwrap(), text(&new), "a lower serial never wins");
        assert_eq!(catalog.by_id(id(1)).await.unwrap(), text(&old));
        assert_eq!(catalog.count().await.unwrap(), 2);

        let terms = catalog.terms(&[id(2), id(7), id(1)]).await.unwrap();
        let of = |scopes, not_after| Some(Terms { scopes: ScopeSet::from_bits(scopes), not_after });
        assert_eq!(terms, [of(2, 900), None, of(1, 500)]);
        let many: Vec<_> = (0..1000u32)
            .map(|n| ContentId::from_bytes([n.to_be_bytes(); 8].as_flattened().try_into().unwrap()))
            .collect();
        assert_eq!(catalog.terms(&many).await.unwrap(), vec![None; 1000]);

        catalog.forget_url("http://a/", 10).await.unwrap();
        assert_eq!(catalog.by_url("http://a/").await.unwrap(), text(&new), "another record speaks by now");
        catalog.forget_url("http://a/", 11).await.unwrap();
        assert!(catalog.by_url("http://a/").await.unwrap().is_none());
        assert_eq!(catalog.by_id(id(2)).await.unwrap(), text(&new));

        let highest = catalog.next_serial().await.unwrap();
        drop(catalog);
        let catalog = reopen().await;
        assert!(catalog.next_serial().await.unwrap() > highest);
        assert_eq!(catalog.by_url("http://b/").await.unwrap(), text(&old));

        assert!(catalog.purge(500).await.unwrap().is_empty(), "ends at 500, so it holds in that second");
        assert!(catalog.purge(600).await.unwrap().is_empty(), "content 1 has another record");
        assert!(catalog.by_url("http://b/").await.unwrap().is_none());
        assert_eq!(catalog.purge(800).await.unwrap(), [id(1)]);
        assert!(catalog.by_id(id(1)).await.unwrap().is_none());
        assert_eq!(catalog.count().await.unwrap(), 1);
    }
}
