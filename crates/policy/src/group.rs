//! Group ids: which devices belong together in group mode. Not a secret and never proof of membership.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::choice::GroupIdSource;
use crate::table::Settings;

/// The text is not a GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a GUID such as 8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11, found {found:?}")]
pub struct GroupIdError {
    /// What was found, shortened to 80 characters.
    pub found: String,
}

/// A group id: a GUID, shown in lower case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(Uuid);

impl GroupId {
    /// The group that a group source names (AD site, DNS suffix, DHCP option 234 …).
    ///
    /// A GUID is taken as it is. Other text becomes the UUIDv5 (RFC 9562 §5.5) of its ASCII lower case in the DNS name
    /// space, because site and domain names do not tell case apart: what `uuidgen --sha1 --namespace @dns --name TEXT`
    /// prints. White space and NULs around it are dropped (Windows DHCP servers end text options with a NUL).
    /// `None`: nothing is left.
    pub fn from_source(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        if text.is_empty() {
            return None;
        }
        let named = || Self(Uuid::new_v5(&Uuid::NAMESPACE_DNS, text.to_ascii_lowercase().as_bytes()));
        Some(text.parse().unwrap_or_else(|_| named()))
    }

    /// The 16 bytes in the order of the text.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The form that reports show: Base64 of SHA-256 over the UTF-16LE text with its trailing NUL (DO reference §1.3).
    /// It tells case apart, so it equals DO's only for devices there that were given the id in lower case.
    pub fn reported_hash(&self) -> String {
        let mut hasher = Sha256::new();
        for unit in self.to_string().encode_utf16().chain([0]) {
            hasher.update(unit.to_le_bytes());
        }
        STANDARD.encode(hasher.finalize())
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for GroupId {
    type Err = GroupIdError;

    /// Reads a GUID in any of its usual forms: with hyphens, without, in braces; either case.
    fn from_str(text: &str) -> Result<Self, GroupIdError> {
        let error = |_| GroupIdError { found: text.chars().take(80).collect() };
        Uuid::try_parse(text).map(Self).map_err(error)
    }
}

/// What one source says: its text, or why it says nothing.
pub type SourceSays = Result<String, String>;

/// What the sources of a group id say on this device. How they are read is the business of the room `host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSources {
    /// The Active Directory site.
    pub ad_site: SourceSays,
    /// The SID of the domain that the device is joined to.
    pub domain_sid: SourceSays,
    /// DHCP option 234.
    pub dhcp_option: SourceSays,
    /// The DNS suffix.
    pub dns_suffix: SourceSays,
    /// The Microsoft Entra tenant id.
    pub entra_tenant: SourceSays,
}

impl Default for GroupSources {
    /// Nothing has been looked at.
    fn default() -> Self {
        let silent = || Err("not looked at".to_owned());
        Self {
            ad_site: silent(),
            domain_sid: silent(),
            dhcp_option: silent(),
            dns_suffix: silent(),
            entra_tenant: silent(),
        }
    }
}

impl GroupSources {
    /// The group that a source names, or why it names none.
    fn group(&self, source: GroupIdSource) -> Result<GroupId, String> {
        let says = match source {
            GroupIdSource::Unset => return Err("no source".to_owned()),
            GroupIdSource::AdSite => &self.ad_site,
            GroupIdSource::DomainSid => &self.domain_sid,
            GroupIdSource::DhcpOption => &self.dhcp_option,
            GroupIdSource::DnsSuffix => &self.dns_suffix,
            GroupIdSource::EntraTenant => &self.entra_tenant,
        };
        let text = says.as_ref().map_err(Clone::clone)?;
        GroupId::from_source(text).ok_or_else(|| "it says nothing".to_owned())
    }
}

/// The group of a device, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupChoice {
    /// The group; `None`: none is known.
    pub group: Option<GroupId>,
    /// The source that named it; `None`: the setting `group_id`, or nobody.
    pub source: Option<GroupIdSource>,
    /// Sources that were asked before and why each named none.
    pub failed: Vec<(GroupIdSource, String)>,
}

impl GroupChoice {
    /// The group by DO's order (DO reference §1.3): `group_id`, else the source that is set; when none is set, or DHCP
    /// option or DNS suffix name none, the first of AD site, domain SID and Entra tenant that does.
    pub fn of(settings: &Settings, sources: &GroupSources) -> Self {
        use GroupIdSource::{AdSite, DhcpOption, DnsSuffix, DomainSid, EntraTenant, Unset};
        if settings.group_id.is_some() {
            return Self { group: settings.group_id, ..Self::default() };
        }
        let order: &[GroupIdSource] = match settings.group_id_source {
            Unset => &[AdSite, DomainSid, EntraTenant],
            AdSite => &[AdSite],
            DomainSid => &[DomainSid],
            EntraTenant => &[EntraTenant],
            DhcpOption => &[DhcpOption, AdSite, DomainSid, EntraTenant],
            DnsSuffix => &[DnsSuffix, AdSite, DomainSid, EntraTenant],
        };
        let mut choice = Self::default();
        for source in order {
            match sources.group(*source) {
                Ok(group) => {
                    (choice.group, choice.source) = (Some(group), Some(*source));
                    break;
                }
                Err(why) => choice.failed.push((*source, why)),
            }
        }
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11";

    #[test]
    fn guids_in_every_form_are_one_group() {
        for form in [GUID, &GUID.to_uppercase(), &format!("{{{GUID}}}"), &GUID.replace('-', "")] {
            assert_eq!(form.parse::<GroupId>().unwrap().to_string(), GUID, "{form}");
            assert_eq!(GroupId::from_source(&format!(" {form}\0")).unwrap().to_string(), GUID, "{form}");
        }
        for bad in ["", "corp.example", &GUID[1..], "{8a1c3a52"] {
            assert!(bad.parse::<GroupId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn other_text_becomes_its_uuid_v5() {
        // `uuidgen --sha1 --namespace @dns --name www.example.com`, also the example of RFC 9562 appendix A.4.
        let group = GroupId::from_source("WWW.example.com\0").unwrap();
        assert_eq!(group.to_string(), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
        assert_eq!(GroupId::from_source(" \0"), None);
    }

    #[test]
    fn sources_are_asked_in_dos_order() {
        use GroupIdSource::{AdSite, DhcpOption, DnsSuffix, DomainSid, EntraTenant, Unset};
        let all = [AdSite, DomainSid, DhcpOption, DnsSuffix, EntraTenant];
        let says = |source: GroupIdSource, speaking: &[GroupIdSource]| {
            let silent = || format!("no {}", source.name());
            speaking.contains(&source).then(|| source.name().to_owned()).ok_or_else(silent)
        };
        for (set, speaking, chosen, failed) in [
            (Unset, &all[..], Some(AdSite), &[][..]),
            (Unset, &[DomainSid, DhcpOption, DnsSuffix, EntraTenant], Some(DomainSid), &[AdSite]),
            (Unset, &[DhcpOption, DnsSuffix, EntraTenant], Some(EntraTenant), &[AdSite, DomainSid]),
            (Unset, &[DhcpOption, DnsSuffix], None, &[AdSite, DomainSid, EntraTenant]),
            (DhcpOption, &all, Some(DhcpOption), &[]),
            (DnsSuffix, &all, Some(DnsSuffix), &[]),
            (DhcpOption, &[DnsSuffix, DomainSid], Some(DomainSid), &[DhcpOption, AdSite]),
            (DnsSuffix, &[DhcpOption], None, &[DnsSuffix, AdSite, DomainSid, EntraTenant]),
            (AdSite, &[DomainSid, EntraTenant], None, &[AdSite]),
            (DomainSid, &[AdSite], None, &[DomainSid]),
            (EntraTenant, &[AdSite], None, &[EntraTenant]),
        ] {
            let mut settings = Settings::default();
            settings.group_id_source = set;
            let sources = GroupSources {
                ad_site: says(AdSite, speaking),
                domain_sid: says(DomainSid, speaking),
                dhcp_option: says(DhcpOption, speaking),
                dns_suffix: says(DnsSuffix, speaking),
                entra_tenant: says(EntraTenant, speaking),
            };
            let choice = GroupChoice::of(&settings, &sources);
            assert_eq!(choice.source, chosen, "{set:?} {speaking:?}");
            assert_eq!(choice.group, chosen.and_then(|source| GroupId::from_source(source.name())));
            assert_eq!(choice.failed.iter().map(|(source, _)| *source).collect::<Vec<_>>(), failed);
            assert!(choice.failed.iter().all(|(source, why)| *why == format!("no {}", source.name())));
            // The id itself wins over every source.
            settings.group_id = GUID.parse().ok();
            let choice = GroupChoice::of(&settings, &sources);
            assert_eq!((choice.group, choice.source, choice.failed.len()), (GUID.parse().ok(), None, 0));
        }
        let blank = GroupSources { ad_site: Ok(" \0".into()), ..GroupSources::default() };
        assert_eq!(GroupChoice::of(&Settings::default(), &blank).failed[0].1, "it says nothing");
    }

    #[test]
    fn reported_hash_covers_utf16_and_the_nul() {
        // printf '%s\0' GUID | iconv -t UTF-16LE | openssl dgst -sha256 -binary | base64
        let group: GroupId = GUID.parse().unwrap();
        assert_eq!(group.reported_hash(), "aM9ZIa2TlvuYqTjNras941WyGGEHdIIXw+Vaj4bifdc=");
    }
}
