//! The table of all settings (product §5). Names, types, defaults, ranges, documentation, parsing and listing of every
//! setting follow from its row here and from nothing else.
//!
//! A row: documentation, DO's name without `DO`, our name, type, default, rule and remarks. Values are in base units
//! (bytes, bytes per second, seconds); ranges are DO's (DO reference §1.1), in DO's unit.

use std::path::PathBuf;

use peerage_content::PublicKey;
use toml::Value;

use crate::choice::{
    CacheHostSource, DownloadMode, GroupIdSource, MeteredDownloads, PeerEncryption, PeerRestriction,
};
use crate::field::{Field, Found, Show};
use crate::rule::Rule;
use crate::rule::Unit::{Count, Gigabytes, KilobytesPerSecond, Megabytes, Percent, Seconds};
use crate::setting::{Setting, Spec};
use crate::units::{GB, KB, MB};
use crate::{CacheHost, GroupId, Hours, Provider};

/// DO's policies are 32-bit registry values.
const MAX: u64 = u32::MAX as u64;

/// Turns the rows into [`Key`], [`TABLE`], [`Settings`] and [`Values`].
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident $field:ident: $type:ty = $default:expr => $spec:expr;)+) => {
        /// A setting's key; the variant is DO's name without `DO`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Key { $($(#[doc = $doc])+ $key),+ }

        impl Key {
            /// Every key, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$key),+];
        }

        /// Every row, in the order of [`Key::ALL`].
        pub(crate) static TABLE: [Setting; Key::ALL.len()] = [$($spec.row(
            Key::$key,
            stringify!($field),
            stringify!($key),
            concat!("DO", stringify!($key)),
            concat!($($doc),+),
        )),+];

        /// The effective value of every setting, and which layer it comes from.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $field: $type,)+
            providers: [Provider; Key::ALL.len()],
        }

        impl Default for Settings {
            /// Every default.
            fn default() -> Self {
                Self { $($field: $default,)+ providers: [Provider::Default; Key::ALL.len()] }
            }
        }

        impl Settings {
            /// Lets the values of a stronger layer replace these.
            pub(crate) fn overlay(&mut self, provider: Provider, values: &Values) {
                $(if let Some(value) = &values.$field {
                    self.$field.clone_from(value);
                    self.providers[Key::$key as usize] = provider;
                })+
            }

            /// Shows one value.
            pub(crate) fn get(&self, key: Key) -> &dyn Show {
                match key { $(Key::$key => &self.$field),+ }
            }

            /// The settings whose values differ.
            pub fn differing(&self, other: &Self) -> Vec<Key> {
                let mut keys = Vec::new();
                $(if self.$field != other.$field { keys.push(Key::$key); })+
                keys
            }
        }

        /// What one layer says; `None`: nothing.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub(crate) struct Values { $(pub(crate) $field: Option<$type>,)+ }

        impl Values {
            /// Reads, checks and keeps one value.
            pub(crate) fn read(&mut self, key: Key, raw: &Value) -> Result<(), Found> {
                let rule = &key.setting().rule;
                match key { $(Key::$key => self.$field = Some(Field::read(raw, rule)?)),+ }
                Ok(())
            }

            /// Shows one value.
            pub(crate) fn get(&self, key: Key) -> Option<&dyn Show> {
                match key { $(Key::$key => self.$field.as_ref().map(|value| value as &dyn Show)),+ }
            }

            /// Forgets one value; whether there was one.
            pub(crate) fn remove(&mut self, key: Key) -> bool {
                match key { $(Key::$key => self.$field.take().is_some()),+ }
            }

            /// Lets the values of `other` replace these.
            pub(crate) fn overlay(&mut self, other: Self) {
                $(if other.$field.is_some() { self.$field = other.$field; })+
            }
        }
    };
}

impl Key {
    /// Its row of the table.
    pub fn setting(self) -> &'static Setting {
        &TABLE[self as usize]
    }

    /// Our name.
    pub fn name(self) -> &'static str {
        self.setting().name
    }
}

impl Settings {
    /// The layer that one value comes from.
    pub fn provider(&self, key: Key) -> Provider {
        self.providers[key as usize]
    }
}

settings! {
    /// Whose peers a download may use. `http_only`: none, but records and piece checks; `simple`: plain HTTP without the
    /// coordinator; `bypass` is deprecated and treated as `simple`. Connected caches are used in every mode.
    DownloadMode download_mode: DownloadMode = DownloadMode::Lan
        => Spec::choice(DownloadMode::CHOICES).reported_as("DownloadMode");

    /// The group whose devices are peers in group mode, at any site. Wins over `group_id_source`. Not a secret, and never
    /// proof of membership.
    GroupId group_id: Option<GroupId> = None
        => Spec::of(Rule::Group);

    /// Where the group id comes from when `group_id` is unset. Unset, or when DHCP option or DNS suffix give none: the first
    /// available of AD site, domain SID, Entra tenant.
    GroupIdSource group_id_source: GroupIdSource = GroupIdSource::Unset
        => Spec::choice(GroupIdSource::CHOICES);

    /// Which of the peers in scope may be used: all, those of the same subnet, or those found by DNS-SD.
    RestrictPeerSelectionBy restrict_peer_selection_by: PeerRestriction = PeerRestriction::None
        => Spec::choice(PeerRestriction::CHOICES);

    /// The least installed RAM with which a device uses peers and is one, in bytes, inclusive.
    MinRAMAllowedToPeer min_ram_allowed_to_peer: u64 = 4 * GB
        => Spec::number(Gigabytes, 1, 100_000).reported_as("MinTotalRAM");

    /// The least capacity of the cache's volume with which a device uses peers and is one, in bytes, inclusive.
    MinDiskSizeAllowedToPeer min_disk_size_allowed_to_peer: u64 = 32 * GB
        => Spec::number(Gigabytes, 1, 100_000).reported_as("MinTotalDiskSize");

    /// The smallest content that peers share, in bytes, inclusive. Smaller content uses simple mode.
    MinFileSizeToCache min_file_size_to_cache: u64 = 50 * MB
        => Spec::number(Megabytes, 1, 100_000);

    /// How long a content is kept after it was last completed, in seconds. 0: until space is needed. An expiry set for a
    /// single file wins.
    MaxCacheAge max_cache_age: u64 = 259_200
        => Spec::number(Seconds, 0, MAX).zero_is("until space is needed");

    /// The most that the cache may hold, in percent of the volume's free space and the cache's own bytes, reassessed
    /// continuously.
    MaxCacheSize max_cache_size: u64 = 20
        => Spec::number(Percent, 1, 100);

    /// The most that the cache may hold, in bytes; overrides the percentage. 0: no limit, but low disk space still evicts.
    AbsoluteMaxCacheSize absolute_max_cache_size: Option<u64> = None
        => Spec::number(Gigabytes, 0, MAX).zero_is("no limit");

    /// The directory of the cache; the one above it must exist. Another one holds at once: downloads go on, and what is in
    /// the cache is moved there meanwhile. One that cannot be made or written, or whose volume has no room for the cache, is
    /// refused: the cache stays where it is, `peerage why` says why, and it is tried again.
    ModifyCacheDrive modify_cache_drive: PathBuf = PathBuf::from("/var/cache/peerage")
        => Spec::of(Rule::Directory).reported_as("WorkingDirectory");

    /// The most that is uploaded to Internet peers in a calendar month, in bytes. Internet peers are those of another site
    /// that are not in this device's group, whatever their addresses; the coordinator tells sites apart.
    MonthlyUploadDataCap monthly_upload_data_cap: u64 = 20 * GB
        => Spec::number(Gigabytes, 0, MAX).reported_as("UploadLimitMonthlyGB").zero_is("no limit");

    /// The most that is uploaded at once to all peers together, in bytes per second. 0: only LEDBAT holds it back.
    MaxUploadBandwidth max_upload_bandwidth: u64 = 0
        => Spec::number(KilobytesPerSecond, 0, MAX).zero_is("LEDBAT alone").deprecated();

    /// The rate that a background download should not fall below, in bytes per second: below this average over 20 s, HTTP
    /// adds what is missing. A lower value leaves more to peers.
    MinBackgroundQos min_background_qos: u64 = 2500 * KB
        => Spec::number(KilobytesPerSecond, 1, MAX);

    /// The most that all foreground downloads together may take, in bytes per second.
    MaxForegroundDownloadBandwidth max_foreground_download_bandwidth: u64 = 0
        => Spec::number(KilobytesPerSecond, 0, MAX).reported_as("DownloadForegroundLimitBps").zero_is("dynamic");

    /// The most that all background downloads together may take, in bytes per second.
    MaxBackgroundDownloadBandwidth max_background_download_bandwidth: u64 = 0
        => Spec::number(KilobytesPerSecond, 0, MAX).reported_as("DownBackLimitBps").zero_is("dynamic");

    /// The most that all foreground downloads together may take, in percent of the measured downlink. Peers of the LAN are
    /// exempt; with an absolute limit too, the lower holds.
    PercentageMaxForegroundBandwidth percentage_max_foreground_bandwidth: u64 = 0
        => Spec::number(Percent, 0, 100).reported_as("DownloadForegroundLimitPct").zero_is("dynamic");

    /// The most that all background downloads together may take, in percent of the measured downlink. Peers of the LAN are
    /// exempt; with an absolute limit too, the lower holds.
    PercentageMaxBackgroundBandwidth percentage_max_background_bandwidth: u64 = 0
        => Spec::number(Percent, 0, 100).reported_as("DownBackLimitPct").zero_is("dynamic");

    /// Percentages of the measured downlink for foreground downloads inside and outside some hours, by the clock of the
    /// device's time zone unless it names one; 0: no limit. Hours with `to` at or before `from` end on the next day. While set,
    /// it replaces `percentage_max_foreground_bandwidth`.
    SetHoursToLimitForegroundDownloadBandwidth set_hours_to_limit_foreground_download_bandwidth: Option<Hours> = None
        => Spec::of(Rule::Hours).reported_as("SetHoursToLimitDownloadForeground");

    /// Percentages of the measured downlink for background downloads inside and outside some hours, by the clock of the
    /// device's time zone unless it names one; 0: no limit. Hours with `to` at or before `from` end on the next day. While set,
    /// it replaces `percentage_max_background_bandwidth`.
    SetHoursToLimitBackgroundDownloadBandwidth set_hours_to_limit_background_download_bandwidth: Option<Hours> = None
        => Spec::of(Rule::Hours).reported_as("SetHoursToLimitDownloadBackground");

    /// How long the origin is held back from a foreground download that may use peers, in seconds. Ended early when no peer
    /// and no cache is known after one announce.
    DelayForegroundDownloadFromHttp delay_foreground_download_from_http: u64 = 0
        => Spec::number(Seconds, 0, MAX);

    /// How long the origin is held back from a background download that may use peers, in seconds. Ended early when no peer
    /// and no cache is known after one announce.
    DelayBackgroundDownloadFromHttp delay_background_download_from_http: u64 = 0
        => Spec::number(Seconds, 0, MAX);

    /// Connected caches, asked before the origin, in this order, in every download mode. One failure leads to the next, then
    /// to the origin; a cache that fails is left alone for 5 min. Set to nothing it counts as set.
    CacheHost cache_host: Option<Vec<CacheHost>> = None
        => Spec::of(Rule::Hosts);

    /// Who names connected caches. `dhcp_option`: DHCP option 235 where `cache_host` is unset; `dhcp_option_force`: option
    /// 235, and `cache_host` where DHCP names none. Unset or `dns_sd_off`: `cache_host` alone, for no cache announces itself
    /// by DNS-SD yet.
    CacheHostSource cache_host_source: Option<CacheHostSource> = None
        => Spec::choice(CacheHostSource::CHOICES);

    /// How long a foreground download goes round the connected caches before it turns to the origin, in seconds. A delay in favour
    /// of peers passes first.
    DelayCacheServerFallbackForeground delay_cache_server_fallback_foreground: u64 = 0
        => Spec::number(Seconds, 0, 2_592_000);

    /// How long a background download goes round the connected caches before it turns to the origin, in seconds. A delay in favour
    /// of peers passes first.
    DelayCacheServerFallbackBackground delay_cache_server_fallback_background: u64 = 0
        => Spec::number(Seconds, 0, 2_592_000);

    /// Whether connected caches are left alone while on a VPN.
    DisallowCacheServerDownloadsOnVPN disallow_cache_server_downloads_on_vpn: bool = false
        => Spec::of(Rule::Switch);

    /// Whether peers are used while on a VPN. Peers found by DNS-SD always are.
    AllowVPNPeerCaching allow_vpn_peer_caching: bool = false
        => Spec::of(Rule::Switch).reported_as("VpnPeerCachingAllowed");

    /// Words by which a VPN is known, besides its type: parts of the interface's name or description, or of the
    /// connection's name, in either case.
    VpnKeywords vpn_keywords: Vec<String> = ["vpn", "secure", "virtual private network"].map(String::from).to_vec()
        => Spec::of(Rule::Words);

    /// The least charge with which a device on battery uploads, in percent, inclusive. Downloading from peers on battery is always
    /// allowed.
    MinBatteryPercentageAllowedToUpload min_battery_percentage_allowed_to_upload: u64 = 0
        => Spec::number(Percent, 0, 100).reported_as("BatteryPctToSeed").zero_is("never on battery");

    /// Whether peers are used on a metered connection.
    AllowMeteredPeerCaching allow_metered_peer_caching: bool = false
        => Spec::of(Rule::Switch).ours();

    /// Which downloads may run on a metered connection: those that may not pause, and go on by themselves.
    AllowMeteredDownloads allow_metered_downloads: MeteredDownloads = MeteredDownloads::Foreground
        => Spec::choice(MeteredDownloads::CHOICES).ours();

    /// Whether peers are announced and looked for by DNS-SD.
    LocalDiscovery local_discovery: bool = true
        => Spec::of(Rule::Switch).ours();

    /// Whether connections between peers must be encrypted.
    PeerEncryption peer_encryption: PeerEncryption = PeerEncryption::Required
        => Spec::choice(PeerEncryption::CHOICES).ours();

    /// Whether this device and a peer of another site may meet through the coordinator's relay when neither can reach the other.
    /// Both must allow it, the coordinator's administrator must have switched the relay on, and what goes through it is traffic with
    /// an Internet peer, also within a group. Always encrypted from end to end.
    AllowRelay allow_relay: bool = false
        => Spec::of(Rule::Switch).ours();

    /// Keys whose content records are trusted besides the catalog's.
    TrustedPublishers trusted_publishers: Vec<PublicKey> = Vec::new()
        => Spec::of(Rule::Keys).ours();

    /// How many files are served at once; others wait for their turn.
    UploadSlots upload_slots: u64 = 0
        => Spec::number(Count, 0, 10_000).zero_is("all").ours();

    /// The most peers that are connected at once.
    MaxPeerConnections max_peer_connections: u64 = 50
        => Spec::number(Count, 1, 10_000).ours();
}

#[cfg(test)]
mod tests;
