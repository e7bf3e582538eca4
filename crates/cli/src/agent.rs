//! `peerage agent`: the daemon on each device, in the foreground.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use peerage_agent::{Config, ConfigFile};
use peerage_content::PeerId;
use serde::Serialize;

use crate::daemon::Signals;
use crate::exit::usage;
use crate::output;

/// Read when there is one (product §4).
pub(crate) const CONFIG: &str = "/etc/peerage/agent.toml";

/// Run the agent in the foreground: the daemon that downloads, keeps files and serves peers
///
/// One JSON line on stdout says when it is ready. It ends on SIGTERM or SIGINT after at most 5 s, on a second one at
/// once.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Configuration file; its keys are the names of the flags below [default: /etc/peerage/agent.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the device's key and enrolment [default: /var/lib/peerage]. When given, cache and socket are in it
    /// too unless they are given
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory of the verified files [default: /var/cache/peerage]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Where peers connect; port 0 takes a free one [default: port 7680 of all addresses]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Unix socket of the local API [default: /run/peerage/agent.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The coordinator to join if that was not done before
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    /// Enrolment token, or @FILE that holds it
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Directory of policy.toml and policy.d [default: /etc/peerage]
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// Certificates (PEM) that origins may use beside the system's; may be repeated
    #[arg(long, value_name = "FILE")]
    origin_ca: Vec<PathBuf>,
    /// The way to origins: environment, direct, a proxy's URL (http, https, socks5, socks5h), pac+URL of a proxy
    /// auto-configuration file, or wpad for the one that the network names [default: environment]
    #[arg(long, value_name = "PROXY")]
    proxy: Option<String>,
    /// Hosts that are reached without the proxy: names, addresses, networks; may be repeated
    #[arg(long, value_name = "HOST")]
    no_proxy: Vec<String>,
}

/// The ready line.
#[derive(Debug, Serialize)]
struct Ready {
    ready: &'static str,
    /// Where peers connect, while sharing is allowed.
    peers: Option<SocketAddr>,
    socket: PathBuf,
    peer_id: PeerId,
}

impl AgentArgs {
    fn config(self) -> anyhow::Result<Config> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => default_file()?,
        };
        let flags = ConfigFile {
            data_dir: self.data_dir,
            cache_dir: self.cache_dir,
            listen: self.listen,
            socket: self.socket,
            coordinator: self.coordinator,
            token: self.token,
            policy_dir: self.policy_dir,
            origin_ca: (!self.origin_ca.is_empty()).then_some(self.origin_ca),
            proxy: self.proxy,
            no_proxy: (!self.no_proxy.is_empty()).then_some(self.no_proxy),
            // A password on the command line is everybody's to read.
            proxy_credentials: None,
        };
        let config: Config = file.overridden_by(flags).into();
        if let Some(url) = config.coordinator.as_deref().filter(|url| !url.starts_with("https://")) {
            let url = output::printable(url);
            return Err(usage(format!(
                "coordinator: found {url:?}, allowed is a URL that begins with https://"
            )));
        }
        Ok(config)
    }
}

fn read(path: &Path) -> anyhow::Result<ConfigFile> {
    ConfigFile::read(path).map_err(|error| usage(crate::exit::chain(&error.into())))
}

/// The host's configuration file; nothing when there is none.
///
/// # Errors
/// It is there and cannot be used.
pub(crate) fn default_file() -> anyhow::Result<ConfigFile> {
    let path = Path::new(CONFIG);
    if path.exists() { read(path) } else { Ok(ConfigFile::default()) }
}

pub(crate) async fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let config = args.config()?;
    let agent = tokio::select! {
        agent = peerage_agent::build(config) => agent?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let ready = Ready {
        ready: "agent",
        peers: agent.peers(),
        socket: std::path::absolute(agent.socket())?,
        peer_id: agent.peer_id(),
    };
    let running = agent.spawn();
    output::json_line(&ready)?;
    signals.next().await;
    signals.drain(running.drain()).await;
    Ok(ExitCode::SUCCESS)
}
