//! The coordinator: what an announce costs it, and what it remembers of a device in a swarm.
//!
//! Devices are connections of their own over kept-alive TLS, each with one request under way at a time, as agents have.
//! The coordinator has one core from its start, so that it runs as on a machine that has no more, and the load comes from
//! the others. What counts is announces per second of the coordinator's processor time: that is what one core could do,
//! however fast the load was made.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use peerage_api::client::{ClientOptions, CoordinatorClient, DeviceClient, DeviceCredentials, TlsTrust};
use peerage_api::coordinator::{AnnounceEvent, AnnounceItem, AnnounceRequest, PublishRequest};
use peerage_content::{ContentId, Digester, EnrolToken, ScopeSet, SecretKey, Validators};
use peerage_testkit::{Fleet, Nginx, TestCa, Usage};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::report::{Section, median, spread};
use super::scratch;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Devices, each with a connection.
    #[arg(long, default_value_t = 128)]
    devices: u8,
    /// Contents; every device is in the swarm of each.
    #[arg(long, default_value_t = 1000)]
    contents: usize,
    /// Seconds of load, each round and kind of announce.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 42, 0, 1));

/// What the devices ask in one measurement.
struct Kind {
    name: &'static str,
    items: usize,
    want: u16,
}

const KINDS: [Kind; 3] = [
    Kind { name: "one content, no peers wanted (a seed)", items: 1, want: 0 },
    Kind { name: "one content, 50 peers wanted (a download that begins)", items: 1, want: 50 },
    Kind { name: "100 contents, no peers wanted (a cache)", items: 100, want: 0 },
];

#[derive(Debug, Default)]
struct Figures {
    rate: Vec<f64>,
    per_cpu_second: Vec<f64>,
}

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let dir = scratch("disk")?;
    let ca = TestCa::new()?;
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores > 1, "one core, needed are two: the load would run on the coordinator's");
    stay_on("0")?;
    let fleet = start(bin, dir.path(), &ca, SERVER, "")?;
    let ours = Target { pid: fleet.coordinator.pid(), at: fleet.url.trim_start_matches("https://").parse()? };
    let (mut nginx, nginx_at) = empty_answers(&ca, dir.path())?;
    let nginx = Target { pid: nginx.process().pid(), at: nginx_at };
    stay_on(&format!("1-{}", cores - 1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut figures: Vec<Figures> = KINDS.iter().map(|_| Figures::default()).collect();
    let mut least = Figures::default();
    let member = runtime.block_on(async {
        let bench = Bench::prepare(&fleet, &ca, options).await?;
        let member = bench.fill(ours.pid).await?;
        for _ in 0..options.rounds {
            for (kind, figures) in KINDS.iter().zip(&mut figures) {
                bench.load(ours, kind, Duration::from_secs(options.seconds), figures).await?;
            }
            bench.load(nginx, &KINDS[0], Duration::from_secs(options.seconds), &mut least).await?;
        }
        anyhow::Ok(member)
    })?;
    stay_on(&format!("0-{}", cores - 1))?;
    let floor = median(&least.per_cpu_second);
    let row = |name: &str, figures: &Figures| {
        let ratio = median(&figures.per_cpu_second) / floor;
        vec![
            name.to_owned(),
            spread(&figures.per_cpu_second, 0),
            format!("{ratio:.2}"),
            spread(&figures.rate, 0),
        ]
    };
    let mut rows: Vec<Vec<String>> =
        KINDS.iter().zip(&figures).map(|(kind, figures)| row(kind.name, figures)).collect();
    rows.push(row("nginx, the first request answered with nothing to do", &least));
    rows.push(vec![
        format!("bytes for each of {} swarm members", bench_members(options)),
        format!("{member:.0}"),
        String::new(),
        String::new(),
    ]);
    Ok(Section {
        key: "coordinator",
        title: format!("Coordinator: {} devices in the swarms of {} contents", options.devices, options.contents),
        command: format!(
            "cargo xtask bench coordinator --devices {} --contents {} --seconds {} --rounds {}",
            options.devices, options.contents, options.seconds, options.rounds
        ),
        head: vec![
            "announce",
            "per second of processor time, median (range)",
            "to nginx",
            "per second as the load came",
        ],
        rows,
        notes: vec![
            "Kept-alive TLS 1.3 and HTTP/1.1, a connection for each device, one request at a time; the coordinator on one \
             core, the load on the others. A member's bytes: growth of the process's resident memory while all devices \
             join all swarms, tickets included."
                .into(),
            "nginx, with one worker on the same core, throws the request away and returns an empty list: what TLS and HTTP \
             cost alone. Of the same moment, so the ratio does not depend on what else the machine's host does."
                .into(),
        ],
    })
}

/// A coordinator with a certificate of `ca`, and `more` in its configuration.
pub(super) fn start(bin: &Path, dir: &Path, ca: &TestCa, at: IpAddr, more: &str) -> Result<Fleet> {
    let identity = ca.issue("coordinator", at)?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert, &identity.cert_pem)?;
    fs::write(&key, &identity.key_pem)?;
    let config = format!("tls_cert = {cert:?}\ntls_key = {key:?}\n{more}");
    Fleet::start_bin(bin, &dir.join("fleet"), SocketAddr::new(at, 0), None, &config)
}

/// nginx as a coordinator that does nothing.
fn empty_answers(ca: &TestCa, dir: &Path) -> Result<(Nginx, SocketAddr)> {
    let root = dir.join("nginx");
    fs::create_dir_all(&root)?;
    let answer = "access_log off; keepalive_requests 1000000000; default_type application/json; \
                  location /v1/announce { return 200 '{\"interval_s\":300,\"items\":[]}'; }";
    let nginx = Nginx::serve(&root)
        .tls(ca.issue("nginx", IpAddr::from([127, 0, 0, 1]))?)
        .directive(answer)
        .start(dir)?;
    let at = nginx.address();
    Ok((nginx, at))
}

/// Keeps this process, and what it starts from now on, on some cores.
pub(super) fn stay_on(cores: &str) -> Result<()> {
    let output = Command::new("taskset").args(["-acp", cores, &std::process::id().to_string()]).output()?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn bench_members(options: &Options) -> usize {
    usize::from(options.devices) * options.contents
}

/// A server under load.
#[derive(Debug, Clone, Copy)]
struct Target {
    pid: u32,
    at: SocketAddr,
}

struct Bench {
    devices: Vec<Device>,
    contents: Vec<ContentId>,
    tls: TlsConnector,
}

struct Device {
    address: IpAddr,
    client: DeviceClient,
    token: String,
}

impl Bench {
    async fn prepare(fleet: &Fleet, ca: &TestCa, options: &Options) -> Result<Self> {
        let trust = TlsTrust::Ca(ca.cert_pem().into_bytes());
        let admin: EnrolToken = fleet.admin_token()?.parse().context("the admin token does not parse")?;
        let enrol: EnrolToken =
            fleet.enroll_token()?.parse().context("the enrolment token does not parse")?;
        let admin = CoordinatorClient::new(&fleet.url, trust.clone())?.admin(&admin);
        let mut contents = Vec::with_capacity(options.contents);
        for number in 0..options.contents {
            let mut digester = Digester::new();
            digester.update(&number.to_le_bytes());
            let digest = digester.finish()?;
            contents.push(digest.id);
            let map = base64_url(&digest.map.to_bytes());
            let urls = vec![format!("https://origin.example/{number}")];
            let (sha256, id, scopes) = (digest.sha256, digest.id, ScopeSet::ALL);
            let validators = Validators::default();
            admin
                .publish(&PublishRequest { urls, sha256, map, id, validators, scopes, valid_s: None })
                .await?;
        }
        let mut devices = Vec::new();
        for number in 1..=options.devices {
            let address = IpAddr::from([127, 42, 1, number]);
            let local = ClientOptions { local_address: Some(address), ..ClientOptions::default() };
            let client = CoordinatorClient::with_options(&fleet.url, trust.clone(), local)?;
            let key = SecretKey::from_seed(&[number; 32]);
            client.enroll(&enrol, &key, "bench").await?;
            let client = client.device(DeviceCredentials { key });
            let token = client.session(false).await?.token;
            devices.push(Device { address, client, token });
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes())?)?;
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { devices, contents, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Lets every device join every swarm; returns what that costs for each membership.
    async fn fill(&self, pid: u32) -> Result<f64> {
        // Connections, sessions and the records' own caches are there before.
        for device in &self.devices {
            device.client.announce(&self.announce(device, &self.contents[..1], 0)).await?;
        }
        let before = resident(pid)?;
        for device in &self.devices {
            for contents in self.contents.chunks(500) {
                device.client.announce(&self.announce(device, contents, 0)).await?;
            }
        }
        let members = (self.devices.len() * self.contents.len().saturating_sub(1)) as f64;
        Ok((resident(pid)?.saturating_sub(before)) as f64 / members)
    }

    fn announce(&self, device: &Device, contents: &[ContentId], want: u16) -> AnnounceRequest {
        let left = u64::from(want > 0);
        let item =
            |content: &ContentId| AnnounceItem { content: *content, event: AnnounceEvent::Alive, left, want };
        AnnounceRequest {
            addresses: vec![SocketAddr::new(device.address, 7680)],
            group: None,
            scopes: ScopeSet::ALL,
            items: contents.iter().map(item).collect(),
        }
    }

    /// All devices announce for `span`, each again as soon as it has its answer.
    async fn load(&self, target: Target, kind: &Kind, span: Duration, figures: &mut Figures) -> Result<()> {
        let Target { pid, at } = target;
        let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut streams = Vec::new();
        for (number, device) in self.devices.iter().enumerate() {
            let from = number * kind.items % (self.contents.len() - kind.items + 1);
            let body = self.announce(device, &self.contents[from..from + kind.items], kind.want);
            let body = serde_json::to_string(&body)?;
            let request = format!(
                "POST /v1/announce HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                at,
                device.token,
                body.len()
            );
            streams.push((self.connect(device, at).await?, request));
        }
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|(stream, request)| {
                tokio::spawn(repeat(stream, request, Arc::clone(&done), Arc::clone(&over)))
            })
            .collect();
        // The first answers are not the usual ones: connections and tickets are new.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (cpu, count, began) = (Usage::of(pid)?.cpu, done.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(span).await;
        let (cpu, count) = (Usage::of(pid)?.cpu - cpu, done.load(Ordering::Relaxed) - count);
        let wall = began.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await??;
        }
        figures.rate.push(count as f64 / wall);
        figures.per_cpu_second.push(count as f64 / cpu.as_secs_f64());
        Ok(())
    }

    async fn connect(&self, device: &Device, to: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(device.address, 0))?;
        let tcp = socket.connect(to).await?;
        tcp.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::from(to.ip()), tcp).await?)
    }
}

/// Sends `request` and reads its answer, again and again.
async fn repeat(
    mut stream: TlsStream<TcpStream>,
    request: String,
    done: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
) -> Result<()> {
    let mut answer = vec![0; 1 << 20];
    while !over.load(Ordering::Relaxed) {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let (mut held, mut want) = (0, None);
        while want.is_none_or(|want| held < want) {
            let read = stream.read(&mut answer[held..]).await?;
            ensure!(read > 0, "the server hung up");
            held += read;
            if want.is_none() {
                want = length(&answer[..held])?;
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Bytes of the whole answer, once its head is there.
pub(super) fn length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "the server refused: {}", String::from_utf8_lossy(answer));
    let field = head.lines().find_map(|line| field_of(line, "content-length"));
    let Some(field) = field else { bail!("an answer without a length: {head}") };
    Ok(Some(end + 4 + field.trim().parse::<usize>()?))
}

fn field_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    found.eq_ignore_ascii_case(name).then_some(value)
}

/// Resident memory of a process, in bytes.
pub(super) fn resident(pid: u32) -> Result<u64> {
    Ok(Usage::of(pid)?.rss)
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
