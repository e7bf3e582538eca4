//! Fleet policy: what administrators publish, and what each device is given of it.
//!
//! The live revisions are in memory, so that a fleet that asks costs no database; they follow the store: changed there
//! first, here second. A device's answer is held back until its document changes, so a push reaches all devices within a
//! second and an idle fleet of ten thousand asks some two hundred times a second. Documents say the same to all devices
//! that the same policies are for, so a push costs a signature for each such set and not for each device.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use peerage_api::Code;
use peerage_api::coordinator::{
    DevicePolicy, DuePolicy, HistoryQuery, PolicyQuery, PolicyResponse, PolicyRevision, PushPolicyRequest,
    Reach, RelayCall, RemovePolicyRequest, RollbackRequest,
};
use peerage_content::{PeerId, SecretKey, Sha256, Signed, Unchecked};
use peerage_policy::fleet::{self, Device, FleetPart, FleetPolicy, MAX_FLEET_TEXT, Revision, Selector};
use peerage_policy::parse_layer;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::contacts::Contact;
use crate::state::{Failure, Parts};
use crate::store::{self, NewPolicy, Published, StoreError};

/// Longest that an answer is held back.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Addresses of its own that a device may name.
const MAX_ADDRESSES: usize = 16;
/// Revisions in one answer to an administrator.
const MAX_HISTORY: u32 = 1000;
/// Selectors that may have a policy at the same time. Each is looked at for each device.
const MAX_SELECTORS: usize = 1000;
/// Signed documents kept; beyond that they are signed anew.
const MAX_SIGNED: usize = 1024;

/// What holds now.
#[derive(Debug, Clone, Default)]
struct Live {
    serial: u64,
    revisions: Arc<[Revision]>,
}

impl Live {
    fn of(published: Vec<Published>) -> Self {
        let serial = published.iter().map(|one| one.revision.serial).max().unwrap_or(0);
        Self { serial, revisions: published.into_iter().map(|one| one.revision).collect() }
    }
}

/// The published policies.
pub(crate) struct FleetPolicies {
    store: Arc<dyn store::Policies>,
    key: SecretKey,
    live: watch::Sender<Live>,
    /// Documents signed under the serial that stands beside them.
    signed: RwLock<(u64, HashMap<Sha256, Unchecked>)>,
}

impl FleetPolicies {
    pub(crate) async fn load(store: Arc<dyn store::Policies>, key: SecretKey) -> Result<Self, StoreError> {
        let live = watch::Sender::new(Live::of(store.live().await?));
        Ok(Self { store, key, live, signed: RwLock::default() })
    }

    async fn publish(&self, new: NewPolicy, now: u64) -> Result<Published, StoreError> {
        let published = self.store.publish(new, now).await?;
        let live = Live::of(self.store.live().await?);
        // Of two pushes at once the slower must not put back what the faster has read.
        self.live.send_if_modified(|held| {
            let newer = live.serial > held.serial;
            if newer {
                *held = live;
            }
            newer
        });
        Ok(published)
    }

    fn sign(&self, policy: FleetPolicy, digest: Sha256) -> Unchecked {
        let serial = policy.serial;
        if let (held, documents) = &*self.signed.read()
            && *held == serial
            && let Some(document) = documents.get(&digest)
        {
            return document.clone();
        }
        let document = Unchecked::from(&Signed::new(policy, &self.key));
        let mut signed = self.signed.write();
        if signed.0 < serial || signed.1.len() >= MAX_SIGNED {
            *signed = (serial, HashMap::new());
        }
        if signed.0 == serial {
            signed.1.insert(digest, document.clone());
        }
        document
    }
}

fn due(part: &FleetPart) -> DuePolicy {
    DuePolicy { serial: part.revision, selector: part.selector.to_string() }
}

impl Parts {
    /// The document of a device, once it is another than the one it has seen.
    pub(crate) async fn policy(
        &self,
        peer: PeerId,
        seen: IpAddr,
        query: &PolicyQuery,
    ) -> Result<PolicyResponse, Failure> {
        let device = self.asking(peer, seen, query)?;
        self.contacts.note(Contact {
            at: self.clock.unix(),
            seen: seen.to_canonical(),
            device: device.clone(),
            applied: query.applied,
            have: query.have,
            refused: query.refused,
        });
        let have = query.have.unwrap_or_else(|| FleetPolicy::default().digest());
        let until = Instant::now() + Duration::from_millis(query.wait_ms).min(MAX_WAIT);
        let mut live = self.policies.live.subscribe();
        // From here on, and not only once it is waited for: calls that come between two questions wait for the next.
        let called = self.called(peer, self.listen(peer, query.relay));
        tokio::pin!(called);
        loop {
            let Live { serial, revisions } = live.borrow_and_update().clone();
            let policy = fleet::choose(serial, &revisions, &device);
            let digest = policy.digest();
            if digest != have {
                return Ok(PolicyResponse::New { document: self.policies.sign(policy, digest) });
            }
            let changed = tokio::select! {
                changed = timeout_at(until, live.changed()) => matches!(changed, Ok(Ok(()))),
                calls = called.as_mut() => return Ok(PolicyResponse::Called { calls }),
                () = self.stop.cancelled() => false,
            };
            if !changed {
                self.contacts.touch(&peer, self.clock.unix());
                return Ok(PolicyResponse::Current);
            }
            if self.roster.epoch(&peer).is_none() {
                return Err(Failure::new(Code::Unauthorized, "the device is not enrolled here"));
            }
        }
    }

    /// Whether the device can be called to the relay from now on; the number of its question if it can.
    fn listen(&self, peer: PeerId, willing: bool) -> Option<u64> {
        let relay = self.relay.as_ref()?;
        if !willing {
            relay.turn_off(&peer);
        }
        willing.then(|| relay.listen(peer))
    }

    /// Waits until the device is called there.
    async fn called(&self, peer: PeerId, turn: Option<u64>) -> Vec<RelayCall> {
        match self.relay.as_ref().zip(turn) {
            Some((relay, turn)) => relay.called(&peer, turn).await,
            None => std::future::pending().await,
        }
    }

    fn asking(&self, peer: PeerId, seen: IpAddr, query: &PolicyQuery) -> Result<Device, Failure> {
        let named = query.at.split(',').filter(|ip| !ip.is_empty()).take(MAX_ADDRESSES).map(|ip| {
            ip.parse::<IpAddr>().map_err(|_| Failure::bad(format!("at: {ip:?} is not an address")))
        });
        let mut addresses = named.collect::<Result<Vec<_>, _>>()?;
        addresses.push(seen);
        let group = query.group.as_deref().map(str::parse).transpose();
        let group = group.map_err(|error| Failure::bad(format!("group: {error}")))?;
        Ok(Device { peer, tags: self.roster.tags(&peer), group, addresses })
    }

    /// Which policy a device has, beside the one that it should have.
    pub(crate) fn standing(&self, contact: &Contact) -> DevicePolicy {
        let Live { serial, revisions } = self.policies.live.borrow().clone();
        let chosen = fleet::choose(serial, &revisions, &contact.device);
        let have = contact.have.unwrap_or_else(|| FleetPolicy::default().digest());
        DevicePolicy {
            serial: contact.applied,
            current: have == chosen.digest() && !contact.refused,
            due: chosen.parts.iter().rev().map(due).collect(),
            refused: contact.refused,
        }
    }

    /// How many enrolled devices a policy is for.
    fn reach(&self, selector: &Selector, text: &str, percent: u8) -> Reach {
        let mut reach = Reach { devices: 0, taken: 0, unheard: 0 };
        for (peer, tags) in self.roster.all() {
            let device = match self.contacts.of(&peer) {
                Some(contact) => Device { tags, ..contact.device },
                // Where it is, and in which group, only itself can say.
                None if matches!(selector, Selector::Subnet(_) | Selector::Group(_)) => {
                    reach.unheard += 1;
                    continue;
                }
                None => Device { peer, tags, group: None, addresses: Vec::new() },
            };
            if device.is_meant(selector) {
                reach.devices += 1;
                reach.taken += u64::from(fleet::admits(&peer, selector, text, percent));
            }
        }
        reach
    }

    /// Takes away what is published for some devices: they fall back to what other policies and their own files say.
    pub(crate) async fn remove_policy(
        &self,
        request: &RemovePolicyRequest,
    ) -> Result<PolicyRevision, Failure> {
        let selector = parse(&request.selector)?;
        let live = Arc::clone(&self.policies.live.borrow().revisions);
        if live.iter().filter(|one| one.selector == selector).all(|one| one.text.is_empty()) {
            let known: BTreeSet<_> =
                live.iter().filter(|one| !one.text.is_empty()).map(|one| one.selector.to_string()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() {
                "none is published at all".to_owned()
            } else {
                format!("there are some for {known}")
            };
            return Err(Failure::new(Code::NotFound, format!("no policy holds for {selector}; {known}")));
        }
        let (text, note) = (String::new(), "removed".to_owned());
        self.published(NewPolicy { selector, percent: 100, text, note, min_serial: 0 }).await
    }

    /// Publishes a policy.
    pub(crate) async fn push_policy(&self, request: PushPolicyRequest) -> Result<PolicyRevision, Failure> {
        let PushPolicyRequest { selector, text, percent, min_serial } = request;
        let selector = parse(&selector)?;
        if percent > 100 {
            return Err(Failure::bad(format!("percent is {percent}, allowed are 0 to 100")));
        }
        if text.len() > MAX_FLEET_TEXT {
            let found = text.len();
            return Err(Failure::bad(format!("a policy of {found} bytes, allowed are {MAX_FLEET_TEXT}")));
        }
        let layer = parse_layer("policy", &text).map_err(|errors| Failure::bad(errors.to_string()))?;
        if let Some(why) = selector.left_by(&layer) {
            return Err(Failure::bad(why));
        }
        let min_serial = min_serial.unwrap_or(0);
        if min_serial > 1 << 62 {
            return Err(Failure::bad("min_serial is beyond 2^62"));
        }
        let live = Arc::clone(&self.policies.live.borrow().revisions);
        let selectors: BTreeSet<_> =
            live.iter().filter(|one| !one.text.is_empty()).map(|one| one.selector.to_string()).collect();
        if selectors.len() >= MAX_SELECTORS && !selectors.contains(&selector.to_string()) {
            let why = format!("{MAX_SELECTORS} selectors have a policy, which is as many as are allowed");
            return Err(Failure::new(Code::Conflict, why));
        }
        // The newest first; of each selector back to the one that all devices got.
        let full = live.iter().find(|one| one.selector == selector && one.percent == 100);
        if let Some(full) = full.filter(|full| percent < 100 && full.text == text) {
            let serial = full.serial;
            return Err(Failure::new(
                Code::Conflict,
                format!(
                    "policy {serial} says the same and has reached all of them; `peerage policy rollback` takes it back"
                ),
            ));
        }
        let new = NewPolicy { selector, percent, text, note: String::new(), min_serial };
        self.published(new).await
    }

    /// Publishes again what an earlier revision said.
    pub(crate) async fn roll_back_policy(
        &self,
        request: &RollbackRequest,
    ) -> Result<PolicyRevision, Failure> {
        let selector = parse(&request.selector)?;
        let history = self.policies.store.history(Some(&selector), MAX_HISTORY).await?;
        let none = |why: String| Failure::new(Code::NotFound, why);
        let newest =
            history.first().ok_or_else(|| none(format!("no policy was ever published for {selector}")))?;
        let target = match request.to {
            Some(serial) => {
                let found = history.iter().find(|one| one.revision.serial == serial);
                Some(found.ok_or_else(|| none(format!("{selector} has no serial {serial}")))?)
            }
            // What those devices hold that the newest has not reached, or held before it reached all.
            None => history
                .iter()
                .find(|one| one.revision.percent == 100 && one.revision.text != newest.revision.text),
        };
        let (text, note) = match target {
            Some(one) => (one.revision.text.clone(), format!("rolled back to {}", one.revision.serial)),
            None if newest.revision.text.is_empty() => {
                return Err(none(format!("there is nothing before what holds for {selector}")));
            }
            None => (String::new(), "rolled back to nothing".to_owned()),
        };
        self.published(NewPolicy { selector, percent: 100, text, note, min_serial: 0 }).await
    }

    async fn published(&self, new: NewPolicy) -> Result<PolicyRevision, Failure> {
        let published = self.policies.publish(new, self.clock.unix()).await?;
        let Revision { serial, selector, percent, .. } = &published.revision;
        tracing::info!(serial, %selector, percent, note = published.note, "policy published");
        let reach = self.reach(selector, &published.revision.text, *percent);
        Ok(PolicyRevision { reach: Some(reach), ..told(published, true) })
    }

    /// Revisions, newest first.
    pub(crate) async fn policy_history(&self, query: &HistoryQuery) -> Result<Vec<PolicyRevision>, Failure> {
        let selector = query.selector.as_deref().map(parse).transpose()?;
        let live: Vec<u64> =
            self.policies.live.borrow().revisions.iter().map(|revision| revision.serial).collect();
        let found = if query.all {
            self.policies.store.history(selector.as_ref(), MAX_HISTORY).await?
        } else {
            let all = self.policies.store.live().await?;
            // What was removed is history.
            let holds = |one: &Published| one.revision.percent < 100 || !one.revision.text.is_empty();
            let meant = |one: &Published| {
                holds(one) && selector.as_ref().is_none_or(|wish| *wish == one.revision.selector)
            };
            all.into_iter().filter(meant).collect()
        };
        let tell = |one: Published| {
            let is_live = live.contains(&one.revision.serial);
            told(one, is_live)
        };
        Ok(found.into_iter().map(tell).collect())
    }
}

fn parse(selector: &str) -> Result<Selector, Failure> {
    selector.parse().map_err(|error| Failure::bad(format!("selector: {error}")))
}

fn told(published: Published, live: bool) -> PolicyRevision {
    let Published { revision, created, note } = published;
    let Revision { serial, selector, percent, text } = revision;
    PolicyRevision { serial, selector: selector.to_string(), percent, text, created, note, live, reach: None }
}
