//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/` under libFuzzer, on the stable toolchain.
//!
//! The targets are laid out as cargo-fuzz has them, so whoever has a nightly toolchain may use that instead, with its
//! sanitizers. There is next to nothing for those to find here: the parsers are safe Rust. What counts is coverage,
//! and stable rustc can instrument for it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::MetadataCommand;
use clap::Args;

use crate::shell::{self, Shell};

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target; all of them, one after another, when left out.
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

/// What libFuzzer needs to see where an input led (the LLVM documentation's SanitizerCoverage), and what makes a
/// wrong sum or a broken debug assertion a crash.
const INSTRUMENT: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
];

/// Builds and runs the targets; a crash is an error that names the input.
pub(crate) fn run(shell: &Shell, options: &Options) -> Result<()> {
    let all = targets(shell)?;
    let chosen: Vec<_> = match &options.target {
        None => all,
        Some(target) => {
            ensure!(all.contains(target), "no fuzz target {target:?}; there are {}", all.join(", "));
            vec![target.clone()]
        }
    };
    let host = host(shell)?;
    let mut build =
        shell.cargo(["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target"]);
    // With --target the flags stay away from build scripts and macros.
    build.arg(&host).env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENT.join("\x1f"));
    shell::run(&mut build)?;
    for target in &chosen {
        fuzz(shell, &host, target, options.seconds)?;
    }
    Ok(())
}

fn fuzz(shell: &Shell, host: &str, target: &str, seconds: u32) -> Result<()> {
    println!("==> {target}: {seconds} s");
    let fuzz = shell.root().join("fuzz");
    let (corpus, artifacts) = (fuzz.join("corpus").join(target), fuzz.join("artifacts").join(target));
    for dir in [&corpus, &artifacts] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let mut command = shell.command(fuzz.join("target").join(host).join("release").join(target), [&corpus]);
    // libFuzzer writes what it finds to the first directory and only reads from the others.
    let seeds = fuzz.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    shell::run(&mut command)
        .with_context(|| format!("{target} crashed; the input is in {}", artifacts.display()))
}

fn targets(shell: &Shell) -> Result<Vec<String>> {
    let mut metadata = MetadataCommand::new();
    let metadata = metadata.manifest_path(shell.root().join("fuzz/Cargo.toml")).no_deps().exec();
    let metadata = metadata.context("cannot read fuzz/Cargo.toml")?;
    let targets = metadata.workspace_packages().into_iter().flat_map(|package| &package.targets);
    Ok(targets.filter(|target| target.is_bin()).map(|target| target.name.clone()).collect())
}

/// The machine's target triple.
fn host(shell: &Shell) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = shell::output(&mut shell.command(rustc, ["--version", "--verbose"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what its host is")
}
