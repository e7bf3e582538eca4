//! A scenario file: a fleet in a few lines of TOML. Unknown keys are refused, and so is what would never end.

use std::time::Duration;

use serde::Deserialize;

use super::quantity::{Rate, Size, Span};

/// Devices of all sites together.
pub(crate) const MAX_DEVICES: u64 = 10_000;
/// Deliveries of pieces (devices × MiB): ten million take an hour or less and 4 GiB.
const MAX_DELIVERIES: u64 = 10_000_000;
const MAX_FAULTS: usize = 1_000;
const MIB: u64 = 1 << 20;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Bytes of the file.
    pub(crate) size: Size,
    /// Seed of everything that chance decides: the same seed, the same run.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    /// Which devices meet (`download_mode`).
    #[serde(default)]
    pub(crate) mode: Mode,
    /// Somebody waits for the downloads.
    #[serde(default)]
    pub(crate) foreground: bool,
    /// The run is given up when this much (virtual) time has passed.
    #[serde(default = "day")]
    pub(crate) time_limit: Span,
    #[serde(default)]
    pub(crate) origin: Origin,
    #[serde(default)]
    pub(crate) settings: Settings,
    pub(crate) sites: Vec<Site>,
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
}

/// Which devices meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Those of one site.
    #[default]
    Lan,
    /// All, as one group.
    Group,
    /// All, as strangers.
    Internet,
    /// None.
    HttpOnly,
}

/// The HTTP source.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Origin {
    /// Of all connections together.
    pub(crate) rate: Rate,
    pub(crate) round_trip: Span,
    /// Every site has one of that rate for itself.
    pub(crate) each_site: bool,
}

/// Settings that change what the engine does, by the names that policies have for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Seconds.
    pub(crate) delay_foreground_download_from_http: u32,
    /// Seconds.
    pub(crate) delay_background_download_from_http: u32,
    /// KB/s.
    pub(crate) min_background_qos: Option<u32>,
    pub(crate) max_peer_connections: Option<u16>,
}

/// One site, or several of the same kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Site {
    #[serde(default)]
    pub(crate) name: String,
    /// So many of them.
    #[serde(default = "one")]
    pub(crate) count: u64,
    /// Devices in each.
    pub(crate) devices: u64,
    /// The site's Internet link, into it …
    pub(crate) downlink: Rate,
    /// … and out of it.
    pub(crate) uplink: Rate,
    /// Every device's link.
    #[serde(default = "gigabit")]
    pub(crate) lan: Rate,
    /// Devices in each that have the file from the beginning.
    #[serde(default)]
    pub(crate) seeds: u64,
    /// When the first device begins …
    #[serde(default)]
    pub(crate) start: Span,
    /// … and how long after it the next, and so on.
    #[serde(default)]
    pub(crate) every: Span,
}

/// Something that happens meanwhile.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) at: Span,
    pub(crate) what: What,
    /// The device concerned, counted from 1 through all sites.
    pub(crate) device: Option<u64>,
    /// The new rate of a link.
    pub(crate) rate: Option<Rate>,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// A device goes without a word.
    PowerCut,
    /// A device goes and says so.
    ShutDown,
    /// A device comes back.
    Return,
    /// A device's link has another rate.
    Link,
    /// The origin answers 503.
    OriginDown,
    /// It serves again.
    OriginUp,
    /// The origin has another rate.
    OriginRate,
    /// The coordinator does not answer.
    CoordinatorDown,
    /// It does again.
    CoordinatorUp,
    /// The devices up to this one and the others cannot reach each other.
    Partition,
    /// They can again.
    Heal,
}

const fn one() -> u64 {
    1
}

const fn day() -> Span {
    Span(Duration::from_secs(86_400))
}

const fn gigabit() -> Rate {
    Rate(125_000_000)
}

impl Default for Origin {
    fn default() -> Self {
        let round_trip = Span(Duration::from_millis(20));
        Self { rate: Rate(12_500_000_000), round_trip, each_site: false }
    }
}

impl What {
    const fn needs_device(self) -> bool {
        matches!(self, Self::PowerCut | Self::ShutDown | Self::Return | Self::Link | Self::Partition)
    }

    const fn needs_rate(self) -> bool {
        matches!(self, Self::Link | Self::OriginRate)
    }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What is wrong and where, what was found and what is allowed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Devices of all sites.
    pub(crate) fn devices(&self) -> u64 {
        self.sites.iter().fold(0, |sum, site| sum.saturating_add(site.count.saturating_mul(site.devices)))
    }

    fn check(&self) -> Result<(), String> {
        let (devices, pieces) = (self.devices(), self.size.0.div_ceil(MIB));
        if !(1..=MAX_DEVICES).contains(&devices) {
            return Err(format!("sites: found {devices} devices, allowed are 1 to {MAX_DEVICES}"));
        }
        if pieces == 0 {
            return Err("size: found 0, at least one byte is allowed".to_owned());
        }
        if devices.saturating_mul(pieces) > MAX_DELIVERIES {
            return Err(format!(
                "found {devices} devices with {pieces} MiB each, allowed are {MAX_DELIVERIES} MiB for all"
            ));
        }
        for (number, site) in (1..).zip(&self.sites) {
            if site.seeds > site.devices {
                let (seeds, devices) = (site.seeds, site.devices);
                return Err(format!("sites[{number}].seeds: found {seeds}, the site has {devices} devices"));
            }
            if site.count == 0 || site.devices == 0 {
                return Err(format!("sites[{number}]: found no device, at least one is allowed"));
            }
        }
        if self.settings.max_peer_connections == Some(0) {
            return Err("settings.max_peer_connections: found 0, allowed are 1 to 65535".to_owned());
        }
        if self.faults.len() > MAX_FAULTS {
            return Err(format!("found {} faults, allowed are {MAX_FAULTS}", self.faults.len()));
        }
        (1..).zip(&self.faults).try_for_each(|(number, fault)| {
            fault.check(devices).map_err(|why| format!("faults[{number}]: {why}"))
        })
    }
}

impl Fault {
    fn check(&self, devices: u64) -> Result<(), String> {
        match self.device {
            Some(found) if !(1..=devices).contains(&found) => {
                return Err(format!("found device {found}, allowed are 1 to {devices}"));
            }
            Some(_) if !self.what.needs_device() => return Err("this concerns no single device".to_owned()),
            None if self.what.needs_device() => return Err("found no device, one is needed".to_owned()),
            _ => {}
        }
        match self.rate {
            Some(_) if !self.what.needs_rate() => Err("this has no rate".to_owned()),
            None if self.what.needs_rate() => Err("found no rate, one is needed".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "size = '10MiB'\n[[sites]]\ndevices = 3\ndownlink = '50mbit'\nuplink = '10mbit'\n";

    #[test]
    fn little_has_to_be_said() {
        let scenario = Scenario::parse(SMALL).unwrap();
        assert_eq!((scenario.devices(), scenario.seed, scenario.mode), (3, 1, Mode::Lan));
        assert_eq!(scenario.sites[0].lan, Rate(125_000_000));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (wrong, told) in [
            ("colour = 1\n", "unknown field `colour`"),
            ("mode = 'peer'\n", "unknown variant `peer`"),
            ("size = '0MiB'\n", "duplicate key"),
            ("[origin]\nrate = '7'\n", "rate = '7'"),
            ("[origin]\nrate = '1kbit'\n", "allowed is 8kbit to 400gbit"),
            ("time_limit = '8d'\n", "at most 7d is allowed"),
        ] {
            let error = Scenario::parse(&format!("{wrong}{SMALL}")).unwrap_err();
            let moved =
                wrong.starts_with('[').then(|| Scenario::parse(&format!("{SMALL}{wrong}")).unwrap_err());
            assert!(moved.unwrap_or(error).contains(told), "{wrong}");
        }
        for (wrong, told) in [
            ("seeds = 4\n", "sites[1].seeds: found 4, the site has 3 devices"),
            ("count = 4000\n", "sites: found 12000 devices, allowed are 1 to 10000"),
            ("count = 0\n", "sites: found 0 devices"),
            ("[[faults]]\nat = '1s'\nwhat = 'power_cut'\n", "faults[1]: found no device, one is needed"),
            ("[[faults]]\nat = '1s'\nwhat = 'power_cut'\ndevice = 4\n", "found device 4, allowed are 1 to 3"),
            ("[[faults]]\nat = '1s'\nwhat = 'heal'\ndevice = 1\n", "this concerns no single device"),
            ("[[faults]]\nat = '1s'\nwhat = 'origin_rate'\n", "found no rate"),
            ("[settings]\nmax_peer_connections = 0\n", "settings.max_peer_connections: found 0"),
        ] {
            let error = Scenario::parse(&format!("{SMALL}{wrong}")).unwrap_err();
            assert!(error.contains(told), "{wrong}{error}");
        }
        let huge = SMALL.replace("10MiB", "4TiB");
        assert!(Scenario::parse(&huge).unwrap_err().contains("allowed are 10000000 MiB for all"));
    }
}
