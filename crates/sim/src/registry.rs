//! The coordinator's list of who is in the swarm: the answers come from the engine's own matching, and finding the
//! candidates costs the same however many devices there are.

use std::num::NonZeroU64;

use peerage_content::{PeerId, Scope, ScopeSet};
use peerage_swarm::SourceKind;
use peerage_swarm::matching::{GroupKey, Match, Party, Reach, Site, Subnet, rank};

/// Peers in one answer.
const MAX_CANDIDATES: usize = 50;
/// Members of a site, and of the whole swarm, that an answer is chosen from.
const WINDOW: usize = 4 * MAX_CANDIDATES;

#[derive(Debug, Clone, Copy)]
struct Member {
    site: usize,
    subnet: u32,
    in_site: usize,
    in_all: usize,
    seed: bool,
}

/// Devices that have announced and are on.
#[derive(Debug)]
pub(crate) struct Registry {
    /// What devices of other sites are to each other; `None`: nothing.
    far: Option<SourceKind>,
    members: Vec<Option<Member>>,
    sites: Vec<Vec<usize>>,
    all: Vec<usize>,
    /// Members that do not have everything, by site and in all.
    site_downloaders: Vec<u32>,
    downloaders: u32,
}

impl Registry {
    pub(crate) fn new(devices: usize, sites: usize, far: Option<SourceKind>) -> Self {
        Self {
            far,
            members: vec![None; devices],
            sites: vec![Vec::new(); sites],
            all: Vec::new(),
            site_downloaders: vec![0; sites],
            downloaders: 0,
        }
    }

    /// Device `at`, of this subnet of `site`, has announced.
    pub(crate) fn enter(&mut self, at: usize, site: usize, subnet: u32, seed: bool) {
        self.leave(at);
        let (in_site, in_all) = (self.sites[site].len(), self.all.len());
        self.sites[site].push(at);
        self.all.push(at);
        self.members[at] = Some(Member { site, subnet, in_site, in_all, seed });
        self.count(site, seed, 1);
    }

    /// It is gone.
    pub(crate) fn leave(&mut self, at: usize) {
        let Some(member) = self.members[at].take() else { return };
        self.sites[member.site].swap_remove(member.in_site);
        if let Some(moved) = self.sites[member.site].get(member.in_site).copied() {
            self.members[moved].iter_mut().for_each(|moved| moved.in_site = member.in_site);
        }
        self.all.swap_remove(member.in_all);
        if let Some(moved) = self.all.get(member.in_all).copied() {
            self.members[moved].iter_mut().for_each(|moved| moved.in_all = member.in_all);
        }
        self.count(member.site, member.seed, -1);
    }

    fn count(&mut self, site: usize, seed: bool, change: i32) {
        let change = if seed { 0 } else { change };
        self.downloaders = self.downloaders.saturating_add_signed(change);
        self.site_downloaders[site] = self.site_downloaders[site].saturating_add_signed(change);
    }

    /// Other members in the circle of member `at` that download.
    pub(crate) fn downloaders(&self, at: usize) -> u32 {
        let Some(member) = self.members[at] else { return 0 };
        let all = if self.far.is_some() { self.downloaders } else { self.site_downloaders[member.site] };
        all - u32::from(!member.seed)
    }

    /// The members that `at` is told of, best first, and whether each has everything.
    pub(crate) fn answer(&self, at: usize, id: impl Fn(usize) -> PeerId, spread: u64) -> Vec<(usize, bool)> {
        let Some(own) = self.members[at] else { return Vec::new() };
        let mut candidates = window(&self.sites[own.site], spread);
        if self.far.is_some() {
            candidates.extend(window(&self.all, spread));
            candidates.sort_unstable();
            candidates.dedup();
        }
        let parties = candidates.iter().filter_map(|at| {
            let member = self.members[*at]?;
            Some(self.party(&member, id(*at)))
        });
        let matches: Vec<Match> = rank(&self.party(&own, id(at)), parties, MAX_CANDIDATES, spread);
        let found = matches.into_iter().filter_map(|found| candidates.get(found.candidate).copied());
        found.map(|other| (other, self.members[other].is_some_and(|member| member.seed))).collect()
    }

    fn party(&self, member: &Member, peer: PeerId) -> Party {
        let scopes = match self.far {
            None => ScopeSet::up_to(Scope::Lan),
            Some(SourceKind::Group) => ScopeSet::up_to(Scope::Group),
            Some(_) => ScopeSet::ALL,
        };
        let group = (self.far == Some(SourceKind::Group)).then_some(GroupKey(NonZeroU64::MIN));
        let site = Site::V4(member.site as u32);
        let (inside, subnet, reach) = (false, Some(Subnet::V4(member.subnet)), Reach::Public);
        Party { peer, site, inside, subnet, group, scopes, seed: member.seed, reach }
    }
}

/// Members of a list from a place that `spread` decides, wrapping around.
fn window(list: &[usize], spread: u64) -> Vec<usize> {
    let start = if list.is_empty() { 0 } else { (spread % list.len() as u64) as usize };
    list.iter().cycle().skip(start).take(WINDOW.min(list.len())).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(at: usize) -> PeerId {
        PeerId::from_bytes([at as u8; 32])
    }

    #[test]
    fn a_site_alone_or_a_group_of_sites() {
        for (far, told) in [(None, vec![2, 4]), (Some(SourceKind::Group), vec![1, 2, 3, 4, 5])] {
            let mut registry = Registry::new(6, 2, far);
            (0..6).for_each(|at| registry.enter(at, at % 2, 0, at == 4));
            let mut found: Vec<usize> = registry.answer(0, id, 7).into_iter().map(|(at, _)| at).collect();
            // Neighbours come first.
            assert!(found[..2].iter().all(|at| at % 2 == 0), "{found:?}");
            found.sort_unstable();
            assert_eq!(found, told);
            assert_eq!(registry.downloaders(0), told.len() as u32 - 1);
            registry.leave(2);
            registry.leave(2);
            assert_eq!(registry.downloaders(0), told.len() as u32 - 2);
            assert_eq!(registry.answer(0, id, 7).len(), told.len() - 1);
        }
    }
}
