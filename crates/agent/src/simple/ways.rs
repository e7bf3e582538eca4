//! The ways of a download in simple mode: the connected caches that policy allows, and the origin; whose turn it is.

use std::time::Duration;

use parking_lot::Mutex;
use peerage_origin::{OriginError, SourceUrl};
use peerage_policy::CacheHost;
use peerage_swarm::{Rota, SourceId, Time, Turn};

use crate::caches::{CachedAt, Caches};
use crate::shared::Shared;

/// Where the next bytes are asked for.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Origin,
    Cache(SourceId, CachedAt),
    /// The origin waits for the caches, which have a pause.
    None,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Ways(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// As policy gives them.
    hosts: Vec<CacheHost>,
    /// The source id of each is its place in this list.
    places: Vec<CachedAt>,
    rota: Rota,
    delay: Duration,
}

impl Ways {
    /// Policy lets these caches be asked for `url`, and the origin wait for `delay`. `None`: they are those from before; else,
    /// in sentences, which of them are left alone.
    pub(super) fn allow(
        &self,
        shared: &Shared,
        url: &SourceUrl,
        hosts: &[CacheHost],
        delay: Duration,
    ) -> Option<Vec<String>> {
        let mut inner = self.0.lock();
        inner.delay = delay;
        if inner.hosts == hosts {
            return None;
        }
        inner.hosts = hosts.to_vec();
        let mut told = Vec::new();
        let rest = |at: &CachedAt, now| {
            let rest = shared.caches.rest(at, now)?;
            told.push(crate::file_status::cache_rests(&at.host, &rest));
            Some(rest.left)
        };
        inner.put(Caches::places(url, hosts), rest, shared.clock.now());
        Some(told)
    }

    /// No cache is to be asked for this file, whatever policy says of others.
    pub(super) fn distrust(&self) {
        self.0.lock().put(Vec::new(), |_, _| None, Time::ZERO);
    }

    /// The network is another one: past failures count no longer.
    pub(super) fn forgive(&self) {
        self.0.lock().rota.forgive();
    }

    /// Whose turn it is.
    pub(super) fn next(&self, now: Time) -> Way {
        let mut inner = self.0.lock();
        let delay = inner.delay;
        match inner.rota.turn(delay, now) {
            Turn::Origin => Way::Origin,
            Turn::Nobody => Way::None,
            Turn::Cache(source) => {
                let at = inner.places.get(source.0 as usize);
                at.map_or(Way::Origin, |at| Way::Cache(source, at.clone()))
            }
        }
    }

    /// A cache failed: the next one, or the origin, has the turn.
    pub(super) fn failed(&self, shared: &Shared, source: SourceId, at: &CachedAt, error: &OriginError) {
        let now = shared.clock.now();
        shared.caches.failed(at, error, now);
        self.0.lock().rota.failed(source, now);
    }

    /// A cache has brought what was asked of it.
    pub(super) fn delivered(&self, shared: &Shared, source: SourceId, at: &CachedAt) {
        shared.caches.delivered(at);
        self.0.lock().rota.delivered(source);
    }
}

impl Inner {
    fn put(
        &mut self,
        places: Vec<CachedAt>,
        mut rest: impl FnMut(&CachedAt, Time) -> Option<Duration>,
        now: Time,
    ) {
        let name = |at: usize| SourceId(u32::try_from(at).unwrap_or(u32::MAX));
        (0..self.places.len()).for_each(|at| self.rota.leave(name(at)));
        for (at, place) in places.iter().enumerate() {
            self.rota.join(name(at));
            if let Some(left) = rest(place, now) {
                self.rota.rests(name(at), left, now);
            }
        }
        self.places = places;
    }
}
