//! What is told about a content without opening it.

use peerage_content::ContentId;

use crate::item::Item;

/// A summary of one content. Times are unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentInfo {
    /// Its name.
    pub id: ContentId,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes in verified pieces. Doubtful ones do not count.
    pub verified: u64,
    /// Whether all pieces are verified.
    pub complete: bool,
    /// Whether pieces must be hashed again before they count; done when a handle is asked for.
    pub doubtful: bool,
    /// Whether it was completed and synced.
    pub sealed: bool,
    /// Whether the piece map is here.
    pub has_map: bool,
    /// When it was made.
    pub created: u64,
    /// When it was last used, completed or made.
    pub last_used: u64,
    /// When it was last completed.
    pub last_completed: Option<u64>,
    /// When it is to go, if that was set.
    pub expire_on: Option<u64>,
    /// Whether it is kept until its expiry, outside the quota.
    pub pinned: bool,
    /// Whether a download or delivery has it open.
    pub busy: bool,
    /// Bytes that it really takes on disk.
    pub allocated: u64,
    /// Whether its data has another name outside the cache, so that removing it frees nothing.
    pub linked: bool,
}

impl ContentInfo {
    /// When it goes if nothing changes (unix seconds): as was set, else when it has reached `max_age_s`. `None`: when space is
    /// needed.
    pub fn expires(&self, max_age_s: u64) -> Option<u64> {
        let since = self.last_completed.unwrap_or(self.last_used);
        let aged = (max_age_s > 0 && !self.pinned).then(|| since.saturating_add(max_age_s));
        self.expire_on.or(aged)
    }

    pub(crate) fn of(item: &Item) -> Self {
        let (allocated, linked) = item.allocated();
        let meta = item.meta.lock().clone();
        let state = item.state.lock();
        Self {
            id: item.id(),
            size: item.layout().size(),
            verified: state.verified.iter().map(|piece| u64::from(item.layout().piece_len(piece))).sum(),
            complete: state.verified.is_full(),
            doubtful: !state.is_settled(),
            sealed: state.stamp.is_some(),
            has_map: state.has_map,
            created: meta.created,
            last_used: item.last_used().max(meta.last_completed.unwrap_or(0)),
            last_completed: meta.last_completed,
            expire_on: meta.expire_on,
            pinned: meta.pinned,
            busy: state.busy > 0,
            allocated,
            linked,
        }
    }

    /// Bytes on disk that removing it would free.
    pub const fn frees(&self) -> u64 {
        if self.linked { 0 } else { self.allocated }
    }
}
