//! Adverts: what a device says of itself to its neighbours by DNS-SD (`_peerage._tcp`), sealed with the site key.
//!
//! A neighbour of the same fleet reads the device's key, and whether it is of the neighbour's own group. Everybody else
//! sees random bytes that differ from one advert to the next: neither device nor group can be followed, and nobody
//! can make an advert up. It says nothing of contents.
//!
//! Form: base64url of `nonce 16` · `sealed peer id 32` · `group tag 16` · `code 16`. The peer id is XORed with a keyed
//! hash of the nonce, the tag is a keyed hash of nonce and group id, the code one of all before it; each under a key
//! of its own. A nonce must not be used twice.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::bytes_io::Reader;
use crate::site_key::GROUP_LEN;
use crate::{PeerId, SiteKey};

/// Length of the nonce in bytes.
pub const ADVERT_NONCE: usize = 16;
const SEALED: usize = ADVERT_NONCE + 32 + 16;
const WHOLE: usize = SEALED + 16;
/// Length of the text in bytes.
pub const ADVERT_LEN: usize = (WHOLE * 4).div_ceil(3);

/// An advert that was made with our site key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advert {
    /// The device that advertises, if it is who it says: the TLS handshake tells.
    pub peer: PeerId,
    nonce: [u8; ADVERT_NONCE],
    group: [u8; 16],
}

impl Advert {
    /// The text of the advert of `peer`, of `group` if it is in one. `nonce` is random and new.
    pub fn seal(
        key: &SiteKey,
        nonce: [u8; ADVERT_NONCE],
        peer: &PeerId,
        group: Option<&[u8; GROUP_LEN]>,
    ) -> String {
        let mut whole = Vec::with_capacity(WHOLE);
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&mask(key, &nonce, peer.as_bytes()));
        whole.extend_from_slice(&tag(key, &nonce, group));
        let code = code(key, &whole);
        whole.extend_from_slice(&code);
        URL_SAFE_NO_PAD.encode(whole)
    }

    /// Reads a foreign advert. `None`: it was not made with this key, or is not an advert at all.
    pub fn open(key: &SiteKey, text: &str) -> Option<Self> {
        if text.len() != ADVERT_LEN {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (sealed, given) = whole.split_at_checked(SEALED)?;
        // Compared as hashes of them: in constant time.
        if blake3::hash(&code(key, sealed)) != blake3::hash(given) {
            return None;
        }
        let mut reader = Reader::new(sealed);
        let nonce = reader.array("nonce").ok()?;
        let masked = reader.array("peer").ok()?;
        let group = reader.array("group").ok()?;
        Some(Self { peer: PeerId::from_bytes(mask(key, &nonce, &masked)), nonce, group })
    }

    /// Whether the device says that it is of `group`. It proves that when it is connected to.
    pub fn is_of_group(&self, key: &SiteKey, group: &[u8; GROUP_LEN]) -> bool {
        blake3::hash(&tag(key, &self.nonce, Some(group))) == blake3::hash(&self.group)
    }
}

/// Seals a peer id, or opens a sealed one.
fn mask(key: &SiteKey, nonce: &[u8; ADVERT_NONCE], peer: &[u8; 32]) -> [u8; 32] {
    let mut stream = *blake3::keyed_hash(&key.subkey("peerage advert peer v1"), nonce).as_bytes();
    stream.iter_mut().zip(peer).for_each(|(stream, peer)| *stream ^= peer);
    stream
}

fn tag(key: &SiteKey, nonce: &[u8; ADVERT_NONCE], group: Option<&[u8; GROUP_LEN]>) -> [u8; 16] {
    let group: &[u8] = group.map_or(&[], |group| group);
    let bytes = [nonce, group].concat();
    first_half(&blake3::keyed_hash(&key.subkey("peerage advert group v1"), &bytes))
}

fn code(key: &SiteKey, sealed: &[u8]) -> [u8; 16] {
    first_half(&blake3::keyed_hash(&key.subkey("peerage advert code v1"), sealed))
}

fn first_half(hash: &blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(hash.as_bytes()).for_each(|(half, byte)| *half = *byte);
    half
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROUP: [u8; GROUP_LEN] = [7; GROUP_LEN];

    fn key() -> SiteKey {
        SiteKey::from_bytes([9; 32])
    }

    #[test]
    fn read_by_the_fleet_alone() {
        let peer = PeerId::from_bytes([2; 32]);
        let text = Advert::seal(&key(), [1; 16], &peer, Some(&GROUP));
        assert_eq!(text.len(), ADVERT_LEN);
        let advert = Advert::open(&key(), &text).unwrap();
        assert_eq!(advert.peer, peer);
        assert!(advert.is_of_group(&key(), &GROUP) && !advert.is_of_group(&key(), &[8; 16]));
        assert_eq!(Advert::open(&SiteKey::from_bytes([8; 32]), &text), None);
        let alone = Advert::open(&key(), &Advert::seal(&key(), [1; 16], &peer, None)).unwrap();
        assert!(!alone.is_of_group(&key(), &GROUP));
    }

    #[test]
    fn two_adverts_of_a_device_have_nothing_in_common() {
        let peer = PeerId::from_bytes([2; 32]);
        let [one, two] = [[1; 16], [2; 16]].map(|nonce| {
            let text = Advert::seal(&key(), nonce, &peer, Some(&GROUP));
            URL_SAFE_NO_PAD.decode(text).unwrap()
        });
        let same = one.iter().zip(&two).filter(|(one, two)| one == two).count();
        assert!(same <= 8, "{same} of {WHOLE} bytes are the same");
    }

    proptest! {
        #[test]
        fn nothing_foreign_is_read(text in ".{0,200}") {
            prop_assert_eq!(Advert::open(&key(), &text), None);
        }

        #[test]
        fn nothing_changed_is_read(at in 0..WHOLE, bit in 0u8..8) {
            let text = Advert::seal(&key(), [3; 16], &PeerId::from_bytes([2; 32]), None);
            let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(Advert::open(&key(), &URL_SAFE_NO_PAD.encode(bytes)), None);
        }
    }
}
