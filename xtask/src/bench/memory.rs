//! What an agent costs the machine that it runs on: doing nothing, keeping files for others, moving a large one.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use peerage_testkit::{Agent, Fleet, Nginx, OPEN_POLICY, Usage, random_file, sparse_file};

use super::report::{Section, median, spread};
use super::scratch;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Files that the seeding agent keeps.
    #[arg(long, default_value_t = 100)]
    files: u32,
    /// Size of the file that moves from one peer to the other.
    #[arg(long, default_value_t = 10)]
    move_gib: u64,
    /// Seconds over which an agent that does nothing is watched.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Debug, Default)]
struct Figures {
    idle: Vec<f64>,
    idle_cpu: Vec<f64>,
    seeding: Vec<f64>,
    seeding_cpu: Vec<f64>,
    receiver: Vec<f64>,
    sender: Vec<f64>,
    rate: Vec<f64>,
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 44, 0, last], 0))
}

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let mut figures = Figures::default();
    for _ in 0..options.rounds {
        round(bin, options, &mut figures)?;
    }
    let watched = format!("% of a core over {} s", options.seconds);
    let row = |what: &str, memory: &[f64], cpu: String| vec![what.to_owned(), spread(memory, 1), cpu];
    Ok(Section {
        key: "memory",
        title: "Memory of an agent".into(),
        command: format!(
            "cargo xtask bench memory --files {} --move-gib {} --seconds {} --rounds {}",
            options.files, options.move_gib, options.seconds, options.rounds
        ),
        head: vec!["what it does", "RSS in MiB, median (range)", "processor"],
        rows: vec![
            row("nothing", &figures.idle, format!("{} {watched}", spread(&figures.idle_cpu, 2))),
            row(
                &format!("keeps {} files for others", options.files),
                &figures.seeding,
                format!("{} {watched}", spread(&figures.seeding_cpu, 2)),
            ),
            row(
                &format!("receives {} GiB from a peer, at most", options.move_gib),
                &figures.receiver,
                format!("{:.0} MiB/s", median(&figures.rate)),
            ),
            row(
                &format!("fetches {} GiB from the origin and sends them to a peer, at most", options.move_gib),
                &figures.sender,
                String::new(),
            ),
        ],
        notes: vec![
            "Resident memory, shared libraries and the program's own pages included; while moving the highest that the \
             kernel saw (VmHWM). The large file is of zeros; both agents store it whole."
                .into(),
        ],
    })
}

fn round(bin: &Path, options: &Options, figures: &mut Figures) -> Result<()> {
    let dir = scratch("disk")?;
    let www = dir.path().join("www");
    fs::create_dir_all(&www)?;
    let origin = Nginx::serve(&www).directive("sendfile on;").start(dir.path())?;
    let fleet =
        Fleet::start_bin(bin, &dir.path().join("fleet"), at(1), None, "ingest_allow = [\"127.0.0.0/8\"]\n")?;

    let idle = fleet.agent("idle", at(11), None, OPEN_POLICY)?;
    watch(&idle, options, &mut figures.idle, &mut figures.idle_cpu)?;
    drop(idle);

    let seeding = fleet.agent("seeding", at(12), None, OPEN_POLICY)?;
    for number in 0..options.files {
        let name = format!("small-{number}.bin");
        random_file(&www.join(&name), u64::from(number), 2 << 20)?;
        fleet.publish(&www.join(&name), &origin.url(&name))?;
        let out = dir.path().join("small.out");
        seeding.get(&origin.url(&name), &out)?;
        fs::remove_file(out)?;
    }
    // A content that nobody asks for is laid down after half a minute.
    pass(35);
    watch(&seeding, options, &mut figures.seeding, &mut figures.seeding_cpu)?;
    drop(seeding);

    let size = options.move_gib << 30;
    sparse_file(&www.join("large.bin"), size)?;
    let url = origin.url("large.bin");
    fleet.publish(&www.join("large.bin"), &url)?;
    let out = dir.path().join("large.out");
    let sender = fleet.agent("sender", at(13), None, OPEN_POLICY)?;
    sender.get(&url, &out)?;
    fs::remove_file(&out)?;
    let receiver = fleet.agent("receiver", at(14), None, OPEN_POLICY)?;
    let began = std::time::Instant::now();
    let status = receiver.get(&url, &out)?;
    figures.rate.push(size as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64());
    let from_peers = status["BytesFromLanPeers"].as_u64().unwrap_or(0);
    ensure!(from_peers * 100 >= size * 98, "it did not come from the peer: {status}");
    figures.receiver.push(mib(Usage::of(receiver.daemon.pid())?.peak_rss));
    figures.sender.push(mib(Usage::of(sender.daemon.pid())?.peak_rss));
    Ok(())
}

/// Notes an agent's memory, and the processor time that it takes without having anything to do.
fn watch(agent: &Agent, options: &Options, memory: &mut Vec<f64>, cpu: &mut Vec<f64>) -> Result<()> {
    pass(2);
    let before = Usage::of(agent.daemon.pid())?;
    pass(options.seconds);
    let after = Usage::of(agent.daemon.pid())?;
    memory.push(mib(after.rss));
    cpu.push((after.cpu - before.cpu).as_secs_f64() * 100.0 / options.seconds as f64);
    Ok(())
}

/// Lets time pass: how an agent is when nothing happens shows in nothing else.
#[expect(clippy::disallowed_methods, reason = "the time itself is what is measured")]
fn pass(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
