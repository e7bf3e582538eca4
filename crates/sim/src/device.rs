//! One device: its links, its store, its engine, and what the driver remembers for it.

use std::collections::{BTreeMap, BTreeSet};

use peerage_content::{Bitmap, Layout, PeerId};
use peerage_swarm::{Bans, ByKind, FetchId, Rng, SourceId, Start, Stats, Time, Transfer};

use crate::conn::Socket;
use crate::disk::Disk;
use crate::link::Link;
use crate::sources::Sources;
use crate::uplink::Uplink;
use crate::world::DeviceSetup;

/// An HTTP range under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetch {
    pub(crate) server: usize,
    pub(crate) source: SourceId,
    /// Where the next byte belongs.
    pub(crate) at: u64,
    pub(crate) end: u64,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) setup: DeviceSetup,
    pub(crate) id: PeerId,
    /// A flow is an end of a connection.
    pub(crate) up: Uplink<Socket>,
    pub(crate) down: Link,
    pub(crate) disk: Disk,
    pub(crate) bans: Bans,
    /// Runs while the device is on, unless it is a liar without one.
    pub(crate) engine: Option<Transfer>,
    pub(crate) on: bool,
    /// Counts how often it was switched on; what was meant for an earlier life is lost.
    pub(crate) life: u32,
    pub(crate) sources: Sources,
    pub(crate) fetches: BTreeMap<FetchId, Fetch>,
    pub(crate) wake_at: Option<Time>,
    pub(crate) began: Option<Time>,
    pub(crate) took: Option<Time>,
    pub(crate) ordinal: Option<u32>,
    /// Announces sent.
    pub(crate) announces: u64,
    pub(crate) paused: bool,
    /// Bytes of pieces that this life's engine was told of.
    pub(crate) stored: u64,
    pub(crate) duplicate: u64,
    pub(crate) corrupt: u64,
    /// Bytes that arrived for requests taken back.
    pub(crate) skipped: u64,
    /// Alarms at one moment.
    pub(crate) alarms: (Time, u32),
    /// Bytes that a staller has sent.
    pub(crate) uploaded: u64,
    pub(crate) banned_by: BTreeSet<usize>,
    /// It is among those that the run waits for.
    pub(crate) counted: bool,
    past: Stats,
}

impl Device {
    pub(crate) fn new(setup: DeviceSetup, layout: Layout, quantum: u64, rng: &mut Rng) -> Self {
        let mut have = Bitmap::for_layout(layout);
        for piece in layout.indexes() {
            if rng.below(100) < setup.has_percent {
                have.insert(piece);
            }
        }
        let mut id = [0; 32];
        id.chunks_mut(8)
            .for_each(|chunk| chunk.copy_from_slice(&rng.next_u64().to_be_bytes()[..chunk.len()]));
        Self {
            id: PeerId::from_bytes(id),
            up: Uplink::new(setup.up, quantum),
            down: Link::new(setup.down),
            disk: Disk::new(layout, have),
            setup,
            bans: Bans::default(),
            engine: None,
            on: false,
            life: 0,
            sources: Sources::default(),
            fetches: BTreeMap::new(),
            wake_at: None,
            began: None,
            took: None,
            ordinal: None,
            announces: 0,
            paused: false,
            stored: 0,
            duplicate: 0,
            corrupt: 0,
            skipped: 0,
            alarms: (Time::ZERO, 0),
            uploaded: 0,
            banned_by: BTreeSet::new(),
            counted: false,
            past: Stats::default(),
        }
    }

    /// Switches it on, with what it has stored.
    pub(crate) fn switch_on(&mut self, layout: Layout, seed: u64, now: Time) {
        self.on = true;
        self.life += 1;
        self.began.get_or_insert(now);
        if self.setup.manner.runs_engine() {
            self.engine = Some(Transfer::new(Start {
                me: self.id,
                layout,
                have: self.disk.have().clone(),
                partial: self.disk.partial(),
                limits: self.setup.limits,
                seed,
            }));
        }
    }

    /// Switches it off; only what is stored survives.
    pub(crate) fn switch_off(&mut self, now: Time) {
        self.past = self.stats(now);
        (self.engine, self.on, self.wake_at, self.paused) = (None, false, None, false);
        (self.stored, self.duplicate, self.corrupt) = (0, 0, 0);
        self.sources.clear();
        self.fetches.clear();
        self.up.close_all();
    }

    /// Whether its download is still to come to an end.
    pub(crate) fn is_busy(&self) -> bool {
        self.on && self.setup.manner.is_honest() && !self.disk.have().is_full()
    }

    /// The figures over all its lives.
    pub(crate) fn stats(&self, now: Time) -> Stats {
        let mut sum = self.past;
        if let Some(engine) = &self.engine {
            let stats = engine.stats(now);
            add(&mut sum.received, &stats.received);
            add(&mut sum.sent, &stats.sent);
            sum.wasted += stats.wasted;
        }
        sum
    }

    /// Whether the engine's figures agree with what this life was told.
    pub(crate) fn accounts(&self, now: Time) -> Result<(), String> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let stats = engine.stats(now);
        let received = stats.received.total();
        if received + self.duplicate != self.stored {
            return Err(format!(
                "counts {received} bytes received of {} stored, {} twice",
                self.stored, self.duplicate
            ));
        }
        if stats.wasted != self.duplicate + self.corrupt {
            let (twice, wrong) = (self.duplicate, self.corrupt);
            return Err(format!("counts {} bytes wasted of {twice} twice and {wrong} wrong", stats.wasted));
        }
        Ok(())
    }
}

fn add(sum: &mut ByKind, more: &ByKind) {
    sum.link_local += more.link_local;
    sum.lan += more.lan;
    sum.group += more.group;
    sum.internet += more.internet;
    sum.cache_server += more.cache_server;
    sum.cdn += more.cdn;
}
