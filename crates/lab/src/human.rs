//! Quantities for people, in powers of 1024 because pieces are 1 MiB: `146.5 MiB`.

pub(crate) use peerage_policy::units::{binary_rate as rate, binary_size as size};

/// A link's rate as networks count it: `200 Mbit/s`.
pub(crate) fn link(bytes_per_second: u64) -> String {
    let bits = bytes_per_second as f64 * 8.0;
    let (value, name) = match bits {
        ..1e3 => (bits, "bit/s"),
        1e3..1e6 => (bits / 1e3, "kbit/s"),
        1e6..1e9 => (bits / 1e6, "Mbit/s"),
        _ => (bits / 1e9, "Gbit/s"),
    };
    // At most one digit after the point, and none where it would be 0.
    let text = format!("{value:.1}");
    format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
}

/// A count with its noun.
pub(crate) fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Text from elsewhere without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let links = [25_000_000, 1, 187_500, 1_250_000_000].map(link);
        assert_eq!(links, ["200 Mbit/s", "8 bit/s", "1.5 Mbit/s", "10 Gbit/s"]);
        assert_eq!(
            [plural(1, "device", "devices"), plural(0, "device", "devices")],
            ["1 device", "0 devices"]
        );
        assert_eq!(printable("a\u{1b}[2Jé\n"), "a\u{fffd}[2Jé\u{fffd}");
    }
}
