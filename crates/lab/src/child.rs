//! A child of the lab that cannot outlive it.
//!
//! Between the lab and each daemon stands one step: this process asks the kernel to be killed when the lab ends (even by
//! SIGKILL), then becomes the daemon. The wish survives `execve`, so daemons need not know of labs.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Arguments of the hidden `peerage lab-child`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabChildArgs {
    /// Process id of the lab
    #[arg(long, value_name = "PID")]
    parent: i32,

    /// The subcommand to become, with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    command: Vec<OsString>,
}

/// The arguments that make this program the daemon of `command`, tied to this process.
pub(crate) fn tied(command: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let head = ["lab-child".into(), "--parent".into(), std::process::id().to_string().into(), "--".into()];
    head.into_iter().chain(command).collect()
}

/// Ties this process to the lab and becomes the daemon. Returns only when that fails.
///
/// # Errors
/// The lab is gone already, or the daemon cannot be executed.
pub fn run_child(args: &LabChildArgs) -> Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("could not be tied to the lab")?;
    // The lab may have ended before the kernel knew of the wish.
    let parent = getppid().map(Pid::as_raw_pid);
    ensure!(parent == Some(args.parent), "the lab {} is gone", args.parent);
    let program = std::env::current_exe().context("could not find this program")?;
    Err(Command::new(&program).args(&args.command).exec())
        .with_context(|| format!("could not execute {}", program.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        child: LabChildArgs,
    }

    #[test]
    fn what_is_tied_is_read_back() {
        let command = ["agent", "--config", "x"].map(OsString::from);
        let child = Cli::try_parse_from(tied(command.clone())).unwrap().child;
        assert_eq!(child.command, command);
        assert_eq!(child.parent, std::process::id() as i32);
    }

    #[test]
    fn a_stranger_is_not_a_parent() {
        let child = LabChildArgs { parent: -1, command: vec!["agent".into()] };
        let error = run_child(&child).unwrap_err();
        assert_eq!(error.to_string(), "the lab -1 is gone");
    }
}
