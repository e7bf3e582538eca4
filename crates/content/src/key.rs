//! Ed25519 keys: who signed a statement, and who a device is.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::id::{fmt_hex, hex_name};

/// A key or signature cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The 32 bytes are not a point on the curve.
    #[error("not an Ed25519 public key")]
    Malformed,
    /// The signature does not fit key and bytes.
    #[error("signature does not verify")]
    BadSignature,
}

hex_name! {
    /// An Ed25519 public key. May be any 32 bytes; [`PublicKey::verify`] finds out.
    PublicKey
}

/// The identity of a device: its public key (architecture §3).
pub type PeerId = PublicKey;

impl PublicKey {
    /// Checks `signature` over `message`, strictly (no malleable encodings, no weak keys).
    ///
    /// # Errors
    /// The key is malformed or the signature does not verify.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
        let key = VerifyingKey::from_bytes(self.as_bytes()).map_err(|_| KeyError::Malformed)?;
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0))
            .map_err(|_| KeyError::BadSignature)
    }

    /// The first 10 hex digits, for logs and tables.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0[..5], f)
    }
}

/// An Ed25519 secret key. Never shown, zeroed when dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed; the caller brings the randomness.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be stored in a file that only the daemon can read.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// The key as PKCS #8 v1 DER (RFC 8410 §7), the form TLS libraries read.
    pub fn to_pkcs8(&self) -> Vec<u8> {
        const HEAD: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        [&HEAD[..], &self.seed()].concat()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_and_verify() {
        let key = SecretKey::from_seed(&[7; 32]);
        let signature = key.sign(b"hello");
        key.public().verify(b"hello", &signature).unwrap();
        assert_eq!(key.public().verify(b"hullo", &signature), Err(KeyError::BadSignature));
        let other = SecretKey::from_seed(&[8; 32]).public();
        assert_eq!(other.verify(b"hello", &signature), Err(KeyError::BadSignature));
        assert!(!format!("{key:?}").contains("0707"));
    }
}
