//! What happens on the way: connections between devices, and answers of HTTP sources.

use std::time::Duration;

use peerage_content::{Bitmap, PeerId};
use peerage_swarm::{Event, FetchError, SourceKind, Time};
use peerage_wire::{IDLE_TIMEOUT, Message};

use crate::conn::{Conn, End, Socket, Verdict};
use crate::run::{Run, What};
use crate::server::{Key, Word};
use crate::uplink::{Bytes, Job, window};
use crate::way::Load;
use crate::{Health, Violation};

/// TCP, TLS 1.3 and both hellos, in one-way latencies.
const HANDSHAKE: u32 = 6;
/// A dial that nobody answers.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

impl Run {
    // === Connections ===

    pub(crate) fn end(&self, socket: Socket) -> &End {
        self.conns[socket.conn()].end(socket)
    }

    pub(crate) fn end_mut(&mut self, socket: Socket) -> &mut End {
        self.conns[socket.conn()].end_mut(socket)
    }

    pub(crate) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.partition.is_some_and(|at| (a <= at) != (b <= at))
    }

    pub(crate) fn dial(&mut self, at: usize, peer: PeerId) -> Result<(), Violation> {
        let Some(other) = self.by_id.get(&peer).copied().filter(|other| *other != at) else {
            return Err(self.violation(at, "dials itself or nobody"));
        };
        let near = self.devices[at].setup.site == self.devices[other].setup.site;
        let latency = if near { self.world.latency } else { self.world.far_latency };
        let reachable = self.devices[other].on && !self.is_cut(at, other);
        let end = |run: &Self, device: usize| {
            End::new(device, run.devices[device].life, Bitmap::for_layout(run.layout))
        };
        let conn = Conn::new([end(self, at), end(self, other)], latency, near);
        self.conns.push(conn);
        let wait = if reachable { latency * HANDSHAKE } else { DIAL_TIMEOUT };
        self.queue.push(self.now() + wait, What::Dialled(self.conns.len() - 1));
        Ok(())
    }

    pub(crate) fn dialled(&mut self, conn: usize) -> Result<(), Violation> {
        let sockets = Socket::both(conn);
        let [(a, life), (b, other_life)] = sockets.map(|socket| {
            let end = self.end(socket);
            (end.device(), end.life)
        });
        if self.devices[a].life != life || !self.devices[a].on {
            return Ok(());
        }
        if self.connection(a, b).is_some() {
            // The other side was faster; its connection has told the engine.
            return Ok(());
        }
        if let Some(old) = self.connection(b, a) {
            // What is left of the dialler's earlier life.
            self.left(old)?;
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
        for (socket, (own, other)) in sockets.into_iter().zip([(a, b), (b, a)]) {
            let (source, knows) = (self.devices[own].sources.insert(socket), self.claimed(other));
            self.end_mut(socket).open(source, knows, now);
        }
        for (socket, (own, other)) in sockets.into_iter().zip([(a, b), (b, a)]) {
            let (life, peer, kind) = (self.devices[own].life, self.devices[other].id, self.kind(own, other));
            let end = self.end(socket);
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

    /// The end that `at` has of its connection with `other`.
    fn connection(&self, at: usize, other: usize) -> Option<Socket> {
        self.devices[at].sources.iter().find(|socket| self.end(socket.other()).device() == other)
    }

    /// Sends a message from the end `socket`.
    pub(crate) fn send(&mut self, socket: Socket, message: Message) {
        self.send_load(socket, Load::Message(socket.other(), message));
    }

    /// Sends what takes no time on a link.
    fn send_load(&mut self, socket: Socket, load: Load) {
        let (now, conn) = (self.now(), &self.conns[socket.conn()]);
        let latency = conn.latency;
        let [own, to] = [socket, socket.other()].map(|socket| conn.end(socket).device());
        if conn.near {
            self.enter(load, to, (now + latency, now + latency));
        } else {
            self.depart(load, Some(self.devices[own].setup.site), to, (now, now), latency);
        }
    }

    /// Puts the next bytes on the uplink of device `at`, if it is free and bytes wait.
    pub(crate) fn send_on(&mut self, at: usize) {
        let now = self.now();
        let Some(quantum) = self.devices[at].up.send_next(now) else { return };
        let (first, last) = quantum.leaves;
        self.queue.push(last, What::Free(at));
        let (socket, conn) = (quantum.flow, &self.conns[quantum.flow.conn()]);
        let (latency, end, to) = (conn.latency, conn.end(socket), conn.end(socket.other()).device());
        let (life, source) = (end.life, end.source);
        self.left += u64::from(quantum.bytes.len);
        let from = Some(self.devices[at].setup.site);
        let load = Load::Data(socket.other(), quantum.bytes);
        let congested = self.depart(load, from, to, (first, last), latency);
        self.devices[at].up.went(socket, congested);
        if let Some(len) = quantum.ends {
            self.queue.push(last, What::Sent { at: at as u32, life, source, len });
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

    /// Whether what is sent to an end still gets there.
    fn arrives(&self, socket: Socket) -> bool {
        let end = self.end(socket);
        end.open && !end.leaving
    }

    /// Whether the way between the ends of a connection is cut: what comes along it is kept back.
    fn is_held(&self, socket: Socket) -> bool {
        let device = |socket| self.end(socket).device();
        self.partition.is_some() && self.is_cut(device(socket), device(socket.other()))
    }

    pub(crate) fn message(&mut self, to: Socket, message: Message) -> Result<(), Violation> {
        if self.is_held(to) {
            self.held.push(What::Message(to, message));
            return Ok(());
        }
        if !self.arrives(to) {
            return Ok(());
        }
        let end = self.end_mut(to);
        end.hears(&message);
        let (at, life, source) = (end.device(), end.life, end.source);
        if self.lies {
            self.lie_heard(to, &message);
        }
        self.tell(at, life, Event::Message { source, message })
    }

    pub(crate) fn data(&mut self, to: Socket, bytes: Bytes) -> Result<(), Violation> {
        if self.is_held(to) {
            self.held.push(What::Data(to, bytes));
            return Ok(());
        }
        let Bytes { at, len, until, wrong } = bytes;
        self.landed += u64::from(len);
        let from = self.end(to.other()).device();
        self.devices[from].up.landed(to.other(), len);
        self.send_on(from);
        if !self.arrives(to) {
            return Ok(());
        }
        let (piece, offset) = self.place(at);
        let end = self.conns[to.conn()].end_mut(to);
        let (device, source) = (end.device(), end.source);
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

    /// The device at an end closes: it learns that it has ended at once, the other side after all that was sent before.
    pub(crate) fn hang_up(&mut self, socket: Socket) {
        let now = self.now();
        self.queue.push(now, What::Left(socket));
        self.send_load(socket, Load::Left(socket.other()));
    }

    /// The device at an end learns nothing more from the other, and notices that in the end.
    pub(crate) fn fall_silent(&mut self, socket: Socket) {
        self.queue.push(self.now() + IDLE_TIMEOUT, What::Left(socket));
    }

    pub(crate) fn left(&mut self, socket: Socket) -> Result<(), Violation> {
        let known = self.end_mut(socket);
        if !std::mem::replace(&mut known.open, false) {
            return Ok(());
        }
        let (at, life, source) = (known.device(), known.life, known.source);
        if self.devices[at].life != life {
            return Ok(());
        }
        let device = &mut self.devices[at];
        device.sources.remove(source);
        device.up.close(socket);
        self.tell(at, life, Event::PeerLeft { source })
    }

    // === HTTP sources ===

    /// The HTTP sources of device `at`, by its names for them: the origin, its own site's if every site has one, then the
    /// cache.
    pub(crate) fn servers_of(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        let origins = self.servers.iter().filter(|server| server.kind == SourceKind::Cdn).count();
        let own = if origins > 1 { self.devices[at].setup.site } else { 0 };
        let cache = (origins < self.servers.len()).then_some(origins);
        (origins > 0).then_some(own).into_iter().chain(cache)
    }

    /// Says something to an HTTP source.
    pub(crate) fn say(&mut self, server: usize, word: Word) {
        let there = self.now() + self.servers[server].latency;
        match &mut self.outside {
            Some(outside) => outside.say(there, word),
            None => self.queue.push(there, What::Word(server as u32, word)),
        }
    }

    /// The same without the time on the way.
    pub(crate) fn say_now(&mut self, server: usize, word: Word) {
        let now = self.now();
        match &mut self.outside {
            Some(outside) => outside.say(now, word),
            None => self.hear(server, word),
        }
    }

    /// An HTTP source hears a word.
    pub(crate) fn hear(&mut self, server: usize, word: Word) {
        match word {
            Word::Ask { key, start, end } => self.asked(server, key, start, end),
            Word::Close(key) => self.servers[server].uplink.close(key),
            Word::Landed(key, len) => {
                self.servers[server].uplink.landed(key, len);
                self.serve(server);
            }
        }
    }

    fn asked(&mut self, server: usize, key: Key, start: u64, end: u64) {
        let (health, latency) = (self.servers[server].health, self.servers[server].latency);
        if let Some(error) = health.refuses() {
            self.queue.push(self.now() + latency, What::Failed(key, error));
            return;
        }
        let window = window(self.way_rate_in(key.device()), latency);
        let job = Job { at: start, end, wrong: health == Health::Wrong };
        self.servers[server].uplink.push(key, job, window);
        self.serve(server);
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
        let load = Load::Http(server as u32, key, bytes);
        let congested = self.depart(load, from, key.device(), (first, last), latency);
        self.servers[server].uplink.went(key, congested);
    }

    pub(crate) fn bytes(&mut self, server: usize, key: Key, bytes: Bytes) -> Result<(), Violation> {
        let Bytes { at, len, wrong, .. } = bytes;
        self.landed += u64::from(len);
        self.say_now(server, Word::Landed(key, len));
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
