//! Neighbours: devices of the fleet on the same link, found by DNS-SD, for when no coordinator names peers.
//!
//! One task owns the door to the link. It is open while policy lets peers be found that way, the fleet's site key is
//! known, and the device has a link at all (an agent on the loopback has none); it advertises while the peer port is
//! open. Neighbours that cannot be of this fleet are forgotten at once: their adverts do not open.
//!
//! Nothing survives a crash; the link is looked at anew.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use peerage_content::{ADVERT_NONCE, Advert, PeerId, SiteKey};
use peerage_host::{DnsSd, MAX_ADDRESSES, Sight, is_on_link};
use peerage_policy::GroupId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::shared::Shared;

/// Neighbours kept in mind; a link with more has a coordinator.
const MAX_NEIGHBOURS: usize = 256;
/// Random bytes in the name that a device goes by.
const NAME_LEN: usize = 12;
/// After DNS-SD failed it is tried again after this time.
const RETRY: Duration = Duration::from_secs(30);

/// A device of the fleet on this link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) peer: PeerId,
    /// On a link of ours, best first; never empty.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whether it says that it is of our group.
    pub(crate) of_group: bool,
}

/// Who is there, for whoever wants to know.
#[derive(Debug)]
pub(crate) struct Neighbours {
    found: watch::Sender<Arc<Vec<Neighbour>>>,
    /// Why nobody is looked for; `None`: the door is open.
    closed: Mutex<Option<Closed>>,
}

/// Why nobody is looked for, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) why: String,
    /// What to do about it, if something can be done here.
    pub(crate) remedy: Option<&'static str>,
}

impl Closed {
    fn new(why: &str, remedy: Option<&'static str>) -> Self {
        Self { why: why.to_owned(), remedy }
    }

    fn failed(error: &str) -> Self {
        let remedy =
            "let UDP port 5353 in and out for multicast; docs/local-discovery.md tells more of what it needs";
        Self::new(&format!("DNS-SD failed: {error}"), Some(remedy))
    }
}

impl Default for Neighbours {
    fn default() -> Self {
        let closed = Mutex::new(Some(Closed::new("it has not begun yet", None)));
        Self { found: watch::Sender::new(Arc::default()), closed }
    }
}

impl Neighbours {
    /// Those that are there now.
    pub(crate) fn now(&self) -> Arc<Vec<Neighbour>> {
        Arc::clone(&self.found.borrow())
    }

    /// Wakes whenever they change.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Vec<Neighbour>>> {
        self.found.subscribe()
    }

    /// Why nobody is looked for; `None`: somebody is.
    pub(crate) fn closed(&self) -> Option<Closed> {
        self.closed.lock().clone()
    }

    fn set(&self, found: Vec<Neighbour>) {
        self.found.send_if_modified(|now| {
            let changed = **now != found;
            if changed {
                *now = Arc::new(found);
            }
            changed
        });
    }
}

/// How the door is to stand.
#[derive(Debug, Clone, PartialEq)]
struct Plan {
    listen: IpAddr,
    key: SiteKey,
    /// The port to advertise, if any.
    port: Option<u16>,
    group: Option<GroupId>,
}

impl Plan {
    /// How it is to stand now.
    ///
    /// # Errors
    /// Why the door is closed.
    fn of(shared: &Shared) -> Result<Self, Closed> {
        let (allowed, listen) = (shared.decide_device().allowed, shared.config.listen.ip());
        if !allowed.link_local.any() {
            return Err(Closed::new("policy does not let peers be found that way now", None));
        }
        if listen.to_canonical().is_loopback() {
            let remedy = "let the agent listen on all addresses: `listen` in agent.toml";
            return Err(Closed::new(
                "the agent listens on the loopback alone, which has no neighbours",
                Some(remedy),
            ));
        }
        let key = shared.coordinator.site_key().ok_or_else(|| {
            let remedy = "join a coordinator, or let it be reached once: it gives the key by which devices of the fleet know \
                          each other";
            Closed::new("no coordinator has given this device the fleet's key yet", Some(remedy))
        })?;
        let open = *shared.listening.borrow();
        let port = open.filter(|_| allowed.link_local.serve).map(|open| open.port());
        Ok(Self { listen, key, port, group: allowed.group })
    }
}

/// An open door and who was seen through it.
struct Door {
    plan: Plan,
    dns_sd: DnsSd,
    /// By the name that DNS-SD knows them by.
    seen: BTreeMap<String, (Advert, Vec<SocketAddr>)>,
}

impl Door {
    fn open(plan: Plan, own: &PeerId) -> anyhow::Result<Self> {
        let dns_sd = DnsSd::open(plan.listen)?;
        let mut door = Self { plan, dns_sd, seen: BTreeMap::new() };
        door.advertise(own)?;
        Ok(door)
    }

    /// Adjusts it to another plan. `false`: it must be closed and another one opened.
    fn take_up(&mut self, plan: &Plan, own: &PeerId) -> anyhow::Result<bool> {
        if (self.plan.listen, &self.plan.key) != (plan.listen, &plan.key) {
            return Ok(false);
        }
        if self.plan != *plan {
            self.plan = plan.clone();
            self.advertise(own)?;
        }
        Ok(true)
    }

    fn advertise(&mut self, own: &PeerId) -> anyhow::Result<()> {
        let Some(port) = self.plan.port else {
            self.dns_sd.withdraw();
            return Ok(());
        };
        let mut noise = [0; ADVERT_NONCE + NAME_LEN];
        getrandom::fill(&mut noise)?;
        let (nonce, name) = noise.split_first_chunk().context("the noise is shorter than a nonce")?;
        let group = self.plan.group.map(|group| *group.as_bytes());
        let advert = Advert::seal(&self.plan.key, *nonce, own, group.as_ref());
        let name = URL_SAFE_NO_PAD.encode(name).replace('_', "a").replace('-', "b");
        self.dns_sd.advertise(&name, port, &advert)?;
        tracing::info!(port, "advertised on the link");
        Ok(())
    }

    fn note(&mut self, sight: Sight, own: &PeerId) {
        match sight {
            Sight::Gone { name } => drop(self.seen.remove(&name)),
            Sight::Seen { name, advert, addresses } => match Advert::open(&self.plan.key, &advert) {
                Some(advert) if advert.peer != *own => {
                    if self.seen.len() < MAX_NEIGHBOURS || self.seen.contains_key(&name) {
                        self.seen.insert(name, (advert, addresses));
                    }
                }
                _ => drop(self.seen.remove(&name)),
            },
        }
    }

    /// The neighbours, each device once, with the addresses that are on a link of ours.
    fn neighbours(&self, shared: &Shared) -> Vec<Neighbour> {
        let policy = shared.policy();
        let group = self.plan.group.map(|group| *group.as_bytes());
        let mut found: BTreeMap<PeerId, Neighbour> = BTreeMap::new();
        for (advert, addresses) in self.seen.values() {
            let of_group = group.is_some_and(|group| advert.is_of_group(&self.plan.key, &group));
            let near = addresses.iter().filter(|at| is_on_link(at.ip(), &policy.facts.interfaces)).copied();
            let near: Vec<SocketAddr> = near.collect();
            if near.is_empty() {
                continue;
            }
            let fresh = Neighbour { peer: advert.peer, addresses: Vec::new(), of_group };
            let neighbour = found.entry(advert.peer).or_insert(fresh);
            neighbour.of_group |= of_group;
            neighbour.addresses.extend(near);
            neighbour.addresses.truncate(MAX_ADDRESSES);
        }
        found.into_values().collect()
    }
}

/// Opens, tends and closes the door as policy, port and site key change. Returns when the agent ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let own = shared.identity.peer();
    let mut policy = shared.policy.clone();
    let mut listening = shared.listening.subscribe();
    let mut keys = shared.coordinator.site_keys();
    let mut door: Option<Door> = None;
    let mut not_before = Instant::now();
    let mut failed = None;
    loop {
        let plan = Plan::of(&shared);
        let closed = plan.as_ref().err().cloned();
        let plan = plan.ok();
        let fits = match (&mut door, &plan) {
            (Some(door), Some(plan)) => door.take_up(plan, &own),
            (open, _) => Ok(open.is_none()),
        };
        if !fits.unwrap_or(false) {
            door = None;
        }
        if let Some(plan) = plan.as_ref().filter(|_| door.is_none() && Instant::now() >= not_before) {
            match Door::open(plan.clone(), &own) {
                Ok(open) => door = Some(open),
                Err(error) => {
                    tracing::warn!(%error, "neighbours cannot be looked for");
                    failed = Some(Closed::failed(&error.to_string()));
                    not_before = Instant::now() + RETRY;
                }
            }
        }
        *shared.neighbours.closed.lock() =
            if door.is_some() { None } else { closed.or_else(|| failed.clone()) };
        shared.neighbours.set(door.as_ref().map(|door| door.neighbours(&shared)).unwrap_or_default());
        tokio::select! {
            changed = policy.changed() => if changed.is_err() { return },
            changed = listening.changed() => if changed.is_err() { return },
            changed = keys.changed() => if changed.is_err() { return },
            () = sleep_until(not_before), if door.is_none() && plan.is_some() => {}
            sight = next_sight(&mut door), if door.is_some() => match (sight, &mut door) {
                (Some(sight), Some(door)) => door.note(sight, &own),
                _ => {
                    door = None;
                    failed = Some(Closed::failed("it has ended"));
                    not_before = Instant::now() + RETRY;
                }
            },
        }
    }
}

/// What is seen next; `None`: DNS-SD has failed.
async fn next_sight(door: &mut Option<Door>) -> Option<Sight> {
    match door.as_mut()?.dns_sd.next().await {
        Ok(sight) => Some(sight),
        Err(error) => {
            tracing::warn!(%error, "neighbours cannot be looked for");
            None
        }
    }
}
