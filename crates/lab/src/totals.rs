//! The figures by which runs are compared, real or simulated: the same JSON keys, the same words. Keys are only ever added.

use std::time::Duration;

use serde::Serialize;

use crate::bound;
use crate::human::size;

/// The result of a whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Totals {
    pub(crate) devices: u64,
    pub(crate) file_bytes: u64,
    /// Body bytes that the origin sent.
    pub(crate) origin_bytes: u64,
    /// `origin_bytes / file_bytes`.
    pub(crate) origin_copies: f64,
    /// Of all bytes that devices received.
    pub(crate) percent_from_peers: f64,
    /// From the first start until the last device had the file.
    pub(crate) seconds: f64,
    /// What physics allows; null where nothing limits, or where no bound is known.
    pub(crate) bound_seconds: Option<f64>,
    /// Whether every device has the right bytes.
    pub(crate) all_correct: bool,
}

impl Totals {
    /// The exit code: whether every device has the right file.
    pub(crate) const fn exit_code(&self) -> u8 {
        if self.all_correct { 0 } else { 1 }
    }

    /// What the origin sent, in words.
    pub(crate) fn origin(&self) -> String {
        format!("{} sent = {:.2} copies of the file", size(self.origin_bytes), self.origin_copies)
    }

    /// What peers gave, in words.
    pub(crate) fn peers(&self) -> String {
        format!("{:.1} % of what devices received", self.percent_from_peers)
    }

    /// How long it took, in words.
    pub(crate) fn time(&self) -> String {
        let factor = bound::factor(self.seconds, self.bound_seconds);
        let factor = factor.map(|factor| format!(" = {factor:.2} × the bound")).unwrap_or_default();
        format!("{:.1} s{factor}", self.seconds)
    }
}

/// One device's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Traffic {
    pub(crate) bytes_from_origin: u64,
    pub(crate) bytes_from_cache_server: u64,
    pub(crate) bytes_from_peers: u64,
    pub(crate) percent_from_peers: f64,
    /// Fetched and thrown away: wrong, or had twice.
    pub(crate) bytes_wasted: u64,
    pub(crate) bytes_uploaded: u64,
}

/// `part` of `whole`, to four digits after the point; 0 of nothing.
pub(crate) fn copies(part: u64, whole: u64) -> f64 {
    rounded(ratio(part, whole), 4)
}

/// `part` of `whole` in percent, to two digits after the point; 0 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    rounded(100.0 * ratio(part, whole), 2)
}

/// A time in seconds, to the millisecond.
pub(crate) fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64(), 3)
}

/// `value` with so many digits after the point.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
