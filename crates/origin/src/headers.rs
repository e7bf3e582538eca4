//! Pure parsers of the header values that range requests turn on. They accept what the grammar allows and nothing
//! else: a sloppy `Content-Range` is a sign that bytes would land in the wrong place.

use std::ops::Range;
use std::time::{Duration, SystemTime};

/// Longest validator kept, in bytes; equals the limit in content records.
pub const MAX_VALIDATOR: usize = 1024;
/// Longest time that a `Retry-After` is believed: an origin that asks for more is asked again tomorrow.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// A `Content-Range` in bytes (RFC 9110 §14.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentRange {
    /// What the body holds. Never empty, within `total` where that is known.
    Satisfied {
        /// First byte and the byte after the last.
        range: Range<u64>,
        /// Size of the whole file, unless given as `*`.
        total: Option<u64>,
    },
    /// Nothing to send: the file has only `total` bytes.
    Unsatisfied {
        /// Size of the whole file.
        total: u64,
    },
}

impl ContentRange {
    /// Reads a header value.
    ///
    /// # Errors
    /// What the grammar or its arithmetic does not allow.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let (unit, rest) = value.split_once(' ').ok_or("no range unit")?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return Err("the unit is not bytes");
        }
        let (range, total) = rest.split_once('/').ok_or("no complete length")?;
        let total = if total == "*" { None } else { Some(digits(total).ok_or("bad complete length")?) };
        if range == "*" {
            return Ok(Self::Unsatisfied { total: total.ok_or("neither range nor complete length")? });
        }
        let (first, last) = range.split_once('-').ok_or("no range")?;
        let first = digits(first).ok_or("bad first position")?;
        let last = digits(last).ok_or("bad last position")?;
        let end = last.checked_add(1).ok_or("bad last position")?;
        if first > last {
            return Err("the range ends before it starts");
        }
        if total.is_some_and(|total| end > total) {
            return Err("the range ends behind the file");
        }
        Ok(Self::Satisfied { range: first..end, total })
    }
}

/// How long a `Retry-After` asks to wait, seen from `now`; both forms of RFC 9110 §10.2.3. A date in the past is no
/// wait; more than [`MAX_RETRY_AFTER`] counts as that; anything else is `None`.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds is a long time all the same.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Whether `tag` is a strong entity tag, the only kind that may stand in `If-Range` (RFC 9110 §8.8.3, §13.1.5).
pub fn is_strong_etag(tag: &str) -> bool {
    tag.len() <= MAX_VALIDATOR
        && tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).is_some_and(|opaque| {
            opaque.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b) || b >= 0x80)
        })
}

/// A number as HTTP writes it: digits, without sign or blank.
pub fn digits(text: &str) -> Option<u64> {
    // `parse` alone would take "+5".
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_range_by_the_grammar() {
        let ok = |range, total| Ok(ContentRange::Satisfied { range, total });
        assert_eq!(ContentRange::parse("bytes 0-0/1"), ok(0..1, Some(1)));
        assert_eq!(ContentRange::parse("Bytes 42-1233/1234"), ok(42..1234, Some(1234)));
        assert_eq!(ContentRange::parse("bytes 42-1233/*"), ok(42..1234, None));
        assert_eq!(ContentRange::parse("bytes */0"), Ok(ContentRange::Unsatisfied { total: 0 }));
        for bad in [
            "",
            "bytes",
            "bytes ",
            "bytes 0-0",
            "bytes=0-0/1",
            "bytes  0-0/1",
            "octets 0-0/1",
            "bytes 5-4/9",
            "bytes 0-9/9",
            "bytes */*",
            "bytes -1/5",
            "bytes 1-/5",
            "bytes +1-2/5",
            "bytes 1-2/5, 6-7/9",
            "bytes 0-18446744073709551615/*",
            "bytes 0-99999999999999999999/*",
            "bytes 0-0/-",
        ] {
            assert!(ContentRange::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let at = |value| retry_after(value, now);
        assert_eq!(at("120"), Some(Duration::from_secs(120)));
        assert_eq!(at(" 0 "), Some(Duration::ZERO));
        assert_eq!(at("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(at("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(at("Sunday, 06-Nov-94 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(at("99999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(at("Sat, 06 Nov 2094 08:49:37 GMT"), Some(MAX_RETRY_AFTER));
        for bad in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn strong_tags() {
        assert!(is_strong_etag("\"\"") && is_strong_etag("\"a!b\""));
        for weak in ["", "\"", "a", "W/\"a\"", "\"a b\"", "\"a\"b\"", "\"a\r\"", "'a'"] {
            assert!(!is_strong_etag(weak), "{weak}");
        }
        assert!(!is_strong_etag(&format!("\"{}\"", "x".repeat(MAX_VALIDATOR))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(first in 0..u64::MAX / 2, len in 1..u64::MAX / 4, more in 0..u64::MAX / 4) {
            let (last, end) = (first + len - 1, first + len);
            let total = Some(end + more);
            prop_assert_eq!(
                ContentRange::parse(&format!("bytes {first}-{last}/{}", end + more)),
                Ok(ContentRange::Satisfied { range: first..end, total })
            );
        }

        #[test]
        fn any_text_is_judged(value in "(bytes )?[-0-9*/+ ]{0,50}|\\PC{0,40}", now in 0..u64::from(u32::MAX)) {
            if let Ok(ContentRange::Satisfied { range, total }) = ContentRange::parse(&value) {
                prop_assert!(range.start < range.end && total.is_none_or(|total| range.end <= total));
            }
            let wait = retry_after(&value, UNIX_EPOCH + Duration::from_secs(now));
            prop_assert!(wait.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
            let _ = is_strong_etag(&value);
        }
    }
}
