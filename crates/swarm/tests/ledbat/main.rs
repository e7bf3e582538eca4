//! The governor on a bottleneck in virtual time: what it leaves to others, what it uses alone, and the mistakes that other
//! implementations of LEDBAT++ made, all of which lived on paths that nobody had tried.

mod flow;
mod link;
mod trace;

use std::time::Duration;

use flow::Source;
use link::{Path, Span, World};
use peerage_swarm::ledbat::TARGET;

const BASES: [f64; 5] = [0.2, 5.0, 50.0, 150.0, 300.0];
const BUFFERS: [u64; 4] = [20, 50, 200, 500];

fn path(base_ms: f64, buffer_ms: u64, loss: f64) -> Path {
    let base = Duration::from_secs_f64(base_ms / 1e3);
    Path { rate: 10e6, buffer: Duration::from_millis(buffer_ms), base, loss }
}

/// Share of the link that a flow that is not governed gets alone.
fn tcp_alone(path: Path) -> f64 {
    let mut world = World::new(path);
    let flow = world.flow(None);
    world.run(10.0);
    world.run(30.0).share(flow, path)
}

fn jain(bytes: &[u64]) -> f64 {
    let sum: f64 = bytes.iter().map(|bytes| *bytes as f64).sum();
    let squares: f64 = bytes.iter().map(|bytes| (*bytes as f64).powi(2)).sum();
    sum * sum / squares / bytes.len() as f64
}

#[test]
fn alone_it_uses_the_link_and_the_queue_stays_short() {
    for receivers in [false, true] {
        for base in BASES {
            for buffer in BUFFERS {
                let path = path(base, buffer, 0.0);
                let mut world = World::new(path);
                world.receivers = receivers;
                let device = world.device();
                let flow = world.flow(Some(device));
                world.run(15.0);
                let span = world.run(60.0);
                let share = span.share(flow, path);
                let least = match (base as u64, buffer) {
                    // What is lost there in the first moments takes long to be won back. CUBIC has 0.82.
                    (300, 20) => 0.65,
                    _ => 0.95,
                };
                let what = format!("base {base} ms, buffer {buffer} ms, receivers {receivers}");
                assert!(share >= least, "{what}: {share:.3}");
                assert!(span.queue_ms <= TARGET.as_secs_f64() * 1e3, "{what}: {:.1} ms", span.queue_ms);
            }
        }
    }
}

/// Part of what a user's flow has alone that it keeps beside one of ours: the mean of three that begin at different times, since
/// on far paths much hangs on where in its swing ours is.
fn user_keeps(path: Path, receivers: bool, seconds: f64) -> f64 {
    let one = |before: f64| {
        let mut world = World::new(path);
        world.receivers = receivers;
        let device = world.device();
        world.flow(Some(device));
        world.run(before);
        let user = world.flow(None);
        world.run(10.0);
        world.run(seconds).share(user, path)
    };
    [10.0, 13.0, 17.0].map(one).iter().sum::<f64>() / 3.0 / tcp_alone(path)
}

#[test]
fn beside_a_cubic_flow_it_goes_away() {
    for receivers in [false, true] {
        for base in BASES {
            for buffer in BUFFERS {
                let keeps = user_keeps(path(base, buffer, 0.0), receivers, 30.0);
                // A buffer below a third of the round trip is empty for seconds after each loss of a CUBIC flow: there
                // is room, nothing tells that it will be wanted, and what is in it is lost with the user's.
                let least = match (base as u64, buffer) {
                    (150, 20) => 0.7,
                    (150, 50) => 0.9,
                    (300, 20 | 50) => 0.6,
                    (50, 20) => 0.95,
                    _ => 0.98,
                };
                let what = format!("base {base} ms, buffer {buffer} ms, receivers {receivers}");
                assert!(keeps >= least, "{what}: the user keeps {keeps:.3}");
            }
        }
    }
}

#[test]
fn when_the_user_has_gone_it_comes_back() {
    for (base, buffer) in [(0.2, 20), (5.0, 200), (50.0, 50), (150.0, 200)] {
        let path = path(base, buffer, 0.0);
        let mut world = World::new(path);
        let device = world.device();
        let flow = world.flow(Some(device));
        let user = world.flow(None);
        world.run(30.0);
        world.stop(user);
        world.run(20.0);
        let share = world.run(20.0).share(flow, path);
        assert!(share >= 0.85, "base {base} ms, buffer {buffer} ms: {share:.3}");
    }
}

fn share(path: Path, flows: usize, apart: bool, lone: bool, receivers: bool) {
    let mut world = World::new(path);
    (world.lone, world.receivers, world.clocks_agree) = (lone, receivers, true);
    let span = crowd(&mut world, flows, apart);
    let (jain, sum) = (jain(&span.bytes), span.bytes.iter().sum::<u64>());
    let used = sum as f64 * 8.0 / span.seconds / path.rate;
    let what = format!("{flows} flows, apart {apart}, one by one {lone}, receivers {receivers}, {path:?}");
    assert!(jain >= 0.9, "{what}: {jain:.3} {:?}", span.bytes);
    assert!(used >= 0.85, "{what}: {used:.3}");
    assert!(span.queue_ms <= TARGET.as_secs_f64() * 1e3, "{what}: {:.1} ms", span.queue_ms);
}

/// Each begins when those before it have filled the link (the latecomer of RFC 6817 §2.2 took it all).
fn crowd(world: &mut World, flows: usize, apart: bool) -> Span {
    let mut device = world.device();
    for number in 0..flows {
        if apart && number > 0 {
            device = world.device();
        }
        world.flow(Some(device));
        world.run(3.0);
    }
    world.run(30.0);
    world.run(60.0)
}

/// Whatever each took for the path without a queue when it came, and however short the buffer is.
#[test]
fn flows_of_one_device_and_of_several_share() {
    for flows in [2, 8] {
        for base in [0.2, 20.0] {
            for buffer in BUFFERS {
                share(path(base, buffer, 0.0), flows, true, true, false);
                share(path(base, buffer, 0.0), flows, true, true, true);
            }
            for apart in [false, true] {
                share(path(base, 200, 0.0), flows, apart, false, false);
                share(Path { rate: 50e6, ..path(base, 50, 0.0) }, flows, apart, true, false);
            }
        }
    }
}

/// Jain's indices of courses of events in which no device has seen less than up to `most_ms` of queue, one after the other begun.
fn misled(path: Path, receivers: bool, flows: usize, most_ms: f64) -> Vec<f64> {
    let one = |seed| {
        let mut world = World::new(path);
        world.seed(seed);
        (world.lone, world.receivers, world.clocks_agree) = (true, receivers, true);
        for _ in 0..flows {
            let unseen = world.chance() * most_ms / 1e3;
            world.unseen.push(path.base.as_secs_f64() + unseen);
        }
        jain(&crowd(&mut world, flows, true).bytes)
    };
    (1..=4).map(one).collect()
}

/// Slowdowns are short, and the queue is not gone for everybody: real receivers took 0 to 5 ms for the same path.
#[test]
fn flows_share_whatever_they_take_for_an_empty_path() {
    for receivers in [false, true] {
        // What a near path takes is known to some milliseconds only.
        for flows in [2, 4, 8, 12] {
            let found = misled(path(0.2, 200, 0.0), receivers, flows, 3.5);
            assert!(
                found.iter().all(|jain| *jain >= 0.98),
                "{flows} flows, receivers {receivers}: {found:.3?}"
            );
        }
        let mut all = Vec::new();
        for base in [0.2, 20.0] {
            for buffer in [50, 200] {
                for flows in [2, 4, 8, 12] {
                    all.extend(misled(path(base, buffer, 0.0), receivers, flows, 6.0));
                }
            }
        }
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let least = all.iter().copied().fold(1.0, f64::min);
        assert!(mean >= 0.965 && least >= 0.85, "receivers {receivers}: mean {mean:.4}, least {least:.3}");
    }
}

/// A handshake passes a thin link in no time, a segment takes 6 ms at 2 Mbit/s: whoever had shaken hands while it was empty
/// took that for a queue, and two had 0.5 to 0.7.
#[test]
fn a_thin_link_is_shared() {
    for rate in [2e6, 4e6, 5e6] {
        for receivers in [false, true] {
            for flows in [2, 3, 5, 8, 12] {
                let path = Path { rate, ..path(0.2, 200, 0.0) };
                let mut world = World::new(path);
                (world.lone, world.receivers, world.clocks_agree) = (true, receivers, true);
                let span = crowd(&mut world, flows, true);
                let jain = jain(&span.bytes);
                // Windows of twelve at 2 Mbit/s are below one segment.
                let least = if flows == 12 { 0.85 } else { 0.9 };
                assert!(
                    jain >= least,
                    "{flows} flows, {rate}, receivers {receivers}: {jain:.3} {:?}",
                    span.bytes
                );
            }
        }
    }
}

/// What a flow from a paced origin moved in 40 s, as a part of what the origin would, and what a user beside it moved.
fn paced(path: Path, source: Source, governed: bool, beside: bool) -> (f64, f64) {
    let mut world = World::new(path);
    world.receivers = true;
    let device = governed.then(|| world.device());
    let flow = world.flow_from(device, Some(source));
    world.run(10.0);
    let user = beside.then(|| world.flow(None));
    world.run(10.0);
    let span = world.run(40.0);
    let moved = span.bytes[flow] as f64 * source.every / span.seconds / source.chunk as f64;
    (moved, user.map_or(0.0, |user| span.share(user, path)))
}

/// Origins that pace their downloads (nginx: limit_rate) write a portion and pause. A receiver's kernel takes the pause for
/// a round trip; at 50 ms and 170 KB/s in portions of 64 KB that left 2 % of it.
#[test]
fn an_origin_that_pauses_is_not_a_queue() {
    for base in BASES {
        for (chunk, rate) in
            [(10e3, 170e3), (64e3, 170e3), (256e3, 170e3), (64e3, 1e6), (256e3, 1e6), (1e6, 1e6), (1e6, 10e6)]
        {
            let source = Source { chunk: chunk as u64, every: chunk / rate };
            let path = Path { rate: if rate > 1e6 { 100e6 } else { 10e6 }, ..path(base, 200, 0.0) };
            let what = format!("base {base} ms, {chunk} bytes at {rate} B/s");
            let (free, _) = paced(path, source, false, false);
            let (ours, _) = paced(path, source, true, false);
            // It loses what it would have written in the slowdowns.
            let least = if base > 100.0 { 0.9 } else { 0.95 };
            assert!(
                ours >= free * least,
                "{what}: {ours:.3} of the origin's rate, {free:.3} when not governed"
            );
            // A fast local network is left to TCP.
            if base > 1.0 || rate < 6e6 {
                let (_, user) = paced(path, source, true, true);
                let keeps = user / tcp_alone(path);
                assert!(keeps >= 0.98, "{what}: the user keeps {keeps:.3}");
            }
        }
    }
}

/// Slow at the same time, all measure the path without the others' queue; one by one they share, too.
#[test]
fn devices_share_whether_their_clocks_agree_or_not() {
    for buffer in [50, 200] {
        for clocks_agree in [false, true] {
            let mut world = World::new(path(0.2, buffer, 0.0));
            (world.lone, world.clocks_agree) = (true, clocks_agree);
            let jain = jain(&crowd(&mut world, 8, true).bytes);
            assert!(jain >= 0.95, "{buffer} ms, clocks agree {clocks_agree}: {jain:.4}");
        }
    }
}

/// Segments of the slower flow wait longest for their acknowledgement where these are held back, which looks like a queue. Our
/// receivers acknowledge at once what comes segment by segment (transport: inbox); others need not.
#[test]
fn late_acknowledgements_starve_nobody() {
    let mut world = World::new(path(0.2, 200, 0.0));
    (world.lone, world.late) = (true, true);
    let span = crowd(&mut world, 2, true);
    assert!(jain(&span.bytes) >= 0.9, "{:?}", span.bytes);
}

#[test]
fn a_fast_lan_loses_nothing() {
    let path = Path { rate: 1e9, ..path(0.2, 20, 0.0) };
    let mut world = World::new(path);
    let device = world.device();
    let flow = world.flow(Some(device));
    world.run(2.0);
    let share = world.run(10.0).share(flow, path);
    assert!(share >= 0.97, "{share:.3}");
}

/// Mistake: a loss-halving scavenger never gets going on a lossy path. Losses with an empty queue are left to TCP.
#[test]
fn random_losses_are_left_to_tcp() {
    for loss in [0.001, 0.01, 0.03] {
        for base in BASES {
            let path = path(base, 200, loss);
            let alone = tcp_alone(path);
            let mut world = World::new(path);
            let device = world.device();
            let flow = world.flow(Some(device));
            world.run(10.0);
            let share = world.run(60.0).share(flow, path);
            let least = alone * 0.8;
            assert!(share >= least, "loss {loss}, base {base} ms: {share:.3} of {alone:.3}");
        }
    }
}

/// Losses keep a user's own window short, near by even while the link is full: the queue is below any target then, and what is
/// left to TCP takes what TCP takes of it. Not more: an ordinary flow leaves half.
#[test]
fn on_a_lossy_path_the_user_keeps_more_than_beside_an_ordinary_flow() {
    for loss in [0.001, 0.01, 0.03] {
        for base in BASES {
            for receivers in [false, true] {
                let keeps = user_keeps(path(base, 200, loss), receivers, 60.0);
                let least = match (base as u64, (loss * 1e3) as u64) {
                    (0 | 5, 1) => 0.96,
                    (0 | 5, 10) => 0.55,
                    (0 | 5, _) => 0.45,
                    // Little is used there.
                    _ => 0.8,
                };
                let what = format!("loss {loss}, base {base} ms, receivers {receivers}");
                assert!(keeps >= least, "{what}: the user keeps {keeps:.3}");
            }
        }
    }
}

/// Where a window is of a few segments, as at 1 Mbit/s, it gives way all the same.
#[test]
fn beside_a_user_on_a_thin_path_it_goes_away() {
    for rate in [1e6, 2e6, 5e6] {
        for base in [0.2, 20.0] {
            for buffer in BUFFERS {
                for receivers in [false, true] {
                    let path = Path { rate, ..path(base, buffer, 0.0) };
                    let keeps = user_keeps(path, receivers, 60.0);
                    let least = if buffer == 20 { 0.95 } else { 0.97 };
                    assert!(keeps >= least, "{path:?}, receivers {receivers}: the user keeps {keeps:.3}");
                }
            }
        }
    }
}

/// Mistake: with an interval of one round trip instead of nine times the slowdown, 224 slowdowns in 30 s at 137 ms. And: a
/// ramp left because of the delay that it causes itself collapses at 336 ms, and is followed by slowdown upon slowdown.
#[test]
fn slowdowns_are_rare_and_ramps_arrive() {
    for base in [0.2, 137.0, 336.0] {
        let path = path(base, 200, 0.0);
        let mut world = World::new(path);
        let device = world.device();
        let flow = world.flow(Some(device));
        world.run(20.0);
        world.slowdowns = 0;
        let share = world.run(60.0).share(flow, path);
        assert!((1..=6).contains(&world.slowdowns), "base {base} ms: {} slowdowns", world.slowdowns);
        assert!(share >= 0.75, "base {base} ms: {share:.3}");
    }
}

/// Mistake: without a floor, trouble upon trouble ends at two segments and stays there. Here the user comes and goes.
#[test]
fn repeated_trouble_does_not_end_in_a_spiral() {
    let path = path(135.0, 50, 0.002);
    let mut world = World::new(path);
    let device = world.device();
    let flow = world.flow(Some(device));
    for _ in 0..10 {
        let user = world.flow(None);
        world.run(5.0);
        world.stop(user);
        world.run(1.0);
    }
    world.run(30.0);
    let share = world.run(30.0).share(flow, path);
    let least = tcp_alone(path) * 0.8;
    assert!(share >= least, "{share:.3} of at least {least:.3}");
}

/// Mistake: a fixed target above what the buffer can hold makes an ordinary flow of it (a uTP swarm left 40 % at 50 ms).
#[test]
fn the_target_is_learned_from_the_buffer() {
    for buffer in [20, 50] {
        let mut world = World::new(path(5.0, buffer, 0.0));
        let device = world.device();
        world.flow(Some(device));
        world.run(5.0);
        world.flow(None);
        world.run(10.0);
        let target =
            world.governors[0].target(peerage_swarm::Time::from_micros(16_000_000)).as_secs_f64() * 1e3;
        assert!(target <= 0.6 * buffer as f64, "{target} ms in {buffer} ms");
    }
}
