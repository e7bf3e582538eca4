//! `peerage publish`: makes a signed content record, of a file whose bytes are here or of one that the coordinator reads.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, ValueEnum};
use peerage_agent::{ErrorKind, OriginClient, OriginConfig, SourceUrl};
use peerage_api::client::{AdminClient, Ingested};
use peerage_api::coordinator::{IngestRequest, PublishRequest, PublishResponse};
use peerage_api::{ApiError, Code};
use peerage_content::{Digest, Digester, Scope, ScopeSet, Validators};
use peerage_policy::units::parse_duration;
use serde_json::json;

use crate::admin::AdminArgs;
use crate::exit::usage;
use crate::human::{duration, size};
use crate::output;
use crate::progress::Progress;

/// How long the origin may take to say what it serves; the record is good without that.
const PROBE: Duration = Duration::from_secs(5);
/// Between two looks at how far the work is.
const LOOK: Duration = Duration::from_millis(100);
/// How long one request waits for the coordinator's ingestion.
const INGEST_WAIT_MS: u64 = 500;
const BUFFER: usize = 1 << 20;

/// Make a signed content record of a file, so that devices may share it
///
/// A local FILE is read and hashed here, and never sent anywhere: devices fetch it from its URLs and from each other. A
/// URL is read by the coordinator. The URLs of a FILE are looked at from here: they must give a file of its size.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// A local file, or the URL (http, https) of one that the coordinator reads
    #[arg(value_name = "FILE|URL")]
    target: String,
    /// Where devices get the file from; may be repeated. Required for a local file
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// Do not look whether the URLs give the file
    #[arg(long)]
    no_check: bool,
    /// How widely a local file may be shared
    #[arg(long, value_name = "SCOPE", default_value = "internet")]
    scope: Widest,
    /// How long the record of a local file is good for, such as 90d [default: 30d]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    valid: Option<Duration>,
    /// Certificates (PEM) that origins may use beside the system's; may be repeated
    #[arg(long, value_name = "FILE")]
    origin_ca: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// How widely a file may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Widest {
    /// Not at all: devices check what they get, but get it by HTTP
    None,
    /// Within a site
    Lan,
    /// Within a site and a group
    Group,
    /// Anywhere in the fleet
    Internet,
}

impl Widest {
    const fn scopes(self) -> ScopeSet {
        match self {
            Self::None => ScopeSet::NONE,
            Self::Lan => ScopeSet::up_to(Scope::Lan),
            Self::Group => ScopeSet::up_to(Scope::Group),
            Self::Internet => ScopeSet::ALL,
        }
    }
}

pub(crate) async fn run(args: PublishArgs) -> anyhow::Result<ExitCode> {
    let is_url = ["http://", "https://"].iter().any(|scheme| args.target.starts_with(scheme));
    if !is_url && let Some((scheme, _)) = args.target.split_once("://") {
        let scheme = output::printable(scheme);
        return Err(usage(format!("{scheme}:// is not read; give a path, or a URL of http or https")));
    }
    match (is_url, args.urls.is_empty()) {
        (true, false) => {
            return Err(usage("--url goes with a local file; a URL is read by the coordinator as it is"));
        }
        (true, true) if args.no_check => {
            return Err(usage("--no-check goes with a local file; a URL is read by the coordinator"));
        }
        (false, true) => return Err(usage("a local file needs --url URL: where devices get it from")),
        _ => {}
    }
    let admin = args.admin.client()?;
    let done = if is_url { ingest(&admin, &args.target).await? } else { publish(&admin, &args).await? };
    if args.json {
        let fields =
            json!({"FileId": done.id, "FileSize": done.size, "Sha256": done.sha256, "Record": done.record});
        output::json(&fields)?;
    } else {
        output::line(&format!("id      {}", done.id))?;
        output::line(&format!("size    {} ({} bytes)", size(done.size), done.size))?;
        output::line(&format!("sha256  {}", done.sha256))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn publish(admin: &AdminClient, args: &PublishArgs) -> anyhow::Result<PublishResponse> {
    let urls = args.urls.iter().map(|url| {
        SourceUrl::parse(url).map_err(|error| usage(format!("--url {}: {error}", output::printable(url))))
    });
    let urls = urls.collect::<anyhow::Result<Vec<_>>>()?;
    let digest = hash(Path::new(&args.target)).await?;
    let validators = match args.no_check {
        true => Validators::default(),
        false => look_at(&urls, &digest, &args.origin_ca).await?,
    };
    let request = PublishRequest {
        urls: urls.iter().map(|url| url.as_str().to_owned()).collect(),
        sha256: digest.sha256,
        map: URL_SAFE_NO_PAD.encode(digest.map.to_bytes()),
        id: digest.id,
        validators,
        scopes: args.scope.scopes(),
        valid_s: args.valid.map(|valid| valid.as_secs()),
    };
    Ok(admin.publish(&request).await?)
}

/// Hashes a file, off the runtime's threads.
async fn hash(path: &Path) -> anyhow::Result<Digest> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = || format!("could not read {}", path.display());
    let file = File::open(path).with_context(failed)?;
    let total = file.metadata().with_context(failed)?.len();
    let done = Arc::new(AtomicU64::new(0));
    let (own, told) = (path.to_owned(), Arc::clone(&done));
    let mut work = tokio::task::spawn_blocking(move || read(own, file, &told));
    let mut progress = Progress::new(&name);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            digest = &mut work => return digest.context("hashing failed")?,
            _ = look.tick() => progress.bytes("hashing", done.load(Ordering::Relaxed), Some(total)),
        }
    }
}

fn read(path: PathBuf, mut file: File, done: &AtomicU64) -> anyhow::Result<Digest> {
    let failed = || format!("could not read {}", path.display());
    let before = file.metadata().with_context(failed)?;
    if !before.is_file() {
        return Err(usage(format!("{} is no regular file", path.display())));
    }
    let (mut digester, mut buffer) = (Digester::new(), vec![0; BUFFER]);
    loop {
        let read = file.read(&mut buffer).with_context(failed)?;
        if read == 0 {
            break;
        }
        digester.update(buffer.get(..read).unwrap_or_default());
        done.fetch_add(read as u64, Ordering::Relaxed);
    }
    let after = file.metadata().with_context(failed)?;
    if after.len() != digester.size() || after.modified().ok() != before.modified().ok() {
        bail!("{} was written to while it was read; publish it again when it is finished", path.display());
    }
    Ok(digester.finish()?)
}

/// Looks at what the URLs serve: another file, or none, would send every device back to plain HTTP. An origin that cannot
/// be reached from here may well be reachable for the devices: that is said, and no hindrance. Returns what the first
/// origin says of the file, so that devices notice when it serves something else.
async fn look_at(urls: &[SourceUrl], digest: &Digest, ca: &[PathBuf]) -> anyhow::Result<Validators> {
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("could not read {}", path.display()));
    let extra_roots = ca.iter().map(read).collect::<anyhow::Result<_>>()?;
    let client = OriginClient::new(OriginConfig { extra_roots, ..OriginConfig::default() })?;
    let mut validators = None;
    for url in urls {
        let found = match tokio::time::timeout(PROBE, client.probe(url)).await {
            Ok(Ok(info)) => {
                fits(url, info.size, digest.map.layout().size())?;
                info.validators
            }
            Ok(Err(error)) => match error.kind() {
                // Devices may have certificates (`--origin-ca`) that this machine lacks.
                ErrorKind::Connect
                | ErrorKind::Dns
                | ErrorKind::Tls
                | ErrorKind::Proxy
                | ErrorKind::Later { .. } => {
                    unreached(&error.to_string());
                    Validators::default()
                }
                _ => {
                    let message = format!(
                        "{error}; put the file there first, name another --url, or publish it unseen with --no-check"
                    );
                    return Err(ApiError::new(Code::Origin, message).into());
                }
            },
            Err(_) => {
                unreached(&format!("{url}: no answer within {} s", PROBE.as_secs()));
                Validators::default()
            }
        };
        validators.get_or_insert(found);
    }
    Ok(validators.unwrap_or_default())
}

fn unreached(why: &str) {
    output::note(&format!(
        "warning: {}; whether the URL gives the file was not seen, devices will find out",
        output::printable(why)
    ));
}

fn fits(url: &SourceUrl, found: Option<u64>, size: u64) -> anyhow::Result<()> {
    match found.filter(|found| *found != size) {
        None => Ok(()),
        Some(found) => {
            let message = format!(
                "{url} serves {found} bytes, the file has {size}; put the file there first, name another --url, or \
                 publish it unseen with --no-check"
            );
            Err(ApiError::new(Code::Integrity, message).into())
        }
    }
}

/// Lets the coordinator read a URL.
async fn ingest(admin: &AdminClient, url: &str) -> anyhow::Result<PublishResponse> {
    let name = crate::destination::name_of(url).unwrap_or_else(|_| url.to_owned());
    let mut progress = Progress::new(&name);
    let request = IngestRequest { url: url.to_owned(), wait_ms: INGEST_WAIT_MS };
    loop {
        match admin.ingest(&request).await? {
            Ingested::Done(done) => {
                tracing::info!(took = duration(progress.elapsed()), "ingested");
                return Ok(*done);
            }
            Ingested::Pending { fetched, size } => progress.bytes("reading", fetched, size),
        }
    }
}
