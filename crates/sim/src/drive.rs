//! The driver's part: does what the engine says, and checks that it may say so.

use peerage_content::{BlockSet, PieceIndex};
use peerage_swarm::{Action, Event, FetchId, SourceId, SourceKind};
use peerage_wire::Message;

use crate::conn::Socket;
use crate::device::Fetch;
use crate::run::{Run, What};
use crate::server::{Key, Word};
use crate::uplink::{Job, window};
use crate::{Health, Manner, Violation};

/// An engine that does more than this about one event goes round in circles.
const MAX_ACTIONS: usize = 100_000;

impl Run {
    /// Does all that the engine of device `at` wants done, and sets its alarm.
    pub(crate) fn settle(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.now();
        for _ in 0..MAX_ACTIONS {
            let Some(engine) = &mut self.devices[at].engine else { return Ok(()) };
            let Some(action) = engine.poll_action(now) else {
                let due = engine.poll_timeout().map(|due| due.max(now));
                if let Some(due) = due.filter(|due| self.devices[at].wake_at != Some(*due)) {
                    self.devices[at].wake_at = Some(due);
                    self.queue.push(due, What::Wake(at));
                }
                return Ok(());
            };
            self.note(at, || format!("-> {action:?}"));
            self.perform(at, action)?;
        }
        Err(self.violation(at, "does not stop acting"))
    }

    fn perform(&mut self, at: usize, action: Action) -> Result<(), Violation> {
        let life = self.devices[at].life;
        match action {
            Action::Dial { peer } => self.dial(at, peer),
            Action::Send { source, message } => self.send_checked(at, source, message),
            Action::Upload { source, piece, offset, len } => self.upload(at, source, piece, offset, len),
            Action::Fetch { source, fetch, start, end } => self.fetch(at, source, fetch, start, end),
            Action::CancelFetch { fetch } => self.cancel_fetch(at, fetch),
            Action::Disconnect { source, .. } => {
                let socket = self.open_end(at, source)?;
                self.end_mut(socket).leaving = true;
                self.hang_up(socket);
                Ok(())
            }
            Action::Charge { peer, offence } => {
                let now = self.now();
                if self.devices[at].bans.charge(peer, offence, now) {
                    if let Some(other) = self.by_id.get(&peer) {
                        self.devices[*other].banned_by.insert(at);
                    }
                    self.queue.push(now, What::Tell(at, life, Box::new(Event::Banned { peer })));
                }
                Ok(())
            }
            Action::HttpCorrupt { source, .. } => {
                let server = self.servers_of(at).nth(source.0 as usize);
                match server.is_some_and(|server| self.servers[server].health == Health::Wrong) {
                    true => Ok(()),
                    false => Err(self.violation(at, "blames an HTTP source that does not lie")),
                }
            }
            Action::NeedPeers => {
                self.announce(at, life);
                Ok(())
            }
            Action::Complete => self.complete(at),
        }
    }

    fn complete(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.now();
        let device = &mut self.devices[at];
        if !device.disk.have().is_full() {
            return Err(self.violation(at, "says that it is complete, and is not"));
        }
        self.complete += usize::from(device.took.is_none());
        device.took.get_or_insert(now);
        self.begin_next(at);
        let setup = &self.devices[at].setup;
        if self.coordinator && self.devices[at].ordinal.is_some() {
            self.registry.enter(at, setup.site, setup.subnet, true);
        }
        if let Err(what) = self.devices[at].accounts(now) {
            return Err(self.violation(at, what));
        }
        Ok(())
    }

    /// The connection that device `at` calls `source`, if it may still be used.
    fn open_end(&self, at: usize, source: SourceId) -> Result<Socket, Violation> {
        let found = self.devices[at].sources.get(source);
        match found.filter(|socket| !self.end(*socket).leaving) {
            Some(found) => Ok(found),
            None => Err(self.violation(at, format!("uses {source:?}, which has left"))),
        }
    }

    fn send_checked(&mut self, at: usize, source: SourceId, message: Message) -> Result<(), Violation> {
        let socket = self.open_end(at, source)?;
        let (layout, device) = (self.layout, &self.devices[at]);
        let known = self.conns[socket.conn()].end_mut(socket);
        let checked = known.sends(&message, layout, device.disk.have(), |piece| device.disk.blocks(piece));
        checked.map_err(|what| self.violation(at, what))?;
        if device.paused && matches!(message, Message::Request { .. }) {
            return Err(self.violation(at, "asks although it is paused"));
        }
        self.send(socket, message);
        Ok(())
    }

    fn upload(
        &mut self,
        at: usize,
        source: SourceId,
        piece: PieceIndex,
        offset: u32,
        len: u32,
    ) -> Result<(), Violation> {
        let socket = self.open_end(at, source)?;
        let device = &mut self.devices[at];
        if !device.disk.have().contains(piece) {
            return Err(self.violation(at, format!("uploads piece {piece} without having verified it")));
        }
        device.uploaded += u64::from(len);
        if matches!(device.setup.manner, Manner::Stalls(after) if device.uploaded > after) {
            return Ok(());
        }
        let wrong = device.setup.manner == Manner::Corrupts;
        let start = self.layout.offset(piece) + u64::from(offset);
        let job = Job { at: start, end: start + u64::from(len), wrong };
        let to = self.end(socket.other()).device();
        let window = window(self.way_rate(at, to), self.conns[socket.conn()].latency);
        self.devices[at].up.push(socket, job, window);
        self.send_on(at);
        Ok(())
    }

    // === HTTP ===

    fn fetch(
        &mut self,
        at: usize,
        source: SourceId,
        fetch: FetchId,
        start: u64,
        end: u64,
    ) -> Result<(), Violation> {
        let device = &self.devices[at];
        let server = self.servers_of(at).nth(source.0 as usize);
        let Some(server) = server.filter(|_| start < end && end <= self.layout.size()) else {
            return Err(self.violation(at, format!("fetches [{start}, {end}) from {source:?}")));
        };
        if device.paused {
            return Err(self.violation(at, "fetches although it is paused"));
        }
        let mut from = start;
        while from < end {
            let (piece, offset) = self.place(from);
            let len = u64::from(self.layout.piece_len(piece) - offset).min(end - from) as u32;
            let blocks = BlockSet::covered(offset, len, self.layout.piece_len(piece));
            if blocks.minus(device.disk.blocks(piece)) != blocks {
                return Err(self.violation(at, format!("fetches a part of piece {piece} that it has")));
            }
            from += u64::from(len);
        }
        let twice = device
            .fetches
            .values()
            .any(|other| other.server == server && other.at < end && start < other.end);
        if twice {
            return Err(self.violation(at, format!("fetches a part of [{start}, {end}) twice")));
        }
        let key = Key::new(at, device.life, fetch);
        self.devices[at].fetches.insert(fetch, Fetch { server, source, at: start, end });
        self.say(server, Word::Ask { key, start, end });
        Ok(())
    }

    fn cancel_fetch(&mut self, at: usize, fetch: FetchId) -> Result<(), Violation> {
        let device = &mut self.devices[at];
        let Some(gone) = device.fetches.remove(&fetch) else {
            return Err(self.violation(at, format!("cancels {fetch:?}, which is not under way")));
        };
        let key = Key::new(at, device.life, fetch);
        self.say(gone.server, Word::Close(key));
        Ok(())
    }

    /// Piece and offset in it of byte `at` of the content.
    pub(crate) fn place(&self, at: u64) -> (PieceIndex, u32) {
        let size = u64::from(peerage_content::PIECE_SIZE);
        (PieceIndex((at / size) as u32), (at % size) as u32)
    }

    // === Bytes arrive ===

    /// Bytes go to the store of device `at`, and the engine is told.
    pub(crate) fn store(
        &mut self,
        at: usize,
        source: SourceId,
        piece: PieceIndex,
        offset: u32,
        len: u32,
        wrong: bool,
    ) -> Result<(), Violation> {
        let device = &mut self.devices[at];
        let outcome = device.disk.store(piece, offset, len, wrong);
        device.stored += u64::from(len);
        match outcome {
            peerage_swarm::Outcome::Duplicate => device.duplicate += u64::from(len),
            peerage_swarm::Outcome::Corrupt => device.corrupt += u64::from(self.layout.piece_len(piece)),
            _ => {}
        }
        let life = device.life;
        self.recount(at);
        self.tell(at, life, Event::Stored { source, piece, offset, len, outcome })
    }

    /// What device `other` is as a source of device `at`.
    pub(crate) fn kind(&self, at: usize, other: usize) -> SourceKind {
        let same = self.devices[at].setup.site == self.devices[other].setup.site;
        if same { SourceKind::Lan } else { self.world.far_kind.unwrap_or(SourceKind::Group) }
    }
}
