//! Several of our own transfers at one bottleneck: how evenly they share it. All figures are from interfaces.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use peerage_testkit::{Agent, Bottleneck, Host, Job, random_file, wait_until};

use super::report::{Section, spread};
use super::scratch;

const MIB: u64 = 1 << 20;
/// Bytes at a device's interface after which its transfer has begun.
const BEGUN: u64 = MIB / 4;
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Numbers of transfers.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 8])]
    transfers: Vec<u8>,
    /// The bottleneck, in Mbit/s.
    #[arg(long, default_value_t = 10)]
    rate_mbit: u64,
    /// Its buffer, in ms.
    #[arg(long, default_value_t = 200)]
    buffer_ms: u64,
    /// How long they are measured once all have begun and settled, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// How long they settle, in seconds.
    #[arg(long, default_value_t = 30)]
    settle: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Debug, Default)]
struct Figures {
    jain: Vec<f64>,
    used: Vec<f64>,
    /// The smallest share over the largest.
    extremes: Vec<f64>,
}

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let mut rows = Vec::new();
    for count in &options.transfers {
        for upload in [false, true] {
            let mut figures = Figures::default();
            for _ in 0..options.rounds {
                round(bin, options, *count, upload, &mut figures)?;
            }
            let what = if upload { "uploads, each to a peer" } else { "background downloads by HTTP" };
            rows.push(vec![
                format!("{count} {what}"),
                spread(&figures.jain, 3),
                spread(&figures.extremes, 2),
                spread(&figures.used, 1),
            ]);
        }
    }
    let transfers: Vec<String> = options.transfers.iter().map(u8::to_string).collect();
    Ok(Section {
        key: "fair",
        title: format!("Several of our own at {} Mbit/s", options.rate_mbit),
        command: format!(
            "cargo xtask bench fair --transfers {} --rate-mbit {} --buffer-ms {} --seconds {} --settle {} --rounds {}",
            transfers.join(","),
            options.rate_mbit,
            options.buffer_ms,
            options.seconds,
            options.settle,
            options.rounds
        ),
        head: vec!["transfers", "Jain's index of their rates", "slowest / fastest", "link used, %"],
        rows,
        notes: vec![
            "Each transfer has a file, a device and, as an upload, a seed of its own; each begins when the one before it \
             flows. Rates are what the devices' interfaces receive, headers included; median (range)."
                .into(),
        ],
    })
}

/// One bottleneck, `count` transfers across it, one after the other begun.
fn round(bin: &Path, options: &Options, count: u8, upload: bool, figures: &mut Figures) -> Result<()> {
    let dir = scratch("tmpfs")?;
    let rate = format!("{}mbit", options.rate_mbit);
    let mut scene = Bottleneck::new(bin, dir.path(), Some(&rate), Duration::from_millis(options.buffer_ms))?;
    // More than the link carries in the time that all of it takes, were it one transfer's alone.
    let seconds = options.seconds + options.settle + 10 * u64::from(count);
    let size = (options.rate_mbit * seconds * 125_000).max(64 * MIB);
    let mut urls = Vec::new();
    for number in 0..count {
        let name = format!("f{number}.bin");
        let file = scene.root().join(&name);
        random_file(&file, u64::from(number), size)?;
        urls.push(scene.origin.url(&name));
        scene.fleet.publish(&file, &urls[usize::from(number)])?;
    }
    let mut seeds = Vec::new();
    if upload {
        for (number, url) in (20..).zip(&urls) {
            let seed = scene.device(false, number, "")?;
            seed.get(url, &out(dir.path(), number)?.join("seed"))?;
            seeds.push(seed);
        }
        // Not killed: its worker would go on without it.
        scene.origin.process().terminate(Duration::from_secs(5))?;
    }
    let mut running: Vec<(Job, Agent, Host)> = Vec::new();
    for (number, url) in (60..).zip(&urls) {
        let (agent, host) = scene.device_on(true, number, "")?;
        let get = agent.begin_get(url, &out(dir.path(), number)?.join("f.bin"), &[])?;
        let before = host.counters()?;
        wait_until(&format!("transfer {number}"), PATIENCE, || {
            host.counters().is_ok_and(|now| now.since(before).rx_bytes > BEGUN)
        });
        running.push((get, agent, host));
    }
    scene.ping(options.settle)?;
    let counters = || running.iter().map(|(_, _, host)| host.counters()).collect::<Result<Vec<_>>>();
    let (before, carried, began) = (counters()?, scene.carried()?, Instant::now());
    scene.ping(options.seconds)?;
    let (after, carried_then, took) = (counters()?, scene.carried()?, began.elapsed());
    let shares: Vec<f64> =
        after.iter().zip(&before).map(|(after, before)| after.since(*before).rx_bytes as f64).collect();
    let bits = carried_then.since(carried).tx_bytes as f64 * 8.0;
    figures.jain.push(jain(&shares));
    figures.extremes.push(
        shares.iter().copied().fold(f64::INFINITY, f64::min) / shares.iter().copied().fold(0.0, f64::max),
    );
    figures.used.push(bits / took.as_secs_f64() / (options.rate_mbit as f64 * 1e6) * 100.0);
    let mbit: Vec<String> =
        shares.iter().map(|bytes| format!("{:.2}", bytes * 8e-6 / took.as_secs_f64())).collect();
    println!("{count} {}: {} Mbit/s", if upload { "uploads" } else { "downloads" }, mbit.join(" "));
    Ok(())
}

fn out(dir: &Path, number: u8) -> Result<std::path::PathBuf> {
    let out = dir.join(format!("out-{number}"));
    fs::create_dir_all(&out)?;
    Ok(out)
}

/// 1 for equal shares, 1/n for one that takes all (Jain, Chiu, Hawe 1984).
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jains_index() {
        assert!((jain(&[3.0, 3.0, 3.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[4.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
        assert!((jain(&[1.0, 2.0]) - 0.9).abs() < 1e-9);
    }
}
