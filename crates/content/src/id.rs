//! Names of contents: BLAKE3 and SHA-256 values, shown as 64 lower-case hex digits.

use std::fmt;

/// The text is not 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hex digits, found {found:?}")]
pub struct ParseHexError {
    /// What was found, shortened to 80 characters.
    pub found: String,
}

/// What no digit stands for.
const NONE: u8 = 0xff;

/// The value of each character: a coordinator reads and writes hundreds of thousands of these names a second.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut digit = 0;
    while digit < 16 {
        values[DIGITS[digit] as usize] = digit as u8;
        values[DIGITS[digit].to_ascii_uppercase() as usize] = digit as u8;
        digit += 1;
    }
    values
};

const DIGITS: [u8; 16] = *b"0123456789abcdef";

pub(crate) fn parse_hex32(text: &str) -> Result<[u8; 32], ParseHexError> {
    let error = || ParseHexError { found: text.chars().take(80).collect() };
    let raw: &[u8; 64] = text.as_bytes().try_into().map_err(|_| error())?;
    let (mut out, mut seen) = ([0u8; 32], 0);
    for (byte, pair) in out.iter_mut().zip(raw.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        seen |= high | low;
        *byte = (high << 4) | low;
    }
    if seen == NONE { Err(error()) } else { Ok(out) }
}

/// The digits of a name.
pub(crate) fn hex32(bytes: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text
}

/// At most 32 bytes, written at once.
pub(crate) fn fmt_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut whole = [0; 32];
    whole.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    let text = hex32(&whole);
    let text = text.get(..2 * bytes.len()).and_then(|text| std::str::from_utf8(text).ok());
    f.write_str(text.ok_or(fmt::Error)?)
}

/// Reads a name out of what it is read from, without a copy.
pub(crate) struct HexVisitor;

impl serde::de::Visitor<'_> for HexVisitor {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hex digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; 32], E> {
        parse_hex32(text).map_err(E::custom)
    }
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
                let text = $crate::id::hex32(&self.0);
                serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::id::HexVisitor).map(Self)
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
