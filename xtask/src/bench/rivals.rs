//! What people would use instead, run as they would run it, on the same files and the same medium.

pub(crate) mod swarm;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use peerage_testkit::{Job, Nginx, Process, Usage, same_file, wait_until};

use super::pair::Run;
use crate::setup;
use crate::shell::Shell;

/// Programs and the Debian packages that bring them.
const PROGRAMS: &[(&str, &str)] = &[
    ("aria2c", "aria2"),
    ("/usr/share/doc/python3-libtorrent", "python3-libtorrent"),
    (PYTHON, "python3"),
    ("transmission-daemon", "transmission-daemon"),
    ("opentracker", "opentracker"),
];
/// Not in Debian; building it takes some minutes.
const RQBIT: (&str, &str) = ("rqbit", "9.1.0");
/// Debian's own: its packages are for no other.
pub(super) const PYTHON: &str = "/usr/bin/python3";
/// The script that drives libtorrent.
pub(super) const TORRENT_PEER: &str = include_str!("rival_torrent.py");
const SEED: &str = "127.41.0.21:17001";
const LEECH: &str = "127.41.0.22:17002";

/// Installs the rivals that are missing.
pub(crate) fn install(shell: &Shell) -> Result<()> {
    setup::install(shell, PROGRAMS)
}

/// Builds rqbit, if it is missing.
pub(crate) fn install_rqbit(shell: &Shell) -> Result<()> {
    setup::cargo_tool(shell, RQBIT.0, RQBIT.1)
}

/// aria2, four connections to the origin; with `sha256` it verifies the whole file at the end.
pub(crate) fn aria2(dir: &Path, origin: &mut Nginx, file: &Path, url: &str, sha256: &str) -> Result<Run> {
    let out = dir.join("aria2.out");
    let mut command = Command::new("aria2c");
    command.args([
        "--quiet",
        "--no-conf",
        "--file-allocation=none",
        "--split=4",
        "--max-connection-per-server=4",
    ]);
    command.arg(format!("--checksum=sha-256={sha256}")).arg("--dir").arg(dir).args([
        "--out",
        "aria2.out",
        url,
    ]);
    let before = origin.process().usage();
    let done = Job::start("aria2", command, dir)?.output()?;
    ensure!(done.status.success(), "aria2c: {}", done.stderr);
    let after = origin.process().usage();
    ensure!(same_file(file, &out)?, "the copy differs");
    fs::remove_file(out)?;
    Ok(Run { wall: done.wall, receiver: done.usage.cpu, sender: after.cpu.saturating_sub(before.cpu) })
}

/// Writes the torrent of `file`, with a tracker and a web seed if there are any; the job's logs go to `dir`. Returns the
/// info hash.
pub(super) fn make_torrent(
    file: &Path,
    torrent: &Path,
    dir: &Path,
    from: Option<(SocketAddr, Option<&str>)>,
) -> Result<String> {
    let mut make = Command::new(PYTHON);
    make.args(["-c", TORRENT_PEER, "make"]).arg(file).arg(torrent);
    if let Some((tracker, web)) = from {
        make.arg(format!("http://{tracker}/announce")).args(web);
    }
    let made = Job::start("torrent-make", make, dir)?.output()?;
    ensure!(made.status.success(), "python3-libtorrent: {}", made.stderr);
    Ok(made.stdout.trim().to_owned())
}

/// Two libtorrent peers, in clear text.
#[derive(Debug)]
pub(crate) struct Torrent {
    dir: PathBuf,
    script: PathBuf,
    torrent: PathBuf,
    seed: Process,
}

impl Torrent {
    /// Makes the torrent of `file` and starts to seed it.
    pub(crate) fn start(dir: &Path, file: &Path) -> Result<Self> {
        let (script, torrent) = (dir.join("rival_torrent.py"), dir.join("f.torrent"));
        fs::write(&script, TORRENT_PEER)?;
        make_torrent(file, &torrent, dir, None)?;
        let mut command = Command::new(PYTHON);
        command.arg(&script).arg("seed").arg(&torrent).arg(file.parent().unwrap_or(dir)).arg(SEED);
        let seed = Process::spawn("torrent-seed", command, dir)?;
        let ready = dir.join("torrent-seed.stdout");
        wait_until("the torrent seed", Duration::from_secs(60), || {
            fs::read_to_string(&ready).is_ok_and(|text| text.contains("ready"))
        });
        Ok(Self { dir: dir.to_owned(), script, torrent, seed })
    }

    /// Fetches the file from the seed.
    pub(crate) fn get(&mut self, file: &Path) -> Result<Run> {
        let out = self.dir.join("torrent.out");
        fs::create_dir_all(&out)?;
        let mut command = Command::new(PYTHON);
        command.arg(&self.script).arg("get").arg(&self.torrent).arg(&out).args([LEECH, SEED]);
        let before = Usage::of(self.seed.pid())?.cpu;
        let done = Job::start("torrent-get", command, &self.dir)?.output()?;
        ensure!(done.status.success(), "python3-libtorrent: {}", done.stderr);
        let sender = Usage::of(self.seed.pid())?.cpu - before;
        ensure!(same_file(file, &out.join(file.file_name().unwrap_or_default()))?, "the copy differs");
        fs::remove_dir_all(out)?;
        Ok(Run { wall: done.wall, receiver: done.usage.cpu, sender })
    }
}
