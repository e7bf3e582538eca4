//! Low priority: LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus-06), steering by rate where the draft steers by window.
//!
//! A [`Governor`] looks after all flows that share one bottleneck, as far as that can be known. Every [`LOOK_EVERY`] it is
//! given a [`Sample`] of each flow and says how fast each may go. Whoever calls it owns the sockets: a sender sets its
//! pacing rate, a receiver bounds its window and how fast it reads (RFC 9840). Underneath, TCP's own congestion control
//! goes on working; what holds is the lower of the two.
//!
//! Beside the draft, section by section. Figures are of the model in `tests/ledbat`; `tests/ledbat/trace.rs` holds a flow against
//! the draft's figures, look by look.
//!
//! | draft | here | why |
//! | --- | --- | --- |
//! | §4.1 initial slow start: two packets, growth times GAIN, left at 3/4 of the target | TCP's own: no limit ([`Governor::rate`] is `None`) until the queue was beyond 3/4 of [`TARGET`] (or half the buffer, once that is known) in four looks in a row | fast local networks and flows that rest are left alone, and a busy machine's moment is no queue |
//! | §4.2 GAIN = 1/min(16, ⌈2·TARGET/base⌉), §4.3 below the target W += GAIN | that gain, for all flows of a governor together; 1/32 of the window more while there is next to no queue; and no further than to a window that is the smaller the longer the queue is | the gain alone takes minutes to fill a gigabit again. Growth up to the target gives everything to the flow that sees less of the queue: of two at 10 Mbit/s with 50 ms of buffer one ended with 99 % |
//! | §4.3 above the target W += max(GAIN − W·(delay/target − 1), −W/2) a round trip | the same from 1.4 times what is steered to (63 ms), at most a half a round trip; not below what arrives just now with half the queue | the delay seen is a round trip old: cut again for the same queue, a far flow leaves the link idle |
//! | §4.3 a loss halves | only with half of the aimed-at queue; TCP underneath heeds each | random losses would be answered twice, and a lossy path never used |
//! | §4.3 no less than two packets | 1/128 of what the path has carried | with 20 ms of buffer at 10 Mbit/s two segments a round trip are 12 % of the link |
//! | §4.4 slowdown two round trips after slow start, of two packets for two round trips, then slow start up to where it began | the same, for all flows of a governor at once; for a quarter of a second at least; as far as two packets are less than a quarter; the way back begins at a quarter, ends at what was arriving, and is left for a loss only | what eight receivers have let come takes 0.15 s to go away, and then each must get a segment; from two packets a far flow needs seven round trips more. Left because of the delay that it causes itself, the way back is followed by slowdown upon slowdown |
//! | §4.4 nine times the duration until the next | nineteen times, and then on to a whole ten seconds of the clock that the devices share | nine times may cost a tenth of the link, and 95 % are to be used; and only while all are slow is their queue gone, for those too that have never seen the path without it |
//! | §4.5 round trips, the least of the last four against a minimum of ten minutes | that of full segments: a handshake passes a thin link in no time; never less than 4 ms; the mean of those since the last look, the kernel's smoothing undone ([`Latest`]); the minimum in buckets of a minute (RFC 6817 §4.3) | the kernel tells a smoothed one only, and a receiver's milliseconds |
//! | §4.5 a target of 60 ms | steered to 3/4 of it at most, and to [half](MAX_FILL) of what the bottleneck's buffer holds, learned from losses | a target beyond the buffer makes an ordinary flow of it, which only losses stop |
//!
//! A "round trip" here is a control round trip: the path's, and one look. A receiver's kernel takes pauses of the sender for
//! round trips: [`Incoming`] knows them apart.

mod base;
mod buffer;
mod flow;
mod governor;
mod incoming;
mod latest;

use std::time::Duration;

pub use flow::{FlowId, Sample};
pub use governor::Governor;
pub use incoming::{Incoming, Received};
pub use latest::Latest;

/// The most that a governor's flows may add to the round trip of others (draft §4.2).
pub const TARGET: Duration = Duration::from_millis(60);
/// How often a governor wants to look while bytes flow. Part of each control round trip.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Share of the bottleneck's buffer that the standing queue may take. A cubic flow's queue swings between 0.7 and 1 of
/// the buffer (RFC 9438 §4.6), so it is always seen as congestion.
pub const MAX_FILL: f64 = 0.5;
