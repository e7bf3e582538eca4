//! Announces: tells the coordinator which contents this device holds or wants, and hands its answers to the swarms.
//!
//! One request carries all contents (product §9: announces over kept-alive connections). A content that needs peers or
//! has changed is announced at once ([`Announcer::poke`]); everything is announced again each interval.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerage_api::coordinator::{AnnounceEvent, AnnounceItem, AnnounceRequest, AnnounceResponse, SwarmItem};
use peerage_content::{ContentId, SwarmTicket};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::content::Command;
use crate::shared::Shared;

/// Until the coordinator names one.
const FIRST_INTERVAL: Duration = Duration::from_secs(60);
/// The interval is kept within these bounds, whatever the coordinator says.
const BOUNDS: (u64, u64) = (5, 3600);
/// Pokes that come close together make one request.
const GATHER: Duration = Duration::from_millis(20);
const MAX_ITEMS: usize = 1000;
/// How long the end of the agent waits for the coordinator.
const GOODBYE: Duration = Duration::from_secs(1);
const WANT_PEERS: u16 = 50;

/// The announcer's handle.
#[derive(Debug, Clone)]
pub(crate) struct Announcer(mpsc::UnboundedSender<Poke>);

/// The announcer's inbox.
pub(crate) type Pokes = mpsc::UnboundedReceiver<Poke>;

/// What is to be announced soon.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Poke {
    One(ContentId),
    All,
}

impl Announcer {
    pub(crate) fn new() -> (Self, Pokes) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Announce this content soon.
    pub(crate) fn poke(&self, id: ContentId) {
        let _ = self.0.send(Poke::One(id));
    }

    /// Announce everything soon.
    pub(crate) fn announce_all(&self) {
        let _ = self.0.send(Poke::All);
    }
}

/// The part of an announce that is the same for all contents.
pub(crate) fn request(shared: &Shared, items: Vec<AnnounceItem>) -> AnnounceRequest {
    let decision = shared.decide_device();
    let group = decision.allowed.group.map(|group| group.to_string());
    AnnounceRequest { addresses: addresses(shared), group, scopes: decision.allowed.fetch, items }
}

/// Where peers reach this device.
fn addresses(shared: &Shared) -> Vec<SocketAddr> {
    let Some(listen) = *shared.listening.borrow() else { return Vec::new() };
    let policy = shared.policy();
    let found = peerage_host::announce_addresses(listen.ip(), &policy.facts.interfaces);
    found.into_iter().map(|ip| SocketAddr::new(ip, listen.port())).collect()
}

/// Takes in the part of an answer that concerns one content: keeps the ticket, tells the swarm.
pub(crate) async fn accept(shared: &Shared, item: SwarmItem) {
    keep_ticket(shared, &item);
    if let Some(handle) = shared.contents.get(item.content) {
        handle.tell(Command::Swarm(Some(Box::new(item)))).await;
    }
}

/// Keeps the ticket of an answer if it is right.
pub(crate) fn keep_ticket(shared: &Shared, item: &SwarmItem) {
    let keys = shared.coordinator.catalog_keys();
    match item.ticket.check::<SwarmTicket>(&keys) {
        Ok(ticket) if ticket.get().content == item.content && ticket.get().peer == shared.identity.peer() => {
            shared.tickets.put(&ticket, shared.clock.unix());
        }
        Ok(_) => tracing::warn!(content = %item.content, "the coordinator sent a ticket for somebody else"),
        Err(error) => tracing::warn!(content = %item.content, %error, "the coordinator sent a bad ticket"),
    }
}

/// Runs until the agent ends.
pub(crate) async fn run(shared: Arc<Shared>, mut pokes: Pokes) {
    let mut interval = FIRST_INTERVAL;
    let mut next_round = Instant::now();
    let mut listening = shared.listening.subscribe();
    let mut policy = shared.policy.clone();
    let mut told = None;
    loop {
        let mut poked = BTreeSet::new();
        let mut round = tokio::select! {
            () = tokio::time::sleep_until(next_round) => true,
            changed = listening.changed() => { if changed.is_err() { return } true }
            changed = policy.changed() => {
                if changed.is_err() {
                    return;
                }
                // Other addresses, another group or other scopes: the coordinator must look for other peers.
                if told == Some(request(&shared, Vec::new())) {
                    continue;
                }
                true
            }
            poke = pokes.recv() => match poke {
                None => return,
                Some(Poke::One(id)) => { poked.insert(id); false }
                Some(Poke::All) => true,
            },
        };
        tokio::time::sleep(GATHER).await;
        while let Ok(poke) = pokes.try_recv() {
            match poke {
                Poke::One(id) => drop(poked.insert(id)),
                Poke::All => round = true,
            }
        }
        if round {
            told = Some(request(&shared, Vec::new()));
        }
        let items = items(&shared, (!round).then_some(&poked)).await;
        if round {
            next_round = Instant::now() + interval;
        }
        if let Some(told) = announce(&shared, items).await {
            interval = told;
            if round {
                next_round = Instant::now() + interval;
            }
        }
    }
}

/// Says that this device ends: nobody is to be sent to it any more. What cannot be said at once stays unsaid; the
/// coordinator forgets who no longer announces.
pub(crate) async fn say_goodbye(shared: &Shared) {
    if !shared.coordinator.is_reachable() || !shared.decide_device().allowed.coordinator {
        return;
    }
    let stopped = |content| AnnounceItem { content, event: AnnounceEvent::Stopped, left: 0, want: 0 };
    let items: Vec<AnnounceItem> = shared.store.ids().into_iter().map(stopped).collect();
    let said = async {
        for chunk in items.chunks(MAX_ITEMS) {
            shared.coordinator.announce(&request(shared, chunk.to_vec())).await?;
        }
        Ok::<(), peerage_api::ApiError>(())
    };
    match tokio::time::timeout(GOODBYE, said).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the coordinator was not told of the end"),
        Err(_) => tracing::debug!("the coordinator was not told of the end in time"),
    }
}

/// What to say: of all contents, or of those poked.
async fn items(shared: &Arc<Shared>, only: Option<&BTreeSet<ContentId>>) -> Vec<AnnounceItem> {
    let wanted = |id: &ContentId| only.is_none_or(|only| only.contains(id));
    let mut items = Vec::new();
    let mut seen = BTreeSet::new();
    for handle in shared.contents.all().into_iter().filter(|handle| wanted(&handle.id)) {
        let status = Arc::clone(&handle.status.borrow());
        let left = handle.content.layout().size() - status.verified_bytes.min(handle.content.layout().size());
        let want = if status.complete { 0 } else { WANT_PEERS };
        seen.insert(handle.id);
        items.push(AnnounceItem { content: handle.id, event: AnnounceEvent::Alive, left, want });
    }
    let mut ids = shared.store.complete_ids();
    ids.retain(|id| wanted(id) && !seen.contains(id));
    let common = Arc::clone(shared);
    let seeds = tokio::task::spawn_blocking(move || {
        let served = ids.into_iter().filter(|id| {
            let content = common.store.get(*id).ok().flatten();
            content.is_some_and(|content| common.may_serve(&content).any())
        });
        served.collect::<Vec<_>>()
    });
    for content in seeds.await.unwrap_or_default() {
        items.push(AnnounceItem { content, event: AnnounceEvent::Alive, left: 0, want: 0 });
    }
    if let Some(only) = only {
        // Poked, and neither running nor held: it is gone.
        let held: BTreeSet<ContentId> = items.iter().map(|item| item.content).collect();
        for content in only.difference(&held).copied() {
            items.push(AnnounceItem { content, event: AnnounceEvent::Stopped, left: 0, want: 0 });
        }
    }
    items
}

/// Announces, and returns the interval that the coordinator wishes.
async fn announce(shared: &Arc<Shared>, items: Vec<AnnounceItem>) -> Option<Duration> {
    if !shared.decide_device().allowed.coordinator {
        return None;
    }
    if items.is_empty() {
        shared.coordinator.warm().await;
        return None;
    }
    let mut interval = None;
    for chunk in items.chunks(MAX_ITEMS) {
        match shared.coordinator.announce(&request(shared, chunk.to_vec())).await {
            Ok(AnnounceResponse { interval_s, time, items }) => {
                shared.clock.set_by_coordinator(time);
                interval = Some(Duration::from_secs(interval_s.clamp(BOUNDS.0, BOUNDS.1)));
                for item in items {
                    accept(shared, item).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "announce failed");
                // Whoever runs may look for neighbours instead.
                for item in chunk {
                    if let Some(handle) = shared.contents.get(item.content) {
                        handle.tell(Command::Swarm(None)).await;
                    }
                }
                return Some(Duration::from_secs(10));
            }
        }
    }
    interval
}
