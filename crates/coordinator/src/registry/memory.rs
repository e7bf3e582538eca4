//! The registry in memory: swarms in shards, each behind a lock that is held for one announce and never across an await.

use std::hash::{BuildHasher, RandomState};

use futures_util::future::{BoxFuture, ready};
use hashbrown::HashTable;
use parking_lot::Mutex;
use peerage_content::{ContentId, PeerId};

use super::device::Devices;
use super::swarm::Swarm;
use super::{Announcer, Claim, Seat, SwarmRegistry};
use crate::tickets::Stub;

/// More than cores, so that two announces rarely meet in one.
const SHARDS: usize = 64;

#[derive(Debug)]
struct Entry {
    content: ContentId,
    hash: u64,
    swarm: Swarm,
}

type Shard = HashTable<Entry>;

/// All swarms of this process.
#[derive(Debug)]
pub(crate) struct MemoryRegistry {
    shards: Vec<Mutex<Shard>>,
    pub(super) devices: Devices,
    /// Keyed with randomness: devices choose their keys, and must not be able to choose their places in a table.
    hasher: RandomState,
}

impl MemoryRegistry {
    pub(crate) fn new() -> Self {
        let hasher = RandomState::new();
        let devices = Devices::new(hasher.clone());
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), devices, hasher }
    }

    fn with_shard<T>(&self, content: ContentId, act: impl FnOnce(&mut Shard, u64) -> T) -> Option<T> {
        let hash = self.hasher.hash_one(content);
        // A table's places follow from the lowest and the highest bits.
        let at = (hash >> 32) as usize % SHARDS;
        self.shards.get(at).map(|shard| act(&mut shard.lock(), hash))
    }

    /// Acts on the swarm of a content, if there is one.
    fn with_swarm<T>(&self, content: ContentId, act: impl FnOnce(&mut Swarm) -> T) -> Option<T> {
        self.with_shard(content, |shard, hash| {
            shard.find_mut(hash, |entry| entry.content == content).map(|entry| act(&mut entry.swarm))
        })?
    }
}

impl SwarmRegistry for MemoryRegistry {
    fn announce<'a>(
        &'a self,
        device: &'a Announcer,
        claims: &'a [Claim],
        now: u32,
    ) -> BoxFuture<'a, Vec<Seat>> {
        let device = self.devices.describe(device);
        let mut seats = Vec::with_capacity(claims.len());
        for claim in claims {
            seats.extend(self.with_shard(claim.content, |shard, hash| {
                let content = claim.content;
                let entry = shard.entry(hash, |entry| entry.content == content, |entry| entry.hash);
                let mut entry = entry.or_insert_with(|| Entry { content, hash, swarm: Swarm::default() });
                entry.get_mut().swarm.announce(&device, claim, now)
            }));
        }
        Box::pin(ready(seats))
    }

    fn leave<'a>(&'a self, peer: PeerId, contents: &'a [ContentId]) -> BoxFuture<'a, ()> {
        let name = self.devices.name(peer);
        for content in contents {
            self.with_shard(*content, |shard, hash| {
                if let Ok(mut entry) = shard.find_entry(hash, |entry| entry.content == *content) {
                    let swarm = &mut entry.get_mut().swarm;
                    swarm.leave(&name);
                    if swarm.is_empty() {
                        entry.remove();
                    }
                }
            });
        }
        Box::pin(ready(()))
    }

    fn banish(&self, peer: PeerId) -> BoxFuture<'_, ()> {
        let name = self.devices.name(peer);
        for shard in &self.shards {
            shard.lock().iter_mut().for_each(|entry| entry.swarm.leave(&name));
        }
        Box::pin(ready(()))
    }

    fn introduces<'a>(
        &'a self,
        asker: &'a PeerId,
        other: &'a PeerId,
        content: ContentId,
    ) -> BoxFuture<'a, bool> {
        let (asker, other) = (self.devices.name(*asker), self.devices.name(*other));
        let introduced = self.with_swarm(content, |swarm| swarm.introduces(&asker, &other));
        Box::pin(ready(introduced.unwrap_or(false)))
    }

    fn keep_ticket(&self, peer: PeerId, content: ContentId, ticket: Stub) -> BoxFuture<'_, ()> {
        self.with_swarm(content, |swarm| swarm.keep_ticket(&self.devices.name(peer), ticket));
        Box::pin(ready(()))
    }

    fn expire(&self, before: u32) -> BoxFuture<'_, ()> {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|entry| {
                entry.swarm.expire(before);
                !entry.swarm.is_empty()
            });
            if shard.capacity() > 64 + 4 * shard.len() {
                shard.shrink_to_fit(|entry| entry.hash);
            }
        }
        self.devices.expire();
        Box::pin(ready(()))
    }

    fn members(&self) -> BoxFuture<'_, u64> {
        let count =
            |shard: &Mutex<Shard>| shard.lock().iter().map(|entry| entry.swarm.len() as u64).sum::<u64>();
        Box::pin(ready(self.shards.iter().map(count).sum()))
    }
}
