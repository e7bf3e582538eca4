//! The subcommands (product §3), each in a file of its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use peerage_lab::{LabArgs, LabChildArgs, LabOriginArgs};

use crate::{
    agent, completions, config, coordinator, doctor, enroll, files, get, policy, publish, set, status, why,
};

/// Peerage: a large file crosses the site's Internet link once; every other device gets it from its neighbours.
#[derive(Debug, Parser)]
#[command(name = "peerage", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    /// What to log to stderr: error, warn, info, debug, trace, or a filter such as `peerage_agent=debug`. Default: warn
    /// for commands, info for daemons
    #[arg(long, global = true, value_name = "LEVEL", env = "PEERAGE_LOG")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(get::GetArgs),
    Publish(publish::PublishArgs),
    Status(status::StatusArgs),
    Why(why::WhyArgs),
    Doctor(doctor::DoctorArgs),
    Files(files::FilesArgs),
    Config(config::ConfigArgs),
    Set(set::SetArgs),
    Unset(set::UnsetArgs),
    Policy(policy::PolicyArgs),
    Enroll(enroll::EnrollArgs),
    Agent(agent::AgentArgs),
    Coordinator(coordinator::CoordinatorArgs),
    Completions(completions::CompletionsArgs),
    /// Try a policy on a real file: a whole fleet on this machine
    ///
    /// Starts an origin behind an uplink of the given rate, a coordinator and N agents as real processes on addresses of
    /// 127.77.0.0/16, has every device download the same file, and says what crossed the uplink, how long it took beside
    /// what physics allows, and whether every device has the right bytes. Needs no root and no set-up, and leaves nothing
    /// behind. The exit code is 0 only if every device has the right file.
    Lab(LabArgs),
    #[command(hide = true, about = "The lab's origin")]
    LabOrigin(LabOriginArgs),
    #[command(hide = true, about = "A process of the lab that ends with it")]
    LabChild(LabChildArgs),
}

impl Command {
    /// Whether it runs until it is told to end, and so logs more than a command does.
    pub(crate) const fn is_daemon(&self) -> bool {
        match self {
            Self::Agent(_) | Self::LabOrigin(_) => true,
            Self::Coordinator(args) => args.is_daemon(),
            _ => false,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// Whatever it could not do; [`crate::exit`] says with which exit code that ends.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Get(args) => get::run(args).await,
            Self::Publish(args) => publish::run(args).await,
            Self::Status(args) => status::run(args).await,
            Self::Why(args) => why::run(args).await,
            Self::Doctor(args) => doctor::run(args).await,
            Self::Files(args) => files::run(args).await,
            Self::Config(args) => config::run(args).await,
            Self::Set(args) => set::set(args).await,
            Self::Unset(args) => set::unset(args).await,
            Self::Policy(args) => policy::run(args).await,
            Self::Enroll(args) => enroll::run(args).await,
            Self::Agent(args) => agent::run(args).await,
            Self::Coordinator(args) => coordinator::run(args).await,
            Self::Completions(args) => completions::run(&args),
            Self::Lab(args) => Ok(peerage_lab::run(args).await?.into()),
            Self::LabOrigin(args) => Ok(peerage_lab::run_origin(args).await?.into()),
            Self::LabChild(args) => match peerage_lab::run_child(&args)? {},
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
