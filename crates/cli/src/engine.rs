//! Who downloads: the running agent or, when none answers, the same engine inside this command.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use peerage_agent::{Agent, Config, ConfigFile, Running, StoreError};
use peerage_api::client::AgentClient;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::exit::usage;
use crate::output;
use crate::runtime;
use crate::socket::SocketArgs;

#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// With no agent running: the coordinator to join
    #[arg(long, value_name = "URL", help_heading = "Without an agent")]
    coordinator: Option<String>,
    /// Enrolment token, or @FILE that holds it
    #[arg(long, value_name = "TOKEN", help_heading = "Without an agent")]
    token: Option<String>,
    /// Directory for key, enrolment and cache [default: the host's for root, else this user's]
    #[arg(long, value_name = "DIR", help_heading = "Without an agent")]
    data_dir: Option<PathBuf>,
    /// Directory of policy.toml and policy.d [default: /etc/peerage]
    #[arg(long, value_name = "DIR", help_heading = "Without an agent")]
    policy_dir: Option<PathBuf>,
    /// Certificates (PEM) that origins may use beside the system's; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Without an agent")]
    origin_ca: Vec<PathBuf>,
}

/// Who downloads.
#[derive(Debug)]
pub(crate) struct Engine {
    client: AgentClient,
    own: Option<Own>,
}

/// The engine inside this command.
#[derive(Debug)]
struct Own {
    running: Running,
    threads: Threads,
    /// Its socket, and its cache when no other is free.
    _dir: TempDir,
}

impl Engine {
    /// Finds the running agent, or starts the engine here.
    ///
    /// # Errors
    /// No agent answers, and state or cache cannot be opened here.
    pub(crate) async fn reach(args: EngineArgs) -> anyhow::Result<Self> {
        let socket = args.socket.path();
        match UnixStream::connect(&socket) {
            Ok(_) => return Ok(Self { client: AgentClient::new(socket), own: None }),
            Err(error) => tracing::info!(socket = %socket.display(), %error, "no agent; downloading in here"),
        }
        let dir = tempfile::Builder::new().prefix("peerage-").tempdir().context("no temporary directory")?;
        let (threads, at) = (Threads(Some(runtime::engine()?)), dir.path().to_owned());
        let started = async move {
            let agent = build(args, &at).await?;
            anyhow::Ok((AgentClient::new(agent.socket()), agent.spawn()))
        };
        let (client, running) = threads.run(started).await?;
        Ok(Self { client, own: Some(Own { running, threads, _dir: dir }) })
    }

    /// Asks it.
    pub(crate) const fn client(&self) -> &AgentClient {
        &self.client
    }

    /// Ends the engine if it is in here; the agent goes on.
    pub(crate) async fn end(self) {
        if let Some(own) = self.own {
            let drained = own.threads.run(async {
                own.running.drain().await;
                Ok(())
            });
            if let Err(error) = drained.await {
                tracing::warn!(%error, "the engine did not end well");
            }
        }
    }
}

/// The threads of the engine, which are not the command's own.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        let threads = self.0.as_ref().context("the engine has ended")?;
        threads.spawn(work).await.context("the engine failed")?
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Work that nobody waits for any more must not hold up the end.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

async fn build(args: EngineArgs, dir: &Path) -> anyhow::Result<Agent> {
    let host = crate::agent::default_file()?;
    let flags = ConfigFile {
        // One download has no port to keep; coordinator and neighbours learn whichever it gets.
        listen: Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)),
        socket: Some(dir.join("agent.sock")),
        coordinator: args.coordinator,
        token: args.token,
        policy_dir: args.policy_dir,
        origin_ca: (!args.origin_ca.is_empty()).then_some(args.origin_ca),
        ..ConfigFile::default()
    };
    let place = match args.data_dir {
        Some(dir) => Place { cache: dir.join("cache"), data: dir },
        None => Place::of_this_user(&host)?,
    };
    let place =
        ConfigFile { data_dir: Some(place.data), cache_dir: Some(place.cache), ..ConfigFile::default() };
    let config = Config::from(host.overridden_by(flags).overridden_by(place));
    match peerage_agent::build(config.clone()).await {
        Err(error) if is_locked(&error) => {
            output::note(
                "peerage: another command uses this user's cache; this download goes on without peers. \
                 A running agent (`peerage agent`) serves all of them.",
            );
            let (data_dir, cache_dir) = (dir.join("data"), dir.join("cache"));
            let alone = Config { data_dir, cache_dir, coordinator: None, token: None, ..config };
            peerage_agent::build(alone).await
        }
        built => built,
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(StoreError::Locked { .. })))
}

/// Where state and cache are.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    data: PathBuf,
    cache: PathBuf,
}

impl Place {
    fn of_this_user(host: &ConfigFile) -> anyhow::Result<Self> {
        let host = Config::from(host.clone());
        if is_ours(&host.data_dir) {
            return Ok(Self { data: host.data_dir, cache: host.cache_dir });
        }
        Self::below(|key| std::env::var_os(key).map(PathBuf::from)).ok_or_else(|| {
            usage("no place for the cache: HOME is not set; give --data-dir DIR, or start `peerage agent`")
        })
    }

    /// The XDG base directories of a user; relative ones do not count (XDG Base Directory Specification).
    fn below(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        let absolute = |key: &str| variable(key).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let of = |key: &str, beside: &str| {
            Some(absolute(key).or_else(|| Some(home.as_ref()?.join(beside)))?.join("peerage"))
        };
        Some(Self { data: of("XDG_DATA_HOME", ".local/share")?, cache: of("XDG_CACHE_HOME", ".cache")? })
    }
}

/// Whether the host's state is this user's to use: root, or the user that the agent runs as.
fn is_ours(state: &Path) -> bool {
    rustix::process::geteuid().is_root() || std::fs::File::open(state.join("device.key")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_places_of_their_own() {
        let place = Place::below(|key| match key {
            "HOME" => Some("/u".into()),
            "XDG_CACHE_HOME" => Some("/c".into()),
            "XDG_DATA_HOME" => Some("relative".into()),
            _ => None,
        });
        let expected = Place { data: "/u/.local/share/peerage".into(), cache: "/c/peerage".into() };
        assert_eq!(place, Some(expected));
        assert_eq!(Place::below(|_| None), None);
    }
}
