//! Which bytes a request's `Range` means (RFC 9110 §14.1.2, §14.2). Pure.

use std::ops::Range;

use peerage_origin::headers::digits;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: no range, several, or one that is malformed and so to be ignored.
    Whole,
    /// These bytes; never empty, within the file.
    Part(Range<u64>),
    /// A range without any byte of the file.
    Nothing,
}

impl Wanted {
    /// Reads a `Range` value for a file of `size` bytes.
    pub(super) fn parse(value: &str, size: u64) -> Self {
        Self::read(value, size).unwrap_or(Self::Whole)
    }

    fn read(value: &str, size: u64) -> Option<Self> {
        let (unit, set) = value.split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = set.trim().split_once('-')?;
        let range = if first.is_empty() {
            // The last so many bytes.
            size.saturating_sub(number(last)?)..size
        } else {
            let first = number(first)?;
            let end = if last.is_empty() { size } else { number(last)?.saturating_add(1) };
            if end <= first && !last.is_empty() {
                return None;
            }
            first..end.min(size)
        };
        Some(if range.is_empty() { Self::Nothing } else { Self::Part(range) })
    }
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() { None } else { digits(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_of_a_hundred_bytes() {
        for (value, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("BYTES=10-19", Wanted::Part(10..20)),
            ("bytes=90-", Wanted::Part(90..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=99-18446744073709551615", Wanted::Part(99..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-0,5-6", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ] {
            assert_eq!(Wanted::parse(value, 100), expected, "{value}");
        }
        assert_eq!(Wanted::parse("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(Wanted::parse("bytes=-5", 0), Wanted::Nothing);
    }

    proptest! {
        #[test]
        fn parts_lie_within_the_file(value in "bytes=[0-9]{0,21}-[0-9]{0,21}|\\PC{0,30}", size in any::<u64>()) {
            if let Wanted::Part(range) = Wanted::parse(&value, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
