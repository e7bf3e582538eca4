//! The rules: which settings contradict each other, and which have no effect beside others (DO reference §1 and §11).

use super::{Advice, Level};
use crate::choice::{CacheHostSource, DownloadMode, GroupIdSource, PeerEncryption, PeerRestriction};
use crate::layer::Layer;
use crate::layers::{BYPASS, Layers, Provider};
use crate::table::{Key, Settings};
use crate::units::{about_rate, show_duration};

struct Judge<'a> {
    layer: &'a Layer,
    settings: Settings,
    found: Vec<Advice>,
}

impl Judge<'_> {
    fn is_set(&self, key: Key) -> bool {
        self.layer.source(key).is_some()
    }

    fn say(&mut self, level: Level, keys: &[Key], sentence: impl Into<String>) {
        let settings = keys.iter().map(|key| key.name()).collect();
        self.found.push(Advice { level, settings, sentence: sentence.into() });
    }

    /// Two settings that are both set.
    fn both(&mut self, one: Key, other: Key, what_follows: &str) {
        if self.is_set(one) && self.is_set(other) {
            let sentence = format!("{} and {} are both set: {what_follows}", one.name(), other.name());
            self.say(Level::Conflict, &[one, other], sentence);
        }
    }

    /// Settings that are set and mean nothing because of another one.
    fn idle(&mut self, keys: &[Key], because: Key, why: &str) {
        // Files are often parts: what they leave to the default another layer may set.
        let unless = match self.is_set(because) {
            true => String::new(),
            false => format!(", unless another file or layer sets {}", because.name()),
        };
        for key in keys {
            if self.is_set(*key) {
                let sentence = format!("{} has no effect: {why}{unless}", key.name());
                self.say(Level::Conflict, &[*key, because], sentence);
            }
        }
    }
}

/// What is to be said of the settings of all files together.
pub(super) fn judge(layer: &Layer) -> Vec<Advice> {
    let mut layers = Layers::default();
    layers.replace(Provider::Policy, layer.clone());
    let mut judge = Judge { layer, settings: layers.settings(), found: Vec::new() };
    for rule in [each, mode, group, restriction, cache, rates, hours, delays, connected_caches, vpn, safety] {
        rule(&mut judge);
    }
    judge.found
}

fn each(judge: &mut Judge<'_>) {
    for key in judge.layer.keys() {
        let setting = key.setting();
        if setting.deprecated {
            let sentence = format!(
                "{} is deprecated in Delivery Optimization and has no successor there; here it goes on to hold",
                setting.name
            );
            judge.say(Level::Deprecated, &[key], sentence);
        }
    }
}

fn mode(judge: &mut Judge<'_>) {
    use Key::{
        DelayBackgroundDownloadFromHttp, DelayForegroundDownloadFromHttp, DownloadMode as Mode,
        MonthlyUploadDataCap, RestrictPeerSelectionBy,
    };
    let mode = judge.settings.download_mode;
    if mode == DownloadMode::Bypass {
        judge.say(Level::Deprecated, &[Mode], BYPASS);
    }
    if mode.scopes().is_empty() {
        let why = format!("download_mode {} uses no peers", mode.name());
        let keys = [
            RestrictPeerSelectionBy,
            DelayForegroundDownloadFromHttp,
            DelayBackgroundDownloadFromHttp,
            Key::MaxUploadBandwidth,
            Key::MinFileSizeToCache,
            Key::AllowVPNPeerCaching,
            Key::AllowMeteredPeerCaching,
            Key::MinBatteryPercentageAllowedToUpload,
            Key::MaxPeerConnections,
            Key::UploadSlots,
            Key::PeerEncryption,
        ];
        judge.idle(&keys, Mode, &why);
    }
    let relayed = mode == DownloadMode::Group && judge.settings.allow_relay;
    if mode != DownloadMode::Internet && !relayed {
        let why = format!("it counts bytes to Internet peers, and download_mode {} has none", mode.name());
        judge.idle(&[MonthlyUploadDataCap], Mode, &why);
    }
    if !matches!(mode, DownloadMode::Group | DownloadMode::Internet) {
        let why =
            format!("the relay is for devices of other sites, and download_mode {} has none", mode.name());
        judge.idle(&[Key::AllowRelay], Mode, &why);
    }
}

fn group(judge: &mut Judge<'_>) {
    use Key::{DownloadMode as Mode, GroupId, GroupIdSource as Source};
    let mode = judge.settings.download_mode;
    if mode == DownloadMode::Group || mode == DownloadMode::Internet {
        judge.both(GroupId, Source, "group_id wins, and the source is not asked");
        if !judge.is_set(GroupId)
            && judge.settings.group_id_source == GroupIdSource::Unset
            && mode == DownloadMode::Group
        {
            let sentence = "download_mode is group and neither group_id nor group_id_source is set: the group is the \
                            first available of AD site, domain SID and Entra tenant, and without any of them there are \
                            only LAN peers";
            judge.say(Level::Note, &[Mode, GroupId, Source], sentence);
        }
    } else {
        let why = format!(
            "it is used in download_mode group (2), and the mode is {} ({})",
            mode.name(),
            mode.number()
        );
        judge.idle(&[GroupId, Source], Mode, &why);
    }
}

fn restriction(judge: &mut Judge<'_>) {
    use Key::{DownloadMode as Mode, LocalDiscovery, RestrictPeerSelectionBy as Restrict};
    let mode = judge.settings.download_mode;
    match judge.settings.restrict_peer_selection_by {
        PeerRestriction::LocalDiscovery if !judge.settings.local_discovery => judge.say(
            Level::Conflict,
            &[Restrict, LocalDiscovery],
            "restrict_peer_selection_by admits only peers found by local discovery and local_discovery is off: there are \
             no peers at all",
        ),
        PeerRestriction::Subnet if mode == DownloadMode::Group || mode == DownloadMode::Internet => judge.say(
            Level::Conflict,
            &[Restrict, Mode],
            format!("restrict_peer_selection_by is subnet: the peers elsewhere that download_mode {} admits are never used", mode.name()),
        ),
        _ => {}
    }
}

fn cache(judge: &mut Judge<'_>) {
    use Key::{AbsoluteMaxCacheSize as Absolute, MaxCacheAge, MaxCacheSize};
    judge.both(Absolute, MaxCacheSize, "the absolute size overrides the percentage");
    if judge.settings.absolute_max_cache_size == Some(0) {
        let sentence =
            "absolute_max_cache_size is 0: the cache may fill the volume until disk space runs low";
        judge.say(Level::Note, &[Absolute], sentence);
    }
    if judge.is_set(MaxCacheAge) && judge.settings.max_cache_age == 0 {
        let sentence = "max_cache_age is 0: files stay until their space is needed, which suits devices that serve others";
        judge.say(Level::Note, &[MaxCacheAge], sentence);
    }
}

fn rates(judge: &mut Judge<'_>) {
    use Key::{
        MaxBackgroundDownloadBandwidth, MaxForegroundDownloadBandwidth, MinBackgroundQos,
        PercentageMaxBackgroundBandwidth, PercentageMaxForegroundBandwidth,
    };
    let settings = &judge.settings;
    // 0 limits nothing: it contradicts no other limit.
    for (percent, absolute, both_limit) in [
        (
            PercentageMaxForegroundBandwidth,
            MaxForegroundDownloadBandwidth,
            settings.percentage_max_foreground_bandwidth > 0
                && settings.max_foreground_download_bandwidth > 0,
        ),
        (
            PercentageMaxBackgroundBandwidth,
            MaxBackgroundDownloadBandwidth,
            settings.percentage_max_background_bandwidth > 0
                && settings.max_background_download_bandwidth > 0,
        ),
    ] {
        if both_limit {
            judge.both(
                percent,
                absolute,
                "the lower of the two holds; LAN peers are exempt from the percentage only",
            );
        }
    }
    let (floor, cap) = (judge.settings.min_background_qos, judge.settings.max_background_download_bandwidth);
    if cap > 0
        && floor >= cap
        && (judge.is_set(MinBackgroundQos) || judge.is_set(MaxBackgroundDownloadBandwidth))
    {
        let sentence = format!(
            "min_background_qos ({}) is not below max_background_download_bandwidth ({}): the floor is never reached, so HTTP \
             is always called in beside peers",
            about_rate(floor),
            about_rate(cap)
        );
        judge.say(Level::Conflict, &[MinBackgroundQos, MaxBackgroundDownloadBandwidth], sentence);
    }
}

fn hours(judge: &mut Judge<'_>) {
    use Key::{
        PercentageMaxBackgroundBandwidth, PercentageMaxForegroundBandwidth,
        SetHoursToLimitBackgroundDownloadBandwidth, SetHoursToLimitForegroundDownloadBandwidth,
    };
    let settings = &judge.settings;
    let both = [
        (
            SetHoursToLimitForegroundDownloadBandwidth,
            PercentageMaxForegroundBandwidth,
            settings.set_hours_to_limit_foreground_download_bandwidth.clone(),
            settings.percentage_max_foreground_bandwidth,
        ),
        (
            SetHoursToLimitBackgroundDownloadBandwidth,
            PercentageMaxBackgroundBandwidth,
            settings.set_hours_to_limit_background_download_bandwidth.clone(),
            settings.percentage_max_background_bandwidth,
        ),
    ];
    for (hours, percent, value, replaced) in both {
        if replaced > 0 {
            judge.both(
                hours,
                percent,
                "while the hours are set they replace the percentage, outside the hours too",
            );
        }
        let Some(value) = value else { continue };
        if value.to <= value.from {
            let sentence = format!(
                "{}: from {} to {} crosses midnight; the days are those on which the hours begin",
                hours.name(),
                value.from,
                value.to
            );
            judge.say(Level::Note, &[hours], sentence);
        }
        if value.inside == value.outside {
            let sentence = format!("{}: {} % inside the hours and outside", hours.name(), value.inside);
            judge.say(Level::Conflict, &[hours], sentence);
        }
    }
}

fn delays(judge: &mut Judge<'_>) {
    use Key::{DelayBackgroundDownloadFromHttp as Background, DelayForegroundDownloadFromHttp as Foreground};
    let settings = &judge.settings;
    let (fore, back) =
        (settings.delay_foreground_download_from_http, settings.delay_background_download_from_http);
    if fore > 60 {
        let sentence = format!(
            "delay_foreground_download_from_http is {}: somebody waits all that time when peers are known and do not \
             deliver; 30 to 60 s are usual",
            show_duration(fore)
        );
        judge.say(Level::Note, &[Foreground], sentence);
    }
    for (delay, from_http, from_cache) in [
        (fore, Foreground, Key::DelayCacheServerFallbackForeground),
        (back, Background, Key::DelayCacheServerFallbackBackground),
    ] {
        if delay > 0 {
            judge.both(
                from_http,
                from_cache,
                "the delay in favour of peers passes first, then the one in favour of the cache",
            );
        }
    }
}

fn connected_caches(judge: &mut Judge<'_>) {
    use Key::{CacheHost, CacheHostSource as Source};
    match judge.settings.cache_host_source {
        Some(CacheHostSource::DhcpOption) => {
            judge.both(
                CacheHost,
                Source,
                "cache_host wins over DHCP option 235 (dhcp_option_force is the other way round)",
            );
        }
        Some(CacheHostSource::DhcpOptionForce) => {
            judge.both(
                CacheHost,
                Source,
                "DHCP option 235 wins, and cache_host is used where DHCP gives none",
            );
        }
        None | Some(CacheHostSource::DnsSdOff) if judge.settings.cache_host.is_none() => judge.idle(
            &[Key::DelayCacheServerFallbackForeground, Key::DelayCacheServerFallbackBackground],
            CacheHost,
            "no connected cache is named, and none is looked for",
        ),
        _ => {}
    }
    if judge.settings.cache_host.as_ref().is_some_and(Vec::is_empty) {
        let sentence = "cache_host is set and empty: that counts as configured, so no cache is used unless DHCP is forced; \
                        remove it to have DHCP asked";
        judge.say(Level::Conflict, &[CacheHost], sentence);
    }
}

fn vpn(judge: &mut Judge<'_>) {
    use Key::{AllowVPNPeerCaching, DisallowCacheServerDownloadsOnVPN, VpnKeywords};
    if !judge.is_set(VpnKeywords) {
        return;
    }
    let settings = &judge.settings;
    let short: Vec<String> =
        settings.vpn_keywords.iter().filter(|word| word.chars().count() < 3).cloned().collect();
    let without_use = settings.allow_vpn_peer_caching && !settings.disallow_cache_server_downloads_on_vpn;
    let defaults = Settings::default().vpn_keywords;
    let lost: Vec<String> =
        defaults.into_iter().filter(|word| !settings.vpn_keywords.contains(word)).collect();
    if without_use {
        judge.idle(
            &[VpnKeywords],
            AllowVPNPeerCaching,
            "peers and caches are both used on a VPN, so it does not matter what is one",
        );
    }
    if !short.is_empty() {
        let sentence = format!(
            "vpn_keywords: {} is part of many names, and every interface whose name contains it counts as a VPN",
            short.join(", ")
        );
        judge.say(Level::Conflict, &[VpnKeywords, DisallowCacheServerDownloadsOnVPN], sentence);
    }
    if !lost.is_empty() {
        let sentence =
            format!("vpn_keywords replaces the built-in list: {} no longer tells a VPN", lost.join(", "));
        judge.say(Level::Note, &[VpnKeywords], sentence);
    }
}

fn safety(judge: &mut Judge<'_>) {
    use Key::{DownloadMode as Mode, PeerEncryption as Encryption};
    if judge.settings.peer_encryption == PeerEncryption::Off && judge.is_set(Encryption) {
        let sentence = "peer_encryption is off: pieces are still verified, but whoever listens on the network sees them (a relay \
             never does)";
        judge.say(Level::Note, &[Encryption], sentence);
    }
    if judge.settings.download_mode == DownloadMode::Internet && judge.settings.monthly_upload_data_cap == 0 {
        let sentence = "download_mode is internet and monthly_upload_data_cap is 0: nothing limits what is uploaded over \
                        the Internet";
        judge.say(Level::Note, &[Mode, Key::MonthlyUploadDataCap], sentence);
    }
}
