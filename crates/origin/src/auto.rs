//! The proxy auto-configuration file: fetched, kept fresh, and asked.
//!
//! Invariant: whatever is wrong with it, downloads go on: with the script that was had before, or without a proxy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::pac::{self, Hop, MAX_SCRIPT};
use crate::{ConfigError, Known, OriginClient, OriginConfig, ProxyMode, RangeRequest, Resolver, SourceUrl};

/// A file is looked at again after this time …
const FILE_CHECK: Duration = Duration::from_secs(10);
/// … a URL after this …
const REFRESH: Duration = Duration::from_secs(3600);
/// … and if it could not be had, after this.
const RETRY: Duration = Duration::from_secs(60);
const FETCH: Duration = Duration::from_secs(15);
/// For one name that a script looks up.
const LOOKUP: Duration = Duration::from_secs(1);
/// An answer holds for this long: scripts may go by the clock.
const ANSWER: Duration = Duration::from_secs(60);
const MAX_ANSWERS: usize = 256;

/// The file, and what it has said of late.
#[derive(Debug)]
pub(crate) struct Auto {
    source: Source,
    resolver: Arc<dyn Resolver>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url(SourceUrl, OriginClient),
}

#[derive(Debug, Default)]
struct State {
    script: Option<Arc<str>>,
    /// Of the file, when it was read.
    modified: Option<SystemTime>,
    next_look: Option<Instant>,
    /// By scheme, host and port.
    answers: BTreeMap<String, (Arc<[Hop]>, Instant)>,
    /// What has been complained about: the same is said once.
    said: Option<String>,
}

impl Auto {
    /// The file at `url`. Nothing is read yet.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub(crate) fn new(url: &str, config: &OriginConfig) -> Result<Self, ConfigError> {
        let bad = |why: String| ConfigError::Proxy { why };
        let source = match url::Url::parse(url).ok().filter(|url| url.scheme() == "file") {
            Some(url) => Source::File(url.to_file_path().map_err(|()| bad("not a local file".to_owned()))?),
            None => {
                let url = SourceUrl::parse(url).map_err(|error| bad(error.to_string()))?;
                // Straight: no proxy is known before it has been read.
                let proxy = ProxyMode::Direct.into();
                let client = OriginClient::new(OriginConfig { proxy, intake: None, ..config.clone() })?;
                Source::Url(url, client)
            }
        };
        Ok(Self { source, resolver: Arc::clone(&config.resolver), state: Mutex::default() })
    }

    /// The ways to `url`, as the script says; without an answer, straight.
    pub(crate) async fn find(&self, url: &SourceUrl) -> Arc<[Hop]> {
        let mut state = self.state.lock().await;
        self.refresh(&mut state).await;
        let Some(script) = state.script.clone() else { return Arc::new([Hop::Direct]) };
        let host = url.as_url().host_str().unwrap_or_default().to_owned();
        let port = url.as_url().port().map(|port| format!(":{port}")).unwrap_or_default();
        let told = format!("{}://{host}{port}/", url.as_url().scheme());
        if let Some((hops, _)) = state.answers.get(&told).filter(|(_, when)| when.elapsed() < ANSWER) {
            return Arc::clone(hops);
        }
        let (resolver, runtime) = (Arc::clone(&self.resolver), tokio::runtime::Handle::current());
        let resolve = move |name: &str| {
            let found = runtime.block_on(timeout(LOOKUP, resolver.lookup(name))).ok()?.ok()?;
            found.iter().find(|ip| ip.is_ipv4()).or_else(|| found.first()).copied()
        };
        let asked = told.clone();
        let found = tokio::task::spawn_blocking(move || pac::find(&script, &asked, &host, resolve)).await;
        let hops: Arc<[Hop]> = match found {
            Ok(Ok(hops)) => hops.into(),
            Ok(Err(error)) => {
                state.say(&error.to_string());
                Arc::new([Hop::Direct])
            }
            Err(error) => {
                state.say(&error.to_string());
                Arc::new([Hop::Direct])
            }
        };
        if state.answers.len() >= MAX_ANSWERS {
            state.answers.clear();
        }
        state.answers.insert(told, (Arc::clone(&hops), Instant::now()));
        hops
    }

    async fn refresh(&self, state: &mut State) {
        let now = Instant::now();
        if state.next_look.is_some_and(|next| now < next) {
            return;
        }
        let read = match &self.source {
            Source::File(path) => read_file(path, state.modified).await,
            Source::Url(url, client) => match timeout(FETCH, Box::pin(fetch(url, client))).await {
                Ok(script) => script.map(|script| Some((script, None))),
                Err(_) => Err(format!("{url}: nothing within {FETCH:?}")),
            },
        };
        let every = if matches!(self.source, Source::File(_)) { FILE_CHECK } else { REFRESH };
        state.next_look = Some(Instant::now() + if read.is_ok() { every } else { RETRY.min(every) });
        match read {
            Ok(None) => {}
            Ok(Some((script, modified))) => {
                if state.script.as_deref() != Some(&*script) {
                    state.answers.clear();
                    state.said = None;
                }
                (state.script, state.modified) = (Some(script.into()), modified);
            }
            Err(why) => state.say(&why),
        }
    }
}

impl State {
    fn say(&mut self, why: &str) {
        if self.said.as_deref() != Some(why) {
            let way = if self.script.is_some() { "" } else { "; no proxy is used" };
            tracing::warn!("proxy auto-configuration: {why}{way}");
            self.said = Some(why.to_owned());
        }
    }
}

type Read = Option<(String, Option<SystemTime>)>;

/// The file, if it is another than at `modified`.
async fn read_file(path: &Path, modified: Option<SystemTime>) -> Result<Read, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let now = file.metadata().await.map_err(failed)?.modified().ok();
    if modified.is_some() && modified == now {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_SCRIPT as u64 + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(Some((text(&bytes)?, now)))
}

async fn fetch(url: &SourceUrl, client: &OriginClient) -> Result<String, String> {
    let failed = |error: crate::OriginError| error.to_string();
    let mut body = client.open(url, RangeRequest::ALL, &Known::default()).await.map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_SCRIPT {
            break;
        }
    }
    text(&bytes)
}

fn text(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > MAX_SCRIPT {
        return Err(format!("longer than {MAX_SCRIPT} bytes"));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
