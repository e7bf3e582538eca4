//! `peerage lab --simulate`: what would happen, asked of the engine itself in virtual time instead of real processes.
//!
//! A scenario file (`scenario`) becomes a world of the simulator (`world`); what comes out is told in the lab's own JSON
//! object and table (`report`, `table`). Nothing is started, written or connected to.

mod quantity;
mod report;
mod scenario;
mod table;
mod world;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use peerage_api::{ApiError, Code};
use peerage_sim::Progress;

use self::report::Report;
use self::scenario::Scenario;
use crate::view::View;

/// Bytes of a scenario file at most.
const MAX_TEXT: u64 = 1 << 20;

/// Between two lines about how far a run is; short ones say nothing.
const SHOW_EVERY: Duration = Duration::from_secs(5);

/// Runs the scenario in `file` and prints its result on stdout, and how far it is on stderr; the exit code: 0 if every device got the content.
///
/// # Errors
/// The file cannot be read or is no scenario ([`Code::BadRequest`]), or the devices cannot get the content.
pub(crate) async fn run(file: &Path, json: bool) -> Result<u8> {
    let scenario = read(file)?;
    let simulated = tokio::task::spawn_blocking(move || {
        let (mut view, mut shown) = (View::new(), Instant::now());
        let outcome = world::build(&scenario).run_watched(scenario.seed, &mut |progress| {
            if shown.elapsed() >= SHOW_EVERY {
                shown = Instant::now();
                view.phase(&line(&progress));
            }
        });
        outcome.map(|outcome| Report::new(&scenario, &outcome))
    });
    let report = simulated.await?.map_err(|violation| {
        let text = violation.to_string();
        anyhow!("{}", text.lines().next().unwrap_or_default())
            .context("the scenario has no end (the same file and seed show it again)")
    })?;
    let text = if json {
        serde_json::to_string(&report).context("could not write the result")? + "\n"
    } else {
        table::render(&report)
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("could not write to stdout")?;
    Ok(report.totals.exit_code())
}

/// How far a run is, in words.
fn line(progress: &Progress) -> String {
    let Progress { at, events, complete, devices } = progress;
    format!(
        "{complete} of {devices} devices complete, {:.1} simulated seconds, {} million events",
        at.as_secs_f64(),
        events / 1_000_000
    )
}

fn read(file: &Path) -> Result<Scenario> {
    let refuse = |why: String| ApiError::new(Code::BadRequest, format!("{}: {why}", file.display()));
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(MAX_TEXT + 1).read_to_string(&mut text))
        .map_err(|error| refuse(error.to_string()))?;
    if text.len() as u64 > MAX_TEXT {
        return Err(refuse(format!("more than {MAX_TEXT} bytes")).into());
    }
    Ok(Scenario::parse(&text).map_err(refuse)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_in_words() {
        let at = Duration::from_millis(12_340);
        let told = line(&Progress { at, events: 345_678_901, complete: 17, devices: 10_000 });
        assert_eq!(told, "17 of 10000 devices complete, 12.3 simulated seconds, 345 million events");
    }
}
