//! What has been sent to Internet peers, by calendar month.
//!
//! Clocks are wrong at times: a device without a clock of its own begins in 1970, and one that is set too far ahead is set
//! back. So a month that was left may come again, and its count with it: whoever could make the count begin anew by the clock
//! could send as much as they like.

use serde::{Deserialize, Serialize};

/// The months that are remembered: enough that a wrong clock's do not push the true one out.
const MAX_MONTHS: usize = 12;

/// Counts of the months that were seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Months(
    /// Month ([`crate::clock::Clock::month`]) and bytes, that of the latest count last.
    Vec<(u64, u64)>,
);

impl Months {
    /// Bytes sent in a month.
    pub(crate) fn sent(&self, month: u64) -> u64 {
        self.0.iter().find(|(of, _)| *of == month).map_or(0, |(_, sent)| *sent)
    }

    /// Counts bytes for a month.
    pub(crate) fn add(&mut self, month: u64, bytes: u64) {
        let sent = self.sent(month).saturating_add(bytes);
        self.0.retain(|(of, _)| *of != month);
        self.0.push((month, sent));
        let surplus = self.0.len().saturating_sub(MAX_MONTHS);
        self.0.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_that_comes_again_has_its_count() {
        let mut months = Months::default();
        months.add(24_000, 5);
        months.add(23_640, 1);
        months.add(24_000, 5);
        assert_eq!((months.sent(24_000), months.sent(23_640), months.sent(1)), (10, 1, 0));
        let text = serde_json::to_string(&months).unwrap();
        assert_eq!(serde_json::from_str::<Months>(&text).unwrap(), months);
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let mut months = Months::default();
        for month in 0..100 {
            months.add(500, 1);
            months.add(month, 1);
        }
        assert_eq!(
            (months.0.len(), months.sent(500), months.sent(99), months.sent(0)),
            (MAX_MONTHS, 100, 1, 0)
        );
    }
}
