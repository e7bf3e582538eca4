//! The decision: may this device fetch from peers, serve them, and within which limits; with the reasons.
//!
//! A decision starts as everything the design knows and passes through [`RULES`]. A rule may only take away, and adds a
//! reason when it does: so no order of rules, and no rule added later, can allow what another has forbidden.

mod allowed;
mod conditions;
mod limits;

use peerage_content::{ContentRecord, Scope, ScopeSet};

use crate::choice::{DownloadMode, GroupIdSource, PeerEncryption, PeerRestriction};
use crate::reason::{Code, Reason};
use crate::table::{Key, Settings};
use crate::{CacheHost, Facts, GroupChoice, OriginUrl, caches};
pub use allowed::{Allowed, LinkLocal, Relay};
use conditions::Share;
pub use limits::{CacheLimit, Limits};

/// Whether someone waits for a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Class {
    /// Someone waits.
    Foreground,
    /// Nobody waits.
    #[default]
    Background,
}

impl Class {
    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Foreground => "foreground",
            Self::Background => "background",
        }
    }
}

/// What is known of the record of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordState<'a> {
    /// There is none.
    Missing,
    /// Its signature is of no trusted key.
    Untrusted,
    /// The origin serves something else than it says.
    Stale,
    /// It is trusted; its time is judged here.
    Held(&'a ContentRecord),
}

/// What is known of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentFacts<'a> {
    /// The class of its download.
    pub class: Class,
    /// Its record.
    pub record: RecordState<'a>,
    /// Its bytes as the origin tells them; a held record's size goes before it.
    pub size: Option<u64>,
    /// What its URL is.
    pub origin: OriginUrl,
}

/// What a device may do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Sources and sharing.
    pub allowed: Allowed,
    /// Limits.
    pub limits: Limits,
    /// Connected caches to be asked before the origin, in this order.
    pub caches: Vec<CacheHost>,
    /// Every reason, the mode's first.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether any peer may be fetched from or served.
    pub const fn peers(&self) -> bool {
        self.allowed.fetch_any() || self.allowed.serve_any()
    }

    pub(crate) fn because(&mut self, reason: Reason) {
        self.reasons.push(reason);
    }

    fn forbid_peers(&mut self, reason: Reason) {
        self.keep_scopes(ScopeSet::NONE);
        self.allowed.link_local = LinkLocal::NONE;
        self.because(reason);
    }

    fn keep_scopes(&mut self, scopes: ScopeSet) {
        self.allowed.fetch = both(self.allowed.fetch, scopes);
        self.allowed.serve = both(self.allowed.serve, scopes);
    }
}

/// All that a rule may look at. `content` is `None` when the device as a whole is judged.
pub(crate) struct Case<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) facts: &'a Facts,
    pub(crate) content: Option<&'a ContentFacts<'a>>,
    pub(crate) now: u64,
}

/// Takes away what it finds not allowed.
type RuleFn = fn(&Case<'_>, &mut Decision);

/// In the order in which their reasons are told. The delays look at what the others have left, so they stand last.
const RULES: &[RuleFn] = &[
    mode,
    group,
    discovery,
    ram,
    disk,
    conditions::vpn,
    conditions::metered_peers,
    conditions::metered_download,
    conditions::battery,
    conditions::subnet,
    caches::rule,
    record,
    size,
    relay,
    month,
    rates,
    encryption,
    cache_place,
    origin_delay,
    caches::delay_rule,
];

/// Decides about one content at `now` (Unix seconds).
pub fn decide(settings: &Settings, facts: &Facts, content: &ContentFacts<'_>, now: u64) -> Decision {
    judge(&Case { settings, facts, content: Some(content), now })
}

/// Decides at `now` (Unix seconds) what the device may do at best, with any content: whether it opens its port to peers, and
/// the limits that all contents share.
pub fn decide_device(settings: &Settings, facts: &Facts, now: u64) -> Decision {
    judge(&Case { settings, facts, content: None, now })
}

fn judge(case: &Case<'_>) -> Decision {
    let settings = case.settings;
    let (fetch, serve) = (ScopeSet::ALL, ScopeSet::ALL);
    let allowed = Allowed {
        coordinator: true,
        fetch,
        serve,
        link_local: LinkLocal { fetch: true, serve: true, of_group: false },
        group: None,
        beyond_subnet: true,
        relay: Relay { fetch: true, serve: true },
        cache_server: true,
        download: true,
    };
    let [foreground_percent, background_percent] =
        [Class::Foreground, Class::Background].map(|class| unless_zero(case.share(class).percent));
    let limits = Limits {
        foreground_download: unless_zero(settings.max_foreground_download_bandwidth),
        background_download: unless_zero(settings.max_background_download_bandwidth),
        foreground_percent,
        background_percent,
        upload: unless_zero(settings.max_upload_bandwidth),
        upload_slots: unless_zero(settings.upload_slots),
        origin_delay: 0,
        cache_delay: 0,
        peer_connections: settings.max_peer_connections,
        peer_encryption: settings.peer_encryption,
        cache_age: unless_zero(settings.max_cache_age),
        cache_size: match settings.absolute_max_cache_size {
            None => CacheLimit::Percent(settings.max_cache_size),
            Some(0) => CacheLimit::None,
            Some(bytes) => CacheLimit::Bytes(bytes),
        },
    };
    let mut decision = Decision { allowed, limits, caches: Vec::new(), reasons: Vec::new() };
    for rule in RULES {
        rule(case, &mut decision);
    }
    decision
}

// === Rules ===

fn mode(case: &Case<'_>, decision: &mut Decision) {
    let mode = case.settings.download_mode;
    decision.allowed.coordinator &= mode.uses_coordinator();
    decision.keep_scopes(mode.scopes());
    if mode.scopes().is_empty() {
        decision.allowed.link_local = LinkLocal::NONE;
    }
    let code = match mode {
        DownloadMode::Lan | DownloadMode::Group | DownloadMode::Internet => Code::ModeAdmits(mode),
        DownloadMode::HttpOnly => Code::HttpOnly,
        DownloadMode::Simple => Code::Simple,
        DownloadMode::Bypass => Code::BypassRefused,
    };
    decision.because(Reason::of_setting(code, Key::DownloadMode, case.settings));
}

fn group(case: &Case<'_>, decision: &mut Decision) {
    let GroupChoice { group, source, failed } = GroupChoice::of(case.settings, &case.facts.group_sources);
    decision.allowed.group = group;
    if !decision.allowed.fetch.contains(Scope::Group) {
        return;
    }
    match (group, source) {
        (Some(_), None) => {}
        (Some(_), Some(source)) => {
            let code = Code::GroupFrom { source, failed };
            decision.because(Reason::of_setting(code, Key::GroupIdSource, case.settings));
        }
        (None, _) => {
            decision.keep_scopes(without_group());
            let code = Code::NoGroup { tried: failed };
            let asked = case.settings.group_id_source != GroupIdSource::Unset;
            let key = if asked { Key::GroupIdSource } else { Key::GroupId };
            decision.because(Reason::of_setting(code, key, case.settings));
        }
    }
}

fn discovery(case: &Case<'_>, decision: &mut Decision) {
    let settings = case.settings;
    if !decision.peers() {
        return;
    }
    let only = settings.restrict_peer_selection_by == PeerRestriction::LocalDiscovery;
    if only {
        decision.keep_scopes(ScopeSet::NONE);
        let code = Code::OnlyLocalDiscovery;
        decision.because(Reason::of_setting(code, Key::RestrictPeerSelectionBy, settings));
    }
    if !settings.local_discovery {
        decision.allowed.link_local = LinkLocal::NONE;
        decision.because(Reason::of_setting(Code::NoLocalDiscovery, Key::LocalDiscovery, settings));
    } else if only && settings.download_mode == DownloadMode::Group {
        // DO reference §1.4: with mode 2, locally discovered peers that also share the group id.
        match decision.allowed.group {
            Some(_) => decision.allowed.link_local.of_group = true,
            None => decision.allowed.link_local = LinkLocal::NONE,
        }
    }
}

fn ram(case: &Case<'_>, decision: &mut Decision) {
    let least = case.settings.min_ram_allowed_to_peer;
    if let Some(found) = case.facts.installed_ram.filter(|found| *found < least) {
        let code = Code::RamBelowMinimum { found, least };
        decision.forbid_peers(Reason::of_setting(code, Key::MinRAMAllowedToPeer, case.settings));
    }
}

fn disk(case: &Case<'_>, decision: &mut Decision) {
    let least = case.settings.min_disk_size_allowed_to_peer;
    if let Some(volume) = case.facts.cache_volume.filter(|volume| volume.capacity < least) {
        let code = Code::DiskBelowMinimum { found: volume.capacity, least };
        decision.forbid_peers(Reason::of_setting(code, Key::MinDiskSizeAllowedToPeer, case.settings));
    }
}

fn record(case: &Case<'_>, decision: &mut Decision) {
    let Some(content) = case.content else { return };
    let mode = case.settings.download_mode.scopes();
    if mode.is_empty() {
        // No record would change anything, so none is missed.
        return;
    }
    let code = match content.record {
        RecordState::Missing => Code::RecordMissing,
        RecordState::Untrusted => Code::RecordUntrusted,
        RecordState::Stale => Code::RecordStale,
        RecordState::Held(record) => match record.check_time(case.now) {
            Err(error) => Code::RecordOutOfTime(error),
            Ok(()) if record.scopes.is_empty() => Code::NotShareable,
            Ok(()) => {
                decision.keep_scopes(record.scopes);
                if !record.scopes.contains(Scope::Lan) {
                    decision.allowed.link_local = LinkLocal::NONE;
                }
                if both(mode, record.scopes) != mode {
                    decision.because(Reason::of_content(Code::RecordNarrows(record.scopes)));
                }
                return;
            }
        },
    };
    decision.forbid_peers(match code {
        Code::RecordUntrusted => Reason::of_setting(code, Key::TrustedPublishers, case.settings),
        code => Reason::of_content(code),
    });
}

fn size(case: &Case<'_>, decision: &mut Decision) {
    let Some(content) = case.content else { return };
    let size = match content.record {
        RecordState::Held(record) => Some(record.size),
        _ => content.size,
    };
    let least = case.settings.min_file_size_to_cache;
    let code = match size {
        None => Code::SizeUnknown,
        Some(found) if found < least => Code::TooSmall { found, least },
        Some(_) => return,
    };
    decision.forbid_peers(Reason::of_setting(code, Key::MinFileSizeToCache, case.settings));
}

/// Stands behind all that says which scopes there are: a relay is for those of other sites.
fn relay(case: &Case<'_>, decision: &mut Decision) {
    let Allowed { fetch, serve, beyond_subnet, .. } = decision.allowed;
    let far = |scopes: ScopeSet| scopes.contains(Scope::Group) || scopes.contains(Scope::Internet);
    let may = case.settings.allow_relay && beyond_subnet;
    decision.allowed.relay.fetch &= may && far(fetch);
    decision.allowed.relay.serve &= may && far(serve);
    if decision.allowed.relay.any() {
        decision.because(Reason::of_setting(Code::RelayAllowed, Key::AllowRelay, case.settings));
    }
}

fn month(case: &Case<'_>, decision: &mut Decision) {
    let (found, most) = (case.facts.internet_uploaded, case.settings.monthly_upload_data_cap);
    let allowed = &mut decision.allowed;
    if most == 0 || found < most || !(allowed.serve.contains(Scope::Internet) || allowed.relay.serve) {
        return;
    }
    allowed.serve = both(allowed.serve, ScopeSet::up_to(Scope::Group));
    // What goes through the relay goes over the Internet, whoever it is for.
    allowed.relay.serve = false;
    let code = Code::MonthSpent { found, most };
    decision.because(Reason::of_setting(code, Key::MonthlyUploadDataCap, case.settings));
}

fn rates(case: &Case<'_>, decision: &mut Decision) {
    let limits = decision.limits;
    for class in [Class::Foreground, Class::Background] {
        let concerned = case.content.is_none_or(|content| content.class == class);
        if let Some(percent) = limits.downlink_percent(class).filter(|_| concerned) {
            let Share { key, inside, .. } = case.share(class);
            let code = match inside {
                None => Code::DownlinkShared { class, percent },
                Some(inside) => Code::HoursShared { class, percent, inside },
            };
            decision.because(Reason::of_setting(code, key, case.settings));
        }
    }
    for (class, key) in [
        (Class::Foreground, Key::MaxForegroundDownloadBandwidth),
        (Class::Background, Key::MaxBackgroundDownloadBandwidth),
    ] {
        let concerned = case.content.is_none_or(|content| content.class == class);
        if let Some(rate) = limits.download(class).filter(|_| concerned) {
            decision.because(Reason::of_setting(Code::DownloadLimited { class, rate }, key, case.settings));
        }
    }
    if let Some(rate) = limits.upload {
        decision.because(Reason::of_setting(
            Code::UploadLimited(rate),
            Key::MaxUploadBandwidth,
            case.settings,
        ));
    }
}

fn encryption(case: &Case<'_>, decision: &mut Decision) {
    if decision.limits.peer_encryption == PeerEncryption::Off && decision.peers() {
        decision.because(Reason::of_setting(Code::ClearText, Key::PeerEncryption, case.settings));
    }
}

fn cache_place(case: &Case<'_>, decision: &mut Decision) {
    if let Some(why) = &case.facts.cache_stays {
        let code = Code::CacheStays { why: why.clone() };
        decision.because(Reason::of_setting(code, Key::ModifyCacheDrive, case.settings));
    }
}

fn origin_delay(case: &Case<'_>, decision: &mut Decision) {
    let Some(content) = case.content else { return };
    let settings = case.settings;
    let (seconds, key) = match content.class {
        Class::Foreground => {
            (settings.delay_foreground_download_from_http, Key::DelayForegroundDownloadFromHttp)
        }
        Class::Background => {
            (settings.delay_background_download_from_http, Key::DelayBackgroundDownloadFromHttp)
        }
    };
    if seconds > 0 && decision.allowed.fetch_any() {
        decision.limits.origin_delay = seconds;
        decision.because(Reason::of_setting(Code::OriginHeldBack { seconds }, key, settings));
    }
}

const fn unless_zero(value: u64) -> Option<u64> {
    if value == 0 { None } else { Some(value) }
}

const fn both(a: ScopeSet, b: ScopeSet) -> ScopeSet {
    ScopeSet::from_bits(a.bits() & b.bits())
}

const fn without_group() -> ScopeSet {
    let up_to_group = ScopeSet::up_to(Scope::Group).bits() & !ScopeSet::up_to(Scope::Lan).bits();
    ScopeSet::from_bits(ScopeSet::ALL.bits() & !up_to_group)
}

#[cfg(test)]
mod tests;
