//! A TCP flow of the model: CUBIC where it is sent, and what the kernels at both ends know of it.

use std::time::Duration;

use peerage_swarm::Time;
use peerage_swarm::ledbat::{Incoming, Latest, Received, Sample};

pub(crate) const MSS: u64 = 1448;
/// Segments under way at first, and after a pause (RFC 6928; RFC 5681 §4.1).
const FIRST: f64 = 10.0;
/// Least time after which a window that was not used counts for half, in seconds.
const PAUSE: f64 = 0.2;
/// The least window that a receiver sets; below, it reads slowly.
const LEAST_WINDOW: u64 = 3 * 1460;
/// In what units kernels tell times: of timestamps and of "since when", in seconds.
const STAMP: f64 = 0.001;
const JIFFY: f64 = 0.004;

/// A program that writes some bytes and pauses, however fast they go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// Bytes that are written at once.
    pub(crate) chunk: u64,
    /// From one time to the next, in seconds.
    pub(crate) every: f64,
}

#[derive(Debug)]
pub(crate) struct Flow {
    cwnd: f64,
    ssthresh: f64,
    most: f64,
    since: f64,
    reduced: f64,
    pub(crate) under_way: u64,
    pub(crate) sent: u64,
    /// When something was last sent.
    sent_at: f64,
    pub(crate) delivered: u64,
    pub(crate) resent: u64,
    srtt: f64,
    latest: Latest,
    /// Delivered at the last look.
    looked: u64,
    min_rtt: f64,
    handshake: f64,
    pub(crate) rate: Option<f64>,
    pub(crate) next_send: f64,
    pub(crate) waking: bool,
    pub(crate) running: bool,
    /// Index of the governor.
    pub(crate) governed: Option<usize>,
    /// When the segment was sent that has arrived and is not acknowledged, and the number of its delay.
    pub(crate) held: Option<(f64, u64)>,
    /// What is written and not sent; `None`: always more.
    pub(crate) source: Option<(Source, u64)>,
    /// Where it is governed by who receives it.
    receiver: Option<Receiver>,
}

/// The receiving end.
#[derive(Debug)]
struct Receiver {
    incoming: Incoming,
    /// The smoothed round trip, in seconds, the timestamp that came back last, and when.
    rtt: f64,
    echo: f64,
    arrived: f64,
    /// The timestamp that the sender knows: of the latest acknowledgement.
    told: f64,
    window: Option<u64>,
    narrow: bool,
}

impl Flow {
    /// A flow that begins `now`.
    pub(crate) fn new(now: f64, governed: Option<usize>, receives: bool, source: Option<Source>) -> Self {
        Self {
            cwnd: FIRST,
            ssthresh: f64::INFINITY,
            most: 0.0,
            since: 0.0,
            reduced: 0.0,
            under_way: 0,
            sent: 0,
            sent_at: now,
            delivered: 0,
            resent: 0,
            srtt: 0.0,
            latest: Latest::default(),
            looked: 0,
            min_rtt: f64::INFINITY,
            handshake: 0.0,
            rate: None,
            next_send: now,
            waking: false,
            running: true,
            governed,
            held: None,
            source: source.map(|source| (source, 0)),
            receiver: receives.then(|| Receiver {
                incoming: Incoming::default(),
                rtt: 0.0,
                echo: 0.0,
                arrived: now,
                told: stamp(now),
                window: None,
                narrow: false,
            }),
        }
    }

    /// Whether a segment may be sent, as far as windows and the program go.
    pub(crate) fn may_send(&self) -> bool {
        let window = self.receiver.as_ref().and_then(|receiver| receiver.window);
        let offered = window.is_none_or(|window| (self.under_way + 1) * MSS <= window.max(MSS));
        let written = self.source.is_none_or(|(_, unsent)| unsent >= MSS);
        self.running && offered && written && self.under_way as f64 + 1.0 <= self.cwnd
    }

    /// A segment is sent. Returns the timestamp that it brings back.
    pub(crate) fn transmit(&mut self, now: f64) -> f64 {
        let pause = PAUSE.max(2.0 * self.srtt);
        if self.under_way == 0 && now - self.sent_at > pause {
            let halves = ((now - self.sent_at) / pause).floor();
            self.ssthresh = self.ssthresh.max(self.cwnd * 0.75);
            self.cwnd = (self.cwnd / halves.exp2()).max(FIRST.min(self.cwnd));
        }
        self.sent_at = now;
        self.under_way += 1;
        self.sent += 1;
        if let Some((_, unsent)) = &mut self.source {
            *unsent -= MSS;
        }
        let Some(receiver) = &mut self.receiver else { return 0.0 };
        if receiver.narrow {
            // It was set free by somebody having read.
            receiver.told = stamp(now);
        }
        receiver.told
    }

    /// A segment has arrived, which brought the timestamp `echo` back.
    pub(crate) fn arrived(&mut self, echo: f64, now: f64) {
        let Some(receiver) = &mut self.receiver else { return };
        let rtt = stamp(now) - echo;
        if echo > receiver.echo && rtt > 0.0 {
            receiver.echo = echo;
            // Linux since June 2025: a shorter round trip counts at once, a longer one an eighth.
            let longer = receiver.rtt != 0.0 && rtt > receiver.rtt;
            receiver.rtt = if longer { receiver.rtt * 0.875 + rtt * 0.125 } else { rtt };
        }
        (receiver.arrived, receiver.told) = (now, stamp(now));
    }

    /// A round trip of the sender.
    pub(crate) fn measure(&mut self, rtt: f64) {
        if self.handshake == 0.0 {
            self.handshake = rtt;
        }
        self.srtt = if self.srtt == 0.0 { rtt } else { self.srtt * 0.875 + rtt * 0.125 };
        self.min_rtt = self.min_rtt.min(rtt);
    }

    /// `segments` are acknowledged.
    pub(crate) fn acknowledged(&mut self, segments: u64, now: f64) {
        for _ in 0..segments {
            self.under_way -= 1;
            self.delivered += MSS;
            // A window that is not used does not grow (RFC 9438 §4.2).
            if self.under_way as f64 + 2.0 >= self.cwnd {
                self.grow(now);
            }
        }
    }

    /// A segment that was sent at `sent` is lost.
    pub(crate) fn lost(&mut self, sent: f64, now: f64) {
        self.under_way -= 1;
        self.resent += MSS;
        if let Some((_, unsent)) = &mut self.source {
            *unsent += MSS;
        }
        if sent > self.reduced {
            self.most = self.cwnd;
            self.cwnd = (self.cwnd * 0.7).max(2.0);
            self.ssthresh = self.cwnd;
            (self.since, self.reduced) = (now, now);
        }
    }

    /// CUBIC (RFC 9438), with its Reno-friendly region.
    fn grow(&mut self, now: f64) {
        if self.cwnd < self.ssthresh {
            self.cwnd += 1.0;
            return;
        }
        let age = now - self.since;
        let k = (self.most * 0.3 / 0.4).cbrt();
        let cubic = 0.4 * (age + self.srtt - k).powi(3) + self.most;
        let reno = self.most * 0.7 + 0.53 * age / self.srtt.max(1e-4);
        let target = cubic.max(reno).clamp(self.cwnd, self.cwnd * 1.5);
        self.cwnd += ((target - self.cwnd) / self.cwnd).max(0.01 / self.cwnd);
    }

    /// What the kernel tells whoever governs.
    pub(crate) fn sample(&mut self, now: f64, at: Time) -> Sample {
        if let Some(receiver) = &mut self.receiver {
            let quiet = (now / JIFFY).floor() - (receiver.arrived / JIFFY).floor();
            let heard = Received {
                rtt: Duration::from_secs_f64(receiver.rtt),
                // The handshake's: little else goes that way.
                min_rtt: Duration::from_secs_f64(self.handshake),
                quiet: Duration::from_secs_f64(quiet * JIFFY),
                mss: MSS as u32,
                delivered: self.delivered,
                out_of_order: self.resent / MSS,
            };
            return receiver.incoming.take(&heard, receiver.window, at);
        }
        let segments = (self.delivered - self.looked) / MSS;
        self.looked = self.delivered;
        let smoothed = Duration::from_secs_f64(self.srtt);
        Sample {
            rtt: self.latest.take(smoothed, segments),
            smoothed,
            min_rtt: Duration::from_secs_f64(self.min_rtt),
            mss: MSS as u32,
            delivered: self.delivered,
            resent: self.resent,
            wanting: self.running && self.source.is_none_or(|(_, unsent)| unsent >= MSS),
        }
    }

    /// What the governor allows: a sender is paced, a receiver bounds its window and, where that is too coarse, reads
    /// slowly.
    pub(crate) fn apply(&mut self, rate: Option<u64>, window: Option<u64>) {
        let rate = rate.map(|rate| rate as f64);
        let Some(receiver) = &mut self.receiver else {
            self.rate = rate;
            return;
        };
        let limit = if receiver.narrow { 2 * LEAST_WINDOW } else { LEAST_WINDOW };
        receiver.narrow = window.is_some_and(|window| window < limit);
        self.rate = rate.filter(|_| receiver.narrow);
        let wanted = window.map(|window| window.max(LEAST_WINDOW));
        let near = |one: u64, other: u64| one.abs_diff(other) < one / 16;
        if !wanted.zip(receiver.window).is_some_and(|(one, other)| near(one, other)) {
            receiver.window = wanted;
        }
    }
}

fn stamp(now: f64) -> f64 {
    (now / STAMP).floor() * STAMP
}
