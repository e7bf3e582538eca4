//! The decision, case by case; in [`stricter`] that no setting made stricter ever allows more, in [`told`] that every one that
//! bites is told of.

mod stricter;
mod told;

use peerage_content::{ContentId, Sha256, Validators};

use super::*;
use crate::units::{GB, KB, MB};
use crate::{Interface, InterfaceAddress, Layers, LinkKind, Power, Provider, Volume, parse_layer};

const NOW: u64 = 1_800_000_000;

fn settings(toml: &str) -> Settings {
    let mut layers = Layers::default();
    layers.replace(Provider::Policy, parse_layer("policy.toml", toml).unwrap_or_else(|e| panic!("{e}")));
    layers.settings()
}

fn record_of(size: u64, scopes: ScopeSet) -> ContentRecord {
    ContentRecord {
        id: ContentId::from_bytes([1; 32]),
        size,
        sha256: Sha256::from_bytes([2; 32]),
        urls: vec!["http://origin.example/a".into()],
        validators: Validators::default(),
        scopes,
        not_before: NOW - 1000,
        not_after: NOW + 1000,
        serial: 1,
    }
}

fn good_facts() -> Facts {
    let volume = Volume { capacity: 500 * GB, free: 100 * GB };
    Facts { installed_ram: Some(16 * GB), cache_volume: Some(volume), ..Facts::default() }
}

/// Scopes as text: `lgi`.
fn scopes(set: ScopeSet) -> String {
    let all = [(Scope::Lan, 'l'), (Scope::Group, 'g'), (Scope::Internet, 'i')];
    all.into_iter().filter(|(scope, _)| set.contains(*scope)).map(|(_, letter)| letter).collect()
}

/// The decision about a content of 1 GB with a good record on a good device.
fn decided(toml: &str) -> Decision {
    let record = record_of(GB, ScopeSet::ALL);
    let content = ContentFacts {
        class: Class::Background,
        record: RecordState::Held(&record),
        size: None,
        origin: OriginUrl::Clear,
    };
    decide(&settings(toml), &good_facts(), &content, NOW)
}

fn codes(decision: &Decision) -> Vec<&'static str> {
    decision.reasons.iter().map(|reason| reason.code.name()).collect()
}

#[test]
fn modes() {
    let guid = "group_id = '8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11'\n";
    for (mode, group, coordinator, allowed, reasons) in [
        ("0", "", true, "", &["http_only"][..]),
        ("1", "", true, "l", &["mode_admits"]),
        ("1", guid, true, "l", &["mode_admits"]),
        ("2", guid, true, "lg", &["mode_admits"]),
        ("2", "", true, "l", &["mode_admits", "no_group"]),
        ("3", guid, true, "lgi", &["mode_admits"]),
        ("3", "", true, "li", &["mode_admits", "no_group"]),
        ("99", guid, false, "", &["simple"]),
        ("100", guid, false, "", &["bypass_refused"]),
    ] {
        let decision = decided(&format!("{group}download_mode = {mode}"));
        assert_eq!(scopes(decision.allowed.fetch), allowed, "mode {mode}");
        assert_eq!(scopes(decision.allowed.serve), allowed, "mode {mode}");
        assert_eq!(
            (decision.allowed.coordinator, codes(&decision)),
            (coordinator, reasons.to_vec()),
            "mode {mode}"
        );
        assert_eq!(decision.peers(), !allowed.is_empty());
        assert_eq!(decision.reasons[0].setting, Some(Key::DownloadMode));
        assert_eq!(decision.reasons[0].provider, Some(Provider::Policy));
    }
    assert!(decided("download_mode = 100").reasons[0].sentence().contains("treated as simple"));
}

#[test]
fn device_minima_are_inclusive_and_unknown_facts_forbid_nothing() {
    let volume = |capacity| Some(Volume { capacity, free: 0 });
    let settings = Settings::default();
    for (ram, disk, reasons) in [
        (Some(4 * GB), volume(32 * GB), &["mode_admits"][..]),
        (Some(4 * GB - 1), volume(32 * GB), &["mode_admits", "ram_below_minimum"]),
        (Some(4 * GB), volume(32 * GB - 1), &["mode_admits", "disk_below_minimum"]),
        (Some(0), volume(0), &["mode_admits", "ram_below_minimum", "disk_below_minimum"]),
        (None, None, &["mode_admits"]),
    ] {
        let facts = Facts { installed_ram: ram, cache_volume: disk, ..Facts::default() };
        let decision = decide_device(&settings, &facts, NOW);
        assert_eq!((codes(&decision), decision.peers()), (reasons.to_vec(), reasons.len() == 1));
        assert!(decision.allowed.coordinator, "records stay useful without peers");
    }
}

#[test]
fn records() {
    let all = record_of(GB, ScopeSet::ALL);
    let lan = record_of(GB, ScopeSet::up_to(Scope::Lan));
    let none = record_of(GB, ScopeSet::NONE);
    let old = ContentRecord { not_after: NOW - 1, ..all.clone() };
    let future = ContentRecord { not_before: NOW + 301, ..all.clone() };
    let settings = settings("download_mode = 3");
    for (record, allowed, reason) in [
        (RecordState::Held(&all), "li", ""),
        (RecordState::Held(&lan), "l", "record_narrows"),
        (RecordState::Held(&none), "", "not_shareable"),
        (RecordState::Held(&old), "", "record_out_of_time"),
        (RecordState::Held(&future), "", "record_out_of_time"),
        (RecordState::Missing, "", "record_missing"),
        (RecordState::Untrusted, "", "record_untrusted"),
        (RecordState::Stale, "", "record_stale"),
    ] {
        let content =
            ContentFacts { class: Class::Foreground, record, size: Some(GB), origin: OriginUrl::Clear };
        let decision = decide(&settings, &good_facts(), &content, NOW);
        assert_eq!(scopes(decision.allowed.fetch), allowed, "{reason}");
        let of_record = |reason: &&Reason| matches!(reason.setting, None | Some(Key::TrustedPublishers));
        let found: Vec<_> = decision.reasons.iter().filter(of_record).collect();
        assert_eq!(found.iter().map(|reason| reason.code.name()).collect::<String>(), reason);
        assert!(found.iter().all(|reason| reason.remedy().is_some()));
    }
    let content = ContentFacts {
        class: Class::Foreground,
        record: RecordState::Missing,
        size: Some(GB),
        origin: OriginUrl::Clear,
    };
    let decision = decide(&self::settings("download_mode = 0"), &good_facts(), &content, NOW);
    assert_eq!(codes(&decision), ["http_only"], "no record is missed where no peer may be used");
}

#[test]
fn the_least_size_is_inclusive_and_the_record_knows_it_best() {
    let settings = Settings::default();
    let (small, large) = (record_of(50 * MB - 1, ScopeSet::ALL), record_of(50 * MB, ScopeSet::ALL));
    for (record, size, peers, last) in [
        (RecordState::Held(&large), Some(1), true, "mode_admits"),
        (RecordState::Held(&small), Some(GB), false, "too_small"),
        (RecordState::Missing, Some(50 * MB - 1), false, "too_small"),
        (RecordState::Missing, Some(50 * MB), false, "record_missing"),
        (RecordState::Missing, None, false, "size_unknown"),
    ] {
        let content = ContentFacts { class: Class::Background, record, size, origin: OriginUrl::Clear };
        let decision = decide(&settings, &good_facts(), &content, NOW);
        assert_eq!((decision.peers(), codes(&decision).last().copied()), (peers, Some(last)));
    }
}

#[test]
fn limits() {
    let decision = decided(
        "max_foreground_download_bandwidth = 900\nmax_background_download_bandwidth = 500\nmax_upload_bandwidth = 100\n\
         max_peer_connections = 7\npeer_encryption = 'off'\nmax_cache_age = 0",
    );
    let limits = decision.limits;
    assert_eq!((limits.foreground_download, limits.background_download), (Some(900 * KB), Some(500 * KB)));
    assert_eq!(limits.download(Class::Foreground), limits.foreground_download);
    assert_eq!((limits.upload, limits.peer_connections, limits.cache_age), (Some(100 * KB), 7, None));
    assert_eq!(limits.peer_encryption, PeerEncryption::Off);
    assert_eq!(codes(&decision), ["mode_admits", "download_limited", "upload_limited", "clear_text"]);
    let all = decide_device(
        &settings("max_foreground_download_bandwidth = 900\nmax_background_download_bandwidth = 500"),
        &good_facts(),
        NOW,
    );
    assert_eq!(codes(&all), ["mode_admits", "download_limited", "download_limited"]);
    let limits = decided("").limits;
    assert_eq!((limits.foreground_download, limits.background_download, limits.upload), (None, None, None));
    assert_eq!((limits.peer_connections, limits.cache_age), (50, Some(259_200)));
}

#[test]
fn cache_limits() {
    let limit = |toml: &str| decided(toml).limits.cache_size;
    assert_eq!(limit(""), CacheLimit::Percent(20));
    assert_eq!(limit("absolute_max_cache_size = 10\nmax_cache_size = 50"), CacheLimit::Bytes(10 * GB));
    assert_eq!(limit("absolute_max_cache_size = 0\nmax_cache_size = 50"), CacheLimit::None);
    assert_eq!(CacheLimit::Percent(20).bytes(80 * GB, 20 * GB), Some(20 * GB));
    assert_eq!(CacheLimit::Percent(100).bytes(u64::MAX, u64::MAX), Some(u64::MAX));
    assert_eq!((CacheLimit::Bytes(5).bytes(1, 1), CacheLimit::None.bytes(1, 1)), (Some(5), None));
}

#[test]
fn the_origin_is_held_back_only_where_peers_may_deliver() {
    let delays = "delay_foreground_download_from_http = 30\ndelay_background_download_from_http = 60\n";
    let record = record_of(GB, ScopeSet::ALL);
    for (mode, class, seconds) in [
        (1, Class::Foreground, 30),
        (1, Class::Background, 60),
        (0, Class::Background, 0),
        (99, Class::Foreground, 0),
    ] {
        let content =
            ContentFacts { class, record: RecordState::Held(&record), size: None, origin: OriginUrl::Clear };
        let settings = settings(&format!("{delays}download_mode = {mode}"));
        let decision = decide(&settings, &good_facts(), &content, NOW);
        assert_eq!(decision.limits.origin_delay, seconds, "mode {mode}");
        assert_eq!(codes(&decision).contains(&"origin_held_back"), seconds > 0);
        assert_eq!(decide_device(&settings, &good_facts(), NOW).limits.origin_delay, 0);
    }
}

#[test]
fn neighbours() {
    let guid = "group_id = '8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11'\n";
    let only = "restrict_peer_selection_by = 2\n";
    for (toml, named, near, of_group, reasons) in [
        ("download_mode = 1\n".to_owned(), "l", true, false, &["mode_admits"][..]),
        (format!("download_mode = 1\n{only}"), "", true, false, &["mode_admits", "only_local_discovery"]),
        (
            format!("download_mode = 2\n{guid}{only}"),
            "",
            true,
            true,
            &["mode_admits", "only_local_discovery"],
        ),
        (
            format!("download_mode = 2\n{only}"),
            "",
            false,
            false,
            &["mode_admits", "no_group", "only_local_discovery"],
        ),
        (format!("download_mode = 2\n{guid}"), "lg", true, false, &["mode_admits"]),
        ("local_discovery = false\n".to_owned(), "l", false, false, &["mode_admits", "no_local_discovery"]),
        (
            format!("local_discovery = false\n{only}"),
            "",
            false,
            false,
            &["mode_admits", "only_local_discovery", "no_local_discovery"],
        ),
        (format!("download_mode = 0\n{only}"), "", false, false, &["http_only"]),
        ("download_mode = 99\n".to_owned(), "", false, false, &["simple"]),
    ] {
        let decision = decided(&toml);
        assert_eq!(scopes(decision.allowed.serve), named, "{toml}");
        let link_local = decision.allowed.link_local;
        assert_eq!(
            (link_local.fetch, link_local.serve, link_local.of_group),
            (near, near, of_group),
            "{toml}"
        );
        assert_eq!(codes(&decision), reasons, "{toml}");
        assert_eq!(decision.peers(), near || !named.is_empty(), "{toml}");
    }
    // A record for the Internet alone is none for neighbours either.
    let record =
        record_of(GB, ScopeSet::from_bits(ScopeSet::ALL.bits() & !ScopeSet::up_to(Scope::Lan).bits()));
    let content = ContentFacts {
        class: Class::Background,
        record: RecordState::Held(&record),
        size: None,
        origin: OriginUrl::Clear,
    };
    let decision = decide(&settings("download_mode = 3"), &good_facts(), &content, NOW);
    assert!(!decision.allowed.link_local.any() && scopes(decision.allowed.fetch) == "i");
    let weak = Facts { installed_ram: Some(GB), ..good_facts() };
    assert!(!decide_device(&settings(only), &weak, NOW).peers());
}

#[test]
fn every_reason_speaks() {
    let weak = Facts {
        installed_ram: Some(GB),
        cache_volume: Some(Volume { capacity: GB, free: 0 }),
        ..Facts::default()
    };
    let content = ContentFacts {
        class: Class::Background,
        record: RecordState::Missing,
        size: Some(1),
        origin: OriginUrl::Clear,
    };
    let settings =
        settings("download_mode = 2\nmax_background_download_bandwidth = 5\nmax_upload_bandwidth = 5");
    let decision = decide(&settings, &weak, &content, NOW);
    assert_eq!(decision.reasons.len(), 8, "{:?}", codes(&decision));
    for reason in &decision.reasons {
        let sentence = reason.sentence();
        assert!(sentence.len() > 20 && !sentence.contains('\n'), "{sentence}");
        if let Some(key) = reason.setting {
            assert!(sentence.contains(key.name()), "{sentence}");
            assert!(reason.remedy().is_none_or(|remedy| remedy.contains(key.name())));
        }
    }
}

fn interface(name: &str, kind: LinkKind) -> Interface {
    let addresses = vec![InterfaceAddress { ip: "10.1.2.3".parse().unwrap(), prefix: 24 }];
    Interface { name: name.to_owned(), kind, addresses, ..Interface::default() }
}

#[test]
fn vpns_part_from_peers_and_perhaps_from_caches() {
    let vpn = Facts {
        interfaces: vec![interface("eth0", LinkKind::Plain), interface("tun0", LinkKind::Tun)],
        ..good_facts()
    };
    let named = Facts { interfaces: vec![interface("corpvpn0", LinkKind::Plain)], ..good_facts() };
    for (facts, toml, peers, caches, told) in [
        (&vpn, "", false, true, &["on_vpn"][..]),
        (&named, "", false, true, &["on_vpn"]),
        (&named, "vpn_keywords = ['tunnel']", true, true, &[]),
        (&vpn, "vpn_keywords = ''", false, true, &["on_vpn"]),
        (&vpn, "allow_vpn_peer_caching = true", true, true, &[]),
        (
            &vpn,
            "allow_vpn_peer_caching = true\ndisallow_cache_server_downloads_on_vpn = true",
            true,
            false,
            &["caches_on_vpn"],
        ),
        (&good_facts(), "disallow_cache_server_downloads_on_vpn = true", true, true, &[]),
        (&vpn, "download_mode = 0", false, true, &[]),
    ] {
        let decision = decide_device(&settings(toml), facts, NOW);
        let allowed = decision.allowed;
        let named = (!allowed.fetch.is_empty(), !allowed.serve.is_empty());
        assert_eq!((named, allowed.cache_server), ((peers, peers), caches), "{toml}");
        // Those found by DNS-SD are at this side of the VPN.
        assert_eq!(allowed.link_local.any(), toml != "download_mode = 0", "{toml}");
        assert_eq!(codes(&decision)[1..], *told, "{toml}");
    }
    let decision = decide_device(&Settings::default(), &vpn, NOW);
    let reason = &decision.reasons[1];
    assert!(reason.sentence().contains("tun0") && reason.sentence().contains("allow_vpn_peer_caching"));
    assert_eq!(reason.remedy().unwrap(), "give true for allow_vpn_peer_caching with `peerage set`");
}

#[test]
fn metered_connections_hold_back_peers_and_downloads() {
    let record = record_of(GB, ScopeSet::ALL);
    let on = Facts { metered: Some(true), ..good_facts() };
    for (toml, class, fetch, serve, download) in [
        ("", Class::Foreground, false, false, true),
        ("", Class::Background, false, false, false),
        ("allow_metered_downloads = 'never'", Class::Foreground, false, false, false),
        ("allow_metered_downloads = 'always'", Class::Background, false, false, true),
        ("allow_metered_peer_caching = true", Class::Foreground, true, true, true),
        ("allow_metered_peer_caching = true", Class::Background, false, true, false),
    ] {
        let content =
            ContentFacts { class, record: RecordState::Held(&record), size: None, origin: OriginUrl::Clear };
        let decision = decide(&settings(toml), &on, &content, NOW);
        let allowed = decision.allowed;
        assert_eq!(
            (!allowed.fetch.is_empty(), !allowed.serve.is_empty()),
            (fetch, serve),
            "{toml} {class:?}"
        );
        let near = allowed.link_local;
        assert_eq!((near.fetch, near.serve), (fetch, serve), "{toml} {class:?}");
        assert_eq!(allowed.download, download, "{toml} {class:?}");
        assert_eq!(codes(&decision).contains(&"download_metered"), !download);
        for free in [Some(false), None] {
            let facts = Facts { metered: free, ..good_facts() };
            let decision = decide(&settings(toml), &facts, &content, NOW);
            assert!(decision.allowed.download && decision.peers() && codes(&decision) == ["mode_admits"]);
        }
    }
    assert!(decide_device(&Settings::default(), &on, NOW).allowed.download, "a foreground one may");
}

#[test]
fn a_device_on_battery_fetches_and_serves_only_when_charged() {
    let battery = |charge| Some(Power::Battery { charge });
    for (power, least, serves) in [
        (battery(Some(100)), 0, false),
        (battery(None), 0, false),
        (battery(Some(60)), 60, true),
        (battery(Some(59)), 60, false),
        (battery(None), 60, true),
        (Some(Power::Mains), 0, true),
        (None, 100, true),
    ] {
        let toml = format!("min_battery_percentage_allowed_to_upload = {least}");
        let facts = Facts { power, ..good_facts() };
        let decision = decide_device(&settings(&toml), &facts, NOW);
        let allowed = decision.allowed;
        let near = allowed.link_local;
        assert_eq!((!allowed.serve.is_empty(), near.serve), (serves, serves), "{power:?} {least}");
        assert!(!allowed.fetch.is_empty() && near.fetch, "fetching on battery is always allowed");
        assert_eq!(codes(&decision).contains(&"on_battery"), !serves);
    }
}

#[test]
fn a_subnet_restriction_looks_at_addresses() {
    let facts = Facts { interfaces: vec![interface("eth0", LinkKind::Plain)], ..good_facts() };
    let free = decide_device(&Settings::default(), &facts, NOW);
    let bound = decide_device(&settings("restrict_peer_selection_by = 1"), &facts, NOW);
    let (near, far) = ("10.1.2.77".parse().unwrap(), "10.1.3.77".parse().unwrap());
    assert!(free.allowed.address(near, &facts) && free.allowed.address(far, &facts));
    assert!(bound.allowed.address(near, &facts) && !bound.allowed.address(far, &facts));
    assert!(bound.peers() && codes(&bound) == ["mode_admits", "subnet_only"]);
}

#[test]
fn hours_replace_the_percentage_of_their_class() {
    // 1_800_000_000 is Friday, 2027-01-15 08:00 UTC.
    let hours = "{ from = 8, to = 18, in = 30, out = 80 }";
    let toml = format!(
        "percentage_max_background_bandwidth = 55\npercentage_max_foreground_bandwidth = 66\n\
         set_hours_to_limit_background_download_bandwidth = {hours}\n"
    );
    let settings = settings(&toml);
    for (now, ahead, percent, told) in [
        (NOW, 0, 30, "inside"),
        (NOW - 1, 0, 80, "outside"),
        (NOW - 1, 1, 30, "inside"),
        (NOW, -1, 80, "outside"),
    ] {
        let facts = Facts { clock_ahead: ahead, ..good_facts() };
        let decision = decide_device(&settings, &facts, now);
        let limits = decision.limits;
        assert_eq!((limits.background_percent, limits.foreground_percent), (Some(percent), Some(66)));
        assert_eq!(codes(&decision), ["mode_admits", "downlink_shared", "hours_shared"]);
        assert!(decision.reasons[2].sentence().contains(told), "{}", decision.reasons[2].sentence());
    }
    let unlimited = self::settings(&toml.replace("in = 30", "in = 0"));
    assert_eq!(decide_device(&unlimited, &good_facts(), NOW).limits.background_percent, None);
}

#[test]
fn a_spent_month_spares_near_peers() {
    let record = record_of(GB, ScopeSet::ALL);
    let content = ContentFacts {
        class: Class::Background,
        record: RecordState::Held(&record),
        size: None,
        origin: OriginUrl::Clear,
    };
    let toml =
        "download_mode = 3\nmonthly_upload_data_cap = 5\ngroup_id = '8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11'\n";
    for (sent, serve, told) in [(0, "lgi", false), (5 * GB - 1, "lgi", false), (5 * GB, "lg", true)] {
        let facts = Facts { internet_uploaded: sent, ..good_facts() };
        let decision = decide(&settings(toml), &facts, &content, NOW);
        assert_eq!(
            (scopes(decision.allowed.fetch), scopes(decision.allowed.serve)),
            ("lgi".into(), serve.into())
        );
        assert_eq!(codes(&decision).contains(&"month_spent"), told);
    }
    let facts = Facts { internet_uploaded: u64::MAX, ..good_facts() };
    let unlimited = settings("download_mode = 3\nmonthly_upload_data_cap = 0\n");
    assert!(decide(&unlimited, &facts, &content, NOW).allowed.serve.contains(Scope::Internet));
}

#[test]
fn percentages_are_of_their_class() {
    let decision =
        decided("percentage_max_background_bandwidth = 30\npercentage_max_foreground_bandwidth = 90\n");
    assert_eq!(decision.limits.downlink_percent(Class::Background), Some(30));
    assert_eq!(decision.limits.downlink_percent(Class::Foreground), Some(90));
    let told: Vec<_> =
        decision.reasons.iter().filter(|reason| reason.code.name() == "downlink_shared").collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].sentence().contains("30 % of the downlink"), "{}", told[0].sentence());
}

#[test]
fn the_relay_is_for_peers_of_other_sites_and_counts_towards_the_month() {
    const GROUP: &str = "group_id = '8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11'\n";
    let relay = |toml: &str| decided(&format!("{GROUP}{toml}")).allowed.relay;
    let (none, all) = (Relay::NONE, Relay { fetch: true, serve: true });
    for (toml, expected) in [
        ("download_mode = 3\n", none),
        ("download_mode = 3\nallow_relay = true\n", all),
        ("download_mode = 2\nallow_relay = true\n", all),
        ("download_mode = 1\nallow_relay = true\n", none),
        ("download_mode = 0\nallow_relay = true\n", none),
        ("download_mode = 3\nallow_relay = true\nrestrict_peer_selection_by = 'subnet'\n", none),
        ("download_mode = 3\nallow_relay = true\nrestrict_peer_selection_by = 'local_discovery'\n", none),
    ] {
        assert_eq!(relay(toml), expected, "{toml}");
    }
    let spent = Facts { internet_uploaded: 5 * GB, ..good_facts() };
    for mode in [2, 3] {
        let toml =
            format!("{GROUP}download_mode = {mode}\nallow_relay = true\nmonthly_upload_data_cap = 5\n");
        let decision = decide_device(&settings(&toml), &spent, NOW);
        assert_eq!(decision.allowed.relay, Relay { fetch: true, serve: false }, "mode {mode}");
        assert!(codes(&decision).contains(&"month_spent"), "mode {mode}");
        assert!(
            decision.allowed.serve.contains(Scope::Group),
            "it is the relay that is spared, not the group"
        );
        assert!(decision.allowed.through_relay(Scope::Group) && !decision.allowed.through_relay(Scope::Lan));
    }
}
