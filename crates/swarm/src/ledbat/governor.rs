//! All flows over one bottleneck: one base delay, one buffer, one increase, slowdowns at the same time.
//!
//! Flows that share a bottleneck must not each be as aggressive as one, and must not fill the queue while another
//! measures the path without it. Flows that are together only by mistake are still held back one by one, each by the
//! queue that it sees.

use std::collections::BTreeMap;
use std::time::Duration;

use super::base::Base;
use super::buffer::Buffer;
use super::flow::{Flow, FlowId, Look, Sample};
use super::{LOOK_EVERY, TARGET};
use crate::Time;

/// The next slowdown begins at a whole multiple of this on the clock that all devices share. At short round trips a
/// tenth of the time is more than fairness needs; and a path that several devices use is free of their queue only while all
/// of them are slow: one by one, those that came later take the others' queue for a part of the path, and keep two or three
/// times as much.
const SLOWDOWN_EVERY: Duration = Duration::from_secs(10);
/// A slowdown is followed by at least so many times as long without. Draft §4.4 has nine times, which may cost a tenth of
/// the link; alone 95 % of it are to be used.
const SLOWDOWN_SHARE: f64 = 19.0;
/// The first slowdown comes this many round trips after the limit began to bind.
const FIRST_SLOWDOWN: f64 = 2.0;
/// How long a slowdown holds, in round trips, and at least so many seconds: what receivers have let come still comes, then the
/// queue of eight goes away at three quarters of the link's rate, and then each must get a segment or some.
const SLOWDOWN_HOLD: f64 = 2.0;
const LEAST_HOLD: f64 = 0.25;
/// Share of what the path has carried that is always allowed: enough to notice that it is free again.
const FLOOR_SHARE: f64 = 1.0 / 128.0;
/// And no less than this many segments a second.
const FLOOR_SEGMENTS: f64 = 2.0;
/// What the path has carried is forgotten at this rate, in seconds.
const PEAK_MEMORY: f64 = 1800.0;
/// And measured over this, in seconds.
const PEAK_SPAN: f64 = 1.0;
/// Segments that all flows together have under way at the queue of reference: a link of 10 Mbit/s carries so many in 30 ms.
const SEGMENTS: f64 = 25.0;
/// A queue below this, and below a quarter of the target, is next to none, in seconds.
const LITTLE: f64 = 0.005;
/// Less than this part of what the path has carried: somebody else has the rest.
const ALMOST_ALL: f64 = 0.8;
/// The round trip is longer than this many targets: the buffer is less than half of it.
const SHORT_BUFFER: f64 = 5.0;
/// A segment's time is steered to for no longer than this, in seconds: that leaves room for somebody else's in 20 ms of buffer.
const LONGEST_WAIT: f64 = 0.006;
/// Round trips after a loss in which the longest queue is looked for.
const AFTERMATH: f64 = 4.0;
/// Part of the way to the mean that windows go a round trip.
const LEVELLING: f64 = 1.0 / 32.0;
/// A path with a round trip this short that has lately carried this many bytes a second is a local network, and TCP's own
/// control is left alone there: devices that are busy delay packets by as much as the target, and a pause for a
/// measurement costs megabytes. What is thin, or far, is governed.
const LOCAL: f64 = 0.002;
const FAST: f64 = 6e6;
/// Measured over this many seconds: no burst that a thin link lets through makes it fast.
const FAST_SPAN: f64 = 0.2;
/// "Lately".
const FAST_MEMORY: Duration = Duration::from_secs(60);
/// Between looks while nothing moves.
const IDLE_LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Slowdown {
    /// No flow is limited.
    None,
    /// The next begins then.
    At(Time),
    /// Holding until then.
    Holding { began: Time, until: Time },
    /// Back to full speed; ends when all flows are there.
    Ramping { began: Time },
}

/// Says how fast each flow over one bottleneck may go. See the [module](super).
#[derive(Debug, Clone)]
pub struct Governor {
    flows: BTreeMap<FlowId, Flow>,
    base: Base,
    buffer: Buffer,
    slowdown: Slowdown,
    /// Bytes a second that all flows move together, and the most that they have.
    moved: f64,
    peak: f64,
    /// The same over a shorter time, and when it was last that of a local network.
    brisk: f64,
    fast: Option<Time>,
    looked: Option<Time>,
    busy: bool,
    /// How far the clock that devices share is ahead of the engine's.
    ahead: Duration,
}

impl Default for Governor {
    fn default() -> Self {
        Self {
            flows: BTreeMap::new(),
            base: Base::default(),
            buffer: Buffer::default(),
            slowdown: Slowdown::None,
            moved: 0.0,
            peak: 0.0,
            brisk: 0.0,
            fast: None,
            looked: None,
            busy: false,
            ahead: Duration::ZERO,
        }
    }
}

impl Governor {
    /// The clock that all devices share, as far as they are set by one, is this far ahead of the engine's. It says only when
    /// slowdowns begin, and may jump; without it they begin by the engine's own.
    pub const fn set_ahead(&mut self, ahead: Duration) {
        self.ahead = ahead;
    }

    /// Takes a look: all flows there are, with what the kernel knows of each. Flows that are not named have ended.
    pub fn look(&mut self, samples: &[(FlowId, Sample)], now: Time) {
        let span = self.looked.replace(now).map_or(0.0, |looked| now.since(looked).as_secs_f64());
        self.flows.retain(|id, _| samples.iter().any(|(named, _)| named == id));
        self.busy = false;
        for (_, sample) in samples {
            for rtt in [sample.rtt, sample.min_rtt] {
                if !rtt.is_zero() {
                    self.base.add(rtt.as_secs_f64(), now);
                }
            }
        }
        let Some(least) = self.base.least() else { return };
        self.base.carries(self.peak, samples.iter().map(|(_, sample)| sample.mss).max().unwrap_or(0));
        let (mut lost, mut resting) = (Vec::new(), Vec::new());
        for (id, sample) in samples {
            if !self.flows.contains_key(id) {
                self.admit(*id, now);
            }
            let Some(flow) = self.flows.get_mut(id) else { continue };
            if sample.rtt.is_zero() {
                continue;
            }
            if flow.is_resting(sample) {
                flow.rest(sample, now);
                self.busy |= flow.is_fresh(now);
                resting.push(*id);
                continue;
            }
            if flow.measures(sample) {
                self.base.add_full(sample.rtt.as_secs_f64(), now);
            }
            let base = self.base.get().unwrap_or(least);
            let before = flow.moved;
            let losing = flow.take(sample, base, now);
            self.buffer.see(sample.smoothed.as_secs_f64(), now);
            if losing {
                self.buffer.lost(Duration::from_secs_f64(AFTERMATH * flow.trip()), now);
                lost.push(*id);
            }
            self.busy |= sample.wanting || flow.moved >= 1.0 || before >= 1.0;
        }
        let base = self.base.get().unwrap_or(least);
        let look = self.common(samples, base, span, now);
        if least < LOCAL && self.is_fast(span, now) {
            self.flows.values_mut().for_each(Flow::free);
            self.slowdown = Slowdown::None;
            return;
        }
        for (id, sample) in samples {
            if let Some(flow) =
                self.flows.get_mut(id).filter(|_| !sample.rtt.is_zero() && !resting.contains(id))
            {
                flow.steer(&look, sample.wanting, lost.contains(id), span);
            }
        }
        self.level(&look, span);
        self.time_slowdown(&look);
        self.flows.values_mut().for_each(|flow| flow.open(span));
    }

    /// Bytes a second that a flow may move; `None`: as fast as it can.
    pub fn rate(&self, id: FlowId) -> Option<u64> {
        self.flows.get(&id)?.rate().map(|rate| rate.max(1.0) as u64)
    }

    /// Bytes that a receiver should let be under way to it, so that what it does not read does not wait in the path;
    /// `None`: as many as there may be.
    pub fn window(&self, id: FlowId) -> Option<u64> {
        self.flows.get(&id)?.opened().map(|bytes| bytes as u64)
    }

    /// How long until the next look.
    pub const fn next_look(&self) -> Duration {
        if self.busy { LOOK_EVERY } else { IDLE_LOOK }
    }

    /// The standing queue that is steered to now.
    pub fn target(&mut self, now: Time) -> Duration {
        Duration::from_secs_f64(self.buffer.target(self.base.get().unwrap_or(0.0), now))
    }

    /// The round trip without a queue, as far as it is known.
    pub fn base(&self) -> Option<Duration> {
        self.base.get().map(Duration::from_secs_f64)
    }

    /// The longest queue that a flow sees now.
    pub fn queue(&self) -> Duration {
        Duration::from_secs_f64(self.flows.values().map(|flow| flow.queue).fold(0.0, f64::max))
    }

    /// A flow that joins limited ones gets an equal part of what they have; the first one begins without a limit.
    fn admit(&mut self, id: FlowId, now: Time) {
        let bound: Vec<f64> = self.flows.values().filter(|flow| flow.is_bound()).map(Flow::window).collect();
        let window = (!bound.is_empty()).then(|| bound.iter().sum::<f64>() / (bound.len() + 1) as f64);
        if window.is_some() {
            let share = bound.len() as f64 / (bound.len() + 1) as f64;
            self.flows.values_mut().filter(|flow| flow.is_bound()).for_each(|flow| flow.scale(share));
        }
        self.flows.insert(id, Flow::new(window, now));
    }

    fn is_fast(&mut self, span: f64, now: Time) -> bool {
        let moved: f64 = self.flows.values().map(|flow| flow.moved).sum();
        self.brisk += (moved - self.brisk) * (1.0 - (-span / FAST_SPAN).exp());
        if self.brisk >= FAST {
            self.fast = Some(now);
        }
        self.fast.is_some_and(|fast| now.since(fast) < FAST_MEMORY)
    }

    fn common(&mut self, samples: &[(FlowId, Sample)], base: f64, span: f64, now: Time) -> Look {
        let moved: f64 = self.flows.values().map(|flow| flow.moved).sum();
        // Over a second: acknowledgements come in bursts after losses, and a burst is no capacity.
        self.moved += (moved - self.moved) * (1.0 - (-span / PEAK_SPAN).exp());
        self.peak = (self.peak * (-span / PEAK_MEMORY).exp()).max(self.moved);
        let wanting = samples.iter().filter(|(_, sample)| sample.wanting).count().max(1) as f64;
        let mss = samples.iter().map(|(_, sample)| sample.mss).max().unwrap_or(0);
        let floor = (self.peak * FLOOR_SHARE).max(FLOOR_SEGMENTS * f64::from(mss)) / wanting;
        // Draft §4.2; the look is part of the round trip that is steered over.
        let trip = base + LOOK_EVERY.as_secs_f64();
        let gain = 1.0 / (2.0 * TARGET.as_secs_f64() / trip).ceil().clamp(1.0, 16.0) / wanting;
        let half = self.peak / 2.0;
        // Less than a segment is no queue.
        let target = self.buffer.target(base, now).max(self.base.segment.min(LONGEST_WAIT));
        let beside = moved < self.peak * ALMOST_ALL && base > target * SHORT_BUFFER;
        let (crowded, share, known) = (moved < half, SEGMENTS / wanting, half / wanting);
        Look {
            base,
            target,
            little: (target / 4.0).min(LITTLE),
            gain,
            share,
            floor,
            crowded,
            beside,
            brief: beside && target < TARGET.as_secs_f64() / 2.0,
            known,
            now,
        }
    }

    /// Brings flows that stand in a queue closer together, the sum of their windows unchanged: they are known here, and need
    /// not find out by themselves.
    fn level(&mut self, look: &Look, span: f64) {
        let stands = |flow: &Flow| flow.is_steady() && flow.queue > look.target / 2.0;
        let windows: Vec<f64> = self.flows.values().filter(|flow| stands(flow)).map(Flow::window).collect();
        let mean = windows.iter().sum::<f64>() / windows.len() as f64;
        let trip = look.base + look.target + LOOK_EVERY.as_secs_f64();
        let part = (span / trip).min(1.0) * LEVELLING;
        for flow in self.flows.values_mut().filter(|flow| stands(flow)) {
            flow.approach(mean, part);
        }
    }

    fn time_slowdown(&mut self, look: &Look) {
        let now = look.now;
        let trip = self.flows.values().filter(|flow| flow.is_bound()).map(Flow::trip).reduce(f64::max);
        let Some(trip) = trip else {
            self.slowdown = Slowdown::None;
            return;
        };
        let after = |seconds: f64| now + Duration::from_secs_f64(seconds);
        match self.slowdown {
            Slowdown::None => self.slowdown = Slowdown::At(after(FIRST_SLOWDOWN * trip)),
            Slowdown::At(at) if now >= at => {
                self.flows.values_mut().for_each(|flow| flow.slow(look));
                self.slowdown =
                    Slowdown::Holding { began: now, until: after((SLOWDOWN_HOLD * trip).max(LEAST_HOLD)) };
            }
            Slowdown::Holding { began, until } if now >= until => {
                self.flows.values_mut().for_each(Flow::resume);
                self.slowdown = Slowdown::Ramping { began };
            }
            Slowdown::Ramping { began } if !self.flows.values().any(Flow::is_ramping) => {
                let rest = now.since(began).mul_f64(SLOWDOWN_SHARE);
                self.slowdown = Slowdown::At(self.beat_after(now + rest));
            }
            _ => {}
        }
    }

    /// The first multiple of [`SLOWDOWN_EVERY`] on the shared clock that comes after `time`.
    fn beat_after(&self, time: Time) -> Time {
        let (every, ahead) = (SLOWDOWN_EVERY.as_micros(), self.ahead.as_micros());
        let passed = (u128::from(time.micros()) + ahead) % every;
        time + Duration::from_micros(u64::try_from(every - passed).unwrap_or(0))
    }
}
