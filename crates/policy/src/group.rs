//! Group ids: which devices belong together in group mode. Not a secret and never proof of membership.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The text is not a GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a GUID such as 8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11, found {found:?}")]
pub struct GroupIdError {
    /// What was found, shortened to 80 characters.
    pub found: String,
}

/// A group id: a GUID, shown in lower case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(Uuid);

impl GroupId {
    /// The group that a group source names (AD site, DNS suffix, DHCP option 234 …).
    ///
    /// A GUID is taken as it is. Other text becomes the UUIDv5 (RFC 9562 §5.5) of its ASCII lower case in the DNS name
    /// space, because site and domain names do not tell case apart: what `uuidgen --sha1 --namespace @dns --name TEXT`
    /// prints. White space and NULs around it are dropped (Windows DHCP servers end text options with a NUL).
    /// `None`: nothing is left.
    pub fn from_source(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        if text.is_empty() {
            return None;
        }
        let named = || Self(Uuid::new_v5(&Uuid::NAMESPACE_DNS, text.to_ascii_lowercase().as_bytes()));
        Some(text.parse().unwrap_or_else(|_| named()))
    }

    /// The 16 bytes in the order of the text.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The form that reports show: Base64 of SHA-256 over the UTF-16LE text with its trailing NUL (DO reference §1.3).
    /// It tells case apart, so it equals DO's only for devices there that were given the id in lower case.
    pub fn reported_hash(&self) -> String {
        let mut hasher = Sha256::new();
        for unit in self.to_string().encode_utf16().chain([0]) {
            hasher.update(unit.to_le_bytes());
        }
        STANDARD.encode(hasher.finalize())
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for GroupId {
    type Err = GroupIdError;

    /// Reads a GUID in any of its usual forms: with hyphens, without, in braces; either case.
    fn from_str(text: &str) -> Result<Self, GroupIdError> {
        let error = |_| GroupIdError { found: text.chars().take(80).collect() };
        Uuid::try_parse(text).map(Self).map_err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11";

    #[test]
    fn guids_in_every_form_are_one_group() {
        for form in [GUID, &GUID.to_uppercase(), &format!("{{{GUID}}}"), &GUID.replace('-', "")] {
            assert_eq!(form.parse::<GroupId>().unwrap().to_string(), GUID, "{form}");
            assert_eq!(GroupId::from_source(&format!(" {form}\0")).unwrap().to_string(), GUID, "{form}");
        }
        for bad in ["", "corp.example", &GUID[1..], "{8a1c3a52"] {
            assert!(bad.parse::<GroupId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn other_text_becomes_its_uuid_v5() {
        // `uuidgen --sha1 --namespace @dns --name www.example.com`, also the example of RFC 9562 appendix A.4.
        let group = GroupId::from_source("WWW.example.com\0").unwrap();
        assert_eq!(group.to_string(), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
        assert_eq!(GroupId::from_source(" \0"), None);
    }

    #[test]
    fn reported_hash_covers_utf16_and_the_nul() {
        // printf '%s\0' GUID | iconv -t UTF-16LE | openssl dgst -sha256 -binary | base64
        let group: GroupId = GUID.parse().unwrap();
        assert_eq!(group.reported_hash(), "aM9ZIa2TlvuYqTjNras941WyGGEHdIIXw+Vaj4bifdc=");
    }
}
