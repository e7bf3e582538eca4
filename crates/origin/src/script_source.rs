//! Where a proxy auto-configuration script is read: a file, a URL of the configuration, or what the network names (WPAD).
//!
//! A URL that the network names is a stranger's word. It is fetched under a [`Guard`] of its own: from public and private
//! addresses only (not from this device, its link or a cloud's metadata service), without credentials, of a limited size
//! and for a limited time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::pac::MAX_SCRIPT;
use crate::{
    ConfigError, Failure, Guard, HostRule, Known, OriginClient, OriginConfig, ProxyMode, RangeRequest,
    Refusal, SourceUrl,
};

/// For a script at a URL of the configuration …
const FETCH: Duration = Duration::from_secs(15);
/// … and for each that the network names: a stale name must not hold up downloads for long.
const FETCH_FOUND: Duration = Duration::from_secs(5);
/// Downloads wait so long for whoever looks for scripts.
const DISCOVERY: Duration = Duration::from_secs(10);
/// Networks that are not public and may all the same hold a script: where offices have their servers.
const OFFICES: [&str; 5] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// Where scripts were looked for in this network, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scripts {
    /// Places, the first that has a script counts.
    pub urls: Vec<SourceUrl>,
    /// Where none was found, and why.
    pub silent: Vec<String>,
}

/// Where it is read.
#[derive(Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Url(SourceUrl, OriginClient),
    /// `None`: somebody is still looking.
    Found(watch::Sender<Option<Arc<Scripts>>>, OriginClient),
}

/// A script, where it was read, and for a file when that was written.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) text: String,
    pub(crate) from: String,
    pub(crate) modified: Option<SystemTime>,
}

impl Source {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub(crate) fn new(config: &OriginConfig) -> Result<Self, ConfigError> {
        let bad = |why: String| ConfigError::Proxy { why };
        // Straight: no proxy is known before a script has been read.
        let straight = |guard| {
            let proxy = ProxyMode::Direct.into();
            OriginClient::new(OriginConfig { proxy, guard, intake: None, ..config.clone() })
        };
        let ProxyMode::Auto(url) = &config.proxy.mode else {
            return Ok(Self::Found(watch::Sender::new(None), straight(Some(guard()))?));
        };
        match url::Url::parse(url).ok().filter(|url| url.scheme() == "file") {
            Some(url) => Ok(Self::File(url.to_file_path().map_err(|()| bad("not a local file".to_owned()))?)),
            None => {
                let url = SourceUrl::parse(url).map_err(|error| bad(error.to_string()))?;
                Ok(Self::Url(url, straight(None)?))
            }
        }
    }

    /// What the network names, once that is known.
    pub(crate) async fn found(&self) -> Option<Arc<Scripts>> {
        let Self::Found(found, _) = self else { return None };
        let mut found = found.subscribe();
        let known = timeout(DISCOVERY, found.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    /// Reads the script; `None`: it is the one that was modified at `held`.
    ///
    /// # Errors
    /// Why it cannot be had, for people.
    pub(crate) async fn read(
        &self,
        held: Option<SystemTime>,
        found: Option<&Scripts>,
    ) -> Result<Option<Script>, String> {
        match self {
            Self::File(path) => read_file(path, held).await,
            Self::Url(url, client) => fetch(url, client, FETCH).await.map(Some),
            Self::Found(_, client) => {
                let Some(found) = found else {
                    return Err("scripts of this network are still being looked for".to_owned());
                };
                let mut why = found.silent.clone();
                for url in &found.urls {
                    match fetch(url, client, FETCH_FOUND).await {
                        Ok(script) => return Ok(Some(script)),
                        Err(error) => why.push(error),
                    }
                }
                Err(why.join("; "))
            }
        }
    }
}

/// What is fetched on the network's word.
fn guard() -> Guard {
    let allow = OFFICES.iter().filter_map(|net| net.parse::<HostRule>().ok()).collect();
    Guard { allow, max_size: MAX_SCRIPT as u64, max_time: FETCH_FOUND, ..Guard::default() }
}

/// The file, if it is another than at `held`.
async fn read_file(path: &Path, held: Option<SystemTime>) -> Result<Option<Script>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let modified = file.metadata().await.map_err(failed)?.modified().ok();
    if held.is_some() && held == modified {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_SCRIPT as u64 + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(Some(Script { text: text(&bytes)?, from: path.display().to_string(), modified }))
}

async fn fetch(url: &SourceUrl, client: &OriginClient, patience: Duration) -> Result<Script, String> {
    let read = timeout(patience, Box::pin(body(url, client))).await;
    let bytes = read.map_err(|_| format!("{url}: nothing within {patience:?}"))??;
    Ok(Script { text: text(&bytes)?, from: url.to_string(), modified: None })
}

async fn body(url: &SourceUrl, client: &OriginClient) -> Result<Vec<u8>, String> {
    let failed = |error: crate::OriginError| match &error.failure {
        // In words of its own: the settings that a guard names are the coordinator's.
        Failure::Refused(Refusal::Address { host, address, class }) => {
            format!("{host} is at {address}, a {class} address, which no script is fetched from")
        }
        Failure::Refused(Refusal::Credentials) => {
            "a url with a password is not asked for a script".to_owned()
        }
        _ => error.to_string(),
    };
    let mut body = client.open(url, RangeRequest::ALL, &Known::default()).await.map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_SCRIPT {
            break;
        }
    }
    Ok(bytes)
}

fn text(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > MAX_SCRIPT {
        return Err(format!("longer than {MAX_SCRIPT} bytes"));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
