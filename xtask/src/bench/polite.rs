//! A user's transfer beside ours, and beside rivals', at a bottleneck with a buffer: who goes away, and who uses the link
//! when nobody else does. All figures are from interfaces and from the user's own socket.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use peerage_testkit::{Bottleneck, Job, Process, random_file, wait_until};

use super::report::{Section, spread};
use super::{rivals, scratch};

const FILE: &str = "f.bin";
const MIB: u64 = 1 << 20;
/// Bytes on the link after which a transfer has begun.
const BEGUN: u64 = MIB;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Buffers of the bottleneck, in ms.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 50, 200, 500])]
    buffers: Vec<u64>,
    /// The bottleneck, in Mbit/s.
    #[arg(long, default_value_t = 10)]
    rate_mbit: u64,
    /// How long each thing is measured, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only ours.
    #[arg(long)]
    no_rivals: bool,
}

/// Who transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Upload,
    Background,
    Curl,
    Aria2,
    Utp,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Upload => "peerage, upload to a peer",
            Self::Background => "peerage, background download by HTTP",
            Self::Curl => "curl",
            Self::Aria2 => "aria2, 4 connections",
            Self::Utp => "libtorrent, uTP (LEDBAT)",
        }
    }
}

/// The upload last: the origin is stopped for it.
const RIVALS: [Who; 3] = [Who::Curl, Who::Aria2, Who::Utp];
const OURS: [Who; 2] = [Who::Background, Who::Upload];

#[derive(Debug, Default)]
struct Figures {
    /// Share of the link alone, delay that it adds then, share of its own rate that the user keeps.
    used: Vec<f64>,
    delay: Vec<f64>,
    keeps: Vec<f64>,
}

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let rivals = if options.no_rivals { &[][..] } else { &RIVALS };
    let who: Vec<Who> = OURS.iter().chain(rivals).copied().collect();
    let (mut rows, mut alone) = (Vec::new(), Vec::new());
    for buffer in &options.buffers {
        let mut figures: Vec<Figures> = who.iter().map(|_| Figures::default()).collect();
        for _ in 0..options.rounds {
            alone.push(round(bin, options, *buffer, &who, &mut figures)?);
        }
        for (who, figures) in who.iter().zip(&figures) {
            rows.push(vec![
                format!("{buffer} ms"),
                who.name().to_owned(),
                spread(&figures.keeps, 1),
                spread(&figures.used, 1),
                spread(&figures.delay, 0),
            ]);
        }
    }
    let buffers: Vec<String> = options.buffers.iter().map(u64::to_string).collect();
    Ok(Section {
        key: "polite",
        title: format!("Yielding: one cubic flow of a user at {} Mbit/s", options.rate_mbit),
        command: format!(
            "cargo xtask bench polite --buffers {} --rate-mbit {} --seconds {} --rounds {}",
            buffers.join(","),
            options.rate_mbit,
            options.seconds,
            options.rounds
        ),
        head: vec![
            "buffer",
            "beside the user",
            "the user keeps, % of alone",
            "alone: link used, %",
            "alone: delay added, ms",
        ],
        rows,
        notes: vec![
            format!("The user alone: {} Mbit/s of payload. Median (range).", spread(&alone, 2)),
            "Two LANs, a router between them with `tc tbf` towards the user; no other delay on the way. Link use counts \
             all headers, at the router's interface; delay is that of small packets (`ping`). TCP senders other than the \
             user's are CUBIC where the machine allows that to namespaces, else Reno."
                .into(),
        ],
    })
}

/// All programs in turn at one bottleneck; returns what the user gets alone, in Mbit/s.
fn round(bin: &Path, options: &Options, buffer: u64, who: &[Who], figures: &mut [Figures]) -> Result<f64> {
    let dir = scratch("tmpfs")?;
    let rate = format!("{}mbit", options.rate_mbit);
    let mut scene = Bottleneck::new(bin, dir.path(), Some(&rate), Duration::from_millis(buffer))?;
    let file = scene.root().join(FILE);
    random_file(&file, 7, (options.rate_mbit * options.seconds * 6 * 125_000).max(64 * MIB))?;
    let url = scene.origin.url(FILE);
    scene.fleet.publish(&file, &url)?;
    let span = Duration::from_secs(options.seconds);
    let (idle, alone) = (scene.ping(3)?, scene.user_flow(span)?);
    let order = RIVALS.iter().chain(&OURS).filter(|wanted| who.contains(wanted));
    for (number, wanted) in (20..).zip(order) {
        let transfer = begin(&mut scene, *wanted, number, dir.path(), &url)?;
        scene.ping(5)?;
        let (before, began) = (scene.carried()?, Instant::now());
        let delay = scene.ping(options.seconds)? - idle;
        let bits = scene.carried()?.since(before).tx_bytes as f64 * 8.0;
        let used = bits / began.elapsed().as_secs_f64() / (options.rate_mbit as f64 * 1e6);
        let keeps = scene.user_flow(span)? / alone;
        drop(transfer);
        if let Some((_, figures)) = who.iter().zip(&mut *figures).find(|(who, _)| *who == wanted) {
            figures.used.push(used * 100.0);
            figures.delay.push(delay);
            figures.keeps.push(keeps * 100.0);
        }
        println!(
            "{buffer} ms, {}: {:.1} % {:.1} % {delay:.0} ms",
            wanted.name(),
            keeps * 100.0,
            used * 100.0
        );
    }
    Ok(alone)
}

/// Starts a transfer to the far side and waits until it flows. Dropping what is returned ends it.
fn begin(
    scene: &mut Bottleneck,
    who: Who,
    number: u8,
    dir: &Path,
    url: &str,
) -> Result<Vec<Box<dyn std::any::Any>>> {
    let out: PathBuf = dir.join(format!("out-{number}"));
    fs::create_dir_all(&out)?;
    let mut running: Vec<Box<dyn std::any::Any>> = Vec::new();
    if who == Who::Upload {
        let seed = scene.device(false, number, "")?;
        seed.get(url, &out.join("seed"))?;
        // Not killed: its worker would go on without it.
        scene.origin.process().terminate(Duration::from_secs(5))?;
        running.push(Box::new(seed));
    }
    let before = scene.carried()?;
    match who {
        Who::Upload | Who::Background => {
            let device = scene.device(true, number, "")?;
            running.insert(0, Box::new(device.begin_get(url, &out.join(FILE), &[])?));
            running.insert(1, Box::new(device));
        }
        Who::Curl => {
            let mut command = scene.host(true, number)?.command("curl");
            command.args(["--silent", "--show-error", "--output"]).arg(out.join(FILE)).arg(url);
            running.push(start("curl", command, &out)?);
        }
        Who::Aria2 => {
            let mut command = scene.host(true, number)?.command("aria2c");
            command.args(["--quiet", "--no-conf", "-x4", "-s4", "-k1M", "--file-allocation=none", "-d"]);
            command.arg(&out).args(["-o", FILE, url]);
            running.push(start("aria2", command, &out)?);
        }
        Who::Utp => {
            let (near, far) = (scene.host(false, number)?, scene.host(true, number)?);
            let (seed, leech) = (SocketAddr::new(near.ip(), 6881), SocketAddr::new(far.ip(), 6881));
            let torrent = out.join("f.torrent");
            rivals::make_torrent(&scene.root().join(FILE), &torrent, &out, None)?;
            let peer = |host: &peerage_testkit::Host, role: &str, dir: &Path, at: SocketAddr| {
                let mut command = host.command(rivals::PYTHON);
                command.args(["-c", rivals::TORRENT_PEER, role]).arg(&torrent).arg(dir).arg(at.to_string());
                command
            };
            let mut command = peer(&near, "seed", &scene.root(), seed);
            command.arg("utp");
            running.push(Box::new(Process::spawn("utp-seed", command, &out)?));
            wait_until("the torrent seed", PATIENCE, || {
                fs::read_to_string(out.join("utp-seed.stdout")).is_ok_and(|text| text.contains("ready"))
            });
            let mut command = peer(&far, "get", &out, leech);
            command.arg(seed.to_string()).arg("utp");
            running.push(start("utp-leech", command, &out)?);
        }
    }
    let flows = || scene.carried().is_ok_and(|now| now.since(before).tx_bytes > BEGUN);
    let end = Instant::now() + PATIENCE;
    while !flows() {
        ensure!(Instant::now() < end, "{} does not begin; logs are in {}", who.name(), out.display());
        scene.ping(1)?;
    }
    Ok(running)
}

fn start(name: &str, command: Command, dir: &Path) -> Result<Box<dyn std::any::Any>> {
    Ok(Box::new(
        Job::start(name, command, dir).with_context(|| format!("is {name} installed? cargo xtask setup"))?,
    ))
}
