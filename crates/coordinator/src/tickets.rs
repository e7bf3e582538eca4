//! Swarm tickets, and the short form in which they are remembered so that an announce normally costs no signature.
//!
//! Of a signed ticket everything but signature, end and scope follows from device, its place, content and catalog key; the
//! envelope around them (version 1 · signer · signature · payload) is fixed by `peerage_content::Signed`.

use peerage_content::{
    ContentId, MAX_TICKET_LIFE_S, PeerId, Place, PublicKey, Reader, Scope, ScopeSet, SecretKey, ShortInput,
    Signed, Statement, SwarmTicket, Writer,
};

/// A ticket is handed out again until this many seconds before its end.
const RENEW_BEFORE_S: u64 = MAX_TICKET_LIFE_S / 2;

/// What is remembered of a ticket: 73 bytes instead of 248 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stub {
    signature: [u8; 64],
    /// Unix seconds, enough until 2106; as bytes, so that none are lost to alignment.
    not_after: [u8; 4],
    /// Tells the place that was signed from others.
    place: [u8; 4],
    scope: Scope,
}

fn digest(place: Place) -> [u8; 4] {
    let both = place.site ^ place.group.map_or(0, std::num::NonZeroU64::get).rotate_left(1);
    ((both ^ (both >> 32)) as u32).to_ne_bytes()
}

impl Stub {
    /// Whether it still serves a device with this scope at this place.
    pub(crate) fn serves(&self, scope: Scope, place: Place, now: u64) -> bool {
        let same = self.scope == scope && self.place == digest(place);
        same && self.not_after() > now.saturating_add(RENEW_BEFORE_S)
    }

    fn not_after(&self) -> u64 {
        u64::from(u32::from_ne_bytes(self.not_after))
    }
}

/// The widest scope of a set.
pub(crate) fn widest(scopes: ScopeSet) -> Option<Scope> {
    [Scope::Internet, Scope::Group, Scope::Lan].into_iter().find(|scope| scopes.contains(*scope))
}

/// Signs tickets and writes them out.
pub(crate) struct Tickets {
    key: SecretKey,
    public: PublicKey,
}

impl Tickets {
    pub(crate) fn new(key: SecretKey) -> Self {
        let public = key.public();
        Self { key, public }
    }

    /// A new ticket, good for an hour from `now` (Unix seconds).
    pub(crate) fn sign(
        &self,
        peer: PeerId,
        content: ContentId,
        scope: Scope,
        place: Place,
        now: u64,
    ) -> Result<Stub, ShortInput> {
        let ends = u32::try_from(now.saturating_add(MAX_TICKET_LIFE_S)).unwrap_or(u32::MAX);
        let ticket = SwarmTicket { content, scope, peer, not_after: u64::from(ends), place };
        let signed = Signed::new(ticket, &self.key);
        let mut reader = Reader::new(signed.as_bytes());
        reader.take(1 + 32, "version and signer")?;
        let signature = reader.array("signature")?;
        Ok(Stub { signature, not_after: ends.to_ne_bytes(), place: digest(place), scope })
    }

    /// The ticket's bytes.
    pub(crate) fn bytes(&self, stub: &Stub, peer: PeerId, content: ContentId, place: Place) -> Vec<u8> {
        let Stub { signature, scope, .. } = *stub;
        let ticket = SwarmTicket { content, scope, peer, not_after: stub.not_after(), place };
        let mut bytes = Writer::with_capacity(1 + 32 + 64 + SwarmTicket::MAX_LEN);
        bytes.u8(1).raw(self.public.as_bytes()).raw(&signature).raw(&ticket.encode());
        bytes.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_becomes_the_very_ticket_again() {
        let key = SecretKey::from_seed(&[3; 32]);
        let tickets = Tickets::new(key.clone());
        let (peer, content) = (PeerId::from_bytes([1; 32]), ContentId::from_bytes([2; 32]));
        let place = Place { site: 5, group: None };
        for scope in [Scope::Lan, Scope::Group, Scope::Internet] {
            let stub = tickets.sign(peer, content, scope, place, 10_000).unwrap();
            let bytes = tickets.bytes(&stub, peer, content, place);
            let read = Signed::<SwarmTicket>::from_bytes(&bytes, &[key.public()]).unwrap();
            assert!(read.get().admits(peer, content, 10_000) && read.get().scope == scope);
            assert_eq!(read.get().not_after, 10_000 + MAX_TICKET_LIFE_S);
            assert!(stub.serves(scope, place, 10_000 + MAX_TICKET_LIFE_S / 2 - 1));
            assert!(!stub.serves(scope, place, 10_000 + MAX_TICKET_LIFE_S / 2));
        }
        let stub = tickets.sign(peer, content, Scope::Lan, place, 10_000).unwrap();
        assert!(!stub.serves(Scope::Group, place, 10_000), "the device's policy has widened");
        for moved in [Place { site: 6, ..place }, Place { group: std::num::NonZeroU64::new(1), ..place }] {
            assert!(!stub.serves(Scope::Lan, moved, 10_000), "{moved:?}");
        }
        let other = tickets.bytes(&stub, PeerId::from_bytes([9; 32]), content, place);
        assert!(Signed::<SwarmTicket>::from_bytes(&other, &[key.public()]).is_err(), "for nobody else");
    }

    #[test]
    fn widest_scope() {
        assert_eq!(widest(ScopeSet::ALL), Some(Scope::Internet));
        assert_eq!(widest(ScopeSet::up_to(Scope::Group)), Some(Scope::Group));
        assert_eq!(widest(ScopeSet::NONE), None);
    }
}
