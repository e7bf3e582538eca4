//! The steps of `cargo xtask test`, in order: what is quick to fail comes first.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Error, Result, ensure};

use super::count::Count;
use crate::shell::{self, Shell};
use crate::{check, setup};

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Left out by `--fast`.
    pub(super) slow: bool,
    /// Runs it. Tests may have run, and are counted, even when it fails.
    pub(super) run: fn(&Shell) -> (Count, Option<Error>),
}

const fn step(name: &'static str, about: &'static str, run: fn(&Shell) -> (Count, Option<Error>)) -> Step {
    Step { name, about, slow: false, run }
}

/// Everything, in order.
pub(super) const STEPS: &[Step] = &[
    step("setup", "system packages and cargo tools", |shell| plain(setup::run(shell))),
    step("fmt", "formatting", formatting),
    step("check", "the rules of the house", |shell| {
        plain(check::run(shell).and_then(|ok| ensure_ok(ok, "rules are broken")))
    }),
    step("clippy", "lints, warnings are errors", |shell| {
        cargo(
            shell,
            &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "--deny", "warnings"],
        )
    }),
    step("deny", "licences, duplicates and sources of dependencies", |shell| {
        let check = ["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
        plain(shell::run(&mut shell.command("cargo-deny", check)))
    }),
    step("tests", "unit, property and process tests", |shell| nextest(shell, "default")),
    step("doctests", "examples in the documentation", doctests),
    Step { slow: true, ..step("doc", "documentation, warnings are errors", documentation) },
    Step { slow: true, ..step("netlab", "the network lab, as root", network_lab) },
    step("fuzz", "the fuzz targets compile", |shell| {
        cargo(shell, &["check", "--manifest-path", "fuzz/Cargo.toml", "--locked", "--quiet"])
    }),
];

fn ensure_ok(ok: bool, why: &'static str) -> Result<()> {
    ensure!(ok, why);
    Ok(())
}

/// The outcome of a step without tests.
fn plain(result: Result<()>) -> (Count, Option<Error>) {
    (Count::default(), result.err())
}

fn cargo(shell: &Shell, args: &[&str]) -> (Count, Option<Error>) {
    plain(shell::run(&mut shell.cargo(args)))
}

/// The fuzz targets are a workspace of their own.
fn formatting(shell: &Shell) -> (Count, Option<Error>) {
    let check = |args: &[&str]| shell::run(shell.cargo(["fmt", "--check"]).args(args));
    plain(check(&["--all"]).and_then(|()| check(&["--manifest-path", "fuzz/Cargo.toml"])))
}

fn documentation(shell: &Shell) -> (Count, Option<Error>) {
    let mut command = shell.cargo(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    plain(shell::run(command.env("RUSTDOCFLAGS", "--deny warnings")))
}

/// The lab fails where it cannot run; to leave it out is a decision for whoever types `--fast`.
fn network_lab(shell: &Shell) -> (Count, Option<Error>) {
    match shell::output(&mut shell.command("id", ["-u"])) {
        Ok(id) if id.trim() == "0" => nextest(shell, "netlab"),
        Ok(_) => plain(ensure_ok(
            false,
            "it makes network namespaces, so run this as root, or leave it out with --fast",
        )),
        Err(error) => plain(Err(error)),
    }
}

/// Runs a nextest profile and counts by its JUnit report (`.config/nextest.toml`).
fn nextest(shell: &Shell, profile: &str) -> (Count, Option<Error>) {
    let report = shell.root().join("target/nextest").join(profile).join("junit.xml");
    // An old report must never be counted for a run that did not get as far as writing its own.
    match fs::remove_file(&report) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return plain(Err(error).with_context(|| format!("cannot remove {}", report.display())));
        }
        _ => {}
    }
    let ran =
        shell::run(&mut shell.cargo(["nextest", "run", "--workspace", "--locked", "--profile", profile]));
    let count = fs::read_to_string(&report)
        .context("nextest wrote no report")
        .and_then(|text| Count::from_junit(&text));
    match (ran, count) {
        (Ok(()), Ok(count)) if count.passed == 0 => (count, Some(Error::msg("no test ran"))),
        (ran, Ok(count)) => (count, ran.err()),
        (ran, Err(missing)) => (Count::default(), Some(ran.err().unwrap_or(missing))),
    }
}

fn doctests(shell: &Shell) -> (Count, Option<Error>) {
    let mut command = shell.cargo(["test", "--workspace", "--doc", "--locked", "--quiet", "--no-fail-fast"]);
    match echo(&mut command) {
        Ok((output, result)) => (Count::from_libtest(&output), result.err()),
        Err(error) => plain(Err(error)),
    }
}

/// Runs `command`, showing its stdout line by line and keeping it.
fn echo(command: &mut Command) -> Result<(String, Result<()>)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shell::line(command)))?;
    let mut kept = String::new();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines) {
        let line = line.context("cannot read a program's output")?;
        println!("{line}");
        kept.push_str(&line);
        kept.push('\n');
    }
    let status = child.wait().context("cannot wait for a program")?;
    let result = if status.success() {
        Ok(())
    } else {
        Err(Error::msg(format!("{}: {status}", shell::line(command))))
    };
    Ok((kept, result))
}
