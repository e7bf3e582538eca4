//! Where the store is, and which boot of the machine this is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Names one boot of the machine. While it stays the same, everything that was written is in the page cache or on
/// disk, whatever happened to the process; when it changes, only what was synced is sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(u128);

impl BootId {
    /// The kernel could not be asked.
    pub const UNKNOWN: Self = Self(0);

    /// The running boot, or [`Self::UNKNOWN`].
    pub fn current() -> Self {
        std::fs::read_to_string(BOOT_ID).map_or(Self::UNKNOWN, |text| Self::parse(&text))
    }

    /// A boot by number, for tests that cut the power.
    pub const fn from_raw(raw: u128) -> Self {
        Self(raw)
    }

    /// The number.
    pub const fn to_raw(self) -> u128 {
        self.0
    }

    /// Whether both are surely the same boot. An unknown one is never the same.
    pub fn same(self, other: Self) -> bool {
        self == other && self != Self::UNKNOWN
    }

    fn parse(text: &str) -> Self {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        if digits.len() == 32 {
            u128::from_str_radix(&digits, 16).map_or(Self::UNKNOWN, Self)
        } else {
            Self::UNKNOWN
        }
    }
}

/// What [`crate::Store::open`] needs to know.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The cache directory. Made with mode 0700 if missing; must belong to this user.
    pub dir: PathBuf,
    /// The running boot.
    pub boot: BootId,
}

impl StoreConfig {
    /// A store in `dir`, on the running boot.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), boot: BootId::current() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots() {
        assert!(BootId::current().same(BootId::current()));
        assert_eq!(BootId::parse("22851d35-5b05-4ad4-a92f-68575015da82\n").0 >> 96, 0x2285_1d35);
        for bad in ["", "22851d35", "zz851d35-5b05-4ad4-a92f-68575015da82"] {
            assert_eq!(BootId::parse(bad), BootId::UNKNOWN, "{bad}");
        }
        assert!(!BootId::UNKNOWN.same(BootId::UNKNOWN));
    }
}
