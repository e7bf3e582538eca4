//! A pushed policy on its way to a fleet: from the administrator's request to the last device that has the document.
//!
//! Devices are connections of their own over kept-alive TLS with the question out that every agent has out, so what is
//! measured is what a push costs the coordinator. It has one core from its start, the devices the others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use peerage_api::client::{ClientOptions, CoordinatorClient, DeviceCredentials, TlsTrust};
use peerage_api::coordinator::{PolicyResponse, PushPolicyRequest};
use peerage_content::{EnrolToken, PublicKey, SecretKey, Sha256};
use peerage_policy::fleet::FleetPolicy;
use peerage_testkit::{Fleet, TestCa, Usage};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::coordinator::{length, resident, start, stay_on};
use super::report::{Section, spread};
use super::scratch;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Devices, each with a connection.
    #[arg(long, default_value_t = 9500, value_parser = clap::value_parser!(u16).range(1..=50_000))]
    devices: u16,
    /// Pushes.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

const SERVER: Ipv4Addr = Ipv4Addr::new(127, 43, 0, 1);
/// Devices that enrol at the same time.
const ENROL: usize = 32;
/// After this long all devices have asked again and are waiting.
const SETTLE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Figures {
    pushed: Vec<f64>,
    median: Vec<f64>,
    most: Vec<f64>,
    last: Vec<f64>,
    cpu: Vec<f64>,
    asked_again: Vec<f64>,
}

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let dir = scratch("disk")?;
    let ca = TestCa::new()?;
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores > 1, "one core, needed are two: the devices would run on the coordinator's");
    stay_on("0")?;
    let fleet = start(bin, dir.path(), &ca, IpAddr::V4(SERVER), "max_connections = 60000\n")?;
    let pid = fleet.coordinator.pid();
    stay_on(&format!("1-{}", cores - 1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (figures, each) = runtime.block_on(measure(&fleet, &ca, pid, options))?;
    stay_on(&format!("0-{}", cores - 1))?;
    let row = |name: &str, values: &[f64], places| vec![name.to_owned(), spread(values, places)];
    Ok(Section {
        key: "push",
        title: format!("A policy pushed to {} devices", options.devices),
        command: format!("cargo xtask bench push --devices {} --rounds {}", options.devices, options.rounds),
        head: vec!["from the push on", "median (range)"],
        rows: vec![
            row("the administrator has the answer, ms", &figures.pushed, 0),
            row("half of the devices have the policy, ms", &figures.median, 0),
            row("99 % of them, ms", &figures.most, 0),
            row("the last one, ms", &figures.last, 0),
            row("coordinator's processor time until then, ms", &figures.cpu, 0),
            row("and for the questions that all ask next, ms", &figures.asked_again, 0),
            vec!["memory for each waiting device, KiB".to_owned(), format!("{:.0}", each / 1024.0)],
        ],
        notes: vec![
            "A connection over TLS 1.3 and a held-back question for each device, as agents have them; the coordinator on \
             one core, all devices on the others. Until a device has the document; it checks the signature and puts it in force \
             in its next moment."
                .into(),
        ],
    })
}

/// One of the fleet.
struct Device {
    stream: TlsStream<TcpStream>,
    address: IpAddr,
    token: String,
}

/// Who enrols devices.
struct Door {
    url: String,
    trust: TlsTrust,
    token: EnrolToken,
    tls: TlsConnector,
    server: SocketAddr,
}

impl Door {
    async fn enrol(self: Arc<Self>, number: u16) -> Result<Device> {
        let [high, low] = number.to_be_bytes();
        let address = IpAddr::from([127, 43, 1 + high, low]);
        let local = ClientOptions { local_address: Some(address), ..ClientOptions::default() };
        let client = CoordinatorClient::with_options(&self.url, self.trust.clone(), local)?;
        let mut seed = [43; 32];
        seed[..2].copy_from_slice(&[high, low]);
        let key = SecretKey::from_seed(&seed);
        client.enroll(&self.token, &key, "bench").await?;
        let token = client.device(DeviceCredentials { key }).session(false).await?.token;
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(address, 0))?;
        let tcp = socket.connect(self.server).await?;
        tcp.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::from(IpAddr::V4(SERVER)), tcp).await?;
        Ok(Device { stream, address, token })
    }
}

async fn measure(fleet: &Fleet, ca: &TestCa, pid: u32, options: &Options) -> Result<(Figures, f64)> {
    let trust = TlsTrust::Ca(ca.cert_pem().into_bytes());
    let admin: EnrolToken = fleet.admin_token()?.parse().context("the admin token does not parse")?;
    let token: EnrolToken = fleet.enroll_token()?.parse().context("the enrolment token does not parse")?;
    let catalog = token.catalog_key;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes())?)?;
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let server = fleet.url.trim_start_matches("https://").parse()?;
    let tls = TlsConnector::from(Arc::new(tls));
    let door = Arc::new(Door { url: fleet.url.clone(), trust: trust.clone(), token, tls, server });
    let admin = CoordinatorClient::new(&fleet.url, trust)?.admin(&admin);

    let before = resident(pid)?;
    let (have, known) = watch::channel(None::<Sha256>);
    let (told, mut answers) = mpsc::unbounded_channel();
    let mut enrolling = JoinSet::new();
    let mut waiting = JoinSet::new();
    let mut next = 0..options.devices;
    loop {
        while enrolling.len() < ENROL
            && let Some(number) = next.next()
        {
            enrolling.spawn(Arc::clone(&door).enrol(number));
        }
        let Some(device) = enrolling.join_next().await else { break };
        waiting.spawn(ask(device??, server, known.clone(), told.clone()));
    }
    tokio::time::sleep(SETTLE).await;
    let each = resident(pid)?.saturating_sub(before) as f64 / f64::from(options.devices);

    let mut figures = Figures::default();
    for round in 0..=options.rounds {
        let text = format!("max_cache_age = {}\nmin_background_qos = 800\n", 86_400 + round);
        let request = PushPolicyRequest { selector: "all".into(), text, percent: 100, min_serial: None };
        let (cpu, began) = (Usage::of(pid)?.cpu, Instant::now());
        let push = async {
            admin.push_policy(&request).await?;
            anyhow::Ok(began.elapsed())
        };
        let gather = async {
            let (mut times, mut answer) = (Vec::with_capacity(options.devices.into()), Vec::new());
            while times.len() < usize::from(options.devices) {
                let (at, body): (Instant, Vec<u8>) =
                    answers.recv().await.context("every device has gone away")?;
                times.push(at.saturating_duration_since(began));
                answer = body;
            }
            anyhow::Ok((times, answer, Usage::of(pid)?.cpu))
        };
        let both = async { tokio::try_join!(push, gather) };
        let (pushed, (mut times, answer, after)) =
            tokio::time::timeout(PATIENCE, both).await.context("not every device got the policy")??;
        have.send_replace(Some(digest(&answer, &catalog)?));
        tokio::time::sleep(SETTLE).await;
        // The first round meets connections that have carried nothing yet.
        if round == 0 {
            continue;
        }
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        figures.pushed.push(ms(pushed));
        figures.median.push(ms(at(0.5)));
        figures.most.push(ms(at(0.99)));
        figures.last.push(ms(times.last().copied().unwrap_or_default()));
        figures.cpu.push(ms(after - cpu));
        figures.asked_again.push(ms(Usage::of(pid)?.cpu - after));
    }
    waiting.abort_all();
    Ok((figures, each))
}

/// Asks for the policy, tells when the answer has come, and asks again when it is known what the answer says.
async fn ask(
    mut device: Device,
    server: SocketAddr,
    mut known: watch::Receiver<Option<Sha256>>,
    told: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
) -> Result<()> {
    let mut answer = vec![0; 16 << 10];
    loop {
        let have = known.borrow_and_update().map_or_else(String::new, |have| format!("&have={have}"));
        let request = format!(
            "GET /v1/policy?wait_ms=60000&at={}{have} HTTP/1.1\r\nhost: {server}\r\nauthorization: Bearer {}\r\n\r\n",
            device.address, device.token
        );
        device.stream.write_all(request.as_bytes()).await?;
        device.stream.flush().await?;
        let (mut held, mut want) = (0, None);
        while want.is_none_or(|want| held < want) {
            let read = device.stream.read(&mut answer[held..]).await?;
            ensure!(read > 0, "the coordinator hung up");
            held += read;
            if want.is_none() {
                want = length(&answer[..held])?;
            }
        }
        let at = Instant::now();
        let body =
            answer[..held].windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| end + 4);
        let body = answer[body..held].to_vec();
        if body.windows(9).any(|window| window == b"\"current\"") {
            continue;
        }
        let _ = told.send((at, body));
        if known.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// What a device says that it has, once it has this answer.
fn digest(answer: &[u8], key: &PublicKey) -> Result<Sha256> {
    match serde_json::from_slice(answer)? {
        PolicyResponse::New { document } => Ok(document.check::<FleetPolicy>(&[*key])?.get().digest()),
        PolicyResponse::Current | PolicyResponse::Called { .. } => anyhow::bail!("nothing new"),
    }
}
