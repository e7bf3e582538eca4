//! The `Facts` of `GET /v1/config`: what the agent has seen of the device, as decisions see it.

use std::path::PathBuf;

use peerage_policy::{Facts, LinkKind, Power};
use serde::Serialize;

use crate::policy::PolicyView;
use crate::shared::Shared;

/// The device. `null`: not known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeviceFacts {
    /// Bytes.
    #[serde(rename = "InstalledRAM")]
    installed_ram: Option<u64>,
    /// Where the cache is.
    cache_directory: PathBuf,
    /// Where policy wants it; `null`: it is there.
    cache_moves_to: Option<PathBuf>,
    /// Where it was, as long as not everything has come from there.
    cache_moves_from: Vec<PathBuf>,
    /// Why it is not, or not wholly, where policy wants it.
    cache_move_trouble: Option<String>,
    /// Bytes.
    cache_volume_capacity: Option<u64>,
    /// Bytes in this calendar month.
    uploaded_to_internet_peers: u64,
    /// Bytes a second, with headers; what percentages are of. `null`: nothing has been measured yet.
    measured_downlink: Option<u64>,
    interfaces: Vec<InterfaceFacts>,
    connections: Vec<ConnectionFacts>,
    /// By what the device is known to be on a VPN; `null`: it is on none.
    #[serde(rename = "VPN")]
    vpn: Option<String>,
    metered: Option<bool>,
    /// `mains` or `battery`.
    power: Option<&'static str>,
    /// Percent.
    battery_charge: Option<u8>,
    time_zone: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct InterfaceFacts {
    name: String,
    description: Option<String>,
    kind: &'static str,
    default_route: bool,
    /// With the lengths of their prefixes: `10.0.0.2/24`.
    addresses: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConnectionFacts {
    name: String,
    #[serde(rename = "VPN")]
    vpn: bool,
}

impl DeviceFacts {
    /// As the policy in force sees the device.
    pub(crate) fn of(shared: &Shared, policy: &PolicyView) -> Self {
        let facts = &policy.facts;
        let (power, battery_charge) = match facts.power {
            None => (None, None),
            Some(Power::Mains) => (Some("mains"), None),
            Some(Power::Battery { charge }) => (Some("battery"), charge),
        };
        let zone = facts.zone.as_ref();
        let wanted = policy.settings.modify_cache_drive.clone();
        let place = shared.cache_place.borrow().clone();
        Self {
            installed_ram: facts.installed_ram,
            // Another name of the directory that it is in is no other place.
            cache_moves_to: Some(wanted).filter(|_| place.trouble.is_some() || !place.others.is_empty()),
            cache_directory: place.home,
            cache_moves_from: place.others,
            cache_move_trouble: place.trouble,
            cache_volume_capacity: facts.cache_volume.map(|volume| volume.capacity),
            uploaded_to_internet_peers: shared.budgets.internet_sent(),
            measured_downlink: shared.budgets.downlink(),
            interfaces: interfaces(facts),
            connections: facts
                .connections
                .iter()
                .map(|connection| ConnectionFacts { name: connection.id.clone(), vpn: connection.vpn })
                .collect(),
            vpn: facts.vpn(&policy.settings.vpn_keywords).map(|sign| sign.to_string()),
            metered: facts.metered,
            power,
            battery_charge,
            time_zone: zone.map_or("UTC", |zone| zone.iana_name().unwrap_or("local")).to_owned(),
        }
    }
}

fn interfaces(facts: &Facts) -> Vec<InterfaceFacts> {
    let shown = facts.interfaces.iter().map(|interface| InterfaceFacts {
        name: interface.name.clone(),
        description: interface.alias.clone(),
        kind: match interface.kind {
            LinkKind::Plain if interface.loopback => "loopback",
            kind => kind.name(),
        },
        default_route: interface.default_route,
        addresses: interface.addresses.iter().map(|own| format!("{}/{}", own.ip, own.prefix)).collect(),
    });
    shown.collect()
}
