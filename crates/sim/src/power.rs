//! Devices come and go, the coordinator answers, and faults strike.

use std::time::Duration;

use peerage_content::PieceIndex;
use peerage_swarm::{Candidate, Event, SourceId, SourceKind};

use crate::conn::Socket;
use crate::run::{Run, What};
use crate::server::{Key, Word};
use crate::world::Begin;
use crate::{Fault, Health, Violation};

/// Time between two announces.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);
/// … when the last was not answered.
const ANNOUNCE_RETRY: Duration = Duration::from_secs(5);

impl Run {
    pub(crate) fn switch_on(&mut self, at: usize) -> Result<(), Violation> {
        let (now, layout, seed) = (self.now(), self.layout, self.rng.next_u64());
        if self.devices[at].on {
            return Ok(());
        }
        self.devices[at].switch_on(layout, seed, now);
        self.recount(at);
        let life = self.devices[at].life;
        self.announce(at, life);
        if self.devices[at].engine.is_none() {
            self.queue.push(now, What::Lie(at, life));
            return Ok(());
        }
        for (source, server) in (0..).map(SourceId).zip(self.servers_of(at).collect::<Vec<_>>()) {
            let kind = self.servers[server].kind;
            let known_rate = self.devices[at].setup.known_rate;
            self.tell(at, life, Event::HttpJoined { source, kind, known_rate })?;
        }
        self.settle(at)
    }

    /// A device goes, with or without a word.
    fn switch_off(&mut self, at: usize, with_a_word: bool) {
        let now = self.now();
        for socket in self.devices[at].sources.iter().collect::<Vec<_>>() {
            self.end_mut(socket).open = false;
            if with_a_word {
                self.hang_up(socket);
            } else {
                self.fall_silent(socket.other());
            }
        }
        let life = self.devices[at].life;
        for (fetch, gone) in std::mem::take(&mut self.devices[at].fetches) {
            self.say_now(gone.server, Word::Close(Key::new(at, life, fetch)));
        }
        self.devices[at].switch_off(now);
        self.registry.leave(at);
        self.recount(at);
    }

    /// Whoever waits for a device to be complete begins now.
    pub(crate) fn begin_next(&mut self, at: usize) {
        let next = self.devices.get(at + 1);
        if next.is_some_and(|next| next.setup.begin == Begin::AfterPrevious && next.began.is_none()) {
            self.queue.push(self.now(), What::SwitchOn(at + 1));
        }
    }

    // === The coordinator ===

    /// Sends an announce. Devices that begin at once do not reach the coordinator at once.
    pub(crate) fn announce(&mut self, at: usize, life: u32) {
        if self.devices[at].life != life || !self.devices[at].on {
            return;
        }
        // Whatever was planned, the next one follows from this.
        self.devices[at].announces += 1;
        let way = self.world.announce_time.as_micros() as u32 / 2;
        let jitter = Duration::from_micros(u64::from(self.rng.below(way / 4 + 1)));
        self.queue.push(self.after(self.world.announce_time / 2 + jitter), What::Announce(at, life));
    }

    pub(crate) fn announced(&mut self, at: usize, life: u32) -> Result<(), Violation> {
        if self.devices[at].life != life || !self.devices[at].on {
            return Ok(());
        }
        if !self.coordinator {
            self.queue.push(self.after(ANNOUNCE_RETRY), What::AnnounceAgain(at, self.devices[at].announces));
            return Ok(());
        }
        self.queue.push(self.after(ANNOUNCE_EVERY), What::AnnounceAgain(at, self.devices[at].announces));
        if self.devices[at].ordinal.is_none() {
            let circle = if self.world.far_kind.is_some() { 0 } else { self.devices[at].setup.site };
            self.devices[at].ordinal = Some(self.ordinals[circle]);
            self.ordinals[circle] += 1;
        }
        let (device, spread) = (&self.devices[at], self.rng.next_u64());
        let seed = device.disk.have().is_full() || device.setup.manner.claims_all();
        self.registry.enter(at, device.setup.site, device.setup.subnet, seed);
        let downloaders = self.registry.downloaders(at);
        let told = self.registry.answer(at, |other| self.devices[other].id, spread);
        let candidates = told.into_iter().map(|(other, seed)| {
            let (peer, kind) = (self.devices[other].id, self.kind(at, other));
            Candidate { peer, kind, seed, moved: false }
        });
        let candidates = candidates.collect();
        let event = Event::Discovered { candidates, ordinal: self.devices[at].ordinal, downloaders };
        self.queue.push(self.after(self.world.announce_time / 2), What::Tell(at, life, Box::new(event)));
        Ok(())
    }

    // === Faults ===

    pub(crate) fn fault(&mut self, number: usize) -> Result<(), Violation> {
        let Some((_, fault)) = self.world.faults.get(number).cloned() else { return Ok(()) };
        match fault {
            Fault::PowerCut(at) => self.switch_off(at, false),
            Fault::ShutDown(at) => self.switch_off(at, true),
            Fault::Return(at) => self.switch_on(at)?,
            Fault::Origin(health) => self.health(SourceKind::Cdn, health),
            Fault::Cache(health) => self.health(SourceKind::CacheServer, health),
            Fault::OriginMbit(rate) => {
                let origins = self.servers.iter_mut().filter(|server| server.kind == SourceKind::Cdn);
                origins.for_each(|origin| origin.uplink.link.rate = crate::link::mbit(rate));
            }
            Fault::Link(at, down, up) => {
                let device = &mut self.devices[at];
                (device.down.rate, device.up.link.rate) = (crate::link::mbit(down), crate::link::mbit(up));
                self.show_link(at);
            }
            Fault::Coordinator(up) => self.coordinator = up,
            Fault::Partition(at) => {
                self.heal();
                self.partition = Some(at);
                for conn in 0..self.conns.len() {
                    let ends = Socket::both(conn);
                    let [a, b] = ends.map(|socket| self.end(socket).device());
                    if self.is_cut(a, b) {
                        ends.into_iter().for_each(|socket| self.fall_silent(socket));
                    }
                }
            }
            Fault::Heal => self.heal(),
            Fault::Pause(at, paused) => {
                // Whoever is off when it is told to pause comes back without a pause.
                self.devices[at].paused = paused && self.devices[at].on;
                let life = self.devices[at].life;
                return self.tell(at, life, Event::Pause(paused));
            }
            Fault::Limits(at, limits) => {
                self.devices[at].setup.limits = limits;
                let life = self.devices[at].life;
                return self.tell(at, life, Event::Limits(limits));
            }
            Fault::Damage(at, piece) => {
                let (piece, life) = (PieceIndex(piece), self.devices[at].life);
                if self.devices[at].disk.lose(piece) {
                    self.recount(at);
                    return self.tell(at, life, Event::Lost { piece });
                }
            }
        }
        Ok(())
    }

    /// What waited for the way to be free arrives.
    fn heal(&mut self) {
        self.partition = None;
        let now = self.now();
        std::mem::take(&mut self.held).into_iter().for_each(|what| self.queue.push(now, what));
    }

    fn health(&mut self, kind: SourceKind, health: Health) {
        let servers = (0..self.servers.len()).filter(|server| self.servers[*server].kind == kind);
        servers.collect::<Vec<_>>().into_iter().for_each(|server| self.server_health(server, health));
    }

    fn server_health(&mut self, server: usize, health: Health) {
        self.servers[server].health = health;
        if self.outside.is_some() {
            return;
        }
        self.servers[server].uplink.stopped = health == Health::Silent;
        let Some((span, error)) = health.breaks_off() else { return self.serve(server) };
        for key in self.servers[server].uplink.close_all() {
            self.queue.push(self.after(span), What::Failed(key, error));
        }
    }
}
