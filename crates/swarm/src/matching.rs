//! Peer matching: which peers a device is told of, best first. The centre chooses neighbours, the edge chooses pieces
//! (architecture §5).
//!
//! [`Sites`] turns the address a device is seen at into its [`Site`] (product §2). [`rank`] orders candidates by
//! [`Nearness`]: same subnet, same site, same group, Internet. Inside one nearness seeds and downloaders alternate, and
//! a seed value that the caller varies by asker decides who comes first, so that not everybody is sent to the same
//! peers. Invariants: never the asker, never a peer with whom no scope is allowed by both sides, never an address-less
//! peer, never more than the limit, always ascending by nearness.

mod site;

use peerage_content::{PeerId, Scope, ScopeSet};
pub use site::{Site, Sites, SitesError, Subnet, is_private};

/// Of the seats in a full answer, one in this many is kept for seeds and one in this many for downloaders, however far
/// away: fifty neighbours that have nothing yet are no help. As many are kept for downloaders in other subnets of the site:
/// a subnet that fills all seats itself would be a swarm of its own, and fetch a copy of its own.
const RESERVE: usize = 5;

/// Names a group without showing it: the caller's keyed hash of the group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupKey(pub std::num::NonZeroU64);

/// How a device can be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// It only connects out.
    #[default]
    Nowhere,
    /// At private addresses only.
    Private,
    /// At one public address at least.
    Public,
}

/// One device as matching sees it, asker or candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// Its key.
    pub peer: PeerId,
    /// Its site.
    pub site: Site,
    /// The coordinator sees it at a private address: they share an inside network.
    pub inside: bool,
    /// The subnet of its first address.
    pub subnet: Option<Subnet>,
    /// Its group.
    pub group: Option<GroupKey>,
    /// The scopes that its policy and the content's record allow.
    pub scopes: ScopeSet,
    /// It holds everything.
    pub seed: bool,
    /// How it can be connected to.
    pub reach: Reach,
}

/// How near two devices are, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nearness {
    /// One subnet of one site.
    Subnet,
    /// One site.
    Site,
    /// One group, different sites.
    Group,
    /// Nothing in common but the fleet.
    Internet,
}

/// A candidate that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Its position among the candidates.
    pub candidate: usize,
    /// The nearest scope that both sides allow.
    pub scope: Scope,
    /// How near it is.
    pub nearness: Nearness,
}

impl Party {
    /// How near `other` is.
    pub fn nearness(&self, other: &Self) -> Nearness {
        if self.site == other.site {
            // 192.168.1.0/24 exists in many sites, so a subnet means something only inside one.
            let same = self.subnet.is_some() && self.subnet == other.subnet;
            if same { Nearness::Subnet } else { Nearness::Site }
        } else if self.same_group(other) {
            Nearness::Group
        } else {
            Nearness::Internet
        }
    }

    /// The nearest scope in which both may share with each other, if any.
    pub fn common_scope(&self, other: &Self) -> Option<Scope> {
        let allowed = ScopeSet::from_bits(self.scopes.bits() & other.scopes.bits());
        let circles = [
            (Scope::Lan, self.site == other.site),
            (Scope::Group, self.same_group(other)),
            (Scope::Internet, true),
        ];
        circles
            .into_iter()
            .find(|(scope, within)| *within && allowed.contains(*scope))
            .map(|(scope, _)| scope)
    }

    fn same_group(&self, other: &Self) -> bool {
        self.group.is_some() && self.group == other.group
    }

    /// Whether `other` has an address that this device can be expected to reach. Sites of a group are often joined by
    /// private routes, strangers on the Internet never are, unless both are seen inside the coordinator's network.
    fn can_reach(&self, other: &Self, scope: Scope) -> bool {
        match other.reach {
            Reach::Nowhere => false,
            Reach::Public => true,
            Reach::Private => {
                scope != Scope::Internet || self.site == other.site || (self.inside && other.inside)
            }
        }
    }
}

/// A candidate that may be named. The order of the fields is the order inside a nearness, before seeds and downloaders take turns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pick {
    nearness: Nearness,
    seed: bool,
    spread: u64,
    candidate: usize,
    scope: Scope,
    /// Its place among all, once they have taken turns.
    turn: usize,
}

impl From<Pick> for Match {
    fn from(pick: Pick) -> Self {
        Self { candidate: pick.candidate, scope: pick.scope, nearness: pick.nearness }
    }
}

/// The candidates that `asker` is told of, best first, at most `limit`. The same `spread` gives the same answer.
pub fn rank(
    asker: &Party,
    candidates: impl IntoIterator<Item = Party>,
    limit: usize,
    spread: u64,
) -> Vec<Match> {
    let candidates = candidates.into_iter();
    let mut picks = Vec::with_capacity(candidates.size_hint().0);
    for (candidate, party) in candidates.enumerate() {
        // Two seeds have nothing to give each other.
        if party.peer == asker.peer || (asker.seed && party.seed) {
            continue;
        }
        if let Some(scope) = asker.common_scope(&party).filter(|scope| asker.can_reach(&party, *scope)) {
            let (nearness, spread) = (asker.nearness(&party), mix(spread, &party.peer));
            picks.push(Pick { nearness, seed: party.seed, spread, candidate, scope, turn: 0 });
        }
    }
    let mut picks = alternate(picks);
    if picks.len() > limit {
        for seeds in [true, false] {
            reserve(&mut picks, limit, |pick| pick.seed == seeds, |pick| pick.seed != seeds);
        }
        let downloads = |pick: &Pick, nearness| !pick.seed && pick.nearness == nearness;
        let (other, own) = (Nearness::Site, Nearness::Subnet);
        reserve(&mut picks, limit, |pick| downloads(pick, other), |pick| downloads(pick, own));
        picks.truncate(limit);
        picks.sort_unstable_by_key(|pick| pick.turn);
    }
    picks.into_iter().map(Match::from).collect()
}

/// Orders by nearness; inside one, seeds and downloaders take turns, each in the order of the spread.
fn alternate(mut picks: Vec<Pick>) -> Vec<Pick> {
    picks.sort_unstable();
    let mut ordered: Vec<Pick> = Vec::with_capacity(picks.len());
    for near in picks.chunk_by(|a, b| a.nearness == b.nearness) {
        let (downloads, seeds) = near.split_at(near.partition_point(|pick| !pick.seed));
        let pairs = seeds.len().min(downloads.len());
        ordered.extend(seeds.iter().zip(downloads).flat_map(|(seed, download)| [seed, download]));
        ordered.extend(seeds.iter().skip(pairs).chain(downloads.iter().skip(pairs)));
    }
    ordered.iter_mut().enumerate().for_each(|(turn, pick)| pick.turn = turn);
    ordered
}

/// Gives the best that are `wanted` behind `limit` the last seats before it that are `spare`, until they have their reserve.
fn reserve(picks: &mut [Pick], limit: usize, wanted: impl Fn(&Pick) -> bool, spare: impl Fn(&Pick) -> bool) {
    let (inside, behind) = picks.split_at_mut(limit);
    let have = inside.iter().filter(|pick| wanted(pick)).count();
    let lacking = (limit / RESERVE).saturating_sub(have);
    let wanted = behind.iter_mut().filter(|pick| wanted(pick));
    let spare = inside.iter_mut().rev().filter(|pick| spare(pick));
    for (out, into) in spare.zip(wanted).take(lacking) {
        std::mem::swap(out, into);
    }
}

/// Where a peer comes in the order of one asker: the finaliser of SplitMix64 over its key and the asker's value.
fn mix(spread: u64, peer: &PeerId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *peer.as_bytes();
    let mut x = spread ^ u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
