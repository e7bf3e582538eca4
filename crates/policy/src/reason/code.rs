//! What a reason says: one code for each thing that can decide, with its values and its stable name.

use peerage_content::{RecordError, ScopeSet};

use crate::VpnSign;
use crate::choice::{DownloadMode, GroupIdSource};
use crate::decision::Class;

/// What was decided, with the values that decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// The mode admits peers.
    ModeAdmits(DownloadMode),
    /// Mode `http_only`.
    HttpOnly,
    /// Mode `simple`.
    Simple,
    /// Mode `bypass`, treated as `simple`.
    BypassRefused,
    /// The mode admits group peers, but no group is known.
    NoGroup {
        /// The sources that were asked, and why each named none.
        tried: Vec<(GroupIdSource, String)>,
    },
    /// The group is known from a source.
    GroupFrom {
        /// The source.
        source: GroupIdSource,
        /// The sources that were asked before, and why each named none.
        failed: Vec<(GroupIdSource, String)>,
    },
    /// Only peers found by DNS-SD may be used.
    OnlyLocalDiscovery,
    /// Peers are not looked for by DNS-SD.
    NoLocalDiscovery,
    /// Too little RAM.
    RamBelowMinimum {
        /// Bytes installed.
        found: u64,
        /// Bytes asked for.
        least: u64,
    },
    /// Too small a volume for the cache.
    DiskBelowMinimum {
        /// The volume's bytes.
        found: u64,
        /// Bytes asked for.
        least: u64,
    },
    /// Nobody has signed what the content is.
    RecordMissing,
    /// The record's signature is of no trusted key.
    RecordUntrusted,
    /// The origin serves something else than the record says.
    RecordStale,
    /// The record does not hold at this time.
    RecordOutOfTime(RecordError),
    /// The record does not let peers share the content.
    NotShareable,
    /// The record keeps the content out of a scope that the settings admit.
    RecordNarrows(ScopeSet),
    /// The content is smaller than peers share.
    TooSmall {
        /// Bytes of the content.
        found: u64,
        /// Bytes asked for.
        least: u64,
    },
    /// The size is unknown, so that the least size cannot be checked.
    SizeUnknown,
    /// The origin is held back.
    OriginHeldBack {
        /// For how many seconds.
        seconds: u64,
    },
    /// Downloads of the class are held to a rate, in bytes per second.
    DownloadLimited {
        /// The class.
        class: Class,
        /// Bytes per second.
        rate: u64,
    },
    /// Downloads of the class are held to a part of the downlink.
    DownlinkShared {
        /// The class.
        class: Class,
        /// Percent.
        percent: u64,
    },
    /// Downloads of the class are held to a part of the downlink, by the hour.
    HoursShared {
        /// The class.
        class: Class,
        /// Percent.
        percent: u64,
        /// Whether it is inside the hours.
        inside: bool,
    },
    /// On a VPN, where no peers are used but those found by DNS-SD.
    OnVpn {
        /// By what the VPN is known.
        sign: VpnSign,
    },
    /// On a VPN, where connected caches are left alone.
    CachesOnVpn {
        /// By what the VPN is known.
        sign: VpnSign,
    },
    /// Connected caches are asked before the origin.
    CachesNamed {
        /// Which, in the order in which they are tried.
        hosts: Vec<String>,
    },
    /// DHCP was asked for connected caches and named none.
    NoCacheFromDhcp {
        /// Why.
        why: String,
    },
    /// DHCP alone names the caches, and nothing would verify what they send.
    CachesUnproven {
        /// Whether it is the VPN that what they send would bypass; else TLS.
        vpn: bool,
    },
    /// The URL is somebody's own, and no cache is told of it.
    CachesNotForPrivate,
    /// The origin waits for connected caches.
    CacheFallbackHeldBack {
        /// For how many seconds.
        seconds: u64,
    },
    /// On a metered connection, where no peers are used.
    PeersMetered,
    /// On a metered connection, where downloads of the class may not run.
    DownloadMetered {
        /// The class.
        class: Class,
        /// Whether those that somebody waits for may.
        foreground: bool,
    },
    /// On battery, where nothing is uploaded.
    OnBattery {
        /// The charge in percent, if it is known.
        charge: Option<u8>,
        /// Percent asked for; 0: no charge would do.
        least: u64,
    },
    /// Only peers of the device's own subnets are used.
    SubnetOnly,
    /// As many files as may be are served already, so this one waits.
    NoUploadSlot {
        /// Files that may be served at once.
        most: u64,
    },
    /// As many peers are connected as may be.
    NoPeerPlace {
        /// Peers that may be connected at once.
        most: u64,
    },
    /// The content has been in the cache for as long as it may be.
    CacheAged,
    /// The cache holds more than it may, and others of it were used later.
    CacheFull,
    /// Uploads are held to a rate, in bytes per second.
    UploadLimited(u64),
    /// As much as a month allows has been uploaded to Internet peers.
    MonthSpent {
        /// Bytes uploaded.
        found: u64,
        /// Bytes allowed.
        most: u64,
    },
    /// The cache is not, or not wholly, where it is to be.
    CacheStays {
        /// Where it is, and why.
        why: String,
    },
    /// Connections between peers may be clear text.
    ClearText,
    /// Peers that cannot be reached otherwise may be met through the relay.
    RelayAllowed,
    /// Peers could not be reached, and may not be met through the relay.
    RelayForbidden,
}

impl Code {
    /// Its stable name, for programs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ModeAdmits(_) => "mode_admits",
            Self::HttpOnly => "http_only",
            Self::Simple => "simple",
            Self::BypassRefused => "bypass_refused",
            Self::NoGroup { .. } => "no_group",
            Self::GroupFrom { .. } => "group_from",
            Self::OnlyLocalDiscovery => "only_local_discovery",
            Self::NoLocalDiscovery => "no_local_discovery",
            Self::RamBelowMinimum { .. } => "ram_below_minimum",
            Self::DiskBelowMinimum { .. } => "disk_below_minimum",
            Self::RecordMissing => "record_missing",
            Self::RecordUntrusted => "record_untrusted",
            Self::RecordStale => "record_stale",
            Self::RecordOutOfTime(_) => "record_out_of_time",
            Self::NotShareable => "not_shareable",
            Self::RecordNarrows(_) => "record_narrows",
            Self::TooSmall { .. } => "too_small",
            Self::SizeUnknown => "size_unknown",
            Self::OriginHeldBack { .. } => "origin_held_back",
            Self::DownloadLimited { .. } => "download_limited",
            Self::DownlinkShared { .. } => "downlink_shared",
            Self::HoursShared { .. } => "hours_shared",
            Self::OnVpn { .. } => "on_vpn",
            Self::CachesOnVpn { .. } => "caches_on_vpn",
            Self::CachesNamed { .. } => "caches_named",
            Self::NoCacheFromDhcp { .. } => "no_cache_from_dhcp",
            Self::CachesUnproven { .. } => "caches_unproven",
            Self::CachesNotForPrivate => "caches_not_for_private",
            Self::CacheFallbackHeldBack { .. } => "cache_fallback_held_back",
            Self::PeersMetered => "peers_metered",
            Self::DownloadMetered { .. } => "download_metered",
            Self::OnBattery { .. } => "on_battery",
            Self::SubnetOnly => "subnet_only",
            Self::NoUploadSlot { .. } => "no_upload_slot",
            Self::NoPeerPlace { .. } => "no_peer_place",
            Self::CacheAged => "cache_aged",
            Self::CacheFull => "cache_full",
            Self::UploadLimited(_) => "upload_limited",
            Self::MonthSpent { .. } => "month_spent",
            Self::CacheStays { .. } => "cache_stays",
            Self::ClearText => "clear_text",
            Self::RelayAllowed => "relay_allowed",
            Self::RelayForbidden => "relay_forbidden",
        }
    }

    /// Whether it alone rules out every peer.
    pub const fn forbids_peers(&self) -> bool {
        match self {
            Self::HttpOnly
            | Self::Simple
            | Self::BypassRefused
            | Self::RamBelowMinimum { .. }
            | Self::DiskBelowMinimum { .. }
            | Self::PeersMetered
            | Self::RecordMissing
            | Self::RecordUntrusted
            | Self::RecordStale
            | Self::RecordOutOfTime(_)
            | Self::NotShareable
            | Self::TooSmall { .. }
            | Self::SizeUnknown => true,
            Self::ModeAdmits(_)
            | Self::NoGroup { .. }
            | Self::GroupFrom { .. }
            | Self::OnlyLocalDiscovery
            | Self::NoLocalDiscovery
            | Self::RecordNarrows(_)
            | Self::OriginHeldBack { .. }
            | Self::DownloadLimited { .. }
            | Self::DownlinkShared { .. }
            | Self::HoursShared { .. }
            | Self::OnVpn { .. }
            | Self::CachesOnVpn { .. }
            | Self::CachesNamed { .. }
            | Self::NoCacheFromDhcp { .. }
            | Self::CachesUnproven { .. }
            | Self::CachesNotForPrivate
            | Self::CacheFallbackHeldBack { .. }
            | Self::DownloadMetered { .. }
            | Self::OnBattery { .. }
            | Self::SubnetOnly
            | Self::NoUploadSlot { .. }
            | Self::NoPeerPlace { .. }
            | Self::CacheAged
            | Self::CacheFull
            | Self::UploadLimited(_)
            | Self::MonthSpent { .. }
            | Self::CacheStays { .. }
            | Self::ClearText
            | Self::RelayAllowed
            | Self::RelayForbidden => false,
        }
    }
}
