//! How soon a change holds: from the moment that something is said (a policy file saved, `peerage set`, a push by the
//! coordinator, a signal on D-Bus, an interface that appears, the clock) to the moment from which the bytes of a running
//! download come from where they may, counted at the network interfaces.
//!
//! A row's seconds end when the last of its flows has changed: whoever is to stop sends nothing more, and whoever is to
//! begin has sent 64 KiB.

mod cases;
mod scene;
mod timeline;

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;

use super::report::{Section, median, spread};
use super::scratch;
use cases::CASES;
use scene::Scene;

/// Seconds within which a change is to hold (product §5).
const BOUND: f64 = 2.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only the cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// One row's figures.
struct Figures {
    what: &'static str,
    layer: &'static str,
    seconds: Vec<f64>,
}

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let wanted = || CASES.iter().filter(|case| case.name.contains(&options.only));
    let steps = wanted().flat_map(|case| case.steps);
    let mut figures: Vec<Figures> =
        steps.map(|step| Figures { what: step.what, layer: step.layer, seconds: Vec::new() }).collect();
    for _ in 0..options.rounds {
        let dir = scratch("tmpfs")?;
        let mut scene = Scene::open(bin, dir.path())?;
        let mut rows = figures.iter_mut();
        for case in wanted() {
            let seconds = scene.play(case).with_context(|| format!("case {:?}", case.name))?;
            for seconds in seconds {
                let row = rows.next().context("as many rows as steps")?;
                println!("{}: {} ({}): {seconds:.2} s", case.name, row.what, row.layer);
                row.seconds.push(seconds);
            }
        }
    }
    let late = figures.iter().filter(|row| median(&row.seconds) > BOUND).count();
    let rows = figures.iter().map(|row| {
        let holds = if median(&row.seconds) > BOUND { "**no**" } else { "yes" };
        vec![row.what.to_owned(), row.layer.to_owned(), spread(&row.seconds, 2), holds.to_owned()]
    });
    Ok(Section {
        key: "changes",
        title: "Changes that hold while a download runs".into(),
        command: format!("cargo xtask bench changes --rounds {}", options.rounds),
        head: vec!["what changes", "by", "seconds, median (range)", "within 2 s"],
        rows: rows.collect(),
        notes: vec![
            "From the moment that it is said to the moment from which bytes come from where they may, counted at the \
             network interfaces: whoever is to stop sends nothing more, whoever is to begin has sent 64 KiB, a cap \
             holds from then on. Real processes in network namespaces: two subnets behind a router, an origin, a \
             connected cache and four seeds with 20 Mbit/s each, UPower and NetworkManager as stand-ins on a D-Bus. \
             Policy files are looked at once a second, which is most of what their rows show. Changes of one download are at \
             least 2.5 s apart."
                .into(),
            format!("{late} of {} rows are above the bound of 2 s.", figures.len()),
        ],
    })
}
