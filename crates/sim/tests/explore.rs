//! Exploration.
use peerage_sim::*;
use std::time::Duration;

fn show(name: &str, world: World, seed: u64) {
    let at = std::time::Instant::now();
    let world = if std::env::var("DIARY").is_ok() { world.diary() } else { world };
    match world.run(seed) {
        Ok(r) => {
            let wall = at.elapsed().as_millis();
            println!(
                "{name}: copies {:.3} end {:.2}s bound {:.2}s over {:.3} slowest {:.2}s wasted {:.2}MiB peer% {:?} events {} wall {}ms",
                r.origin_copies(),
                r.end.as_secs_f64(),
                r.bound.as_secs_f64(),
                r.over_bound(),
                r.slowest().as_secs_f64(),
                r.wasted() as f64 / 1048576.0,
                (0..r.devices.len().min(4))
                    .map(|d| (r.peer_percent(d) * 100.0).round() / 100.0)
                    .collect::<Vec<_>>(),
                r.events,
                wall
            );
            if let Ok(path) = std::env::var("DIARY") {
                std::fs::write(path, r.diary.join("\n")).unwrap();
            }
            for (i, d) in r.devices.iter().enumerate() {
                if !d.banned_by.is_empty() {
                    println!("   {i} banned by {:?}", d.banned_by);
                }
            }
        }
        Err(v) => {
            let s = v.to_string();
            println!(
                "{name}: VIOLATION {}",
                &s[..s.len().min(std::env::var("VL").ok().and_then(|v| v.parse().ok()).unwrap_or(300))]
            )
        }
    }
}

#[test]
fn explore() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let seed = std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
    let ms = Duration::from_millis;
    let s = Duration::from_secs;
    let mut list: Vec<(String, World)> = Vec::new();
    let mut add = |n: &str, w: World| list.push((n.to_string(), w));
    add("alone 2ms", world().devices(1).pieces(200));
    add("alone 50ms", world().devices(1).pieces(200).origin_rtt(ms(50)));
    add("alone 50ms 1G", world().devices(1).pieces(200).origin_rtt(ms(50)).origin_mbit(1000.0));
    add("alone 10M 50ms", world().devices(1).pieces(50).origin_rtt(ms(50)).origin_mbit(10.0));
    for n in [2, 3, 8, 16, 32] {
        add(&format!("flash {n}"), world().devices(n).pieces(200).flash());
    }
    add("flash 8 10mbit", world().devices(8).pieces(50).origin_mbit(10.0));
    add("flash 8 1mbit", world().devices(8).pieces(20).origin_mbit(1.0));
    add("flash 8 50ms announce", world().devices(8).pieces(200).announce_time(ms(50)));
    for p in [1, 2, 5, 10, 20] {
        for n in [3, 8, 32] {
            add(&format!("small {p} x {n}"), world().devices(n).pieces(p));
        }
    }
    add("stagger 4", world().devices(4).pieces(200).staggered());
    add("stagger 4 fg", world().devices(4).pieces(200).staggered().foreground());
    add("every 10s x 8", world().devices(8).pieces(200).every(s(10)));
    add("every 1s x 8", world().devices(8).pieces(200).every(s(1)));
    add("slow peer bg", world().devices(2).pieces(200).seeds(1, 2).device(1, |d| d.link_mbit(1.0, 1.0)));
    add(
        "slow peer fg",
        world().devices(2).pieces(200).seeds(1, 2).device(1, |d| d.link_mbit(1.0, 1.0)).foreground(),
    );
    add(
        "20mbit peer fg",
        world().devices(2).pieces(200).seeds(1, 2).device(1, |d| d.link_mbit(20.0, 20.0)).foreground(),
    );
    add(
        "90mbit peer fg",
        world().devices(2).pieces(200).seeds(1, 2).device(1, |d| d.link_mbit(90.0, 90.0)).foreground(),
    );
    for m in [
        Manner::Useless,
        Manner::Mute,
        Manner::Lacks,
        Manner::Hoards,
        Manner::Greedy,
        Manner::Flaps,
        Manner::Corrupts,
        Manner::Stalls(3 << 20),
    ] {
        add(
            &format!("1 + 3 {m:?}"),
            world().devices(4).pieces(200).each(|i, d| {
                if i > 0 {
                    d.manner = m;
                    if m.to_string_dbg() {
                        d.has_percent = 100;
                    }
                }
            }),
        );
        add(
            &format!("8 + 2 {m:?}"),
            world().devices(10).pieces(200).each(|i, d| {
                if i > 7 {
                    d.manner = m;
                    if m.to_string_dbg() {
                        d.has_percent = 100;
                    }
                }
            }),
        );
    }
    add("0.3mbit peer", world().devices(2).pieces(200).seeds(1, 2).device(1, |d| d.link_mbit(0.3, 0.3)));
    add(
        "3 x 0.3mbit peer",
        world().devices(4).pieces(200).seeds(1, 4).each(|i, d| {
            if i > 0 {
                d.link_mbit(0.3, 0.3)
            }
        }),
    );
    add("4 devs one 2mbit up", world().devices(8).pieces(100).device(3, |d| d.link_mbit(20.0, 2.0)));
    add("wifi 8", world().devices(8).pieces(100).each(|_, d| d.link_mbit(100.0, 20.0)));
    add(
        "churn",
        (0..6).fold(world().devices(10).pieces(200), |w, i| {
            w.fault(ms(2000 + 1500 * i), Fault::PowerCut(i as usize))
                .fault(ms(5000 + 1500 * i), Fault::Return(i as usize))
        }),
    );
    add(
        "churn clean",
        (0..6).fold(world().devices(10).pieces(200), |w, i| {
            w.fault(ms(2000 + 1500 * i), Fault::ShutDown(i as usize))
                .fault(ms(5000 + 1500 * i), Fault::Return(i as usize))
        }),
    );
    add(
        "vanish for good",
        (0..3).fold(world().devices(8).pieces(200), |w, i| {
            w.fault(ms(3000 + 1500 * i), Fault::PowerCut(i as usize))
        }),
    );
    add(
        "partition",
        world().devices(8).pieces(200).fault(s(4), Fault::Partition(3)).fault(s(9), Fault::Heal),
    );
    add(
        "coordinator late",
        world()
            .devices(8)
            .pieces(200)
            .fault(ms(0), Fault::Coordinator(false))
            .fault(s(4), Fault::Coordinator(true)),
    );
    add(
        "choke storm",
        (0..20).fold(world().devices(8).pieces(200), |w, i| {
            w.fault(
                ms(1000 + 500 * i),
                Fault::Limits(
                    (i % 8) as usize,
                    peerage_swarm::Limits { upload_to_peers: i % 2 == 1, ..Default::default() },
                ),
            )
        }),
    );
    add(
        "choke storm seed",
        (0..20).fold(world().devices(3).pieces(400).seeds(0, 1), |w, i| {
            w.fault(
                ms(300 + 150 * i),
                Fault::Limits(0, peerage_swarm::Limits { upload_to_peers: i % 2 == 1, ..Default::default() }),
            )
        }),
    );
    add(
        "pauses",
        (0..8).fold(world().devices(8).pieces(200), |w, i| {
            w.fault(ms(1000 + 300 * i), Fault::Pause(i as usize, true))
                .fault(ms(4000 + 500 * i), Fault::Pause(i as usize, false))
        }),
    );
    add(
        "damage",
        (0..30).fold(world().devices(6).pieces(200), |w, i| {
            w.fault(ms(3000 + 300 * i), Fault::Damage((i % 6) as usize, (i * 7 % 200) as u32))
        }),
    );
    add(
        "origin gone, peers hold it",
        world().devices(8).pieces(100).seeds(0, 1).fault(ms(0), Fault::Origin(Health::Gone)),
    );
    add("sites 2x4", world().devices(8).pieces(200).each(|i, d| d.site = i / 4));
    add(
        "sites seed far",
        world()
            .devices(5)
            .pieces(200)
            .each(|i, d| d.site = usize::from(i > 0))
            .seeds(0, 1)
            .device(0, |d| d.link_mbit(50.0, 50.0)),
    );
    add("no origin, 1 seed, 8", world().devices(9).pieces(200).seeds(0, 1).no_origin());
    add("no origin, 4 parts", world().devices(6).pieces(100).each(|_, d| d.has_percent = 60).no_origin());
    add("cache 1G 8", world().devices(8).pieces(200).cache_mbit(1000.0));
    add(
        "origin busy 5s",
        world()
            .devices(8)
            .pieces(100)
            .fault(s(2), Fault::Origin(Health::Busy(Some(s(2)))))
            .fault(s(7), Fault::Origin(Health::Fine)),
    );
    add(
        "origin silent 5s",
        world()
            .devices(8)
            .pieces(100)
            .fault(s(2), Fault::Origin(Health::Silent))
            .fault(s(7), Fault::Origin(Health::Fine)),
    );
    if only == "big" {
        add("flash 1000 big", world().devices(1000).pieces(50));
        add("flash 200 big", world().devices(200).pieces(200));
    }
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    if seeds > 0 {
        for (n, w) in list {
            if n.contains(&only) {
                let (mut copies, mut over, mut slow, mut waste) = (0.0f64, 0.0f64, 0.0f64, 0);
                for seed in 100..100 + seeds {
                    match w.clone().run(seed) {
                        Ok(r) => {
                            if std::env::var("EACH").is_ok() {
                                println!(
                                    "   seed {seed}: copies {:.3} over {:.3} slowest {:.2} wasted {:.1}",
                                    r.origin_copies(),
                                    r.over_bound(),
                                    r.slowest().as_secs_f64(),
                                    r.wasted() as f64 / 1048576.0
                                );
                            }
                            copies = copies.max(r.origin_copies());
                            over = over.max(r.over_bound());
                            slow = slow.max(r.slowest().as_secs_f64());
                            waste = waste.max(r.wasted());
                        }
                        Err(v) => {
                            let s = v.to_string();
                            if std::env::var("VL").is_ok() {
                                println!("{s}");
                            }
                            println!("{n}: VIOLATION {}", &s[..s.len().min(300)]);
                        }
                    }
                }
                println!(
                    "{n}: worst copies {copies:.3} over {over:.3} slowest {slow:.2} wasted {:.1}MiB",
                    waste as f64 / 1048576.0
                );
            }
        }
        return;
    }
    for (n, w) in list {
        if n.contains(&only) {
            show(&n, w, seed);
        }
    }
}
trait Dbg {
    fn to_string_dbg(&self) -> bool;
}
impl Dbg for Manner {
    fn to_string_dbg(&self) -> bool {
        matches!(self, Manner::Corrupts | Manner::Stalls(_))
    }
}
