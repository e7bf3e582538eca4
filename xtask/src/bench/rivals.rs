//! What people would use instead, run as they would run it, on the same files and the same medium.

mod client;
pub(crate) mod one;
pub(crate) mod swarm;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use peerage_testkit::{Job, Nginx, same_file};

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
