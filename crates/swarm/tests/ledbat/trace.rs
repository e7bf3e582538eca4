//! A governed flow look by look, beside the draft's figures: slow start (§4.1), gain (§4.2), decrease (§4.3), slowdowns (§4.4).
//!
//! `cargo nextest run -p peerage-swarm --test ledbat trace --no-capture` prints what is asserted.

use std::fmt::Write as _;
use std::time::Duration;

use peerage_swarm::Time;
use peerage_swarm::ledbat::{FlowId, Governor, LOOK_EVERY, Sample, TARGET};

use crate::flow::MSS;
use crate::link::{Row, World};
use crate::path;

/// Between two looks, in seconds.
const LOOK: f64 = LOOK_EVERY.as_millis() as f64 / 1e3;

/// Seconds in which the queue of several receivers is gone and each has a segment after it.
const LEAST_HOLD: f64 = 0.25;

/// A time at next to nothing, and the way back.
#[derive(Debug)]
struct Slowdown {
    /// When it began, when the way back began, and when it was over.
    began: f64,
    held: f64,
    over: f64,
    /// Bytes/s meanwhile.
    least: f64,
    /// Control round trips as it began and as it was held.
    trips: [f64; 2],
}

/// 10 Mbit/s, 200 ms of buffer, nobody else, for two minutes.
fn alone(base_ms: f64) -> Vec<Row> {
    let mut world = World::new(path(base_ms, 200, 0.0));
    world.trace = Some(Vec::new());
    let device = world.device();
    world.flow(Some(device));
    world.run(120.0);
    world.trace.take().unwrap_or_default()
}

/// A look is part of the round trip that is steered over.
fn trip(row: &Row) -> f64 {
    row.base + row.queue + LOOK
}

fn slowdowns(rows: &[Row]) -> Vec<Slowdown> {
    let mut found: Vec<Slowdown> = Vec::new();
    let mut at = 1;
    while at < rows.len() {
        let (before, now) = (rows[at - 1].rate, rows[at].rate);
        let (Some(before), Some(least)) = (before, now) else {
            at += 1;
            continue;
        };
        // What it was at the last look; the queue may have become shorter since.
        let stays = rows.get(at + 1).is_some_and(|next| next.rate == now);
        if least as f64 > before as f64 / 2.5 || !stays {
            at += 1;
            continue;
        }
        let held = (at..rows.len()).find(|row| rows[*row].rate != Some(least)).unwrap_or(rows.len() - 1);
        let window = before as f64 * trip(&rows[at - 1]);
        let back = |row: &Row| row.rate.is_none_or(|rate| rate as f64 * trip(row) >= 0.98 * window);
        let over = (held..rows.len()).find(|row| back(&rows[*row])).unwrap_or(rows.len() - 1);
        found.push(Slowdown {
            began: rows[at].at,
            held: rows[held].at,
            over: rows[over].at,
            least: least as f64,
            trips: [trip(&rows[at]), trip(&rows[held])],
        });
        at = over + 1;
    }
    found
}

fn table(title: &str, rows: &[Row]) -> String {
    let mut text = format!("{title}\n   at s  KB/s  window, segments  queue ms  target ms  base ms\n");
    for row in rows {
        let window = row.rate.map(|rate| rate as f64 * trip(row) / MSS as f64);
        let told = |value: Option<f64>| value.map_or("free".into(), |value| format!("{value:.1}"));
        let rate = told(row.rate.map(|rate| rate as f64 / 1e3));
        let (queue, target, base) = (row.queue * 1e3, row.target * 1e3, row.base * 1e3);
        let _ = writeln!(
            text,
            "{:7.2} {rate:>6} {:>7} {queue:9.1} {target:10.1} {base:8.1}",
            row.at,
            told(window)
        );
    }
    text
}

/// §4.1, §4.4: the first slowdown two round trips after slow start, two segments for two round trips or a quarter of a second,
/// nineteen times as long without; all but the first at whole ten seconds.
#[test]
fn slowdowns_have_the_proportions_of_the_draft() {
    for base_ms in [5.0, 50.0, 150.0, 300.0] {
        let rows = alone(base_ms);
        println!("{}", table(&format!("base {base_ms} ms"), &rows));
        let limited = rows.iter().position(|row| row.rate.is_some()).unwrap();
        let four: Vec<f64> = rows[limited - 3..=limited].iter().map(|row| row.queue).collect();
        let three_quarters = TARGET.as_secs_f64() * 0.75;
        assert!(four.iter().all(|queue| *queue > three_quarters), "{base_ms} ms: limited at {four:?}");
        let found = slowdowns(&rows);
        let first = &found[0];
        let waited = (first.began - rows[limited].at) / trip(&rows[limited]);
        assert!((1.0..3.0).contains(&waited), "{base_ms} ms: {waited:.1} round trips until the first one");
        for (slowdown, next) in found.iter().zip(&found[1..]) {
            let what = format!("{base_ms} ms: {slowdown:?}");
            let two = 2.0 * MSS as f64 / (base_ms / 1e3 + LOOK);
            assert!(slowdown.least <= two + 1.0, "{what}");
            let held = slowdown.held - slowdown.began;
            let trips = held / slowdown.trips[0];
            let as_short = trips < 4.0 || held <= LEAST_HOLD + 2.0 * LOOK;
            assert!(trips >= 1.5 && held >= LEAST_HOLD && as_short, "{what}: held for {held:.2} s");
            // From a quarter back to the whole is two doublings.
            let back = (slowdown.over - slowdown.held) / slowdown.trips[1];
            assert!((1.0..5.0).contains(&back), "{what}: {back:.1} round trips back");
            let (took, without) = (slowdown.over - slowdown.began, next.began - slowdown.over);
            assert!(without >= 19.0 * (took - 2.0 * LOOK), "{what}: {without:.1} s without");
            assert!(next.began % 10.0 <= 2.0 * LOOK, "{what}: the next at {}", next.began);
        }
        let queue_gone = rows.last().unwrap().base;
        assert!((queue_gone - base_ms / 1e3).abs() < 2e-3, "{base_ms} ms: taken for {queue_gone:.4}");
    }
}

/// §4.3: in proportion to what is beyond the target, and half the window in a round trip at most.
#[test]
fn decrease_is_in_proportion_and_half_at_most() {
    let (base, look) = (0.05, LOOK_EVERY.as_micros() as u64);
    for queue in [0.066, 0.075, 0.090, 0.126, 0.4] {
        let (mut governor, mut now, mut delivered) = (Governor::default(), Time::from_micros(1_000_000), 0);
        let mut take = |rtt: f64, bytes: u64| {
            (now, delivered) = (now + LOOK_EVERY, delivered + bytes);
            let rtt = Duration::from_secs_f64(rtt);
            let sample = Sample {
                rtt,
                smoothed: rtt,
                min_rtt: Duration::ZERO,
                mss: MSS as u32,
                delivered,
                resent: 0,
                wanting: true,
            };
            governor.look(&[(FlowId(1), sample)], now);
            governor.rate(FlowId(1)).map(|rate| rate as f64 * (rtt.as_secs_f64() + LOOK))
        };
        let full = 10_000_000 / 8 * look / 1_000_000;
        (0..100).for_each(|_| assert_eq!(take(base, full), None));
        let limited = (0..5).filter_map(|_| take(base + queue, full)).next().unwrap();
        // Somebody else takes the link.
        let looks = ((base + queue + LOOK) / LOOK).floor();
        let after = (0..looks as u32).filter_map(|_| take(base + queue, full / 50)).last().unwrap();
        let kept = after / limited;
        let excess = (queue / (0.045 * 1.4) - 1.0).min(0.5);
        let wanted = (1.0 - excess * LOOK / (base + queue + LOOK)).powf(looks);
        println!("queue {queue}: {kept:.3} of the window kept in a round trip, {wanted:.3} by the draft");
        assert!((wanted - 0.03..wanted + 0.03).contains(&kept), "queue {queue}: {kept:.3}, {wanted:.3}");
        assert!(kept >= 0.5, "queue {queue}: {kept:.3}");
    }
}
