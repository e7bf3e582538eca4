//! A download that peers cannot help: the price of asking for them. Beside curl on the same link.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use peerage_testkit::{Agent, Job, Site, random_file, same_file};

use super::report::{Section, median, spread};
use super::scratch;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Sizes of the files.
    #[arg(long, value_delimiter = ',', default_values_t = [4, 32, 200])]
    size_mib: Vec<u64>,
    /// The origin's uplink, in Mbit/s.
    #[arg(long, default_value_t = 500)]
    uplink_mbit: u64,
    /// Rounds; programs take turns within one.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

/// What the neighbour is like that the coordinator names.
#[derive(Debug, Clone, Copy)]
enum Neighbour {
    None,
    /// Its process is gone: connections are refused.
    Dead,
    /// Its packets are lost, as behind a firewall that drops.
    Silent,
    /// Its link is 1 Mbit/s.
    Slow,
}

const NEIGHBOURS: [(Neighbour, &str); 4] = [
    (Neighbour::None, "no peer"),
    (Neighbour::Dead, "a peer that is gone, and refuses"),
    (Neighbour::Silent, "a peer behind a port that drops"),
    (Neighbour::Slow, "a peer with 1 Mbit/s"),
];

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let mut rows = Vec::new();
    for size in &options.size_mib {
        let (mut curl, mut ours) = (Vec::new(), NEIGHBOURS.map(|_| Vec::new()));
        for round in 0..options.rounds {
            for ((neighbour, _), seconds) in NEIGHBOURS.into_iter().zip(&mut ours) {
                let (alone, taken) = measure(bin, options, *size, u64::from(round), neighbour)
                    .with_context(|| format!("{size} MiB, {neighbour:?}"))?;
                curl.push(alone);
                seconds.push((taken, taken / alone));
            }
        }
        rows.push(vec![format!("{size} MiB, curl"), spread(&curl, 3), "1.00".into()]);
        for ((_, name), seconds) in NEIGHBOURS.into_iter().zip(&ours) {
            let (taken, ratios): (Vec<f64>, Vec<f64>) = seconds.iter().copied().unzip();
            rows.push(vec![
                format!("{size} MiB, {name}"),
                spread(&taken, 3),
                format!("{:.3}", median(&ratios)),
            ]);
        }
    }
    let sizes: Vec<String> = options.size_mib.iter().map(u64::to_string).collect();
    Ok(Section {
        key: "alone",
        title: format!("A download that no peer can help, origin at {} Mbit/s", options.uplink_mbit),
        command: format!(
            "cargo xtask bench alone --size-mib {} --uplink-mbit {} --rounds {}",
            sizes.join(","),
            options.uplink_mbit,
            options.rounds
        ),
        head: vec!["what", "seconds, median (range)", "to curl in the same round"],
        rows,
        notes: vec![
            "Whole commands. The record is published before; the neighbour has the whole file, is on the same LAN, and is \
             what the coordinator names, until the minute when it is forgotten."
                .into(),
            "A neighbour that does not deliver costs a small share of what plain HTTP would take; 20 ms at least where \
             nobody waits for the file."
                .into(),
        ],
    })
}

/// Seconds of curl, and of `peerage get` after it.
fn measure(bin: &Path, options: &Options, mib: u64, seed: u64, neighbour: Neighbour) -> Result<(f64, f64)> {
    let dir = scratch("disk")?;
    let site = Site::with_bin(bin, dir.path(), &format!("{}mbit", options.uplink_mbit))?;
    let file = site.root().join("f.bin");
    random_file(&file, seed, mib << 20)?;
    let url = site.origin.url("f.bin");
    site.fleet.publish(&file, &url)?;
    let mut other = site.device(20, "1000mbit")?;
    if !matches!(neighbour, Neighbour::None) {
        other.get(&url, &dir.path().join("other.out"))?;
    }
    match neighbour {
        Neighbour::None => {}
        Neighbour::Dead => drop(other.daemon.kill()?),
        Neighbour::Silent => within(&other, "ip link set eth0 down")?,
        Neighbour::Slow => {
            within(&other, "tc qdisc replace dev eth0 root tbf rate 1mbit burst 16kb latency 50ms")?
        }
    }
    let device = site.device(10, "1000mbit")?;
    let alone = site.curl_alone(&url)?.as_secs_f64();
    let out = dir.path().join("f.out");
    let done = device.begin_get(&url, &out, &["--foreground"])?.output()?;
    ensure!(done.status.success(), "peerage get: {}", done.stderr);
    ensure!(same_file(&file, &out)?, "the copy differs");
    fs::remove_file(&out)?;
    Ok((alone, done.wall.as_secs_f64()))
}

/// Runs a command in the network of an agent.
fn within(agent: &Agent, line: &str) -> Result<()> {
    let target = agent.daemon.pid().to_string();
    let mut command = Command::new("nsenter");
    command.args(["--net", "--target", &target, "--"]).args(line.split(' '));
    let done = Job::start("within", command, &agent.dir)?.output()?;
    ensure!(done.status.success(), "{line}: {}", done.stderr);
    Ok(())
}
