//! Which contents have to go, and when. The plan is a pure function; carrying it out is [`Store::evict`].
//!
//! Product rules: `max_cache_age` counts from the last completion (for an unfinished content: from its last use) and a
//! per-file expiry overrides it; `max_cache_size` or `absolute_max_cache_size` bounds what is not pinned; a pinned
//! content stays until its expiry and is outside the quota (DO reference §4.5); low disk evicts whatever the limits say,
//! but no pinned content; what is in use is never evicted. Among equals the longest unused goes first.

use std::collections::HashSet;

use peerage_content::ContentId;

use crate::error::StoreError;
use crate::info::ContentInfo;
use crate::store::Store;
use crate::usage::Usage;

/// What the cache may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Age since the last completion, in seconds; 0 = kept until space is needed.
    pub max_age_s: u64,
    /// Bytes that contents which are not pinned may take; `None` = no limit.
    pub max_bytes: Option<u64>,
    /// Bytes that the volume lacks now and eviction should free.
    pub low_disk_needs_bytes: u64,
}

/// Why a content goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictReason {
    /// Its own expiry has passed.
    Expired,
    /// It is older than the cache keeps contents.
    Aged,
    /// The cache is larger than allowed.
    OverQuota,
    /// The volume needs space.
    LowDisk,
}

/// A content that was evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// Its name.
    pub id: ContentId,
    /// Why.
    pub reason: EvictReason,
    /// Bytes freed.
    pub freed: u64,
}

impl Limits {
    /// The quota in bytes: `absolute` if it is set (0 = no limit), else `percent` of the volume's free space and the
    /// cache's own bytes together, so that it does not shrink as the cache grows.
    pub fn quota(usage: &Usage, percent: u8, absolute: Option<u64>) -> Option<u64> {
        match absolute {
            Some(0) => None,
            Some(bytes) => Some(bytes),
            None => {
                let reach = u128::from(usage.volume_free) + u128::from(usage.cache_bytes());
                Some(u64::try_from(reach * u128::from(percent.min(100)) / 100).unwrap_or(u64::MAX))
            }
        }
    }
}

/// What has to go at `now` (unix seconds), in the order in which it should.
pub fn plan_eviction(contents: &[ContentInfo], limits: Limits, now: u64) -> Vec<(ContentId, EvictReason)> {
    let mut plan = Vec::new();
    let mut freed = 0u64;
    let mut kept: Vec<&ContentInfo> = Vec::new();
    let mut oldest_first: Vec<&ContentInfo> = contents.iter().collect();
    oldest_first.sort_by_key(|content| (content.last_used, content.id));
    for content in oldest_first {
        match outlived(content, limits.max_age_s, now).filter(|_| !content.busy) {
            Some(reason) => {
                plan.push((content.id, reason));
                freed = freed.saturating_add(content.frees());
            }
            None => kept.push(content),
        }
    }
    kept.retain(|content| !content.pinned);
    let mut taken = kept.iter().fold(0u64, |sum, content| sum.saturating_add(content.allocated));
    for content in kept.into_iter().filter(|content| !content.busy) {
        if limits.max_bytes.is_some_and(|max| taken > max) {
            plan.push((content.id, EvictReason::OverQuota));
        } else if freed < limits.low_disk_needs_bytes && content.frees() > 0 {
            plan.push((content.id, EvictReason::LowDisk));
        } else {
            continue;
        }
        taken = taken.saturating_sub(content.allocated);
        freed = freed.saturating_add(content.frees());
    }
    plan
}

/// When the next content has outlived its time, at `now` or later (unix seconds); `None`: none will.
pub fn next_expiry(contents: &[ContentInfo], max_age_s: u64, now: u64) -> Option<u64> {
    contents.iter().filter_map(|content| content.expires(max_age_s)).filter(|at| *at > now).min()
}

/// The contents that should go at `now` (unix seconds) after an eviction and stayed because they are in use: those that have
/// outlived their time, and of the others the longest unused, until the rest is as much as there may be.
pub fn overdue(contents: &[ContentInfo], limits: Limits, now: u64) -> Vec<ContentId> {
    let counts = |content: &&ContentInfo| !content.pinned;
    let mut taken =
        contents.iter().filter(counts).fold(0u64, |sum, content| sum.saturating_add(content.allocated));
    let mut busy: Vec<&ContentInfo> = contents.iter().filter(|content| content.busy).collect();
    busy.sort_by_key(|content| {
        let stays = outlived(content, limits.max_age_s, now).is_none();
        (stays, content.last_used, content.id)
    });
    let mut overdue = Vec::new();
    for content in busy {
        let surplus = !content.pinned && limits.max_bytes.is_some_and(|max| taken > max);
        if surplus || outlived(content, limits.max_age_s, now).is_some() {
            overdue.push(content.id);
            taken = taken.saturating_sub(if content.pinned { 0 } else { content.allocated });
        }
    }
    overdue
}

/// Whether its time has passed.
fn outlived(content: &ContentInfo, max_age_s: u64, now: u64) -> Option<EvictReason> {
    // An expiry set on a running download holds from its completion on (DO reference §4.5).
    let expiry = content.expire_on.filter(|_| content.last_completed.is_some() || content.pinned);
    if let Some(on) = expiry {
        return (on <= now).then_some(EvictReason::Expired);
    }
    let since = content.last_completed.unwrap_or(content.last_used);
    let aged = max_age_s > 0 && now.saturating_sub(since) >= max_age_s;
    (aged && !content.pinned).then_some(EvictReason::Aged)
}

impl Store {
    /// Evicts what [`plan_eviction`] says. What came into use or was pinned meanwhile stays.
    ///
    /// # Errors
    /// The disk fails. What was evicted until then is gone.
    pub fn evict(&self, limits: Limits, now: u64) -> Result<Vec<Evicted>, StoreError> {
        let mut evicted = Vec::new();
        let contents = self.contents();
        let pinned: HashSet<ContentId> =
            contents.iter().filter(|content| content.pinned).map(|content| content.id).collect();
        for (id, reason) in plan_eviction(&contents, limits, now) {
            // A pinned content is planned only when its expiry has passed; one pinned since then is not removed.
            let removed = self.remove_even(id, pinned.contains(&id), false);
            match removed {
                Ok(freed) => evicted.push(Evicted { id, reason, freed }),
                Err(StoreError::Busy { .. } | StoreError::Pinned { .. } | StoreError::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(evicted)
    }
}
