//! Housekeeping: keeps the cache within its limits and the rate limiters in step with policy.

use std::sync::Arc;
use std::time::Duration;

use peerage_store::{Limits, Store};
use tokio::time::{Instant, sleep_until};

use crate::shared::Shared;

/// How often the cache is looked at; space that is needed now is made at once.
const EVERY: Duration = Duration::from_secs(30);
/// Free space below which the cache gives way to others: 2 % of the volume, at most 1 GiB (DO reference §1.1: "still
/// cleared when disk runs low").
const LOW_DISK: (u64, u64) = (50, 1 << 30);
/// What is made free when a write has failed for want of space.
const NEEDED: u64 = 64 << 20;
/// How often rates follow policy and foreground traffic.
const RATES_EVERY: Duration = Duration::from_millis(250);
/// While a foreground download runs, background ones together get this fraction of its rate, and never less than
/// [`BACKGROUND_LEAST`]: after it, but not starved.
const BACKGROUND_SHARE: u64 = 8;
const BACKGROUND_LEAST: u64 = 64 << 10;

/// Evicts until the agent ends.
pub(crate) async fn evict(shared: Arc<Shared>) {
    let mut next = Instant::now();
    loop {
        let needed = tokio::select! {
            () = sleep_until(next) => 0,
            () = shared.make_room.notified() => NEEDED,
        };
        next = Instant::now() + EVERY;
        let common = Arc::clone(&shared);
        let evicted = tokio::task::spawn_blocking(move || evict_once(&common, needed)).await;
        match evicted {
            Ok(Ok(gone)) => gone.into_iter().for_each(|id| shared.announcer.poke(id)),
            Ok(Err(error)) => tracing::warn!(%error, "the cache could not be looked after"),
            Err(error) => tracing::warn!(%error, "the cache could not be looked after"),
        }
    }
}

fn evict_once(
    shared: &Shared,
    needed: u64,
) -> Result<Vec<peerage_content::ContentId>, peerage_store::StoreError> {
    let store: &Store = &shared.store;
    let usage = store.usage()?;
    let limits = shared.decide_device().limits;
    let low = (usage.volume_total / LOW_DISK.0).min(LOW_DISK.1);
    let lacking = low.saturating_sub(usage.volume_free).max(needed.saturating_sub(usage.volume_free));
    let limits = Limits {
        max_age_s: limits.cache_age.unwrap_or(0),
        max_bytes: limits.cache_size.bytes(usage.volume_free, usage.cache_bytes()),
        low_disk_needs_bytes: lacking,
    };
    let evicted = store.evict(limits, shared.clock.unix())?;
    for gone in &evicted {
        tracing::info!(content = %gone.id, reason = ?gone.reason, "evicted");
    }
    Ok(evicted.into_iter().map(|gone| gone.id).collect())
}

/// Keeps the limiters in step until the agent ends.
pub(crate) async fn rates(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(RATES_EVERY);
    loop {
        every.tick().await;
        let limits = shared.decide_device().limits;
        shared.limiters.upload.set(limits.upload);
        shared.limiters.foreground.set(limits.foreground_download);
        let urgent = shared.downloads.foreground_rate();
        let yielding = urgent.map(|rate| (rate / BACKGROUND_SHARE).max(BACKGROUND_LEAST));
        let background = match (limits.background_download, yielding) {
            (Some(limit), Some(share)) => Some(limit.min(share)),
            (limit, share) => limit.or(share),
        };
        shared.limiters.background.set(background);
    }
}
