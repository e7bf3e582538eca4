//! The proxy auto-configuration script: kept fresh, and asked.
//!
//! Invariant: whatever is wrong with it, downloads go on: with the script that was had before, or without a proxy. What
//! another network has named is forgotten at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::pac::{self, Hop};
use crate::script_source::{Script, Scripts, Source};
use crate::way_out::{ChosenBy, ScriptState};
use crate::{ConfigError, OriginConfig, Resolver, SourceUrl};

/// A file is looked at again after this time …
const FILE_CHECK: Duration = Duration::from_secs(10);
/// … a URL after this …
const REFRESH: Duration = Duration::from_secs(3600);
/// … and if it could not be had, after this.
const RETRY: Duration = Duration::from_secs(60);
/// For one name that a script looks up.
const LOOKUP: Duration = Duration::from_secs(1);
/// An answer holds for this long: scripts may go by the clock.
const ANSWER: Duration = Duration::from_secs(60);
const MAX_ANSWERS: usize = 256;

/// The script, and what it has said of late.
#[derive(Debug)]
pub(crate) struct Auto {
    source: Source,
    resolver: Arc<dyn Resolver>,
    state: Mutex<State>,
    /// Counts the changes of the network.
    network: AtomicU64,
    /// How it stands, for whoever asks while the state is in use.
    standing: parking_lot::Mutex<ScriptState>,
}

#[derive(Debug, Default)]
struct State {
    script: Option<Arc<str>>,
    /// Of the file, when it was read.
    modified: Option<SystemTime>,
    next_look: Option<Instant>,
    /// By scheme, host and port.
    answers: BTreeMap<String, (Arc<[Hop]>, Instant)>,
    /// What the network named, and how often it had changed, when that was looked at.
    found: Option<Arc<Scripts>>,
    network: u64,
}

impl Auto {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub(crate) fn new(config: &OriginConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            source: Source::new(config)?,
            resolver: Arc::clone(&config.resolver),
            state: Mutex::default(),
            network: AtomicU64::new(0),
            standing: parking_lot::Mutex::default(),
        })
    }

    /// Where scripts are in this network; `None`: that is being looked for.
    pub(crate) fn look_at(&self, scripts: Option<Scripts>) {
        let Source::Found(found, _) = &self.source else { return };
        found.send_if_modified(|now| {
            let news = now.as_deref() != scripts.as_ref();
            if news {
                *now = scripts.map(Arc::new);
            }
            news
        });
    }

    /// The network is another one: the next question reads the script anew.
    pub(crate) fn moved(&self) {
        self.network.fetch_add(1, Ordering::Relaxed);
    }

    /// What is known of the script.
    pub(crate) fn standing(&self) -> ChosenBy {
        let state = self.standing.lock().clone();
        match &self.source {
            Source::Found(..) => ChosenBy::Discovery(state),
            Source::File(_) | Source::Url(..) => ChosenBy::Script(state),
        }
    }

    /// Reads the script, if it is time to.
    pub(crate) async fn read(&self) {
        self.refresh(&mut *self.state.lock().await).await;
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
        let found = found.map_err(|error| error.to_string());
        let hops: Arc<[Hop]> = match found.and_then(|found| found.map_err(|error| error.to_string())) {
            Ok(hops) => hops.into(),
            Err(why) => {
                self.trouble(&why);
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
        let (network, found) = (self.network.load(Ordering::Relaxed), self.source.found().await);
        if state.network != network || state.found != found {
            if matches!(self.source, Source::Found(..)) {
                *state = State::default();
                *self.standing.lock() = ScriptState::default();
            }
            (state.network, state.next_look) = (network, None);
            state.found = found;
            state.answers.clear();
        }
        if state.next_look.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let read = self.source.read(state.modified, state.found.as_deref()).await;
        let every = if matches!(self.source, Source::File(_)) { FILE_CHECK } else { REFRESH };
        state.next_look = Some(Instant::now() + if read.is_ok() { every } else { RETRY.min(every) });
        match read {
            Ok(None) => {}
            Ok(Some(Script { text, from, modified })) => {
                if state.script.as_deref() != Some(&*text) {
                    state.answers.clear();
                }
                *self.standing.lock() = ScriptState { from: Some(from), trouble: None };
                (state.script, state.modified) = (Some(text.into()), modified);
            }
            Err(why) => {
                // A file that comes back is read, whatever its time.
                state.modified = None;
                self.trouble(&why);
            }
        }
    }

    /// Notes what is wrong; the log is told once.
    fn trouble(&self, why: &str) {
        let mut standing = self.standing.lock();
        if standing.trouble.as_deref() != Some(why) {
            let way = if standing.from.is_some() { "" } else { "; no proxy is used" };
            tracing::warn!("proxy auto-configuration: {why}{way}");
            standing.trouble = Some(why.to_owned());
        }
    }
}
