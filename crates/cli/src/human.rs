//! Quantities for people: `146.5 MiB`, `4.2 s`, `98.1 %`. Powers of 1024, because pieces are 1 MiB.

use std::time::Duration;

pub(crate) use peerage_policy::units::{binary_rate as rate, binary_size as size};

/// A part of a whole in percent: `98.1`, never rounded up to 100 nor down to 0.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 || part == 0 {
        return "0".to_owned();
    }
    if part >= whole {
        return "100".to_owned();
    }
    let percent = 100.0 * part as f64 / whole as f64;
    if percent < 0.1 { "<0.1".to_owned() } else { format!("{:.1}", (percent * 10.0).floor() / 10.0) }
}

/// The same without a fraction: for bars.
pub(crate) fn whole_percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    (u128::from(part.min(whole)) * 100 / u128::from(whole)) as u64
}

/// How long something took: `4.2 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |(more, more_unit): (u64, &str), (less, less_unit): (u64, &str)| match less {
        0 => format!("{more} {more_unit}"),
        _ => format!("{more} {more_unit} {less} {less_unit}"),
    };
    match seconds {
        0..10 => format!("{:.1} s", (time.as_secs_f64() * 10.0).floor() / 10.0),
        10..60 => format!("{seconds} s"),
        60..3600 => two((seconds / 60, "min"), (seconds % 60, "s")),
        3600..86_400 => two((seconds / 3600, "h"), (seconds % 3600 / 60, "min")),
        _ => two((seconds / 86_400, "d"), (seconds % 86_400 / 3600, "h")),
    }
}

/// Time that remains, as a clock shows it: `0:12`, `1:02:03`.
pub(crate) fn clock(time: Duration) -> String {
    let (hours, minutes, seconds) = (time.as_secs() / 3600, time.as_secs() / 60 % 60, time.as_secs() % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..100 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => duration(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_never_claim_all_or_nothing() {
        let shown = [(0, 0), (0, 9), (9, 9), (1, 3), (99_999, 100_000), (1, 100_000), (12, 9)]
            .map(|(part, whole)| percent(part, whole));
        assert_eq!(shown, ["0", "0", "100", "33.3", "99.9", "<0.1", "100"]);
        assert_eq!(
            [whole_percent(1, 3), whole_percent(999, 1000), whole_percent(u64::MAX, u64::MAX)],
            [33, 99, 100]
        );
        assert_eq!([whole_percent(5, 0), whole_percent(9, 3)], [0, 100]);
    }

    #[test]
    fn times() {
        let shown = [0, 4_260, 9_999, 10_000, 59_999, 60_000, 192_000, 7_500_000, 273_600_000]
            .map(|millis| duration(Duration::from_millis(millis)));
        let expected =
            ["0.0 s", "4.2 s", "9.9 s", "10 s", "59 s", "1 min", "3 min 12 s", "2 h 5 min", "3 d 4 h"];
        assert_eq!(shown, expected);
        let clocks = [12, 3723, 360_000].map(|seconds| clock(Duration::from_secs(seconds)));
        assert_eq!(clocks, ["0:12", "1:02:03", "4 d 4 h"]);
    }
}
