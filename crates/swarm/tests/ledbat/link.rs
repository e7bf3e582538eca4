//! A bottleneck in virtual time: one queue with a bounded buffer, TCP senders with CUBIC on it, some of them governed.
//!
//! It is of packets, and simple: losses are noticed a round trip later, acknowledgements are never lost nor queued. The
//! senders' round-trip estimate is the kernel's (RFC 6298 §2), because its lag is what a governor has to live with.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use peerage_swarm::Time;
use peerage_swarm::ledbat::{FlowId, Governor, LOOK_EVERY};

use crate::flow::{Flow, MSS, Source};

/// With headers.
const PACKET: f64 = 1514.0;
/// How long an acknowledgement may wait for another segment, in seconds.
const HELD_BACK: f64 = 0.04;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Path {
    /// Bits a second.
    pub(crate) rate: f64,
    /// How long a packet may wait.
    pub(crate) buffer: Duration,
    /// Round trip without a queue.
    pub(crate) base: Duration,
    /// Share of packets lost besides.
    pub(crate) loss: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    /// A segment has arrived, and what acknowledges it is where it was sent.
    Ack {
        flow: usize,
        sent: f64,
        echo: f64,
    },
    /// The time to hold an acknowledgement back is over.
    HeldLong {
        flow: usize,
        number: u64,
    },
    Lost {
        flow: usize,
        sent: f64,
    },
    Wake {
        flow: usize,
    },
    /// The program at the sending end writes.
    Write {
        flow: usize,
    },
    Look {
        governor: usize,
    },
}

/// An event at a moment; the number keeps the order of those at the same one.
#[derive(Debug, PartialEq)]
struct Due(f64, u64, Event);

impl Eq for Due {}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug)]
pub(crate) struct World {
    path: Path,
    now: f64,
    free_at: f64,
    flows: Vec<Flow>,
    pub(crate) governors: Vec<Governor>,
    /// What each governed flow was allowed at the last look.
    rates: BTreeMap<usize, Option<u64>>,
    due: BinaryHeap<Reverse<Due>>,
    count: u64,
    random: u64,
    seeded: bool,
    /// Sum of the queue's delay, seen at each look of a clock of 1 ms, and the number of looks.
    queue: (f64, u64),
    watched: f64,
    /// Every look, where it is asked for.
    pub(crate) trace: Option<Vec<Row>>,
    /// Packets lost in the queue.
    pub(crate) dropped: u64,
    /// How often a governed flow went to next to nothing.
    pub(crate) slowdowns: u64,
    /// The clocks of all devices that come from now on say the same.
    pub(crate) clocks_agree: bool,
    /// Segments are paced one by one, as without segmentation offload.
    pub(crate) lone: bool,
    /// The governed are receivers. Of flows that begin from now on.
    pub(crate) receivers: bool,
    /// The shortest round trip that each device sees, in seconds, if it has never met the path empty.
    pub(crate) unseen: Vec<f64>,
    /// Receivers acknowledge each second segment, or after 40 ms (RFC 9293 §3.8.6.3, with Linux's least delay).
    pub(crate) late: bool,
}

/// What a governor said of a flow at a look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// In seconds.
    pub(crate) at: f64,
    /// What the flow may do, in bytes/s.
    pub(crate) rate: Option<u64>,
    /// The round trip without a queue, the queue that is seen, and that to which is steered, in seconds.
    pub(crate) base: f64,
    pub(crate) queue: f64,
    pub(crate) target: f64,
}

/// What was moved in a span.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) bytes: Vec<u64>,
    /// Mean delay in the queue, in ms.
    pub(crate) queue_ms: f64,
    pub(crate) seconds: f64,
}

impl Span {
    /// Payload of a flow over what the link can carry.
    pub(crate) fn share(&self, flow: usize, path: Path) -> f64 {
        self.bytes[flow] as f64 * 8.0 / self.seconds / (path.rate * MSS as f64 / PACKET)
    }
}

impl World {
    pub(crate) fn new(path: Path) -> Self {
        Self {
            path,
            now: 1.0,
            free_at: 0.0,
            flows: Vec::new(),
            governors: Vec::new(),
            rates: BTreeMap::new(),
            due: BinaryHeap::new(),
            count: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            seeded: false,
            queue: (0.0, 0),
            watched: 1.0,
            trace: None,
            dropped: 0,
            slowdowns: 0,
            clocks_agree: false,
            lone: false,
            receivers: false,
            unseen: Vec::new(),
            late: false,
        }
    }

    /// A governor of its own: a device.
    pub(crate) fn device(&mut self) -> usize {
        let number = self.governors.len();
        let mut governor = Governor::default();
        if !self.clocks_agree {
            governor.set_ahead(Duration::from_millis(1370) * number as u32);
        }
        self.governors.push(governor);
        let governor = number;
        let first = self.now + if self.seeded { self.chance() * LOOK_EVERY.as_secs_f64() } else { 0.0 };
        self.at(first, Event::Look { governor });
        governor
    }

    /// Another course of events.
    pub(crate) fn seed(&mut self, seed: u64) {
        self.seeded = true;
        self.random ^= seed.wrapping_mul(0xd134_2543_de82_ef95);
    }

    /// A flow that has always something to send.
    pub(crate) fn flow(&mut self, governed: Option<usize>) -> usize {
        self.flow_from(governed, None)
    }

    /// A flow that sends what `source` writes.
    pub(crate) fn flow_from(&mut self, governed: Option<usize>, source: Option<Source>) -> usize {
        let receives = self.receivers && governed.is_some();
        self.flows.push(Flow::new(self.now, governed, receives, source));
        let flow = self.flows.len() - 1;
        // The round trip of the handshake is known before anything is sent.
        let rtt = (self.free_at - self.now).max(0.0) + self.path.base.as_secs_f64();
        self.flows[flow].measure(rtt);
        self.at(self.now, if source.is_some() { Event::Write { flow } } else { Event::Wake { flow } });
        flow
    }

    pub(crate) fn stop(&mut self, flow: usize) {
        self.flows[flow].running = false;
    }

    pub(crate) fn run(&mut self, seconds: f64) -> Span {
        let before: Vec<u64> = self.flows.iter().map(|flow| flow.delivered).collect();
        self.queue = (0.0, 0);
        let end = self.now + seconds;
        while let Some(Reverse(due)) = self.due.pop() {
            if due.0 > end {
                self.due.push(Reverse(due));
                break;
            }
            self.watch(due.0);
            self.now = due.0;
            self.handle(due.2);
        }
        self.watch(end);
        self.now = end;
        Span {
            bytes: self.flows.iter().zip(&before).map(|(flow, before)| flow.delivered - before).collect(),
            queue_ms: self.queue.0 / self.queue.1 as f64 * 1e3,
            seconds,
        }
    }

    fn watch(&mut self, until: f64) {
        while self.watched < until {
            self.queue.0 += (self.free_at - self.watched).max(0.0);
            self.queue.1 += 1;
            self.watched += 0.001;
        }
    }

    fn at(&mut self, when: f64, event: Event) {
        self.count += 1;
        self.due.push(Reverse(Due(when, self.count, event)));
    }

    pub(crate) fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Ack { flow, sent, echo } => {
                self.flows[flow].arrived(echo, self.now);
                if !self.late {
                    return self.acknowledged(flow, sent, 1);
                }
                match self.flows[flow].held.take() {
                    Some((first, _)) => self.acknowledged(flow, first, 2),
                    None => {
                        self.flows[flow].held = Some((sent, self.count));
                        self.at(self.now + HELD_BACK, Event::HeldLong { flow, number: self.count });
                    }
                }
            }
            Event::HeldLong { flow, number } => {
                if let Some((sent, _)) = self.flows[flow].held.take_if(|(_, held)| *held == number) {
                    self.acknowledged(flow, sent, 1);
                }
            }
            Event::Lost { flow, sent } => {
                self.flows[flow].lost(sent, self.now);
                self.send(flow);
            }
            Event::Write { flow } => {
                if let Some((source, unsent)) = &mut self.flows[flow].source {
                    // What its socket holds is bounded.
                    *unsent = (*unsent + source.chunk).min(2 * source.chunk);
                    let next = self.now + source.every;
                    self.at(next, Event::Write { flow });
                    self.send(flow);
                }
            }
            Event::Wake { flow } => {
                self.flows[flow].waking = false;
                self.send(flow);
            }
            Event::Look { governor } => self.look(governor),
        }
    }

    /// One acknowledgement, of one or two segments; the round trip is that of the first (RFC 7323 §4.1).
    fn acknowledged(&mut self, flow: usize, sent: f64, segments: u64) {
        self.flows[flow].measure(self.now - sent);
        self.flows[flow].acknowledged(segments, self.now);
        self.send(flow);
    }

    fn look(&mut self, number: usize) {
        let now = Time::from_micros((self.now * 1e6) as u64);
        let mine: Vec<usize> =
            (0..self.flows.len()).filter(|flow| self.flows[*flow].governed == Some(number)).collect();
        let mut samples: Vec<_> =
            mine.iter().map(|flow| (FlowId(*flow as u64), self.flows[*flow].sample(self.now, now))).collect();
        if let Some(least) = self.unseen.get(number).map(|least| Duration::from_secs_f64(*least)) {
            for (_, sample) in &mut samples {
                sample.rtt = sample.rtt.max(least);
                sample.smoothed = sample.smoothed.max(least);
                sample.min_rtt = sample.min_rtt.max(least);
            }
        }
        self.governors[number].look(&samples, now);
        for flow in mine {
            let id = FlowId(flow as u64);
            let rate = self.governors[number].rate(id);
            let before = self.rates.insert(flow, rate).flatten();
            // Only a slowdown goes to a quarter at once.
            let slow =
                rate.is_some_and(|rate| before.is_none_or(|before| rate as f64 <= before as f64 / 3.9));
            self.slowdowns += u64::from(slow);
            self.flows[flow].apply(rate, self.governors[number].window(id));
            self.note(number, rate, now);
            self.send(flow);
        }
        let next = self.now + self.governors[number].next_look().as_secs_f64();
        self.at(next, Event::Look { governor: number });
    }

    fn note(&mut self, governor: usize, rate: Option<u64>, now: Time) {
        let Some(trace) = &mut self.trace else { return };
        let governor = &mut self.governors[governor];
        trace.push(Row {
            at: self.now,
            rate,
            base: governor.base().unwrap_or_default().as_secs_f64(),
            queue: governor.queue().as_secs_f64(),
            target: governor.target(now).as_secs_f64(),
        });
    }

    fn send(&mut self, number: usize) {
        loop {
            let flow = &self.flows[number];
            if !flow.may_send() {
                return;
            }
            if let Some(rate) = flow.rate {
                // Two segments at once, as the kernel does at low rates (tcp_min_tso_segs).
                let burst = if self.lone { 1 } else { 2 };
                let pause = (burst * MSS) as f64 / rate;
                let due = flow.next_send;
                if due > self.now {
                    // A higher rate since then counts at once.
                    let due = due.min(self.now + pause);
                    if !flow.waking {
                        self.flows[number].waking = true;
                        self.at(due, Event::Wake { flow: number });
                    }
                    self.flows[number].next_send = due;
                    return;
                }
                let flow = &mut self.flows[number];
                if flow.sent % burst == burst - 1 {
                    flow.next_send = self.now + pause;
                }
            }
            self.transmit(number);
        }
    }

    fn transmit(&mut self, number: usize) {
        let (now, base) = (self.now, self.path.base.as_secs_f64());
        let echo = self.flows[number].transmit(now);
        let wait = (self.free_at - now).max(0.0);
        let random = self.path.loss > 0.0 && self.chance() < self.path.loss;
        if random || wait > self.path.buffer.as_secs_f64() {
            self.dropped += u64::from(!random);
            self.at(now + wait + base + 1e-4, Event::Lost { flow: number, sent: now });
            return;
        }
        self.free_at = now + wait + PACKET * 8.0 / self.path.rate;
        self.at(self.free_at + base, Event::Ack { flow: number, sent: now, echo });
    }
}
