//! Quantities in a scenario file, as the settings write them: `"100mbit"`, `"10s"`, `"1GiB"`.

use std::time::Duration;

use peerage_policy::units;
use serde::Deserialize;

/// 400 Gbit/s in bytes a second.
const MAX_RATE: u64 = 50_000_000_000;
/// Slower links take longer than anybody waits.
const MIN_RATE: u64 = 1_000;
const MAX_SPAN: Duration = Duration::from_secs(7 * 86_400);

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Rate(pub(crate) u64);

impl Rate {
    /// For the simulator.
    pub(crate) fn mbit(self) -> f64 {
        self.0 as f64 / 125_000.0
    }
}

impl TryFrom<String> for Rate {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match units::parse_rate(&text) {
            Ok(rate) if (MIN_RATE..=MAX_RATE).contains(&rate) => Ok(Self(rate)),
            Ok(_) => Err(format!("found {text:?}, allowed is 8kbit to 400gbit")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match units::parse_duration(&text) {
            Ok(span) if span <= MAX_SPAN => Ok(Self(span)),
            Ok(_) => Err(format!("found {text:?}, at most 7d is allowed")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Size(pub(crate) u64);

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        units::parse_size(&text).map(Self).map_err(|error| error.to_string())
    }
}
