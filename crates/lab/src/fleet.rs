//! Who takes part in a run: one origin, one coordinator, N agents, each a process with its own directory and log.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerage_api::client::{AgentClient, CoordinatorClient, DeviceCredentials, TlsTrust};
use peerage_api::coordinator::{PublishRequest, ResolveRequest, ResolveResponse};
use peerage_content::{ContentId, ContentRecord, Digest, EnrolToken, ScopeSet, SecretKey};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::address;
use crate::args::Source;
use crate::nursery::{Child, Nursery, Order};
use crate::origin_process::{OriginCount, OriginReady};
use crate::policy::LabPolicy;
use crate::subject::Subject;

/// How long the coordinator may take to finish reading the file at the end of a run; its own limit for one answer.
const RECORD_WAIT_MS: u64 = 30_000;

fn write_config(path: &Path, config: &impl Serialize) -> Result<()> {
    let text = toml::to_string(config).with_context(|| format!("could not write {}", path.display()))?;
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

fn new_dir(parent: &Path, name: &str) -> Result<PathBuf> {
    let dir = parent.join(name);
    fs::create_dir(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    Ok(dir)
}

// === Origin ===

/// The origin's process.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) child: Arc<Child>,
    /// Where the file is.
    pub(crate) url: String,
    /// What it has sent. Ends with the process, its last value being the last count.
    pub(crate) counts: watch::Receiver<OriginCount>,
}

impl Origin {
    /// Starts an origin of `source` behind an uplink of `rate` bytes per second.
    ///
    /// # Errors
    /// It does not become ready.
    pub(crate) async fn start(
        nursery: &Nursery,
        dir: &Path,
        source: &Source,
        rate: Option<u64>,
    ) -> Result<Self> {
        let mut args: Vec<OsString> =
            vec!["lab-origin".into(), "--listen".into(), address::ORIGIN.to_string().into()];
        if let Some(rate) = rate {
            args.extend(["--rate".into(), format!("{rate}B/s").into()]);
        }
        args.push("--".into());
        args.push(match source {
            Source::File(path) => path.clone().into(),
            Source::Url(url) => url.as_url().as_str().into(),
        });
        let log = new_dir(dir, "origin")?.join("log");
        let proxy = matches!(source, Source::Url(_));
        let ready = nursery.start(Order { name: "the origin".to_owned(), args, log, proxy }).await?;
        let OriginReady { url, .. } =
            serde_json::from_value(ready.line).context("the origin's ready line is not understood")?;
        Ok(Self { child: ready.child, url, counts: follow(ready.lines) })
    }

    /// Waits for the end of a process that is being stopped, and returns the last count.
    pub(crate) async fn last_count(&mut self) -> OriginCount {
        while self.counts.changed().await.is_ok() {}
        *self.counts.borrow()
    }
}

fn follow(mut lines: mpsc::UnboundedReceiver<String>) -> watch::Receiver<OriginCount> {
    let (sender, counts) = watch::channel(OriginCount::default());
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            match serde_json::from_str(&line) {
                Ok(count) => drop(sender.send_replace(count)),
                Err(error) => tracing::error!(%error, line, "the origin's count is not understood"),
            }
        }
    });
    counts
}

// === Coordinator ===

/// The keys of the coordinator's configuration that differ from the defaults (product §4).
#[derive(Serialize)]
struct CoordinatorConfig<'a> {
    data_dir: &'a Path,
    listen: String,
    ingest_allow: [String; 1],
}

#[derive(Deserialize)]
struct CoordinatorReady {
    url: String,
    admin_token_file: PathBuf,
    enroll_token_file: PathBuf,
}

/// The coordinator's process.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) child: Arc<Child>,
    url: String,
    client: CoordinatorClient,
    admin: EnrolToken,
    enroll: EnrolToken,
    enroll_file: PathBuf,
}

impl Coordinator {
    /// Starts a coordinator that may read from the lab's origin and nowhere else.
    ///
    /// # Errors
    /// It does not become ready.
    pub(crate) async fn start(nursery: &Nursery, dir: &Path) -> Result<Self> {
        let dir = new_dir(dir, "coordinator")?;
        let config = dir.join("coordinator.toml");
        let keys = CoordinatorConfig {
            data_dir: &dir.join("state"),
            listen: address::COORDINATOR.to_string(),
            ingest_allow: [address::ORIGIN.ip().to_string()],
        };
        write_config(&config, &keys)?;
        let args = vec!["coordinator".into(), "--config".into(), config.into()];
        let order = Order { name: "the coordinator".to_owned(), args, log: dir.join("log"), proxy: false };
        let ready = nursery.start(order).await?;
        let CoordinatorReady { url, admin_token_file, enroll_token_file } =
            serde_json::from_value(ready.line).context("the coordinator's ready line is not understood")?;
        let token = |path: &Path| -> Result<EnrolToken> {
            let text = fs::read_to_string(path);
            let text = text.with_context(|| format!("could not read the token {}", path.display()))?;
            Ok(text.parse()?)
        };
        let (admin, enroll) = (token(&admin_token_file)?, token(&enroll_token_file)?);
        let client = CoordinatorClient::new(&url, TlsTrust::Pin(enroll.tls_pin))?;
        Ok(Self { child: ready.child, url, client, admin, enroll, enroll_file: enroll_token_file })
    }

    /// Registers the file, so that devices find its record at once.
    ///
    /// # Errors
    /// The coordinator refuses.
    pub(crate) async fn publish(&self, subject: &Subject, digest: &Digest) -> Result<()> {
        let request = PublishRequest {
            urls: vec![subject.url.clone()],
            sha256: digest.sha256,
            map: URL_SAFE_NO_PAD.encode(digest.map.to_bytes()),
            id: digest.id,
            validators: subject.validators.clone(),
            scopes: ScopeSet::ALL,
            valid_s: None,
        };
        self.client.admin(&self.admin).publish(&request).await.context("could not publish the file")?;
        Ok(())
    }

    /// What the coordinator's record says that `url` is, if it has come to one.
    ///
    /// # Errors
    /// The coordinator does not answer, or its record is not genuine.
    pub(crate) async fn record(&self, url: &str) -> Result<Option<ContentId>> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the system gives no randomness")?;
        let key = SecretKey::from_seed(&seed);
        self.client.enroll(&self.enroll, &key, "the lab itself").await?;
        let request = ResolveRequest {
            url: Some(url.to_owned()),
            wait_ms: RECORD_WAIT_MS,
            ..ResolveRequest::default()
        };
        match self.client.device(DeviceCredentials { key }).resolve(&request).await? {
            ResolveResponse::Known { record, .. } => {
                let record = record.check::<ContentRecord>(&[self.enroll.catalog_key])?;
                Ok(Some(record.get().id))
            }
            ResolveResponse::Pending { .. } => Ok(None),
            ResolveResponse::Refused { reason, .. } => {
                tracing::warn!(reason, "the coordinator has no record of the file");
                Ok(None)
            }
        }
    }
}

// === Devices ===

/// The keys of an agent's configuration that differ from the defaults (product §4).
#[derive(Serialize)]
struct AgentConfig<'a> {
    data_dir: &'a Path,
    cache_dir: &'a Path,
    socket: &'a Path,
    listen: String,
    coordinator: &'a str,
    token: String,
    policy_dir: &'a Path,
}

/// One device: an agent's process.
#[derive(Debug)]
pub(crate) struct Device {
    /// From 1.
    pub(crate) number: u32,
    pub(crate) child: Arc<Child>,
    pub(crate) client: AgentClient,
}

impl Device {
    /// Starts device `number` and sees that it has joined the coordinator.
    ///
    /// # Errors
    /// It does not become ready, or has not joined.
    pub(crate) async fn start(
        nursery: &Nursery,
        dir: &Path,
        number: u32,
        coordinator: &Coordinator,
        policy: &LabPolicy,
    ) -> Result<Self> {
        let dir = new_dir(dir, &format!("device-{number}"))?;
        let (config, socket, cache) = (dir.join("agent.toml"), dir.join("agent.sock"), dir.join("cache"));
        policy.write(&dir.join("policy"), &cache)?;
        let token = coordinator.enroll_file.to_str().context("the directory's name is not UTF-8")?;
        let keys = AgentConfig {
            data_dir: &dir.join("state"),
            cache_dir: &cache,
            socket: &socket,
            listen: address::device(number).to_string(),
            coordinator: &coordinator.url,
            token: format!("@{token}"),
            policy_dir: &dir.join("policy"),
        };
        write_config(&config, &keys)?;
        let args = vec!["agent".into(), "--config".into(), config.into()];
        let order = Order { name: format!("device {number}"), args, log: dir.join("log"), proxy: false };
        let child = nursery.start(order).await?.child;
        let client = AgentClient::new(socket);
        let health = client.health().await.with_context(|| format!("device {number} does not answer"))?;
        if health.coordinator.is_none() {
            bail!("device {number} could not join the coordinator{}", child.tail());
        }
        ensure!(health.version == env!("CARGO_PKG_VERSION"), "device {number} runs another version");
        Ok(Self { number, child, client })
    }
}
