//! What the agent writes beside a content in the store: where it came from, its record, its counters, its account.

use peerage_api::why::Why;
use peerage_content::{ContentRecord, PublicKey, Signed};
use peerage_origin::SourceUrl;
use peerage_store::{Content, Notes};
use peerage_swarm::ByKind;

use crate::why::Account;

const URL: &str = "url";
const RECORD: &str = "record";
const RECEIVED: &str = "received";
const SENT: &str = "sent";
const WASTED: &str = "wasted";
const ACCOUNT: &str = "why";
const DURATION: &str = "duration_ms";

/// The source URL as it is shown: without what may be a secret.
pub(crate) fn url(notes: &Notes) -> String {
    notes.get(URL).and_then(|url| SourceUrl::parse(url).ok()).map(|url| url.to_string()).unwrap_or_default()
}

/// The record, if one is there that a trusted key signed.
pub(crate) fn record(notes: &Notes, keys: &[PublicKey]) -> Option<Signed<ContentRecord>> {
    Signed::from_text(notes.get(RECORD)?, keys).ok()
}

/// The counters: received, sent, wasted.
pub(crate) fn counters(notes: &Notes) -> (ByKind, ByKind, u64) {
    let read =
        |key: &str| notes.get(key).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let wasted = notes.get(WASTED).and_then(|text| text.parse().ok()).unwrap_or_default();
    (read(RECEIVED), read(SENT), wasted)
}

/// Notes the origin of a content.
pub(crate) fn set_source(notes: &mut Notes, url: Option<&str>, record: Option<&Signed<ContentRecord>>) {
    if let Some(url) = url {
        notes.insert(URL.to_owned(), url.to_owned());
    }
    if let Some(record) = record {
        notes.insert(RECORD.to_owned(), record.to_text());
    }
}

/// Notes the counters.
pub(crate) fn set_counters(notes: &mut Notes, received: &ByKind, sent: &ByKind, wasted: u64) {
    for (key, value) in [(RECEIVED, received), (SENT, sent)] {
        if let Ok(text) = serde_json::to_string(value) {
            notes.insert(key.to_owned(), text);
        }
    }
    notes.insert(WASTED.to_owned(), wasted.to_string());
}

/// What `why` tells of a content whose actor does not run.
pub(crate) fn why(content: &Content) -> Why {
    let (info, notes) = (content.info(), content.notes());
    Why {
        file_id: info.id.to_string(),
        file_size: info.size,
        source_url: url(&notes),
        complete: info.complete,
        ..account(&notes).tell(&counters(&notes).0)
    }
}

/// How long the download took that brought it, in milliseconds; 0 when that is not known.
pub(crate) fn duration(notes: &Notes) -> u64 {
    notes.get(DURATION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Notes how long its download took.
pub(crate) fn set_duration(notes: &mut Notes, milliseconds: u64) {
    notes.insert(DURATION.to_owned(), milliseconds.to_string());
}

/// The account of its download.
pub(crate) fn account(notes: &Notes) -> Account {
    notes.get(ACCOUNT).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Notes the account.
pub(crate) fn set_account(notes: &mut Notes, account: &Account) {
    if let Ok(text) = serde_json::to_string(account) {
        notes.insert(ACCOUNT.to_owned(), text);
    }
}
