//! Which agent is asked.

use std::path::PathBuf;

use clap::Args;
use peerage_agent::Config;
use peerage_api::client::AgentClient;
use peerage_api::{ApiError, Code};

#[derive(Debug, Default, Args)]
pub(crate) struct SocketArgs {
    /// The agent's socket [default: /run/peerage/agent.sock, or what /etc/peerage/agent.toml says]
    #[arg(long, value_name = "PATH", env = "PEERAGE_SOCKET")]
    socket: Option<PathBuf>,
}

impl SocketArgs {
    /// The socket of the agent that is meant.
    pub(crate) fn path(&self) -> PathBuf {
        // A configuration file that this user may not read, or that is wrong, says nothing about the default.
        let host = || Config::from(crate::agent::default_file().unwrap_or_default()).socket;
        self.socket.clone().filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(host)
    }

    /// A client of that agent. Connects nowhere yet.
    pub(crate) fn client(&self) -> AgentClient {
        AgentClient::new(self.path())
    }
}

/// Adds what to do to an agent that does not answer.
pub(crate) fn reach(mut error: ApiError) -> ApiError {
    if error.code == Code::Unreachable {
        error
            .message
            .push_str("; start it with `peerage agent`, or name its socket with --socket or PEERAGE_SOCKET");
    }
    error
}
