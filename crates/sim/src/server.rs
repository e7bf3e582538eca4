//! An HTTP source: its uplink is shared fairly between the ranges it sends, a block at a time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerage_content::BLOCK_SIZE;
use peerage_swarm::{FetchId, SourceKind, Time};

use crate::link::Link;

/// Bytes of one range on their way at most: a connection's receive window.
const WINDOW: u64 = 8 << 20;

/// How an HTTP source behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Fine,
    /// 503: to be tried again, after `Retry-After` if it says so.
    Busy(Option<Duration>),
    /// 404 and the like: it cannot serve the content.
    Gone,
    /// It takes requests and sends nothing.
    Silent,
}

/// Who asked: a device in one of its lives, and its name for the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) device: usize,
    pub(crate) life: u32,
    pub(crate) fetch: FetchId,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    at: u64,
    end: u64,
    on_the_way: u64,
}

/// A block that leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantum {
    pub(crate) key: Key,
    /// Offset in the content.
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) last: bool,
    /// When its first and its last byte leave.
    pub(crate) leaves: (Time, Time),
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: SourceKind,
    pub(crate) link: Link,
    /// One way.
    pub(crate) latency: Duration,
    pub(crate) health: Health,
    /// Bytes that have left.
    pub(crate) sent: u64,
    ranges: BTreeMap<Key, Range>,
    turns: VecDeque<Key>,
    sending: bool,
}

impl Server {
    pub(crate) const fn new(kind: SourceKind, rate: u64, latency: Duration) -> Self {
        Self {
            kind,
            link: Link::new(rate),
            latency,
            health: Health::Fine,
            sent: 0,
            ranges: BTreeMap::new(),
            turns: VecDeque::new(),
            sending: false,
        }
    }

    /// A request for bytes `[start, end)` has arrived.
    pub(crate) fn ask(&mut self, key: Key, start: u64, end: u64) {
        self.ranges.insert(key, Range { at: start, end, on_the_way: 0 });
        self.turns.push_back(key);
    }

    /// The other side has closed.
    pub(crate) fn close(&mut self, key: Key) {
        self.ranges.remove(&key);
        self.turns.retain(|turn| *turn != key);
    }

    /// Breaks all ranges off; returns whose they were.
    pub(crate) fn break_off(&mut self) -> Vec<Key> {
        self.turns.clear();
        std::mem::take(&mut self.ranges).into_keys().collect()
    }

    /// The next block, if the uplink is free and somebody waits.
    pub(crate) fn send_next(&mut self, now: Time) -> Option<Quantum> {
        if self.sending || self.health == Health::Silent {
            return None;
        }
        let key = self.turns.pop_front()?;
        let range = self.ranges.get_mut(&key)?;
        let block = u64::from(BLOCK_SIZE);
        let (at, end) = (range.at, range.end.min((range.at / block + 1) * block));
        let len = end - at;
        (range.at, range.on_the_way) = (end, range.on_the_way + len);
        let last = end == range.end;
        if !last && range.on_the_way < WINDOW {
            self.turns.push_back(key);
        }
        self.sent += len;
        self.sending = true;
        Some(Quantum { key, at, len: len as u32, last, leaves: self.link.take(len, now) })
    }

    /// The last block has left the uplink.
    pub(crate) fn sent(&mut self) {
        self.sending = false;
    }

    /// A block has arrived: there is room in the window again.
    pub(crate) fn landed(&mut self, key: Key, len: u32) {
        let Some(range) = self.ranges.get_mut(&key) else { return };
        let full = range.on_the_way >= WINDOW;
        range.on_the_way -= u64::from(len);
        if range.at == range.end && range.on_the_way == 0 {
            self.ranges.remove(&key);
        } else if full && range.on_the_way < WINDOW && range.at < range.end {
            self.turns.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_take_turns_and_windows_hold() {
        let mut server = Server::new(SourceKind::Cdn, 1 << 20, Duration::ZERO);
        let key = |device| Key { device, life: 0, fetch: FetchId(0) };
        server.ask(key(0), 0, 3 * u64::from(BLOCK_SIZE));
        server.ask(key(1), 0, 100);
        let mut order = Vec::new();
        while let Some(quantum) = server.send_next(Time::ZERO) {
            order.push((quantum.key.device, quantum.last));
            assert!(server.send_next(Time::ZERO).is_none());
            server.sent();
        }
        assert_eq!(order, [(0, false), (1, true), (0, false), (0, true)]);
        assert_eq!(server.sent, 3 * u64::from(BLOCK_SIZE) + 100);
        server.ask(key(2), 0, 2 * WINDOW);
        let mut blocks = 0;
        while server.send_next(Time::ZERO).is_some() {
            server.sent();
            blocks += 1;
        }
        assert_eq!(blocks * u64::from(BLOCK_SIZE), WINDOW);
        server.landed(key(2), BLOCK_SIZE);
        assert!(server.send_next(Time::ZERO).is_some());
    }
}
