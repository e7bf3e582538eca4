//! Names of contents: BLAKE3 and SHA-256 values, shown as 64 lower-case hex digits.

use std::fmt;

/// The text is not 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hex digits, found {found:?}")]
pub struct ParseHexError {
    /// What was found, shortened to 80 characters.
    pub found: String,
}

pub(crate) fn parse_hex32(text: &str) -> Result<[u8; 32], ParseHexError> {
    let error = || ParseHexError { found: text.chars().take(80).collect() };
    let raw = text.as_bytes();
    if raw.len() != 64 {
        return Err(error());
    }
    let mut out = [0u8; 32];
    for (byte, pair) in out.iter_mut().zip(raw.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16).ok_or_else(error)?;
        let low = (pair[1] as char).to_digit(16).ok_or_else(error)?;
        *byte = ((high << 4) | low) as u8;
    }
    Ok(out)
}

/// At most 32 bytes, written at once: a coordinator writes hundreds of thousands of these names a second.
pub(crate) fn fmt_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    let text = text.get(..2 * bytes.len()).and_then(|text| std::str::from_utf8(text).ok());
    f.write_str(text.ok_or(fmt::Error)?)
}

macro_rules! hex_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the 32 raw bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::id::fmt_hex(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                $crate::id::fmt_hex(&self.0[..5], f)?;
                f.write_str("..)")
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::id::ParseHexError;
            fn from_str(text: &str) -> Result<Self, $crate::id::ParseHexError> {
                $crate::id::parse_hex32(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use hex_name;

hex_name! {
    /// The BLAKE3 hash of a whole file: what `b3sum FILE` prints, and the name of a swarm.
    ContentId
}

hex_name! {
    /// The SHA-256 of a whole file: the name that apt, OCI and git-lfs know contents by.
    Sha256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip_and_rejects() {
        let id = ContentId::from_bytes(*blake3::hash(b"peerage").as_bytes());
        assert_eq!(id.to_string().parse::<ContentId>().unwrap(), id);
        assert_eq!(id.to_string().to_uppercase().parse::<ContentId>().unwrap(), id);
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"é".repeat(32)] {
            assert!(bad.parse::<ContentId>().is_err(), "{bad}");
        }
    }
}
