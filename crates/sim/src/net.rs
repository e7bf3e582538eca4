//! What happens on the way: connections between devices, and answers of HTTP sources.

use std::time::Duration;

use peerage_content::{Bitmap, PeerId};
use peerage_swarm::{Event, FetchError, SourceKind, Time};
use peerage_wire::{IDLE_TIMEOUT, Message};

use crate::conn::{Conn, End, Verdict};
use crate::run::{Run, What};
use crate::server::Key;
use crate::uplink::{Bytes, Job, window};
use crate::way::Load;
use crate::{Health, Violation};

/// TCP, TLS 1.3 and both hellos, in one-way latencies.
const HANDSHAKE: u32 = 6;
/// A dial that nobody answers.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

impl Run {
    // === Connections ===

    fn latency(&self, a: usize, b: usize) -> Duration {
        let same = self.devices[a].setup.site == self.devices[b].setup.site;
        if same { self.world.latency } else { self.world.far_latency }
    }

    pub(crate) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.partition.is_some_and(|at| (a <= at) != (b <= at))
    }

    pub(crate) fn dial(&mut self, at: usize, peer: PeerId) -> Result<(), Violation> {
        let Some(other) = self.by_id.get(&peer).copied().filter(|other| *other != at) else {
            return Err(self.violation(at, "dials itself or nobody"));
        };
        let latency = self.latency(at, other);
        let reachable = self.devices[other].on && !self.is_cut(at, other);
        let end = |run: &Self, device: usize| {
            End::new(device, run.devices[device].life, Bitmap::for_layout(run.layout))
        };
        let conn = Conn { ends: [end(self, at), end(self, other)], latency };
        self.conns.push(conn);
        let wait = if reachable { latency * HANDSHAKE } else { DIAL_TIMEOUT };
        self.queue.push(self.now() + wait, What::Dialled(self.conns.len() - 1));
        Ok(())
    }

    pub(crate) fn dialled(&mut self, conn: usize) -> Result<(), Violation> {
        let [(a, life), (b, other_life)] = [0, 1].map(|end| {
            let end = &self.conns[conn].ends[end];
            (end.device, end.life)
        });
        if self.devices[a].life != life || !self.devices[a].on {
            return Ok(());
        }
        if self.connection(a, b).is_some() {
            // The other side was faster; its connection has told the engine.
            return Ok(());
        }
        if let Some((old, end)) = self.connection(b, a) {
            // What is left of the dialler's earlier life.
            self.left(old, end)?;
        }
        let now = self.now();
        let room = |at: usize| {
            let device = &self.devices[at];
            device.on && device.sources.len() < device.setup.limits.max_peers
        };
        let banned = |at: usize, by: usize| self.devices[by].bans.is_banned(&self.devices[at].id, now);
        if !room(a)
            || !room(b)
            || self.is_cut(a, b)
            || banned(a, b)
            || banned(b, a)
            || self.devices[b].life != other_life
        {
            let peer = self.devices[b].id;
            return self.tell(a, life, Event::DialFailed { peer });
        }
        for (end, (own, other)) in [(a, b), (b, a)].into_iter().enumerate() {
            let (source, knows) = (self.new_source(own), self.claimed(other));
            self.devices[own].sources.insert(source, (conn, end));
            let end = &mut self.conns[conn].ends[end];
            (end.source, end.open, end.knows, end.last_arrival) = (source, true, knows, now);
        }
        for (end, (own, other)) in [(a, b), (b, a)].into_iter().enumerate() {
            let (life, peer, kind) = (self.devices[own].life, self.devices[other].id, self.kind(own, other));
            let end = &self.conns[conn].ends[end];
            let (source, have) = (end.source, end.knows.clone());
            self.tell(own, life, Event::PeerJoined { source, peer, kind, have })?;
        }
        self.lie_joined(conn);
        Ok(())
    }

    /// The bitmap in a device's hello.
    fn claimed(&self, at: usize) -> Bitmap {
        let device = &self.devices[at];
        if device.setup.manner.claims_all() {
            Bitmap::full(self.layout.pieces())
        } else {
            device.disk.have().clone()
        }
    }

    /// The connection of `at` with `other`, and which end of it `at` is.
    fn connection(&self, at: usize, other: usize) -> Option<(usize, usize)> {
        let ends = self.devices[at].sources.values().copied();
        ends.into_iter().find(|(conn, end)| self.conns[*conn].ends[1 - *end].device == other)
    }

    /// Sends a message from `end`.
    pub(crate) fn send(&mut self, conn: usize, end: usize, message: Message) {
        self.send_load(conn, end, Load::Message(conn, 1 - end, Box::new(message)));
    }

    fn send_load(&mut self, conn: usize, end: usize, load: Load) {
        let [own, to] = [end, 1 - end].map(|end| self.conns[conn].ends[end].device);
        let (now, from, latency) = (self.now(), self.devices[own].setup.site, self.conns[conn].latency);
        self.depart(load, Some(from), to, (now, now), latency);
    }

    /// Puts the next bytes on the uplink of device `at`, if it is free and bytes wait.
    pub(crate) fn send_on(&mut self, at: usize) {
        let now = self.now();
        let Some(quantum) = self.devices[at].up.send_next(now) else { return };
        let (first, last) = quantum.leaves;
        self.queue.push(last, What::Free(at));
        let (conn, end) = quantum.flow;
        let (latency, ends) = (self.conns[conn].latency, &self.conns[conn].ends);
        let (life, source, to) = (ends[end].life, ends[end].source, ends[1 - end].device);
        self.left += u64::from(quantum.bytes.len);
        let from = Some(self.devices[at].setup.site);
        let load = Load::Data(conn, 1 - end, quantum.bytes);
        let congested = self.depart(load, from, to, (first, last), latency);
        self.devices[at].up.went((conn, end), congested);
        if let Some(len) = quantum.ends {
            self.queue.push(last, What::Sent { at, life, source, len });
        }
    }

    /// The narrowest rate on the way into device `to` from outside its site …
    fn way_rate_in(&self, to: usize) -> u64 {
        let device = &self.devices[to];
        device.down.rate.min(self.wans[device.setup.site].down.rate)
    }

    /// … and on the way behind the uplink of device `at`.
    pub(crate) fn way_rate(&self, at: usize, to: usize) -> u64 {
        let (from, site) = (self.devices[at].setup.site, self.devices[to].setup.site);
        if from == site {
            self.devices[to].down.rate
        } else {
            self.way_rate_in(to).min(self.wans[from].up.rate)
        }
    }

    /// Whether what is sent to `to` still gets there.
    fn arrives(&self, conn: usize, to: usize) -> bool {
        let end = &self.conns[conn].ends[to];
        end.open && !end.leaving
    }

    /// Keeps `what` back if the way between the ends of a connection is cut.
    fn hold(&mut self, conn: usize, what: impl FnOnce() -> What) -> bool {
        let [a, b] = [0, 1].map(|end| self.conns[conn].ends[end].device);
        let cut = self.is_cut(a, b);
        if cut {
            self.held.push(what());
        }
        cut
    }

    pub(crate) fn message(&mut self, conn: usize, to: usize, message: Box<Message>) -> Result<(), Violation> {
        if self.hold(conn, || What::Message(conn, to, message.clone())) || !self.arrives(conn, to) {
            return Ok(());
        }
        let end = &mut self.conns[conn].ends[to];
        end.hears(&message);
        let (at, life, source) = (end.device, end.life, end.source);
        self.lie_heard(conn, to, &message);
        self.tell(at, life, Event::Message { source, message: *message })
    }

    pub(crate) fn data(&mut self, conn: usize, to: usize, bytes: Bytes) -> Result<(), Violation> {
        if self.hold(conn, || What::Data(conn, to, bytes)) {
            return Ok(());
        }
        let Bytes { at, len, until, wrong } = bytes;
        self.landed += u64::from(len);
        let from = self.conns[conn].ends[1 - to].device;
        self.devices[from].up.landed((conn, 1 - to), len);
        self.send_on(from);
        if !self.arrives(conn, to) {
            return Ok(());
        }
        let (piece, offset) = self.place(at);
        let end = &mut self.conns[conn].ends[to];
        let (device, source) = (end.device, end.source);
        if !self.devices[device].setup.manner.runs_engine() {
            return Ok(());
        }
        match end.receives(piece, offset, len, offset + (until - at) as u32) {
            Verdict::Take => self.store(device, source, piece, offset, len, wrong),
            Verdict::Skip => {
                self.devices[device].skipped += u64::from(len);
                Ok(())
            }
            Verdict::Refuse => {
                Err(self.violation(from, format!("sends bytes of piece {piece} that nobody asked for")))
            }
        }
    }

    /// The device at `end` closes: it learns that it has ended at once, the other side after all that was sent before.
    pub(crate) fn hang_up(&mut self, conn: usize, end: usize) {
        let now = self.now();
        self.queue.push(now, What::Left(conn, end));
        self.send_load(conn, end, Load::Left(conn, 1 - end));
    }

    /// The device at `end` learns nothing more from the other, and notices that in the end.
    pub(crate) fn fall_silent(&mut self, conn: usize, end: usize) {
        self.queue.push(self.now() + IDLE_TIMEOUT, What::Left(conn, end));
    }

    pub(crate) fn left(&mut self, conn: usize, end: usize) -> Result<(), Violation> {
        let known = &mut self.conns[conn].ends[end];
        if !std::mem::replace(&mut known.open, false) {
            return Ok(());
        }
        let (at, life, source) = (known.device, known.life, known.source);
        if self.devices[at].life != life {
            return Ok(());
        }
        let device = &mut self.devices[at];
        device.sources.remove(&source);
        device.up.close((conn, end));
        self.tell(at, life, Event::PeerLeft { source })
    }

    // === HTTP sources ===

    pub(crate) fn asked(&mut self, server: usize, key: Key, start: u64, end: u64) {
        let wrong = self.servers[server].health == Health::Wrong;
        let error = match self.servers[server].health {
            Health::Fine | Health::Silent | Health::Wrong => {
                let window = window(self.way_rate_in(key.device()), self.servers[server].latency);
                self.servers[server].uplink.push(key, Job { at: start, end, wrong }, window);
                self.serve(server);
                return;
            }
            Health::Busy(wish) => FetchError::Retry(wish),
            Health::Gone => FetchError::Unusable,
        };
        let back = self.now() + self.servers[server].latency;
        self.queue.push(back, What::Failed(key, error));
    }

    pub(crate) fn serve(&mut self, server: usize) {
        let now = self.now();
        let Some(quantum) = self.servers[server].uplink.send_next(now) else { return };
        let latency = self.servers[server].latency;
        let (first, last) = quantum.leaves;
        self.queue.push(last, What::Served(server));
        let (key, bytes) = (quantum.flow, quantum.bytes);
        self.left += u64::from(bytes.len);
        // A cache stands in the site, wherever that is.
        let near = self.servers[server].kind == SourceKind::CacheServer;
        let from = near.then(|| self.devices[key.device()].setup.site);
        let load = Load::Http(server as u8, key, bytes);
        let congested = self.depart(load, from, key.device(), (first, last), latency);
        self.servers[server].uplink.went(key, congested);
    }

    pub(crate) fn bytes(&mut self, server: usize, key: Key, bytes: Bytes) -> Result<(), Violation> {
        let Bytes { at, len, wrong, .. } = bytes;
        self.landed += u64::from(len);
        self.servers[server].uplink.landed(key, len);
        self.serve(server);
        let device = &mut self.devices[key.device()];
        let Some(fetch) = device.fetches.get_mut(&key.fetch).filter(|_| device.life == key.life) else {
            return Ok(());
        };
        fetch.at += u64::from(len);
        let (source, done) = (fetch.source, fetch.at == fetch.end);
        if done {
            device.fetches.remove(&key.fetch);
        }
        let (piece, offset) = self.place(at);
        self.store(key.device(), source, piece, offset, len, wrong)?;
        if done {
            self.tell(key.device(), key.life, Event::FetchDone { fetch: key.fetch })?;
        }
        Ok(())
    }

    pub(crate) fn failed(&mut self, key: Key, error: FetchError) -> Result<(), Violation> {
        let device = &mut self.devices[key.device()];
        if device.life != key.life || device.fetches.remove(&key.fetch).is_none() {
            return Ok(());
        }
        self.tell(key.device(), key.life, Event::FetchFailed { fetch: key.fetch, error })
    }

    /// When somebody who asks now would have an answer.
    pub(crate) fn after(&self, span: Duration) -> Time {
        self.now() + span
    }
}
