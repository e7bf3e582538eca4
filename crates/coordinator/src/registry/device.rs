//! The devices behind the members: a device is in as many swarms as it holds contents, and is described once.
//!
//! Invariant: a description never changes. A device that announces something else of itself gets a new one, and each
//! swarm goes over to it with the next announce that names the swarm, so that what a swarm derives from it (its circles)
//! changes at that moment only.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;
use peerage_content::PeerId;
use peerage_swarm::matching::{GroupKey, Site};

use super::Announcer;
use super::addresses::Packed;

/// What a device's last announce said of it, and what the coordinator saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) peer: PeerId,
    pub(super) site: Site,
    pub(super) group: Option<GroupKey>,
    pub(super) addresses: Packed,
    /// Seen at a private address.
    pub(super) inside: bool,
}

impl From<&Announcer> for Device {
    fn from(announcer: &Announcer) -> Self {
        Self {
            peer: announcer.peer,
            site: announcer.site,
            group: announcer.group,
            addresses: Packed::new(&announcer.addresses),
            inside: announcer.inside,
        }
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

    /// The description of a device, as its announce has it.
    pub(super) fn describe(&self, announcer: &Announcer) -> Arc<Device> {
        let device = Device::from(announcer);
        let hash = |device: &Arc<Device>| self.hasher.hash_one(device.peer);
        let mut known = self.known.lock();
        let is = |known: &Arc<Device>| known.peer == announcer.peer;
        match known.find_mut(self.hasher.hash_one(announcer.peer), is) {
            Some(known) if **known == device => Arc::clone(known),
            Some(known) => {
                *known = Arc::new(device);
                Arc::clone(known)
            }
            None => {
                let device = Arc::new(device);
                known.insert_unique(hash(&device), Arc::clone(&device), hash);
                device
            }
        }
    }

    /// Forgets whoever is in no swarm any more.
    pub(super) fn expire(&self) {
        let mut known = self.known.lock();
        known.retain(|device| Arc::strong_count(device) > 1);
        if known.capacity() > 64 + 4 * known.len() {
            known.shrink_to_fit(|device| self.hasher.hash_one(device.peer));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.lock().len()
    }
}
