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

use anyhow::{Context as _, Result, anyhow};
use peerage_api::{ApiError, Code};

use self::report::Report;
use self::scenario::Scenario;

/// Bytes of a scenario file at most.
const MAX_TEXT: u64 = 1 << 20;

/// Runs the scenario in `file` and prints its result on stdout; the exit code: 0 if every device got the content.
///
/// # Errors
/// The file cannot be read or is no scenario ([`Code::BadRequest`]), or the devices cannot get the content.
pub(crate) async fn run(file: &Path, json: bool) -> Result<u8> {
    let scenario = read(file)?;
    let simulated = tokio::task::spawn_blocking(move || {
        let outcome = world::build(&scenario).run(scenario.seed);
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
