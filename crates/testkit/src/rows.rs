//! What an agent says of a file, read by name (`peerage status --json`, DO reference §4.1).

use std::time::Duration;

use serde_json::Value;

use crate::fleet::Agent;
use crate::wait::wait_until;

/// Looks in a row that must agree before a download is taken to stand still: more than half a second of them.
const STILL: u32 = 60;

/// The number `key` of a row.
///
/// # Panics
/// It is missing, or no number.
#[track_caller]
pub fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}"))
}

impl Agent {
    /// Bytes of the file that the agent holds; 0: it does not know the file.
    ///
    /// # Panics
    /// The agent does not answer.
    #[track_caller]
    pub fn held_bytes(&self, id: &str) -> u64 {
        let row = self.file(id).unwrap_or_else(|error| panic!("status of {id}: {error:#}"));
        row.map_or(0, |row| number(&row, "FileSizeInCache"))
    }

    /// Waits until no more bytes of the file arrive.
    ///
    /// # Panics
    /// They still do after `limit`, or the agent does not answer.
    #[track_caller]
    pub fn wait_still(&self, id: &str, limit: Duration) {
        let (mut last, mut same) = (u64::MAX, 0);
        wait_until("the download stands still", limit, || {
            let now = self.held_bytes(id);
            same = if now == last { same + 1 } else { 0 };
            last = now;
            same >= STILL
        });
    }
}
