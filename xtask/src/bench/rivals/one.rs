//! BitTorrent programs one to one over loopback, in clear text: one process has the file and seeds, another fetches it.
//! transmission is not among them: it takes no loopback addresses from trackers, and no peers by name.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use peerage_testkit::{Job, Process, Usage, same_file, wait_until};

use super::client;
use super::{PYTHON, TORRENT_PEER, make_torrent};
use crate::bench::pair::Run;

const PATIENCE: Duration = Duration::from_secs(300);

const fn at(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 41, 0, last)), 17001)
}

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Libtorrent,
    Rqbit,
}

impl Program {
    pub(crate) const ALL: [Self; 2] = [Self::Libtorrent, Self::Rqbit];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Libtorrent => "libtorrent from one peer over TCP, clear text, verified (SHA-1)",
            Self::Rqbit => "rqbit from one peer over TCP, clear text, verified (SHA-1)",
        }
    }

    /// Where it seeds, and where it fetches.
    const fn places(self) -> [SocketAddr; 2] {
        let first = 21 + 2 * self as u8;
        [at(first), at(first + 1)]
    }
}

/// A process that seeds, and what the others need to fetch from it.
#[derive(Debug)]
pub(crate) struct Seed<'a> {
    program: Program,
    dir: PathBuf,
    torrent: PathBuf,
    file: &'a Path,
    rqbit: &'a Path,
    process: Process,
}

impl<'a> Seed<'a> {
    /// Makes the torrent of `file` and starts to seed it.
    pub(crate) fn start(program: Program, dir: &Path, file: &'a Path, rqbit: &'a Path) -> Result<Self> {
        let dir = dir.join(format!("{program:?}"));
        fs::create_dir_all(&dir)?;
        let torrent = dir.join("f.torrent");
        let [seed, _] = program.places();
        make_torrent(file, &torrent, &dir, None)?;
        let root = file.parent().context("the file is in no directory")?;
        let command = match program {
            Program::Libtorrent => {
                let mut command = Command::new(PYTHON);
                command.args(["-c", TORRENT_PEER, "seed"]).arg(&torrent).arg(root).arg(seed.to_string());
                command
            }
            Program::Rqbit => {
                let mut command = client::rqbit(Command::new(rqbit), seed);
                command.args(["download", "--overwrite", "--output-folder"]).arg(root).arg(&torrent);
                command
            }
        };
        let process = Process::spawn("seed", command, &dir)?;
        let said = |word| {
            let log = |name| fs::read_to_string(dir.join(name)).unwrap_or_default();
            (log("seed.stdout") + &log("seed.stderr")).contains(word)
        };
        wait_until("the seed", PATIENCE, || match program {
            Program::Libtorrent => said("ready"),
            Program::Rqbit => client::RQBIT_HAS_ALL.into_iter().any(said),
        });
        Ok(Self { program, dir, torrent, file, rqbit, process })
    }

    /// Fetches the file from the seed.
    pub(crate) fn get(&mut self) -> Result<Run> {
        let [seed, leech] = self.program.places();
        let out = self.dir.join("out");
        fs::create_dir_all(&out)?;
        let before = Usage::of(self.process.pid())?.cpu;
        let command = match self.program {
            Program::Libtorrent => {
                let mut command = Command::new(PYTHON);
                command.args(["-c", TORRENT_PEER, "get"]).arg(&self.torrent).arg(&out);
                command.args([leech.to_string(), seed.to_string()]);
                command
            }
            Program::Rqbit => {
                let mut command = client::rqbit(Command::new(self.rqbit), leech);
                command.args(["download", "--exit-on-finish", "--initial-peers", &seed.to_string()]);
                command.arg("--output-folder").arg(&out).arg(&self.torrent);
                command
            }
        };
        let done = Job::start("get", command, &self.dir)?.output()?;
        ensure!(done.status.success(), "{:?}: {}{}", self.program, done.stdout, done.stderr);
        let sender = Usage::of(self.process.pid())?.cpu - before;
        ensure!(
            same_file(self.file, &out.join(self.file.file_name().unwrap_or_default()))?,
            "the copy differs"
        );
        fs::remove_dir_all(out)?;
        Ok(Run { wall: done.wall, receiver: done.usage.cpu, sender })
    }
}
