//! Putting the agent together: [`Config`] → [`build`] binds → [`Agent`] → [`Agent::spawn`] → [`Running`].

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use peerage_content::{EnrolToken, PeerId};
use peerage_host::Monitor;
use peerage_origin::{OriginClient, OriginConfig, ProxyConfig, ProxyMode};
use peerage_policy::Class;
use peerage_transport::Identity;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::announcer::{self, Announcer};
use crate::budgets::{self, Budgets};
use crate::cache_place::{CachePlace, Mover};
use crate::caches::Caches;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::Config;
use crate::content::Command;
use crate::coordinator::Coordinator;
use crate::governor::{self, Governor};
use crate::naming::Naming;
use crate::policy::{Changes, Policies, PolicyView, Told, Watcher};
use crate::server::Sockets;
use crate::shared::{Parts, Shared};
use crate::state_dir::StateDir;
use crate::why::Past;
use crate::{cache_place, fleet, housekeeping, listener, naming, neighbours, network};

/// Time in which connections say goodbye when the agent ends (the whole drain stays below 5 s).
const DRAIN: Duration = Duration::from_secs(2);
const ENROL_TIMEOUT: Duration = Duration::from_secs(10);

/// An agent whose state is open and whose addresses are bound; nothing runs yet.
pub struct Agent {
    shared: Arc<Shared>,
    sockets: Sockets,
    port: Option<peerage_transport::Listener>,
    pokes: announcer::Pokes,
    enlisted: governor::Enlisted,
    watcher: Watcher,
    monitor: Monitor,
    naming: watch::Sender<Naming>,
    mover: Mover,
    views: watch::Sender<Arc<PolicyView>>,
    changes: Changes,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// Opens the state, enrols if a token is given and needed, and binds the sockets.
///
/// # Errors
/// State or cache cannot be opened, the sockets cannot be bound, or the token is malformed. A coordinator that cannot
/// be reached is no error: the agent works in simple mode and the reason is logged.
pub async fn build(config: Config) -> anyhow::Result<Agent> {
    let state = StateDir::open(&config.data_dir)?;
    let key = state.device_key()?;
    let identity = Identity::new(&key).context("the device key cannot be used")?;
    let extra_roots = config
        .origin_ca
        .iter()
        .map(|path| std::fs::read(path).with_context(|| format!("could not read {}", path.display())))
        .collect::<Result<Vec<_>, _>>()?;
    let (governor, enlisted) = Governor::new();
    let caches = Caches::new(&extra_roots, &governor)?;
    let origin = OriginClient::new(OriginConfig {
        extra_roots,
        proxy: proxy(&config)?,
        intake: Some(governor.intake(Class::Foreground)),
        ..OriginConfig::default()
    })?;
    let background = origin.with_intake(governor.intake(Class::Background));
    let coordinator = Coordinator::new(key, state.clone(), local_address(&config));
    enrol_if_told(&config, &coordinator).await?;
    let clock = Arc::new(Clock::new());
    let budgets = Budgets::open(Arc::clone(&clock), state.clone());
    let (policies, changes) = Policies::new();
    let mut monitor = Monitor::start(&config.cache_dir).await;
    let (naming, named) = watch::channel(tokio::task::spawn_blocking(Naming::of_files).await?);
    let (policy_dir, look) = (config.policy_dir.clone(), monitor.look());
    let (counts, time) = (Arc::clone(&budgets), Arc::clone(&clock));
    let (own, keys) = (state.clone(), coordinator.catalog_keys());
    let (places, place) = watch::channel(CachePlace::default());
    let cache_place = place.clone();
    let told = Told { naming: named, place, own_cache: cache_place::own(&config) };
    let read = move || Watcher::new(&policy_dir, look, told, counts, time, own, &keys);
    let mut watcher = tokio::task::spawn_blocking(read).await?;
    let wanted = watcher.view().settings.modify_cache_drive.clone();
    let (own, held) = (config.clone(), state.clone());
    let mover = tokio::task::spawn_blocking(move || Mover::open(&own, held, &wanted, places)).await??;
    let store = mover.store();
    monitor.set_cache(&store.home());
    let look = monitor.look();
    let watcher = tokio::task::spawn_blocking(move || {
        watcher.begin(look);
        watcher
    })
    .await?;
    let (views, policy) = watch::channel(watcher.view());
    let (announcer, pokes) = Announcer::new();
    let past = Past::open(state.clone());
    let catalog = Catalog::open(state);
    let sockets = Sockets::bind(&config.socket)
        .with_context(|| format!("could not bind the socket {}", config.socket.display()))?;
    let parts = Parts {
        config,
        cache_place,
        clock,
        identity,
        store,
        origin,
        background_origin: background,
        caches,
        coordinator,
        announcer,
        catalog,
        past,
        budgets,
        governor,
        policies,
        policy,
    };
    let shared = Arc::new(Shared::new(parts));
    // A port that is taken is tried again, and told of, by its own task.
    let port = listener::may_listen(&shared).then(|| listener::bind(&shared, shared.config.listen).ok());
    let port = port.flatten();
    Ok(Agent { shared, sockets, port, pokes, enlisted, watcher, monitor, naming, mover, views, changes })
}

/// The way to origins that the configuration tells.
fn proxy(config: &Config) -> anyhow::Result<ProxyConfig> {
    let mode = config.proxy.as_deref().map(str::parse::<ProxyMode>).transpose().context("proxy")?;
    let credentials = match config.proxy_credentials.as_deref().map(|text| (text, text.strip_prefix('@'))) {
        None => None,
        Some((_, Some(path))) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("could not read {path}"))?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        Some((text, None)) => Some(text.to_owned()),
    };
    Ok(ProxyConfig { mode: mode.unwrap_or_default(), bypass: config.no_proxy.clone(), credentials })
}

/// The address to connect from, when the agent is bound to one.
fn local_address(config: &Config) -> Option<IpAddr> {
    Some(config.listen.ip()).filter(|ip| !ip.is_unspecified())
}

/// Joins the coordinator at `url` while no agent runs: the enrolment waits in the data directory for its next start.
///
/// # Errors
/// The state cannot be opened or written; an [`ApiError`](peerage_api::ApiError) when the coordinator refuses or cannot
/// be reached.
pub async fn enrol(config: &Config, url: &str, token: &EnrolToken) -> anyhow::Result<()> {
    let state = StateDir::open(&config.data_dir)?;
    let coordinator = Coordinator::new(state.device_key()?, state, local_address(config));
    Ok(coordinator.enrol(url, token).await?)
}

/// Joins the coordinator that the configuration names, unless that was done before.
async fn enrol_if_told(config: &Config, coordinator: &Coordinator) -> anyhow::Result<()> {
    let Some(url) = &config.coordinator else { return Ok(()) };
    if coordinator.url().as_deref() == Some(url.as_str()) {
        return Ok(());
    }
    let Some(token) = &config.token else {
        if !coordinator.is_enrolled() {
            tracing::warn!(%url, "not enrolled: no token given");
        }
        return Ok(());
    };
    let token = read_token(token)?;
    match tokio::time::timeout(ENROL_TIMEOUT, coordinator.enrol(url, &token)).await {
        Ok(Ok(())) => tracing::info!(%url, "enrolled"),
        Ok(Err(error)) => tracing::error!(%url, %error, "enrolment failed; downloads work in simple mode"),
        Err(_) => tracing::error!(%url, "enrolment timed out; downloads work in simple mode"),
    }
    Ok(())
}

/// Reads an enrolment token, or the file that `@FILE` names.
///
/// # Errors
/// The file cannot be read, or the text is not a token.
pub fn read_token(text: &str) -> anyhow::Result<EnrolToken> {
    let text = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("could not read {path}"))?,
        None => text.to_owned(),
    };
    Ok(text.parse()?)
}

impl Agent {
    /// The device's key.
    pub fn peer_id(&self) -> PeerId {
        self.shared.identity.peer()
    }

    /// Where peers connect; `None` while policy does not allow sharing, or the port is taken.
    pub fn peers(&self) -> Option<SocketAddr> {
        *self.shared.listening.borrow()
    }

    /// The unix socket of the local API.
    pub fn socket(&self) -> &Path {
        &self.shared.config.socket
    }

    /// Where verified files are kept.
    pub fn cache_dir(&self) -> PathBuf {
        self.shared.cache_place.borrow().home.clone()
    }

    /// Starts all parts. Cannot fail.
    pub fn spawn(self) -> Running {
        let Self { shared, sockets, port, pokes, enlisted, watcher, monitor, naming, mover, views, changes } =
            self;
        let mut tasks = JoinSet::new();
        tasks.spawn(listener::run(Arc::clone(&shared), port));
        tasks.spawn(naming::run(Arc::clone(&shared), naming));
        tasks.spawn(neighbours::run(Arc::clone(&shared)));
        tasks.spawn(announcer::run(Arc::clone(&shared), pokes));
        tasks.spawn(governor::run(Arc::clone(&shared), enlisted));
        tasks.spawn(housekeeping::evict(Arc::clone(&shared)));
        tasks.spawn(mover.run(Arc::clone(&shared)));
        tasks.spawn(budgets::run(Arc::clone(&shared)));
        tasks.spawn(network::run(Arc::clone(&shared)));
        tasks.spawn(watcher.run(monitor, views, changes));
        tasks.spawn(fleet::run(Arc::clone(&shared)));
        let api = Arc::clone(&shared);
        tasks.spawn(async move {
            if let Err(error) = sockets.serve(api).await {
                tracing::error!(%error, "the local API ended");
            }
        });
        Running { shared, tasks }
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Ends all parts: peers and the coordinator get a goodbye, counters are saved. Takes at most 4 s.
    pub async fn drain(mut self) {
        self.shared.store.stop_moving();
        let contents = self.shared.contents.all();
        for handle in &contents {
            let _ = handle.commands.try_send(Command::Stop);
        }
        let ended = async {
            for handle in &contents {
                handle.ended().await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, ended).await;
        self.tasks.shutdown().await;
        announcer::say_goodbye(&self.shared).await;
        tokio::task::block_in_place(|| crate::adopt::discard_finished(&self.shared));
        if let Err(error) = tokio::task::block_in_place(|| self.shared.budgets.save()) {
            tracing::warn!(%error, "traffic counts were not saved");
        }
    }
}
