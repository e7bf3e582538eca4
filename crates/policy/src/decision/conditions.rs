//! Rules about the device's present conditions: VPN, metered connection, battery, subnet, and the hour.

use peerage_content::ScopeSet;

use super::{Case, Class, Decision};
use crate::Power;
use crate::choice::{MeteredDownloads, PeerRestriction};
use crate::reason::{Code, Reason};
use crate::table::Key;

/// The part of the downlink that a class may take, and what says so.
pub(super) struct Share {
    pub(super) percent: u64,
    pub(super) key: Key,
    /// Whether it is inside the hours that say so; `None`: no hours do.
    pub(super) inside: Option<bool>,
}

impl Case<'_> {
    /// Hours replace the percentage of their class (product §5).
    pub(super) fn share(&self, class: Class) -> Share {
        let settings = self.settings;
        let (percent, key, hours, hours_key) = match class {
            Class::Foreground => (
                settings.percentage_max_foreground_bandwidth,
                Key::PercentageMaxForegroundBandwidth,
                &settings.set_hours_to_limit_foreground_download_bandwidth,
                Key::SetHoursToLimitForegroundDownloadBandwidth,
            ),
            Class::Background => (
                settings.percentage_max_background_bandwidth,
                Key::PercentageMaxBackgroundBandwidth,
                &settings.set_hours_to_limit_background_download_bandwidth,
                Key::SetHoursToLimitBackgroundDownloadBandwidth,
            ),
        };
        let Some(hours) = hours else { return Share { percent, key, inside: None } };
        let wall = i64::try_from(self.now).unwrap_or(i64::MAX).saturating_add(self.facts.clock_ahead);
        let (inside, percent) = hours.at(wall, self.facts.zone.as_ref());
        Share { percent: percent.into(), key: hours_key, inside: Some(inside) }
    }

    /// Whether the mode admits peers at all: else no condition of the device makes a difference to them.
    const fn admits_peers(&self) -> bool {
        !self.settings.download_mode.scopes().is_empty()
    }
}

pub(super) fn vpn(case: &Case<'_>, decision: &mut Decision) {
    let settings = case.settings;
    let (peers, caches) = (settings.allow_vpn_peer_caching, !settings.disallow_cache_server_downloads_on_vpn);
    if peers && caches {
        return;
    }
    let Some(sign) = case.facts.vpn(&settings.vpn_keywords) else { return };
    if !peers && case.admits_peers() {
        // Not all peers: those found by DNS-SD are at this side of the VPN (product §5).
        decision.keep_scopes(ScopeSet::NONE);
        let code = Code::OnVpn { sign: sign.clone() };
        decision.because(Reason::of_setting(code, Key::AllowVPNPeerCaching, settings));
    }
    if !caches {
        decision.allowed.cache_server = false;
        let code = Code::CachesOnVpn { sign };
        decision.because(Reason::of_setting(code, Key::DisallowCacheServerDownloadsOnVPN, settings));
    }
}

pub(super) fn metered_peers(case: &Case<'_>, decision: &mut Decision) {
    let forbids = case.facts.metered == Some(true) && !case.settings.allow_metered_peer_caching;
    if forbids && case.admits_peers() {
        let reason = Reason::of_setting(Code::PeersMetered, Key::AllowMeteredPeerCaching, case.settings);
        decision.forbid_peers(reason);
    }
}

pub(super) fn metered_download(case: &Case<'_>, decision: &mut Decision) {
    if case.facts.metered != Some(true) {
        return;
    }
    // The device as a whole may do what its most urgent download may.
    let class = case.content.map_or(Class::Foreground, |content| content.class);
    let may_run = match case.settings.allow_metered_downloads {
        MeteredDownloads::Always => true,
        MeteredDownloads::Foreground => class == Class::Foreground,
        MeteredDownloads::Never => false,
    };
    if !may_run {
        decision.allowed.download = false;
        decision.allowed.fetch = ScopeSet::NONE;
        decision.allowed.link_local.fetch = false;
        let foreground = case.settings.allow_metered_downloads == MeteredDownloads::Foreground;
        let code = Code::DownloadMetered { class, foreground };
        decision.because(Reason::of_setting(code, Key::AllowMeteredDownloads, case.settings));
    }
}

pub(super) fn battery(case: &Case<'_>, decision: &mut Decision) {
    let Some(Power::Battery { charge }) = case.facts.power else { return };
    let least = case.settings.min_battery_percentage_allowed_to_upload;
    // A charge that is not known forbids nothing, unless no charge would do.
    if least > 0 && charge.is_none_or(|charge| u64::from(charge) >= least) {
        return;
    }
    decision.allowed.serve = ScopeSet::NONE;
    decision.allowed.link_local.serve = false;
    if case.admits_peers() {
        let code = Code::OnBattery { charge, least };
        decision.because(Reason::of_setting(code, Key::MinBatteryPercentageAllowedToUpload, case.settings));
    }
}

pub(super) fn subnet(case: &Case<'_>, decision: &mut Decision) {
    if case.settings.restrict_peer_selection_by == PeerRestriction::Subnet {
        decision.allowed.beyond_subnet = false;
        if case.admits_peers() {
            let key = Key::RestrictPeerSelectionBy;
            decision.because(Reason::of_setting(Code::SubnetOnly, key, case.settings));
        }
    }
}
