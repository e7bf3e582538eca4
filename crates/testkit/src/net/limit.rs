//! A bottleneck: a token bucket with a finite queue, `tc tbf`.

use anyhow::Result;

use crate::tool;

/// A rate limit of one direction of a cable, with its buffer. Amounts are spelt as tc(8) has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    rate: String,
    burst: String,
    latency: String,
}

impl Limit {
    /// A limit of `rate`, such as `100mbit`, with a burst of 64 KiB and a buffer of 50 ms: a good home router.
    pub fn rate(rate: &str) -> Self {
        Self { rate: rate.to_owned(), burst: "64kb".to_owned(), latency: "50ms".to_owned() }
    }

    /// How much may pass at once, such as `16kb`. Above 500 Mbit/s use `256kb`: the kernel's timers are not finer.
    #[must_use]
    pub fn burst(self, burst: &str) -> Self {
        Self { burst: burst.to_owned(), ..self }
    }

    /// How long a packet may wait before the queue is full and the next is dropped, such as `200ms`.
    #[must_use]
    pub fn latency(self, latency: &str) -> Self {
        Self { latency: latency.to_owned(), ..self }
    }

    pub(super) fn apply(&self, netns: &str, device: &str) -> Result<()> {
        let tbf = ["rate", &self.rate, "burst", &self.burst, "latency", &self.latency];
        let root = ["-n", netns, "qdisc", "replace", "dev", device, "root", "tbf"];
        tool::run("tc", root.iter().chain(&tbf)).map(drop)
    }
}

impl From<&str> for Limit {
    fn from(rate: &str) -> Self {
        Self::rate(rate)
    }
}
