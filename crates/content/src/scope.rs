//! Scopes: within whose circle a swarm exists (product §2).

use serde::{Deserialize, Serialize};

/// The circle of devices that may share one content, from the nearest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Scope {
    /// Devices of one site.
    Lan = 1,
    /// Devices of one group id, in any site.
    Group = 2,
    /// Any device of the fleet.
    Internet = 3,
}

impl Scope {
    /// Reads the wire value.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Lan),
            2 => Some(Self::Group),
            3 => Some(Self::Internet),
            _ => None,
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// Not to be shared at all.
    pub const NONE: Self = Self(0);
    /// May be shared in every scope.
    pub const ALL: Self = Self(0b111);

    /// The scopes up to and including `widest`.
    pub const fn up_to(widest: Scope) -> Self {
        Self((1 << widest as u8) - 1)
    }

    /// Whether `scope` is in it.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 >> (scope as u8 - 1) & 1 == 1
    }

    /// Whether nothing may be shared.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The wire value.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Reads the wire value; unknown scopes of a newer version are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }
}
