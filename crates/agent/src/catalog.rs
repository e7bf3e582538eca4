//! The agent's memory of which URL is which content: records it has been given, kept over restarts.
//!
//! A record here lets a device find its peers' swarm, or its own cached copy, without the coordinator (product §8).
//! Losing the file costs a question to the coordinator, nothing else.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use peerage_content::{ContentRecord, PublicKey, Signed, Unchecked};

use crate::state_dir::StateDir;

const FILE: &str = "records.json";
const MAX_RECORDS: usize = 10_000;

/// Records by URL.
#[derive(Debug)]
pub(crate) struct Catalog {
    state: StateDir,
    records: Mutex<BTreeMap<String, Unchecked>>,
}

impl Catalog {
    pub(crate) fn open(state: StateDir) -> Self {
        let read = state.read(FILE).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { state, records: Mutex::new(read.unwrap_or_default()) }
    }

    /// The record of `url`, if one of `keys` signed it and it holds at `now` (Unix seconds).
    pub(crate) fn get(&self, url: &str, keys: &[PublicKey], now: u64) -> Option<Signed<ContentRecord>> {
        let unchecked = self.records.lock().get(url).cloned()?;
        let record = unchecked.check::<ContentRecord>(keys).ok()?;
        let holds =
            record.get().check_time(now).is_ok() && record.get().urls.iter().any(|known| known == url);
        holds.then_some(record)
    }

    /// Remembers a record for all its URLs. Blocking.
    pub(crate) fn put(&self, record: &Signed<ContentRecord>) {
        let mut records = self.records.lock();
        let before = records.clone();
        for url in &record.get().urls {
            records.insert(url.clone(), Unchecked::from(record));
        }
        while records.len() > MAX_RECORDS {
            records.pop_first();
        }
        if *records != before {
            self.save(&records);
        }
    }

    /// Forgets what is known of `url`: the origin serves something else. Blocking.
    pub(crate) fn forget(&self, url: &str) {
        let mut records = self.records.lock();
        if records.remove(url).is_some() {
            self.save(&records);
        }
    }

    fn save(&self, records: &BTreeMap<String, Unchecked>) {
        match serde_json::to_vec(records) {
            Ok(bytes) => {
                if let Err(error) = self.state.write(FILE, &bytes) {
                    tracing::warn!(%error, "records were not saved");
                }
            }
            Err(error) => tracing::warn!(%error, "records were not saved"),
        }
    }
}
