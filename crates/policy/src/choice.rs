//! Settings whose value is one of a few: DO's numbers, our names.

use peerage_content::{Scope, ScopeSet};

/// One value of a choice: its number in DO, its name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// DO's number.
    pub number: u8,
    /// Our name.
    pub name: &'static str,
}

/// Defines an enum together with its numbers and names.
macro_rules! choices {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $type { $($(#[$variant_doc])* $variant = $number,)+ }

        impl $type {
            /// Every value, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Numbers and names of [`Self::ALL`].
            pub const CHOICES: &'static [Choice] = &[$(Choice { number: $number, name: $name }),+];

            /// DO's number.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// Our name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Reads DO's number.
            pub const fn from_number(number: i64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// Reads our name (either case) or DO's number as text.
            pub fn from_text(text: &str) -> Option<Self> {
                let named = |value: &&Self| value.name().eq_ignore_ascii_case(text);
                Self::ALL.iter().find(named).copied().or_else(|| Self::from_number(text.parse().ok()?))
            }
        }
    };
}

choices! {
    /// Whose peers a download may use (DO reference §1.2).
    DownloadMode {
        /// Records and piece checks, but no peers.
        HttpOnly = 0 "http_only",
        /// Peers of the same site.
        Lan = 1 "lan",
        /// Also peers of the same group id elsewhere; LAN peers are looked for first.
        Group = 2 "group",
        /// Also any peer of the fleet.
        Internet = 3 "internet",
        /// Plain HTTP, no coordinator.
        Simple = 99 "simple",
        /// Deprecated in DO; every question to it is answered as for [`Self::Simple`].
        Bypass = 100 "bypass",
    }
}

impl DownloadMode {
    /// The scopes of peers that the mode admits.
    pub const fn scopes(self) -> ScopeSet {
        match self {
            Self::HttpOnly | Self::Simple | Self::Bypass => ScopeSet::NONE,
            Self::Lan => ScopeSet::up_to(Scope::Lan),
            Self::Group => ScopeSet::up_to(Scope::Group),
            Self::Internet => ScopeSet::up_to(Scope::Internet),
        }
    }

    /// Whether the coordinator may be asked about a content.
    pub const fn uses_coordinator(self) -> bool {
        !matches!(self, Self::Simple | Self::Bypass)
    }
}

choices! {
    /// Where the group id comes from when `group_id` is unset (DO reference §1.3).
    GroupIdSource {
        /// Not set: the first available of AD site, domain SID, Entra tenant.
        Unset = 0 "unset",
        /// The Active Directory site.
        AdSite = 1 "ad_site",
        /// The authenticated domain's SID.
        DomainSid = 2 "domain_sid",
        /// DHCP option 234.
        DhcpOption = 3 "dhcp_option",
        /// The DNS suffix.
        DnsSuffix = 4 "dns_suffix",
        /// The Microsoft Entra tenant id.
        EntraTenant = 5 "entra_tenant",
    }
}

impl GroupIdSource {
    /// What it is called in sentences.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Unset => "no source",
            Self::AdSite => "the AD site",
            Self::DomainSid => "the domain's SID",
            Self::DhcpOption => "DHCP option 234",
            Self::DnsSuffix => "the DNS suffix",
            Self::EntraTenant => "the Entra tenant",
        }
    }
}

choices! {
    /// Which of the peers in scope may be used (DO reference §1.4).
    PeerRestriction {
        /// All of them.
        None = 0 "none",
        /// Those of the same subnet.
        Subnet = 1 "subnet",
        /// Those found by DNS-SD (in group mode, of the same group).
        LocalDiscovery = 2 "local_discovery",
    }
}

choices! {
    /// How connected caches are found besides `cache_host` (DO reference §1.6).
    CacheHostSource {
        /// Not looked for by DNS-SD.
        DnsSdOff = 0 "dns_sd_off",
        /// DHCP option 235; `cache_host` wins if set.
        DhcpOption = 1 "dhcp_option",
        /// DHCP option 235 wins over `cache_host`.
        DhcpOptionForce = 2 "dhcp_option_force",
    }
}

choices! {
    /// Which downloads may run on a metered connection.
    MeteredDownloads {
        /// None.
        Never = 0 "never",
        /// Those that someone waits for.
        Foreground = 1 "foreground",
        /// All.
        Always = 2 "always",
    }
}

choices! {
    /// Whether connections between peers are encrypted.
    PeerEncryption {
        /// Clear text is allowed.
        Off = 0 "off",
        /// TLS 1.3 only.
        Required = 1 "required",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_read_back() {
        for mode in DownloadMode::ALL {
            assert_eq!(DownloadMode::from_number(i64::from(mode.number())), Some(*mode));
            assert_eq!(DownloadMode::from_text(&mode.name().to_uppercase()), Some(*mode));
            assert_eq!(DownloadMode::from_text(&mode.number().to_string()), Some(*mode));
        }
        assert_eq!((DownloadMode::from_number(4), DownloadMode::from_text("wan")), (None, None));
    }

    #[test]
    fn bypass_is_simple() {
        let answers = |mode: DownloadMode| (mode.scopes(), mode.uses_coordinator());
        assert_eq!(answers(DownloadMode::Bypass), answers(DownloadMode::Simple));
        assert!(DownloadMode::HttpOnly.uses_coordinator() && DownloadMode::HttpOnly.scopes().is_empty());
    }
}
