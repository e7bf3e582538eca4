//! `peerage policy`: policy files checked, compared and imported here; the fleet's policies published at the coordinator.

mod check;
mod diff;
mod fleet;
mod import;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::exit::{chain, usage};

/// Check, compare and import policy files, and publish policies for the fleet
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Check(check::CheckArgs),
    Import(import::ImportArgs),
    Diff(diff::DiffArgs),
    Push(fleet::PushArgs),
    Show(fleet::ShowArgs),
    History(fleet::HistoryArgs),
    Rollback(fleet::RollbackArgs),
    Remove(fleet::RemoveArgs),
}

pub(crate) async fn run(args: PolicyArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        PolicyCommand::Check(args) => check::run(&args),
        PolicyCommand::Import(args) => import::run(&args),
        PolicyCommand::Diff(args) => diff::run(args).await,
        PolicyCommand::Push(args) => fleet::push(args).await,
        PolicyCommand::Show(args) => fleet::show(args).await,
        PolicyCommand::History(args) => fleet::history(args).await,
        PolicyCommand::Rollback(args) => fleet::rollback(args).await,
        PolicyCommand::Remove(args) => fleet::remove(args).await,
    }
}

/// Reads a small file; `-` is stdin.
fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large.
    let most = limit as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let failed = || format!("could not read {}", path.display());
    read.with_context(failed).map_err(|error| usage(chain(&error)))?;
    if bytes.len() > limit {
        return Err(usage(format!("{}: more than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// The same for text.
fn read_text(path: &Path, limit: usize) -> anyhow::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|_| usage(format!("{}: not UTF-8 text", path.display())))
}
