//! Runs a world for some seeds, shows its figures, and hands them to the test.

use std::ops::Range;
use std::time::Duration;

use peerage_sim::{Report, World};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A number that a person gives in the environment.
#[expect(clippy::disallowed_methods, reason = "the one place where a person chooses")]
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

/// The seeds to run: `range`, or as many from its start as `SIM_SEEDS` says, or the one to replay, `SIM_SEED`.
pub(crate) fn seeds(range: Range<u64>) -> Range<u64> {
    match (asked("SIM_SEED"), asked("SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => range.start..range.start + count,
        (None, None) => range,
    }
}

/// Shows figures to whoever runs the tests with `--no-capture`.
#[expect(clippy::print_stdout, reason = "figures are for people, and a failing test shows them too")]
pub(crate) fn show(line: impl std::fmt::Display) {
    println!("{line}");
}

/// Runs `world` with each of `seeds`; a failure names the seed.
pub(crate) fn each_seed(name: &str, seeds: Range<u64>, world: &World, judge: impl Fn(&Report)) {
    for seed in self::seeds(seeds) {
        let report = world.clone().run(seed).unwrap_or_else(|violation| panic!("{name}: {violation}"));
        show(format_args!("{name}: {report}"));
        judge(&report);
    }
}

/// The time that one device alone needs for the same content over plain HTTP, in seconds.
pub(crate) fn alone(world: World) -> f64 {
    let report = world.run(1).unwrap_or_else(|violation| panic!("alone: {violation}"));
    report.end.as_secs_f64()
}
