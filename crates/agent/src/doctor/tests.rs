//! What is said of which sight.

use peerage_api::doctor::{
    CacheState, ConnectedCache, CoordinatorState, DeviceState, DiscoveryState, GroupState, Peering,
    PolicyState, PortState, ProxyBy, ProxyState, Rangeless,
};

use super::*;

/// A device with nothing amiss.
fn healthy() -> Checkup {
    let admits = Because {
        code: "mode_admits".into(),
        sentence: "peers of the same site may be used (download_mode, from default)".into(),
        ..Because::default()
    };
    let at = "127.0.0.1:7680".parse().unwrap();
    Checkup {
        version: "0.1.0".into(),
        policy: PolicyState { set: 2, ..PolicyState::default() },
        coordinator: CoordinatorState { url: Some("https://c:7690".into()), used: true, trouble: None },
        peering: Peering {
            mode: "lan".into(),
            fetch: true,
            serve: true,
            needed_ram: 4_000_000_000,
            needed_volume: 32_000_000_000,
            because: vec![admits],
        },
        installed_ram: Some(16_000_000_000),
        cache: CacheState {
            stays: None,
            directory: "/var/cache/peerage".into(),
            capacity: Some(100_000_000_000),
            free: Some(61_000_000_000),
            trouble: None,
        },
        port: PortState { configured: at, listening: Some(at), wanted: true, trouble: None },
        discovery: DiscoveryState { running: true, neighbours: 3, ..DiscoveryState::default() },
        group: GroupState::default(),
        proxy: ProxyState::default(),
        rangeless: Vec::new(),
        caches: Vec::new(),
        device: DeviceState {
            networks: vec!["eth0".into()],
            metered: Some(false),
            on_battery: Some(false),
            ..DeviceState::default()
        },
    }
}

fn seen(checkup: Checkup) -> Sight {
    Sight { socket: "/run/p.sock".into(), agent: Ok(checkup), port: Some(Ok(())), local: None }
}

/// The findings that do not pass: check, level, all that is said.
fn amiss(sight: &Sight) -> Vec<(&'static str, Level, String)> {
    let found = examine(sight, &Section::ALL).into_iter().filter(|finding| finding.level > Level::Pass);
    let told = found.map(|Finding { check, level, sentences, remedies, .. }| {
        assert!(!remedies.is_empty() || check == "peering", "{check} does not say what to do");
        (check, level, [sentences, remedies].concat().join(" / "))
    });
    told.collect()
}

/// What a change of the healthy device makes amiss.
fn after(change: impl FnOnce(&mut Checkup)) -> Vec<(&'static str, Level, String)> {
    let mut checkup = healthy();
    change(&mut checkup);
    amiss(&seen(checkup))
}

fn because(code: &str) -> Because {
    Because {
        code: code.into(),
        sentence: format!("it is so for {code}"),
        remedy: Some(format!("mend {code}")),
        ..Because::default()
    }
}

#[test]
fn a_healthy_device_passes_everything() {
    let sight = seen(healthy());
    assert_eq!(amiss(&sight), []);
    let names: Vec<_> = examine(&sight, &[Section::Peers]).iter().map(|finding| finding.check).collect();
    let all = ["download mode", "memory", "disk size", "VPN", "power", "port", "local discovery", "peering"];
    assert_eq!(names, all, "a device of no group says nothing of it");
    let mode = &examine(&sight, &[Section::Peers])[0];
    assert_eq!(mode.sentences, ["lan: peers of the same site may be used"]);
}

#[test]
fn each_trouble_is_one_finding_with_a_remedy() {
    let one = |found: Vec<(&'static str, Level, String)>, check: &str, level: Level, says: &str| {
        assert_eq!(found.len(), 1, "{found:?}");
        let (found, its_level, text) = &found[0];
        assert_eq!((*found, *its_level), (check, level), "{text}");
        assert!(text.contains(says), "{text:?} does not say {says:?}");
    };
    use Level::{Fail, Warn};
    one(after(|it| it.policy.files = Some("p.toml: bad".into())), "policy", Fail, "p.toml: bad");
    one(after(|it| it.policy.fleet = Some("bad signature".into())), "policy", Fail, "policy push");
    one(after(|it| it.coordinator.url = None), "coordinator", Fail, "peerage enroll");
    one(after(|it| it.coordinator.trouble = Some("refused".into())), "coordinator", Fail, "refused");
    one(after(|it| it.cache.trouble = Some("read-only".into())), "cache", Fail, "modify_cache_drive");
    one(after(|it| it.cache.free = Some(4_000_000_000)), "disk space", Warn, "4 GB of 100 GB");
    one(after(|it| it.device.networks.clear()), "network", Fail, "connect");
    one(after(|it| it.peering.because.push(because("download_metered"))), "metered", Warn, "mend");
    one(after(|it| it.proxy.failed = vec!["http://p:1".into()]), "proxy", Warn, "http://p:1");
    one(after(|it| it.proxy.refused = vec!["http://p:1".into()]), "proxy", Fail, "http://p:1 answers 407");
    one(after(|it| it.peering.because.push(because("on_vpn"))), "VPN", Warn, "mend on_vpn");
    one(after(|it| it.peering.because.push(because("no_group"))), "group", Warn, "mend no_group");
    one(after(|it| it.peering.because.push(because("no_local_discovery"))), "local discovery", Warn, "mend");
    let lone = |it: &mut Checkup| {
        (it.discovery.trouble, it.discovery.remedy) = (Some("no key".into()), Some("join".into()));
    };
    one(after(lone), "local discovery", Warn, "no key / join");
    let closed = |it: &mut Checkup| (it.port.listening, it.port.trouble) = (None, Some("in use".into()));
    one(after(closed), "port", Fail, "in use");
    one(after(|it| it.port.listening = None), "port", Warn, "about to be");
    let host = Rangeless { host: "o.example:80".into(), seen: 1 };
    one(
        after(|it| it.rangeless.push(host.clone())),
        "ranges",
        Warn,
        "the origin ignores Range at o.example:80",
    );
    let found = after(|it| {
        it.rangeless.push(host);
        (it.proxy.by, it.proxy.proxies) = (ProxyBy::Configuration, vec!["http://p:1".into()]);
    });
    one(found, "ranges", Warn, "or the proxy");
    let cache = ConnectedCache {
        host: "c1:80".into(),
        out_of_use: Some(290),
        origin: Some("o.example:80".into()),
        why: Some("it answers 404".into()),
    };
    let says = "c1:80 is left alone for 290 s for files of o.example:80: it answers 404";
    one(after(|it| it.caches.push(cache)), "connected caches", Warn, says);
    let none = |it: &mut Checkup| it.peering.because.push(because("no_cache_from_dhcp"));
    one(after(none), "connected caches", Warn, "mend no_cache_from_dhcp");
}

#[test]
fn what_limits_rates_and_forbids_no_peer_is_told_and_not_to_be_mended() {
    let found = after(|it| {
        it.peering.serve = false;
        it.peering.because.extend([because("on_battery"), because("hours_shared")]);
    });
    assert_eq!(found.iter().map(|(check, ..)| *check).collect::<Vec<_>>(), ["power", "peering"]);
    assert!(found[1].2.contains("it is so for hours_shared") && !found[1].2.contains("mend"), "{found:?}");
}

#[test]
fn what_rules_out_peers_fails_and_what_passes_by_warns() {
    let without = |code: &str| {
        after(|it| {
            (it.peering.fetch, it.peering.serve, it.port.wanted, it.port.listening) =
                (false, false, false, None);
            it.peering.because = vec![because(code)];
            it.discovery.trouble = Some("policy does not let peers be found that way now".into());
        })
    };
    for (code, check, level) in [
        ("simple", "download mode", Level::Fail),
        ("http_only", "download mode", Level::Fail),
        ("bypass_refused", "download mode", Level::Fail),
        ("ram_below_minimum", "memory", Level::Fail),
        ("disk_below_minimum", "disk size", Level::Fail),
        ("on_vpn", "VPN", Level::Warn),
        ("peers_metered", "metered", Level::Warn),
    ] {
        let found = without(code);
        let levels: Vec<_> = found.iter().map(|(check, level, _)| (*check, *level)).collect();
        assert_eq!(levels, [(check, level), ("peering", Level::Warn)], "{found:?}");
        assert!(found[0].2.contains(&format!("mend {code}")) && !found[1].2.contains(code), "{found:?}");
    }
    // On battery it still gets files; what no check of its own tells is told at the end.
    let found = after(|it| {
        it.peering.serve = false;
        it.peering.because.extend(["on_battery", "upload_limited", "month_spent"].map(because));
    });
    assert_eq!(found.iter().map(|(check, ..)| *check).collect::<Vec<_>>(), ["power", "peering"]);
    assert!(
        found[1].2.ends_with(
            "serves none now, being on battery / it is so for upload_limited / it is so for month_spent / mend month_spent"
        ),
        "no other cap is to be raised: {found:?}"
    );
}

#[test]
fn a_mode_without_coordinator_misses_none() {
    let found = after(|it| it.coordinator = CoordinatorState { url: None, used: false, trouble: None });
    assert_eq!(found, []);
}

#[test]
fn a_port_that_this_device_cannot_reach_fails() {
    let sight = Sight { port: Some(Err("no answer within 3 s".into())), ..seen(healthy()) };
    let found = amiss(&sight);
    assert!(found.len() == 1 && found[0].1 == Level::Fail && found[0].2.contains("firewall"), "{found:?}");
}

#[test]
fn ways_to_the_origin_are_told() {
    let told = |proxy: ProxyState| {
        let mut checkup = healthy();
        checkup.proxy = proxy;
        let found = examine(&seen(checkup), &[Section::Health]);
        let proxy = found.into_iter().find(|finding| finding.check == "proxy").unwrap();
        (proxy.level, proxy.sentences.join(" "))
    };
    let script = |by, script: Option<&str>, trouble: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        told(ProxyState { by, script: own(script), trouble: own(trouble), ..ProxyState::default() })
    };
    use ProxyBy::{Discovery, Environment, Script};
    assert_eq!(told(ProxyState::default()), (Level::Pass, "none; origins are reached straight".into()));
    let proxies = vec!["http://p:3128".to_owned()];
    let (level, text) = told(ProxyState { by: Environment, proxies, ..ProxyState::default() });
    assert_eq!((level, text.as_str()), (Level::Pass, "http://p:3128, from the environment"));
    let (level, text) = script(Discovery, Some("http://wpad.c.example./wpad.dat"), None);
    assert!(level == Level::Pass && text.contains("the network's script http://wpad"), "{text}");
    let (level, text) = script(Discovery, None, Some("DHCP gives no option 252"));
    assert!(level == Level::Warn && text.contains("straight: DHCP gives"), "{text}");
    let (level, text) = script(Script, Some("/p.pac"), Some("it failed"));
    assert!(level == Level::Warn && text.contains("it failed"), "{text}");
    assert_eq!(script(Script, None, None).0, Level::Pass);
}

#[test]
fn without_an_agent_what_can_be_seen_is_judged() {
    let local = Local {
        configuration: Ok(None),
        policy: Err("policy.toml: unknown key".into()),
        directories: vec![Directory {
            what: "cache directory",
            path: "/c".into(),
            trouble: Some("may not be written by this user".into()),
        }],
        cache_dir: "/c".into(),
        volume: Some((100, 1)),
        listen: "[::]:7680".parse().unwrap(),
        port: Err("in use".into()),
    };
    let sight =
        Sight { socket: "/s".into(), agent: Err("no such file".into()), port: None, local: Some(local) };
    let found: Vec<_> = amiss(&sight).into_iter().map(|(check, level, _)| (check, level)).collect();
    use Level::{Fail, Warn};
    let expected =
        [("agent", Fail), ("policy", Fail), ("directories", Fail), ("disk space", Warn), ("port", Warn)];
    assert_eq!(found, expected);
    // An agent that answers something else than expected: nothing more is known.
    let odd = Sight { local: None, ..sight };
    assert_eq!(amiss(&odd).len(), 1);
}
