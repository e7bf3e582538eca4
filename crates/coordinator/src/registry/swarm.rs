//! One swarm: its members, and in a large one the circles through which candidates are found.
//!
//! A small swarm is looked through as a whole. In a large one the asker's subnet, site, group and the seeds are kept as
//! lists, and only a window of each is ranked, at a place that differs from asker to asker. Invariant: a member stands in
//! exactly the lists that its present site, subnet, group and completeness name. Who leaves is only marked; slots are
//! closed up, and index and lists made anew, when members are forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;
use peerage_content::{Scope, ScopeSet};
use peerage_swarm::matching::{GroupKey, Party, Site, Subnet, rank};

use super::device::{Device, Name};
use super::{Claim, Neighbour, Seat};
use crate::tickets::Stub;

/// From this many members on circles are kept.
const LARGE: usize = 256;
/// Members of one circle that are ranked for one asker, for each peer it wants.
const WINDOW: usize = 2;

/// What a swarm knows of a device beside what is true of it everywhere.
#[derive(Debug)]
struct Member {
    device: Arc<Device>,
    heard: u32,
    ordinal: u32,
    ticket: Option<Stub>,
    scopes: ScopeSet,
    seed: bool,
    /// Has left; its place is swept with the next expiry.
    gone: bool,
    census: Census,
}

/// What a member of a small swarm was told of its size. It holds until something changes in the swarm, which between two
/// announces that only say that a device is still there is nothing.
#[derive(Debug, Clone, Copy)]
struct Census {
    /// [`Swarm::changes`] at that time.
    at: u32,
    members: u8,
    seeds: u8,
}

// Product §9: at most 200 bytes a member, of which 5 to 10 are the index and a twelfth is room to grow.
const _: () = assert!(size_of::<Member>() <= 104);

impl Member {
    fn party(&self) -> Party {
        Party { scopes: self.scopes, seed: self.seed, ..self.device.party }
    }
}

/// Members with something in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Circle {
    Subnet(Site, Subnet),
    Site(Site),
    SiteSeeds(Site),
    Group(GroupKey),
    GroupSeeds(GroupKey),
    Seeds,
}

type Circles = HashMap<Circle, Vec<u32>>;

/// The members of one content's swarm.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    members: Vec<Member>,
    index: HashTable<u32>,
    next_ordinal: u32,
    gone: usize,
    /// Counts whatever could make a member's census another one.
    changes: u32,
    circles: Option<Circles>,
}

impl Swarm {
    pub(super) fn len(&self) -> usize {
        self.members.len() - self.gone
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that a device is here, and finds its peers.
    pub(super) fn announce(&mut self, device: &Arc<Device>, claim: &Claim, now: u32) -> Seat {
        let slot = self.enter(device, claim, now);
        let (members, seeds) = self.census(slot);
        let Some(member) = self.members.get(slot as usize) else {
            return Seat { ordinal: 0, members: 0, seeds: 0, ticket: None, peers: Vec::new() };
        };
        let peers = if claim.want == 0 {
            Vec::new()
        } else {
            self.peers(&member.party(), claim.want, device.name.hash)
        };
        Seat { ordinal: member.ordinal, members, seeds, ticket: member.ticket, peers }
    }

    fn enter(&mut self, device: &Arc<Device>, claim: &Claim, now: u32) -> u32 {
        let known = self.find(&device.name);
        let slot = match known {
            Some(slot) => slot,
            None => self.add(device, claim),
        };
        let Some(member) = self.members.get_mut(slot as usize) else { return slot };
        let back = std::mem::take(&mut member.gone);
        if back {
            self.gone -= 1;
        }
        let before = known.filter(|_| self.circles.is_some()).map(|_| member.party());
        member.heard = now;
        let same =
            Arc::ptr_eq(&member.device, device) && (member.scopes, member.seed) == (claim.scopes, claim.seed);
        if known.is_some() && same && !back {
            return slot;
        }
        self.changes = self.changes.wrapping_add(1);
        (member.scopes, member.seed) = (claim.scopes, claim.seed);
        member.device = Arc::clone(device);
        match &mut self.circles {
            Some(circles) => {
                let after = member.party();
                if before != Some(after) {
                    let before = before.map_or([None; 6], |party| circles_of(&party));
                    move_between(circles, slot, before, circles_of(&after));
                }
            }
            None => self.draw_circles(),
        }
        slot
    }

    fn add(&mut self, device: &Arc<Device>, claim: &Claim) -> u32 {
        let slot = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        if self.members.len() == self.members.capacity() {
            // Doubling would leave half of a large swarm's memory empty.
            self.members.reserve_exact((self.members.len() / 8).max(4));
        }
        self.members.push(Member {
            device: Arc::clone(device),
            heard: 0,
            ordinal: self.next_ordinal,
            ticket: None,
            scopes: claim.scopes,
            seed: claim.seed,
            gone: false,
            census: Census { at: self.changes, members: 0, seeds: 0 },
        });
        self.next_ordinal = self.next_ordinal.wrapping_add(1);
        let members = &self.members;
        self.index.insert_unique(device.name.hash, slot, |slot| hash_of(members, *slot));
        slot
    }

    fn find(&self, name: &Name) -> Option<u32> {
        let is =
            |slot: &u32| self.members.get(*slot as usize).is_some_and(|member| member.device.name == *name);
        self.index.find(name.hash, is).copied()
    }

    fn member_mut(&mut self, name: &Name) -> Option<&mut Member> {
        let slot = self.find(name)?;
        self.members.get_mut(slot as usize)
    }

    /// The device has left. Its ordinal waits for it until the next expiry.
    pub(super) fn leave(&mut self, name: &Name) {
        if self.member_mut(name).is_some_and(|member| !std::mem::replace(&mut member.gone, true)) {
            self.gone += 1;
            self.changes = self.changes.wrapping_add(1);
        }
    }

    pub(super) fn keep_ticket(&mut self, name: &Name, ticket: Stub) {
        if let Some(member) = self.member_mut(name) {
            member.ticket = Some(ticket);
        }
    }

    /// Forgets who has left and who was not heard of since `before`.
    pub(super) fn expire(&mut self, before: u32) {
        let stays = |member: &Member| !member.gone && member.heard >= before;
        if self.members.iter().all(stays) {
            return;
        }
        self.members.retain(stays);
        self.gone = 0;
        self.changes = self.changes.wrapping_add(1);
        if self.members.capacity() > 2 * self.members.len() {
            self.members.shrink_to_fit();
        }
        self.index.clear();
        let members = &self.members;
        let hash = |slot: &u32| hash_of(members, *slot);
        self.index.shrink_to(members.len(), hash);
        for slot in 0..u32::try_from(members.len()).unwrap_or(u32::MAX) {
            self.index.insert_unique(hash(&slot), slot, hash);
        }
        self.circles = None;
        self.draw_circles();
    }

    fn draw_circles(&mut self) {
        if self.circles.is_some() || self.members.len() < LARGE {
            return;
        }
        let mut circles = Circles::new();
        for (slot, member) in (0u32..).zip(&self.members) {
            move_between(&mut circles, slot, [None; 6], circles_of(&member.party()));
        }
        self.circles = Some(circles);
    }

    /// Members and seeds in the asker's scopes.
    fn census(&mut self, asker: u32) -> (u32, u32) {
        let Some(member) = self.members.get(asker as usize) else { return (0, 0) };
        if let Some(circles) = &self.circles {
            return self.estimate(circles, member);
        }
        let mut census = member.census;
        if census.at != self.changes {
            let near = self.members.iter().filter(|other| !other.gone && shares(other, member));
            // Small swarms have no more members than fit.
            let (members, seeds) = near
                .fold((0u8, 0u8), |(m, s), other| (m.saturating_add(1), s.saturating_add(other.seed.into())));
            census = Census { at: self.changes, members, seeds };
        }
        if let Some(member) = self.members.get_mut(asker as usize) {
            member.census = census;
        }
        (census.members.into(), census.seeds.into())
    }

    /// The same in a large swarm.
    fn estimate(&self, circles: &Circles, asker: &Member) -> (u32, u32) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let size = |circle| circles.get(&circle).map_or(0, Vec::len);
        if asker.scopes.contains(Scope::Internet) {
            return (count(self.len()), count(size(Circle::Seeds).min(self.len())));
        }
        let device = &asker.device.party;
        let group = device.group.filter(|_| asker.scopes.contains(Scope::Group));
        let site = (size(Circle::Site(device.site)), size(Circle::SiteSeeds(device.site)));
        let group = group.map_or((0, 0), |g| (size(Circle::Group(g)), size(Circle::GroupSeeds(g))));
        let members = site.0.max(group.0).min(self.len());
        (count(members), count(site.1.max(group.1).min(members)))
    }

    /// Whether `asker` may be told of `other`, as of a device of another site.
    pub(super) fn introduces(&self, asker: &Name, other: &Name) -> bool {
        let party = |name: &Name| {
            let slot = self.find(name)?;
            self.members.get(slot as usize).filter(|member| !member.gone).map(Member::party)
        };
        let Some((asker, other)) = party(asker).zip(party(other)) else { return false };
        rank(&asker, [other], 1, 0).iter().any(|found| found.scope != Scope::Lan && asker.site != other.site)
    }

    fn peers(&self, asker: &Party, want: usize, spread: u64) -> Vec<Neighbour> {
        let candidates: Vec<&Member> = match &self.circles {
            None => self.members.iter().filter(|member| !member.gone).collect(),
            Some(circles) => self.windows(circles, asker, want * WINDOW, spread),
        };
        let ranked = rank(asker, candidates.iter().map(|member| member.party()), want, spread);
        ranked
            .into_iter()
            .filter_map(|found| {
                let member = candidates.get(found.candidate)?;
                let device = &*member.device;
                let strangers = found.scope == Scope::Internet
                    && device.party.site != asker.site
                    && !(asker.inside && device.party.inside);
                let entry = if strangers { &device.entry_for_strangers } else { &device.entry };
                Some(Neighbour { entry: Arc::clone(entry), scope: found.scope, seed: member.seed })
            })
            .collect()
    }

    fn windows(&self, circles: &Circles, asker: &Party, size: usize, spread: u64) -> Vec<&Member> {
        let mut names = Vec::with_capacity(6);
        names.extend(asker.subnet.map(|subnet| Circle::Subnet(asker.site, subnet)));
        names.extend([Circle::Site(asker.site), Circle::SiteSeeds(asker.site), Circle::Seeds]);
        names.extend(asker.group.into_iter().flat_map(|g| [Circle::Group(g), Circle::GroupSeeds(g)]));
        let mut slots = Vec::with_capacity(size * 7);
        for list in names.iter().filter_map(|name| circles.get(name)) {
            slots.extend(window(list.len(), size, spread).filter_map(|at| list.get(at).copied()));
        }
        slots.extend(window(self.members.len(), size, spread).filter_map(|at| u32::try_from(at).ok()));
        slots.sort_unstable();
        slots.dedup();
        let members = slots.into_iter().filter_map(|slot| self.members.get(slot as usize));
        members.filter(|member| !member.gone).collect()
    }
}

fn hash_of(members: &[Member], slot: u32) -> u64 {
    members.get(slot as usize).map_or(0, |member| member.device.name.hash)
}

/// Whether the asker is in a scope with `member` that both allow; a device always is with itself.
fn shares(member: &Member, asker: &Member) -> bool {
    let both = ScopeSet::from_bits(member.scopes.bits() & asker.scopes.bits());
    // Most swarms are within this already, and nothing of the devices is looked at.
    if both.contains(Scope::Internet) {
        return true;
    }
    let (one, other) = (&member.device.party, &asker.device.party);
    let site = both.contains(Scope::Lan) && one.site == other.site;
    let group = both.contains(Scope::Group) && one.group.is_some() && one.group == other.group;
    site || group || one.peer == other.peer
}

/// `size` positions of a list of `len`, from a place that `spread` decides, wrapping around.
fn window(len: usize, size: usize, spread: u64) -> impl Iterator<Item = usize> {
    let start = if len == 0 { 0 } else { (spread % len as u64) as usize };
    (start..start + size.min(len)).map(move |at| at % len)
}

fn circles_of(party: &Party) -> [Option<Circle>; 6] {
    let site = party.site;
    [
        Some(Circle::Site(site)),
        party.subnet.map(|subnet| Circle::Subnet(site, subnet)),
        party.group.map(Circle::Group),
        party.seed.then_some(Circle::Seeds),
        party.seed.then_some(Circle::SiteSeeds(site)),
        party.group.filter(|_| party.seed).map(Circle::GroupSeeds),
    ]
}

fn move_between(circles: &mut Circles, slot: u32, from: [Option<Circle>; 6], to: [Option<Circle>; 6]) {
    for left in from.iter().filter(|circle| !to.contains(circle)).flatten() {
        if let Some(list) = circles.get_mut(left)
            && let Some(at) = list.iter().position(|known| *known == slot)
        {
            list.swap_remove(at);
        }
    }
    for entered in to.iter().filter(|circle| !from.contains(circle)).flatten() {
        circles.entry(*entered).or_default().push(slot);
    }
}

#[cfg(test)]
mod tests;
