//! Steps of a download that need the disk: a full or read-only one makes it wait, not fail (product §8).

use std::sync::Arc;

use peerage_api::agent::{FileState, FileStatus};
use peerage_api::{ApiError, Code};
use peerage_policy::units::about_size;
use peerage_store::StoreError;
use tokio::time::{Instant, sleep};

use super::{Download, Ended};
use crate::file_status::chain;
use crate::housekeeping::DISK_RETRY;

impl Download {
    /// Refuses what could not even fit if everything else left the volume but what is pinned in the cache. Whatever could
    /// fit if others made room waits for that instead.
    pub(super) async fn require_room(&self, size: u64) -> Ended<()> {
        let shared = Arc::clone(&self.shared);
        let reach = tokio::task::spawn_blocking(move || shared.store.reach()).await;
        // A volume that cannot be asked is found out about when it is written to.
        let Ok(Ok(reach)) = reach else { return Ok(()) };
        if size <= reach.volume_total.saturating_sub(reach.pinned_bytes) {
            return Ok(());
        }
        let pinned = match reach.pinned_bytes {
            0 => String::new(),
            bytes => format!(", {} of which are pinned files", about_size(bytes)),
        };
        let message = format!(
            "the file has {} and can never fit in the cache: its volume holds {}{pinned}; give the cache a larger one with \
             modify_cache_drive",
            about_size(size),
            about_size(reach.volume_total),
        );
        Err(ApiError::new(Code::Disk, message))
    }

    /// Does `step` off the runtime's threads. As long as the disk keeps it from working the download is shown as paused,
    /// with the reason, room is made, and it is tried again; at most for the no-progress time-out.
    pub(super) async fn on_disk<T: Send + 'static>(
        &mut self,
        mut row: FileStatus,
        step: impl Fn() -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Ended<T> {
        let since = Instant::now();
        loop {
            let done = tokio::task::spawn_blocking(step.clone()).await;
            let error = match done.map_err(|error| ApiError::new(Code::Internal, error.to_string()))? {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let waits = matches!(
                error,
                StoreError::DiskFull { .. }
                    | StoreError::ReadOnly { .. }
                    // The cache was deleted under it; it is made again.
                    | StoreError::Vanished { .. }
                    | StoreError::Removed { .. }
            );
            if !waits || since.elapsed() >= self.no_progress() {
                return Err(ApiError::new(Code::Disk, chain(&error)));
            }
            row.status = FileState::Paused;
            row.reasons = vec![format!("Paused: {}", chain(&error))];
            self.show(row.clone());
            self.shared.make_room.notify_one();
            tokio::select! {
                () = sleep(DISK_RETRY) => {}
                told = self.next_tell() => told?,
            }
        }
    }
}
