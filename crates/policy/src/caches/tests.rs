//! Whose list counts, what it may be used for, and for how long the origin waits.

use peerage_content::{ContentId, ContentRecord, ScopeSet, Sha256, Validators};
use proptest::prelude::*;

use super::*;
use crate::decision::{ContentFacts, decide, decide_device};
use crate::{Facts, Interface, Layers, LinkKind, Provider, parse_layer};

fn hosts(text: &str) -> Vec<CacheHost> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
}

fn shown(choice: &CacheChoice) -> String {
    choice.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn settings_and_dhcp_take_precedence_as_the_source_says() {
    use CacheFrom::{Dhcp, Setting};
    use CacheHostSource::{DhcpOption, DhcpOptionForce, DnsSdOff};
    for (source, own, dhcp, expected, from) in [
        (None, Some("a,b"), Some("d"), "a,b", Some(Setting)),
        (None, None, Some("d"), "", None),
        (Some(DnsSdOff), Some("a"), Some("d"), "a", Some(Setting)),
        (Some(DnsSdOff), None, Some("d"), "", None),
        (Some(DhcpOption), Some("a"), Some("d"), "a", Some(Setting)),
        (Some(DhcpOption), Some(""), Some("d"), "", None),
        (Some(DhcpOption), None, Some("d"), "d", Some(Dhcp)),
        (Some(DhcpOption), None, None, "", None),
        (Some(DhcpOptionForce), Some("a"), Some("d,e"), "d,e", Some(Dhcp)),
        (Some(DhcpOptionForce), Some("a"), None, "a", Some(Setting)),
        (Some(DhcpOptionForce), None, None, "", None),
        (None, Some("a,b,a,a:80,b"), None, "a,b,a:80", Some(Setting)),
    ] {
        let mut settings = Settings::default();
        (settings.cache_host_source, settings.cache_host) = (source, own.map(hosts));
        let dhcp = DhcpCacheHosts(dhcp.map(hosts).ok_or_else(|| "silence".to_owned()));
        let choice = CacheChoice::of(&settings, &dhcp);
        assert_eq!((shown(&choice).as_str(), choice.from), (expected, from), "{source:?} {own:?} {dhcp:?}");
        let asked = matches!(source, Some(DhcpOptionForce)) || (source == Some(DhcpOption) && own.is_none());
        assert_eq!(choice.failed.is_some(), asked && dhcp.0.is_err(), "{source:?} {own:?} {dhcp:?}");
    }
}

#[test]
fn dhcp_cannot_lead_requests_to_this_device_or_to_nobody() {
    let mut settings = Settings::default();
    settings.cache_host_source = Some(CacheHostSource::DhcpOption);
    for (offered, used) in [
        (
            "127.0.0.1:7688,10.0.0.2,[::1]:80,0.0.0.0,localhost,x.localhost.,224.0.0.1,[::]:1,[ff02::1]:80",
            "10.0.0.2",
        ),
        ("[::ffff:127.0.0.1]:80,[fd00::2]:8080", "[fd00::2]:8080"),
        ("127.1,2130706433,0x7f000001,c9.example,10.0.0.3", "c9.example,10.0.0.3"),
        ("127.0.0.2", ""),
    ] {
        let choice = CacheChoice::of(&settings, &DhcpCacheHosts(Ok(hosts(offered))));
        assert_eq!(shown(&choice), used, "{offered}");
        assert_eq!(choice.failed.is_some(), used.is_empty(), "{offered}");
    }
    // The administrator may: a cache on the device itself is a cache.
    settings.cache_host = Some(hosts("127.0.0.1:8080"));
    let choice = CacheChoice::of(&settings, &DhcpCacheHosts::default());
    assert_eq!(shown(&choice), "127.0.0.1:8080");
}

const NOW: u64 = 1_800_000_000;

fn settings(toml: &str) -> Settings {
    let mut layers = Layers::default();
    layers.replace(Provider::Policy, parse_layer("policy.toml", toml).unwrap_or_else(|e| panic!("{e}")));
    layers.settings()
}

fn record() -> ContentRecord {
    ContentRecord {
        id: ContentId::from_bytes([1; 32]),
        size: 1 << 30,
        sha256: Sha256::from_bytes([2; 32]),
        urls: vec!["http://origin.example/a".into()],
        validators: Validators::default(),
        scopes: ScopeSet::ALL,
        not_before: NOW - 1000,
        not_after: NOW + 1000,
        serial: 1,
    }
}

fn facts(vpn: bool) -> Facts {
    let tun = Interface { name: "tun0".into(), kind: LinkKind::Tun, ..Interface::default() };
    Facts {
        interfaces: if vpn { vec![tun] } else { Vec::new() },
        dhcp_cache_hosts: DhcpCacheHosts(Ok(hosts("dhcp.example"))),
        ..Facts::default()
    }
}

fn decided(toml: &str, facts: &Facts, origin: OriginUrl, record: RecordState<'_>) -> Decision {
    let content = ContentFacts { class: Class::Background, record, size: Some(1 << 30), origin };
    decide(&settings(toml), facts, &content, NOW)
}

fn told(decision: &Decision) -> Vec<&'static str> {
    let codes = decision.reasons.iter().map(|reason| reason.code.name());
    codes.filter(|code| code.contains("cache")).collect()
}

#[test]
fn who_named_a_cache_decides_what_it_may_serve_unverified() {
    let good = record();
    let old = ContentRecord { not_after: NOW - 1, ..good.clone() };
    let held = RecordState::Held(&good);
    let (by_setting, by_dhcp) = ("cache_host = 'c.example'", "cache_host_source = 1");
    use OriginUrl::{Clear, Private, Secure};
    for (toml, vpn, origin, record, why_not) in [
        (by_setting, false, Clear, held, None),
        (by_setting, false, Clear, RecordState::Missing, None),
        (by_setting, true, Clear, RecordState::Missing, None),
        (by_setting, false, Secure, held, None),
        (by_setting, false, Secure, RecordState::Missing, None),
        (by_setting, false, Private, held, Some("caches_not_for_private")),
        (by_dhcp, false, Clear, held, None),
        (by_dhcp, false, Clear, RecordState::Missing, None),
        (by_dhcp, true, Clear, held, None),
        (by_dhcp, true, Clear, RecordState::Missing, Some("caches_unproven")),
        (by_dhcp, false, Secure, held, None),
        (by_dhcp, false, Secure, RecordState::Missing, Some("caches_unproven")),
        (by_dhcp, false, Secure, RecordState::Untrusted, Some("caches_unproven")),
        (by_dhcp, false, Secure, RecordState::Held(&old), Some("caches_unproven")),
        (by_dhcp, false, Private, held, Some("caches_not_for_private")),
    ] {
        let decision = decided(toml, &facts(vpn), origin, record);
        let case = format!("{toml} {vpn} {origin:?} {record:?}");
        assert_eq!(told(&decision), [why_not.unwrap_or("caches_named")], "{case}");
        assert_eq!(decision.caches.is_empty(), why_not.is_some(), "{case}");
        assert_eq!(decision.allowed.cache_server, why_not.is_none(), "{case}");
    }
    // Every mode uses them.
    for mode in [0, 1, 2, 3, 99, 100] {
        let decision = decided(&format!("{by_setting}\ndownload_mode = {mode}"), &facts(false), Clear, held);
        assert_eq!(decision.caches.len(), 1, "{mode}");
    }
    assert_eq!(decide_device(&settings(by_dhcp), &facts(false), NOW).caches, hosts("dhcp.example"));
}

#[test]
fn a_vpn_may_forbid_them_and_the_delay_with_them() {
    let good = record();
    let toml = "cache_host = 'c.example'\ndisallow_cache_server_downloads_on_vpn = true\n\
                delay_cache_server_fallback_background = 60\ndelay_cache_server_fallback_foreground = 30";
    for (vpn, reasons, delay) in
        [(false, &["caches_named", "cache_fallback_held_back"][..], 60), (true, &["caches_on_vpn"], 0)]
    {
        let decision = decided(toml, &facts(vpn), OriginUrl::Clear, RecordState::Held(&good));
        assert_eq!((told(&decision), decision.limits.cache_delay), (reasons.to_vec(), delay));
        assert_eq!(decision.caches.is_empty(), vpn);
    }
    let content = ContentFacts {
        class: Class::Foreground,
        record: RecordState::Missing,
        size: None,
        origin: OriginUrl::Clear,
    };
    assert_eq!(decide(&settings(toml), &facts(false), &content, NOW).limits.cache_delay, 30);
    // Nobody to wait for.
    let none = decided(
        "delay_cache_server_fallback_background = 60",
        &facts(false),
        OriginUrl::Clear,
        RecordState::Missing,
    );
    assert_eq!((told(&none), none.limits.cache_delay), (vec![], 0));
}

#[test]
fn reasons_name_hosts_settings_and_remedies() {
    let sentence = |toml: &str, facts: &Facts, origin| {
        let decision = decided(toml, facts, origin, RecordState::Missing);
        let found = decision.reasons.into_iter().find(|reason| told_of(&reason.code));
        let reason = found.unwrap_or_else(|| panic!("{toml}"));
        (reason.sentence(), reason.remedy())
    };
    let many = sentence("cache_host = 'a,b:80,c,d,e,f'", &facts(false), OriginUrl::Clear).0;
    assert!(many.contains("a, b:80, c, d and 2 more") && many.contains("cache_host, from policy"), "{many}");
    let silent = Facts { dhcp_cache_hosts: DhcpCacheHosts(Err("no server answers".into())), ..facts(false) };
    let (why, remedy) = sentence("cache_host_source = 2", &silent, OriginUrl::Clear);
    assert!(
        why.contains("no server answers") && remedy.is_some_and(|text| text.contains("option 235")),
        "{why}"
    );
    let (why, remedy) = sentence("cache_host_source = 2", &facts(false), OriginUrl::Secure);
    assert!(why.contains("https") && remedy.is_some_and(|text| text.contains("peerage publish")), "{why}");
}

fn told_of(code: &Code) -> bool {
    code.name().contains("cache")
}

proptest! {
    #[test]
    fn dhcp_never_gets_more_than_the_setting(
        offered in prop::collection::vec("[a-z]{1,5}|127\\.0\\.0\\.[0-9]|10\\.0\\.0\\.[0-9](:80)?", 0..6),
        secure in any::<bool>(), vpn in any::<bool>(), force in any::<bool>(), proven in any::<bool>(),
    ) {
        let all = hosts(&offered.join(","));
        let facts = Facts { dhcp_cache_hosts: DhcpCacheHosts(Ok(all.clone())), ..facts(vpn) };
        let good = record();
        let state = if proven { RecordState::Held(&good) } else { RecordState::Missing };
        let origin = if secure { OriginUrl::Secure } else { OriginUrl::Clear };
        let source = if force { "cache_host_source = 2" } else { "cache_host_source = 1" };
        let by_dhcp = decided(source, &facts, origin, state);
        let named = format!("cache_host = '{}'", offered.join(","));
        let by_setting = decided(&named, &facts, origin, state);
        prop_assert!(by_dhcp.caches.iter().all(|host| by_setting.caches.contains(host)));
        prop_assert!(by_dhcp.caches.iter().all(|host| !host.host().starts_with("127.")));
        prop_assert!(proven || !secure || by_dhcp.caches.is_empty());
    }
}
