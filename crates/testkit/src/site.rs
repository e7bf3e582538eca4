//! A site as the network lab sees it: an origin behind a thin link, a coordinator, and devices on one fast LAN, each in
//! a namespace of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{Agent, Bridge, Counters, Fleet, Host, Job, Limit, Nginx, OPEN_POLICY, World, peerage_bin};

/// The peer port (product §4).
const PEER_PORT: u16 = 7680;

/// A site whose origin's uplink is the bottleneck.
#[derive(Debug)]
pub struct Site {
    /// The origin, an unmodified nginx.
    pub origin: Nginx,
    /// The coordinator.
    pub fleet: Fleet,
    dir: PathBuf,
    origin_host: Host,
    lan: Bridge,
    // Last: namespaces go when everything in them has ended.
    _world: World,
}

impl Site {
    /// A site with its files in `dir`; the origin serves `dir/www` at `uplink` (such as `100mbit`).
    ///
    /// # Errors
    /// Namespaces cannot be made (root is needed), or something does not start.
    pub fn new(dir: &Path, uplink: &str) -> Result<Self> {
        Self::with_bin(&peerage_bin()?, dir, uplink)
    }

    /// As [`Self::new`], with a `peerage` binary of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_bin(bin: &Path, dir: &Path, uplink: &str) -> Result<Self> {
        let world = World::new()?;
        let lan = world.bridge("lan")?;
        let origin_host = lan.host("origin", "10.99.0.2/16")?;
        // Room for 50 ms: what a small router queues.
        origin_host.limit_egress(Limit::rate(uplink).burst("64kb").latency("50ms"))?;
        let root = dir.join("www");
        fs::create_dir_all(&root)?;
        let origin = Nginx::serve(&root).on(&origin_host).start(dir)?;
        let head = lan.host("head", "10.99.0.3/16")?;
        let listen = SocketAddr::new(head.ip(), 7690);
        let config = "ingest_allow = [\"10.99.0.0/16\"]\n";
        let fleet = Fleet::start_bin(bin, &dir.join("fleet"), listen, Some(&head), config)?;
        Ok(Self { origin, fleet, dir: dir.to_owned(), origin_host, lan, _world: world })
    }

    /// The directory that the origin serves.
    pub fn root(&self) -> PathBuf {
        self.dir.join("www")
    }

    /// A machine of the LAN with a link of `rate` in both directions, and nothing on it.
    ///
    /// # Errors
    /// The number is taken.
    pub fn host(&self, number: u16, rate: &str) -> Result<Host> {
        let [high, low] = number.to_be_bytes();
        let host = self.lan.host(&format!("d{number}"), &format!("10.99.{}.{low}/16", 1 + high))?;
        host.limit_egress(Limit::rate(rate).burst("256kb").latency("50ms"))?;
        host.limit_ingress(Limit::rate(rate).burst("256kb").latency("50ms"))?;
        Ok(host)
    }

    /// Such a machine with an agent on it.
    ///
    /// # Errors
    /// The agent does not become ready.
    pub fn device(&self, number: u16, rate: &str) -> Result<Agent> {
        let host = self.host(number, rate)?;
        let listen = SocketAddr::new(host.ip(), PEER_PORT);
        self.fleet.agent(host.name(), listen, Some(&host), OPEN_POLICY)
    }

    /// The machine of the origin, behind the thin link.
    pub fn origin_host(&self) -> &Host {
        &self.origin_host
    }

    /// What has passed the origin's network interface, headers and all.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn origin_counters(&self) -> Result<Counters> {
        self.origin_host.counters()
    }

    /// How long `curl` alone takes for `url`, on a machine of the LAN without other traffic.
    ///
    /// # Errors
    /// It fails.
    pub fn curl_alone(&self, url: &str) -> Result<Duration> {
        let host = self.lan.host("curl", "10.99.0.9/16")?;
        let out = self.dir.join("curl.out");
        let mut command = host.command("curl");
        command.args(["--silent", "--show-error", "--fail", "--output"]).arg(&out).arg(url);
        let done = Job::start("curl", command, &self.dir)?.output()?;
        ensure!(done.status.success(), "curl: {}", done.stderr);
        fs::remove_file(out)?;
        Ok(done.wall)
    }

    /// Body bytes that the origin's log has accounted for.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn origin_body_bytes(&self) -> Result<u64> {
        Ok(self.origin.hits()?.iter().map(|hit| hit.body_bytes).sum())
    }
}
