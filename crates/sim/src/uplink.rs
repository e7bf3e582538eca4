//! An uplink that several flows share fairly: they take turns, a few blocks at a time, as TCP flows on a bottleneck do.
//!
//! The same model sends for devices (a flow is a connection) and for HTTP sources (a flow is a range).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerage_content::BLOCK_SIZE;
use peerage_swarm::Time;

use crate::link::{Link, mbit};

/// A flow fills the way to its receiver and this much of the queue before the receiver's downlink.
pub(crate) const QUEUE: Duration = Duration::from_millis(50);
const MIN_WINDOW: u64 = 128 << 10;

/// Bytes of one flow on their way at most, over a one-way `latency` to a receiver that takes in `rate` bytes a second.
/// A slow receiver holds its own flow back, nobody else's.
pub(crate) fn window(rate: u64, latency: Duration) -> u64 {
    ((rate as f64 * (2 * latency + QUEUE).as_secs_f64()) as u64).max(MIN_WINDOW)
}

/// Bytes `[at, end)` of the content, to be sent in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) at: u64,
    pub(crate) end: u64,
    pub(crate) wrong: bool,
}

/// A few bytes of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    /// Offset in the content.
    pub(crate) at: u64,
    pub(crate) len: u32,
    /// Where the job ends that they are part of.
    pub(crate) until: u64,
    pub(crate) wrong: bool,
}

/// A few bytes that leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantum<F> {
    pub(crate) flow: F,
    pub(crate) bytes: Bytes,
    /// Bytes of the job that ends with it.
    pub(crate) ends: Option<u32>,
    /// When its first and its last byte leave.
    pub(crate) leaves: (Time, Time),
}

#[derive(Debug, Default)]
struct Flow {
    jobs: VecDeque<(Job, u32)>,
    on_the_way: u64,
    window: u64,
    /// Its bytes found a queue on their way: it sends the next when they have arrived, as TCP does that gets no more
    /// acknowledgements than the narrow link lets through.
    congested: bool,
    /// It is among those that take turns.
    queued: bool,
}

#[derive(Debug)]
pub(crate) struct Uplink<F> {
    pub(crate) link: Link,
    /// Bytes that have left.
    pub(crate) sent: u64,
    /// Nothing leaves for now.
    pub(crate) stopped: bool,
    flows: BTreeMap<F, Flow>,
    turns: VecDeque<F>,
    sending: bool,
    /// Bytes that leave at once, if the link is fast.
    quantum: u64,
}

impl<F: Ord + Copy> Uplink<F> {
    pub(crate) const fn new(rate: u64, quantum: u64) -> Self {
        Self {
            link: Link::new(rate),
            sent: 0,
            stopped: false,
            flows: BTreeMap::new(),
            turns: VecDeque::new(),
            sending: false,
            quantum,
        }
    }

    /// Adds a job to a flow that may have `window` bytes on their way.
    pub(crate) fn push(&mut self, flow: F, job: Job, window: u64) {
        let state = self.flows.entry(flow).or_default();
        state.window = window;
        state.jobs.push_back((job, (job.end - job.at) as u32));
        self.queue(flow);
    }

    /// Forgets what a flow has not sent.
    pub(crate) fn close(&mut self, flow: F) {
        self.flows.remove(&flow);
        self.turns.retain(|turn| *turn != flow);
    }

    /// Forgets all flows; returns them.
    pub(crate) fn close_all(&mut self) -> Vec<F> {
        self.turns.clear();
        std::mem::take(&mut self.flows).into_keys().collect()
    }

    /// The first flow from `flow` on, in order.
    pub(crate) fn flow_from(&self, flow: F) -> Option<F> {
        self.flows.range(flow..).next().map(|(flow, _)| *flow)
    }

    fn queue(&mut self, flow: F) {
        let Some(state) = self.flows.get_mut(&flow) else { return };
        let most = if state.congested { 1 } else { state.window };
        if !state.queued && !state.jobs.is_empty() && state.on_the_way < most {
            state.queued = true;
            self.turns.push_back(flow);
        }
    }

    /// The next bytes, if the link is free and somebody waits.
    pub(crate) fn send_next(&mut self, now: Time) -> Option<Quantum<F>> {
        if self.sending || self.stopped {
            return None;
        }
        let flow = self.turns.pop_front()?;
        let state = self.flows.get_mut(&flow)?;
        state.queued = false;
        let (job, size) = state.jobs.front_mut()?;
        // On a slow link, progress must be seen block by block, as the real store reports it.
        let most = if self.link.rate >= mbit(100.0) { self.quantum } else { u64::from(BLOCK_SIZE) };
        let (at, end) = (job.at, job.end.min((job.at / most + 1) * most));
        let (len, size) = (end - at, *size);
        let bytes = Bytes { at, len: len as u32, until: job.end, wrong: job.wrong };
        job.at = end;
        let done = job.at == job.end;
        if done {
            state.jobs.pop_front();
        }
        state.on_the_way += len;
        self.sent += len;
        self.sending = true;
        let ends = done.then_some(size);
        Some(Quantum { flow, bytes, ends, leaves: self.link.take(len, now) })
    }

    /// What `flow` has just sent found a queue on its way, or none.
    pub(crate) fn went(&mut self, flow: F, congested: bool) {
        if let Some(state) = self.flows.get_mut(&flow) {
            state.congested = congested;
            self.queue(flow);
        }
    }

    /// The last bytes have left.
    pub(crate) fn free(&mut self) {
        self.sending = false;
    }

    /// Bytes have arrived: there is room in the window again.
    pub(crate) fn landed(&mut self, flow: F, len: u32) {
        let Some(state) = self.flows.get_mut(&flow) else { return };
        state.on_the_way = state.on_the_way.saturating_sub(u64::from(len));
        if state.jobs.is_empty() && state.on_the_way == 0 {
            self.flows.remove(&flow);
        } else {
            self.queue(flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_SIZE as u64;

    #[test]
    fn flows_take_turns() {
        let mut uplink = Uplink::new(1 << 20, 4 * BLOCK);
        uplink.push(0, Job { at: 0, end: 3 * BLOCK, wrong: false }, 8 * BLOCK);
        uplink.push(1, Job { at: 5, end: 100, wrong: true }, 8 * BLOCK);
        let mut order = Vec::new();
        while let Some(quantum) = uplink.send_next(Time::ZERO) {
            order.push((quantum.flow, quantum.ends));
            assert!(uplink.send_next(Time::ZERO).is_none());
            uplink.went(quantum.flow, false);
            uplink.free();
        }
        assert_eq!(order, [(0, None), (1, Some(95)), (0, None), (0, Some(3 * BLOCK_SIZE))]);
        assert_eq!(uplink.sent, 3 * BLOCK + 95);
    }

    #[test]
    fn a_slow_receiver_holds_its_own_flow_back() {
        assert_eq!((window(1, Duration::ZERO), window(1 << 30, QUEUE)), (MIN_WINDOW, (1 << 30) * 3 / 20));
        let mut uplink = Uplink::new(1 << 30, 4 * BLOCK);
        uplink.push(7, Job { at: 0, end: 16 * BLOCK, wrong: false }, 8 * BLOCK);
        let mut on_the_way = 0;
        while let Some(quantum) = uplink.send_next(Time::ZERO) {
            on_the_way += u64::from(quantum.bytes.len);
            uplink.went(quantum.flow, false);
            uplink.free();
        }
        assert_eq!(on_the_way, 8 * BLOCK);
        uplink.push(8, Job { at: 0, end: BLOCK, wrong: false }, 8 * BLOCK);
        assert_eq!(uplink.send_next(Time::ZERO).map(|quantum| quantum.flow), Some(8));
        uplink.free();
        uplink.landed(7, BLOCK_SIZE);
        assert_eq!(uplink.send_next(Time::ZERO).map(|quantum| quantum.flow), Some(7));
        uplink.free();
        uplink.went(7, true);
        uplink.landed(7, 6 * BLOCK_SIZE);
        assert!(uplink.send_next(Time::ZERO).is_none());
        uplink.landed(7, 5 * BLOCK_SIZE);
        assert!(uplink.send_next(Time::ZERO).is_some());
    }
}
