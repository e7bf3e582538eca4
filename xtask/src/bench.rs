//! `cargo xtask bench`: what Peerage costs and gains, beside what people would use instead, in one run.
//!
//! Machines are shared and noisy, so programs take turns, medians count, and ratios say more than seconds. Every figure
//! is of whole commands as a user runs them: processes, sockets, files.

mod alone;
mod changes;
mod coordinator;
mod fair;
mod fleet;
mod memory;
mod pair;
mod polite;
mod push;
mod report;
mod rivals;
mod seeder;
mod sim;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::shell::{self, Shell};

/// Measures Peerage beside other programs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    bench: Bench,
    /// Adds the tables to docs/performance.md, with the date and the machine.
    #[arg(long, global = true)]
    write: bool,
    /// A binary that is built already, instead of the release build of this tree.
    #[arg(long, global = true)]
    bin: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// One sender, one receiver, over loopback: curl from nginx beside a device from its peer.
    Pair(pair::Options),
    /// An origin behind a thin link and a site full of devices, in network namespaces. Needs root.
    Fleet(fleet::Options),
    /// What an agent takes of its machine: idle, seeding, moving a large file.
    Memory(memory::Options),
    /// Announces over kept-alive TLS, and what a swarm member costs.
    Coordinator(coordinator::Options),
    /// How soon a pushed policy has reached every device of a fleet, and what that costs the coordinator.
    Push(push::Options),
    /// How soon a change of policy or condition moves the bytes of a running download. Needs root.
    Changes(changes::Options),
    /// A download that no peer can help, beside curl. Needs root.
    Alone(alone::Options),
    /// One seeder and several receivers at once.
    Seeder(seeder::Options),
    /// Several of our own transfers at one bottleneck, in network namespaces. Needs root.
    Fair(fair::Options),
    /// What it costs to simulate fleets, and what comes out.
    Sim(sim::Options),
    /// A user's flow beside ours, and beside rivals', at a bottleneck, in network namespaces. Needs root.
    Polite(polite::Options),
}

/// Builds the release binary, measures, prints.
pub(crate) fn run(shell: &Shell, options: &Options) -> Result<()> {
    let bin = match &options.bin {
        Some(bin) => bin.clone(),
        None => {
            shell::run(&mut shell.cargo(["build", "--locked", "--release", "--package", "peerage-cli"]))?;
            shell.target().join("release/peerage")
        }
    };
    let section = match &options.bench {
        Bench::Pair(pair) => pair::run(shell, &bin, pair)?,
        Bench::Fleet(fleet) => {
            if !fleet.rivals.is_empty() {
                rivals::install(shell)?;
            }
            if fleet.rivals.contains(&rivals::swarm::Member::Rqbit) {
                rivals::install_rqbit(shell)?;
            }
            fleet::run(shell, &bin, fleet)?
        }
        Bench::Memory(memory) => memory::run(&bin, memory)?,
        Bench::Coordinator(coordinator) => coordinator::run(&bin, coordinator)?,
        Bench::Push(push) => push::run(&bin, push)?,
        Bench::Changes(changes) => changes::run(&bin, changes)?,
        Bench::Alone(alone) => alone::run(&bin, alone)?,
        Bench::Seeder(seeder) => seeder::run(&bin, seeder)?,
        Bench::Fair(fair) => fair::run(&bin, fair)?,
        Bench::Sim(sim) => sim::run(&bin, sim)?,
        Bench::Polite(polite) => {
            rivals::install(shell)?;
            polite::run(&bin, polite)?
        }
    };
    print!("{}", section.text());
    if options.write {
        let page = shell.root().join("docs/performance.md");
        section.write(&page).with_context(|| format!("could not write {}", page.display()))?;
    }
    Ok(())
}

/// A directory for a bench's files on the medium asked for.
/// Takes memory for a file of this size in `dir`, and gives it back: memory that a virtual machine has to ask its host for would
/// fall to whoever comes first.
fn warm(dir: &Path, size: u64) -> Result<()> {
    let path = dir.join("warm");
    let (chunk, mut file) = (vec![1; 1 << 20], fs::File::create(&path)?);
    for _ in 0..size >> 20 {
        file.write_all(&chunk)?;
    }
    Ok(fs::remove_file(path)?)
}

fn scratch(medium: &str) -> Result<tempfile::TempDir> {
    let parent = if medium == "tmpfs" { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    tempfile::Builder::new()
        .prefix("peerage-bench-")
        .tempdir_in(parent)
        .context("no room for the bench's files")
}
