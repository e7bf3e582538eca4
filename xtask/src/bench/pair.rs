//! One sender, one receiver over loopback. The rival moves clear text and verifies nothing; ours is encrypted, verified
//! piece by piece and stored resumably.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use peerage_testkit::{Agent, Fleet, Job, Nginx, OPEN_POLICY, Usage, random_file, same_file};

use super::report::{Section, median, spread};
use super::rivals;
use super::rivals::one::{Program, Seed};
use super::{scratch, warm};
use crate::shell::Shell;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Size of the file.
    #[arg(long, default_value_t = 1024)]
    size_mib: u64,
    /// Where both sides store: `tmpfs` or `disk`.
    #[arg(long, default_value = "tmpfs", value_parser = ["tmpfs", "disk"])]
    medium: String,
    /// Rounds; programs take turns within one.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Also runs aria2, libtorrent and rqbit, installed when missing.
    #[arg(long)]
    rivals: bool,
}

/// One transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) wall: Duration,
    pub(crate) receiver: Duration,
    pub(crate) sender: Duration,
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 41, 0, last], 0))
}

pub(crate) fn run(shell: &Shell, bin: &Path, options: &Options) -> Result<Section> {
    if options.rivals {
        rivals::install(shell)?;
        rivals::install_rqbit(shell)?;
    }
    let rqbit = shell.tools().join("bin/rqbit");
    let dir = scratch(&options.medium)?;
    let size = options.size_mib << 20;
    let www = dir.path().join("www");
    fs::create_dir_all(&www)?;
    let file = www.join("f.bin");
    random_file(&file, 1, size)?;
    let mut origin = Nginx::serve(&www).directive("sendfile on;").start(dir.path())?;
    let url = origin.url("f.bin");
    let bench = Bench { dir: dir.path(), bin, file: &file, url: &url, size };
    let (mut curl, mut ours, mut clear) = (Vec::new(), Vec::new(), Vec::new());
    let (mut aria2, mut torrents) = (Vec::new(), Vec::new());
    if options.rivals {
        for program in Program::ALL {
            torrents.push((program, Seed::start(program, dir.path(), &file, &rqbit)?, Vec::new()));
        }
    }
    let sha256 = if options.rivals { sha256(&file)? } else { String::new() };
    for round in 0..options.rounds {
        curl.push(bench.curl(&mut origin)?);
        ours.push(bench.peer(round, OPEN_POLICY)?);
        clear.push(bench.peer(round + 1000, &format!("{OPEN_POLICY}peer_encryption = \"off\"\n"))?);
        if options.rivals {
            warm(bench.dir, bench.size)?;
            aria2.push(rivals::aria2(dir.path(), &mut origin, &file, &url, &sha256)?);
        }
        for (_, seed, runs) in &mut torrents {
            warm(bench.dir, bench.size)?;
            runs.push(seed.get()?);
        }
    }
    let base = median(&rates(&curl, size));
    let row = |name: &str, runs: &[Run]| {
        let rates = rates(runs, size);
        let cpu = |of: fn(&Run) -> Duration| {
            let per_gib: Vec<f64> =
                runs.iter().map(|run| of(run).as_secs_f64() * f64::from(1u32 << 30) / size as f64).collect();
            format!("{:.2}", median(&per_gib))
        };
        vec![
            name.to_owned(),
            spread(&rates, 0),
            format!("{:.2}", median(&rates) / base),
            cpu(|run| run.receiver),
            cpu(|run| run.sender),
        ]
    };
    let mut rows = vec![
        row("curl from nginx, clear text, not verified", &curl),
        row("peerage from one peer, encrypted, verified", &ours),
        row("peerage from one peer, `peer_encryption = \"off\"`, verified", &clear),
    ];
    if options.rivals {
        rows.push(row("aria2 from nginx, 4 connections, clear text, SHA-256 at the end", &aria2));
    }
    for (program, _, runs) in &torrents {
        rows.push(row(program.name(), runs));
    }
    Ok(Section {
        key: if options.medium == "tmpfs" { "pair-tmpfs" } else { "pair-disk" },
        title: format!("One to one, {} MiB, {}", options.size_mib, options.medium),
        command: format!(
            "cargo xtask bench pair --size-mib {} --medium {} --rounds {}{}",
            options.size_mib,
            options.medium,
            options.rounds,
            if options.rivals { " --rivals" } else { "" }
        ),
        head: vec!["program", "MiB/s, median (range)", "to curl", "receiver CPU s/GiB", "sender CPU s/GiB"],
        rows,
        notes: vec![
            "Whole commands: `peerage get` with its delivery, `curl -o`. All store the file on the same medium. \
             Before each run as much as the file has is written there and removed: memory that a virtual machine has to \
             ask its host for would fall to whoever comes first."
                .into(),
        ],
    })
}

fn rates(runs: &[Run], size: u64) -> Vec<f64> {
    runs.iter().map(|run| size as f64 / f64::from(1u32 << 20) / run.wall.as_secs_f64()).collect()
}

struct Bench<'a> {
    dir: &'a Path,
    bin: &'a Path,
    file: &'a Path,
    url: &'a str,
    size: u64,
}

fn sha256(file: &Path) -> Result<String> {
    let done = Command::new("sha256sum").arg(file).output()?;
    ensure!(done.status.success(), "sha256sum: {}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout)?;
    Ok(text.split_whitespace().next().context("sha256sum printed nothing")?.to_owned())
}

impl Bench<'_> {
    fn curl(&self, origin: &mut Nginx) -> Result<Run> {
        warm(self.dir, self.size)?;
        let out = self.dir.join("curl.out");
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--output"]).arg(&out).arg(self.url);
        let before = origin.process().usage();
        let done = Job::start("curl", command, self.dir)?.output()?;
        ensure!(done.status.success(), "curl: {}", done.stderr);
        let after = origin.process().usage();
        fs::remove_file(out)?;
        Ok(Run { wall: done.wall, receiver: done.usage.cpu, sender: after.cpu.saturating_sub(before.cpu) })
    }

    /// A new pair of devices: one has the file, the other gets it.
    fn peer(&self, round: u32, policy: &str) -> Result<Run> {
        let dir = self.dir.join(format!("round-{round}"));
        let config = "ingest_allow = [\"127.0.0.0/8\"]\n";
        let fleet = Fleet::start_bin(self.bin, &dir, at(1), None, config)?;
        fleet.publish(self.file, self.url)?;
        let seed = fleet.agent("seed", at(11), None, policy)?;
        seed.get(self.url, &dir.join("seed.out"))?;
        let leech = fleet.agent("leech", at(12), None, policy)?;
        let out = dir.join("leech.out");
        warm(self.dir, self.size)?;
        let (seed_before, leech_before) = (usage(&seed)?, usage(&leech)?);
        let job = leech.begin_get(self.url, &out, &[])?;
        let done = job.output()?;
        ensure!(done.status.success(), "peerage get: {}", done.stderr);
        let (sender, receiver) =
            (usage(&seed)? - seed_before, usage(&leech)? - leech_before + done.usage.cpu);
        ensure!(same_file(self.file, &out)?, "the copy differs");
        let status: serde_json::Value = serde_json::from_str(done.stdout.trim())?;
        let peers = status["BytesFromLanPeers"].as_u64().context("no BytesFromLanPeers")?;
        ensure!(
            peers * 100 >= status["FileSize"].as_u64().unwrap_or(0) * 98,
            "it did not come from the peer: {status}"
        );
        drop((seed, leech, fleet));
        fs::remove_dir_all(&dir)?;
        Ok(Run { wall: done.wall, receiver, sender })
    }
}

fn usage(agent: &Agent) -> Result<Duration> {
    Ok(Usage::of(agent.daemon.pid())?.cpu)
}
