//! `peerage enroll`: joins this device to a coordinator.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use peerage_agent::{Config, ConfigFile};
use peerage_api::agent::EnrollRequest;
use peerage_api::client::AgentClient;

use crate::exit::{chain, usage};
use crate::output;
use crate::socket::SocketArgs;

/// Join a coordinator: through the running agent; with none running, the enrolment is written for its next start
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// The coordinator, such as `https://peerage.example.org:7690`
    url: String,
    /// Enrolment token, or @FILE that holds it
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// With no agent running: the agent's data directory [default: /var/lib/peerage, or what /etc/peerage/agent.toml says]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(crate) async fn run(args: EnrollArgs) -> anyhow::Result<ExitCode> {
    let token = peerage_agent::read_token(&args.token).map_err(|error| usage(chain(&error)))?;
    let socket = args.socket.path();
    let by = if UnixStream::connect(&socket).is_ok() {
        let request = EnrollRequest { coordinator: args.url.clone(), token: token.to_string() };
        AgentClient::new(socket).enroll(&request).await?;
        "the running agent".to_owned()
    } else {
        let flags = ConfigFile { data_dir: args.data_dir, ..ConfigFile::default() };
        let config = Config::from(crate::agent::default_file()?.overridden_by(flags));
        peerage_agent::enrol(&config, &args.url, &token).await?;
        format!("the next start of the agent (in {})", config.data_dir.display())
    };
    output::line(&output::printable(&format!("enrolled with {} for {by}", args.url)))?;
    Ok(ExitCode::SUCCESS)
}
