//! BitTorrent programs as a site would use them: a tracker, local discovery, the origin as a web seed, and a client on each
//! device that goes on seeding. rqbit knows no web seeds: for it a seeder sits at the origin.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use peerage_testkit::{Host, Process, Site, same_file, wait_until};
use serde_json::json;

use super::{PYTHON, TORRENT_PEER, make_torrent};

const PEER_PORT: u16 = 6881;
const TRACKER_PORT: u16 = 6969;
const PATIENCE: Duration = Duration::from_secs(600);
/// Written by a client's "completed" hook.
const DONE: &str = "done";
/// What rqbit logs when it has everything.
const RQBIT_DONE: &str = "torrent finished downloading";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Member {
    Aria2,
    Libtorrent,
    Transmission,
    Rqbit,
}

/// What a fleet of them did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Bytes on the wire from the origin.
    pub(crate) origin: u64,
    /// Until the last device had everything.
    pub(crate) last: Duration,
    /// Processor time of all clients.
    pub(crate) cpu: Duration,
}

/// A site's devices, and the file that all of them want.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) site: &'a Site,
    pub(crate) dir: &'a Path,
    pub(crate) file: &'a Path,
    pub(crate) url: &'a str,
    pub(crate) devices: u16,
    /// Each device's link, such as `1000mbit`.
    pub(crate) rate: &'a str,
    /// rqbit, wherever it was built to.
    pub(crate) rqbit: &'a Path,
}

impl Member {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Aria2 => "aria2, BitTorrent with web seed",
            Self::Libtorrent => "libtorrent, TCP and uTP, with web seed",
            Self::Transmission => "transmission, with web seed",
            Self::Rqbit => "rqbit, seeder at the origin",
        }
    }

    /// All devices start at once; numbers of hosts from `first` on are taken.
    pub(crate) fn run(self, task: &Task<'_>, first: u16) -> Result<Outcome> {
        let dir = task.dir.join(format!("{self:?}"));
        fs::create_dir_all(&dir)?;
        let torrent = dir.join("f.torrent");
        let head = task.site.host(first, task.rate)?;
        let tracker = SocketAddr::new(head.ip(), TRACKER_PORT);
        let web = (self != Self::Rqbit).then_some(task.url);
        let info_hash = make_torrent(task.file, &torrent, &dir, Some((tracker, web)))?;
        let _tracker = start_tracker(&head, tracker, &info_hash, &dir)?;
        let seeder = (self == Self::Rqbit).then(|| seed(task, &torrent, &dir)).transpose()?;

        let hosts = (1..=task.devices).map(|n| task.site.host(first + n, task.rate));
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        for host in &hosts {
            // Local discovery is multicast, and there is no default route.
            host.run("ip", ["route", "add", "239.0.0.0/8", "dev", "eth0"])?;
        }
        let outs: Vec<PathBuf> = hosts.iter().map(|host| dir.join(host.name())).collect();
        let before = task.site.origin_counters()?;
        let began = Instant::now();
        let mut clients = Vec::new();
        for (host, out) in hosts.iter().zip(&outs) {
            fs::create_dir_all(out)?;
            clients.push(Process::spawn("client", self.client(task, host, &torrent, out)?, out)?);
        }
        let is_done = |out: &PathBuf| {
            let logged =
                |name: &str| fs::read_to_string(out.join(name)).is_ok_and(|log| log.contains(RQBIT_DONE));
            out.join(DONE).exists()
                || (self == Self::Rqbit && (logged("client.stdout") || logged("client.stderr")))
        };
        wait_until(self.name(), PATIENCE, || outs.iter().all(is_done));
        let last = began.elapsed();
        let origin = task.site.origin_counters()?.since(before).tx_bytes;
        let cpu = clients.iter_mut().map(|client| client.usage().cpu).sum();
        for mut client in clients.into_iter().chain(seeder) {
            client.kill()?;
        }
        let name = task.file.file_name().context("the file has no name")?;
        for out in &outs {
            ensure!(
                same_file(task.file, &out.join(name))?,
                "{}: the copy in {} differs",
                self.name(),
                out.display()
            );
        }
        fs::remove_dir_all(&dir)?;
        Ok(Outcome { origin, last, cpu })
    }

    fn client(self, task: &Task<'_>, host: &Host, torrent: &Path, out: &Path) -> Result<Command> {
        let done = out.join(DONE);
        let at = SocketAddr::new(host.ip(), PEER_PORT).to_string();
        Ok(match self {
            Self::Aria2 => {
                let mut command = host.command("aria2c");
                command.args(["--quiet", "--no-conf", "--enable-dht=false", "--enable-dht6=false"]);
                command.args(["--file-allocation=none", "--seed-ratio=0.0", "--follow-torrent=mem"]);
                command.args(["--bt-enable-lpd=true", "--bt-lpd-interface=eth0"]);
                command.arg(format!("--listen-port={PEER_PORT}"));
                command.arg(format!("--on-bt-download-complete={}", hook(out)?.display()));
                command.arg("--dir").arg(out).arg(torrent);
                command
            }
            Self::Libtorrent => {
                let mut command = host.command(PYTHON);
                command.args(["-c", TORRENT_PEER, "join"]).arg(torrent).arg(out).arg(at).arg(done);
                command
            }
            Self::Transmission => {
                let (home, inbox) = (out.join("home"), out.join("inbox"));
                fs::create_dir_all(&home)?;
                fs::create_dir_all(&inbox)?;
                fs::write(home.join("settings.json"), transmission(host, &hook(out)?).to_string())?;
                fs::copy(torrent, inbox.join("f.torrent"))?;
                let mut command = host.command("transmission-daemon");
                command.arg("--foreground").arg("--config-dir").arg(home).arg("--download-dir").arg(out);
                command.arg("--watch-dir").arg(inbox);
                command
            }
            Self::Rqbit => {
                let mut command = rqbit(host, host.command(task.rqbit));
                command.arg("download").arg("--output-folder").arg(out).arg(torrent);
                command
            }
        })
    }
}

/// A script that says that everything is there.
fn hook(out: &Path) -> Result<PathBuf> {
    let path = out.join("completed.sh");
    fs::write(&path, format!("#!/bin/sh\ntouch '{}'\n", out.join(DONE).display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn transmission(host: &Host, hook: &Path) -> serde_json::Value {
    json!({
        "bind-address-ipv4": host.ip().to_string(),
        "peer-port": PEER_PORT,
        "rpc-enabled": false,
        "dht-enabled": false,
        "lpd-enabled": true,
        "pex-enabled": true,
        "utp-enabled": true,
        "port-forwarding-enabled": false,
        "preallocation": 0,
        "encryption": 0,
        "ratio-limit-enabled": false,
        "script-torrent-done-enabled": true,
        "script-torrent-done-filename": hook.display().to_string(),
    })
}

fn rqbit(host: &Host, mut command: Command) -> Command {
    command.args([
        "--disable-dht",
        "--disable-dht-persistence",
        "--disable-upnp-port-forward",
        "--ipv4-only",
    ]);
    command.args(["--listen-ip", &host.ip().to_string(), "--listen-port", &PEER_PORT.to_string()]);
    command.args(["--http-api-listen-addr", &SocketAddr::new(host.ip(), 3031).to_string()]);
    command
}

/// rqbit at the origin, with the whole file.
fn seed(task: &Task<'_>, torrent: &Path, dir: &Path) -> Result<Process> {
    let host = task.site.origin_host();
    let mut command = rqbit(host, host.command(task.rqbit));
    let root = task.file.parent().context("the file is in no directory")?;
    command.args(["download", "--overwrite", "--output-folder"]).arg(root).arg(torrent);
    let seeder = Process::spawn("seeder", command, dir)?;
    let log = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    wait_until("the seeder at the origin", PATIENCE, || {
        let text = log("seeder.stdout") + &log("seeder.stderr");
        ["finished", "seeding", "100.00%"].iter().any(|word| text.contains(word))
    });
    Ok(seeder)
}

/// opentracker leaves root for a user that may read only what all may.
fn start_tracker(
    host: &Host,
    at: SocketAddr,
    info_hash: &str,
    dir: &Path,
) -> Result<(Process, tempfile::TempDir)> {
    let home = tempfile::Builder::new().prefix("peerage-tracker-").tempdir()?;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
    fs::write(home.path().join("allowed"), format!("{info_hash}\n"))?;
    let mut command = host.command("opentracker");
    command
        .args(["-i", &at.ip().to_string(), "-p", &at.port().to_string(), "-w", "allowed", "-d"])
        .arg(home.path());
    let tracker = Process::spawn("tracker", command, dir)?;
    wait_until("the tracker", PATIENCE, || host.within(|| TcpStream::connect(at).is_ok()).unwrap_or(false));
    Ok((tracker, home))
}
