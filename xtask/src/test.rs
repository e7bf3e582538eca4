//! `cargo xtask test`: everything that CI runs, step by step, with a closing count of the tests.

mod count;
mod step;

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use self::count::Count;
use self::step::STEPS;
use crate::shell::Shell;

/// How much to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out the documentation and the network lab (which needs root).
    #[arg(long)]
    fast: bool,
    /// Go on after a failed step.
    #[arg(long)]
    keep_going: bool,
}

/// How one step went.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    took: Duration,
    count: Count,
    error: Option<anyhow::Error>,
}

/// Runs the steps. Returns whether all have passed.
pub(crate) fn run(shell: &Shell, options: &Options) -> Result<bool> {
    let started = Instant::now();
    let mut outcomes = Vec::new();
    for step in STEPS.iter().filter(|step| !(options.fast && step.slow)) {
        println!("==> {}: {}", step.name, step.about);
        let begun = Instant::now();
        let (count, error) = (step.run)(shell);
        let outcome = Outcome { name: step.name, took: begun.elapsed(), count, error };
        println!("{}", outcome.line());
        let stop = outcome.error.is_some() && !options.keep_going;
        outcomes.push(outcome);
        if stop {
            break;
        }
    }
    Ok(close(&outcomes, started.elapsed()))
}

impl Outcome {
    fn line(&self) -> String {
        let Self { name, took, count, error } = self;
        let tests = if *count == Count::default() { String::new() } else { format!(", {count}") };
        match error {
            None => format!("<== {name}: ok in {:.1} s{tests}", took.as_secs_f64()),
            Some(error) => format!("<== {name}: FAILED after {:.1} s{tests}: {error:#}", took.as_secs_f64()),
        }
    }
}

/// Prints the table of steps and the closing count.
fn close(outcomes: &[Outcome], took: Duration) -> bool {
    println!();
    for outcome in outcomes {
        println!("{}", outcome.line());
    }
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.error.is_some()).map(|outcome| outcome.name).collect();
    let whole = format!("{} steps in {:.0} s", outcomes.len(), took.as_secs_f64());
    if failed.is_empty() {
        println!("xtask test: ok, {whole}");
    } else {
        println!("xtask test: FAILED in {}; {whole}", failed.join(", "));
    }
    println!("tests: {}", outcomes.iter().map(|outcome| outcome.count).sum::<Count>());
    failed.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_why() {
        let count = Count { passed: 3, failed: 1 };
        let error = Some(anyhow::anyhow!("exit status: 100").context("cargo nextest"));
        let outcome = Outcome { name: "tests", took: Duration::from_millis(1540), count, error };
        let line = "<== tests: FAILED after 1.5 s, 3 passed, 1 failed: cargo nextest: exit status: 100";
        assert_eq!(outcome.line(), line);
        let outcome = Outcome { name: "fmt", took: Duration::ZERO, count: Count::default(), error: None };
        assert_eq!(outcome.line(), "<== fmt: ok in 0.0 s");
        assert!(close(std::slice::from_ref(&outcome), Duration::ZERO));
    }
}
