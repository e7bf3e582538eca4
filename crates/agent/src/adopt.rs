//! What becomes of a file that was downloaded in simple mode.
//!
//! When the coordinator's record comes after the last byte, the copy is hashed and becomes a seed: the next device of the
//! site need not go to the origin. When none comes the copy is thrown away; it was delivered and is of no more use.

use std::sync::Arc;
use std::time::Duration;

use peerage_store::{Staging, StoreError};
use tokio::time::{sleep, timeout};

use crate::search::Search;
use crate::shared::Shared;
use crate::simple::is_finished;
use crate::why::Account;

/// How long a record is waited for.
const WAIT: Duration = Duration::from_secs(600);
/// Whatever was written this long ago is not waited for by [`later`] nor by a caller.
const LEFT: Duration = Duration::from_secs(3600);
/// Whoever cancels a download and asks for the file again within this time goes on where it was.
const FORGET: Duration = Duration::from_secs(30);
/// The caller has this long to fetch the file.
const KEEP: Duration = Duration::from_secs(90);

/// Waits for the record of a finished file, of which `cached` bytes came from connected caches, and which took `lasted`
/// milliseconds, and makes it a seed.
pub(crate) fn later(mut search: Search, staging: Staging, account: Account, cached: u64, lasted: u64) {
    tokio::spawn(async move {
        let shared = Arc::clone(search.shared());
        let resolution = match timeout(WAIT, search.answer()).await {
            Ok(Ok(resolution)) => resolution,
            Ok(Err(_)) | Err(_) => return discard_later(staging),
        };
        let Some(map) = resolution.map else { return discard_later(staging) };
        let (id, common) = (map.id(), Arc::clone(&shared));
        let url = search.url().map(|url| url.as_str().to_owned());
        let done = tokio::task::spawn_blocking(move || {
            let now = common.clock.unix();
            let held = staging.len();
            let (content, report) = staging.promote(&map, now)?;
            let mut notes = content.notes();
            let (mut received, sent, wasted) = crate::notes::counters(&notes);
            let cached = cached.min(report.kept);
            received.cache_server += cached;
            received.cdn += report.kept - cached;
            let wasted = wasted + held.saturating_sub(report.kept);
            crate::notes::set_counters(&mut notes, &received, &sent, wasted);
            crate::notes::set_source(&mut notes, url.as_deref(), Some(&resolution.record));
            crate::notes::set_account(&mut notes, &account);
            crate::notes::set_duration(&mut notes, lasted);
            content.set_notes(notes)?;
            if content.is_complete() { content.seal(now) } else { Ok(()) }
        });
        match done.await {
            Ok(Ok(())) => shared.announcer.poke(id),
            Ok(Err(error)) => tracing::warn!(%error, "a finished file could not be kept as a seed"),
            Err(error) => tracing::warn!(%error, "a finished file could not be kept as a seed"),
        }
    });
}

/// Throws away what is finished, when the agent ends: nobody waits for it any more. Parts are kept. Blocking.
pub(crate) fn discard_finished(shared: &Shared) {
    for staged in shared.store.staged() {
        let discarded = shared
            .store
            .stage(&staged.name)
            .and_then(|staging| if is_finished(&staging) { staging.discard() } else { Ok(()) });
        if let Err(error) = discarded {
            tracing::debug!(name = staged.name, %error, "a finished file was not thrown away");
        }
    }
}

/// Throws away what a killed agent left: finished files nobody came for, and parts older than the cache keeps contents
/// (`max_age`, in seconds; 0: for ever). What is being downloaded stays. Blocking.
pub(crate) fn sweep(shared: &Shared, max_age: u64) {
    let now = shared.clock.unix();
    for staged in shared.store.staged() {
        let age = now.saturating_sub(staged.modified);
        // A clock that was set is no reason to throw away what is being downloaded.
        if staged.in_use || age < LEFT.as_secs() {
            continue;
        }
        let swept = shared.store.stage(&staged.name).and_then(|staging| {
            let old = is_finished(&staging) || (max_age > 0 && age >= max_age);
            if old { staging.discard() } else { Ok(()) }
        });
        if let Err(error) = swept {
            tracing::debug!(name = staged.name, %error, "an old staging area was not thrown away");
        }
    }
}

/// Throws away what a cancelled download has left in simple mode, unless somebody wants the file again by then. Parts of a
/// content stay: they are verified, seen in every list, and evicted like all others.
pub(crate) fn forget_later(shared: Arc<Shared>, name: String) {
    tokio::spawn(async move {
        sleep(FORGET).await;
        let forgotten = tokio::task::spawn_blocking(move || forget(&shared, &name)).await;
        if let Ok(Err(error)) = forgotten {
            tracing::debug!(%error, "what a cancelled download left was not thrown away");
        }
    });
}

/// Throws away what simple mode has left of a file; whether there was something that nobody uses. Blocking.
pub(crate) fn forget(shared: &Shared, name: &str) -> Result<bool, StoreError> {
    if !shared.store.staged().iter().any(|staged| staged.name == name && !staged.in_use) {
        return Ok(false);
    }
    shared.store.stage(name)?.discard()?;
    Ok(true)
}

/// Throws a finished file away when its caller has had time to fetch it.
pub(crate) fn discard_later(staging: Staging) {
    tokio::spawn(async move {
        sleep(KEEP).await;
        let _ = tokio::task::spawn_blocking(move || staging.discard()).await;
    });
}
