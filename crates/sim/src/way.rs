//! The way of bytes and messages after they have left a sender: out of its site, into another, into a device.
//!
//! Every link is taken when the first byte gets there, so that those who share it queue up in the order in which they
//! come, and passes bytes on while more of them come in.

use std::time::Duration;

use peerage_swarm::Time;
use peerage_wire::Message;

use crate::conn::Socket;
use crate::link::Link;
use crate::run::{Run, What};
use crate::server::Key;
use crate::uplink::{Bytes, QUEUE};
use crate::wan::Leaves;

/// What is on its way.
#[derive(Debug)]
pub(crate) enum Load {
    /// Bulk data to an end of a connection.
    Data(Socket, Bytes),
    /// A message to one.
    Message(Socket, Message),
    /// The end of a connection.
    Left(Socket),
    /// Bytes of an HTTP source.
    Http(u32, Key, Bytes),
}

/// The link that a load comes to next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gate {
    /// Out of a site.
    Out(usize),
    /// Into a site.
    In(usize),
    /// Into the device.
    Device,
}

/// A load at a link.
#[derive(Debug)]
pub(crate) struct Leg {
    gate: Gate,
    load: Load,
    /// The device it is for.
    to: usize,
    /// When its last byte gets there.
    last: Time,
    latency: Duration,
}

impl Leg {
    /// Bytes from outside that have left the site's link, on their way into device `to`; `last` is when the last of them do.
    pub(crate) const fn into_device(load: Load, to: usize, last: Time) -> Self {
        Self { gate: Gate::Device, load, to, last, latency: Duration::ZERO }
    }
}

impl Load {
    /// Messages are taken for nothing beside the data.
    fn len(&self) -> u64 {
        match self {
            Self::Data(.., bytes) | Self::Http(.., bytes) => u64::from(bytes.len),
            Self::Message(..) | Self::Left(..) => 0,
        }
    }
}

impl Run {
    /// A load leaves a device of site `from`, or a server outside, for device `to`. Returns whether there is a queue on
    /// the way.
    pub(crate) fn depart(
        &mut self,
        load: Load,
        from: Option<usize>,
        to: usize,
        leaves: Leaves,
        latency: Duration,
    ) -> bool {
        let (site, last) = (self.devices[to].setup.site, leaves.1);
        let down = self.devices[to].down.queue(leaves.0 + latency);
        if from == Some(site) {
            self.enter(load, to, (leaves.0 + latency, last + latency));
            return down > QUEUE;
        }
        let queue = self.wans[site].down.queue(leaves.0 + latency).max(down);
        match from {
            Some(from) => {
                let queue = self.wans[from].up.queue(leaves.0).max(queue);
                let leg = Leg { gate: Gate::Out(from), load, to, last, latency };
                self.queue.push(leaves.0, What::Way(Box::new(leg)));
                queue > QUEUE
            }
            None => {
                let leg = Leg { gate: Gate::In(site), load, to, last: last + latency, latency };
                self.queue.push(leaves.0 + latency, What::Way(Box::new(leg)));
                queue > QUEUE
            }
        }
    }

    /// Shows an origin that is not part of this run the link of device `at`.
    pub(crate) fn show_link(&mut self, at: usize) {
        let (now, link) = (self.now(), self.devices[at].down);
        if let Some(outside) = &mut self.outside {
            outside.show(at, now, link);
        }
    }

    /// The link into device `at`, before anything happened at `now`, which has passed.
    pub(crate) fn link_before(&self, at: usize, now: Time) -> Link {
        let seen = self.outside.as_ref().and_then(|outside| outside.link(at, now));
        seen.unwrap_or(self.devices[at].down)
    }

    /// A load comes to the next link.
    pub(crate) fn way(&mut self, mut leg: Box<Leg>) {
        let (now, len) = (self.now(), leg.load.len());
        match leg.gate {
            Gate::Out(site) => {
                let (first, last) = self.wans[site].out(len, (now, leg.last));
                (leg.gate, leg.last) = (Gate::In(self.devices[leg.to].setup.site), last + leg.latency);
                self.queue.push(first + leg.latency, What::Way(leg));
            }
            Gate::In(site) => {
                let (first, last) = self.wans[site].take_in(len, (now, leg.last));
                (leg.gate, leg.last) = (Gate::Device, last);
                self.queue.push(first, What::Way(leg));
            }
            Gate::Device => self.enter(leg.load, leg.to, (now, leg.last)),
        }
    }

    /// A load comes to the device that it is for.
    pub(crate) fn enter(&mut self, load: Load, to: usize, comes: Leaves) {
        let there = match load.len() {
            0 => comes.1,
            len => {
                let (_, last) = self.devices[to].down.take(len, comes.0);
                self.show_link(to);
                last.max(comes.1)
            }
        };
        match load {
            Load::Data(to, bytes) => {
                let at = self.end_mut(to.other()).arrival(there);
                self.queue.push(at, What::Data(to, bytes));
            }
            Load::Message(to, message) => {
                let at = self.end_mut(to.other()).arrival(there);
                self.queue.push(at, What::Message(to, message));
            }
            Load::Left(to) => {
                let at = self.end_mut(to.other()).arrival(there);
                self.queue.push(at, What::Left(to));
            }
            Load::Http(server, key, bytes) => self.queue.push(there, What::Bytes(server, key, bytes)),
        }
    }
}
