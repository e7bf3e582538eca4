//! The way from an origin that many sites share into each of them: its uplink, and the sites' links in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use peerage_swarm::{FetchId, SourceKind, Time};

use crate::link::mbit;
use crate::run::{END, Run, What};
use crate::server::{Key, Server, Word};
use crate::uplink::{Bytes, Job, QUEUE, window};
use crate::wan::Wan;
use crate::way::{Leg, Load};
use crate::{Fault, World};

/// Something that will happen.
#[derive(Debug)]
enum Then {
    /// A word of a site reaches the origin.
    Word(u32, Word),
    /// The origin's uplink is free again.
    Served,
    /// Bytes come to a site's link; when the last of them do.
    In(u32, Key, Bytes, Time),
    /// What befalls the origin.
    Fault(Fault),
}

/// What is on its way to one site.
#[derive(Debug)]
struct Owed {
    wan: Wan,
    /// Requests on their way to the origin.
    asked: usize,
    /// When bytes come to the site's link.
    coming: VecDeque<Time>,
}

/// The place at one moment of what the origin and the links do; after it those of the sites.
const OWN: u32 = 0;

/// A range of a site's device.
type Flow = (u32, Key);

/// What happens at one moment: first what the origin and the links do, then the words of the sites, in their order.
type Turn = (Time, u32, u64);

#[derive(Debug)]
pub(crate) struct Trunk {
    now: Time,
    to_come: BTreeMap<Turn, Then>,
    entered: u64,
    origin: Server<Flow>,
    owed: Vec<Owed>,
    /// When something will befall the origin.
    faults: BTreeSet<Time>,
    pub(crate) events: u64,
}

/// A site whose course is not over.
pub(crate) type Sites = [Option<Box<Run>>];

impl Trunk {
    /// The origin of `world`, with `latency` on each way; nothing if it has none.
    pub(crate) fn new(world: &World) -> Option<Self> {
        let setup = world.origin?;
        let wan = |site| world.wan(site).unwrap_or((u64::MAX, u64::MAX));
        let owed = (0..world.sites()).map(wan).map(|(down, up)| Owed {
            wan: Wan::new(down, up),
            asked: 0,
            coming: VecDeque::new(),
        });
        let origin = Server::new(SourceKind::Cdn, setup.rate, world.quantum, setup.latency);
        let mut trunk = Self {
            now: Time::ZERO,
            to_come: BTreeMap::new(),
            entered: 0,
            origin,
            owed: owed.collect(),
            faults: BTreeSet::new(),
            events: 0,
        };
        for (at, fault) in &world.faults {
            if matches!(fault, Fault::Origin(_) | Fault::OriginMbit(_)) {
                trunk.faults.insert(Time::ZERO + *at);
                trunk.enter(Time::ZERO + *at, OWN, Then::Fault(fault.clone()));
            }
        }
        Some(trunk)
    }

    fn enter(&mut self, at: Time, of: u32, then: Then) {
        self.entered += 1;
        self.to_come.insert((at, of, self.entered), then);
    }

    /// Bytes that have left the origin.
    pub(crate) const fn sent(&self) -> u64 {
        self.origin.uplink.sent
    }

    /// Bytes that came into `site`.
    pub(crate) fn received(&self, site: usize) -> u64 {
        self.owed[site].wan.received
    }

    /// Takes up what `site` has said, and when it gets here.
    pub(crate) fn listen(&mut self, site: usize, said: &mut Vec<(Time, Word)>) {
        for (there, word) in said.drain(..) {
            self.owed[site].asked += usize::from(matches!(word, Word::Ask { .. }));
            self.enter(there, OWN + 1 + site as u32, Then::Word(site as u32, word));
        }
    }

    /// Nothing is on its way to `site`, and nothing will be before it asks for more.
    pub(crate) fn is_quiet(&self, site: usize) -> bool {
        let owed = &self.owed[site];
        let first = self.origin.uplink.flow_from((site as u32, Key::new(0, 0, FetchId(0))));
        owed.asked == 0 && owed.coming.is_empty() && first.is_none_or(|(other, _)| other as usize != site)
    }

    /// Before this moment nothing from outside can reach a device of `site`, given that no site says anything more before
    /// `now`, which is later.
    pub(crate) fn calm(&self, site: usize, now: Time) -> Time {
        let (owed, quiet) = (&self.owed[site], self.is_quiet(site));
        // What the origin says now is at the site's link after one way, and leaves it when that is free.
        let reply = now + self.origin.latency;
        let first = owed.coming.front().map_or(reply, |coming| reply.min(*coming));
        let data = first.max(owed.wan.down.free());
        let calm = match (quiet, self.origin.health.refuses()) {
            (true, _) => END,
            (false, None) => data,
            (false, Some(_)) => data.min(reply),
        };
        self.faults.first().map_or(calm, |fault| calm.min(*fault))
    }

    /// Lets everything before `now` happen, which all sites have reached, and at `now` all but what sites say then.
    pub(crate) fn advance(&mut self, now: Time, sites: &mut Sites) {
        while let Some(next) = self.to_come.first_entry().filter(|next| *next.key() < (now, OWN + 1, 0)) {
            let ((at, ..), then) = next.remove_entry();
            (self.now, self.events) = (at, self.events + 1);
            match then {
                Then::Word(site, word) => self.hear(site, word, sites),
                Then::Served => {
                    self.origin.uplink.free();
                    self.serve(sites);
                }
                Then::In(site, key, bytes, last) => {
                    let owed = &mut self.owed[site as usize];
                    owed.coming.pop_front();
                    let (first, last) = owed.wan.take_in(u64::from(bytes.len), (at, last));
                    let leg = Leg::into_device(Load::Http(0, key, bytes), key.device(), last);
                    if let Some(run) = &mut sites[site as usize] {
                        run.left += u64::from(bytes.len);
                        run.comes_from_outside(first, What::Way(Box::new(leg)));
                    }
                }
                Then::Fault(fault) => {
                    self.faults.remove(&at);
                    self.fault(&fault, sites);
                }
            }
        }
    }

    fn hear(&mut self, site: u32, word: Word, sites: &mut Sites) {
        match word {
            Word::Ask { key, start, end } => {
                self.owed[site as usize].asked -= 1;
                let Some(run) = &mut sites[site as usize] else { return };
                let (now, health) = (self.now, self.origin.health);
                if let Some(error) = health.refuses() {
                    run.comes_from_outside(now + self.origin.latency, What::Failed(key, error));
                    return;
                }
                let rate =
                    run.link_before(key.device(), now).rate.min(self.owed[site as usize].wan.down.rate);
                let job = Job { at: start, end, wrong: health == crate::Health::Wrong };
                self.origin.uplink.push((site, key), job, window(rate, self.origin.latency));
                self.serve(sites);
            }
            Word::Close(key) => self.origin.uplink.close((site, key)),
            Word::Landed(key, len) => {
                self.origin.uplink.landed((site, key), len);
                self.serve(sites);
            }
        }
    }

    /// Puts the next bytes on the origin's uplink, if it is free and bytes wait.
    fn serve(&mut self, sites: &Sites) {
        let now = self.now;
        let Some(quantum) = self.origin.uplink.send_next(now) else { return };
        let ((first, last), (site, key)) = (quantum.leaves, quantum.flow);
        self.enter(last, OWN, Then::Served);
        let (there, last) = (first + self.origin.latency, last + self.origin.latency);
        let owed = &mut self.owed[site as usize];
        owed.coming.push_back(there);
        let down = sites[site as usize].as_ref().map(|run| run.link_before(key.device(), now).queue(there));
        let queue = owed.wan.down.queue(there).max(down.unwrap_or_default());
        self.origin.uplink.went(quantum.flow, queue > QUEUE);
        self.enter(there, OWN, Then::In(site, key, quantum.bytes, last));
    }

    fn fault(&mut self, fault: &Fault, sites: &mut Sites) {
        match *fault {
            Fault::OriginMbit(rate) => self.origin.uplink.link.rate = mbit(rate),
            Fault::Origin(health) => {
                self.origin.health = health;
                self.origin.uplink.stopped = health == crate::Health::Silent;
                let Some((span, error)) = health.breaks_off() else { return self.serve(sites) };
                let at = self.now + span;
                for (site, key) in self.origin.uplink.close_all() {
                    if let Some(run) = &mut sites[site as usize] {
                        run.comes_from_outside(at, What::Failed(key, error));
                    }
                }
            }
            _ => {}
        }
    }
}
