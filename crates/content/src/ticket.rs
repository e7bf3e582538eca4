//! Swarm tickets: the coordinator's word that a device may take part in a swarm (architecture §3).
//!
//! A peer without a valid ticket learns nothing, not even whether the content exists. The tickets of two devices also tell
//! them what they are to each other: only the coordinator knows both sites, and an address alone does not show that a
//! private network ends at another office.

use std::num::NonZeroU64;

use crate::bytes_io::{Reader, ShortInput, Writer};
use crate::signed::Statement;
use crate::{ContentId, PeerId, Scope};

/// A ticket lives at most this long, in seconds.
pub const MAX_TICKET_LIFE_S: u64 = 3600;

/// Where the coordinator sees a device. The values are keyed hashes: they mean something only beside those of other
/// tickets of the same coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Stands for the site.
    pub site: u64,
    /// Stands for the group that the device says it is in.
    pub group: Option<NonZeroU64>,
}

impl Place {
    /// The nearest circle that holds both.
    pub fn meets(&self, other: &Self) -> Scope {
        if self.site == other.site {
            Scope::Lan
        } else if self.group.is_some() && self.group == other.group {
            Scope::Group
        } else {
            Scope::Internet
        }
    }
}

/// "This device, which is there, may take part in the swarm of this content in this scope until then."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwarmTicket {
    /// The content.
    pub content: ContentId,
    /// The widest scope it is good for.
    pub scope: Scope,
    /// The device; peers compare it with the key of the TLS connection.
    pub peer: PeerId,
    /// Unix seconds after which it is void.
    pub not_after: u64,
    /// Where it is.
    pub place: Place,
}

impl SwarmTicket {
    /// Whether it lets `peer` into the swarm of `content` at `now` (Unix seconds). A ticket that claims to live longer
    /// than [`MAX_TICKET_LIFE_S`] from now is void too: no honest coordinator makes one.
    pub fn admits(&self, peer: PeerId, content: ContentId, now: u64) -> bool {
        // Clocks of devices differ; five minutes of grace in the far direction.
        let far = now.saturating_add(MAX_TICKET_LIFE_S + 300);
        self.peer == peer && self.content == content && now <= self.not_after && self.not_after <= far
    }
}

impl Statement for SwarmTicket {
    const CONTEXT: &'static str = "peerage swarm ticket v2";
    const MAX_LEN: usize = 89;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(Self::MAX_LEN);
        writer
            .raw(self.content.as_bytes())
            .u8(self.scope as u8)
            .raw(self.peer.as_bytes())
            .u64(self.not_after)
            .u64(self.place.site)
            .u64(self.place.group.map_or(0, NonZeroU64::get));
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, ShortInput> {
        let mut reader = Reader::new(bytes);
        let ticket = Self {
            content: ContentId::from_bytes(reader.array("content")?),
            scope: Scope::from_u8(reader.u8("scope")?)
                .ok_or(ShortInput { field: "scope", why: "not 1 to 3" })?,
            peer: PeerId::from_bytes(reader.array("peer")?),
            not_after: reader.u64("not_after")?,
            place: Place { site: reader.u64("site")?, group: NonZeroU64::new(reader.u64("group")?) },
        };
        reader.end("ticket")?;
        Ok(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretKey, Signed, SignedError};

    #[test]
    fn the_nearest_circle_of_two_places() {
        let place = |site, group| Place { site, group: NonZeroU64::new(group) };
        for (one, other, scope) in [
            (place(1, 5), place(1, 6), Scope::Lan),
            (place(1, 5), place(2, 5), Scope::Group),
            (place(1, 5), place(2, 6), Scope::Internet),
            (place(1, 0), place(2, 0), Scope::Internet),
        ] {
            assert_eq!((one.meets(&other), other.meets(&one)), (scope, scope), "{one:?} {other:?}");
        }
    }

    #[test]
    fn only_the_named_device_content_and_hour() {
        let (coordinator, device) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]).public());
        let content = ContentId::from_bytes([3; 32]);
        let place = Place { site: 7, group: NonZeroU64::new(8) };
        let ticket = SwarmTicket { content, scope: Scope::Lan, peer: device, not_after: 10_000, place };
        let signed = Signed::new(ticket, &coordinator);
        let read = Signed::<SwarmTicket>::from_bytes(signed.as_bytes(), &[coordinator.public()]).unwrap();
        assert!(read.get().admits(device, content, 9_000));
        assert!(!read.get().admits(device, content, 10_001));
        assert!(!read.get().admits(device, content, 1));
        assert!(!read.get().admits(coordinator.public(), content, 9_000));
        assert!(!read.get().admits(device, ContentId::from_bytes([4; 32]), 9_000));
        assert!(matches!(
            Signed::<SwarmTicket>::from_bytes(signed.as_bytes(), &[device]),
            Err(SignedError::Untrusted { .. })
        ));
        for at in 33..signed.as_bytes().len() {
            let mut bad = signed.as_bytes().to_vec();
            bad[at] ^= 1;
            assert!(Signed::<SwarmTicket>::from_bytes(&bad, &[coordinator.public()]).is_err(), "byte {at}");
        }
    }
}
