//! Enrolment tokens: one line of text that lets a device join and tells it whom to trust (architecture §3).
//!
//! Text form: `peerage1-` and base64url of secret 16 · SHA-256 of the coordinator's TLS public key 32 · catalog key 32.
//! Nothing else is needed: no PKI, no trust on first use.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::bytes_io::Reader;
use crate::{PublicKey, Sha256};

const PREFIX: &str = "peerage1-";

/// The text is not an enrolment token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an enrolment token: {0}")]
pub struct TokenError(&'static str);

/// An enrolment token. `Display` shows the secret; `Debug` does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EnrolToken {
    /// Proves to the coordinator that the device was given this token.
    pub secret: [u8; 16],
    /// SHA-256 of the SubjectPublicKeyInfo of the coordinator's TLS certificate: proves the coordinator to the device.
    pub tls_pin: Sha256,
    /// The key that signs records and tickets.
    pub catalog_key: PublicKey,
}

impl fmt::Display for EnrolToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = [0u8; 80];
        raw[..16].copy_from_slice(&self.secret);
        raw[16..48].copy_from_slice(self.tls_pin.as_bytes());
        raw[48..].copy_from_slice(self.catalog_key.as_bytes());
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(raw))
    }
}

impl fmt::Debug for EnrolToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolToken")
            .field("tls_pin", &self.tls_pin)
            .field("catalog_key", &self.catalog_key)
            .finish()
    }
}

impl FromStr for EnrolToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(TokenError("it does not begin with peerage1-"))?;
        let raw = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError("not base64url after peerage1-"))?;
        if raw.len() != 80 {
            return Err(TokenError("wrong length; was it cut when copied?"));
        }
        let mut reader = Reader::new(&raw);
        let short = |_| TokenError("wrong length; was it cut when copied?");
        Ok(Self {
            secret: reader.array("secret").map_err(short)?,
            tls_pin: Sha256::from_bytes(reader.array("pin").map_err(short)?),
            catalog_key: PublicKey::from_bytes(reader.array("key").map_err(short)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_rejects() {
        let token = EnrolToken {
            secret: [1; 16],
            tls_pin: Sha256::from_bytes([2; 32]),
            catalog_key: PublicKey::from_bytes([3; 32]),
        };
        let text = token.to_string();
        assert_eq!(text.parse::<EnrolToken>().unwrap(), token);
        assert!(!format!("{token:?}").contains(&text[9..]));
        for bad in
            ["", "peerage1-", &text[..text.len() - 1], &text.replace("peerage1", "x"), &format!("{text}AA")]
        {
            assert!(bad.parse::<EnrolToken>().is_err(), "{bad}");
        }
    }
}
