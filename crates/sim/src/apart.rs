//! Sites that share nothing are simulated one after another.
//!
//! Where nobody hears of devices of other sites and every site has an origin for itself, no event of one site bears on
//! another. In one run they would only take turns in the processor's caches: the state of fifty devices fits into those,
//! that of ten thousand does not, and takes two hundred times the memory.
//!
//! Everything else – the engine, the links, the faults, what is checked after every event – is as in one run. A site's
//! chances follow from the seed and its number.

use peerage_swarm::Rng;

use crate::world::Begin;
use crate::{DeviceReport, Fault, Progress, Report, SiteReport, Violation, World};

impl World {
    /// Whether the sites of this world have nothing to do with each other.
    pub(crate) fn falls_apart(&self) -> bool {
        self.sites_do_not_meet() && (self.origin.is_none() || self.own_origins)
    }

    /// Whether no device of one site has to do with those of another.
    pub(crate) fn sites_do_not_meet(&self) -> bool {
        // Whoever waits for another device must find it in its own site.
        let chained = self
            .devices
            .iter()
            .zip(self.devices.iter().skip(1))
            .all(|(before, device)| device.begin != Begin::AfterPrevious || device.site == before.site);
        self.sites() > 1 && self.far_kind.is_none() && self.cache.is_none() && chained
    }

    /// How many sites there are.
    pub(crate) fn sites(&self) -> usize {
        self.devices.iter().map(|device| device.site + 1).max().unwrap_or_default()
    }

    /// Lets site after site have its course.
    pub(crate) fn run_apart(&self, seed: u64, watch: &mut dyn FnMut(Progress)) -> Result<Report, Violation> {
        let (mut whole, mut seeds) = (self.no_report(seed), Rng::new(seed));
        let mut done = Progress { devices: self.devices.len(), ..Progress::default() };
        for (site, places) in self.places().iter().enumerate() {
            let mut watch_site = |now: Progress| {
                let (events, complete) = (done.events + now.events, done.complete + now.complete);
                watch(Progress { events, complete, at: now.at, ..done });
            };
            let part = self.site(site, places).run_whole(seeds.next_u64(), &mut watch_site);
            let part = part.map_err(|violation| of_the_whole(violation, seed, site, places))?;
            (done.events, done.complete) = (done.events + part.events, done.complete + places.len());
            whole.add(site, places, part);
        }
        Ok(whole)
    }

    /// The devices of each site.
    pub(crate) fn places(&self) -> Vec<Vec<usize>> {
        let mut places = vec![Vec::new(); self.sites()];
        self.devices.iter().enumerate().for_each(|(at, device)| places[device.site].push(at));
        places
    }

    /// A report to which those of the sites are added.
    pub(crate) fn no_report(&self, seed: u64) -> Report {
        Report {
            seed,
            size: self.size,
            bound: self.bound(),
            devices: vec![DeviceReport::default(); self.devices.len()],
            sites: vec![SiteReport::default(); self.sites()],
            ..Report::default()
        }
    }

    /// One site by itself; `places` are its devices.
    pub(crate) fn site(&self, site: usize, places: &[usize]) -> Self {
        let devices = places.iter().map(|at| crate::DeviceSetup { site: 0, ..self.devices[*at].clone() });
        let faults = self.faults.iter().filter_map(|(at, fault)| Some((*at, fault.among(places)?)));
        Self {
            wans: self.wan(site).into_iter().collect(),
            devices: devices.collect(),
            faults: faults.collect(),
            ..self.clone()
        }
    }
}

/// A breach at one site, told of the whole world.
pub(crate) fn of_the_whole(violation: Violation, seed: u64, site: usize, places: &[usize]) -> Violation {
    Violation {
        seed,
        device: places.get(violation.device).copied().unwrap_or_default(),
        what: format!("site {site}, device {} of it: {}", violation.device, violation.what),
        ..violation
    }
}

impl Report {
    /// Adds what came out of one site, whose devices are those at `places`.
    pub(crate) fn add(&mut self, site: usize, places: &[usize], part: Self) {
        self.origin_bytes += part.origin_bytes;
        self.events += part.events;
        self.end = self.end.max(part.end);
        self.diary.extend(part.diary);
        self.sites[site] = part.sites.first().copied().unwrap_or_default();
        for (place, mut device) in places.iter().zip(part.devices) {
            device.site = site;
            device.banned_by.iter_mut().for_each(|by| *by = places.get(*by).copied().unwrap_or(*by));
            self.devices[*place] = device;
        }
    }
}

impl Fault {
    /// What it is to the devices at `places`, numbered by themselves; `None`: nothing.
    fn among(&self, places: &[usize]) -> Option<Self> {
        let own = |at: &usize| places.binary_search(at).ok();
        Some(match self {
            Self::PowerCut(at) => Self::PowerCut(own(at)?),
            Self::ShutDown(at) => Self::ShutDown(own(at)?),
            Self::Return(at) => Self::Return(own(at)?),
            Self::Link(at, down, up) => Self::Link(own(at)?, *down, *up),
            Self::Pause(at, paused) => Self::Pause(own(at)?, *paused),
            Self::Limits(at, limits) => Self::Limits(own(at)?, *limits),
            Self::Damage(at, piece) => Self::Damage(own(at)?, *piece),
            Self::Partition(at) => match places.partition_point(|place| place <= at).checked_sub(1) {
                Some(last) => Self::Partition(last),
                None => Self::Heal,
            },
            Self::Origin(_) | Self::Cache(_) | Self::OriginMbit(_) | Self::Coordinator(_) | Self::Heal => {
                self.clone()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Health, world};

    /// Three sites of eight devices.
    fn three() -> World {
        let world = world().devices(24).sites_of(8).pieces(30).lan_only().wan_mbit(100.0, 100.0);
        world.origin_mbit(500.0).own_origins()
    }

    #[test]
    fn only_what_shares_nothing_falls_apart() {
        assert!(three().falls_apart() && three().no_origin().falls_apart());
        let shared = World { own_origins: false, ..three() };
        assert!(!shared.falls_apart() && !three().cache_mbit(10.0).falls_apart());
        assert!(!three().staggered().falls_apart() && !three().sites_of(24).falls_apart());
        let group = World { far_kind: world().far_kind, ..three() };
        assert!(!group.falls_apart());
    }

    #[test]
    fn apart_or_together_it_comes_to_the_same() {
        let seconds = |report: &Report| report.end.as_secs_f64();
        // One course in twenty takes a tenth of a second longer.
        let median = |run: &dyn Fn(u64) -> Report, figure: &dyn Fn(&Report) -> f64| {
            let mut figures: Vec<f64> = (0..7).map(|seed| figure(&run(seed))).collect();
            figures.sort_by(f64::total_cmp);
            figures[3]
        };
        let together = |seed| three().run_whole(seed, &mut |_| {}).unwrap();
        let apart = |seed| three().run(seed).unwrap();
        for figure in [&Report::origin_copies as &dyn Fn(&Report) -> f64, &seconds] {
            let (one, other) = (median(&together, figure), median(&apart, figure));
            assert!((one / other - 1.0).abs() < 0.02, "{one} {other}");
        }
        let report = apart(1);
        assert_eq!((report.devices.len(), report.sites.len(), report.seed), (24, 3, 1));
        assert!(report.devices.iter().enumerate().all(|(at, device)| device.site == at / 8));
        assert_eq!(report.sites.iter().map(|site| site.received).sum::<u64>(), report.origin_bytes);
        assert!(report == apart(1) && report != apart(2));
    }

    #[test]
    fn faults_strike_the_same_devices() {
        let at = Duration::from_secs(1);
        let cut = three().fault(at, Fault::PowerCut(9)).fault(at * 60, Fault::Return(9));
        let report = cut.run(1).unwrap();
        let late = report.devices.iter().position(|device| device.took > Some(at * 50));
        assert_eq!(
            (late, report.devices.iter().filter(|device| device.took > Some(at * 50)).count()),
            (Some(9), 1)
        );

        let sites = [&[0usize, 1, 2][..], &[3, 4, 5], &[6, 7, 8]];
        let seen = sites.map(|places| Fault::Partition(4).among(places));
        assert_eq!(seen, [Some(Fault::Partition(2)), Some(Fault::Partition(1)), Some(Fault::Heal)]);
        assert_eq!(Fault::Damage(4, 7).among(sites[1]), Some(Fault::Damage(1, 7)));
        assert_eq!(Fault::Damage(4, 7).among(sites[2]), None);
    }

    #[test]
    fn a_breach_names_the_device_of_the_whole_world() {
        let world = three().fault(Duration::ZERO, Fault::Origin(Health::Wrong)).seeds(0, 8);
        let violation = world.time_limit(Duration::from_secs(60)).run(3).unwrap_err();
        assert_eq!((violation.seed, violation.device), (3, 8));
        assert!(violation.what.starts_with("site 1, device 0 of it: does not come to an end"), "{violation}");
        assert!(!violation.diary.is_empty());
    }
}
