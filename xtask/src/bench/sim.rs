//! What simulated fleets cost, and what comes out of them: whole runs of `peerage lab --simulate`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use peerage_testkit::Usage;
use serde_json::Value;

use super::report::{Section, median, spread};
use super::scratch;

/// Devices of one site.
const SITE: u64 = 50;
/// How often a run is looked at: at most so much of its processor time is missed.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Worlds, each as devices x MiB of the file. Devices stand in sites of 50.
    #[arg(long, value_delimiter = ',', default_values = ["100x200", "1000x60", "10000x60"])]
    worlds: Vec<World>,
    /// Which origins: one of 40 Gbit/s for all, or one of 1 Gbit/s for each site.
    #[arg(long, value_delimiter = ',', default_values = ["shared", "own"])]
    origins: Vec<Origins>,
    /// Rounds, each with a seed of its own.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

#[derive(Debug, Clone, Copy)]
struct World {
    devices: u64,
    mib: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Origins {
    Shared,
    Own,
}

impl FromStr for World {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('x').map(|(devices, mib)| (devices.parse(), mib.parse()));
        match parts {
            Some((Ok(devices), Ok(mib))) if devices > 0 && mib > 0 => Ok(Self { devices, mib }),
            _ => Err(format!("found {text:?}, allowed is DEVICESxMIB, such as 1000x60")),
        }
    }
}

/// One run.
struct Run {
    cpu: f64,
    peak_mib: f64,
    result: Value,
}

pub(crate) fn run(bin: &Path, options: &Options) -> Result<Section> {
    let mut rows = Vec::new();
    for world in &options.worlds {
        for origins in &options.origins {
            let runs: Vec<Run> = (1..=options.rounds)
                .map(|seed| measure(bin, *world, *origins, seed))
                .collect::<Result<_>>()
                .with_context(|| format!("{world:?}, {origins:?}"))?;
            rows.push(row(*world, *origins, &runs));
        }
    }
    let name = |origins: &Origins| format!("{origins:?}").to_lowercase();
    let worlds: Vec<String> =
        options.worlds.iter().map(|world| format!("{}x{}", world.devices, world.mib)).collect();
    let origins: Vec<String> = options.origins.iter().map(name).collect();
    Ok(Section {
        key: "sim",
        title: "What a simulated fleet costs".into(),
        command: format!(
            "cargo xtask bench sim --worlds {} --origins {} --rounds {}",
            worlds.join(","),
            origins.join(","),
            options.rounds
        ),
        head: vec![
            "devices",
            "pieces",
            "origin",
            "processor, s",
            "events",
            "us an event",
            "memory at most, MiB",
            "copies into a site",
            "last device over the bound",
        ],
        rows,
        notes: vec![
            "`peerage lab --simulate`: sites of 50 devices with links of 100 Mbit/s, devices at 1 Gbit/s, every site for \
             itself (`mode = \"lan\"`), steps of whole requests above 300 devices. Own origins: 1 Gbit/s for each site, \
             which then are simulated one after another."
                .into(),
        ],
    })
}

fn row(world: World, origins: Origins, runs: &[Run]) -> Vec<String> {
    let of = |figure: &dyn Fn(&Run) -> f64| runs.iter().map(figure).collect::<Vec<f64>>();
    let number = |run: &Run, key: &str| run.result[key].as_f64().unwrap_or(f64::NAN);
    let sites = world.devices.div_ceil(SITE) as f64;
    vec![
        world.devices.to_string(),
        world.mib.to_string(),
        match origins {
            Origins::Shared => "shared",
            Origins::Own => "own",
        }
        .into(),
        spread(&of(&|run| run.cpu), 2),
        format!("{:.0}", median(&of(&|run| number(run, "events")))),
        spread(&of(&|run| run.cpu * 1e6 / number(run, "events")), 2),
        spread(&of(&|run| run.peak_mib), 0),
        spread(&of(&|run| number(run, "origin_copies") / sites), 3),
        spread(&of(&|run| number(run, "seconds") / number(run, "bound_seconds")), 3),
    ]
}

#[expect(
    clippy::disallowed_methods,
    reason = "a process that is over no longer tells its memory: it is looked at"
)]
fn measure(bin: &Path, world: World, origins: Origins, seed: u32) -> Result<Run> {
    let dir = scratch("disk")?;
    let (file, out) = (dir.path().join("world.toml"), dir.path().join("out.json"));
    fs::write(&file, scenario(world, origins, seed))?;
    let mut child = Command::new(bin)
        .args(["lab", "--json", "--simulate"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .spawn()
        .context("could not start the simulation")?;
    let (mut cpu, mut peak) = (Duration::ZERO, 0);
    let status = loop {
        // Before it is waited for: what is over and not waited for still has its processor time.
        let usage = Usage::of(child.id())?;
        (cpu, peak) = (cpu.max(usage.cpu), peak.max(usage.peak_rss));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    ensure!(status.success(), "the simulation ended with {status}");
    let result = serde_json::from_slice(&fs::read(&out)?).context("no result")?;
    Ok(Run { cpu: cpu.as_secs_f64(), peak_mib: peak as f64 / f64::from(1 << 20), result })
}

fn scenario(world: World, origins: Origins, seed: u32) -> String {
    let World { devices, mib } = world;
    let origin = match origins {
        Origins::Shared => "rate = '40gbit'",
        Origins::Own => "rate = '1gbit'\neach_site = true",
    };
    let site = |count: u64, devices: u64| match count * devices {
        0 => String::new(),
        _ => format!(
            "[[sites]]\ncount = {count}\ndevices = {devices}\ndownlink = '100mbit'\nuplink = '100mbit'\n"
        ),
    };
    let sites = site(devices / SITE, SITE) + &site(1, devices % SITE);
    format!("size = '{mib}MiB'\nseed = {seed}\n[origin]\n{origin}\n{sites}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_by_devices_and_size() {
        let world: World = "1020x60".parse().unwrap();
        let text = scenario(world, Origins::Own, 7);
        assert!(
            text.contains("size = '60MiB'\nseed = 7\n[origin]\nrate = '1gbit'\neach_site = true\n"),
            "{text}"
        );
        assert!(
            text.contains("count = 20\ndevices = 50\n") && text.contains("count = 1\ndevices = 20\n"),
            "{text}"
        );
        assert_eq!(scenario(World { devices: 50, mib: 1 }, Origins::Shared, 1).matches("sites").count(), 1);
        for wrong in ["", "5", "0x3", "3x0", "axb", "3x4x5"] {
            assert!(wrong.parse::<World>().is_err(), "{wrong}");
        }
    }
}
