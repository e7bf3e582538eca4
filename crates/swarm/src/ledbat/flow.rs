//! One flow: how much of it may be under way, as one explicit state machine.

use std::time::Duration;

use super::LOOK_EVERY;
use crate::Time;

/// Round trips with next to no queue after which a steady flow looks for more by doubling.
const QUIET_TRIPS: f64 = 4.0;
/// The same, when the path carries already what it was known to carry: it may have become faster.
const SEARCH_TRIPS: f64 = 12.0;
/// And somebody else's queue must not have been too long for this while: a CUBIC flow at a short buffer leaves the queue empty for
/// seconds after each of its losses, and is not gone.
const CALM: Duration = Duration::from_secs(10);
/// Round trips for which the limit must have been far from binding until it is lifted.
const FREE_TRIPS: f64 = 8.0;
/// Besides the gain, a window grows by this share of itself while there is next to no queue: the gain alone would take
/// minutes to fill a gigabit again. Closer to the target growth must be of segments, or two flows never become equal.
const SCALE: f64 = 1.0 / 32.0;
/// The window that is right falls with the square of the queue: it is [`Look::share`] at so many seconds of it or at such a part
/// of the target, whichever is less. The more flows, the longer is their queue, and the less matters what each takes for the path
/// without one: 3 ms are a quarter of the window at 28 ms. Were it to fall by e for each so many milliseconds they would matter
/// alike beside many; if all went straight for the target, who sees it last would take everything, if slowly.
const REFERENCE: f64 = 0.0135;
const REFERENCE_PART: f64 = 0.45;
/// Beyond the target it falls besides, by e for each such part of it.
const BEYOND_PART: f64 = 7.5;
/// Beyond this many targets a window is cut, too. A CUBIC flow's queue is there nearly always (RFC 9438 §4.6: 0.7 of the
/// buffer); that of our own is not, or the one that has learned the shortest target would be cut alone.
const CUT: f64 = 1.4;
/// Part of the way to the right window that a window goes in a round trip.
const LEAN: f64 = 1.0 / 64.0;
/// Where round trips are long it goes less: the queue answers a round trip later, and may change by no more than this part of what
/// makes the right window another one.
const STABLE: f64 = 0.15;
/// "Far": the limit is this many times what the flow moves.
const FAR: f64 = 4.0;
/// Looks in a row that must see too long a queue before a flow that is not limited becomes so: a burst after a pause, or a
/// machine that is busy for a moment, is no congestion.
const FIRM: u32 = 4;
/// A flow that moves less than this between two looks, and wants no more, has nothing to say of the path.
const RESTING_SEGMENTS: u64 = 8;
/// Nothing under way for this long: the flow begins anew.
const IDLE: Duration = Duration::from_secs(10);
/// A flow that rests for no longer than this may be a sender's pause: what comes after it is not to wait for a look.
const FRESH: Duration = Duration::from_secs(1);

/// The caller's name for a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

/// What the kernel knows of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The latest round trip ([`Latest`](super::Latest)). Zero: not known yet.
    pub rtt: Duration,
    /// The smoothed one: a mean of measured ones, so nothing in it is extrapolated.
    pub smoothed: Duration,
    /// Shortest round trip, if known apart from `rtt`; else zero.
    pub min_rtt: Duration,
    /// Bytes in a full segment.
    pub mss: u32,
    /// Bytes that have arrived at the other side (or here, when receiving), ever.
    pub delivered: u64,
    /// Bytes that were sent again, ever; zero when that is not known.
    pub resent: u64,
    /// Whether there is more to send than what is under way.
    pub wanting: bool,
}

/// What holds for all flows of a governor during one look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// The round trip without a queue, in seconds.
    pub(super) base: f64,
    /// The queue to steer to, in seconds.
    pub(super) target: f64,
    /// Segments that one flow may add a round trip.
    pub(super) gain: f64,
    /// Next to no queue, in seconds.
    pub(super) little: f64,
    /// Segments under way that are right for a flow at the queue of reference.
    pub(super) share: f64,
    /// No flow goes slower than this, in bytes/s.
    pub(super) floor: f64,
    /// All flows together move less than half of what the path has carried: a queue that stands nevertheless is not theirs.
    pub(super) crowded: bool,
    /// They move less than the path has carried, and its buffer is short beside its round trip: another flow that lost packets with
    /// theirs comes back slowly, and only what is not taken meanwhile lets it.
    pub(super) beside: bool,
    /// And that buffer holds less than would be steered to.
    pub(super) brief: bool,
    /// Bytes a second that are surely to be had for each flow when the path is free.
    pub(super) known: f64,
    pub(super) now: Time,
}

/// How the window moves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Not limited: TCP's own slow start and what follows it.
    Free,
    /// Doubling a round trip; up to `to` bytes after a slowdown, until there is a queue otherwise.
    Ramp { to: Option<f64> },
    /// The draft's congestion avoidance.
    Steady,
    /// Next to nothing, so that the queue goes away; then back to `back` bytes.
    Slow { back: f64, rate: f64 },
}

#[derive(Debug, Clone)]
pub(super) struct Flow {
    phase: Phase,
    /// Bytes that may be under way in a control round trip.
    window: f64,
    /// Bytes that a receiver lets be under way.
    opened: f64,
    /// Bytes that have come since the look before.
    arrived: f64,
    /// Round trip and queue at the last look, in seconds.
    rtt: f64,
    pub(super) queue: f64,
    /// Bytes a second that arrive, smoothed over two control round trips.
    pub(super) moved: f64,
    mss: f64,
    delivered: u64,
    resent: u64,
    looked: Option<Time>,
    /// Time with next to no queue, and time with a limit that does not bind, in control round trips.
    quiet: f64,
    far: f64,
    /// Looks in a row with too long a queue.
    over: u32,
    active: Time,
    /// Last reduction because of a loss.
    halved: Time,
    /// When somebody else's queue was last beyond the target, or full.
    pressed: Time,
}

impl Flow {
    pub(super) fn new(window: Option<f64>, now: Time) -> Self {
        Self {
            phase: if window.is_some() { Phase::Steady } else { Phase::Free },
            window: window.unwrap_or(0.0),
            opened: f64::INFINITY,
            arrived: 0.0,
            rtt: 0.0,
            queue: 0.0,
            moved: 0.0,
            mss: 1448.0,
            delivered: 0,
            resent: 0,
            looked: None,
            quiet: 0.0,
            far: 0.0,
            over: 0,
            active: now,
            halved: Time::ZERO,
            pressed: Time::ZERO,
        }
    }

    /// Lifts the limit.
    pub(super) fn free(&mut self) {
        (self.phase, self.quiet, self.far, self.over) = (Phase::Free, 0.0, 0.0, 0);
    }

    /// Whether full segments have measured the round trip since the last look. A receiver that only knows its handshake's
    /// takes that for the latest.
    pub(super) fn measures(&self, sample: &Sample) -> bool {
        self.looked.is_some() && sample.delivered > self.delivered && sample.rtt != sample.min_rtt
    }

    /// Whether the flow is limited.
    pub(super) fn is_bound(&self) -> bool {
        self.phase != Phase::Free
    }

    /// Whether a ramp after a slowdown is under way.
    pub(super) fn is_ramping(&self) -> bool {
        matches!(self.phase, Phase::Ramp { to: Some(_) })
    }

    pub(super) fn is_steady(&self) -> bool {
        self.phase == Phase::Steady
    }

    pub(super) fn window(&self) -> f64 {
        self.window
    }

    pub(super) fn scale(&mut self, by: f64) {
        self.window *= by;
    }

    /// Goes a part of the way to another window.
    pub(super) fn approach(&mut self, window: f64, part: f64) {
        self.window += (window - self.window) * part;
    }

    /// The control round trip in seconds: until a change of the rate shows, the path's round trip and one look pass. The
    /// second also keeps a window of two segments from being a gigabit a second where the path is short.
    pub(super) fn trip(&self) -> f64 {
        self.rtt + LOOK_EVERY.as_secs_f64()
    }

    /// Bytes a second that the flow may send; `None`: as fast as it can.
    pub(super) fn rate(&self) -> Option<f64> {
        match self.phase {
            Phase::Free => None,
            Phase::Slow { rate, .. } => Some(rate),
            Phase::Ramp { .. } | Phase::Steady => Some(self.window / self.trip()),
        }
    }

    /// Bytes that a receiver lets be under way, so that what it does not read does not wait in the path; `None`: as many as
    /// there may be.
    pub(super) fn opened(&self) -> Option<f64> {
        self.is_bound().then_some(self.opened)
    }

    /// Opens a receiver's window no faster than at the rate: what it opens at once comes at once, and what a short buffer does
    /// not hold of that is lost.
    pub(super) fn open(&mut self, span: f64) {
        self.opened = self.rate().map_or(f64::INFINITY, |rate| {
            (rate * self.rtt).min(self.opened + (rate * span - self.arrived).max(0.0))
        });
    }

    /// Whether this sample tells nothing: the flow has nothing to send, and no more than messages of it have arrived. What
    /// little it moves is its own doing, and so is its round trip: an old one, or that of acknowledgements which
    /// the other side holds back in the hope of more (RFC 9293 §3.8.6.3).
    pub(super) fn is_resting(&self, sample: &Sample) -> bool {
        let few = RESTING_SEGMENTS * u64::from(sample.mss);
        !sample.wanting && self.looked.is_some() && sample.delivered.saturating_sub(self.delivered) < few
    }

    /// Whether it has rested for so long that what was learned of it is no longer true.
    pub(super) fn rest(&mut self, sample: &Sample, now: Time) {
        self.looked = Some(now);
        (self.delivered, self.resent) = (sample.delivered, sample.resent);
        (self.over, self.arrived) = (0, 0.0);
        if now.since(self.active) >= IDLE && !matches!(self.phase, Phase::Slow { .. }) {
            self.free();
        }
    }

    /// Whether it has rested for a moment only.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        now.since(self.active) < FRESH
    }

    /// Takes in what has happened. Returns whether packets were lost.
    pub(super) fn take(&mut self, sample: &Sample, base: f64, now: Time) -> bool {
        let Some(looked) = self.looked.replace(now) else {
            (self.delivered, self.resent) = (sample.delivered, sample.resent);
            self.rtt = sample.rtt.as_secs_f64();
            return false;
        };
        let span = now.since(looked).as_secs_f64().max(1e-6);
        let moved = sample.delivered.saturating_sub(self.delivered);
        let lost = sample.resent > self.resent;
        self.arrived = moved as f64;
        (self.delivered, self.resent) = (sample.delivered, sample.resent);
        self.mss = f64::from(sample.mss.max(1));
        self.rtt = sample.rtt.as_secs_f64();
        self.queue = (self.rtt - base).max(0.0);
        self.moved += (moved as f64 / span - self.moved) * (1.0 - (-span / (2.0 * self.trip())).exp());
        if moved > 0 || sample.wanting {
            self.active = now;
        }
        lost
    }

    /// Moves the window by what one look of `span` seconds is worth.
    pub(super) fn steer(&mut self, look: &Look, wanting: bool, lost: bool, span: f64) {
        let trips = (span / self.trip()).min(1.0);
        if look.now.since(self.active) >= IDLE {
            (self.phase, self.quiet, self.far) = (Phase::Free, 0.0, 0.0);
            return;
        }
        // A loss with next to no queue says nothing of congestion that TCP itself would not answer: no second brake, or a
        // lossy path is never used (Freenet's fate).
        let jammed = lost && self.queue >= look.target / 2.0;
        if look.crowded && (jammed || self.queue > look.target) {
            self.pressed = look.now;
        }
        self.quiet = if self.queue < look.little { self.quiet + trips } else { 0.0 };
        match self.phase {
            Phase::Slow { .. } => return,
            Phase::Free => {
                self.over = if self.queue > look.target { self.over + 1 } else { 0 };
                if self.over >= FIRM {
                    self.over = 0;
                    self.phase = Phase::Steady;
                    self.window = self.enough(look);
                    (self.quiet, self.far) = (0.0, 0.0);
                }
            }
            Phase::Ramp { to } => {
                if wanting {
                    self.window *= trips.exp2();
                }
                let end = match to {
                    Some(to) => self.window >= to,
                    None => self.queue > look.target / 2.0,
                };
                self.window = match to {
                    Some(to) => self.window.min(to),
                    None if end => self.window.min(self.enough(look)),
                    None => self.window,
                };
                if end || jammed {
                    (self.phase, self.quiet) = (Phase::Steady, 0.0);
                }
            }
            Phase::Steady => {
                self.lean(look, wanting, trips);
                let most = look.target * CUT;
                if self.queue > most {
                    let excess = (self.queue / most - 1.0).min(0.5);
                    // What arrived lately, with half the queue, is no congestion: the delay seen is a round trip old, and
                    // a window cut again for the same queue would leave the link idle where round trips are long.
                    let enough = self.enough(look).min(self.window);
                    self.window = (self.window * (1.0 - excess * trips)).max(enough);
                }
                if jammed && look.now.since(self.halved).as_secs_f64() >= self.trip() {
                    let least = if look.beside { 0.0 } else { self.enough(look).min(self.window) };
                    self.window = (self.window / 2.0).max(least);
                    self.halved = look.now;
                }
                let calm = wanting && look.now.since(self.pressed) >= CALM;
                if calm && look.crowded && self.quiet >= QUIET_TRIPS {
                    self.phase = Phase::Ramp { to: Some(look.known * self.trip()) };
                } else if calm && self.quiet >= SEARCH_TRIPS {
                    self.phase = Phase::Ramp { to: None };
                }
            }
        }
        self.bound(look, trips);
    }

    /// Moves towards the window that is right for the queue that is seen: small where it is near the target, and any where
    /// there is next to none.
    fn lean(&mut self, look: &Look, wanting: bool, trips: f64) {
        let queue = self.queue.max(look.little);
        let reference = (look.target * REFERENCE_PART).min(REFERENCE);
        let beyond = (queue - look.target).max(0.0) / look.target * BEYOND_PART;
        let law = look.share * self.mss * (reference / queue).powi(2) * (-beyond).exp();
        let right = if self.queue < look.little { f64::INFINITY } else { law };
        let lean = LEAN.min(STABLE * queue / 2.0 / self.rtt);
        if self.window > right {
            self.window -= (self.window - right) * lean * trips;
        } else if wanting && !(look.brief && look.now.since(self.pressed) < CALM) {
            // What somebody else left empty with that loss will be wanted.
            let scaled = !(look.beside && look.now.since(self.halved) < CALM);
            let most = look.gain * self.mss + if scaled { self.window * SCALE } else { 0.0 };
            self.window += ((right - self.window) * lean).min(most) * trips;
        }
    }

    /// The window that keeps up with what arrives, with half the queue allowed.
    fn enough(&self, look: &Look) -> f64 {
        self.moved * (look.base + look.target / 2.0 + LOOK_EVERY.as_secs_f64())
    }

    /// Keeps the window between the floor and what makes sense for what moves.
    fn bound(&mut self, look: &Look, trips: f64) {
        if self.phase == Phase::Free {
            return;
        }
        let most = FAR * self.moved * self.trip() + 4.0 * self.mss;
        self.far = if self.window >= most && self.queue < look.target / 4.0 { self.far + trips } else { 0.0 };
        self.window = self.window.min(most).max(look.floor * self.trip());
        if self.far >= FREE_TRIPS {
            (self.phase, self.quiet, self.far) = (Phase::Free, 0.0, 0.0);
        }
    }

    /// Begins a slowdown: two segments a round trip, and never more than a quarter of what it was. Not much less either: of
    /// several flows with few segments each, every one must measure the path meanwhile.
    pub(super) fn slow(&mut self, look: &Look) {
        let Some(rate) = self.rate() else { return };
        if matches!(self.phase, Phase::Slow { .. }) {
            return;
        }
        // What it has tried last may be more than what it has found.
        let back = self.window.min(self.enough(look));
        let two = 2.0 * self.mss / (look.base + LOOK_EVERY.as_secs_f64());
        self.phase = Phase::Slow { back, rate: two.min(rate / 4.0) };
    }

    /// Ends a slowdown.
    pub(super) fn resume(&mut self) {
        if let Phase::Slow { back, .. } = self.phase {
            self.window = back / 4.0;
            self.phase = Phase::Ramp { to: Some(back) };
        }
    }
}
