//! Housekeeping: keeps the cache within its limits, and notices when somebody else deletes from it.

use std::sync::Arc;
use std::time::Duration;

use peerage_api::why::{Because, Why};
use peerage_content::ContentId;
use peerage_policy::Reason;
use peerage_store::{EvictReason, Limits, Store, next_expiry, overdue, plan_eviction};
use tokio::time::{Instant, sleep_until};

use crate::content::Command;
use crate::shared::Shared;

/// Between two tries of what a full or read-only disk keeps from working.
pub(crate) const DISK_RETRY: Duration = Duration::from_secs(2);
/// How often the cache is looked at, for what nobody tells of; contents that reach their age are evicted then, and space that
/// is needed now is made at once.
const EVERY: Duration = Duration::from_secs(30);
/// Free space below which the cache gives way to others: 2 % of the volume, at most 1 GiB (DO reference §1.1: "still
/// cleared when disk runs low").
const LOW_DISK: (u64, u64) = (50, 1 << 30);
/// What is made free when a write has failed for want of space.
const NEEDED: u64 = 64 << 20;

/// Evicts until the agent ends.
pub(crate) async fn evict(shared: Arc<Shared>) {
    let mut next = Instant::now();
    let mut policy = shared.policy.clone();
    loop {
        let needed = tokio::select! {
            () = sleep_until(next) => 0,
            // New limits of the cache hold at once.
            changed = policy.changed() => if changed.is_ok() { 0 } else { return },
            () = shared.make_room.notified() => NEEDED,
            () = shared.cache_news.notified() => 0,
        };
        let common = Arc::clone(&shared);
        let evicted = tokio::task::spawn_blocking(move || evict_once(&common, needed)).await;
        match evicted {
            Ok(Ok((gone, limits))) => {
                for id in gone {
                    part(&shared, id).await;
                }
                next = Instant::now() + retire(&shared, limits).await;
                continue;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the cache could not be looked after"),
            Err(error) => tracing::warn!(%error, "the cache could not be looked after"),
        }
        next = Instant::now() + EVERY;
    }
}

/// Lets go of what has outlived its time or is too much, and is only still awake, and says when to look again: when the next
/// content is as old as it may be.
async fn retire(shared: &Shared, limits: Limits) -> Duration {
    let (age, now) = (limits.max_age_s, shared.clock.unix());
    let contents = shared.store.contents();
    for id in overdue(&contents, limits, now) {
        if let Some(handle) = shared.contents.get(id) {
            // Its end brings the housekeeper here again.
            handle.tell(Command::Retire).await;
        }
    }
    let due = next_expiry(&contents, age, now);
    due.map_or(EVERY, |at| EVERY.min(Duration::from_secs(at.saturating_sub(now))))
}

/// Stops serving a content that is gone, and says so.
async fn part(shared: &Shared, id: peerage_content::ContentId) {
    // A download notices by itself, and begins anew.
    if !shared.downloads.is_running(id)
        && let Some(handle) = shared.contents.get(id)
    {
        handle.tell(Command::Stop).await;
        handle.ended().await;
    }
    shared.announcer.poke(id);
}

/// What `why` will tell of a content that is about to be evicted.
fn told(shared: &Shared, id: ContentId, reason: EvictReason) -> Option<Why> {
    let policy = shared.policy();
    let by = |reason| crate::why::because(&reason, &policy.layers);
    let because = match reason {
        EvictReason::Expired => crate::why::note("its expiry had come (`peerage files expire`)".to_owned()),
        EvictReason::Aged => by(Reason::cache_aged(&policy.settings)),
        EvictReason::OverQuota => by(Reason::cache_full(&policy.settings)),
        EvictReason::LowDisk => crate::why::note("the cache's volume was full".to_owned()),
    };
    let sentence = format!("it is no longer in the cache: {}", because.sentence);
    let mut why = crate::notes::why(&shared.store.get(id).ok()??);
    crate::why::complete(&mut why.findings, &policy.layers);
    why.findings.push(Because { code: "evicted".to_owned(), sentence, ..because });
    Some(why)
}

/// Evicts what may go. What is gone, and the limits that hold.
fn evict_once(shared: &Shared, needed: u64) -> Result<(Vec<ContentId>, Limits), peerage_store::StoreError> {
    let store: &Store = &shared.store;
    let deleted = store.forget_gone();
    let usage = store.usage()?;
    let limits = shared.decide_device().limits;
    let low = (usage.volume_total / LOW_DISK.0).min(LOW_DISK.1);
    crate::adopt::sweep(shared, limits.cache_age.unwrap_or(0));
    let lacking = low.saturating_sub(usage.volume_free).max(needed.saturating_sub(usage.volume_free));
    let limits = Limits {
        max_age_s: limits.cache_age.unwrap_or(0),
        max_bytes: limits.cache_size.bytes(usage.volume_free, usage.cache_bytes() - usage.away_bytes),
        low_disk_needs_bytes: lacking,
    };
    let now = shared.clock.unix();
    let told: Vec<_> = plan_eviction(&store.contents(), limits, now)
        .into_iter()
        .filter_map(|(id, reason)| told(shared, id, reason).map(|told| (id, told)))
        .collect();
    let evicted = store.evict(limits, now)?;
    for (id, told) in told {
        if evicted.iter().any(|gone| gone.id == id) {
            shared.past.put(told);
        }
    }
    for gone in &evicted {
        tracing::info!(content = %gone.id, reason = ?gone.reason, "evicted");
    }
    Ok((evicted.into_iter().map(|gone| gone.id).chain(deleted).collect(), limits))
}
