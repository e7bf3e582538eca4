//! The agent's memory of which URL is which content: records it has been given, kept over restarts.
//!
//! A record here lets a device find its peers' swarm, or its own cached copy, without the coordinator (product §8).
//! Losing the file costs a question to the coordinator, nothing else.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use peerage_content::{ContentRecord, PublicKey, Signed, Unchecked};
use serde::{Deserialize, Serialize};

use crate::state_dir::StateDir;

const FILE: &str = "records.json";
const MAX_RECORDS: usize = 10_000;

/// A record, and when it was told last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    record: Unchecked,
    /// Counts up with every record that is told.
    told: u64,
}

/// The table, and how often it has changed.
#[derive(Debug, Default)]
struct Records {
    by_url: BTreeMap<String, Known>,
    last: u64,
    changes: u64,
}

/// Records by URL.
#[derive(Debug)]
pub(crate) struct Catalog {
    state: StateDir,
    records: Mutex<Records>,
    /// The change that the file has. One writes at a time; who waits finds its change written as a rule.
    saved: Mutex<u64>,
}

impl Catalog {
    pub(crate) fn open(state: StateDir) -> Self {
        let read = state.read(FILE).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let by_url: BTreeMap<String, Known> = read.unwrap_or_default();
        let last = by_url.values().map(|known| known.told).max().unwrap_or(0);
        let records = Records { by_url, last, changes: 0 };
        Self { state, records: Mutex::new(records), saved: Mutex::new(0) }
    }

    /// The record of `url`, if one of `keys` signed it and it holds at `now` (Unix seconds).
    pub(crate) fn get(&self, url: &str, keys: &[PublicKey], now: u64) -> Option<Signed<ContentRecord>> {
        let unchecked = self.records.lock().by_url.get(url)?.record.clone();
        let record = unchecked.check::<ContentRecord>(keys).ok()?;
        let holds =
            record.get().check_time(now).is_ok() && record.get().urls.iter().any(|known| known == url);
        holds.then_some(record)
    }

    /// Remembers a record for all its URLs; what was told longest ago makes room. Blocking.
    pub(crate) fn put(&self, record: &Signed<ContentRecord>) {
        if self.records.lock().put(record, MAX_RECORDS) {
            self.save();
        }
    }

    /// Forgets what is known of `url`: the origin serves something else. Blocking.
    pub(crate) fn forget(&self, url: &str) {
        if self.records.lock().forget(url) {
            self.save();
        }
    }

    /// Writes the table as it is now. Nobody who only reads waits for the disk.
    fn save(&self) {
        let wanted = self.records.lock().changes;
        let mut saved = self.saved.lock();
        if *saved >= wanted {
            return;
        }
        let (by_url, changes) = {
            let records = self.records.lock();
            (records.by_url.clone(), records.changes)
        };
        match serde_json::to_vec(&by_url) {
            Ok(bytes) => match self.state.write(FILE, &bytes) {
                Ok(()) => *saved = changes,
                Err(error) => tracing::warn!(%error, "records were not saved"),
            },
            Err(error) => tracing::warn!(%error, "records were not saved"),
        }
    }
}

impl Records {
    /// Whether there is something new to save. That a known record was told again is not: it only makes it younger here.
    fn put(&mut self, record: &Signed<ContentRecord>, most: usize) -> bool {
        self.last += 1;
        let known = Known { record: Unchecked::from(record), told: self.last };
        let mut changed = false;
        for url in &record.get().urls {
            let before = self.by_url.insert(url.clone(), known.clone());
            changed |= before.is_none_or(|before| before.record != known.record);
        }
        while self.by_url.len() > most {
            let oldest = self.by_url.iter().min_by_key(|(_, known)| known.told).map(|(url, _)| url.clone());
            let Some(oldest) = oldest else { break };
            self.by_url.remove(&oldest);
        }
        self.changes += u64::from(changed);
        changed
    }

    fn forget(&mut self, url: &str) -> bool {
        let known = self.by_url.remove(url).is_some();
        self.changes += u64::from(known);
        known
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::{ContentId, ScopeSet, SecretKey, Sha256, Validators};

    use super::*;

    fn record(url: &str) -> Signed<ContentRecord> {
        let record = ContentRecord {
            id: ContentId::from_bytes([1; 32]),
            size: 9,
            sha256: Sha256::from_bytes([2; 32]),
            urls: vec![url.to_owned()],
            validators: Validators::default(),
            scopes: ScopeSet::ALL,
            not_before: 0,
            not_after: 100,
            serial: 1,
        };
        Signed::new(record, &SecretKey::from_seed(&[5; 32]))
    }

    #[test]
    fn what_was_told_longest_ago_makes_room() {
        let mut records = Records::default();
        for url in ["http://z/", "http://m/"] {
            assert!(records.put(&record(url), 2));
        }
        assert!(!records.put(&record("http://z/"), 2), "known");
        // The newest comes first in the alphabet.
        assert!(records.put(&record("http://a/"), 2));
        assert_eq!(records.by_url.keys().collect::<Vec<_>>(), ["http://a/", "http://z/"]);
    }

    #[test]
    fn it_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let keys = [SecretKey::from_seed(&[5; 32]).public()];
        let catalog = Catalog::open(state.clone());
        for url in ["http://a/", "http://b/"] {
            catalog.put(&record(url));
        }
        catalog.forget("http://a/");
        drop(catalog);
        let catalog = Catalog::open(state);
        assert!(catalog.get("http://a/", &keys, 50).is_none());
        assert!(catalog.get("http://b/", &keys, 50).is_some());
        assert!(catalog.get("http://b/", &keys, 101).is_none(), "ended");
        assert_eq!(catalog.records.lock().last, 2);
    }
}
