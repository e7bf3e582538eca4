//! Drives the low-priority governors of `peerage-swarm::ledbat`: reads `TCP_INFO` of every upload and every background
//! download, and sets what each may do. Also keeps small what capped downloads leave unread.
//!
//! One governor per direction and remote subnet. Which bottleneck a connection crosses cannot be known; devices of one
//! subnet are behind the same last link as a rule, and have about the same round trip, which is what the shared base delay
//! needs. A device's own uplink is crossed by several subnets' governors then: each sees its queue and yields to it, only
//! that together they look for more as that many flows instead of as one.

mod socket;
mod together;
mod unread;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use peerage_origin::{Intake, Throttle};
use peerage_policy::Class;
use peerage_swarm::Time;
use peerage_swarm::ledbat::{FlowId, Governor as Ledbat, Sample};
use peerage_transport::Path;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::socket::Socket;
use self::together::Together;
use self::unread::{Capped, Of, Unread};
use crate::budgets::Gate;
use crate::clock::Clock;
use crate::shared::Shared;

/// A subnet's round trip and buffer are remembered this long after its last connection.
const MEMORY: Duration = Duration::from_secs(600);
/// Sockets looked after at once; beyond that they go ungoverned. Far above what policy lets an agent have.
const MAX_SOCKETS: usize = 4096;

/// Where connections are handed to the governors. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Governor {
    enlist: mpsc::UnboundedSender<Enlist>,
    /// The brakes of the downloads: one a way.
    throttles: Arc<Mutex<HashMap<Way, Weak<Throttle>>>>,
}

/// What the actor takes in.
pub(crate) type Enlisted = mpsc::UnboundedReceiver<Enlist>;

/// A connection to be looked after.
#[derive(Debug)]
pub(crate) enum Enlist {
    /// It yields to others.
    Govern(Way, Socket),
    /// Caps hold for what it brings.
    Bound(Capped),
}

/// The flow that all downloads of a way are.
const ALL: FlowId = FlowId(0);

/// Connections that are thought to share a bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    upload: bool,
    subnet: IpAddr,
}

impl Way {
    fn new(upload: bool, remote: SocketAddr) -> Self {
        let subnet = match remote.ip().to_canonical() {
            IpAddr::V4(ip) => IpAddr::from((u32::from(ip) & 0xffff_ff00).to_be_bytes()),
            IpAddr::V6(ip) => IpAddr::from((u128::from(ip) >> 64 << 64).to_be_bytes()),
        };
        Self { upload, subnet }
    }
}

impl Governor {
    pub(crate) fn new() -> (Self, Enlisted) {
        let (enlist, enlisted) = mpsc::unbounded_channel();
        (Self { enlist, throttles: Arc::default() }, enlisted)
    }

    /// What is sent over this connection yields to everybody else's traffic, as long as it lives.
    pub(crate) fn upload(&self, path: Path, remote: SocketAddr) {
        if let Err(error) = path.set_lower_effort(true) {
            tracing::debug!(%remote, %error, "packets cannot be marked as lower effort");
        }
        // The actor outlives all connections but in the last moment of the process.
        let _ = self.enlist.send(Enlist::Govern(Way::new(true, remote), Socket::upload(path)));
    }

    /// What comes over this connection through the relay yields, too: the relay sends as any server does. Its window is
    /// bounded, down to some segments; nothing is read more slowly than it comes.
    pub(crate) fn relayed(&self, path: Path, remote: SocketAddr) {
        drop(self.download(path, remote));
    }

    /// What comes over this connection from a peer passes `gate`: while a cap holds there, little waits unread.
    pub(crate) fn bound(&self, path: Path, gate: Gate) {
        let _ = self.enlist.send(Enlist::Bound(Capped::new(path, Of::Gate(gate))));
    }

    /// Takes in the connections that downloads of a class make.
    pub(crate) fn intake(&self, class: Class) -> Arc<dyn Intake> {
        Arc::new(Door { governor: self.clone(), class })
    }

    /// What comes over this connection yields. All connections of a way are one flow: a download asks now over this one,
    /// now over that one, and none has a history of its own.
    fn download(&self, path: Path, remote: SocketAddr) -> Arc<Throttle> {
        let way = Way::new(false, remote);
        let throttle = {
            let mut throttles = self.throttles.lock();
            throttles.retain(|_, throttle| throttle.strong_count() > 0);
            let known = throttles.get(&way).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::default();
                throttles.insert(way, Arc::downgrade(&new));
                new
            })
        };
        let _ = self.enlist.send(Enlist::Govern(way, Socket::download(path, Arc::clone(&throttle))));
        throttle
    }
}

/// Where the connections of one class of downloads come in.
#[derive(Debug)]
struct Door {
    governor: Governor,
    class: Class,
}

impl Intake for Door {
    fn connected(&self, socket: &Arc<TcpStream>) -> Arc<Throttle> {
        let (Ok(path), Ok(remote)) = (Path::of(socket), socket.peer_addr()) else { return Arc::default() };
        let capped = Capped::new(path.clone(), Of::Class(self.class));
        let _ = self.governor.enlist.send(Enlist::Bound(capped));
        match self.class {
            Class::Background => self.governor.download(path, remote),
            // Somebody waits: it takes its share like any other.
            Class::Foreground => Arc::default(),
        }
    }
}

/// Connections of one way, and what governs them.
#[derive(Debug)]
struct Bottleneck {
    governor: Ledbat,
    sockets: HashMap<FlowId, Socket>,
    /// All downloads together; their flow has the number 0.
    together: Option<Together>,
    due: Instant,
    used: Instant,
}

impl Bottleneck {
    fn new(upload: bool) -> Self {
        let now = Instant::now();
        let together = (!upload).then(Together::default);
        Self { governor: Ledbat::default(), sockets: HashMap::new(), together, due: now, used: now }
    }

    fn look(&mut self, clock: &Clock) {
        let now = clock.now();
        self.governor.set_ahead(Clock::own_since_epoch().saturating_sub(now.since(Time::ZERO)));
        let mut samples: Vec<(FlowId, Sample)> = Vec::with_capacity(self.sockets.len());
        self.sockets.retain(|id, socket| {
            // An error means that the connection has ended.
            let Ok(sample) = socket.sample(now) else { return false };
            samples.push((*id, sample));
            true
        });
        if let Some(together) = &mut self.together {
            samples = vec![(ALL, together.add(&samples, now))];
        }
        self.governor.look(&samples, now);
        let mut slowly = false;
        for (id, socket) in &mut self.sockets {
            let (flow, parts) = self.together.as_ref().map_or((*id, 1), |together| (ALL, together.parts()));
            let window = self.governor.window(flow).map(|window| window / parts);
            match socket.apply(self.governor.rate(flow), window) {
                Ok(narrow) => slowly |= narrow,
                Err(error) => tracing::debug!(%error, "a connection cannot be governed"),
            }
        }
        if let Some(together) = &self.together {
            // Read too slowly, nothing is measured: then freely until it is.
            let rate = self.governor.rate(ALL).filter(|_| slowly && !together.is_deaf(now));
            if let Some(throttle) = self.sockets.values().find_map(Socket::throttle) {
                throttle.set(rate);
            }
        }
        if !self.sockets.is_empty() {
            self.used = Instant::now();
        }
        self.due = Instant::now() + self.governor.next_look();
    }
}

/// Looks after all connections. Returns when the agent ends.
pub(crate) async fn run(shared: Arc<Shared>, mut enlisted: Enlisted) {
    let mut ways: HashMap<Way, Bottleneck> = HashMap::new();
    let mut unread = Unread::new();
    let mut count = 0;
    loop {
        // Without connections there is nothing to look at, and nothing wakes up.
        let governed = ways.values().filter(|way| !way.sockets.is_empty()).map(|way| way.due).min();
        let due = [governed, unread.due()].into_iter().flatten().min();
        tokio::select! {
            biased;
            next = enlisted.recv() => {
                let sockets = ways.values().map(|way| way.sockets.len()).sum::<usize>().max(unread.len());
                if sockets >= MAX_SOCKETS {
                    tracing::warn!(sockets, "too many connections to govern");
                    continue;
                }
                let (way, socket) = match next {
                    None => return,
                    Some(Enlist::Govern(way, socket)) => (way, socket),
                    Some(Enlist::Bound(connection)) => {
                        unread.add(connection, &shared.budgets);
                        continue;
                    }
                };
                ways.retain(|_, way| !way.sockets.is_empty() || way.used.elapsed() < MEMORY);
                count += 1;
                let bottleneck = ways.entry(way).or_insert_with(|| Bottleneck::new(way.upload));
                bottleneck.sockets.insert(FlowId(count), socket);
                bottleneck.due = Instant::now();
            }
            // At once: what is on its way when a cap comes in is read as slowly as the cap says.
            () = shared.budgets.changed() => unread.look(&shared.budgets),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let now = Instant::now();
                if unread.due().is_some_and(|due| due <= now) {
                    unread.look(&shared.budgets);
                }
                for (way, bottleneck) in ways.iter_mut().filter(|(_, way)| way.due <= now) {
                    bottleneck.look(&shared.clock);
                    if !bottleneck.sockets.is_empty() {
                        tracing::trace!(?way, governor = ?bottleneck.governor, "looked");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_a_subnet_and_a_direction() {
        let way = |upload, text: &str| Way::new(upload, text.parse().unwrap());
        assert_eq!(way(true, "10.1.2.3:1"), way(true, "[::ffff:10.1.2.200]:2"));
        assert_ne!(way(true, "10.1.2.3:1"), way(true, "10.1.3.3:1"));
        assert_ne!(way(true, "10.1.2.3:1"), way(false, "10.1.2.3:1"));
        assert_eq!(way(true, "[2001:db8::1]:1"), way(true, "[2001:db8:0:0:ffff::2]:1"));
    }
}
