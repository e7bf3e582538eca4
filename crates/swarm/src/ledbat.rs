//! Low priority: LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus-06), steering by rate where the draft steers by window.
//!
//! A [`Governor`] looks after all flows that share one bottleneck, as far as that can be known. Every [`LOOK_EVERY`] it is
//! given a [`Sample`] of each flow and says how fast each may go. Whoever calls it owns the sockets: a sender sets its
//! pacing rate, a receiver bounds its window and how fast it reads (RFC 9840). Underneath, TCP's own congestion control
//! goes on working; what holds is the lower of the two.
//!
//! What is taken from the draft, and where this differs:
//! - §4.1 the [latest](Latest) round-trip times against their minimum; the minimum is of 10 min, in buckets of 1 min
//!   (RFC 6817 §4.3).
//! - §4.2 the standing queue is at most [`TARGET`], 60 ms. Here that is the most that may be added: the queue is steered
//!   to three quarters of it at most, and below [half](MAX_FILL) of what the bottleneck's buffer holds. A fixed target
//!   above the buffer makes LEDBAT an ordinary flow that only losses stop; so the buffer is learned, from losses.
//! - §4.2 multiplicative decrease in proportion to the excess over 1.4 targets, at most one half a round trip, and
//!   not below what arrives just now with half the queue. Additive increase by the gain 1/min(16, ⌈2·TARGET/base⌉) segments
//!   at most, faster while there is no queue, and no further than to a window that is the smaller the longer the queue
//!   is. That makes flows equal whose base delays or targets differ, as those of latecomers do, and the queue of a few
//!   flows a third of the target; with increase up to the target the one that sees less of the queue, or has learned of
//!   a longer buffer, ends up with everything. All flows of a governor together increase as one.
//! - §4.3 slow start is TCP's own, here ended at half the target: a flow is not limited ([`Governor::rate`] is `None`) until
//!   its queue has grown, and again once its limit has long been far above what it moves. Fast local networks, and flows
//!   that rest, are left alone.
//! - §4.4 slowdown, for all flows of a governor at once, so that the queue is gone and its absence is measured; then a
//!   ramp back to where it began, whatever the delay does meanwhile. At most a tenth of the time, at most every 10 s.
//! - The least rate is a share of what the path has carried, not 2 segments a round trip: with 20 ms of buffer at
//!   10 Mbit/s the latter are 12 % of the link.

mod base;
mod buffer;
mod flow;
mod governor;
mod latest;

use std::time::Duration;

pub use flow::{FlowId, Sample};
pub use governor::Governor;
pub use latest::Latest;

/// The most that a governor's flows may add to the round trip of others (draft §4.2).
pub const TARGET: Duration = Duration::from_millis(60);
/// How often a governor wants to look while bytes flow. Part of each control round trip.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Share of the bottleneck's buffer that the standing queue may take. A cubic flow's queue swings between 0.7 and 1 of
/// the buffer (RFC 9438 §4.6), so it is always seen as congestion.
pub const MAX_FILL: f64 = 0.5;
