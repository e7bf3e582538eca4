//! BitTorrent programs as a site would use them: a tracker, local discovery, the origin as a web seed, and a client on each
//! device that goes on seeding. rqbit knows no web seeds: for it a seeder sits at the origin.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use peerage_testkit::{Host, Process, Site, same_file, wait_until};

use super::client::{self, Client};
use super::{PYTHON, TORRENT_PEER, make_torrent};

const PEER_PORT: u16 = 6881;
const TRACKER_PORT: u16 = 6969;
const PATIENCE: Duration = Duration::from_secs(600);
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
        let _tracker = client::tracker(head.command("opentracker"), tracker, &info_hash, &dir)?;
        wait_until("the tracker", PATIENCE, || {
            head.within(|| TcpStream::connect(tracker).is_ok()).unwrap_or(false)
        });
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
            client::is_done(out)
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
        let at = SocketAddr::new(host.ip(), PEER_PORT);
        Ok(match self {
            Self::Aria2 => {
                let mut command = host.command("aria2c");
                command.args(["--quiet", "--no-conf", "--enable-dht=false", "--enable-dht6=false"]);
                command.args(["--file-allocation=none", "--seed-ratio=0.0", "--follow-torrent=mem"]);
                command.args(["--bt-enable-lpd=true", "--bt-lpd-interface=eth0"]);
                command.arg(format!("--listen-port={PEER_PORT}"));
                command.arg(format!("--on-bt-download-complete={}", client::hook(out)?.display()));
                command.arg("--dir").arg(out).arg(torrent);
                command
            }
            Self::Libtorrent => {
                let mut command = host.command(PYTHON);
                command.args(["-c", TORRENT_PEER, "join"]).arg(torrent).arg(out);
                command.arg(at.to_string()).arg(client::done(out));
                command
            }
            Self::Transmission => {
                let client = Client { at, root: out, out };
                client.transmission(host.command("transmission-daemon"), torrent, &out.join("home"))?
            }
            Self::Rqbit => {
                let mut command = client::rqbit(host.command(task.rqbit), at);
                command.arg("download").arg("--output-folder").arg(out).arg(torrent);
                command
            }
        })
    }
}

/// rqbit at the origin, with the whole file.
fn seed(task: &Task<'_>, torrent: &Path, dir: &Path) -> Result<Process> {
    let host = task.site.origin_host();
    let at = SocketAddr::new(host.ip(), PEER_PORT);
    let mut command = client::rqbit(host.command(task.rqbit), at);
    let root = task.file.parent().context("the file is in no directory")?;
    command.args(["download", "--overwrite", "--output-folder"]).arg(root).arg(torrent);
    let seeder = Process::spawn("seeder", command, dir)?;
    let log = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    wait_until("the seeder at the origin", PATIENCE, || {
        let text = log("seeder.stdout") + &log("seeder.stderr");
        client::RQBIT_HAS_ALL.iter().any(|word| text.contains(word))
    });
    Ok(seeder)
}
