//! Sites that share nothing but an origin are simulated in turns.
//!
//! What one site does reaches another only through the origin's uplink, and it takes a while: a word to the origin is on
//! its way for half a round trip, its bytes for the other half, and then they wait at the site's link behind those that
//! came before. Until then the site has its course by itself, hundreds of events on end, while what it works on lies in
//! the processor's caches; in one run of all devices each event would find nothing there (conservative simulation of
//! logical processes: Chandy and Misra 1979). It is no approximation: the origin (`trunk`) hears every word at its
//! moment, and sees the devices' links as they were then.
//!
//! Invariant: the site whose turn it is, is the one that has come least far; the origin gets as far as that, and nothing
//! that it sends reaches a site before the moment up to which that site has gone.

use std::collections::BTreeSet;
use std::time::Duration;

use peerage_swarm::{Rng, Time};

use crate::apart::of_the_whole;
use crate::outside::Outside;
use crate::run::{END, LOOK, Run, Stop};
use crate::trunk::Trunk;
use crate::{Progress, Report, Violation, World};

impl World {
    /// Whether the sites of this world have nothing to do with each other but that they fetch from one origin.
    pub(crate) fn shares_an_origin_only(&self) -> bool {
        let takes_time = self.origin.is_some_and(|origin| !origin.latency.is_zero());
        self.sites_do_not_meet() && takes_time && !self.own_origins
    }

    /// Lets the sites have their course in turns.
    pub(crate) fn run_shared(&self, seed: u64, watch: &mut dyn FnMut(Progress)) -> Result<Report, Violation> {
        let places = self.places();
        let outcome = self.in_turns(seed, None, Duration::MAX, &places, watch);
        let outcome = match outcome {
            // Once more, to tell how it came to that.
            Err((site, _)) if !self.diary => self.in_turns(seed, Some(site), Duration::MAX, &places, watch),
            outcome => outcome,
        };
        outcome.map_err(|(site, violation)| of_the_whole(violation, seed, site, &places[site]))
    }

    /// The same; `told` is the site that keeps a diary, `longest` a turn at most. A breach is told with its site.
    fn in_turns(
        &self,
        seed: u64,
        told: Option<usize>,
        longest: Duration,
        places: &[Vec<usize>],
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Report, (usize, Violation)> {
        let (mut whole, mut seeds) = (self.no_report(seed), Rng::new(seed));
        let mut sites = Vec::new();
        for (site, places) in places.iter().enumerate() {
            if places.is_empty() {
                sites.push(None);
                continue;
            }
            let mut world = self.site(site, places);
            world.diary |= told == Some(site);
            let mut run = Run::new(world, seeds.next_u64()).map_err(|violation| (site, violation))?;
            run.leave_out_the_origin();
            sites.push(Some(Box::new(run)));
        }
        let Some(mut trunk) = Trunk::new(self) else { return Ok(whole) };
        let mut next_look = LOOK;
        let mut done = Progress { devices: self.devices.len(), ..Progress::default() };
        // How far each site has come: all that comes before has happened.
        let mut turns: BTreeSet<(Time, usize)> = (0..sites.len()).map(|site| (Time::ZERO, site)).collect();
        while let Some((now, site)) = turns.pop_first() {
            trunk.advance(now, &mut sites);
            let Some(run) = &mut sites[site] else { continue };
            let before = run.progress();
            let stop = run.turn(&mut trunk, site, now, longest).map_err(|violation| (site, violation))?;
            let after = run.progress();
            done.events += after.events - before.events;
            done.complete += after.complete - before.complete;
            done.at = after.at;
            if let Some(next) = stop {
                turns.insert((next, site));
            } else if let Some(run) = sites[site].take() {
                let part = run.finish().map_err(|violation| (site, violation))?;
                whole.add(site, &places[site], part);
            }
            if done.events >= next_look {
                next_look = done.events + LOOK;
                watch(done);
            }
        }
        trunk.advance(END, &mut sites);
        whole.origin_bytes = trunk.sent();
        whole.events += trunk.events;
        whole.sites.iter_mut().enumerate().for_each(|(site, report)| report.received = trunk.received(site));
        Ok(whole)
    }
}

impl Run {
    /// The origin is not part of this run: what is said to it is kept until it listens.
    fn leave_out_the_origin(&mut self) {
        let latency = self.servers.first().map_or(Duration::ZERO, |origin| origin.latency);
        self.outside = Some(Outside::new(self.devices.iter().map(|device| device.down), latency));
    }

    /// Goes on from `now` for as long as nothing from outside can come. Returns until when, unless it is over.
    fn turn(
        &mut self,
        trunk: &mut Trunk,
        site: usize,
        now: Time,
        longest: Duration,
    ) -> Result<Option<Time>, Violation> {
        let until = trunk.calm(site, now).min(now + longest);
        if let Some(outside) = &mut self.outside {
            outside.go_on(now, trunk.is_quiet(site));
        }
        let stop = self.advance(until, u64::MAX)?;
        let next = if let Stop::At(next) = stop { Some(next) } else { None };
        if let Some(outside) = &mut self.outside {
            trunk.listen(site, &mut outside.said);
            outside.reached = next.unwrap_or(END);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, Health, world};

    const SECOND: Duration = Duration::from_secs(1);

    /// Five sites of eight devices.
    fn five() -> World {
        world().devices(40).sites_of(8).pieces(30).lan_only().wan_mbit(100.0, 100.0).origin_mbit(800.0)
    }

    fn in_turns_of(world: &World, longest: Duration, seed: u64) -> Report {
        let outcome = world.in_turns(seed, None, longest, &world.places(), &mut |_| {});
        outcome.unwrap_or_else(|(site, violation)| panic!("site {site}: {violation}"))
    }

    #[test]
    fn only_what_shares_an_origin_and_nothing_else() {
        assert!(five().shares_an_origin_only());
        assert!(!five().own_origins().shares_an_origin_only() && !five().no_origin().shares_an_origin_only());
        assert!(!five().cache_mbit(10.0).shares_an_origin_only());
        assert!(!five().sites_of(40).shares_an_origin_only() && !five().staggered().shares_an_origin_only());
        assert!(!five().strangers().shares_an_origin_only());
        assert!(!five().origin_rtt(Duration::ZERO).shares_an_origin_only());
    }

    #[test]
    fn how_long_turns_are_makes_no_difference() {
        let at = |ms| Duration::from_millis(ms);
        // Links on which 64 KiB take whole microseconds: much happens at one moment.
        let even = five().pieces(12).lan_mbit(1048.576).wan_mbit(32.768, 32.768).origin_mbit(524.288);
        let plain = [even, five(), five().origin_mbit(60.0), five().wan_mbit(2000.0, 100.0).foreground()];
        let troubled = five()
            .each(|at, device| device.begin = crate::Begin::At(Duration::from_millis(97) * at as u32))
            .fault(at(400), Fault::Origin(Health::Busy(Some(at(300)))))
            .fault(at(900), Fault::Origin(Health::Fine))
            .fault(at(1000), Fault::Link(9, 20.0, 20.0))
            .fault(at(1200), Fault::PowerCut(3))
            .fault(at(1500), Fault::OriginMbit(90.0))
            .fault(at(1700), Fault::Origin(Health::Silent))
            .fault(at(2900), Fault::Origin(Health::Fine))
            .fault(at(3100), Fault::Return(3));
        for world in plain.into_iter().chain([troubled]) {
            for seed in 0..3 {
                let long = in_turns_of(&world, Duration::MAX, seed);
                assert_eq!(long, in_turns_of(&world, Duration::from_micros(300), seed));
            }
        }
    }

    #[test]
    fn in_turns_or_whole_it_comes_to_the_same() {
        let seconds = |report: &Report| report.end.as_secs_f64();
        let median = |run: &dyn Fn(u64) -> Report, figure: &dyn Fn(&Report) -> f64| {
            let mut figures: Vec<f64> = (0..9).map(|seed| figure(&run(seed))).collect();
            figures.sort_by(f64::total_cmp);
            figures[4]
        };
        let whole = |seed| five().run_whole(seed, &mut |_| {}).unwrap();
        let in_turns = |seed| five().run(seed).unwrap();
        for figure in [&Report::origin_copies as &dyn Fn(&Report) -> f64, &seconds] {
            let (one, other) = (median(&whole, figure), median(&in_turns, figure));
            assert!((one / other - 1.0).abs() < 0.02, "{one} {other}");
        }
        let report = in_turns(1);
        assert_eq!((report.devices.len(), report.sites.len(), report.seed), (40, 5, 1));
        assert!(report.devices.iter().enumerate().all(|(at, device)| device.site == at / 8));
        assert_eq!(report.sites.iter().map(|site| site.received).sum::<u64>(), report.origin_bytes);
        let gap = five().each(|_, device| device.site *= 2).run(1).unwrap();
        assert_eq!((gap.sites.len(), gap.sites[1].received, gap.devices[8].site), (9, 0, 2));
        assert!(report == in_turns(1) && report != in_turns(2));
    }

    #[test]
    fn a_breach_names_the_device_of_the_whole_world() {
        let world = five().fault(Duration::ZERO, Fault::Origin(Health::Wrong)).seeds(0, 8);
        let violation = world.time_limit(60 * SECOND).run(3).unwrap_err();
        assert_eq!((violation.seed, violation.device), (3, 8));
        assert!(violation.what.starts_with("site 1, device 0 of it: does not come to an end"), "{violation}");
        assert!(!violation.diary.is_empty());
    }

    #[test]
    fn whoever_watches_is_told() {
        let mut told = Vec::new();
        let report = five().pieces(400).run_watched(1, &mut |progress| told.push(progress)).unwrap();
        assert!(!told.is_empty() && told.len() as u64 <= report.events / LOOK);
        assert!(told.is_sorted_by_key(|progress| (progress.events, progress.complete)));
        assert!(told.iter().all(|progress| progress.devices == 40 && progress.at <= report.end + 2 * SECOND));
    }
}
