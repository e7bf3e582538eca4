//! Selectors: which devices of the fleet a policy is for.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use crate::table::Key;
use crate::{GroupId, Layer};

const MAX_TAG: usize = 32;

/// The text is not a selector or a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, allowed is {allowed}")]
pub struct SelectorError {
    /// What was found, shortened to 80 characters.
    pub found: String,
    /// What is allowed.
    pub allowed: &'static str,
}

fn refused(found: &str, allowed: &'static str) -> SelectorError {
    SelectorError { found: found.chars().take(80).collect(), allowed }
}

/// A word that a device carries since its enrolment, such as `laptop` or `paris`: 1 to 32 lower-case letters, digits,
/// dots, hyphens and underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let tag = text.trim().to_ascii_lowercase();
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if (1..=MAX_TAG).contains(&tag.len()) && tag.bytes().all(fits) {
            Ok(Self(tag))
        } else {
            Err(refused(text, "a tag of 1 to 32 letters, digits, dots, hyphens and underscores"))
        }
    }
}

/// The devices that a fleet policy is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Every device: `all`.
    All,
    /// Devices with an address in a network: `subnet:10.1.0.0/16`.
    Subnet(IpNet),
    /// Devices of a group id: `group:GUID`.
    Group(GroupId),
    /// Devices with an enrolment tag: `tag:laptop`.
    Tag(Tag),
}

impl Selector {
    /// Why a policy cannot be for these devices: it would take them out of the group by which they are meant, they would
    /// lose it with that, be in the group again, and so on without end.
    pub fn left_by(&self, policy: &Layer) -> Option<String> {
        let Self::Group(group) = self else { return None };
        let stays = policy.said(Key::GroupId).map(|other| other == group.to_string());
        let key = match (stays, policy.source(Key::GroupIdSource)) {
            (Some(true), _) | (None, None) => return None,
            (Some(false), _) => Key::GroupId,
            (None, Some(_)) => Key::GroupIdSource,
        };
        Some(format!(
            "{} in a policy for {self} would take the devices out of that group, and the policy from them with it, for ever to \
             and fro: publish it for all, for a subnet or for a tag",
            key.name()
        ))
    }

    /// Where it stands among the selectors of one device, the weakest first: everybody, networks from the widest to the
    /// narrowest, the group, tags in the order of their names.
    pub fn strength(&self) -> impl Ord + use<> {
        match self {
            Self::All => (0, 0, String::new()),
            Self::Subnet(net) => (1, net.prefix_len(), net.to_string()),
            Self::Group(group) => (2, 0, group.to_string()),
            Self::Tag(tag) => (3, 0, tag.to_string()),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Subnet(net) => write!(f, "subnet:{net}"),
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Tag(tag) => write!(f, "tag:{tag}"),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads `all`, `tag:NAME`, `subnet:CIDR` (an address alone is the network of only itself) or `group:GUID`.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let error = || refused(text, "all, tag:NAME, subnet:CIDR or group:GUID");
        let text = text.trim();
        if text == "all" {
            return Ok(Self::All);
        }
        let (kind, value) = text.split_once(':').ok_or_else(error)?;
        match kind {
            "tag" => value.parse().map(Self::Tag),
            "group" => value.parse().map(Self::Group).map_err(|_| error()),
            "subnet" => {
                let single = || value.parse::<std::net::IpAddr>().map(IpNet::from);
                let net: IpNet = value.parse().or_else(|_| single()).map_err(|_| error())?;
                Ok(Self::Subnet(net.trunc()))
            }
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_policy_takes_devices_out_of_the_group_that_it_is_for() {
        let (here, there) = ("6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11", "6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d12");
        let left = |selector: &str, policy: &str| {
            let selector: Selector = selector.parse().unwrap();
            selector.left_by(&crate::parse_layer("p", policy).unwrap())
        };
        let group = format!("group:{here}");
        for (policy, named) in [
            (format!("group_id = '{there}'"), Some("group_id in")),
            ("DOGroupIdSource = 3".to_owned(), Some("group_id_source in")),
            (format!("DOGroupId = '{{{}}}'\nDOGroupIdSource = 3", here.to_uppercase()), None),
            ("max_cache_age = 3".to_owned(), None),
        ] {
            let told = left(&group, &policy);
            assert_eq!(told.is_some(), named.is_some(), "{policy}: {told:?}");
            assert!(named.is_none_or(|named| told.unwrap().starts_with(named)), "{policy}");
            assert_eq!(
                [left("all", &policy), left("tag:a", &policy), left("subnet:10.0.0.0/8", &policy)],
                [const { None }; 3]
            );
        }
    }

    #[test]
    fn reads_and_shows_one_form() {
        for (text, shown) in [
            ("all", "all"),
            (" tag:Laptop ", "tag:laptop"),
            ("subnet:10.1.2.3/16", "subnet:10.1.0.0/16"),
            ("subnet:10.1.2.3", "subnet:10.1.2.3/32"),
            ("subnet:fd00:1::/32", "subnet:fd00:1::/32"),
            ("group:{6F1C2A34-8D2E-4D0E-9D0B-0F3F6F1C2D11}", "group:6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11"),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), shown);
        }
        for bad in ["", "ALL", "tag:", "tag:a b", "subnet:10.1", "group:corp", "laptop", "site:x"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        assert!(format!("tag:{}", "a".repeat(33)).parse::<Selector>().is_err());
    }

    #[test]
    fn the_narrower_is_the_stronger() {
        let order =
            ["all", "subnet:10.0.0.0/8", "subnet:10.1.0.0/16", "group:6f1c2a348d2e4d0e9d0b0f3f6f1c2d11"];
        let order = order.into_iter().chain(["tag:a", "tag:b"]).map(|text| text.parse::<Selector>().unwrap());
        let order: Vec<_> = order.collect();
        assert!(order.is_sorted_by(|a, b| a.strength() < b.strength()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|(tag|subnet|group|all):[a-f0-9.:/]{0,40}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
            }
        }
    }
}
