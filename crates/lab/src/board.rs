//! What is seen of a run while it goes on: written by the downloads, read by the view.

use std::time::Duration;

use parking_lot::Mutex;
use peerage_api::agent::FileStatus;
use tokio::time::Instant;

/// How far one device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// It downloads.
    Running,
    /// It has everything, after so long.
    Done(Duration),
    /// Its download failed.
    Failed,
}

/// One device as it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) state: State,
    /// Bytes of the file that it holds.
    pub(crate) held: u64,
    /// Bytes received from the origin and connected caches.
    pub(crate) from_http: u64,
    /// Bytes received from peers.
    pub(crate) from_peers: u64,
    /// Bytes a second now.
    pub(crate) rate: u64,
}

/// All devices at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    /// Bytes of the file.
    pub(crate) size: u64,
    /// Since the first start.
    pub(crate) elapsed: Duration,
    /// Body bytes that the origin has sent.
    pub(crate) origin_bytes: u64,
    /// In the order of their numbers.
    pub(crate) devices: Vec<Seen>,
}

impl Snapshot {
    /// Bytes received by all devices, from HTTP and from peers.
    pub(crate) fn received(&self) -> (u64, u64) {
        let sum = |part: fn(&Seen) -> u64| self.devices.iter().map(part).sum();
        (sum(|seen| seen.from_http), sum(|seen| seen.from_peers))
    }

    /// Bytes a second of all devices.
    pub(crate) fn rate(&self) -> u64 {
        self.devices.iter().filter(|seen| seen.state == State::Running).map(|seen| seen.rate).sum()
    }

    /// How many devices are done, well or not.
    pub(crate) fn ended(&self) -> usize {
        let ended = |seen: &&Seen| matches!(seen.state, State::Done(_) | State::Failed);
        self.devices.iter().filter(ended).count()
    }
}

/// The shared state of a run.
#[derive(Debug)]
pub(crate) struct Board {
    size: u64,
    began: Instant,
    devices: Mutex<Vec<Seen>>,
}

impl Board {
    /// Nobody has started.
    pub(crate) fn new(devices: u32, size: u64) -> Self {
        let devices = (0..devices).map(|_| Seen::default()).collect();
        Self { size, began: Instant::now(), devices: Mutex::new(devices) }
    }

    /// Device `number` has come to another state.
    pub(crate) fn set(&self, number: u32, state: State) {
        self.change(number, |seen| seen.state = state);
    }

    /// Device `number` says how far it is.
    pub(crate) fn progress(&self, number: u32, status: &FileStatus) {
        self.change(number, |seen| {
            seen.held = status.file_size_in_cache;
            (seen.from_http, seen.from_peers) = (status.bytes_from_http, status.bytes_from_peers);
            seen.rate = status.download_rate;
        });
    }

    fn change(&self, number: u32, change: impl FnOnce(&mut Seen)) {
        let mut devices = self.devices.lock();
        if let Some(seen) = devices.get_mut(number.saturating_sub(1) as usize) {
            change(seen);
        }
    }

    /// How it is now.
    pub(crate) fn snapshot(&self, origin_bytes: u64) -> Snapshot {
        let devices = self.devices.lock().clone();
        Snapshot { size: self.size, elapsed: self.began.elapsed(), origin_bytes, devices }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_devices() {
        let board = Board::new(3, 100);
        let status = FileStatus {
            file_size_in_cache: 50,
            bytes_from_http: 20,
            bytes_from_peers: 30,
            download_rate: 7,
            ..FileStatus::default()
        };
        for number in [1, 2] {
            board.progress(number, &status);
        }
        board.set(1, State::Running);
        board.set(2, State::Failed);
        board.set(9, State::Running);
        let seen = board.snapshot(40);
        assert_eq!((seen.received(), seen.rate(), seen.ended()), ((40, 60), 7, 1));
        assert_eq!((seen.size, seen.origin_bytes, seen.devices[2]), (100, 40, Seen::default()));
    }
}
