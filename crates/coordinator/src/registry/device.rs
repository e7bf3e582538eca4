//! The devices behind the members: a device is in as many swarms as it holds contents, and is described once.
//!
//! Invariant: a description never changes. A device that announces something else of itself gets a new one, and each
//! swarm goes over to it with the next announce that names the swarm, so that what a swarm derives from it (its circles)
//! changes at that moment only.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;
use peerage_content::{PeerId, ScopeSet};
use peerage_swarm::matching::{Party, Subnet, is_private};
use serde::Serialize;

use super::Announcer;
use crate::claims::reach;

/// A device's name, and its hash in all tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) peer: PeerId,
    pub(super) hash: u64,
}

/// What a device's last announce said of it, and what the coordinator saw.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: Name,
    /// As matching sees it; of a member, scopes and completeness are to be filled in.
    pub(super) party: Party,
    addresses: Box<[SocketAddr]>,
    /// How it is named to others ([`super::Neighbour::entry`]), and to those to whom its private addresses are of no use and
    /// none of their business.
    pub(super) entry: Arc<str>,
    pub(super) entry_for_strangers: Arc<str>,
}

/// The first two fields of a `PeerInfo`.
#[derive(Serialize)]
struct Entry<'a> {
    peer: PeerId,
    addresses: &'a [SocketAddr],
}

impl Entry<'_> {
    fn text(&self) -> Arc<str> {
        // Neither a key nor an address can fail to be written.
        let text = serde_json::to_string(self).unwrap_or_default();
        text.strip_suffix('}').unwrap_or_default().into()
    }
}

impl Device {
    pub(super) fn new(announcer: &Announcer, hash: u64) -> Self {
        let Announcer { peer, site, inside, group, ref addresses } = *announcer;
        let party = Party {
            peer,
            site,
            inside,
            subnet: Subnet::of(addresses.iter().copied()),
            group,
            scopes: ScopeSet::NONE,
            seed: false,
            reach: reach(addresses.iter().copied()),
        };
        let entry = Entry { peer, addresses }.text();
        let public: Vec<SocketAddr> =
            addresses.iter().copied().filter(|address| !is_private(address.ip())).collect();
        let entry_for_strangers = if public.len() == addresses.len() {
            Arc::clone(&entry)
        } else {
            Entry { peer, addresses: &public }.text()
        };
        let name = Name { peer, hash };
        Self { name, party, addresses: addresses.as_slice().into(), entry, entry_for_strangers }
    }

    fn is_as(&self, announcer: &Announcer) -> bool {
        let Announcer { peer, site, inside, group, addresses } = announcer;
        let same = self.party.peer == *peer && self.party.site == *site && self.party.inside == *inside;
        same && self.party.group == *group && *self.addresses == **addresses
    }
}

/// The present description of every device that is in a swarm.
#[derive(Debug)]
pub(super) struct Devices {
    known: Mutex<HashTable<Arc<Device>>>,
    hasher: RandomState,
}

impl Devices {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { known: Mutex::default(), hasher }
    }

    pub(super) fn name(&self, peer: PeerId) -> Name {
        Name { peer, hash: self.hasher.hash_one(peer) }
    }

    /// The description of a device, as its announce has it.
    pub(super) fn describe(&self, announcer: &Announcer) -> Arc<Device> {
        let name = self.name(announcer.peer);
        let new = || Arc::new(Device::new(announcer, name.hash));
        let mut known = self.known.lock();
        match known.find_mut(name.hash, |known| known.name == name) {
            Some(known) if known.is_as(announcer) => Arc::clone(known),
            Some(known) => {
                *known = new();
                Arc::clone(known)
            }
            None => {
                let device = new();
                known.insert_unique(name.hash, Arc::clone(&device), |device| device.name.hash);
                device
            }
        }
    }

    /// Forgets whoever is in no swarm any more.
    pub(super) fn expire(&self) {
        let mut known = self.known.lock();
        known.retain(|device| Arc::strong_count(device) > 1);
        if known.capacity() > 64 + 4 * known.len() {
            known.shrink_to_fit(|device| device.name.hash);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.lock().len()
    }
}
