//! The content record: the catalog's signed word on what a URL is. It is what must be trusted (product §2).

use serde::{Deserialize, Serialize};

use crate::bytes_io::{Reader, ShortInput, Writer};
use crate::signed::Statement;
use crate::{ContentId, Layout, MAX_CONTENT_SIZE, ScopeSet, Sha256};

const MAX_URLS: usize = 64;
const MAX_URL: usize = 4096;
const MAX_VALIDATOR: usize = 1024;

/// Why a record does not hold for a download.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Outside its time.
    #[error("record is valid from {not_before} to {not_after} (Unix seconds), now is {now}")]
    Time {
        /// First second it holds.
        not_before: u64,
        /// Last second it holds.
        not_after: u64,
        /// The time it was judged at.
        now: u64,
    },
    /// The origin now serves something else.
    #[error("record is stale: {what} is {found:?} at the origin, {expected:?} in the record")]
    Stale {
        /// Which validator differs.
        what: &'static str,
        /// What the origin says.
        found: String,
        /// What the record says.
        expected: String,
    },
}

/// What the origin said of a content when its bytes were read (RFC 9110 §8.8). Empty text: it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Validators {
    /// The `ETag` header, as sent.
    #[serde(default)]
    pub etag: String,
    /// The `Last-Modified` header, as sent.
    #[serde(default)]
    pub last_modified: String,
}

/// "These source URLs, this SHA-256 and this size are this content; it may be shared in these scopes."
///
/// Never names a local path. Validators belong to the first URL (the one that was read).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRecord {
    /// The content.
    pub id: ContentId,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Sha256,
    /// Where it can be had over HTTP; at most 64.
    pub urls: Vec<String>,
    /// What the origin said of it.
    pub validators: Validators,
    /// In which scopes peers may share it.
    pub scopes: ScopeSet,
    /// First Unix second it holds.
    pub not_before: u64,
    /// Last Unix second it holds.
    pub not_after: u64,
    /// Grows with each record that a catalog makes; the higher one wins.
    pub serial: u64,
}

impl ContentRecord {
    /// How the content is cut.
    pub fn layout(&self) -> Layout {
        // Decoding and making a record both check the size, so the fallback is never taken.
        Layout::new(self.size.min(MAX_CONTENT_SIZE)).unwrap_or_else(|_| unreachable!("size is capped"))
    }

    /// Whether it holds at `now` (Unix seconds).
    ///
    /// # Errors
    /// [`RecordError::Time`].
    pub fn check_time(&self, now: u64) -> Result<(), RecordError> {
        let (not_before, not_after) = (self.not_before, self.not_after);
        // Clocks of devices differ; five minutes of grace before the start.
        if now.saturating_add(300) < not_before || now > not_after {
            return Err(RecordError::Time { not_before, not_after, now });
        }
        Ok(())
    }

    /// Whether the origin still serves this content, judged by what an answer of it says. Validators that either
    /// side does not give are not compared; weak ETags are compared without their mark (RFC 9110 §8.8.3.2).
    ///
    /// # Errors
    /// [`RecordError::Stale`].
    pub fn check_fresh(&self, size: Option<u64>, found: &Validators) -> Result<(), RecordError> {
        if let Some(size) = size.filter(|size| *size != self.size) {
            return Err(RecordError::Stale {
                what: "size",
                found: size.to_string(),
                expected: self.size.to_string(),
            });
        }
        let differs = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
        let strong = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        let (tag, known) = (strong(&found.etag), strong(&self.validators.etag));
        if differs(&tag, &known) {
            return Err(RecordError::Stale { what: "ETag", found: tag, expected: known });
        }
        let (date, known) = (&found.last_modified, &self.validators.last_modified);
        if differs(date, known) {
            return Err(RecordError::Stale {
                what: "Last-Modified",
                found: date.clone(),
                expected: known.clone(),
            });
        }
        Ok(())
    }
}

impl Statement for ContentRecord {
    const CONTEXT: &'static str = "peerage content record v1";
    const MAX_LEN: usize = 300 * 1024;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.raw(self.id.as_bytes()).u64(self.size).raw(self.sha256.as_bytes());
        writer.u8(self.scopes.bits()).u64(self.not_before).u64(self.not_after).u64(self.serial);
        writer.field(self.validators.etag.as_bytes()).field(self.validators.last_modified.as_bytes());
        writer.u8(self.urls.len().min(MAX_URLS) as u8);
        for url in self.urls.iter().take(MAX_URLS) {
            writer.field(url.as_bytes());
        }
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, ShortInput> {
        let mut reader = Reader::new(bytes);
        let (id, size) = (ContentId::from_bytes(reader.array("id")?), reader.u64("size")?);
        if size > MAX_CONTENT_SIZE {
            return Err(ShortInput { field: "size", why: "above 1 TiB" });
        }
        let sha256 = Sha256::from_bytes(reader.array("sha256")?);
        let scopes = ScopeSet::from_bits(reader.u8("scopes")?);
        let (not_before, not_after) = (reader.u64("not_before")?, reader.u64("not_after")?);
        let serial = reader.u64("serial")?;
        let etag = reader.text(MAX_VALIDATOR, "etag")?.to_owned();
        let last_modified = reader.text(MAX_VALIDATOR, "last_modified")?.to_owned();
        let count = usize::from(reader.u8("urls")?);
        if count > MAX_URLS {
            return Err(ShortInput { field: "urls", why: "more than 64" });
        }
        let mut urls = Vec::with_capacity(count);
        for _ in 0..count {
            urls.push(reader.text(MAX_URL, "url")?.to_owned());
        }
        reader.end("record")?;
        let validators = Validators { etag, last_modified };
        Ok(Self { id, size, sha256, urls, validators, scopes, not_before, not_after, serial })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{SecretKey, Signed};

    fn record() -> ContentRecord {
        ContentRecord {
            id: ContentId::from_bytes([1; 32]),
            size: 77,
            sha256: Sha256::from_bytes([2; 32]),
            urls: vec!["http://origin.example/a.bin".into(), "http://mirror.example/a.bin".into()],
            validators: Validators {
                etag: "\"abc\"".into(),
                last_modified: "Sun, 22 Nov 2026 10:00:00 GMT".into(),
            },
            scopes: ScopeSet::ALL,
            not_before: 1000,
            not_after: 2000,
            serial: 5,
        }
    }

    #[test]
    fn round_trip_time_and_freshness() {
        let key = SecretKey::from_seed(&[9; 32]);
        let signed = Signed::new(record(), &key);
        let read = Signed::<ContentRecord>::from_text(&signed.to_text(), &[key.public()]).unwrap();
        assert_eq!(read.get(), &record());
        assert!(record().check_time(1500).is_ok() && record().check_time(800).is_ok());
        assert!(record().check_time(2001).is_err() && record().check_time(600).is_err());
        let silent = Validators::default();
        assert!(record().check_fresh(None, &silent).is_ok());
        assert!(record().check_fresh(Some(78), &silent).is_err());
        let weak = Validators { etag: "W/\"abc\"".into(), ..silent.clone() };
        assert!(record().check_fresh(Some(77), &weak).is_ok());
        assert!(record().check_fresh(None, &Validators { etag: "\"b\"".into(), ..silent.clone() }).is_err());
        assert!(record().check_fresh(None, &Validators { last_modified: "x".into(), ..silent }).is_err());
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(noise in prop::collection::vec((any::<u16>(), any::<u8>()), 0..8), cut in any::<u16>()) {
            let mut bytes = record().encode();
            for (at, value) in noise {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
            if let Ok(read) = ContentRecord::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
