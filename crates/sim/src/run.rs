//! A run: the devices of a world, what is on its way between them, and the loop that lets time pass.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerage_content::{Layout, PeerId};
use peerage_swarm::{Event, FetchError, Rng, SourceId, SourceKind, Time};
use peerage_wire::Message;

use crate::conn::{Conn, Socket};
use crate::device::Device;
use crate::outside::Outside;
use crate::queue::Queue;
use crate::registry::Registry;
use crate::server::{Key, Server, Word};
use crate::uplink::Bytes;
use crate::wan::Wan;
use crate::way::Leg;
use crate::world::{Begin, World};
use crate::{DeviceReport, Progress, Report, SiteReport, Violation};

/// A run that needs more events than this goes round in circles.
const MAX_EVENTS: u64 = 20_000_000_000;
/// Alarms of one device at one moment.
const MAX_ALARMS: u32 = 100;
/// Lines of the diary that a report or a violation shows.
const DIARY: usize = 100_000;
const DIARY_SHOWN: usize = 80;
/// Time after the last completion in which nothing may go wrong either.
const AFTERMATH: Duration = Duration::from_secs(2);

/// After so many events whoever watches is told.
pub(crate) const LOOK: u64 = 1 << 18;
/// Nothing happens then or later.
pub(crate) const END: Time = Time::from_micros(u64::MAX);

/// Why a run stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All before this moment has happened.
    At(Time),
    /// As many events as were allowed have happened.
    Paused,
    /// Nothing is left to happen.
    Over,
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum What {
    /// A device appears, or comes back.
    SwitchOn(usize),
    /// A device's time-out.
    Wake(usize),
    /// The engine is told something.
    Tell(usize, u32, Box<Event>),
    /// An upload has left a device.
    Sent { at: u32, life: u32, source: SourceId, len: u32 },
    /// An announce reaches the coordinator.
    Announce(usize, u32),
    /// It is time for the announce after the one of this number.
    AnnounceAgain(usize, u64),
    /// A dial comes to its end.
    Dialled(usize),
    /// A load comes to the next link on its way.
    Way(Box<Leg>),
    /// A message arrives at an end of a connection.
    Message(Socket, Message),
    /// Bytes do.
    Data(Socket, Bytes),
    /// A device's uplink is free again.
    Free(usize),
    /// An end of a connection learns that it has ended.
    Left(Socket),
    /// A word reaches an HTTP source.
    Word(u32, Word),
    /// An HTTP source's uplink is free again.
    Served(usize),
    /// Bytes from an HTTP source arrive.
    Bytes(u32, Key, Bytes),
    /// A range has failed.
    Failed(Key, FetchError),
    /// A liar's time-out.
    Lie(usize, u32),
    /// The fault of this number.
    Fault(usize),
}

// A large fleet has millions of these before it.
const _: () = assert!(size_of::<What>() <= 48);

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) seed: u64,
    pub(crate) layout: Layout,
    pub(crate) rng: Rng,
    pub(crate) queue: Queue<What>,
    pub(crate) devices: Vec<Device>,
    pub(crate) by_id: BTreeMap<PeerId, usize>,
    pub(crate) conns: Vec<Conn>,
    /// The origin, or one for every site, then the cache.
    pub(crate) servers: Vec<Server>,
    /// The origin is not part of this run.
    pub(crate) outside: Option<Outside>,
    /// Links of the sites.
    pub(crate) wans: Vec<Wan>,
    pub(crate) registry: Registry,
    pub(crate) coordinator: bool,
    /// Some devices have manners of their own.
    pub(crate) lies: bool,
    /// Devices that have announced, by site; all in the first where sites share.
    pub(crate) ordinals: Vec<u32>,
    /// Devices whose downloads are still to come to an end.
    busy: usize,
    /// Devices that have come to it once.
    pub(crate) complete: usize,
    pub(crate) partition: Option<usize>,
    /// What waits for the partition to end: TCP sends it again until it gets through.
    pub(crate) held: Vec<What>,
    /// Devices and faults that are still to come.
    pub(crate) to_come: usize,
    /// Bytes that left a sender, and those that arrived or were lost on the way.
    pub(crate) left: u64,
    pub(crate) landed: u64,
    diary: VecDeque<(usize, String)>,
    ended: Option<Time>,
    events: u64,
}

impl Run {
    pub(crate) fn new(world: World, seed: u64) -> Result<Self, Violation> {
        let mut rng = Rng::new(seed);
        let layout = Layout::new(world.size).map_err(|error| Violation {
            seed,
            at: Duration::ZERO,
            device: 0,
            what: error.to_string(),
            diary: Vec::new(),
        })?;
        let devices: Vec<_> = world
            .devices
            .iter()
            .map(|setup| Device::new(setup.clone(), layout, world.quantum, &mut rng))
            .collect();
        let sites = world.sites();
        let origins = if world.own_origins { sites } else { 1 };
        let origins = world.origin.into_iter().flat_map(|origin| std::iter::repeat_n(origin, origins));
        let kinds = origins.map(|setup| (setup, SourceKind::Cdn));
        let kinds = kinds.chain(world.cache.map(|setup| (setup, SourceKind::CacheServer)));
        let servers = kinds.map(|(setup, kind)| Server::new(kind, setup.rate, world.quantum, setup.latency));
        let mut run = Self {
            seed,
            layout,
            rng,
            queue: Queue::new(),
            by_id: devices.iter().enumerate().map(|(at, device)| (device.id, at)).collect(),
            devices,
            conns: Vec::new(),
            servers: servers.collect(),
            outside: None,
            wans: (0..sites)
                .map(|site| world.wan(site).unwrap_or((u64::MAX, u64::MAX)))
                .map(|(down, up)| Wan::new(down, up))
                .collect(),
            registry: Registry::new(world.devices.len(), sites, world.far_kind),
            coordinator: true,
            lies: world.devices.iter().any(|setup| !setup.manner.runs_engine()),
            ordinals: vec![0; sites],
            busy: 0,
            complete: 0,
            partition: None,
            held: Vec::new(),
            to_come: 0,
            left: 0,
            landed: 0,
            diary: VecDeque::new(),
            ended: None,
            events: 0,
            world,
        };
        for at in 0..run.devices.len() {
            if let Begin::At(begin) = run.devices[at].setup.begin {
                run.queue.push(Time::ZERO + begin, What::SwitchOn(at));
            }
        }
        for (number, (at, _)) in run.world.faults.iter().enumerate() {
            run.queue.push(Time::ZERO + *at, What::Fault(number));
        }
        run.to_come = run.devices.len() + run.world.faults.len();
        Ok(run)
    }

    pub(crate) fn now(&self) -> Time {
        self.queue.now()
    }

    pub(crate) fn run(mut self, watch: &mut dyn FnMut(Progress)) -> Result<Report, Violation> {
        while self.advance(END, LOOK)? == Stop::Paused {
            watch(self.progress());
        }
        self.finish()
    }

    /// Lets what comes before `until` happen, and at most `most` events of it.
    pub(crate) fn advance(&mut self, until: Time, most: u64) -> Result<Stop, Violation> {
        let limit = Time::ZERO + self.world.time_limit;
        for _ in 0..most {
            let until = self.outside.as_ref().map_or(until, |outside| outside.until(until));
            let Some(what) = self.queue.pop_before(until) else {
                return Ok(if until == END { Stop::Over } else { Stop::At(until) });
            };
            self.events += 1;
            if self.ended.is_some_and(|ended| self.now() > ended + AFTERMATH) {
                return Ok(Stop::Over);
            }
            if self.events > MAX_EVENTS || self.now() > limit {
                return Err(self.unfinished("does not come to an end"));
            }
            self.happen(what)?;
            if self.ended.is_none() && self.to_come == 0 && self.busy == 0 {
                self.ended = Some(self.now());
            }
        }
        Ok(Stop::Paused)
    }

    /// `what` comes from outside at `at`.
    pub(crate) fn comes_from_outside(&mut self, at: Time, what: What) {
        let reached = self.outside.as_ref().map(|outside| outside.reached);
        debug_assert!(Some(at) >= reached, "{what:?} comes at {at:?}, the site is at {reached:?}");
        self.queue.push(at, what);
    }

    /// What came out of it, now that it is over.
    pub(crate) fn finish(self) -> Result<Report, Violation> {
        if self.ended.is_none() {
            return Err(self.unfinished("waits for nothing"));
        }
        self.check_end()?;
        Ok(self.report())
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            at: self.now().since(Time::ZERO),
            events: self.events,
            complete: self.complete,
            devices: self.devices.len(),
        }
    }

    fn happen(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::SwitchOn(at) => {
                self.to_come -= 1;
                self.switch_on(at)
            }
            What::Wake(at) => self.wake(at),
            What::Tell(at, life, event) => self.tell(at, life, *event),
            What::Sent { at, life, source, len } => self.tell(at as usize, life, Event::Sent { source, len }),
            What::Announce(at, life) => self.announced(at, life),
            What::AnnounceAgain(at, number) => {
                if self.devices[at].announces == number {
                    self.announce(at, self.devices[at].life);
                }
                Ok(())
            }
            What::Dialled(conn) => self.dialled(conn),
            What::Way(leg) => {
                self.way(leg);
                Ok(())
            }
            What::Message(to, message) => self.message(to, message),
            What::Data(to, bytes) => self.data(to, bytes),
            What::Free(at) => {
                self.devices[at].up.free();
                self.send_on(at);
                Ok(())
            }
            What::Left(socket) => self.left(socket),
            What::Word(server, word) => {
                self.hear(server as usize, word);
                Ok(())
            }
            What::Served(server) => {
                self.servers[server].uplink.free();
                self.serve(server);
                Ok(())
            }
            What::Bytes(server, key, bytes) => self.bytes(server as usize, key, bytes),
            What::Failed(key, error) => self.failed(key, error),
            What::Lie(at, life) => {
                self.lie(at, life);
                Ok(())
            }
            What::Fault(number) => {
                self.to_come -= 1;
                self.fault(number)
            }
        }
    }

    /// Tells the engine of device `at` something and does what it answers.
    pub(crate) fn tell(&mut self, at: usize, life: u32, event: Event) -> Result<(), Violation> {
        if self.devices[at].life != life {
            return Ok(());
        }
        self.note(at, || format!("<- {event:?}"));
        let now = self.now();
        if let Some(engine) = &mut self.devices[at].engine {
            engine.handle(event, now);
        }
        self.settle(at)
    }

    fn wake(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.now();
        let device = &mut self.devices[at];
        if device.wake_at != Some(now) {
            return Ok(());
        }
        device.wake_at = None;
        device.alarms = if device.alarms.0 == now { (now, device.alarms.1 + 1) } else { (now, 0) };
        if device.alarms.1 > MAX_ALARMS {
            return Err(self.violation(at, "wants to be woken up over and over"));
        }
        let device = &mut self.devices[at];
        if let Some(engine) = &mut device.engine {
            engine.handle_timeout(now);
        }
        self.settle(at)
    }

    /// Device `at` may have begun, ended or gone: counts it, or no longer.
    pub(crate) fn recount(&mut self, at: usize) {
        let device = &mut self.devices[at];
        let busy = device.is_busy();
        match (std::mem::replace(&mut device.counted, busy), busy) {
            (false, true) => self.busy += 1,
            (true, false) => self.busy -= 1,
            _ => {}
        }
    }

    // === What went wrong, what came out ===

    pub(crate) fn note(&mut self, at: usize, line: impl FnOnce() -> String) {
        if self.world.diary {
            if self.diary.len() >= DIARY {
                self.diary.pop_front();
            }
            let now = self.now().micros() as f64 / 1e6;
            self.diary.push_back((at, format!("{now:.6} {at} {}", line())));
        }
    }

    pub(crate) fn violation(&self, device: usize, what: impl Into<String>) -> Violation {
        let own = self.diary.iter().filter(|(at, _)| *at == device).map(|(_, line)| line.clone());
        let own: Vec<String> = own.collect();
        Violation {
            seed: self.seed,
            at: self.now().since(Time::ZERO),
            device,
            what: what.into(),
            diary: own[own.len().saturating_sub(DIARY_SHOWN)..].to_vec(),
        }
    }

    fn unfinished(&self, what: &str) -> Violation {
        let busy: Vec<usize> = self
            .devices
            .iter()
            .enumerate()
            .filter(|(_, device)| device.is_busy())
            .map(|(at, _)| at)
            .collect();
        let first = busy.first().copied().unwrap_or_default();
        let missing = self.devices.get(first).map_or(0, |device| device.disk.have().missing().count());
        self.violation(first, format!("{what}: {busy:?} are not complete, the first lacks {missing} pieces"))
    }

    /// What must hold when all has come to rest.
    fn check_end(&self) -> Result<(), Violation> {
        let now = self.now();
        for (at, device) in
            self.devices.iter().enumerate().filter(|(_, device)| device.setup.manner.is_honest())
        {
            if !device.fetches.is_empty() {
                return Err(self.violation(at, "is complete and still fetches"));
            }
            device.accounts(now).map_err(|what| self.violation(at, what))?;
        }
        if self.left < self.landed {
            return Err(self.violation(0, format!("{} bytes left, {} landed", self.left, self.landed)));
        }
        Ok(())
    }

    fn report(self) -> Report {
        let now = self.now();
        let devices = self.devices.iter().map(|device| {
            let stats = device.stats(now);
            DeviceReport {
                honest: device.setup.manner.is_honest(),
                site: device.setup.site,
                began: device.began.map_or(Duration::ZERO, |began| began.since(Time::ZERO)),
                took: device.took.map(|took| took.since(device.began.unwrap_or(Time::ZERO))),
                received: stats.received,
                sent: stats.sent,
                wasted: stats.wasted + device.skipped,
                banned_by: device.banned_by.iter().copied().collect(),
            }
        });
        let sites: Vec<SiteReport> =
            self.wans.iter().map(|wan| SiteReport { received: wan.received, sent: wan.sent }).collect();
        let bytes = |kind| {
            self.servers.iter().filter(|server| server.kind == kind).map(|server| server.uplink.sent).sum()
        };
        let ended = self.devices.iter().filter(|device| device.setup.manner.is_honest());
        let ended = ended.filter_map(|device| device.took).max().unwrap_or(Time::ZERO);
        Report {
            seed: self.seed,
            size: self.layout.size(),
            origin_bytes: bytes(SourceKind::Cdn),
            cache_bytes: bytes(SourceKind::CacheServer),
            devices: devices.collect(),
            sites,
            end: ended.since(Time::ZERO),
            bound: self.world.bound(),
            events: self.events,
            diary: self.diary.iter().map(|(_, line)| line.clone()).collect(),
        }
    }
}
