//! Tests of the room's matching part.

use std::num::NonZeroU64;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

fn peer(n: u16) -> PeerId {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&n.to_be_bytes());
    PeerId::from_bytes(key)
}

fn party(n: u16) -> Party {
    Party {
        peer: peer(n),
        site: Site::Private,
        inside: true,
        subnet: Some(Subnet::V4(1)),
        group: None,
        scopes: ScopeSet::ALL,
        seed: false,
        reach: Reach::Private,
    }
}

fn group(n: u64) -> Option<GroupKey> {
    NonZeroU64::new(n).map(GroupKey)
}

prop_compose! {
    fn any_party()(
        n in 0u16..200,
        site in prop_oneof![
            Just(Site::Private), (0u16..2).prop_map(Site::Named), (0u32..3).prop_map(Site::V4), (0u64..2).prop_map(Site::V6),
        ],
        inside in any::<bool>(),
        subnet in prop::option::of((0u32..3).prop_map(Subnet::V4)),
        grouped in 0u64..3,
        scopes in 0u8..8,
        seed in any::<bool>(),
        reach in prop_oneof![Just(Reach::Nowhere), Just(Reach::Private), Just(Reach::Public)],
    ) -> Party {
        Party { peer: peer(n), site, inside, subnet, group: group(grouped), scopes: ScopeSet::from_bits(scopes), seed, reach }
    }
}

proptest! {
    #[test]
    fn every_answer_keeps_the_invariants(
        asker in any_party(),
        candidates in prop::collection::vec(any_party(), 0..150),
        limit in 0usize..60,
        spread in any::<u64>(),
    ) {
        let found = rank(&asker, candidates.iter().copied(), limit, spread);
        prop_assert!(found.len() <= limit);
        prop_assert!(found.is_sorted_by_key(|m| m.nearness));
        let mut seen = std::collections::BTreeSet::new();
        for m in &found {
            let other = &candidates[m.candidate];
            prop_assert!(seen.insert(m.candidate), "no candidate twice");
            prop_assert!(other.peer != asker.peer);
            prop_assert!(asker.scopes.contains(m.scope) && other.scopes.contains(m.scope));
            prop_assert!(other.reach != Reach::Nowhere);
            prop_assert!(!(asker.seed && other.seed));
            match m.scope {
                Scope::Lan => prop_assert_eq!(other.site, asker.site),
                Scope::Group => prop_assert!(asker.group.is_some() && other.group == asker.group),
                Scope::Internet => {}
            }
        }
        prop_assert_eq!(&found, &rank(&asker, candidates.iter().copied(), limit, spread));
        // Nobody admissible is left out while there is room.
        let all = rank(&asker, candidates.iter().copied(), usize::MAX, spread);
        prop_assert_eq!(found.len(), all.len().min(limit));
        // No stranger takes the seat of a neighbour of its own kind; the subnets of a site are no strangers.
        let kinds = |list: &[Match], seeds: bool| -> Vec<Nearness> {
            let kind = list.iter().filter(|m| candidates[m.candidate].seed == seeds);
            kind.map(|m| m.nearness.max(Nearness::Site)).collect()
        };
        for seeds in [true, false] {
            let (some, every) = (kinds(&found, seeds), kinds(&all, seeds));
            prop_assert_eq!(&some[..], &every[..some.len()]);
        }
    }

    #[test]
    fn matching_is_mutual(a in any_party(), b in any_party()) {
        prop_assert_eq!(a.common_scope(&b), b.common_scope(&a));
        prop_assert_eq!(a.nearness(&b), b.nearness(&a));
    }

    #[test]
    fn any_address_has_one_site(bits in any::<u128>(), v4 in any::<u32>(), prefix in 16u8..=64) {
        let sites = Sites::new([], prefix).unwrap();
        let (v6, v4) = (std::net::Ipv6Addr::from_bits(bits), std::net::Ipv4Addr::from_bits(v4));
        prop_assert_eq!(sites.site_of(v4.into()), sites.site_of(v4.to_ipv6_mapped().into()));
        prop_assert_eq!(is_private(v4.into()), sites.site_of(v4.into()) == Site::Private);
        prop_assert_eq!(is_private(v6.into()), sites.site_of(v6.into()) == Site::Private);
    }
}

#[test]
fn nearest_first_and_everybody_of_a_small_swarm() {
    let asker = Party { group: group(1), ..party(0) };
    let candidates = [
        Party { site: Site::V4(9), reach: Reach::Public, ..party(1) },
        Party { site: Site::Named(0), group: group(1), ..party(2) },
        Party { subnet: Some(Subnet::V4(2)), ..party(3) },
        Party { seed: true, ..party(4) },
        party(5),
        Party { reach: Reach::Nowhere, ..party(6) },
        asker,
    ];
    let found = rank(&asker, candidates, 50, 7);
    let order: Vec<_> = found.iter().map(|m| (m.candidate, m.scope)).collect();
    let lan = Scope::Lan;
    assert_eq!(order, [(3, lan), (4, lan), (2, lan), (1, Scope::Group), (0, Scope::Internet)]);
}

#[test]
fn private_addresses_are_for_those_who_can_route_to_them() {
    let asker = Party { site: Site::V4(1), inside: false, ..party(0) };
    let far = Party { site: Site::V4(2), inside: false, ..party(1) };
    assert!(rank(&asker, [far], 50, 0).is_empty(), "a stranger's private address leads nowhere");
    assert_eq!(rank(&asker, [Party { reach: Reach::Public, ..far }], 50, 0).len(), 1);
    let (asker, far) = (Party { group: group(3), ..asker }, Party { group: group(3), ..far });
    assert_eq!(rank(&asker, [far], 50, 0).len(), 1, "sites of a group may be joined by private routes");
    let (a, b) = (Party { site: Site::Named(1), ..party(0) }, Party { site: Site::Named(2), ..party(1) });
    assert_eq!(rank(&a, [b], 50, 0)[0].scope, Scope::Internet, "both inside one network");
}

#[test]
fn large_swarms_are_spread_and_mixed() {
    let near = (1..=500).map(party);
    let far_seeds = (501..=600).map(|n| Party { site: Site::Named(3), seed: true, ..party(n) });
    let candidates: Vec<_> = near.chain(far_seeds).collect();
    let asker = party(0);
    let mut met = std::collections::BTreeSet::new();
    for spread in 0..40 {
        let found = rank(&asker, candidates.iter().copied(), 50, spread);
        let seeds = found.iter().filter(|m| candidates[m.candidate].seed).count();
        assert_eq!((found.len(), seeds), (50, 10), "a fifth of the seats is for the far seeds");
        met.extend(found.iter().map(|m| m.candidate));
    }
    assert!(met.len() > 450, "40 askers met only {} of 600", met.len());
}

#[test]
fn large_subnets_of_a_site_are_no_swarms_of_their_own() {
    let other = |n| Party { subnet: Some(Subnet::V4(2)), ..party(n) };
    let far_seeds = (401..=500).map(|n| Party { site: Site::Named(3), seed: true, ..party(n) });
    let candidates: Vec<_> = (1..=200).map(party).chain((201..=400).map(other)).chain(far_seeds).collect();
    let found = rank(&party(0), candidates.iter().copied(), 50, 7);
    let count = |nearness| found.iter().filter(|m| m.nearness == nearness).count();
    assert_eq!((count(Nearness::Subnet), count(Nearness::Site), count(Nearness::Internet)), (30, 10, 10));
}

#[test]
fn sites_by_nat_by_prefix_and_by_name() {
    let site = |sites: &Sites, ip: &str| sites.site_of(ip.parse().unwrap());
    let plain = Sites::default();
    assert_eq!(site(&plain, "10.1.2.3"), site(&plain, "127.0.9.9"));
    assert_eq!(site(&plain, "192.168.0.1"), site(&plain, "fd00::1"));
    assert_eq!(site(&plain, "100.64.0.1"), Site::Private);
    assert_ne!(site(&plain, "100.128.0.1"), Site::Private);
    assert_ne!(site(&plain, "198.51.100.1"), site(&plain, "198.51.100.2"));
    assert_eq!(site(&plain, "2001:db8:0:1::1"), site(&plain, "2001:db8:0:1:ffff::2"));
    assert_ne!(site(&plain, "2001:db8:0:1::1"), site(&plain, "2001:db8:0:2::1"));
    let wide = Sites::new([], 48).unwrap();
    assert_eq!(site(&wide, "2001:db8:0:1::1"), site(&wide, "2001:db8:0:2::1"));

    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let named = Sites::new(
        [("paris".into(), nets(&["10.1.0.0/16", "127.0.1.0/24"])), ("lab".into(), nets(&["10.1.7.0/24"]))],
        64,
    )
    .unwrap();
    assert_eq!(site(&named, "10.1.2.3"), site(&named, "127.0.1.9"));
    assert_eq!(named.name(site(&named, "10.1.7.1")), Some("lab"), "the longest prefix wins");
    assert_eq!(site(&named, "10.2.0.1"), Site::Private);
    assert!(matches!(Sites::new([], 65), Err(SitesError::Prefix { found: 65 })));
    let twice = Sites::new([("a".into(), nets(&["10.0.0.0/8"])), ("b".into(), nets(&["10.9.0.0/8"]))], 64);
    assert!(matches!(twice, Err(SitesError::Twice { .. })));
}

#[test]
fn subnet_prefers_ipv4_in_any_order() {
    let of = |list: &[&str]| Subnet::of(list.iter().map(|a| a.parse().unwrap()));
    assert_eq!(of(&["10.0.0.1:1", "[2001:db8::1]:1"]), of(&["[2001:db8::9]:1", "10.0.0.200:2"]));
    assert_ne!(of(&["10.0.0.1:1"]), of(&["10.0.1.1:1"]));
    assert_eq!(of(&["[2001:db8::1]:1"]), of(&["[2001:db8::ffff:2]:9"]));
    assert_eq!(of(&[]), None);
}
