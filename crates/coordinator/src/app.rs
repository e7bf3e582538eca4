//! From configuration to a running coordinator: [`Config::build`] opens and binds, [`Coordinator::spawn`] runs,
//! [`Running::drain`] ends it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use peerage_content::{PublicKey, Sha256};
use peerage_origin::{OriginClient, OriginConfig, ProxyMode, Resolver, SystemResolver};
use rustix::io::Errno;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::contacts::Contacts;
use crate::data_dir::{DataDir, DataDirError};
use crate::identity::{ADMIN_TOKEN, ENROLL_TOKEN, Identity, IdentityError};
use crate::ingest::Ingester;
use crate::maps::Maps;
use crate::policies::FleetPolicies;
use crate::rate::{Rate, RateLimit};
use crate::records::Records;
use crate::registry::MemoryRegistry;
use crate::relay::{Limits, Relay};
use crate::roster::{Roster, token_hash};
use crate::seen::Proxies;
use crate::serve::Server;
use crate::session::Sessions;
use crate::site::Site;
use crate::state::{Parts, Shared};
use crate::store::{Enrolments, Sqlite, StoreError};
use crate::tickets::Tickets;
use crate::{Config, ConfigError};

/// Enrolments and sessions of one address: two thousand at once, twenty a second after that.
const DOORS: Rate = Rate { burst: 2000.0, per_second: 20.0 };
/// Unknown URLs and claims of staleness of one device: two hundred at once, one in ten seconds after that.
const FETCHES: Rate = Rate { burst: 200.0, per_second: 0.1 };
/// Questions of one device for a way through the relay: a hundred at once, one a second after that.
const MEETINGS: Rate = Rate { burst: 100.0, per_second: 1.0 };
const PURGE_EVERY: Duration = Duration::from_secs(86_400);

/// The coordinator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A configured value cannot hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Keys, certificates, tokens.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of `ingest_ca`.
    #[error("could not read {path}")]
    Certificates {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The client for on-demand ingestion.
    #[error("could not set up ingestion")]
    Origin(#[from] peerage_origin::ConfigError),
    /// TLS.
    #[error("could not set up tls")]
    Tls(#[from] rustls::Error),
    /// The address.
    #[error("could not listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Opened and bound, not yet serving.
#[derive(Debug)]
pub struct Coordinator {
    address: SocketAddr,
    dir: DataDir,
    pin: Sha256,
    catalog_key: PublicKey,
    state: StateHandle,
    store: Sqlite,
    server: ServerHandle,
    stop: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

struct StateHandle(Shared);
struct ServerHandle(Server);

impl std::fmt::Debug for StateHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Config {
    /// Opens the data directory (making keys and tokens at the first start) and binds the address.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(self) -> Result<Coordinator, BuildError> {
        self.build_with(Arc::new(SystemResolver)).await
    }

    /// The same with another resolver of the names in ingested URLs.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build_with(self, resolver: Arc<dyn Resolver>) -> Result<Coordinator, BuildError> {
        let checked = self.checked()?;
        let dir = DataDir::open(&self.data_dir)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identity = Identity::load(&self, &dir, &provider)?;
        let store = Sqlite::open(&dir.touch("catalog.db")?).await?;
        let clock = Clock::new();
        store.set_standing(token_hash(&identity.enroll.secret), clock.unix()).await?;
        let (stop, kill, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());

        let maps = Maps::new(dir.path("maps"));
        let catalog_key = identity.catalog.public();
        let records =
            Records::new(Arc::new(store.clone()), maps, identity.catalog.clone(), self.record_valid_s, clock);
        let records = Arc::new(records);
        let extra_roots = self.ingest_ca.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        let origin = OriginClient::new(OriginConfig {
            extra_roots,
            proxy: self.ingest_proxy.clone().map_or(ProxyMode::Direct, ProxyMode::Url).into(),
            guard: Some(checked.guard),
            resolver,
            ..OriginConfig::default()
        })?;
        let ingester = Ingester::new(origin, Arc::clone(&records), &self, tasks.clone(), stop.clone());
        let limits = Limits { rate: self.relay_rate, connections: self.relay_connections };
        let relay = self.relay.then(|| Arc::new(Relay::new(limits)));
        let state = Arc::new(Parts {
            clock,
            pin: identity.pin,
            admin: identity.admin,
            sessions: Sessions::new(&identity.session_key),
            site: Arc::new(Site::new(&dir, identity.site_key)),
            roster: Roster::load(Arc::new(store.clone())).await?,
            policies: FleetPolicies::load(Arc::new(store.clone()), identity.catalog.clone()).await?,
            contacts: Contacts::default(),
            records,
            ingester,
            registry: Arc::new(MemoryRegistry::new()),
            tickets: Tickets::new(identity.catalog),
            sites: checked.sites,
            proxies: Proxies::new(self.trusted_proxies, checked.proxy_header),
            group_key: blake3::derive_key("peerage coordinator group key v1", &identity.session_key),
            site_tag_key: blake3::derive_key("peerage coordinator site tag key v1", &identity.session_key),
            on_demand: self.on_demand,
            announce_interval_s: self.announce_interval_s,
            doors: RateLimit::new(DOORS),
            fetches: RateLimit::new(FETCHES),
            meetings: RateLimit::new(MEETINGS),
            relay: relay.clone(),
            stop: stop.clone(),
        });

        let tls = TlsAcceptor::from(Arc::new(server_tls(identity.tls, provider)?));
        let bind = |source| BuildError::Bind { address: self.listen, source };
        let listener = listen(self.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let server = Server {
            listener,
            tls,
            state: Arc::clone(&state),
            relay,
            max_connections: crate::descriptors::make_room(self.max_connections),
            tasks: tasks.clone(),
            stop: stop.clone(),
            kill: kill.clone(),
        };
        Ok(Coordinator {
            address,
            dir,
            pin: identity.pin,
            catalog_key,
            state: StateHandle(state),
            store,
            server: ServerHandle(server),
            stop,
            kill,
            tasks,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|source| BuildError::Certificates { path: path.to_owned(), source })
}

/// Binds `address`; `[::]` is every address, also on a host whose kernel has no IPv6.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

fn server_tls(
    certified: Arc<CertifiedKey>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Only(certified)));
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(tls)
}

/// The one certificate, whatever name the client asks for: a pinned client may know the coordinator by any.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Coordinator {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file that holds the admin token.
    pub fn admin_token_path(&self) -> PathBuf {
        self.dir.path(ADMIN_TOKEN)
    }

    /// The file that holds the standing enrolment token.
    pub fn enroll_token_path(&self) -> PathBuf {
        self.dir.path(ENROLL_TOKEN)
    }

    /// SHA-256 of its TLS key.
    pub const fn tls_pin(&self) -> Sha256 {
        self.pin
    }

    /// The key that signs records and tickets.
    pub const fn catalog_key(&self) -> PublicKey {
        self.catalog_key
    }

    /// Starts serving.
    pub fn spawn(self) -> Running {
        let Self { address, dir, state, store, server, stop, kill, tasks, .. } = self;
        tasks.spawn(housekeeping(state.0, stop.clone()));
        tasks.spawn(server.0.run());
        tracing::info!(%address, "coordinator is ready");
        Running { address, stop, kill, tasks, store, _dir: dir }
    }
}

/// A coordinator that serves. Dropping it ends it at once; [`Self::drain`] lets it finish.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
    store: Sqlite,
    _dir: DataDir,
}

impl Running {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to end: nothing new is accepted, long polls answer, requests under way are finished.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }

    /// Ends: as [`Self::shutdown`], then waits up to `grace` and drops what is still under way.
    pub async fn drain(self, grace: Duration) {
        self.shutdown();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "dropping what did not finish in time");
            self.kill.cancel();
            self.tasks.wait().await;
        }
        self.store.close().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.kill.cancel();
    }
}

/// Forgets silent members every few seconds and ended records once a day.
async fn housekeeping(state: Shared, stop: CancellationToken) {
    let sweep = Duration::from_secs(state.announce_interval_s.div_ceil(4));
    let mut sweep = tokio::time::interval(sweep);
    let mut purge = tokio::time::interval(PURGE_EVERY);
    loop {
        tokio::select! {
            _ = sweep.tick() => {
                state.registry.expire(state.silent_since()).await;
                if let Some(relay) = &state.relay {
                    relay.expire();
                }
            }
            _ = purge.tick() => {
                if let Err(error) = state.records.purge().await {
                    tracing::error!(error = &error as &dyn std::error::Error, "could not drop old records");
                }
            }
            () = stop.cancelled() => return,
        }
    }
}
