//! `cargo xtask`: the one front door for developers and CI. `CONTRIBUTING.md` says when to use which door.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its terminal")]

mod bench;
mod check;
mod docs;
mod fuzz;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::shell::Shell;

/// Builds trust in Peerage: sets the machine up, checks the house rules, runs every test.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs the system packages and cargo tools that the tests need, if any is missing.
    Setup,
    /// Proves the house rules: room imports, pure rooms, file heads and lengths.
    Check,
    /// Writes the documents that follow from the code; `check` finds out if one of them is old.
    Docs,
    /// Runs everything that CI runs, and counts the tests at the end.
    Test(test::Options),
    /// Measures Peerage beside other programs.
    Bench(bench::Options),
    /// Fuzzes the parsers of foreign bytes.
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well; what did not has been said.
fn run(args: &Args) -> Result<bool> {
    let shell = Shell::new()?;
    match &args.command {
        Command::Setup => setup::run(&shell).map(|()| true),
        Command::Check => check::run(&shell),
        Command::Docs => docs::write(&shell).map(|()| true),
        Command::Test(options) => test::run(&shell, options),
        Command::Bench(options) => bench::run(&shell, options).map(|()| true),
        Command::Fuzz(options) => fuzz::run(&shell, options).map(|()| true),
    }
}
