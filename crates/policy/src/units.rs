//! Units that people write: sizes (`64MiB`, `10GB`), rates (`20mbit`, `500KB/s`), durations (`90s`, `3d`).
//!
//! `K`, `M`, `G` are powers of 1000 and `Ki`, `Mi`, `Gi` powers of 1024 (IEC 80000-13), everywhere in Peerage. What the
//! `show_*` functions print reads back as exactly the same value; the `about_*` functions round, for sentences.

use std::time::Duration;

/// One kilobyte: 1000 bytes.
pub const KB: u64 = 1_000;
/// One megabyte: 1000 KB.
pub const MB: u64 = 1_000_000;
/// One gigabyte: 1000 MB.
pub const GB: u64 = 1_000_000_000;

/// Longer text than this is never a quantity.
const MAX_TEXT: usize = 48;
/// More digits after the point than this are not read.
const MAX_FRACTION: usize = 9;

/// The text is not a quantity of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, a {kind} is {allowed}")]
pub struct UnitError {
    /// What was to be read: `size`, `rate` or `duration`.
    pub kind: &'static str,
    /// What was found, shortened to 48 characters.
    pub found: String,
    /// What is allowed, with examples.
    pub allowed: &'static str,
}

/// A unit's name and how many base units it is.
type Unit = (&'static str, u64);

const SIZES: &[Unit] = &[
    ("TiB", 1 << 40),
    ("TB", 1000 * GB),
    ("GiB", 1 << 30),
    ("GB", GB),
    ("MiB", 1 << 20),
    ("MB", MB),
    ("KiB", 1 << 10),
    ("KB", KB),
    ("B", 1),
];
/// In bits per second, so that `20mbit` and `500KB/s` share one table.
const RATES: &[Unit] = &[
    ("TiB/s", 8 << 40),
    ("TB/s", 8000 * GB),
    ("GiB/s", 8 << 30),
    ("GB/s", 8 * GB),
    ("MiB/s", 8 << 20),
    ("MB/s", 8 * MB),
    ("KiB/s", 8 << 10),
    ("KB/s", 8 * KB),
    ("B/s", 8),
    ("gbit", GB),
    ("mbit", MB),
    ("kbit", KB),
    ("bit", 1),
    ("gbit/s", GB),
    ("mbit/s", MB),
    ("kbit/s", KB),
    ("bit/s", 1),
];
/// In milliseconds.
const DURATIONS: &[Unit] = &[
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("min", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads a size: `64MiB`, `10GB`, `1.5 TB`, or a plain number of bytes. Upper and lower case are one.
///
/// # Errors
/// Not a number with a known unit, or above 2^64 - 1 bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (value, rest) = quantity(text, SIZES, Some(1)).ok_or_else(|| size_error(text))?;
    if rest.is_empty() { Ok(value) } else { Err(size_error(text)) }
}

/// Reads a rate in bytes per second: `20mbit`, `500KB/s`, `1.5 MiB/s`. Refused as ambiguous: a plain number, and
/// a small `b` before `/s` (`20Mb/s` is bits to some and bytes to others).
///
/// # Errors
/// Not a number with a known unit, or above what 64 bits hold in bits per second.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let allowed =
        "a number with kbit, mbit, gbit, B/s, KB/s, MB/s, KiB/s or MiB/s, such as 20mbit or 500KB/s";
    let error = || unit_error("rate", text, allowed);
    let (bits, rest) = quantity(text, RATES, None).ok_or_else(error)?;
    // Less than a byte is not nothing.
    let bytes = if bits == 0 { 0 } else { (bits / 8).max(1) };
    if rest.is_empty() && !text.contains("b/s") { Ok(bytes) } else { Err(error()) }
}

/// Reads a duration: `90s`, `3d`, `250ms`, `1h30min`. A plain number is refused.
///
/// # Errors
/// Not numbers with known units, or above 2^64 - 1 milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let allowed = "a number with ms, s, min, h, d or w, such as 90s or 3d";
    let error = || unit_error("duration", text, allowed);
    let (mut total, mut rest) = quantity(text, DURATIONS, None).ok_or_else(error)?;
    while !rest.is_empty() {
        let (more, after) = quantity(rest, DURATIONS, None).ok_or_else(error)?;
        (total, rest) = (total.checked_add(more).ok_or_else(error)?, after);
    }
    Ok(Duration::from_millis(total))
}

/// Prints a size in the largest unit that holds it exactly: `64MiB`, `10GB`, `1234B`.
pub fn show_size(bytes: u64) -> String {
    let (count, unit) = exact(bytes, SIZES);
    format!("{count}{unit}")
}

/// Prints a rate given in bytes per second, exactly: `500KB/s`, `2MB/s`.
pub fn show_rate(bytes_per_second: u64) -> String {
    format!("{}/s", show_size(bytes_per_second))
}

/// Prints a duration given in seconds in the largest unit that holds it exactly: `3d`, `90s`, `2w`.
pub fn show_duration(seconds: u64) -> String {
    match seconds.checked_mul(1000).filter(|millis| *millis != 0) {
        Some(millis) => {
            let (count, unit) = exact(millis, DURATIONS);
            format!("{count}{unit}")
        }
        None => format!("{seconds}s"),
    }
}

/// Prints a size for a sentence, with at most one digit after the point: `8.2 GB`, `50 MB`.
pub fn about_size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..KB => (1, "B"),
        KB..MB => (KB, "KB"),
        MB..GB => (MB, "MB"),
        _ => (GB, "GB"),
    };
    let (whole, tenth) = (bytes / unit, bytes % unit * 10 / unit);
    if tenth == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") }
}

/// Prints a rate in bytes per second for a sentence: `2.5 MB/s`.
pub fn about_rate(bytes_per_second: u64) -> String {
    format!("{}/s", about_size(bytes_per_second))
}

/// Prints a size for a table, in powers of 1024 because pieces are 1 MiB: `512 B`, `146.5 MiB`.
pub fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut names = UNITS.iter();
    let mut name = names.next();
    // What would be rounded to 1024.0 is 1.0 of the next unit.
    while value >= 1023.95 && names.len() > 0 {
        value /= 1024.0;
        name = names.next();
    }
    format!("{value:.1} {}", name.unwrap_or(&"B"))
}

/// Prints a rate in bytes per second for a table: `12.3 MiB/s`.
pub fn binary_rate(bytes_per_second: u64) -> String {
    format!("{}/s", binary_size(bytes_per_second))
}

fn size_error(text: &str) -> UnitError {
    unit_error("size", text, "a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 64MiB or 10GB")
}

fn unit_error(kind: &'static str, text: &str, allowed: &'static str) -> UnitError {
    UnitError { kind, found: text.chars().take(MAX_TEXT).collect(), allowed }
}

/// `value` in the largest unit of which it is a whole multiple. The last unit of a table is its base unit.
fn exact(value: u64, units: &[Unit]) -> (u64, &'static str) {
    let fits = |(_, scale): &&Unit| value != 0 && value.is_multiple_of(*scale);
    let best = units.iter().filter(fits).max_by_key(|(_, scale)| *scale);
    best.or(units.last()).map_or((value, ""), |(name, scale)| (value / scale, name))
}

/// Reads one `NUMBER[.FRACTION] [UNIT]` from the front; the value in base units and the rest. It is rounded down, but never
/// to nothing: 0 means "no limit" in many settings. `plain` is the scale of a number without a unit, if that is allowed.
fn quantity<'a>(text: &'a str, units: &[Unit], plain: Option<u64>) -> Option<(u64, &'a str)> {
    let text = text.trim();
    if text.len() > MAX_TEXT {
        return None;
    }
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", rest),
    };
    let point_without_digits = fraction.is_empty() && text.get(whole.len()..)?.starts_with('.');
    if whole.is_empty() || fraction.len() > MAX_FRACTION || point_without_digits {
        return None;
    }
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_alphabetic() && c != '/').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let scale = if unit.is_empty() {
        plain.filter(|_| fraction.is_empty())?
    } else {
        units.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?.1
    };
    let mut value = whole.parse::<u128>().ok()?.checked_mul(u128::from(scale))?;
    if !fraction.is_empty() {
        let parts = fraction.parse::<u128>().ok()?.checked_mul(u128::from(scale))?;
        value = value.checked_add(parts / 10u128.pow(u32::try_from(fraction.len()).ok()?))?;
    }
    let nothing = whole.bytes().chain(fraction.bytes()).all(|digit| digit == b'0');
    let value = if nothing { 0 } else { value.max(1) };
    Some((u64::try_from(value).ok()?, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("10GB", 10 * GB),
            (" 10 gb ", 10 * GB),
            ("1.5KB", 1500),
            ("0.1KiB", 102),
            ("7", 7),
            ("0B", 0),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for (text, rate) in [
            ("20mbit", 2_500_000),
            ("20 Mbit/s", 2_500_000),
            ("500KB/s", 500_000),
            ("1.5MiB/s", 3 << 19),
            ("0bit", 0),
        ] {
            assert_eq!(parse_rate(text).unwrap(), rate, "{text}");
        }
        for (text, millis) in [
            ("90s", 90_000),
            ("3d", 259_200_000),
            ("250ms", 250),
            ("1h30min", 5_400_000),
            ("1h 30m", 5_400_000),
            ("0.5s", 500),
            ("1w", 604_800_000),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn little_is_not_nothing() {
        for rate in ["3bit", "0.5B/s", "0.001bit", "0.000000001kbit"] {
            assert_eq!(parse_rate(rate), Ok(1), "{rate}: 0 would be no limit");
        }
        assert_eq!((parse_size("0.5B"), parse_size("0.0000001KB")), (Ok(1), Ok(1)));
        assert_eq!(parse_duration("0.0001ms"), Ok(Duration::from_millis(1)));
        assert_eq!((parse_rate("0.0bit"), parse_size("0.000GB")), (Ok(0), Ok(0)));
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "",
            " ",
            "GB",
            "-1GB",
            "+1GB",
            "1.GB",
            ".5GB",
            "1.5",
            "1e3B",
            "5 apples",
            "5GB5",
            "16777216TiB",
            "1 2",
        ] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "20", "20Mb/s", "20mb/s", "5KB", "5KB/min", "1mbit2", "99999999999gbit"] {
            assert!(parse_rate(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "90", "3 days", "s", "1h30", "-3d", "99999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        let long = format!("{}1B", "0".repeat(MAX_TEXT));
        assert!(parse_size(&long).is_err() && parse_size(&long[2..]) == Ok(1));
        let error = parse_size("much").unwrap_err().to_string();
        assert!(error.contains("\"much\"") && error.contains("64MiB"), "{error}");
    }

    #[test]
    fn printed_for_people() {
        let shown = [show_size(64 << 20), show_size(10 * GB), show_rate(500_000), show_duration(259_200)];
        assert_eq!(shown, ["64MiB", "10GB", "500KB/s", "3d"]);
        assert_eq!(
            [show_size(0), show_rate(0), show_duration(0), show_duration(90)],
            ["0B", "0B/s", "0s", "90s"]
        );
        assert_eq!(
            [about_size(8_231_231_488), about_size(50 * MB), about_size(7)],
            ["8.2 GB", "50 MB", "7 B"]
        );
        assert_eq!(about_rate(2_500_000), "2.5 MB/s");
        let shown =
            [0, 1023, 1024, 153_616_384, 1_048_400, (1 << 20) - 1, 10 << 30, u64::MAX].map(binary_size);
        let expected =
            ["0 B", "1023 B", "1.0 KiB", "146.5 MiB", "1023.8 KiB", "1.0 MiB", "10.0 GiB", "16.0 EiB"];
        assert_eq!(shown, expected);
        assert_eq!(binary_rate(12_897_484), "12.3 MiB/s");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = (parse_size(&text), parse_rate(&text), parse_duration(&text));
        }

        #[test]
        fn near_misses_are_read_or_refused(text in "[0-9.]{0,25} ?(k|M|Gi)?(B|b|bit|s|min)?(/s)?[0-9]{0,3}") {
            let _ = (parse_size(&text), parse_rate(&text), parse_duration(&text));
        }

        #[test]
        fn what_is_printed_reads_back(value in any::<u64>(), shift in 0u32..64, factor in prop::sample::select(vec![1u64, KB, MB, GB, 86_400])) {
            let value = (value >> shift).saturating_mul(factor);
            prop_assert_eq!(parse_size(&show_size(value)), Ok(value));
            let rate = value >> 3;
            prop_assert_eq!(parse_rate(&show_rate(rate)), Ok(rate));
            let seconds = value / 1000;
            prop_assert_eq!(parse_duration(&show_duration(seconds)), Ok(Duration::from_secs(seconds)));
        }
    }
}
