//! What everybody had sent at which moment after a change, and when a flow had become what it should be.

use std::collections::BTreeMap;
use std::time::Duration;

/// What goes to and fro besides a file: announces, acknowledgements, discovery.
const CHATTER: u64 = 48 << 10;
/// What shows that a source delivers.
const BEGUN: u64 = 64 << 10;
/// A flow must have been as it should be for this long.
pub(super) const STEADY: Duration = Duration::from_millis(1000);
/// How far above a cap a rate may be measured: frames, and bursts of 50 ms.
const ABOVE: f64 = 1.15;

/// Whoever may send a file.
const SENDERS: [&str; 6] = ["origin", "cache", "a", "twin", "far", "other"];

/// Bytes sent so far, by sender.
pub(super) type Sent = BTreeMap<String, u64>;

/// What a flow is to become.
#[derive(Debug, Clone, Copy)]
pub(super) enum Flow {
    /// This sender sends at most so many KB/s from then on; 0: nothing.
    Falls(&'static str, u64),
    /// This one sends more than so many KB/s.
    Rises(&'static str, u64),
    /// One of two falls silent, whichever.
    EitherStops(&'static str, &'static str),
    /// This one delivers over another connection than before.
    Reconnects(&'static str),
}

/// Moments after the change, the first at the change itself.
#[derive(Debug, Default)]
pub(super) struct Timeline(Vec<(Duration, Sent)>);

impl Timeline {
    pub(super) fn add(&mut self, at: Duration, sent: Sent) {
        self.0.push((at, sent));
    }

    /// From the first moment to the last.
    pub(super) fn span(&self) -> Duration {
        match (self.0.first(), self.0.last()) {
            (Some((first, _)), Some((last, _))) => *last - *first,
            _ => Duration::ZERO,
        }
    }

    /// What every sender had sent each half second, in KB: for whoever looks into a row that is late.
    pub(super) fn told(&self) -> String {
        let mut next = Duration::ZERO;
        let mut lines = String::new();
        for (at, sent) in &self.0 {
            if *at >= next {
                let first = |who: &str| self.0.first().map_or(0, |(_, sent)| bytes(sent, who));
                let all = SENDERS.map(|who| format!("{who} {}", (bytes(sent, who) - first(who)) / 1000));
                lines += &format!("\n  {:.2} s: {} KB", at.as_secs_f64(), all.join(", "));
                next = *at + Duration::from_millis(500);
            }
        }
        lines
    }

    /// Forgets all but the last `span` of it.
    pub(super) fn keep_last(&mut self, span: Duration) {
        let from = self.0.last().map_or(Duration::ZERO, |(at, _)| at.saturating_sub(span));
        self.0.retain(|(at, _)| *at >= from);
    }

    /// Whether for a while it has come from those alone.
    pub(super) fn is_from(&self, senders: &[&str]) -> bool {
        let quiet = |who: &str| senders.contains(&who) || self.falls(who, 0).is_some();
        let flows = |who: &&str| self.span() >= STEADY && self.rises(who, 0, Duration::ZERO).is_some();
        SENDERS.iter().all(|who| quiet(who)) && senders.iter().all(flows)
    }

    /// When `flow` had become what it should be; `None`: not yet, or not for long enough to be sure.
    pub(super) fn settled(&self, flow: Flow) -> Option<Duration> {
        match flow {
            Flow::Falls(who, rate) => self.falls(who, rate),
            Flow::Rises(who, rate) => self.rises(who, rate, Duration::ZERO),
            Flow::EitherStops(one, other) => self.falls(one, 0).or_else(|| self.falls(other, 0)),
            // The connection itself is looked at elsewhere.
            Flow::Reconnects(who) => self.rises(who, 0, Duration::ZERO),
        }
    }

    /// When `who` had delivered again after `since`.
    pub(super) fn delivers_after(&self, who: &str, since: Duration) -> Option<Duration> {
        self.rises(who, 0, since)
    }

    /// The first moment after which no more came than the rate allows.
    fn falls(&self, who: &str, rate: u64) -> Option<Duration> {
        let (end, total) = self.0.last().map(|(at, sent)| (*at, bytes(sent, who)))?;
        let allowed =
            |from: Duration| rate as f64 * 1e3 * ABOVE * (end - from).as_secs_f64() + CHATTER as f64;
        let holds = |(at, sent): &&(Duration, Sent)| (total - bytes(sent, who)) as f64 <= allowed(*at);
        let first = self.0.iter().find(holds)?.0;
        (end - first >= STEADY).then_some(first)
    }

    /// The first moment at which more had come since `since` than the rate allows.
    fn rises(&self, who: &str, rate: u64, since: Duration) -> Option<Duration> {
        let mut later = self.0.iter().filter(|(at, _)| *at >= since);
        let (from, before) = later.next().map(|(at, sent)| (*at, bytes(sent, who)))?;
        let enough = |at: Duration| rate as f64 * 1e3 * ABOVE * (at - from).as_secs_f64() + BEGUN as f64;
        later.find(|(at, sent)| (bytes(sent, who) - before) as f64 >= enough(*at)).map(|(at, _)| *at)
    }
}

fn bytes(sent: &Sent, who: &str) -> u64 {
    sent.get(who).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten looks a second at one sender whose rate changes, in KB/s.
    fn line(rates: &[(u64, u64)]) -> Timeline {
        let (mut timeline, mut total, mut at) = (Timeline::default(), 0, 0);
        for (seconds, rate) in rates {
            for _ in 0..seconds * 10 {
                timeline.add(Duration::from_millis(at), Sent::from([("a".to_owned(), total)]));
                (at, total) = (at + 100, total + rate * 100);
            }
        }
        timeline
    }

    #[test]
    fn flows_stop_fall_and_begin() {
        let stops = line(&[(1, 2000), (2, 0)]);
        assert_eq!(stops.settled(Flow::Falls("a", 0)), Some(Duration::from_secs(1)));
        assert_eq!(line(&[(3, 2000)]).settled(Flow::Falls("a", 0)), None);
        assert_eq!(line(&[(1, 2000), (1, 0)]).settled(Flow::Falls("a", 0)), None, "not for long enough");
        let capped = line(&[(1, 2000), (2, 200)]);
        assert_eq!(capped.settled(Flow::Falls("a", 0)), None);
        assert!(capped.settled(Flow::Falls("a", 200)).is_some_and(|at| at <= Duration::from_secs(1)));
        let begins = line(&[(1, 0), (1, 2000)]);
        assert_eq!(begins.settled(Flow::Rises("a", 0)), Some(Duration::from_millis(1100)));
        assert_eq!(
            begins.delivers_after("a", Duration::from_millis(1500)),
            Some(Duration::from_millis(1600))
        );
        assert_eq!(line(&[(3, 200)]).settled(Flow::Rises("a", 400)), None);
        assert_eq!(line(&[(2, 0)]).settled(Flow::Rises("nobody", 0)), None);
    }
}
