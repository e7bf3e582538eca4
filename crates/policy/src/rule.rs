//! Rules: what a setting's value may be, in which unit.

use std::fmt;

use crate::choice::Choice;
use crate::units;

/// The unit of DO's number for a setting. Values themselves are kept in base units: bytes, bytes per second, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 10^9 bytes.
    Gigabytes,
    /// 10^6 bytes.
    Megabytes,
    /// 1000 bytes per second.
    KilobytesPerSecond,
    /// Seconds.
    Seconds,
    /// Percent.
    Percent,
    /// A number of things.
    Count,
}

impl Unit {
    /// How many base units one of it is.
    pub const fn scale(self) -> u64 {
        match self {
            Self::Gigabytes => units::GB,
            Self::Megabytes => units::MB,
            Self::KilobytesPerSecond => units::KB,
            Self::Seconds | Self::Percent | Self::Count => 1,
        }
    }

    /// Its sign, empty for [`Self::Count`].
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Gigabytes => "GB",
            Self::Megabytes => "MB",
            Self::KilobytesPerSecond => "KB/s",
            Self::Seconds => "s",
            Self::Percent => "%",
            Self::Count => "",
        }
    }

    /// What else than DO's number may be written, for messages.
    const fn example(self) -> &'static str {
        match self {
            Self::Gigabytes | Self::Megabytes => ", or a size such as \"64MiB\"",
            Self::KilobytesPerSecond => ", or a rate such as \"20mbit\" or \"500KB/s\"",
            Self::Seconds => ", or a duration such as \"90s\" or \"3d\"",
            Self::Percent | Self::Count => "",
        }
    }

    /// Reads text that is not a plain number, into base units.
    pub(crate) fn read(self, text: &str) -> Option<u64> {
        match self {
            Self::Gigabytes | Self::Megabytes => units::parse_size(text).ok(),
            Self::KilobytesPerSecond => units::parse_rate(text).ok(),
            Self::Seconds => {
                let time = units::parse_duration(text).ok()?;
                (time.subsec_nanos() == 0).then_some(time.as_secs())
            }
            Self::Percent => text.strip_suffix('%')?.trim_end().parse().ok(),
            Self::Count => None,
        }
    }

    /// Base units as exact text that [`Self::read`] reads.
    pub(crate) fn exact_text(self, base: u64) -> String {
        match self {
            Self::Gigabytes | Self::Megabytes => units::show_size(base),
            Self::KilobytesPerSecond => units::show_rate(base),
            Self::Seconds => units::show_duration(base),
            Self::Percent => format!("{base}%"),
            Self::Count => base.to_string(),
        }
    }
}

/// What a setting's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// True or false.
    Switch,
    /// A number of units from `min` to `max`.
    Number {
        /// DO's unit.
        unit: Unit,
        /// The least, in that unit.
        min: u64,
        /// The most, in that unit.
        max: u64,
    },
    /// One of a few.
    Choice(&'static [Choice]),
    /// A GUID.
    Group,
    /// An absolute path of a directory.
    Directory,
    /// A list of words.
    Words,
    /// A list of host names and IP addresses.
    Hosts,
    /// A list of Ed25519 public keys.
    Keys,
    /// A table of hours and percentages.
    Hours,
}

impl fmt::Display for Rule {
    /// Prints what is allowed, as error messages and `peerage config` say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("true (1) or false (0)"),
            Self::Number { unit, min, max } => {
                write!(f, "{min} to {max}")?;
                if !unit.sign().is_empty() {
                    write!(f, " {}", unit.sign())?;
                }
                f.write_str(unit.example())
            }
            Self::Choice(choices) => {
                for (at, choice) in choices.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{} ({})", choice.name, choice.number)?;
                }
                Ok(())
            }
            Self::Group => f.write_str("a GUID"),
            Self::Directory => f.write_str("the absolute path of a directory, without .."),
            Self::Words => f.write_str("a list of at most 64 words of at most 128 characters"),
            Self::Hosts => {
                f.write_str("a list of at most 64 host names or IP addresses, each with an optional :port")
            }
            Self::Keys => f.write_str("a list of at most 64 Ed25519 public keys, each 64 hex digits"),
            Self::Hours => f.write_str(
                "{ from = 0-23, to = 0-23, in = 0-100, out = 0-100 } and perhaps days = [\"mon\", ...] \
                 and time_zone = \"Europe/Paris\"",
            ),
        }
    }
}
