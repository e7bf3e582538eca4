//! A bottleneck between two LANs: an origin, seeds and a user's server on the near side, devices and the user on the far
//! side, and one thin link with a buffer of a known size towards the far side.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{Agent, Counters, Fleet, Host, Job, Limit, Nginx, OPEN_POLICY, Port, World};

const PEER_PORT: u16 = 7680;
/// How much later than it should the user's receiver may be done.
const GRACE: Duration = Duration::from_secs(10);
/// What the user's flow takes to settle, not counted.
const WARM_UP: Duration = Duration::from_secs(5);

/// The two LANs and what is between them.
#[derive(Debug)]
pub struct Bottleneck {
    /// The origin, an unmodified nginx on the near side, serving `dir/www`.
    pub origin: Nginx,
    /// The coordinator, on the near side.
    pub fleet: Fleet,
    dir: PathBuf,
    near: crate::Bridge,
    far: crate::Bridge,
    link: Port,
    gateways: [std::net::IpAddr; 2],
    server: Host,
    user: Host,
    // Last: namespaces go when everything in them has ended.
    _world: World,
}

impl Bottleneck {
    /// A link of `rate` (such as `10mbit`; `None`: no limit) whose buffer holds `buffer`.
    ///
    /// # Errors
    /// Namespaces cannot be made (root is needed), or something does not start.
    pub fn new(bin: &Path, dir: &Path, rate: Option<&str>, buffer: Duration) -> Result<Self> {
        let world = World::new()?;
        let (near, far) = (world.bridge("near")?, world.bridge("far")?);
        // A router of its own: at the sender itself the kernel would notice the queue and send less.
        let router = world.router("router")?;
        let ports = [router.port(&near, "10.98.1.1/24")?, router.port(&far, "10.98.2.1/24")?];
        let gateways = [ports[0].ip(), ports[1].ip()];
        let [_, link] = ports;
        if let Some(rate) = rate {
            link.limit_egress(Limit::rate(rate).burst("16kb").latency(&format!("{}ms", buffer.as_millis())))?;
        }
        let at = |lan: &crate::Bridge, name: &str, address: &str, gateway| -> Result<Host> {
            let host = lan.host(name, address)?;
            host.default_route(gateway)?;
            prepare(&host)?;
            Ok(host)
        };
        let origin_host = at(&near, "origin", "10.98.1.2/24", gateways[0])?;
        let head = at(&near, "head", "10.98.1.3/24", gateways[0])?;
        let server = at(&near, "server", "10.98.1.4/24", gateways[0])?;
        let user = at(&far, "user", "10.98.2.4/24", gateways[1])?;
        let root = dir.join("www");
        fs::create_dir_all(&root)?;
        let origin = Nginx::serve(&root).on(&origin_host).start(dir)?;
        let config = "ingest_allow = [\"10.98.0.0/16\"]\n";
        let fleet =
            Fleet::start_bin(bin, &dir.join("fleet"), SocketAddr::new(head.ip(), 7690), Some(&head), config)?;
        Ok(Self {
            origin,
            fleet,
            dir: dir.to_owned(),
            near,
            far,
            link,
            gateways,
            server,
            user,
            _world: world,
        })
    }

    /// The directory that the origin serves.
    pub fn root(&self) -> PathBuf {
        self.dir.join("www")
    }

    /// Another machine on the near side (`far`: on the far side), its address ending in `number`.
    ///
    /// # Errors
    /// The number is taken.
    pub fn host(&self, far: bool, number: u8) -> Result<Host> {
        let (lan, net, side) = if far { (&self.far, 2, "f") } else { (&self.near, 1, "n") };
        let host = lan.host(&format!("{side}{number}"), &format!("10.98.{net}.{number}/24"))?;
        host.default_route(self.gateways[usize::from(far)])?;
        prepare(&host)?;
        Ok(host)
    }

    /// A device with an agent on the near or the far side. `policy` is added to [`OPEN_POLICY`].
    ///
    /// # Errors
    /// The agent does not become ready.
    pub fn device(&self, far: bool, number: u8, policy: &str) -> Result<Agent> {
        self.device_on(far, number, policy).map(|(agent, _)| agent)
    }

    /// Like [`Self::device`]; with the host, whose interface counts.
    ///
    /// # Errors
    /// The agent does not become ready.
    pub fn device_on(&self, far: bool, number: u8, policy: &str) -> Result<(Agent, Host)> {
        let host = self.host(far, number)?;
        let listen = SocketAddr::new(host.ip(), PEER_PORT);
        let agent = self.fleet.agent(host.name(), listen, Some(&host), &format!("{OPEN_POLICY}{policy}"))?;
        Ok((agent, host))
    }

    /// What the link has carried towards the far side, headers and all.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn carried(&self) -> Result<Counters> {
        self.link.counters()
    }

    /// A user's download over one TCP connection: payload in Mbit/s over `span`, after a warm-up.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn user_flow(&self, span: Duration) -> Result<f64> {
        let listener = self.user.within(|| TcpListener::bind((self.user.ip(), 0)))??;
        let address = listener.local_addr()?;
        // The receiver ends it; the sender only must not end it before.
        let end = Instant::now() + WARM_UP + span + GRACE;
        thread::scope(|scope| {
            let sender = scope.spawn(|| -> Result<()> {
                self.server.within(|| send_until(address, end))??;
                Ok(())
            });
            let received = receive(&listener, span);
            match sender.join() {
                Ok(sent) => sent?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            received
        })
    }

    /// Mean round trip of small packets between the user and its server, in ms, over `seconds`.
    ///
    /// # Errors
    /// No packet comes back.
    pub fn ping(&self, seconds: u64) -> Result<f64> {
        let mut command = self.user.command("ping");
        command.args(["-q", "-i", "0.1", "-w", &seconds.to_string(), &self.server.ip().to_string()]);
        let done = Job::start("ping", command, &self.dir)?.output()?;
        // rtt min/avg/max/mdev = 0.045/0.061/0.089/0.012 ms
        let figures = done.stdout.split(" = ").nth(1).and_then(|text| text.split('/').nth(1));
        figures.and_then(|mean| mean.parse().ok()).with_context(|| format!("ping said: {}", done.stdout))
    }
}

/// Makes TCP on a host as it is on most machines that are far apart. Where CUBIC is not for everybody (a namespace may only
/// have what the machine allows to all users) Reno is: at the short round trips here they do the same. And because trips
/// are so short here, the kernel would send 64 KiB at once however slowly it is to send (tcp_tso_rtt_log): 50 ms of the link.
fn prepare(host: &Host) -> Result<()> {
    let set = |name| host.sysctl("net/ipv4/tcp_congestion_control", name);
    set("cubic").or_else(|_| set("reno"))?;
    host.single_segments()
}

fn send_until(address: SocketAddr, end: Instant) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    rustix::net::sockopt::set_tcp_congestion(&stream, "cubic").context("no CUBIC on this machine")?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let bytes = vec![0x5a; 64 << 10];
    while Instant::now() < end {
        match stream.write_all(&bytes) {
            // The receiver has seen enough.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            done => done?,
        }
    }
    Ok(())
}

/// Reads to the end; the rate from the end of the warm-up, for `span`.
fn receive(listener: &TcpListener, span: Duration) -> Result<f64> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (began, mut bytes, mut counted) = (Instant::now(), vec![0; 64 << 10], 0u64);
    loop {
        let read = stream.read(&mut bytes)?;
        let age = began.elapsed();
        if age >= WARM_UP + span {
            return Ok(counted as f64 * 8.0 / span.as_secs_f64() / 1e6);
        }
        if read == 0 {
            bail!("the user's flow ended after {age:?}");
        }
        if age >= WARM_UP {
            counted += read as u64;
        }
    }
}
