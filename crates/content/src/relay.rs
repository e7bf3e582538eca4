//! Relay tokens: what lets one end of a connection in at the coordinator's relay, once.
//!
//! A device that comes to the relay says [`RelayToken::greeting`] and nothing else: which meeting it belongs to, and
//! which of its two ends it is, follows from the token. When both ends are there each is told [`RELAY_JOINED`]; from then
//! on the relay passes on whatever either says, which is the peers' own TLS handshake first.
//!
//! The greeting begins with a letter, a TLS connection with 22 (RFC 8446 §5.1), so that both can come to one port.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a greeting begins with: a name and the version of what follows.
const MAGIC: &[u8; 8] = b"PGRELAY\x01";

/// Length of a greeting in bytes.
pub const RELAY_GREETING_LEN: usize = MAGIC.len() + 32;
/// What the relay says to both ends once both are there.
pub const RELAY_JOINED: u8 = 1;

/// One end of one meeting at the relay. A secret of the device that it was made for; good once and for a few seconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayToken([u8; 32]);

impl RelayToken {
    /// The token of 32 random bytes; the caller brings the randomness.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What a device says first at the relay.
    pub fn greeting(&self) -> [u8; RELAY_GREETING_LEN] {
        let mut greeting = [0; RELAY_GREETING_LEN];
        let (magic, token) = greeting.split_at_mut(MAGIC.len());
        magic.copy_from_slice(MAGIC);
        token.copy_from_slice(&self.0);
        greeting
    }

    /// The token in a greeting; `None`: it is none of this version.
    pub fn of_greeting(greeting: &[u8; RELAY_GREETING_LEN]) -> Option<Self> {
        let token = greeting.strip_prefix(MAGIC)?;
        token.try_into().ok().map(Self)
    }
}

impl fmt::Debug for RelayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayToken(..)")
    }
}

impl Serialize for RelayToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for RelayToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), &mut bytes) {
            Ok(32) => Ok(Self(bytes)),
            _ => Err(serde::de::Error::custom("not a relay token: 32 bytes in base64url are")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_greeted_with_is_read_and_nothing_else(token: [u8; 32], other: [u8; 8]) {
            let token = RelayToken::from_bytes(token);
            let mut greeting = token.greeting();
            prop_assert_eq!(RelayToken::of_greeting(&greeting), Some(token));
            let text = serde_json::to_string(&token).unwrap();
            prop_assert_eq!(serde_json::from_str::<RelayToken>(&text).unwrap(), token);
            prop_assert!(serde_json::from_str::<RelayToken>(&text.replacen('"', "\"A", 1)).is_err());
            greeting[..8].copy_from_slice(&other);
            prop_assert_eq!(RelayToken::of_greeting(&greeting).is_some(), other == *MAGIC);
        }
    }

    #[test]
    fn it_is_told_from_tls_and_never_shown() {
        let token = RelayToken::from_bytes([7; 32]);
        assert_ne!(token.greeting()[0], 22);
        assert_eq!(format!("{token:?}"), "RelayToken(..)");
        for bad in ["\"\"", "\"AAAA\"", "\"é\"", "7"] {
            assert!(serde_json::from_str::<RelayToken>(bad).is_err(), "{bad}");
        }
    }
}
