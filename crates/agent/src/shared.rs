//! What all parts of the agent share. Each member guards its own state; no lock is held across an await.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use peerage_api::why::Because;
use peerage_content::{ContentId, PeerId, PublicKey};
use peerage_origin::OriginClient;
use peerage_policy::{
    Allowed, Class, ContentFacts, Decision, OriginUrl, PeerEncryption, RecordState, decide, decide_device,
};
use peerage_store::Store;
use peerage_swarm::{Bans, Offence, Slots};
use peerage_transport::{Encryption, Identity, Options};
use tokio::sync::watch;

use crate::announcer::Announcer;
use crate::budgets::Budgets;
use crate::cache_place::CachePlace;
use crate::caches::Caches;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::Config;
use crate::content::ContentHandle;
use crate::content::registry::Registry;
use crate::coordinator::Coordinator;
use crate::deliveries::Deliveries;
use crate::downloads::Downloads;
use crate::governor::Governor;
use crate::neighbours::Neighbours;
use crate::places::Places;
use crate::policy::{Policies, PolicyView};
use crate::rangeless::RangelessHosts;
use crate::relay::Relay;
use crate::tickets::{OwnTicket, Tickets};
use crate::why::Past;

/// The agent's common ground.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Where the cache is.
    pub(crate) cache_place: watch::Receiver<CachePlace>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) identity: Identity,
    pub(crate) store: Store,
    pub(crate) origin: OriginClient,
    /// The same for what nobody waits for: its connections yield to everybody else's traffic.
    pub(crate) background_origin: OriginClient,
    pub(crate) caches: Caches,
    pub(crate) coordinator: Coordinator,
    pub(crate) announcer: Announcer,
    pub(crate) tickets: Tickets,
    pub(crate) contents: Registry,
    pub(crate) places: Places,
    pub(crate) catalog: Catalog,
    pub(crate) past: Past,
    pub(crate) downloads: Downloads,
    pub(crate) deliveries: Deliveries,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) governor: Governor,
    pub(crate) policies: Policies,
    pub(crate) policy: watch::Receiver<Arc<PolicyView>>,
    /// Where peers reach this device; `None` while sharing is not allowed.
    pub(crate) listening: watch::Sender<Option<SocketAddr>>,
    /// Why the port that policy wants open is not.
    pub(crate) port_trouble: Mutex<Option<String>>,
    pub(crate) rangeless: RangelessHosts,
    pub(crate) neighbours: Neighbours,
    pub(crate) relay: Relay,
    /// Wakes the housekeeper: the disk is full.
    pub(crate) make_room: tokio::sync::Notify,
    /// Wakes the housekeeper: a content is complete, is no longer in use, or is to go at another time.
    pub(crate) cache_news: tokio::sync::Notify,
    bans: Mutex<Bans>,
    slots: Mutex<Slots>,
    /// Best rate seen of each origin host, in bytes a second.
    origin_rates: Mutex<HashMap<String, u64>>,
    counter: AtomicU64,
}

/// How a peer came to know of this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The coordinator named them to each other: it has a ticket.
    Named,
    /// By DNS-SD: it has proved the site key.
    LinkLocal,
}

/// With whom a content is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Share {
    named: bool,
    link_local: bool,
}

impl Share {
    pub(crate) const fn of(allowed: &Allowed) -> Self {
        Self { named: !allowed.serve.is_empty(), link_local: allowed.link_local.serve }
    }

    pub(crate) const fn with(self, way: Way) -> bool {
        match way {
            Way::Named => self.named,
            Way::LinkLocal => self.link_local,
        }
    }

    /// Whether it is shared with anyone.
    pub(crate) const fn any(self) -> bool {
        self.named || self.link_local
    }
}

/// Members of [`Shared`] that are built before it.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) cache_place: watch::Receiver<CachePlace>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) identity: Identity,
    pub(crate) store: Store,
    pub(crate) origin: OriginClient,
    /// The same for what nobody waits for: its connections yield to everybody else's traffic.
    pub(crate) background_origin: OriginClient,
    pub(crate) caches: Caches,
    pub(crate) coordinator: Coordinator,
    pub(crate) announcer: Announcer,
    pub(crate) catalog: Catalog,
    pub(crate) past: Past,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) governor: Governor,
    pub(crate) policies: Policies,
    pub(crate) policy: watch::Receiver<Arc<PolicyView>>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            config,
            cache_place,
            clock,
            identity,
            store,
            origin,
            background_origin,
            caches,
            coordinator,
            announcer,
            catalog,
            past,
            budgets,
            governor,
            policies,
            policy,
        } = parts;
        Self {
            config,
            cache_place,
            clock,
            identity,
            store,
            origin,
            background_origin,
            caches,
            coordinator,
            announcer,
            tickets: Tickets::default(),
            contents: Registry::default(),
            places: Places::default(),
            catalog,
            past,
            downloads: Downloads::default(),
            deliveries: Deliveries::default(),
            budgets,
            governor,
            policies,
            policy,
            listening: watch::Sender::new(None),
            port_trouble: Mutex::default(),
            rangeless: RangelessHosts::default(),
            neighbours: Neighbours::default(),
            relay: Relay::default(),
            make_room: tokio::sync::Notify::new(),
            cache_news: tokio::sync::Notify::new(),
            bans: Mutex::new(Bans::default()),
            slots: Mutex::new(Slots::default()),
            origin_rates: Mutex::new(HashMap::new()),
            counter: AtomicU64::new(1),
        }
    }

    /// A number that no other call of this process gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<PolicyView> {
        Arc::clone(&self.policy.borrow())
    }

    /// What policy says of one content.
    pub(crate) fn decide(&self, content: &ContentFacts<'_>) -> Decision {
        let policy = self.policy();
        decide(&policy.settings, &policy.facts, content, self.clock.unix())
    }

    /// What policy says of the device.
    pub(crate) fn decide_device(&self) -> Decision {
        let policy = self.policy();
        decide_device(&policy.settings, &policy.facts, self.clock.unix())
    }

    /// Whether policy lets a device at `ip` be a peer of any content.
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        let policy = self.policy();
        let decision = decide_device(&policy.settings, &policy.facts, self.clock.unix());
        decision.allowed.address(ip, &policy.facts)
    }

    /// Peers that may be connected at once.
    pub(crate) fn max_connections(&self) -> usize {
        self.policy().settings.max_peer_connections as usize
    }

    /// Whether policy lets no frame be clear text.
    pub(crate) fn must_encrypt(&self) -> bool {
        self.policy().settings.peer_encryption == PeerEncryption::Required
    }

    /// How peers are connected to.
    pub(crate) fn connect_options(&self) -> Options {
        let encryption = if self.must_encrypt() { Encryption::Required } else { Encryption::Off };
        // An agent that listens on one address of several speaks from it too: its neighbours know it by that address.
        let bind = self.config.listen.ip();
        let bind = (!bind.is_unspecified()).then_some(bind);
        Options { bind, encryption, connect_timeout: Duration::from_secs(3), ..Options::default() }
    }

    /// The same for one address: a socket bound to an IPv4 address cannot reach IPv6, and the other way round.
    pub(crate) fn options_towards(&self, address: SocketAddr) -> Options {
        let options = self.connect_options();
        Options { bind: options.bind.filter(|bind| bind.is_ipv4() == address.is_ipv4()), ..options }
    }

    /// Keys whose content records are trusted: the catalog's, and those of publishers that policy names. Tickets are
    /// the coordinator's alone.
    pub(crate) fn record_keys(&self) -> Vec<PublicKey> {
        let mut keys = self.coordinator.catalog_keys();
        keys.extend(&self.policy().settings.trusted_publishers);
        keys
    }

    /// Whether a content may be served now, as one of so many as policy allows at once. To be asked again and again while
    /// somebody wants it.
    pub(crate) fn upload_slot(&self, id: ContentId, most: Option<u64>) -> bool {
        self.slots.lock().ask(id, most, self.clock.now())
    }

    /// Nobody wants the content any more.
    pub(crate) fn leave_slot(&self, id: ContentId) {
        self.slots.lock().leave(id);
    }

    // === Peers ===

    /// Holds an offence against a peer; all contents part from it when that bans it.
    pub(crate) fn charge(&self, peer: PeerId, offence: Offence) {
        let banned = self.bans.lock().charge(peer, offence, self.clock.now());
        tracing::warn!(peer = %peer.short(), ?offence, banned, "offence");
        if banned {
            self.contents.banned(peer);
        }
    }

    pub(crate) fn is_banned(&self, peer: &PeerId) -> bool {
        self.bans.lock().is_banned(peer, self.clock.now())
    }

    /// Why a peer is banned, for `status --peers`.
    pub(crate) fn ban_note(&self, peer: &PeerId) -> Option<String> {
        let bans = self.bans.lock();
        if !bans.is_banned(peer, self.clock.now()) {
            return None;
        }
        let last = bans.evidence(peer).last().map(|(_, offence)| match offence {
            Offence::BadPiece(piece) => format!("banned: sent wrong bytes, last in piece {piece}"),
            Offence::Protocol(what) => format!("banned: {what}"),
        });
        last.or_else(|| Some("banned".to_owned()))
    }

    /// The actor that serves `id`, if this device holds (some of) it and policy lets it be shared with those who come this
    /// way.
    pub(crate) async fn serve(self: &Arc<Self>, id: ContentId, way: Way) -> Option<ContentHandle> {
        if let Some(handle) = self.contents.get(id) {
            let share = handle.status.borrow().share;
            return share.with(way).then_some(handle);
        }
        self.contents.settled(id).await;
        let shared = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || {
            let content = shared.store.get(id).ok().flatten().filter(peerage_store::Content::is_complete)?;
            let map = content.map().ok().flatten()?;
            shared
                .may_serve(&content)
                .with(way)
                .then(|| shared.contents.start(&shared, content, map).ok())
                .flatten()
        });
        opened.await.ok().flatten()
    }

    /// Whether policy and record let peers have this content.
    pub(crate) fn may_serve(&self, content: &peerage_store::Content) -> Share {
        Share::of(&self.decide_held(content).allowed)
    }

    /// What holds of a content that nothing runs for, and why.
    pub(crate) fn now_of(&self, content: &peerage_store::Content) -> Vec<Because> {
        let layers = &self.policy().layers;
        self.decide_held(content).reasons.iter().map(|reason| crate::why::because(reason, layers)).collect()
    }

    fn decide_held(&self, content: &peerage_store::Content) -> Decision {
        let record = crate::notes::record(&content.notes(), &self.record_keys());
        let state = record.as_ref().map_or(RecordState::Missing, |record| RecordState::Held(record.get()));
        let size = Some(content.layout().size());
        let facts =
            ContentFacts { class: Class::Background, record: state, size, origin: OriginUrl::default() };
        self.decide(&facts)
    }

    /// Our ticket for `id`; asks the coordinator when there is none that still holds.
    pub(crate) async fn own_ticket(&self, id: ContentId) -> Option<OwnTicket> {
        if let Some(ticket) = self.tickets.get(id) {
            return Some(ticket);
        }
        self.announcer.poke(id);
        let mut changes = self.tickets.changes();
        let wait = async {
            loop {
                if let Some(ticket) = self.tickets.get(id) {
                    return Some(ticket);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), wait).await.ok().flatten()
    }

    // === Origins ===

    /// The client for downloads of a class.
    pub(crate) const fn origin_for(&self, class: Class) -> &OriginClient {
        match class {
            Class::Foreground => &self.origin,
            Class::Background => &self.background_origin,
        }
    }

    pub(crate) fn origin_rate(&self, host: &str) -> Option<u64> {
        self.origin_rates.lock().get(host).copied()
    }

    pub(crate) fn learn_origin_rate(&self, host: &str, rate: u64) {
        let mut rates = self.origin_rates.lock();
        if rates.len() >= 1024 && !rates.contains_key(host) {
            rates.clear();
        }
        rates.insert(host.to_owned(), rate);
    }
}
