//! One HTTP source: ranges under way, back-off, and how long the next range should be.

use std::time::Duration;

use peerage_content::{PIECE_SIZE, PieceIndex};

use crate::{FetchId, RateMeter, SourceKind, Time};

/// Ranges under way at once. The second begins when the first is about to end, so that a round trip is never waited for.
pub(crate) const LANES: usize = 2;
/// The next range is asked for when the last one will be done within this time.
const OVERLAP: Duration = Duration::from_millis(250);
/// A device that downloads alone asks for this much time's worth of bytes in one range …
const ALONE_TIME: Duration = Duration::from_secs(2);
/// … but at least and at most for so many pieces.
const ALONE_PIECES: (u32, u32) = (4, 64);
/// A content of fewer pieces than this is shared out piece by piece.
const SMALL_PIECES: u32 = 64;
/// Beside other downloaders ranges are short: what is claimed is not free for them.
const TOGETHER_PIECES: u32 = 2;
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const MAX_BACK_OFF: Duration = Duration::from_secs(30);

/// A range on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) fetch: FetchId,
    pub(crate) end: u64,
    /// The next byte to arrive.
    pub(crate) at: u64,
}

impl Range {
    /// The pieces that it still is to bring, the one under way included.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = PieceIndex> + use<> {
        let size = u64::from(PIECE_SIZE);
        ((self.at / size) as u32..self.end.div_ceil(size) as u32).map(PieceIndex)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) kind: SourceKind,
    pub(crate) ranges: Vec<Range>,
    pub(crate) down: RateMeter,
    known_rate: Option<u64>,
    failures: u32,
    not_before: Time,
    /// It cannot serve this content.
    pub(crate) unusable: bool,
    /// Where the last range ended: going on there keeps requests long.
    pub(crate) cursor: Option<PieceIndex>,
}

impl Http {
    pub(crate) fn new(kind: SourceKind, known_rate: Option<u64>) -> Self {
        Self {
            kind,
            ranges: Vec::new(),
            down: RateMeter::default(),
            known_rate,
            failures: 0,
            not_before: Time::ZERO,
            unusable: false,
            cursor: None,
        }
    }

    /// Whether another range may be asked for now.
    pub(crate) fn has_lane(&self, now: Time) -> bool {
        if self.unusable || now < self.not_before || self.ranges.len() >= LANES {
            return false;
        }
        let owed: u64 = self.ranges.iter().map(|range| range.end - range.at).sum();
        self.ranges.is_empty() || owed < (self.down.rate(now) as f64 * OVERLAP.as_secs_f64()) as u64
    }

    /// Most pieces that the next range may cover.
    pub(crate) fn range_pieces(&self, alone: bool, pieces: u32, now: Time) -> u32 {
        let small = pieces < SMALL_PIECES;
        if !alone {
            return if small { 1 } else { TOGETHER_PIECES };
        }
        let rate = self.down.rate(now).max(self.known_rate.unwrap_or(0));
        let wanted = rate as f64 * ALONE_TIME.as_secs_f64() / f64::from(PIECE_SIZE);
        (wanted as u32).clamp(if small { 1 } else { ALONE_PIECES.0 }, ALONE_PIECES.1)
    }

    /// The rate it is known to deliver, in bytes a second.
    pub(crate) fn best_rate(&self) -> Option<u64> {
        self.known_rate
    }

    /// Bytes arrived at content offset `from`.
    pub(crate) fn delivered(&mut self, from: u64, len: u64, now: Time) {
        self.down.add(len, now);
        self.failures = 0;
        for range in &mut self.ranges {
            if range.at <= from && from < range.end {
                range.at = (from + len).min(range.end).max(range.at);
            }
        }
    }

    /// Remembers the best rate seen while it was asked without pause.
    pub(crate) fn learn_rate(&mut self, now: Time) {
        if !self.ranges.is_empty() {
            let rate = self.down.rate(now);
            self.known_rate = Some(self.known_rate.map_or(rate, |known| known.max(rate)));
        }
    }

    pub(crate) fn end(&mut self, fetch: FetchId) -> Option<Range> {
        let at = self.ranges.iter().position(|range| range.fetch == fetch)?;
        Some(self.ranges.remove(at))
    }

    /// Waits before the next attempt: the source's own wish, or longer each time.
    pub(crate) fn back_off(&mut self, wish: Option<Duration>, now: Time) {
        let own = (FIRST_BACK_OFF * 2u32.pow(self.failures.min(6))).min(MAX_BACK_OFF);
        self.failures += 1;
        self.not_before = now + wish.unwrap_or(own).min(Duration::from_secs(600));
    }
}
