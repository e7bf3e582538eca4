//! The site key: a secret of the whole fleet, with which its devices know each other while no coordinator can vouch
//! for them (architecture §3).
//!
//! Invariant: the key itself never leaves the device but towards its own disk. What neighbours see are keyed BLAKE3
//! hashes, each purpose under a key of its own, so that none can stand in for another.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::parse_hex32;
use crate::{ContentId, PeerId, Sha256};

/// Length of a group id in bytes.
pub const GROUP_LEN: usize = 16;

/// A secret that every device of a fleet holds and nobody else. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteKey([u8; 32]);

/// Which end of a connection proves: a proof cannot be sent back to whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The side that connected.
    Dialled = 0,
    /// The side that was connected to.
    Listened = 1,
}

/// What a proof is bound to. All of it: on another connection, for another content, from or to another device it is
/// worth nothing.
#[derive(Debug, Clone, Copy)]
pub struct SiteClaim<'a> {
    /// The connection's secret (TLS exporter, RFC 8446 §7.5).
    pub binding: &'a [u8; 32],
    /// The end that proves.
    pub side: Side,
    /// The content that the connection is about.
    pub content: ContentId,
    /// The device that proves.
    pub prover: PeerId,
    /// The device that checks.
    pub verifier: PeerId,
}

/// A device's word that it holds the site key, and that it is of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SiteProof {
    /// Proves the site key.
    pub member: [u8; 32],
    /// Proves the site key and the group; zeroes: of no group.
    pub group: [u8; 32],
}

impl fmt::Debug for SiteProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SiteProof(..)")
    }
}

impl SiteKey {
    /// The key of 32 random bytes; the caller brings the randomness.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes, to be stored where only the daemon can read.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Proves the key, and the group if there is one, for one connection.
    pub fn prove(&self, claim: &SiteClaim<'_>, group: Option<&[u8; GROUP_LEN]>) -> SiteProof {
        SiteProof {
            member: *self.member(claim).as_bytes(),
            group: group.map_or([0; 32], |group| *self.group(claim, group).as_bytes()),
        }
    }

    /// Whether the proof was made with this key for this claim. Takes the same time whatever the answer.
    pub fn admits(&self, claim: &SiteClaim<'_>, proof: &SiteProof) -> bool {
        // `blake3::Hash` compares in constant time.
        self.member(claim) == proof.member
    }

    /// Whether the proof also shows that its maker is of this group.
    pub fn is_of_group(&self, claim: &SiteClaim<'_>, proof: &SiteProof, group: &[u8; GROUP_LEN]) -> bool {
        self.group(claim, group) == proof.group
    }

    fn member(&self, claim: &SiteClaim<'_>) -> blake3::Hash {
        claim.hash(&self.subkey("peerage site proof v1"), &[])
    }

    fn group(&self, claim: &SiteClaim<'_>, group: &[u8; GROUP_LEN]) -> blake3::Hash {
        claim.hash(&self.subkey("peerage site group proof v1"), group)
    }

    /// The key for one purpose.
    pub(crate) fn subkey(&self, purpose: &'static str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }
}

impl SiteClaim<'_> {
    fn hash(&self, key: &[u8; 32], more: &[u8]) -> blake3::Hash {
        // Every field but the last has a fixed length, so no two claims hash the same bytes.
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(self.binding).update(&[self.side as u8]).update(self.content.as_bytes());
        hasher.update(self.prover.as_bytes()).update(self.verifier.as_bytes()).update(more);
        hasher.finalize()
    }
}

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SiteKey(..)")
    }
}

impl Serialize for SiteKey {
    /// 64 hex digits.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Any 32 bytes are written in hex as a SHA-256 is.
        serializer.collect_str(&Sha256::from_bytes(self.0))
    }
}

impl<'de> Deserialize<'de> for SiteKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
        // The error of the parser would show what it found.
        parse_hex32(&text).map(Self).map_err(|_| serde::de::Error::custom("expected 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: [u8; GROUP_LEN] = [7; GROUP_LEN];

    fn claim(binding: &[u8; 32]) -> SiteClaim<'_> {
        SiteClaim {
            binding,
            side: Side::Dialled,
            content: ContentId::from_bytes([1; 32]),
            prover: PeerId::from_bytes([2; 32]),
            verifier: PeerId::from_bytes([3; 32]),
        }
    }

    #[test]
    fn a_proof_holds_for_its_claim_and_key_alone() {
        let key = SiteKey::from_bytes([9; 32]);
        let (binding, other) = ([4; 32], [5; 32]);
        let own = claim(&binding);
        let proof = key.prove(&own, Some(&GROUP));
        assert!(key.admits(&own, &proof) && key.is_of_group(&own, &proof, &GROUP));
        for foreign in [
            SiteClaim { binding: &other, ..own },
            SiteClaim { side: Side::Listened, ..own },
            SiteClaim { content: ContentId::from_bytes([8; 32]), ..own },
            SiteClaim { prover: own.verifier, verifier: own.prover, ..own },
            SiteClaim { prover: PeerId::from_bytes([8; 32]), ..own },
            SiteClaim { verifier: PeerId::from_bytes([8; 32]), ..own },
        ] {
            assert!(!key.admits(&foreign, &proof), "{foreign:?}");
            assert!(!key.is_of_group(&foreign, &proof, &GROUP), "{foreign:?}");
        }
        let stranger = SiteKey::from_bytes([10; 32]);
        assert!(!stranger.admits(&own, &proof) && !stranger.is_of_group(&own, &proof, &GROUP));
        assert!(!key.admits(&own, &SiteProof { member: [0; 32], group: [0; 32] }));
    }

    #[test]
    fn groups_are_proved_apart_from_membership() {
        let key = SiteKey::from_bytes([9; 32]);
        let binding = [4; 32];
        let own = claim(&binding);
        let without = key.prove(&own, None);
        assert!(key.admits(&own, &without) && !key.is_of_group(&own, &without, &GROUP));
        let other = key.prove(&own, Some(&[8; GROUP_LEN]));
        assert!(key.admits(&own, &other) && !key.is_of_group(&own, &other, &GROUP));
        // The one cannot be passed for the other.
        let swapped = SiteProof { member: other.group, group: other.member };
        assert!(!key.admits(&own, &swapped) && !key.is_of_group(&own, &swapped, &[8; GROUP_LEN]));
    }

    #[test]
    fn shown_nowhere_and_kept_in_hex() {
        let key = SiteKey::from_bytes([0xab; 32]);
        assert!(!format!("{key:?}").contains("ab"));
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{}\"", "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<SiteKey>(&json).unwrap(), key);
        let bad = format!("\"{}\"", "zz".repeat(32));
        assert!(!serde_json::from_str::<SiteKey>(&bad).unwrap_err().to_string().contains("zz"));
    }
}
