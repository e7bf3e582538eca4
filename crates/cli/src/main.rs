//! The binary `peerage`: arguments, tables, progress, exit codes. No logic of its own.

mod admin;
mod agent;
mod command;
mod completions;
mod config;
mod coordinator;
mod daemon;
mod destination;
mod doctor;
mod engine;
mod enroll;
mod exit;
mod files;
mod get;
mod human;
mod logging;
mod output;
mod policy;
mod progress;
mod publish;
mod runtime;
mod set;
mod shares;
mod socket;
mod status;
mod table;
mod why;
mod wrap;

use std::process::ExitCode;

use clap::Parser as _;

use crate::command::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log.as_deref(), cli.command.is_daemon());
    exit::finish(run(cli))
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = runtime::of(&cli.command)?;
    let result = runtime.block_on(cli.command.run());
    // Work that nobody waits for any more (hashing, copying) must not hold up the end.
    runtime.shutdown_background();
    result
}
