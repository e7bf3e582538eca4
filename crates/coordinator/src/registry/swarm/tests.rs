//! Tests of the room's registry swarm part.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use peerage_api::coordinator::PeerInfo;
use peerage_content::{ContentId, PeerId, Place, SecretKey};
use peerage_swarm::matching::Sites;

use super::*;
use crate::claims::reachable;
use crate::registry::{Announcer, MemoryRegistry, SwarmRegistry};
use crate::tickets::Tickets;

const CONTENT: ContentId = ContentId::from_bytes([1; 32]);
const PLACE: Place = Place { site: 3, group: None };

fn peer(n: u32) -> PeerId {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::from_bytes(key)
}

fn name(n: u32) -> Name {
    Name { peer: peer(n), hash: BuildHasherDefault::<DefaultHasher>::default().hash_one(peer(n)) }
}

/// What a device reads of a neighbour.
fn told(neighbour: &Neighbour) -> PeerInfo {
    let text = format!("{},\"scope\":\"internet\",\"seed\":{}}}", neighbour.entry, neighbour.seed);
    PeerInfo { scope: neighbour.scope, ..serde_json::from_str(&text).unwrap() }
}

/// A device at a private address of the coordinator's own network.
fn device(n: u32, ip: &str) -> Announcer {
    let (seen, sites) = (ip.parse().unwrap(), Sites::default());
    let addresses = reachable(&[std::net::SocketAddr::new(seen, 7680)], seen, &sites);
    Announcer { peer: peer(n), site: sites.site_of(seen), inside: true, group: None, addresses }
}

fn claim(seed: bool, want: usize) -> Claim {
    Claim { content: CONTENT, scopes: ScopeSet::ALL, seed, want }
}

fn announce(swarm: &mut Swarm, device: &Announcer, claim: &Claim, now: u32) -> Seat {
    let n = u32::from_be_bytes(*device.peer.as_bytes().first_chunk().unwrap());
    swarm.announce(&Arc::new(Device::new(device, name(n).hash)), claim, now)
}

#[test]
fn arrival_order_and_mutual_discovery() {
    let mut swarm = Swarm::default();
    assert_eq!(announce(&mut swarm, &device(7, "10.0.0.7"), &claim(false, 50), 0).ordinal, 0);
    let seat = announce(&mut swarm, &device(8, "10.0.0.8"), &claim(true, 50), 0);
    assert_eq!((seat.ordinal, seat.members, seat.seeds), (1, 2, 1));
    assert_eq!(seat.peers.len(), 1);
    assert_eq!(told(&seat.peers[0]).peer, peer(7));
    assert_eq!(told(&seat.peers[0]).addresses, ["10.0.0.7:7680".parse().unwrap()]);
    let again = announce(&mut swarm, &device(7, "10.0.0.7"), &claim(false, 50), 5);
    assert_eq!((again.ordinal, again.peers[0].seed), (0, true));
    assert!(announce(&mut swarm, &device(7, "10.0.0.7"), &claim(false, 0), 5).peers.is_empty());
}

#[test]
fn who_left_or_fell_silent_is_forgotten() {
    let mut swarm = Swarm::default();
    for n in 0..10 {
        announce(&mut swarm, &device(n, "10.0.0.1"), &claim(false, 0), n);
    }
    swarm.leave(&name(9));
    swarm.leave(&name(9));
    swarm.leave(&name(99));
    assert_eq!(swarm.len(), 9);
    let seat = announce(&mut swarm, &device(8, "10.0.0.1"), &claim(false, 50), 8);
    assert_eq!((seat.members, seat.peers.len()), (9, 8));
    swarm.expire(5);
    assert_eq!(swarm.len(), 4, "5, 6, 7 and 8");
    let back = announce(&mut swarm, &device(9, "10.0.0.1"), &claim(false, 50), 9);
    assert_eq!((back.ordinal, back.members), (10, 5), "a new arrival");
    assert_eq!(announce(&mut swarm, &device(5, "10.0.0.1"), &claim(false, 50), 9).ordinal, 5);
    swarm.expire(100);
    assert!(swarm.is_empty());
}

#[tokio::test]
async fn members_are_counted_anew_whenever_something_changes() {
    let registry = MemoryRegistry::new();
    let lan = |seed| Claim { scopes: ScopeSet::up_to(Scope::Lan), ..claim(seed, 0) };
    let count = async |n: u32, ip: &str, claim: Claim| {
        let seats = registry.announce(&device(n, ip), &[claim], n).await;
        (seats[0].members, seats[0].seeds)
    };
    assert_eq!(count(1, "10.0.0.1", claim(false, 0)).await, (1, 0));
    assert_eq!(count(2, "10.0.0.2", claim(true, 0)).await, (2, 1));
    for _ in 0..2 {
        assert_eq!(count(1, "10.0.0.1", claim(false, 0)).await, (2, 1));
    }
    assert_eq!(count(2, "10.0.0.2", claim(false, 0)).await, (2, 0));
    assert_eq!(count(1, "10.0.0.1", claim(false, 0)).await, (2, 0), "the other is no seed any more");
    assert_eq!(count(1, "10.0.0.1", lan(false)).await, (2, 0));
    assert_eq!(count(2, "198.51.100.2", lan(false)).await, (1, 0), "it has moved away");
    assert_eq!(count(1, "10.0.0.1", lan(false)).await, (1, 0));
    assert_eq!(count(2, "198.51.100.2", claim(false, 0)).await, (1, 0), "the other's policy is for the site");
    assert_eq!(count(1, "10.0.0.1", claim(false, 0)).await, (2, 0), "both allow the Internet");
    registry.leave(peer(2), &[CONTENT]).await;
    assert_eq!(count(1, "10.0.0.1", claim(false, 0)).await, (1, 0));
    assert_eq!(count(2, "10.0.0.2", claim(false, 0)).await, (2, 0), "it is back");
    assert_eq!(count(3, "10.0.0.3", claim(false, 0)).await, (3, 0));
    registry.expire(2).await;
    assert_eq!(count(3, "10.0.0.3", claim(false, 0)).await, (2, 0), "1 was forgotten");
}

#[test]
fn a_ticket_is_remembered_until_its_holder_is_forgotten() {
    let mut swarm = Swarm::default();
    let tickets = Tickets::new(SecretKey::from_seed(&[1; 32]));
    let stub = tickets.sign(peer(1), CONTENT, Scope::Lan, PLACE, 1000).unwrap();
    swarm.keep_ticket(&name(1), stub);
    assert!(
        announce(&mut swarm, &device(1, "10.0.0.1"), &claim(false, 0), 0).ticket.is_none(),
        "not a member then"
    );
    swarm.keep_ticket(&name(1), stub);
    assert_eq!(announce(&mut swarm, &device(1, "10.0.0.1"), &claim(true, 0), 1).ticket, Some(stub));
    swarm.expire(2);
    assert!(announce(&mut swarm, &device(1, "10.0.0.1"), &claim(true, 0), 3).ticket.is_none());
}

/// Every member stands in exactly the lists of what it is now.
fn check_circles(swarm: &Swarm) {
    let circles = swarm.circles.as_ref().expect("large enough");
    let mut expected: HashMap<Circle, BTreeSet<u32>> = HashMap::new();
    for (slot, member) in (0u32..).zip(&swarm.members) {
        for circle in circles_of(&member.party()).into_iter().flatten() {
            expected.entry(circle).or_default().insert(slot);
        }
    }
    let found: HashMap<Circle, BTreeSet<u32>> = circles
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(circle, list)| (*circle, list.iter().copied().collect()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(
        circles.values().map(Vec::len).sum::<usize>(),
        expected.values().map(BTreeSet::len).sum::<usize>()
    );
    for (slot, member) in (0u32..).zip(&swarm.members) {
        assert_eq!(swarm.find(&member.device.name), Some(slot));
    }
}

#[test]
fn a_large_swarm_keeps_its_circles_right() {
    let mut swarm = Swarm::default();
    let address = |n: u32, shift: u32| format!("10.1.{}.{}", (n + shift) % 40, n % 250);
    let group = |n: u64| std::num::NonZeroU64::new(n % 4).map(GroupKey);
    for n in 0..2000 {
        let device = Announcer { group: group(u64::from(n)), ..device(n, &address(n, 0)) };
        announce(&mut swarm, &device, &claim(n % 50 == 0, 0), n);
    }
    check_circles(&swarm);
    for n in (0..2000).step_by(7) {
        // Moves, changes its group, and completes.
        let device = Announcer { group: group(u64::from(n) + 1), ..device(n, &address(n, 3)) };
        announce(&mut swarm, &device, &claim(true, 0), 2000 + n);
    }
    check_circles(&swarm);
    (0..100).for_each(|n| swarm.leave(&name(n)));
    swarm.expire(500);
    check_circles(&swarm);

    let asker = Announcer { group: group(2), ..device(5000, "10.1.3.9") };
    let seat = announce(&mut swarm, &asker, &claim(false, 50), 3000);
    assert_eq!((seat.peers.len(), seat.members as usize), (50, swarm.len()));
    assert!(seat.peers.iter().filter(|peer| peer.seed).count() >= 10);
    let subnet = |peer: &Neighbour| told(peer).addresses[0].to_string().starts_with("10.1.3.");
    assert!(seat.peers.iter().filter(|peer| subnet(peer)).count() >= 30, "of 48 in its subnet");
    let mut met = BTreeSet::new();
    for n in 0..100 {
        let seat = announce(&mut swarm, &device(6000 + n, &address(6000 + n, 0)), &claim(false, 50), 3000);
        met.extend(seat.peers.iter().map(|peer| told(peer).peer));
    }
    assert!(met.len() > 400, "a hundred askers met only {}", met.len());
    swarm.expire(u32::MAX);
    assert!(swarm.is_empty() && swarm.circles.is_none());
}

#[test]
fn strangers_see_public_addresses_only() {
    let sites = Sites::default();
    let outside = |n: u32, seen: &str| {
        let seen = seen.parse().unwrap();
        let addresses = reachable(&["192.168.1.5:7680".parse().unwrap()], seen, &sites);
        Announcer { peer: peer(n), site: sites.site_of(seen), inside: false, group: None, addresses }
    };
    let mut swarm = Swarm::default();
    announce(&mut swarm, &outside(1, "198.51.100.1"), &claim(true, 0), 0);
    let far = announce(&mut swarm, &outside(2, "203.0.113.1"), &claim(false, 50), 0);
    assert_eq!(told(&far.peers[0]).addresses, ["198.51.100.1:7680".parse().unwrap()]);
    assert_eq!(far.peers[0].scope, Scope::Internet);
    let near = announce(&mut swarm, &outside(3, "198.51.100.1"), &claim(false, 50), 0);
    let seed = near.peers.iter().map(told).find(|p| p.peer == peer(1)).unwrap();
    assert_eq!((seed.addresses.len(), seed.scope), (2, Scope::Lan));
    let lan = Claim { scopes: ScopeSet::up_to(Scope::Lan), ..claim(false, 50) };
    let seat = announce(&mut swarm, &outside(4, "203.0.113.1"), &lan, 0);
    assert_eq!((seat.members, seat.seeds, seat.peers.len()), (2, 0, 1), "itself and its only neighbour");
}

#[tokio::test]
async fn a_device_is_described_once_and_forgotten_with_its_last_swarm() {
    let registry = MemoryRegistry::new();
    let contents: Vec<Claim> =
        (0..9).map(|n| Claim { content: ContentId::from_bytes([n; 32]), ..claim(true, 50) }).collect();
    for n in 0..5 {
        registry.announce(&device(n, "10.0.0.1"), &contents, 0).await;
    }
    assert_eq!((registry.members().await, registry.devices.len()), (45, 5));
    // It has moved, and says so in one swarm first: the others tell of it as they know it until it announces there too.
    registry.announce(&device(0, "10.0.0.9"), &contents[..1], 1).await;
    for (claim, address) in [(&contents[0], "10.0.0.9:7680"), (&contents[1], "10.0.0.1:7680")] {
        let asker = Claim { seed: false, ..*claim };
        let seats = registry.announce(&device(7, "10.0.0.7"), &[asker], 1).await;
        let found = seats[0].peers.iter().map(told).find(|found| found.peer == peer(0)).unwrap();
        assert_eq!(found.addresses, [address.parse().unwrap()]);
    }
    registry.expire(1).await;
    assert_eq!((registry.members().await, registry.devices.len()), (3, 2), "0 and 7");
    registry.expire(2).await;
    assert_eq!((registry.members().await, registry.devices.len()), (0, 0));
}

#[tokio::test]
async fn the_registry_conforms() {
    conformance(&MemoryRegistry::new()).await;
}

/// What every [`SwarmRegistry`] must do.
async fn conformance(registry: &dyn SwarmRegistry) {
    let other = Claim { content: ContentId::from_bytes([2; 32]), ..claim(true, 50) };
    let both = [claim(false, 50), other];
    let seats = registry.announce(&device(1, "10.0.0.1"), &both, 10).await;
    assert_eq!(
        seats.iter().map(|s| (s.ordinal, s.members, s.seeds)).collect::<Vec<_>>(),
        [(0, 1, 0), (0, 1, 1)]
    );
    let seats = registry.announce(&device(2, "10.0.0.2"), &both[..1], 20).await;
    assert_eq!((seats[0].ordinal, seats[0].peers.len()), (1, 1));
    assert_eq!(registry.members().await, 3);

    let stub =
        Tickets::new(SecretKey::from_seed(&[1; 32])).sign(peer(1), CONTENT, Scope::Lan, PLACE, 9).unwrap();
    registry.keep_ticket(peer(1), CONTENT, stub).await;
    registry.keep_ticket(peer(1), ContentId::from_bytes([9; 32]), stub).await;
    let seats = registry.announce(&device(1, "10.0.0.1"), &both, 21).await;
    assert_eq!((seats[0].ticket, seats[1].ticket), (Some(stub), None));

    registry.leave(peer(1), &[other.content]).await;
    assert_eq!(registry.members().await, 2);
    registry.expire(21).await;
    assert_eq!(registry.members().await, 1, "device 2 was last heard of at 20");
    registry.banish(peer(1)).await;
    assert_eq!(registry.members().await, 0);
    registry.expire(21).await;
    assert_eq!(registry.announce(&device(3, "10.0.0.3"), &both[..1], 30).await[0].ordinal, 0, "a new swarm");
}
