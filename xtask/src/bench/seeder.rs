//! One seeder, several receivers at once, each with a file of its own, so that all bytes are the seeder's: does its
//! throughput hold?

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use peerage_testkit::{Fleet, Nginx, OPEN_POLICY, Usage, random_file};

use super::report::{Section, median, spread};
use super::scratch;

const GIB: f64 = (1u64 << 30) as f64;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Numbers of receivers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    receivers: Vec<u8>,
    /// What all receivers of a run get together, in MiB.
    #[arg(long, default_value_t = 1024)]
    size_mib: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Debug, Default)]
struct Figures {
    /// MiB/s of all together, CPU seconds a GiB.
    rate: Vec<f64>,
    sender: Vec<f64>,
    receivers: Vec<f64>,
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 42, 0, last], 0))
}

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let mut figures: Vec<Figures> = options.receivers.iter().map(|_| Figures::default()).collect();
    for _ in 0..options.rounds {
        for (count, figures) in options.receivers.iter().zip(&mut figures) {
            round(bin, options.size_mib << 20, *count, figures)?;
        }
    }
    let base = figures.first().map_or(f64::NAN, |first| median(&first.rate));
    let rows = options.receivers.iter().zip(&figures).map(|(count, figures)| {
        vec![
            count.to_string(),
            spread(&figures.rate, 0),
            format!("{:.2}", median(&figures.rate) / base),
            spread(&figures.sender, 2),
            spread(&figures.receivers, 2),
        ]
    });
    let receivers: Vec<String> = options.receivers.iter().map(u8::to_string).collect();
    Ok(Section {
        key: "seeder",
        title: format!("One seeder, {} MiB to several receivers, tmpfs", options.size_mib),
        command: format!(
            "cargo xtask bench seeder --receivers {} --size-mib {} --rounds {}",
            receivers.join(","),
            options.size_mib,
            options.rounds
        ),
        head: vec![
            "receivers",
            "MiB/s of all, median (range)",
            "to the first row",
            "seeder CPU s/GiB",
            "receivers CPU s/GiB",
        ],
        rows: rows.collect(),
        notes: vec![
            "From the first `peerage get` to the end of the last. The receivers run on the same cores as the seeder, so \
             the seeder's processor time says more than the rate."
                .into(),
        ],
    })
}

/// A new fleet: a seeder with `count` files, and a receiver for each.
fn round(bin: &Path, size: u64, count: u8, figures: &mut Figures) -> Result<()> {
    let dir = scratch("tmpfs")?;
    let www = dir.path().join("www");
    fs::create_dir_all(&www)?;
    let origin = Nginx::serve(&www).start(dir.path())?;
    let config = "ingest_allow = [\"127.0.0.0/8\"]\n";
    let fleet = Fleet::start_bin(bin, &dir.path().join("fleet"), at(1), None, config)?;
    let seed = fleet.agent("seed", at(2), None, OPEN_POLICY)?;
    let mut receivers = Vec::new();
    for number in 0..count {
        let name = format!("f{number}.bin");
        let file = www.join(&name);
        random_file(&file, number.into(), size / u64::from(count))?;
        let url = origin.url(&name);
        fleet.publish(&file, &url)?;
        seed.get(&url, &dir.path().join("seed.out"))?;
        fs::remove_file(dir.path().join("seed.out"))?;
        receivers.push((fleet.agent(&format!("r{number}"), at(10 + number), None, OPEN_POLICY)?, url));
    }
    let usage = |pid| Ok::<Duration, anyhow::Error>(Usage::of(pid)?.cpu);
    let of_receivers =
        || receivers.iter().map(|(agent, _)| usage(agent.daemon.pid())).sum::<Result<Duration>>();
    let (sender_before, receivers_before, began) =
        (usage(seed.daemon.pid())?, of_receivers()?, Instant::now());
    let jobs = receivers
        .iter()
        .zip(0u8..)
        .map(|((agent, url), number)| agent.begin_get(url, &dir.path().join(format!("out-{number}")), &[]));
    let mut commands = Duration::ZERO;
    for job in jobs.collect::<Result<Vec<_>>>()? {
        let done = job.output()?;
        ensure!(done.status.success(), "peerage get: {}", done.stderr);
        let status: serde_json::Value = serde_json::from_str(done.stdout.trim())?;
        let peers = status["BytesFromLanPeers"].as_u64().context("no BytesFromLanPeers")?;
        let whole = status["FileSize"].as_u64().context("no FileSize")?;
        ensure!(peers * 100 >= whole * 98, "it did not come from the peer: {status}");
        commands += done.usage.cpu;
    }
    let took = began.elapsed();
    let per_gib = |cpu: Duration| cpu.as_secs_f64() * GIB / size as f64;
    figures.rate.push(size as f64 / f64::from(1u32 << 20) / took.as_secs_f64());
    figures.sender.push(per_gib(usage(seed.daemon.pid())? - sender_before));
    figures.receivers.push(per_gib(of_receivers()? - receivers_before + commands));
    println!("{count} receivers: {:.0} MiB/s", figures.rate.last().unwrap_or(&f64::NAN));
    Ok(())
}
