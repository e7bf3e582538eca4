//! Reasons: why a decision is as it is, in sentences, and what to change. `peerage why` and `doctor` print them.

mod code;

use peerage_content::{Scope, ScopeSet};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::VpnSign;
use crate::choice::{DownloadMode, GroupIdSource};
use crate::decision::Class;
use crate::layers::{BYPASS, Provider};
use crate::rule::Rule;
use crate::table::{Key, Settings};
use crate::units::{about_rate, about_size, show_duration};
pub use code::Code;

/// One reason of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What was decided.
    pub code: Code,
    /// The setting that decided it; `None`: not a setting but the content.
    pub setting: Option<Key>,
    /// The layer that gives this setting.
    pub provider: Option<Provider>,
}

impl Reason {
    /// A reason that lies in a setting.
    pub(crate) fn of_setting(code: Code, key: Key, settings: &Settings) -> Self {
        Self { code, setting: Some(key), provider: Some(settings.provider(key)) }
    }

    /// The reason why peers wait for a file while as many as `upload_slots` allows are served.
    pub fn no_upload_slot(settings: &Settings) -> Self {
        let code = Code::NoUploadSlot { most: settings.upload_slots };
        Self::of_setting(code, Key::UploadSlots, settings)
    }

    /// The reason why further peers are not connected while as many as `max_peer_connections` allows are.
    pub fn no_peer_place(settings: &Settings) -> Self {
        let code = Code::NoPeerPlace { most: settings.max_peer_connections };
        Self::of_setting(code, Key::MaxPeerConnections, settings)
    }

    /// The reason why peers that could not be reached were not met through the relay.
    pub fn relay_forbidden(settings: &Settings) -> Self {
        Self::of_setting(Code::RelayForbidden, Key::AllowRelay, settings)
    }

    /// The reason why a content was evicted that `max_cache_age` let be kept no longer.
    pub fn cache_aged(settings: &Settings) -> Self {
        Self::of_setting(Code::CacheAged, Key::MaxCacheAge, settings)
    }

    /// The reason why a content was evicted while the cache held more than it may.
    pub fn cache_full(settings: &Settings) -> Self {
        let absolute = settings.absolute_max_cache_size.is_some();
        let key = if absolute { Key::AbsoluteMaxCacheSize } else { Key::MaxCacheSize };
        Self::of_setting(Code::CacheFull, key, settings)
    }

    /// A reason that lies in the content.
    pub(crate) const fn of_content(code: Code) -> Self {
        Self { code, setting: None, provider: None }
    }

    /// What was decided and why, for people.
    pub fn sentence(&self) -> String {
        let what = match &self.code {
            Code::ModeAdmits(DownloadMode::Lan) => "peers of the same site may be used".to_owned(),
            Code::ModeAdmits(DownloadMode::Group) => {
                "peers of the same site and of the same group may be used".to_owned()
            }
            Code::ModeAdmits(_) => "peers anywhere in the fleet may be used".to_owned(),
            Code::HttpOnly => "only HTTP is used, with signed records but without peers".to_owned(),
            Code::Simple => "only plain HTTP is used, without peers and coordinator".to_owned(),
            Code::BypassRefused => BYPASS.to_owned(),
            Code::NoGroup { tried } => format!(
                "the mode admits peers of the group, but this device is in no group{}",
                silent_sources(tried)
            ),
            Code::GroupFrom { source, failed } => {
                format!("the group is that of {}{}", source.title(), silent_sources(failed))
            }
            Code::OnlyLocalDiscovery => {
                "only peers found by DNS-SD may be used, none that the coordinator names".to_owned()
            }
            Code::NoLocalDiscovery => "peers are not looked for by DNS-SD".to_owned(),
            Code::RamBelowMinimum { found, least } => {
                format!("{} of RAM is installed, peers need {}", about_size(*found), about_size(*least))
            }
            Code::DiskBelowMinimum { found, least } => {
                format!("the cache's volume has {}, peers need {}", about_size(*found), about_size(*least))
            }
            Code::RecordMissing => "there is no signed record of this content".to_owned(),
            Code::RecordUntrusted => "the record of this content is not signed by a trusted key".to_owned(),
            Code::RecordStale => "the origin serves something else than the record says".to_owned(),
            Code::RecordOutOfTime(error) => error.to_string(),
            Code::NotShareable => "the record of this content does not let peers share it".to_owned(),
            Code::RecordNarrows(scopes) => {
                format!("the record lets only peers of {} share it", names(*scopes))
            }
            Code::TooSmall { found, least } => {
                format!("the content has {}, peers share from {}", about_size(*found), about_size(*least))
            }
            Code::SizeUnknown => "the size of the content is not known".to_owned(),
            Code::OriginHeldBack { seconds } => {
                format!("the origin is held back for {}, in favour of peers", show_duration(*seconds))
            }
            Code::DownloadLimited { class, rate } => {
                format!("all {} downloads together are held to {}", class.name(), about_rate(*rate))
            }
            Code::DownlinkShared { class, percent } => {
                format!(
                    "all {} downloads together are held to {percent} % of the downlink, peers of the LAN exempt",
                    class.name()
                )
            }
            Code::HoursShared { class, percent, inside } => {
                let side = if *inside { "inside" } else { "outside" };
                format!(
                    "all {} downloads together are held to {percent} % of the downlink, being {side} the hours, peers of \
                     the LAN exempt",
                    class.name()
                )
            }
            Code::OnVpn { sign } => {
                format!("this device is on a VPN, where no peers are used but those found by DNS-SD: {sign}")
            }
            Code::CachesOnVpn { sign } => {
                format!("this device is on a VPN, where connected caches are not used: {sign}")
            }
            Code::CachesNamed { hosts } => {
                format!("connected caches are asked before the origin: {}", some_of(hosts))
            }
            Code::NoCacheFromDhcp { why } => format!("DHCP names no connected cache: {why}"),
            Code::CachesUnproven { vpn: false } => {
                "connected caches are not asked: DHCP alone names them, the URL is https, and no signed record would \
                 verify what they send"
                    .to_owned()
            }
            Code::CachesUnproven { vpn: true } => {
                "connected caches are not asked: DHCP alone names them, this device is on a VPN, and no signed record \
                 would verify what they send"
                    .to_owned()
            }
            Code::CachesNotForPrivate => {
                "connected caches are not asked: the URL carries a password or a signature, or speaks to a cache itself"
                    .to_owned()
            }
            Code::CacheFallbackHeldBack { seconds } => format!(
                "the origin is held back for {} in favour of connected caches",
                show_duration(*seconds)
            ),
            Code::PeersMetered => {
                "the connection is metered, and peers are not used on such a one".to_owned()
            }
            Code::DownloadMetered { class, .. } => {
                format!("the connection is metered, so {} downloads wait until it is not", class.name())
            }
            Code::OnBattery { charge, least } => {
                let charge = charge.map_or_else(String::new, |charge| format!(" ({charge} % charged)"));
                match least {
                    0 => format!("this device is on battery{charge}, where nothing is uploaded"),
                    least => {
                        format!("this device is on battery{charge}, and uploads need a charge of {least} %")
                    }
                }
            }
            Code::SubnetOnly => "only peers of this device's own subnets are used".to_owned(),
            Code::NoUploadSlot { most: 1 } => "1 other file is served already, so this one waits for its turn".to_owned(),
            Code::NoUploadSlot { most } => {
                format!("{most} other files are served already, so this one waits for its turn")
            }
            Code::NoPeerPlace { most: 1 } => "1 peer is connected already, so no others are".to_owned(),
            Code::NoPeerPlace { most } => {
                format!("{most} peers are connected already, so no others are")
            }
            Code::CacheAged => "it was kept for as long as it may be".to_owned(),
            Code::CacheFull => "the cache was fuller than it may be".to_owned(),
            Code::MonthSpent { found, most } => format!(
                "{} of the {} that a month allows have been uploaded to Internet peers",
                about_size(*found),
                about_size(*most)
            ),
            Code::UploadLimited(rate) => format!("all uploads together are held to {}", about_rate(*rate)),
            Code::CacheStays { why } => format!("the cache is not where it is to be: {why}"),
            Code::ClearText => "connections to peers may be clear text".to_owned(),
            Code::RelayAllowed => {
                "peers of other sites that cannot be reached may be met through the coordinator's relay".to_owned()
            }
            Code::RelayForbidden => {
                "peers of other sites could not be reached, and may not be met through the coordinator's relay"
                    .to_owned()
            }
        };
        match (self.setting, self.provider) {
            (Some(key), Some(provider)) => format!("{what} ({}, from {provider})", key.name()),
            _ => what,
        }
    }

    /// What to change for another decision; `None`: nothing is amiss.
    pub fn remedy(&self) -> Option<String> {
        let set = |what: &str| {
            let place = match self.provider {
                Some(Provider::Fleet) => "in the coordinator's policy",
                Some(Provider::Policy) => "in the device's policy file",
                _ => "with `peerage set`",
            };
            let name = self.setting.map_or("", Key::name);
            Some(format!("{what} {name} {place}"))
        };
        match &self.code {
            Code::ModeAdmits(_)
            | Code::ClearText
            | Code::RelayAllowed
            | Code::GroupFrom { .. }
            | Code::CachesNamed { .. }
            | Code::CachesNotForPrivate => None,
            Code::CacheStays { .. } => {
                set("mend what is said there, which is tried again every 10 s, or change")
            }
            Code::NoCacheFromDhcp { .. } => {
                Some("give option 235 on the DHCP server, or name the caches in cache_host".to_owned())
            }
            Code::CachesUnproven { .. } => Some(
                "publish the content with `peerage publish`, or name the caches in cache_host".to_owned(),
            ),
            Code::HttpOnly | Code::Simple | Code::BypassRefused => set("choose lan, group or internet for"),
            Code::OnlyLocalDiscovery => set("choose none for"),
            Code::NoLocalDiscovery => set("switch on"),
            Code::NoGroup { .. } if self.setting == Some(Key::GroupIdSource) => {
                set("mend what is said of the source, give the GUID as group_id, or give another source for")
            }
            Code::NoGroup { .. } => set("mend what is said of a source, or give the group's GUID as"),
            Code::RamBelowMinimum { found, .. }
            | Code::DiskBelowMinimum { found, .. }
            | Code::TooSmall { found, .. } => self.too_little(*found).or_else(|| set("lower")),
            Code::OnVpn { sign: VpnSign::Keyword { word, .. } } => {
                set(&format!("take {word:?} out of vpn_keywords, or give true for"))
            }
            Code::CachesOnVpn { sign: VpnSign::Keyword { word, .. } } => {
                set(&format!("take {word:?} out of vpn_keywords, or give false for"))
            }
            Code::OnVpn { .. } | Code::PeersMetered | Code::RelayForbidden => set("give true for"),
            Code::CachesOnVpn { .. } => set("give false for"),
            Code::DownloadMetered { class: Class::Foreground, .. } => set("give foreground or always for"),
            Code::DownloadMetered { foreground: true, .. } => {
                set("ask for the file with --foreground, or give always for")
            }
            Code::DownloadMetered { .. } => set("give always for"),
            Code::OnBattery { least: 0, .. } => set("connect the mains, or give a percentage for"),
            Code::OnBattery { .. } => set("connect the mains, or lower"),
            Code::SubnetOnly => set("give none for"),
            Code::NoPeerPlace { .. } => set("raise"),
            Code::CacheFull if self.setting == Some(Key::MaxCacheSize) => set("raise"),
            Code::OriginHeldBack { .. } | Code::CacheFallbackHeldBack { .. } => {
                set("lower, or give 0 (none) for")
            }
            Code::HoursShared { .. } => set("give a higher share, or 0 (no limit), for this hour in"),
            Code::NoUploadSlot { .. }
            | Code::CacheAged
            | Code::CacheFull
            | Code::DownloadLimited { .. }
            | Code::DownlinkShared { .. }
            | Code::UploadLimited(_)
            | Code::MonthSpent { .. } => set("raise, or give 0 (no limit) for"),
            Code::RecordMissing => {
                Some("publish it with `peerage publish`, or let the coordinator take in its URL".to_owned())
            }
            Code::RecordUntrusted => set("enrol the device anew, or add the key to"),
            Code::RecordStale => Some("publish the new file with `peerage publish`".to_owned()),
            Code::RecordOutOfTime(_) => {
                Some("check this device's clock, then publish the content again".to_owned())
            }
            Code::NotShareable | Code::RecordNarrows(_) => {
                Some("publish the content again with wider scopes".to_owned())
            }
            Code::SizeUnknown => Some("publish the content, so that a record tells its size".to_owned()),
        }
    }

    /// That no value of the setting admits as little as there is; `None`: a lower one does.
    fn too_little(&self, found: u64) -> Option<String> {
        let setting = self.setting?.setting();
        let Rule::Number { unit, min, .. } = setting.rule else { return None };
        let least = min.saturating_mul(unit.scale());
        (found < least).then(|| format!("none: {} cannot be less than {}", setting.name, about_size(least)))
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Reason", 6)?;
        fields.serialize_field("Code", self.code.name())?;
        fields.serialize_field("ForbidsPeers", &self.code.forbids_peers())?;
        fields.serialize_field("Setting", &self.setting.map(Key::name))?;
        fields.serialize_field("Provider", &self.provider)?;
        fields.serialize_field("Sentence", &self.sentence())?;
        fields.serialize_field("Remedy", &self.remedy())?;
        fields.end()
    }
}

/// Why other sources name no group, in brackets.
fn silent_sources(failed: &[(GroupIdSource, String)]) -> String {
    let each = failed.iter().map(|(source, why)| format!("{}: {why}", source.title()));
    let all = each.collect::<Vec<_>>().join("; ");
    if all.is_empty() { all } else { format!(" ({all})") }
}

/// The first few of a list.
fn some_of(names: &[String]) -> String {
    const FEW: usize = 4;
    let shown = names.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn names(scopes: ScopeSet) -> String {
    let known = [(Scope::Lan, "the site"), (Scope::Group, "the group"), (Scope::Internet, "the Internet")];
    let held = known.into_iter().filter(|(scope, _)| scopes.contains(*scope));
    held.map(|(_, name)| name).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::parse_layer;
    use crate::layers::Layers;

    #[test]
    fn names_setting_layer_and_where_to_change_it() {
        let mut layers = Layers::default();
        let code = || Code::TooSmall { found: 1_500_000, least: 50_000_000 };
        let key = Key::MinFileSizeToCache;
        let reason = Reason::of_setting(code(), key, &layers.settings());
        let said = "the content has 1.5 MB, peers share from 50 MB (min_file_size_to_cache, from default)";
        assert_eq!(reason.sentence(), said);
        assert_eq!(reason.remedy().unwrap(), "lower min_file_size_to_cache with `peerage set`");
        layers.replace(Provider::Fleet, parse_layer("fleet", "DOMinFileSizeToCache = 50").unwrap());
        let reason = Reason::of_setting(code(), key, &layers.settings());
        assert!(reason.remedy().unwrap().ends_with("in the coordinator's policy"));
        let json = serde_json::to_value(&reason).unwrap();
        assert_eq!((json["Code"].as_str(), json["Provider"].as_str()), (Some("too_small"), Some("fleet")));
        assert_eq!(json["Setting"], "min_file_size_to_cache");
        assert_eq!(json["ForbidsPeers"], true);
    }

    #[test]
    fn what_cannot_be_lowered_so_far_is_not_to_be_lowered() {
        let settings = Layers::default().settings();
        let remedy = |code, key| Reason::of_setting(code, key, &settings).remedy().unwrap();
        let (found, least) = (512_000_000, 4_000_000_000);
        assert_eq!(
            remedy(Code::RamBelowMinimum { found, least }, Key::MinRAMAllowedToPeer),
            "none: min_ram_allowed_to_peer cannot be less than 1 GB"
        );
        let (found, least) = (999_999, 1_000_000);
        assert_eq!(
            remedy(Code::TooSmall { found, least }, Key::MinFileSizeToCache),
            "none: min_file_size_to_cache cannot be less than 1 MB"
        );
        let code = Code::TooSmall { found: 1_000_000, least: 50_000_000 };
        assert!(remedy(code, Key::MinFileSizeToCache).starts_with("lower"));
    }

    #[test]
    fn nobody_is_told_to_wait_for_a_download_that_may_not_run_then_either() {
        for (text, remedy) in [
            ("never", "give always for allow_metered_downloads with `peerage set`"),
            (
                "foreground",
                "ask for the file with --foreground, or give always for allow_metered_downloads with `peerage set`",
            ),
        ] {
            let mut layers = Layers::default();
            let layer = parse_layer("admin.toml", &format!("allow_metered_downloads = '{text}'")).unwrap();
            layers.replace(Provider::Admin, layer);
            let facts = crate::Facts { metered: Some(true), ..crate::Facts::default() };
            let content = crate::ContentFacts {
                class: Class::Background,
                record: crate::RecordState::Missing,
                size: None,
                origin: crate::OriginUrl::default(),
            };
            let decision = crate::decide(&layers.settings(), &facts, &content, 0);
            let told = decision.reasons.iter().find(|reason| reason.code.name() == "download_metered");
            assert_eq!(told.unwrap().remedy().as_deref(), Some(remedy));
        }
    }

    #[test]
    fn content_reasons_name_no_setting() {
        let reason = Reason::of_content(Code::RecordNarrows(ScopeSet::up_to(Scope::Group)));
        assert_eq!(reason.sentence(), "the record lets only peers of the site and the group share it");
        assert!(reason.remedy().is_some() && !reason.code.forbids_peers());
    }
}
