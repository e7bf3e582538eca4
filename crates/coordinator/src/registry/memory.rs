//! The registry in memory: swarms in shards, each behind a lock that is held for one announce and never across an await.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use peerage_content::{ContentId, PeerId};

use super::device::Devices;
use super::swarm::Swarm;
use super::{Announcer, Claim, Seat, SwarmRegistry};
use crate::tickets::Stub;

/// More than cores, so that two announces rarely meet in one.
const SHARDS: usize = 64;

type Shard = HashMap<ContentId, Swarm<RandomState>>;

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

    fn with_shard<T>(&self, content: ContentId, act: impl FnOnce(&mut Shard) -> T) -> Option<T> {
        let at = (self.hasher.hash_one(content) % SHARDS as u64) as usize;
        self.shards.get(at).map(|shard| act(&mut shard.lock()))
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
        let seats = claims.iter().filter_map(|claim| {
            self.with_shard(claim.content, |shard| {
                let swarm = shard.entry(claim.content).or_insert_with(|| Swarm::new(self.hasher.clone()));
                swarm.announce(&device, claim, now)
            })
        });
        Box::pin(ready(seats.collect()))
    }

    fn leave<'a>(&'a self, peer: PeerId, contents: &'a [ContentId]) -> BoxFuture<'a, ()> {
        for content in contents {
            self.with_shard(*content, |shard| {
                if let Some(swarm) = shard.get_mut(content) {
                    swarm.leave(&peer);
                    if swarm.is_empty() {
                        shard.remove(content);
                    }
                }
            });
        }
        Box::pin(ready(()))
    }

    fn banish(&self, peer: PeerId) -> BoxFuture<'_, ()> {
        for shard in &self.shards {
            shard.lock().values_mut().for_each(|swarm| swarm.leave(&peer));
        }
        Box::pin(ready(()))
    }

    fn introduces<'a>(
        &'a self,
        asker: &'a PeerId,
        other: &'a PeerId,
        content: ContentId,
    ) -> BoxFuture<'a, bool> {
        let introduced = self.with_shard(content, |shard| {
            shard.get(&content).is_some_and(|swarm| swarm.introduces(asker, other))
        });
        Box::pin(ready(introduced.unwrap_or(false)))
    }

    fn keep_ticket(&self, peer: PeerId, content: ContentId, ticket: Stub) -> BoxFuture<'_, ()> {
        self.with_shard(content, |shard| {
            if let Some(swarm) = shard.get_mut(&content) {
                swarm.keep_ticket(&peer, ticket);
            }
        });
        Box::pin(ready(()))
    }

    fn expire(&self, before: u32) -> BoxFuture<'_, ()> {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.values_mut().for_each(|swarm| swarm.expire(before));
            shard.retain(|_, swarm| !swarm.is_empty());
            if shard.capacity() > 64 + 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
        self.devices.expire();
        Box::pin(ready(()))
    }

    fn members(&self) -> BoxFuture<'_, u64> {
        let count = |shard: &Mutex<Shard>| shard.lock().values().map(|swarm| swarm.len() as u64).sum::<u64>();
        Box::pin(ready(self.shards.iter().map(count).sum()))
    }
}
