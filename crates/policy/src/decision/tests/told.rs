//! Every setting that refuses or limits something is told of: by name, with the layer that gives it, and with a remedy that
//! takes the reason away.

use super::*;
use crate::{Connection, DhcpCacheHosts, Key, Reason};

/// What becomes of a setting's strict value.
enum Told {
    /// A reason of the decision.
    Decision(Case),
    /// A reason that the agent adds when it comes to it, a value that bites, and what the remedy asks for.
    ByAgent(fn(&Settings) -> Reason, &'static str, &'static str),
    /// It refuses and limits nothing, or says so elsewhere.
    Never(&'static str),
}

struct Case {
    /// What else must be set for it to matter.
    beside: &'static str,
    /// A value that bites, as TOML; empty: the default does.
    bites: &'static str,
    /// What its remedy comes to.
    mended: &'static str,
    facts: fn(&mut Facts),
    class: Class,
    /// The record's signature is of no trusted key as long as the value bites.
    untrusted: bool,
    code: &'static str,
    /// What the remedy asks for.
    asks: &'static str,
}

const PLAIN: Case = Case {
    beside: "",
    bites: "",
    mended: "",
    facts: |_| {},
    class: Class::Background,
    untrusted: false,
    code: "",
    asks: "",
};

fn on_vpn(facts: &mut Facts) {
    facts.connections = vec![Connection { id: "Works VPN".into(), vpn: false }];
}

fn from_dhcp(facts: &mut Facts) {
    facts.dhcp_cache_hosts = DhcpCacheHosts(Err("no option 235".into()));
}

const HOSTS: &str = "cache_host = 'cache.example'\n";

/// What each setting does; a new one must be sorted here.
fn told(key: Key) -> Told {
    use Told::{ByAgent, Decision, Never};
    let forward = |case: Case| Decision(Case { class: Class::Foreground, ..case });
    let rate =
        |bites, mended, code| Case { bites, mended, code, asks: "raise, or give 0 (no limit) for", ..PLAIN };
    let hours = |bites, mended| Case {
        asks: "give a higher share, or 0 (no limit), for this hour in",
        ..rate(bites, mended, "hours_shared")
    };
    let delay =
        |bites, mended, code| Case { asks: "lower, or give 0 (none) for", ..rate(bites, mended, code) };
    match key {
        Key::DownloadMode => Decision(Case {
            bites: "'http_only'",
            mended: "'lan'",
            code: "http_only",
            asks: "choose lan, group or internet for",
            ..PLAIN
        }),
        Key::GroupId => Decision(Case {
            beside: "download_mode = 'group'\n",
            mended: "'6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11'",
            code: "no_group",
            asks: "give the group's GUID as",
            ..PLAIN
        }),
        Key::GroupIdSource => Decision(Case {
            beside: "download_mode = 'group'\n",
            bites: "'dhcp_option'",
            mended: "'dns_suffix'",
            facts: |facts| facts.group_sources.dns_suffix = Ok("corp.example".into()),
            code: "no_group",
            asks: "give another source for",
            ..PLAIN
        }),
        Key::RestrictPeerSelectionBy => Decision(Case {
            bites: "'subnet'",
            mended: "'none'",
            code: "subnet_only",
            asks: "give none for",
            ..PLAIN
        }),
        Key::MinRAMAllowedToPeer => {
            Decision(Case { bites: "64", mended: "8", code: "ram_below_minimum", asks: "lower", ..PLAIN })
        }
        Key::MinDiskSizeAllowedToPeer => {
            Decision(Case { bites: "900", mended: "100", code: "disk_below_minimum", asks: "lower", ..PLAIN })
        }
        Key::MinFileSizeToCache => {
            Decision(Case { bites: "5000", mended: "100", code: "too_small", asks: "lower", ..PLAIN })
        }
        Key::MaxCacheAge => ByAgent(Reason::cache_aged, "5", "raise"),
        Key::MaxCacheSize => ByAgent(Reason::cache_full, "5", "raise"),
        Key::AbsoluteMaxCacheSize => ByAgent(Reason::cache_full, "5", "raise"),
        Key::UploadSlots => ByAgent(Reason::no_upload_slot, "5", "raise"),
        Key::MaxPeerConnections => ByAgent(Reason::no_peer_place, "5", "raise"),
        Key::ModifyCacheDrive => Decision(Case {
            bites: "'/bad'",
            mended: "'/good'",
            facts: |facts| facts.cache_stays = Some("it stays in /old".into()),
            code: "cache_stays",
            asks: "mend what is said there",
            ..PLAIN
        }),
        Key::MonthlyUploadDataCap => Decision(Case {
            beside: "download_mode = 'internet'\n",
            facts: |facts| facts.internet_uploaded = 5 * GB,
            ..rate("5", "6", "month_spent")
        }),
        Key::MaxUploadBandwidth => Decision(rate("5", "0", "upload_limited")),
        Key::MaxForegroundDownloadBandwidth => forward(rate("5", "0", "download_limited")),
        Key::MaxBackgroundDownloadBandwidth => Decision(rate("5", "0", "download_limited")),
        Key::PercentageMaxForegroundBandwidth => forward(rate("5", "0", "downlink_shared")),
        Key::PercentageMaxBackgroundBandwidth => Decision(rate("5", "0", "downlink_shared")),
        Key::SetHoursToLimitForegroundDownloadBandwidth => {
            forward(hours("{ from = 8, to = 8, in = 30, out = 30 }", "{ from = 8, to = 8, in = 0, out = 0 }"))
        }
        Key::SetHoursToLimitBackgroundDownloadBandwidth => Decision(hours(
            "{ from = 8, to = 8, in = 30, out = 30 }",
            "{ from = 8, to = 8, in = 0, out = 0 }",
        )),
        Key::DelayForegroundDownloadFromHttp => forward(delay("5", "0", "origin_held_back")),
        Key::DelayBackgroundDownloadFromHttp => Decision(delay("5", "0", "origin_held_back")),
        Key::CacheHostSource => Decision(Case {
            bites: "'dhcp_option'",
            mended: "'dns_sd_off'",
            facts: from_dhcp,
            code: "no_cache_from_dhcp",
            asks: "name the caches in cache_host",
            ..PLAIN
        }),
        Key::DelayCacheServerFallbackForeground => {
            forward(Case { beside: HOSTS, ..delay("5", "0", "cache_fallback_held_back") })
        }
        Key::DelayCacheServerFallbackBackground => {
            Decision(Case { beside: HOSTS, ..delay("5", "0", "cache_fallback_held_back") })
        }
        Key::DisallowCacheServerDownloadsOnVPN => Decision(Case {
            bites: "true",
            mended: "false",
            facts: on_vpn,
            code: "caches_on_vpn",
            asks: "take \"vpn\" out of vpn_keywords, or give false for",
            ..PLAIN
        }),
        Key::AllowVPNPeerCaching => Decision(Case {
            mended: "true",
            facts: on_vpn,
            code: "on_vpn",
            asks: "take \"vpn\" out of vpn_keywords, or give true for",
            ..PLAIN
        }),
        Key::MinBatteryPercentageAllowedToUpload => Decision(Case {
            bites: "60",
            mended: "40",
            facts: |facts| facts.power = Some(Power::Battery { charge: Some(50) }),
            code: "on_battery",
            asks: "connect the mains, or lower",
            ..PLAIN
        }),
        Key::AllowMeteredPeerCaching => Decision(Case {
            mended: "true",
            facts: |facts| facts.metered = Some(true),
            code: "peers_metered",
            asks: "give true for",
            ..PLAIN
        }),
        Key::AllowMeteredDownloads => Decision(Case {
            bites: "'never'",
            mended: "'always'",
            facts: |facts| facts.metered = Some(true),
            code: "download_metered",
            asks: "give always for",
            ..PLAIN
        }),
        Key::LocalDiscovery => Decision(Case {
            bites: "false",
            mended: "true",
            code: "no_local_discovery",
            asks: "switch on",
            ..PLAIN
        }),
        Key::TrustedPublishers => Decision(Case {
            mended: "'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a'",
            untrusted: true,
            code: "record_untrusted",
            asks: "add the key to",
            ..PLAIN
        }),
        Key::MinBackgroundQos => {
            Never("the agent's findings name it beside the bytes that it sent to the origin")
        }
        Key::CacheHost => Never("it adds a source"),
        Key::VpnKeywords => Never("the remedies of what is not done on a VPN name it"),
        Key::PeerEncryption => Never("what is required is never refused: both ends encrypt"),
        Key::AllowRelay => ByAgent(Reason::relay_forbidden, "false", "give true for"),
    }
}

fn place(provider: Provider) -> &'static str {
    match provider {
        Provider::Fleet => "in the coordinator's policy",
        Provider::Policy => "in the device's policy file",
        Provider::Admin | Provider::Default => "with `peerage set`",
    }
}

fn layer(beside: &str, key: Key, value: &str) -> crate::Layer {
    let own = if value.is_empty() { String::new() } else { format!("{} = {value}\n", key.name()) };
    parse_layer("test", &format!("{beside}{own}")).unwrap_or_else(|error| panic!("{error}"))
}

fn check(reason: &Reason, key: Key, provider: Provider, asks: &str) {
    assert_eq!((reason.setting, reason.provider), (Some(key), Some(provider)), "{reason:?}");
    let said = reason.sentence();
    assert!(said.ends_with(&format!("({}, from {provider})", key.name())), "{said}");
    let remedy = reason.remedy().unwrap_or_else(|| panic!("{key:?} has no remedy"));
    assert!(remedy.contains(asks), "{key:?}: {remedy}");
    if !remedy.contains("cache_host") || key == Key::CacheHost {
        assert!(remedy.ends_with(&format!("{} {}", key.name(), place(provider))), "{key:?}: {remedy}");
    }
}

#[test]
fn every_setting_that_bites_is_named_with_its_layer_and_a_remedy_that_helps() {
    for key in Key::ALL.iter().copied() {
        let case = match told(key) {
            Told::Decision(case) => case,
            Told::ByAgent(reason, value, asks) => {
                let mut layers = Layers::default();
                for provider in [Provider::Admin, Provider::Policy, Provider::Fleet] {
                    layers.replace(provider, layer("", key, value));
                    check(&reason(&layers.settings()), key, provider, asks);
                }
                continue;
            }
            Told::Never(why) => {
                assert!(!why.is_empty());
                continue;
            }
        };
        for provider in [Provider::Admin, Provider::Policy, Provider::Fleet] {
            let decide_with = |value: &str, mended: bool| {
                let mut layers = Layers::default();
                layers.replace(provider, layer(case.beside, key, value));
                let mut facts = good_facts();
                (case.facts)(&mut facts);
                if mended && key == Key::ModifyCacheDrive {
                    facts.cache_stays = None;
                }
                let record = record_of(GB, ScopeSet::ALL);
                let untrusted = case.untrusted && !mended;
                let record = if untrusted { RecordState::Untrusted } else { RecordState::Held(&record) };
                let (class, origin) = (case.class, OriginUrl::Clear);
                let content = ContentFacts { class, record, size: None, origin };
                decide(&layers.settings(), &facts, &content, NOW)
            };
            let bites = decide_with(case.bites, false);
            let found = bites.reasons.iter().find(|reason| reason.code.name() == case.code);
            let found = found.unwrap_or_else(|| panic!("{key:?} from {provider}: {:?}", codes(&bites)));
            let by = if case.bites.is_empty() { Provider::Default } else { provider };
            check(found, key, by, case.asks);
            let mended = codes(&decide_with(case.mended, true));
            assert!(!mended.contains(&case.code), "{key:?} from {provider}: {mended:?}");
        }
    }
}
