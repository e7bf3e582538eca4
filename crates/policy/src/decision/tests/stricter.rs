//! No setting made stricter allows more, no fact made worse either; driven by the table, so that a setting which is added
//! to it takes part by itself: its values come from its rule, and [`stricter`] does not compile without it.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::choice::{CacheHostSource, MeteredDownloads, PeerRestriction};
use crate::units::{GB, MB};
use crate::{Connection, DhcpCacheHosts, Hours, Rule};

/// Whether `strict` allows nothing that `loose` does not.
fn allows_no_more(strict: &Decision, loose: &Decision) -> Result<(), &'static str> {
    let within = |a: ScopeSet, b: ScopeSet| both(a, b) == a;
    let cap = |a: Option<u64>, b: Option<u64>| a.unwrap_or(u64::MAX) <= b.unwrap_or(u64::MAX);
    let (a, b) = (&strict.allowed, &loose.allowed);
    let (la, lb) = (&strict.limits, &loose.limits);
    let clear = |limits: &Limits| limits.peer_encryption == PeerEncryption::Off;
    // The delay keeps the origin back in favour of peers: compared only where both have some.
    let delay = !strict.allowed.fetch_any() || la.origin_delay >= lb.origin_delay;
    for (holds, what) in [
        (a.coordinator <= b.coordinator, "coordinator"),
        (within(a.fetch, b.fetch), "fetch"),
        (within(a.serve, b.serve), "serve"),
        (a.link_local.fetch <= b.link_local.fetch, "fetch from neighbours"),
        (a.link_local.serve <= b.link_local.serve, "serve neighbours"),
        (a.link_local.of_group >= b.link_local.of_group || !a.link_local.any(), "neighbours of other groups"),
        (cap(la.foreground_download, lb.foreground_download), "foreground"),
        (cap(la.background_download, lb.background_download), "background"),
        (cap(la.foreground_percent, lb.foreground_percent), "foreground percentage"),
        (cap(la.background_percent, lb.background_percent), "background percentage"),
        (cap(la.upload, lb.upload), "upload"),
        (cap(la.upload_slots, lb.upload_slots), "upload slots"),
        (a.beyond_subnet <= b.beyond_subnet, "subnet"),
        (a.relay.fetch <= b.relay.fetch, "fetch through the relay"),
        (a.relay.serve <= b.relay.serve, "serve through the relay"),
        // Where no cache is named, none is refused either.
        (a.cache_server <= b.cache_server || strict.caches.is_empty(), "cache server"),
        (a.download <= b.download, "download"),
        (cap(la.cache_age, lb.cache_age), "cache age"),
        (cap(la.cache_size.bytes(80 * GB, 7 * GB), lb.cache_size.bytes(80 * GB, 7 * GB)), "cache size"),
        (la.peer_connections <= lb.peer_connections, "connections"),
        (clear(la) <= clear(lb), "encryption"),
        (delay, "origin delay"),
        (strict.caches.iter().all(|host| loose.caches.contains(host)), "caches"),
        (strict.caches.is_empty() || la.cache_delay >= lb.cache_delay, "cache delay"),
    ] {
        if !holds {
            return Err(what);
        }
    }
    Ok(())
}

/// Keywords that some name of [`any_facts`] has or has not.
const WORDS: [&str; 3] = ["eth", "office", "nowhere"];

/// One of the values that a rule allows, as TOML.
fn value(rule: &Rule, pick: u64) -> String {
    let one = |texts: &[&str]| texts[pick as usize % texts.len()].to_owned();
    match rule {
        Rule::Switch => one(&["true", "false"]),
        Rule::Number { min, max, .. } => {
            // Near the least and over the scale on which facts lie.
            let span = [2, 12, 200, 200_000][pick as usize % 4].min(max - min);
            let number = if pick.is_multiple_of(17) { *max } else { min + pick / 4 % (span + 1) };
            number.to_string()
        }
        Rule::Choice(choices) => choices[pick as usize % choices.len()].number.to_string(),
        Rule::Group => {
            one(&["'8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11'", "'8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d12'"])
        }
        Rule::Directory => one(&["'/a'", "'/b'"]),
        Rule::Words => one(&["''", "'eth'", "'office, vpn'"]),
        Rule::Hosts => one(&["''", "'a'", "'a, b'", "'c'"]),
        Rule::Keys => format!("'{}'", one(&["0a", "0b"]).repeat(32)),
        Rule::Hours => {
            let (from, to, inside, outside) = (pick % 24, pick / 24 % 24, pick / 600 % 101, pick / 7 % 101);
            let days =
                if pick.is_multiple_of(2) { ", days = ['mon', 'tue', 'wed', 'thu', 'fri']" } else { "" };
            format!("{{ from = {from}, to = {to}, in = {inside}, out = {outside}{days} }}")
        }
    }
}

/// Any values of any of the settings.
fn any_settings() -> impl Strategy<Value = Settings> {
    let picks = prop::collection::vec(prop::option::of(any::<u64>()), Key::ALL.len());
    picks.prop_map(|picks| {
        let set = Key::ALL.iter().zip(picks).filter_map(|(key, pick)| Some((key, pick?)));
        let line =
            |(key, pick): (&Key, u64)| format!("{} = {}\n", key.name(), value(&key.setting().rule, pick));
        settings(&set.map(line).collect::<String>())
    })
}

/// Settings of which the decision asks nothing, or whose values take from one and give to another: which group, which
/// cache's directory, whose records, how much HTTP adds.
const WITHOUT_ORDER: [Key; 4] =
    [Key::GroupIdSource, Key::ModifyCacheDrive, Key::MinBackgroundQos, Key::TrustedPublishers];

/// Makes one setting stricter, by `by`, as far as its value can be.
fn stricter(mut settings: Settings, key: Key, by: u64) -> Settings {
    // 0 is "no limit": anything is stricter, and nothing becomes 0.
    let tighten = |value: &mut u64| *value = if *value == 0 { by } else { value.saturating_sub(by).max(1) };
    let raise = |value: &mut u64| *value = value.saturating_add(by);
    let percent =
        |value: &mut u64| *value = if *value == 0 { by.min(100) } else { value.saturating_sub(by).max(1) };
    let hours = |hours: &mut Option<Hours>| {
        for share in hours.iter_mut().flat_map(|hours| [&mut hours.inside, &mut hours.outside]) {
            let by = u8::try_from(by.min(100)).unwrap();
            *share = if *share == 0 { by } else { share.saturating_sub(by).max(1) };
        }
    };
    match key {
        Key::DownloadMode => {
            // From the widest to the narrowest.
            let order = [
                DownloadMode::Internet,
                DownloadMode::Group,
                DownloadMode::Lan,
                DownloadMode::HttpOnly,
                DownloadMode::Simple,
                DownloadMode::Bypass,
            ];
            let at = order.iter().position(|mode| *mode == settings.download_mode).unwrap();
            settings.download_mode = order[(at + by as usize % 6).min(5)];
        }
        Key::GroupId => settings.group_id = None,
        Key::RestrictPeerSelectionBy => {
            // Each restriction admits peers that the other does not: only one instead of none is stricter.
            if settings.restrict_peer_selection_by == PeerRestriction::None {
                let either = [PeerRestriction::Subnet, PeerRestriction::LocalDiscovery];
                settings.restrict_peer_selection_by = either[by as usize % 2];
            }
        }
        Key::MinRAMAllowedToPeer => raise(&mut settings.min_ram_allowed_to_peer),
        Key::MinDiskSizeAllowedToPeer => raise(&mut settings.min_disk_size_allowed_to_peer),
        Key::MinFileSizeToCache => raise(&mut settings.min_file_size_to_cache),
        Key::MaxCacheAge => tighten(&mut settings.max_cache_age),
        Key::MaxCacheSize => settings.max_cache_size = settings.max_cache_size.saturating_sub(by).max(1),
        Key::AbsoluteMaxCacheSize => settings.absolute_max_cache_size.iter_mut().for_each(tighten),
        Key::MonthlyUploadDataCap => tighten(&mut settings.monthly_upload_data_cap),
        Key::MaxUploadBandwidth => tighten(&mut settings.max_upload_bandwidth),
        Key::MaxForegroundDownloadBandwidth => tighten(&mut settings.max_foreground_download_bandwidth),
        Key::MaxBackgroundDownloadBandwidth => tighten(&mut settings.max_background_download_bandwidth),
        Key::PercentageMaxForegroundBandwidth => percent(&mut settings.percentage_max_foreground_bandwidth),
        Key::PercentageMaxBackgroundBandwidth => percent(&mut settings.percentage_max_background_bandwidth),
        Key::SetHoursToLimitForegroundDownloadBandwidth => {
            hours(&mut settings.set_hours_to_limit_foreground_download_bandwidth);
        }
        Key::SetHoursToLimitBackgroundDownloadBandwidth => {
            hours(&mut settings.set_hours_to_limit_background_download_bandwidth);
        }
        Key::DelayForegroundDownloadFromHttp => raise(&mut settings.delay_foreground_download_from_http),
        Key::DelayBackgroundDownloadFromHttp => raise(&mut settings.delay_background_download_from_http),
        // An empty list is a list still: it does not let DHCP name some instead.
        Key::CacheHost => drop(settings.cache_host.as_mut().map(Vec::pop)),
        // Where `cache_host` names some, asking somebody else is asking for others, not for fewer.
        Key::CacheHostSource => {
            if settings.cache_host.is_none() {
                settings.cache_host_source = Some(CacheHostSource::DnsSdOff);
            }
        }
        Key::DelayCacheServerFallbackForeground => {
            raise(&mut settings.delay_cache_server_fallback_foreground)
        }
        Key::DelayCacheServerFallbackBackground => {
            raise(&mut settings.delay_cache_server_fallback_background)
        }
        Key::DisallowCacheServerDownloadsOnVPN => settings.disallow_cache_server_downloads_on_vpn = true,
        Key::AllowVPNPeerCaching => settings.allow_vpn_peer_caching = false,
        Key::VpnKeywords => settings.vpn_keywords.push(WORDS[by as usize % WORDS.len()].to_owned()),
        Key::MinBatteryPercentageAllowedToUpload => {
            // 0 is "never on battery": nothing is stricter.
            let least = &mut settings.min_battery_percentage_allowed_to_upload;
            *least = if *least == 0 || least.saturating_add(by) > 100 { 0 } else { *least + by };
        }
        Key::AllowMeteredPeerCaching => settings.allow_metered_peer_caching = false,
        Key::AllowMeteredDownloads => {
            let stricter = settings.allow_metered_downloads as usize;
            settings.allow_metered_downloads = MeteredDownloads::ALL[stricter.saturating_sub(by as usize)];
        }
        Key::LocalDiscovery => settings.local_discovery = false,
        Key::PeerEncryption => settings.peer_encryption = PeerEncryption::Required,
        Key::AllowRelay => settings.allow_relay = false,
        Key::UploadSlots => tighten(&mut settings.upload_slots),
        Key::MaxPeerConnections => {
            settings.max_peer_connections = settings.max_peer_connections.saturating_sub(by).max(1);
        }
        // `WITHOUT_ORDER`: whatever the value, no more is allowed.
        Key::GroupIdSource => {}
        Key::ModifyCacheDrive => settings.modify_cache_drive = "/elsewhere".into(),
        Key::MinBackgroundQos => raise(&mut settings.min_background_qos),
        Key::TrustedPublishers => settings.trusted_publishers.clear(),
    }
    settings
}

fn cache_hosts(text: &str) -> Vec<CacheHost> {
    text.split(", ").map(|host| host.parse().unwrap()).collect()
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let kind =
        prop::sample::select(&[LinkKind::Plain, LinkKind::Tun, LinkKind::Wireguard, LinkKind::Ppp][..]);
    let power = prop_oneof![
        Just(None),
        Just(Some(Power::Mains)),
        prop::option::of(0u8..=100).prop_map(|charge| Some(Power::Battery { charge })),
    ];
    let size = || prop::option::of(1..200 * GB);
    (
        (size(), size(), 0..10 * GB, any::<Option<bool>>(), power),
        (kind, any::<bool>(), any::<bool>(), -50_000i64..50_000, any::<bool>()),
    )
        .prop_map(|((ram, disk, sent, metered, power), (kind, second, vpn, ahead, caches))| {
            let offered = if caches { Ok(cache_hosts("b, c")) } else { Err("silence".to_owned()) };
            let mut facts = Facts {
                installed_ram: ram,
                cache_volume: disk.map(|capacity| Volume { capacity, free: capacity / 2 }),
                internet_uploaded: sent,
                interfaces: vec![interface("eth0", LinkKind::Plain)],
                connections: vec![Connection { id: "Office".to_owned(), vpn }],
                metered,
                power,
                zone: None,
                clock_ahead: ahead,
                dhcp_cache_hosts: DhcpCacheHosts(offered),
                ..Facts::default()
            };
            facts.interfaces.extend(second.then(|| interface("x0", kind)));
            facts
        })
}

/// Makes the device one on which less is allowed: weaker, on battery, metered, on a VPN, with more sent already.
fn worse(mut facts: Facts, which: usize, by: u64) -> Facts {
    match which {
        0 => facts.installed_ram = Some(facts.installed_ram.unwrap_or(u64::MAX).saturating_sub(by)),
        1 => {
            let capacity = facts.cache_volume.map_or(u64::MAX, |volume| volume.capacity).saturating_sub(by);
            facts.cache_volume = Some(Volume { capacity, free: capacity });
        }
        2 => facts.internet_uploaded += by,
        3 => facts.metered = Some(true),
        4 => {
            let charge = match facts.power {
                Some(Power::Battery { charge: Some(charge) }) => charge,
                _ => 100,
            };
            let charge = charge.saturating_sub(u8::try_from(by.min(100)).unwrap());
            facts.power = Some(Power::Battery { charge: Some(charge) });
        }
        5 => facts.interfaces.push(interface("wg0", LinkKind::Wireguard)),
        _ => facts.connections.push(Connection { id: "head office".to_owned(), vpn: true }),
    }
    facts
}

/// How many facts [`worse`] knows.
const WORSE: usize = 7;

/// A case: settings, which of them is made stricter and by how much, a device, and a content.
#[derive(Debug, Clone)]
struct Given {
    loose: Settings,
    key: Key,
    by: u64,
    facts: Facts,
    condition: usize,
    size: u64,
    kind: u8,
    scopes: ScopeSet,
    class: Class,
    origin: OriginUrl,
}

fn any_case() -> impl Strategy<Value = Given> {
    let by = prop_oneof![1u64..10, 1..200 * MB, 1..100 * GB];
    let size = prop_oneof![1..100 * MB, 1..200 * GB];
    let content = (0u8..8, 0u8..8, any::<bool>(), 0usize..3);
    (any_settings(), prop::sample::select(Key::ALL), by, any_facts(), 0..WORSE, size, content).prop_map(
        |(loose, key, by, facts, condition, size, (kind, scopes, foreground, url))| Given {
            loose,
            key,
            by,
            facts,
            condition,
            size,
            kind,
            scopes: ScopeSet::from_bits(scopes),
            class: if foreground { Class::Foreground } else { Class::Background },
            origin: [OriginUrl::Clear, OriginUrl::Secure, OriginUrl::Private][url],
        },
    )
}

impl Given {
    /// Of the neighbours, mode `group` admits fewer than mode `lan`: those of the group (DO reference §1.4).
    fn is_ordered(&self) -> bool {
        let of_group = self.loose.restrict_peer_selection_by == PeerRestriction::LocalDiscovery;
        self.key != Key::DownloadMode || self.loose.download_mode != DownloadMode::Group || !of_group
    }

    fn decide(&self, settings: &Settings, facts: &Facts, now: u64) -> [Decision; 2] {
        let record = record_of(self.size, self.scopes);
        let state = match self.kind {
            0 => RecordState::Missing,
            1 => RecordState::Untrusted,
            2 => RecordState::Stale,
            _ => RecordState::Held(&record),
        };
        let content =
            ContentFacts { class: self.class, record: state, size: Some(self.size), origin: self.origin };
        [decide(settings, facts, &content, now), decide_device(settings, facts, now)]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_stricter_setting_never_allows_more(given in any_case()) {
        prop_assume!(given.is_ordered());
        let Given { loose, key, by, facts, condition, .. } = &given;
        let (strict, poor) = (stricter(loose.clone(), *key, *by), worse(facts.clone(), *condition, *by));
        for now in [NOW, NOW + 5000] {
            let [b, whole_b] = given.decide(loose, facts, now);
            for (decided, what) in [
                (given.decide(&strict, facts, now), key.name().to_owned()),
                (given.decide(loose, &poor, now), format!("fact {condition}")),
            ] {
                prop_assert_eq!(allows_no_more(&decided[0], &b), Ok(()), "{}", what);
                prop_assert_eq!(allows_no_more(&decided[1], &whole_b), Ok(()), "{} of the device", what);
            }
            // No content may do what the device may not.
            let content_within = Decision { limits: whole_b.limits, ..b.clone() };
            prop_assert_eq!(allows_no_more(&content_within, &whole_b), Ok(()));
            prop_assert!(!b.peers() || !b.reasons.iter().any(|reason| reason.code.forbids_peers()));
        }
    }
}

#[test]
fn every_setting_with_an_order_does_take_something_away() {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut without: Vec<Key> = Key::ALL.to_vec();
    for _ in 0..20_000 {
        let given = any_case().new_tree(&mut runner).unwrap().current();
        let Given { loose, key, by, facts, .. } = &given;
        if !without.contains(key) || !given.is_ordered() {
            continue;
        }
        let strict = stricter(loose.clone(), *key, *by);
        let (before, after) = (given.decide(loose, facts, NOW), given.decide(&strict, facts, NOW));
        // Less, not only something else: going back would allow more.
        if before.iter().zip(&after).any(|(before, after)| allows_no_more(before, after).is_err()) {
            without.retain(|left| left != key);
        }
    }
    assert_eq!(without, WITHOUT_ORDER);
}
