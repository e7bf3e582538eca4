//! One HTTP source: ranges under way, back-off, and how long the next range should be.

use std::time::Duration;

use peerage_content::{PIECE_SIZE, PieceIndex};

use crate::pace::Pace;
use crate::trust::PATIENCE;
use crate::{FetchId, SourceKind, Time};

/// Ranges under way at once.
const LANES: usize = 4;
/// … while no pace is known.
const FIRST_LANES: usize = 2;
/// The next range is asked for when all that is owed will have come within this time, so that a round trip is never
/// waited for.
const OVERLAP: Duration = Duration::from_millis(250);
/// A device that downloads alone asks for this much time's worth of bytes in one range …
const ALONE_TIME: Duration = Duration::from_secs(1);
/// … and, while it does not know its pace, for so many pieces.
const ALONE_PIECES: u32 = 4;
/// Beside other downloaders ranges are shorter: what is claimed is not free for them.
const TOGETHER_TIME: Duration = Duration::from_millis(250);
/// … and of a small content the next follows when the last is about to end: what comes side by side is complete at one
/// moment, all of it at the end, and then still has its way through the swarm before it.
const CLOSE: Duration = Duration::from_millis(20);
/// Pieces in one range at most.
const MAX_PIECES: u32 = 16;
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const MAX_BACK_OFF: Duration = Duration::from_secs(30);
/// A source's own wish (`Retry-After`) is granted up to this.
const MAX_WISH: Duration = Duration::from_secs(600);

/// Wrong pieces in a row after which a source serves something else than the content (a proxy's page, another version).
const MAX_WRONG: u32 = 2;

/// A range that brings nothing for this long is asked for anew; after each such time it may take twice as long.
const SILENCE: Duration = Duration::from_secs(10);

/// Who else is to be thought of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// This device downloads alone.
    Nobody,
    /// Others download too.
    Others,
    /// … and the content is small.
    OfFewPieces,
}

/// A range on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) fetch: FetchId,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The next byte to arrive.
    pub(crate) at: u64,
    pub(crate) asked: Time,
}

impl Range {
    /// The pieces that it still is to bring, the one under way included.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = PieceIndex> + use<> {
        let size = u64::from(PIECE_SIZE);
        let first = (self.at / size) as u32;
        let end = if self.left() > 0 { self.end.div_ceil(size) as u32 } else { first };
        (first..end).map(PieceIndex)
    }

    /// Whether nothing of it has come.
    pub(crate) const fn is_untouched(&self) -> bool {
        self.at == self.start
    }

    /// Bytes still to come.
    pub(crate) const fn left(&self) -> u64 {
        self.end - self.at
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) kind: SourceKind,
    pub(crate) ranges: Vec<Range>,
    pace: Pace,
    /// Shortest time from a request to its first bytes.
    latency: Option<Duration>,
    /// The best rate that it has shown, here or before.
    best: Option<u64>,
    failures: u32,
    not_before: Time,
    /// It asked for that wait itself.
    wished: bool,
    /// It cannot serve this content.
    pub(crate) unusable: bool,
    /// It ignores ranges: whatever it is asked for, it sends the content from the first byte on. So it is asked once, for
    /// all that is missing, and what comes before or between is let pass.
    pub(crate) whole: bool,
    /// Wrong pieces that came from it alone since the last right one.
    wrong: u32,
    /// Where the last range ended: going on there keeps requests long.
    pub(crate) cursor: Option<PieceIndex>,
}

impl Http {
    pub(crate) fn new(kind: SourceKind, known_rate: Option<u64>) -> Self {
        Self {
            kind,
            ranges: Vec::new(),
            pace: Pace::default(),
            latency: None,
            best: known_rate,
            failures: 0,
            not_before: Time::ZERO,
            wished: false,
            unusable: false,
            whole: false,
            wrong: 0,
            cursor: None,
        }
    }

    /// Whether it may be asked at all now.
    pub(crate) fn is_ready(&self, now: Time) -> bool {
        !self.unusable && now >= self.not_before
    }

    /// Whether another range may be asked for now.
    pub(crate) fn has_lane(&self, company: Company, now: Time) -> bool {
        let lanes = if self.whole { 1 } else { LANES };
        if !self.is_ready(now) || self.ranges.len() >= lanes {
            return false;
        }
        let owed = self.owed() as f64;
        match self.pace_beside(company, now) {
            _ if self.ranges.is_empty() => true,
            Some(rate) if company == Company::OfFewPieces => {
                owed < rate * (self.latency.unwrap_or_default() * 2 + CLOSE).as_secs_f64()
            }
            Some(rate) => owed < rate * OVERLAP.as_secs_f64(),
            // Nothing has come yet. Somebody else may still turn up, so not much is claimed either.
            None => company == Company::Nobody && self.ranges.len() < FIRST_LANES,
        }
    }

    /// Its pace, if enough is known to claim more by it. When many begin at once the first bytes come as if nobody else had
    /// asked: whoever went by them would claim what it gets only much later, and pass on later still.
    fn pace_beside(&self, company: Company, now: Time) -> Option<f64> {
        match company {
            Company::Others => self.pace.rate_of(u64::from(PIECE_SIZE), now),
            Company::Nobody | Company::OfFewPieces => self.pace.rate(now),
        }
    }

    /// Most pieces that the next range may cover.
    pub(crate) fn range_pieces(&self, company: Company, now: Time) -> u32 {
        let (span, first) = match company {
            Company::Nobody => (ALONE_TIME, ALONE_PIECES),
            Company::Others => (TOGETHER_TIME, 1),
            Company::OfFewPieces => return 1,
        };
        let pieces = |rate: f64| (rate * span.as_secs_f64() / f64::from(PIECE_SIZE)) as u32;
        self.pace_beside(company, now).map_or(first, pieces).clamp(1, MAX_PIECES)
    }

    /// Bytes a second that it delivers, or is known to deliver.
    pub(crate) fn rate(&self, now: Time) -> Option<f64> {
        self.pace.rate(now).or(self.best.map(|rate| rate as f64))
    }

    /// The best rate that it has shown, in bytes a second.
    pub(crate) const fn best_rate(&self) -> Option<u64> {
        self.best
    }

    /// Bytes asked for and not arrived.
    pub(crate) fn owed(&self) -> u64 {
        self.ranges.iter().map(Range::left).sum()
    }

    pub(crate) fn begin(&mut self, range: Range, now: Time) {
        self.ranges.push(range);
        self.pace.begin(now);
    }

    /// Bytes arrived at content offset `from`.
    pub(crate) fn delivered(&mut self, from: u64, len: u64, now: Time) {
        self.pace.add(len, now);
        self.failures = 0;
        for range in &mut self.ranges {
            if range.at <= from && from < range.end {
                if range.is_untouched() {
                    let latency = now.since(range.asked);
                    self.latency = Some(self.latency.map_or(latency, |known| known.min(latency)));
                }
                range.at = (from + len).min(range.end).max(range.at);
            }
        }
        self.rest_if_idle();
    }

    /// Bytes arrived that nothing is done with.
    pub(crate) fn passed(&mut self, len: u64, now: Time) {
        self.pace.add(len, now);
        self.failures = 0;
    }

    /// A piece that came from it alone is right or wrong. Returns whether it has become clear that it cannot be used.
    pub(crate) fn judged(&mut self, right: bool) -> bool {
        self.wrong = if right { 0 } else { self.wrong + 1 };
        let found = !self.unusable && self.wrong >= MAX_WRONG;
        self.unusable |= found;
        found
    }

    /// The same, if at least `evidence` bytes bear it out: the first ones say little of what a connection can give.
    pub(crate) fn proven_rate(&self, evidence: u64, now: Time) -> Option<f64> {
        let present = self.pace.rate(now).filter(|_| self.pace.total() >= evidence);
        present.or(self.best.map(|rate| rate as f64))
    }

    /// What it has given on average, if at least `evidence` bytes bear it out, or is known to give. Among many devices that is what
    /// it can give to each: its last pace may be that of a moment in which nobody else asked.
    pub(crate) fn usual_rate(&self, evidence: u64) -> Option<f64> {
        self.pace.average(evidence).or(self.best.map(|rate| rate as f64))
    }

    /// Remembers the best rate, if at least `evidence` bytes bear it out.
    pub(crate) fn learn_rate(&mut self, evidence: u64, now: Time) {
        let rate = self.pace.rate(now).filter(|_| self.pace.total() >= evidence);
        self.best = self.best.max(rate.map(|rate| rate as u64));
    }

    /// Whether it was delivering, owes bytes and has brought none for as long as peers are waited for.
    pub(crate) fn stands_still(&self, now: Time) -> bool {
        let still = self.pace.silent_since().is_some_and(|since| now.since(since) >= PATIENCE);
        still && self.pace.rate(now).is_some()
    }

    /// Whether it owes bytes and has brought none for too long.
    pub(crate) fn is_silent(&self, now: Time) -> bool {
        let limit = SILENCE * 2u32.pow(self.failures.min(3));
        self.pace.silent_since().is_some_and(|since| now.since(since) >= limit)
    }

    pub(crate) fn end(&mut self, fetch: FetchId) -> Option<Range> {
        let at = self.ranges.iter().position(|range| range.fetch == fetch)?;
        let range = self.ranges.remove(at);
        self.cursor = Some(PieceIndex((range.at / u64::from(PIECE_SIZE)) as u32));
        self.rest_if_idle();
        Some(range)
    }

    fn rest_if_idle(&mut self) {
        if self.owed() == 0 {
            self.pace.end();
        }
    }

    /// Waits before the next attempt: the source's own wish, or longer each time.
    pub(crate) fn back_off(&mut self, wish: Option<Duration>, now: Time) {
        let own = (FIRST_BACK_OFF * 2u32.pow(self.failures.min(6))).min(MAX_BACK_OFF);
        self.failures += 1;
        self.not_before = now + wish.unwrap_or(own).min(MAX_WISH);
        self.wished = wish.is_some();
    }

    /// Past failures count no longer; what it asked for itself does.
    pub(crate) fn forgive(&mut self) {
        self.failures = 0;
        if !self.wished {
            self.not_before = Time::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = PIECE_SIZE as u64;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn range(name: u64, start: u64, end: u64) -> Range {
        Range { fetch: FetchId(name), start, at: start, end, asked: at(0) }
    }

    #[test]
    fn the_next_lane_opens_when_the_last_is_nearly_done() {
        let mut http = Http::new(SourceKind::Cdn, None);
        assert!(http.has_lane(Company::Others, at(0)) && http.range_pieces(Company::Others, at(0)) == 1);
        http.begin(range(0, 0, 4 * MIB), at(0));
        assert!(!http.has_lane(Company::Others, at(0)) && http.has_lane(Company::Nobody, at(0)));
        (0..8).for_each(|i| http.delivered(i * MIB / 2, MIB / 2, at(100 * (i + 1))));
        assert_eq!(http.rate(at(800)).map(|rate| rate as u64 / 1000), Some(5242));
        assert!(http.has_lane(Company::Others, at(800)));
        assert_eq!(
            (http.range_pieces(Company::Others, at(800)), http.range_pieces(Company::Nobody, at(800))),
            (1, 5)
        );
        assert_eq!(http.end(FetchId(0)).map(|range| range.left()), Some(0));
        assert_eq!(http.cursor, Some(PieceIndex(4)));
    }

    #[test]
    fn two_wrong_pieces_in_a_row_are_enough() {
        let mut http = Http::new(SourceKind::Cdn, None);
        assert!(!http.judged(false) && !http.judged(true) && !http.judged(false) && http.is_ready(at(0)));
        assert!(http.judged(false) && !http.judged(false) && !http.is_ready(at(0)));
    }

    #[test]
    fn back_off_grows_and_grants_wishes() {
        let mut http = Http::new(SourceKind::Cdn, Some(5));
        http.back_off(None, at(0));
        assert!(!http.is_ready(at(499)) && http.is_ready(at(500)));
        http.back_off(None, at(1000));
        assert!(!http.is_ready(at(1999)) && http.is_ready(at(2000)));
        http.back_off(Some(Duration::from_secs(7)), at(2000));
        assert!(!http.is_ready(at(8999)) && http.is_ready(at(9000)));
    }
}
