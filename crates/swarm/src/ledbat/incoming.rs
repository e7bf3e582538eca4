//! What a receiver makes of its kernel's figures: a sender's pause is no queue.
//!
//! The kernel measures a receiver's round trip from an acknowledgement to the first segment that echoes its timestamp
//! (RFC 7323 §3). Whoever sends in portions, as servers that pace their downloads do, sends nothing meanwhile: that first
//! segment after a pause tells how long the pause was.

use std::time::Duration;

use super::latest::{SHARE, undone};
use super::{LOOK_EVERY, Sample};
use crate::Time;

/// Something may come as long as something has come so lately: at the least rate segments are a second apart.
const WANTING: Duration = Duration::from_secs(1);
/// Control round trips without a segment after which the sender has none: each round trip brings what the window holds.
const PAUSE: f64 = 1.5;
/// How exactly the kernel tells since when nothing has come (its timer's interval), and a timestamp.
const TICK: f64 = 0.005;
/// Less than so many segments of window: it is read slowly, and pauses are ours.
const FEW: u64 = 8;
/// What comes between two pauses fills the window, more or less: a sender may have waited for acknowledgements.
const FULL: [f64; 2] = [0.5, 1.5];

/// What the kernel knows of a connection that brings data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The receiver's smoothed round trip. Zero: not known yet.
    pub rtt: Duration,
    /// The shortest one of what was sent from here, the handshake's as a rule; zero: not known.
    pub min_rtt: Duration,
    /// Time since something last came.
    pub quiet: Duration,
    /// Bytes in a full segment.
    pub mss: u32,
    /// Bytes that have come, ever.
    pub delivered: u64,
    /// Segments that came out of order, ever: behind each gap that a loss leaves come some.
    pub out_of_order: u64,
}

/// One connection that brings data, from look to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Incoming {
    /// The kernel's smoothed round trip at the last look, in seconds, and how much of it comes from pauses.
    smoothed: f64,
    paused: f64,
    latest: f64,
    delivered: u64,
    /// When something last came, as was known at the last look.
    came: Time,
    /// Looks in a row at which nothing had come, and the bytes that have come since there was one.
    empty: u32,
    burst: u64,
}

impl Incoming {
    /// Takes a look. `window`: what was let be under way, in bytes; `None`: no bound.
    pub fn take(&mut self, heard: &Received, window: Option<u64>, now: Time) -> Sample {
        let moved = heard.delivered.saturating_sub(self.delivered);
        let slow = window.is_some_and(|window| window < FEW * u64::from(heard.mss));
        let trip = self.latest + LOOK_EVERY.as_secs_f64();
        let pausing = moved == 0 && !slow && heard.quiet.as_secs_f64() > PAUSE * trip;
        if moved == 0 {
            self.empty = self.empty.saturating_add(1);
        } else {
            self.measured(heard, moved, slow, window, now);
            self.delivered = heard.delivered;
            self.came = now - heard.quiet;
        }
        Sample {
            rtt: Duration::from_secs_f64(self.latest),
            smoothed: Duration::from_secs_f64((self.smoothed - self.paused).max(0.0)),
            min_rtt: heard.min_rtt,
            mss: heard.mss,
            delivered: heard.delivered,
            resent: heard.out_of_order,
            wanting: heard.quiet < WANTING && !pausing,
        }
    }

    /// `moved` bytes have come, and with them perhaps a measurement or some.
    fn measured(&mut self, heard: &Received, moved: u64, slow: bool, window: Option<u64>, now: Time) {
        let smoothed = heard.rtt.as_secs_f64();
        let change = smoothed - self.smoothed;
        if self.smoothed == 0.0 {
            // The server took its time to begin.
            let least = heard.min_rtt.as_secs_f64();
            self.paused = if least > 0.0 { (smoothed - least).max(0.0) } else { 0.0 };
            self.latest = smoothed - self.paused;
        } else if change < 0.0 {
            // What pauses have added goes first. The rest is no mean: a shorter round trip is taken as it is (Linux since
            // June 2025), and to undo a smoothing that was none would make it shorter than any.
            self.paused = (self.paused + change).max(0.0);
            self.latest = self.latest.min(smoothed - self.paused);
        } else if change > 0.0 {
            // As long as all that was sent before is acknowledged there is one measurement, and no more than the pause in
            // it. A queue is seen by each acknowledgement.
            let (one, silence) = (self.smoothed + change / SHARE, now.since(self.came).as_secs_f64());
            if self.empty > 0 && !slow && !self.full(window) && one <= silence + TICK {
                self.paused += change;
            } else {
                self.paused = 0.0;
                self.latest = undone(self.smoothed, smoothed, moved.div_ceil(u64::from(heard.mss.max(1))));
            }
        }
        self.smoothed = smoothed;
        self.burst = if self.empty > 0 { moved } else { self.burst.saturating_add(moved) };
        self.empty = 0;
    }

    /// Whether what came between two pauses is about what the window holds.
    fn full(&self, window: Option<u64>) -> bool {
        let part = |window: u64| self.burst as f64 / window.max(1) as f64;
        window.map(part).is_some_and(|part| (FULL[0]..FULL[1]).contains(&part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 1448;

    /// A connection and its kernel: looks every 20 ms.
    struct Line {
        incoming: Incoming,
        now: Time,
        smoothed: f64,
        delivered: u64,
        came: Time,
        window: Option<u64>,
    }

    impl Line {
        /// Has run at 10 ms for a while.
        fn new(window: Option<u64>) -> Self {
            let now = Time::from_micros(1_000_000);
            let mut line =
                Self { incoming: Incoming::default(), now, smoothed: 0.0, delivered: 0, came: now, window };
            (0..20).for_each(|_| assert!(line.look(10, &[0.010]).wanting));
            line
        }

        /// `segments` come, which measure `round trips`.
        fn look(&mut self, segments: u64, round_trips: &[f64]) -> Sample {
            self.now = self.now + LOOK_EVERY;
            self.delivered += segments * MSS;
            if segments > 0 {
                self.came = self.now;
            }
            for rtt in round_trips {
                let longer = self.smoothed > 0.0 && *rtt > self.smoothed;
                self.smoothed += (rtt - self.smoothed) * if longer { SHARE } else { 1.0 };
            }
            let heard = Received {
                rtt: Duration::from_secs_f64(self.smoothed),
                min_rtt: Duration::ZERO,
                quiet: self.now.since(self.came),
                mss: MSS as u32,
                delivered: self.delivered,
                out_of_order: 0,
            };
            self.incoming.take(&heard, self.window, self.now)
        }

        fn pause(&mut self, looks: u32) {
            (0..looks).for_each(|_| {
                self.look(0, &[]);
            });
        }
    }

    fn near(sample: Sample, wanted: f64) {
        let found = sample.rtt.as_secs_f64();
        assert!((found - wanted).abs() < 0.002, "{found} {wanted}");
    }

    #[test]
    fn the_first_segment_after_a_pause_tells_of_the_pause() {
        let mut line = Line::new(None);
        for _ in 0..30 {
            line.pause(20);
            near(line.look(40, &[0.410]), 0.010);
        }
        // Portions of several round trips measure the path, too.
        line.pause(20);
        near(line.look(40, &[0.410, 0.011, 0.012]), 0.011);
        near(line.look(40, &[0.011]), 0.011);
    }

    #[test]
    fn a_queue_after_a_pause_is_a_queue() {
        let mut line = Line::new(None);
        line.pause(20);
        line.look(40, &[0.410]);
        assert!(line.look(10, &[0.080; 5]).rtt >= Duration::from_millis(60));
        let mut line = Line::new(None);
        line.pause(4);
        // Each acknowledgement of what came before saw it.
        assert!(line.look(10, &[0.080; 5]).rtt >= Duration::from_millis(40));
    }

    #[test]
    fn a_sender_that_pauses_rests() {
        let mut line = Line::new(None);
        assert!(line.look(0, &[]).wanting && line.look(0, &[]).wanting);
        line.pause(1);
        assert!(!line.look(0, &[]).wanting);
        assert!(line.look(1, &[0.010]).wanting);
    }

    /// What fills the window may have waited for the acknowledgements of what filled it before.
    #[test]
    fn a_window_at_a_time_is_a_queue() {
        let rtt = |window, segments| {
            let mut line = Line::new(Some(window * MSS));
            for _ in 0..10 {
                line.pause(4);
                line.look(segments, &[0.100]);
            }
            line.incoming.latest
        };
        assert!(rtt(20, 18) > 0.06 && rtt(3, 1) > 0.06);
        assert!(rtt(20, 5) < 0.011 && rtt(20, 60) < 0.011);
    }

    #[test]
    fn nonsense_does_no_harm() {
        let mut incoming = Incoming::default();
        let values = [0, 1, u64::from(u32::MAX)];
        for (at, rtt) in values.iter().chain(&values).cycle().take(60).enumerate() {
            let micros = |by: usize| Duration::from_micros(values[(at / by) % 3]);
            let heard = Received {
                rtt: Duration::from_micros(*rtt),
                min_rtt: micros(2),
                quiet: micros(3),
                mss: values[(at / 4) % 3] as u32,
                delivered: values[(at / 5) % 3] << 31,
                out_of_order: 0,
            };
            incoming.take(
                &heard,
                (at % 7 > 3).then_some(values[at % 3]),
                Time::from_micros(at as u64 * 20_000),
            );
        }
    }
}
