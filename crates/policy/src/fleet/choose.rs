//! Which of the published policies hold for one device: its selectors, and how far each policy has been rolled out.
//!
//! A stage of a rollout is no list of devices: a device is in it when the hash of its key and the policy is below the
//! percentage. So every coordinator says the same, a restart changes nothing, and publishing the same policy with a
//! higher percentage adds devices and loses none.

use std::net::IpAddr;

use peerage_content::PeerId;
use sha2::{Digest as _, Sha256};

use super::{FleetPart, FleetPolicy, MAX_FLEET_PARTS, Selector, Tag};
use crate::GroupId;

/// One published policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number: higher than all before, over all selectors.
    pub serial: u64,
    /// The devices that it is for.
    pub selector: Selector,
    /// How many of them get it, in percent; the others keep what they had.
    pub percent: u8,
    /// Its settings, as in a policy file.
    pub text: String,
}

/// What is known of a device that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its key.
    pub peer: PeerId,
    /// The tags of its enrolment.
    pub tags: Vec<Tag>,
    /// The group that it says it is in.
    pub group: Option<GroupId>,
    /// Where it is seen, and the addresses that it says it has.
    pub addresses: Vec<IpAddr>,
}

impl Device {
    /// Whether a policy for `selector` is for this device.
    pub fn is_meant(&self, selector: &Selector) -> bool {
        match selector {
            Selector::All => true,
            Selector::Subnet(net) => self.addresses.iter().any(|ip| net.contains(&ip.to_canonical())),
            Selector::Group(group) => self.group == Some(*group),
            Selector::Tag(tag) => self.tags.contains(tag),
        }
    }
}

/// Whether a device is among the first `percent` that a policy is rolled out to.
pub fn admits(peer: &PeerId, selector: &Selector, text: &str, percent: u8) -> bool {
    let mut hasher = Sha256::new();
    hasher.update(b"peerage policy rollout v1\0");
    hasher.update(peer.as_bytes());
    hasher.update(selector.to_string());
    hasher.update(b"\0");
    hasher.update(text);
    let hash = hasher.finalize();
    let (head, _) = hash.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*head) % 100 < u64::from(percent)
}

/// The document for a device. `revisions` may come in any order and reach back as far as there are any; of each selector
/// the newest that admits the device counts, and of one text only its newest percentage.
pub fn choose(serial: u64, revisions: &[Revision], device: &Device) -> FleetPolicy {
    let mut meant: Vec<&Revision> =
        revisions.iter().filter(|revision| device.is_meant(&revision.selector)).collect();
    meant.sort_by(|a, b| a.selector.strength().cmp(&b.selector.strength()).then(b.serial.cmp(&a.serial)));
    let mut parts = Vec::new();
    for one in meant.chunk_by(|a, b| a.selector == b.selector) {
        let newest = one.iter().enumerate().find(|(at, revision)| {
            let again = one.iter().take(*at).any(|newer| newer.text == revision.text);
            !again && admits(&device.peer, &revision.selector, &revision.text, revision.percent)
        });
        // One that sets nothing is as good as none, and leaves its place to others.
        let newest = newest.filter(|(_, revision)| !revision.text.is_empty());
        parts.extend(newest.map(|(_, revision)| FleetPart {
            selector: revision.selector.clone(),
            revision: revision.serial,
            text: revision.text.clone(),
        }));
    }
    // The strongest stay: they are the ones that decide.
    parts.drain(..parts.len().saturating_sub(MAX_FLEET_PARTS));
    FleetPolicy { serial, parts }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn revision(serial: u64, selector: &str, percent: u8, text: &str) -> Revision {
        Revision { serial, selector: selector.parse().unwrap(), percent, text: text.into() }
    }

    fn device(n: u16) -> Device {
        let mut key = [7; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        let tags = ["lab", "laptop"].map(|tag| tag.parse().unwrap()).to_vec();
        Device {
            peer: PeerId::from_bytes(key),
            tags,
            group: "6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11".parse().ok(),
            addresses: vec!["10.1.2.3".parse().unwrap(), "::ffff:192.168.7.1".parse().unwrap()],
        }
    }

    fn revisions_of(policy: &FleetPolicy) -> Vec<u64> {
        policy.parts.iter().map(|part| part.revision).collect()
    }

    #[test]
    fn what_is_meant_for_the_device_from_weak_to_strong() {
        let all = [
            revision(1, "tag:lab", 100, "a"),
            revision(2, "all", 100, "b"),
            revision(3, "subnet:10.1.0.0/16", 100, "c"),
            revision(4, "subnet:10.0.0.0/8", 100, "d"),
            revision(5, "subnet:192.168.7.0/24", 100, "e"),
            revision(6, "subnet:10.2.0.0/16", 100, "not here"),
            revision(7, "group:6f1c2a348d2e4d0e9d0b0f3f6f1c2d11", 100, "f"),
            revision(8, "tag:paris", 100, "not this one"),
            revision(9, "all", 100, "newer"),
        ];
        let policy = choose(12, &all, &device(1));
        assert_eq!((policy.serial, revisions_of(&policy)), (12, vec![9, 4, 3, 5, 7, 1]));
    }

    #[test]
    fn whoever_is_not_in_the_stage_keeps_what_it_had() {
        let had = revision(1, "all", 100, "old");
        let stage = |serial, percent| revision(serial, "all", percent, "new");
        let has_new = |revisions: &[Revision]| {
            let one = |n: &u16| choose(9, revisions, &device(*n)).parts[0].text == "new";
            (0..400).filter(one).collect::<Vec<u16>>()
        };
        assert!(has_new(&[had.clone(), stage(2, 0)]).is_empty());
        let tenth = has_new(&[had.clone(), stage(2, 10)]);
        assert!((20..=70).contains(&tenth.len()), "{}", tenth.len());
        let half = has_new(&[had.clone(), stage(2, 10), stage(3, 50)]);
        assert!(tenth.iter().all(|n| half.contains(n)) && half.len() > tenth.len());
        assert_eq!(has_new(&[had.clone(), stage(2, 10), stage(3, 50), stage(4, 10)]), tenth, "lowered again");
        assert_eq!(has_new(&[had, stage(5, 100)]).len(), 400);
        let first = choose(9, &[stage(1, 0)], &device(1));
        assert!(first.parts.is_empty(), "there was nothing before");
    }

    #[test]
    fn what_was_removed_is_no_part() {
        let held = [revision(1, "all", 100, "a"), revision(2, "tag:lab", 100, "b")];
        let removed = revision(3, "tag:lab", 100, "");
        assert_eq!(revisions_of(&choose(2, &held, &device(1))), [1, 2]);
        let [first, second] = held;
        let after = choose(3, &[first, second, removed], &device(1));
        assert_eq!((after.serial, revisions_of(&after)), (3, vec![1]), "the serial goes on");
    }

    #[test]
    fn the_strongest_stay_when_there_are_too_many() {
        let mut all: Vec<_> =
            (0..100).map(|n| revision(n, &format!("subnet:10.1.2.0/{}", 24 - n % 24), 100, "x")).collect();
        all.extend((0..80).map(|n| revision(200 + n, &format!("tag:t{n:02}"), 100, "y")));
        let tags = (0..80).map(|n| format!("t{n:02}").parse().unwrap()).collect();
        let policy = choose(1, &all, &Device { tags, ..device(1) });
        assert_eq!(policy.parts.len(), MAX_FLEET_PARTS);
        assert_eq!(policy.parts.last().unwrap().revision, 279);
    }

    proptest! {
        #[test]
        fn raising_the_percentage_loses_nobody(peer in any::<[u8; 32]>(), low in 0u8..=100, high in 0u8..=100, text in "[a-z]{0,8}") {
            let (low, high) = (low.min(high), low.max(high));
            let (peer, selector) = (PeerId::from_bytes(peer), Selector::All);
            prop_assert!(!admits(&peer, &selector, &text, low) || admits(&peer, &selector, &text, high));
            prop_assert!(admits(&peer, &selector, &text, 100) && !admits(&peer, &selector, &text, 0));
        }
    }
}
