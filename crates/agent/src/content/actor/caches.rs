//! The actor's connected caches: who may be asked now, and what is held against those that fail.

use std::sync::Arc;

use peerage_content::PieceIndex;
use peerage_origin::OriginError;
use peerage_policy::CacheHost;
use peerage_swarm::{Event, SourceId, SourceKind};

use super::{Actor, Http};
use crate::caches::{CachedAt, Caches};
use crate::content::Trouble;

impl Actor {
    /// Policy lets these be asked before the origin, in this order. Whoever is no longer among them is not asked any more.
    pub(super) fn set_caches(&mut self, hosts: &[CacheHost]) {
        let origin = self.http.values().find(|http| http.cache.is_none());
        let Some((url, known)) = origin.map(|http| (http.url.clone(), http.known.clone())) else { return };
        let wanted = if self.transfer.is_complete() { Vec::new() } else { Caches::places(&url, hosts) };
        let held = self.http.iter().filter(|(_, http)| !http.left);
        let held = held.filter_map(|(source, http)| Some((*source, http.cache.clone()?)));
        let (sources, held): (Vec<SourceId>, Vec<CachedAt>) = held.unzip();
        if held == wanted {
            return;
        }
        for source in sources {
            // It stays known: bytes that it has sent may still be on their way to the disk.
            if let Some(http) = self.http.get_mut(&source) {
                http.left = true;
            }
            self.feed(Event::HttpLeft { source });
        }
        for at in wanted {
            let source = self.new_source();
            let rest = self.shared.caches.rest(&at, self.now()).map(|rest| (at.host.clone(), rest));
            let http = Http {
                url: at.url.clone(),
                known: known.clone(),
                whole: false,
                cache: Some(at),
                left: false,
            };
            self.http.insert(source, http);
            self.feed(Event::HttpJoined { source, kind: SourceKind::CacheServer, known_rate: None });
            if let Some((host, rest)) = rest {
                Arc::make_mut(&mut self.account).trouble(crate::file_status::cache_rests(&host, &rest));
                self.feed(Event::HttpRests { source, left: rest.left });
            }
        }
    }

    /// A range of this source failed.
    pub(super) fn http_failed(&mut self, source: SourceId, error: OriginError) {
        let cache = self.http.get(&source).and_then(|http| http.cache.clone());
        match cache {
            None => self.set_trouble(Some(Trouble::Origin(error))),
            // One that ignores ranges is still of use.
            Some(_) if error.failure == peerage_origin::Failure::NoRanges => {}
            Some(at) => {
                self.shared.caches.failed(&at, &error, self.now());
                self.set_trouble(Some(Trouble::Cache { host: at.host, error }));
            }
        }
    }

    /// A piece that came from this source alone is wrong.
    pub(super) fn http_corrupt(&mut self, source: SourceId, piece: PieceIndex) {
        let cache = self.http.get(&source).and_then(|http| http.cache.clone());
        match cache {
            None => self.trouble = Some(Trouble::OriginCorrupt),
            Some(at) => {
                tracing::debug!(cache = %at.host, %piece, "wrong piece");
                self.shared.caches.lied(&at, self.now());
                self.set_trouble(Some(Trouble::CacheCorrupt { host: at.host }));
            }
        }
    }

    /// The cache that this source is.
    pub(super) fn cache_of(&self, source: SourceId) -> Option<&CachedAt> {
        self.http.get(&source)?.cache.as_ref()
    }
}
