//! When each device was last heard of, and what it said of itself then.
//!
//! Every device always has a question about its policy out, so those questions are enough to know: announces, of which
//! there are many more, cost nothing for it. Soft state: after a restart it is there again when the devices have asked
//! again, which takes a minute.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::RwLock;
use peerage_content::{PeerId, Sha256};
use peerage_policy::fleet::Device;

/// The last word of one device.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    /// Unix seconds.
    pub(crate) at: u64,
    /// Where it was seen.
    pub(crate) seen: IpAddr,
    /// Itself, as policies are chosen for it.
    pub(crate) device: Device,
    /// The serial of the policy in force there.
    pub(crate) applied: Option<u64>,
    /// The digest of the document that it has seen last.
    pub(crate) have: Option<Sha256>,
    /// Whether it has refused that one.
    pub(crate) refused: bool,
}

/// The last word of every device.
#[derive(Debug, Default)]
pub(crate) struct Contacts(RwLock<HashMap<PeerId, Contact>>);

impl Contacts {
    pub(crate) fn note(&self, contact: Contact) {
        self.0.write().insert(contact.device.peer, contact);
    }

    /// The device is still there at `now`.
    pub(crate) fn touch(&self, peer: &PeerId, now: u64) {
        if let Some(contact) = self.0.write().get_mut(peer) {
            contact.at = contact.at.max(now);
        }
    }

    pub(crate) fn of(&self, peer: &PeerId) -> Option<Contact> {
        self.0.read().get(peer).cloned()
    }

    pub(crate) fn forget(&self, peer: &PeerId) {
        self.0.write().remove(peer);
    }
}
