//! The envelope of everything that is signed: version `u8` · signer 32 · signature 64 · payload.
//!
//! The signature covers a context string, a zero byte and the payload, so that a statement of one kind can never be
//! passed off as one of another kind.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bytes_io::{Reader, ShortInput, Writer};
use crate::{KeyError, PublicKey, SecretKey, Signature};

const VERSION: u8 = 1;

/// A kind of statement that can be signed.
pub trait Statement: Sized {
    /// Names the kind in the signature. Never reused, never changed.
    const CONTEXT: &'static str;
    /// Largest payload accepted, in bytes.
    const MAX_LEN: usize;
    /// The canonical bytes.
    fn encode(&self) -> Vec<u8>;
    /// Reads the canonical bytes of a foreign statement.
    ///
    /// # Errors
    /// The bytes are malformed or beyond a limit.
    fn decode(bytes: &[u8]) -> Result<Self, ShortInput>;
}

/// Foreign bytes are not a statement by a trusted key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// The bytes are not an envelope or not a statement of this kind.
    #[error(transparent)]
    Malformed(#[from] ShortInput),
    /// Well formed, but by a key that is not trusted here.
    #[error("signed by {found}, which is not trusted")]
    Untrusted {
        /// The key that signed.
        found: PublicKey,
    },
    /// The signature does not fit.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A statement with a signature that has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed<T> {
    value: T,
    signer: PublicKey,
    bytes: Vec<u8>,
}

fn message<T: Statement>(payload: &[u8]) -> Vec<u8> {
    [T::CONTEXT.as_bytes(), &[0], payload].concat()
}

impl<T: Statement> Signed<T> {
    /// Signs `value`.
    pub fn new(value: T, key: &SecretKey) -> Self {
        let payload = value.encode();
        let signature = key.sign(&message::<T>(&payload));
        let mut writer = Writer::new();
        writer.u8(VERSION).raw(key.public().as_bytes()).raw(&signature.0).raw(&payload);
        Self { value, signer: key.public(), bytes: writer.finish() }
    }

    /// Reads foreign bytes and checks that one of `trusted` signed them.
    ///
    /// # Errors
    /// Malformed, too long, not signed by a trusted key, or the signature does not verify.
    pub fn from_bytes(bytes: &[u8], trusted: &[PublicKey]) -> Result<Self, SignedError> {
        if bytes.len() > T::MAX_LEN + 97 {
            return Err(ShortInput { field: T::CONTEXT, why: "longer than allowed" }.into());
        }
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(ShortInput { field: "version", why: "not 1" }.into());
        }
        let signer = PublicKey::from_bytes(reader.array("signer")?);
        let signature = Signature(reader.array("signature")?);
        if !trusted.contains(&signer) {
            return Err(SignedError::Untrusted { found: signer });
        }
        signer.verify(&message::<T>(reader.rest()), &signature)?;
        let value = T::decode(reader.rest())?;
        Ok(Self { value, signer, bytes: bytes.to_vec() })
    }

    /// Reads the text form (base64url of the bytes).
    ///
    /// # Errors
    /// Not base64url, or as [`Self::from_bytes`].
    pub fn from_text(text: &str, trusted: &[PublicKey]) -> Result<Self, SignedError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| ShortInput { field: T::CONTEXT, why: "not base64url" })?;
        Self::from_bytes(&bytes, trusted)
    }
}

impl<T> Signed<T> {
    /// The statement.
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// Who signed it.
    pub const fn signer(&self) -> PublicKey {
        self.signer
    }

    /// The signed bytes, to be passed on or stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text form, for JSON: base64url of the bytes.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.bytes)
    }
}

impl<T: fmt::Debug> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("value", &self.value).field("signer", &self.signer).finish()
    }
}

/// Serialises as the text form. There is no `Deserialize` for `Signed`: whoever reads one must say whom it trusts.
impl<T> Serialize for Signed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

/// The text form of a signed statement as received, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Unchecked(String);

impl<'de> Deserialize<'de> for Unchecked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl Unchecked {
    /// Checks it, as [`Signed::from_text`].
    ///
    /// # Errors
    /// As [`Signed::from_text`].
    pub fn check<T: Statement>(&self, trusted: &[PublicKey]) -> Result<Signed<T>, SignedError> {
        Signed::from_text(&self.0, trusted)
    }
}

impl<T> From<&Signed<T>> for Unchecked {
    fn from(signed: &Signed<T>) -> Self {
        Self(signed.to_text())
    }
}
