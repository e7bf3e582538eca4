//! An origin behind a thin link, and N devices of one site that all want the same file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum as _};
use peerage_testkit::{Agent, Site, Usage, random_file, same_file};

use super::report::{Section, spread};
use super::rivals::swarm::{Member, Task};
use super::{scratch, warm};
use crate::shell::Shell;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Size of the file.
    #[arg(long, default_value_t = 200)]
    size_mib: u64,
    /// How many devices want it at once.
    #[arg(long, default_value_t = 8)]
    devices: u16,
    /// The origin's uplink, in Mbit/s.
    #[arg(long, default_value_t = 100)]
    uplink_mbit: u64,
    /// Each device's link, in Mbit/s.
    #[arg(long, default_value_t = 1000)]
    lan_mbit: u64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Also runs these on the same site, installed when missing.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) rivals: Vec<Member>,
}

/// All at once, with one of the rivals.
#[derive(Debug, Default)]
struct Rival {
    copies: Vec<f64>,
    last: Vec<f64>,
    to_bound: Vec<f64>,
    cpu: Vec<f64>,
}

#[derive(Debug, Default)]
struct Figures {
    /// Origin bytes over file size, from the origin's interface.
    copies: Vec<f64>,
    /// Last device's time over the bound.
    to_bound: Vec<f64>,
    last: Vec<f64>,
    cpu: Vec<f64>,
    /// The device that comes later: bytes from peers over all, its seconds, what the origin sent meanwhile.
    late_peers: Vec<f64>,
    late_seconds: Vec<f64>,
    late_origin: Vec<f64>,
    /// One device with curl alone on the same link.
    curl: Vec<f64>,
    rivals: Vec<Rival>,
}

pub(crate) fn run(shell: &Shell, bin: &Path, options: &Options) -> Result<Section> {
    let rivals = options.rivals.iter().map(|_| Rival::default()).collect();
    let mut figures = Figures { rivals, ..Figures::default() };
    for _ in 0..options.rounds {
        round(shell, bin, options, &mut figures)?;
    }
    let mbit = |rate: u64| format!("{rate} Mbit/s");
    let none = String::new;
    let mut rows = vec![vec![
        "peerage, all at once".into(),
        spread(&figures.copies, 3),
        spread(&figures.last, 2),
        spread(&figures.to_bound, 3),
        spread(&figures.cpu, 2),
    ]];
    rows.extend(options.rivals.iter().zip(&figures.rivals).map(|(member, rival)| {
        vec![
            member.name().to_owned(),
            spread(&rival.copies, 2),
            spread(&rival.last, 1),
            spread(&rival.to_bound, 2),
            spread(&rival.cpu, 1),
        ]
    }));
    rows.extend([
        vec!["curl, one device alone".into(), none(), spread(&figures.curl, 2), none(), none()],
        vec![
            "peerage, one device later".into(),
            spread(&figures.late_origin, 4),
            spread(&figures.late_seconds, 2),
            none(),
            none(),
        ],
    ]);
    Ok(Section {
        key: "fleet",
        title: format!(
            "Fleet: {} devices, {} MiB, origin at {}, devices at {}",
            options.devices,
            options.size_mib,
            mbit(options.uplink_mbit),
            mbit(options.lan_mbit)
        ),
        command: format!(
            "cargo xtask bench fleet --devices {} --size-mib {} --uplink-mbit {} --lan-mbit {} --rounds {}{}",
            options.devices,
            options.size_mib,
            options.uplink_mbit,
            options.lan_mbit,
            options.rounds,
            as_given(&options.rivals)
        ),
        head: vec![
            "who, median (range)",
            "origin bytes / file, on the wire",
            "last device, s",
            "over the bound",
            "CPU s/GiB delivered",
        ],
        rows,
        notes: vec![
            "Bound: max(F/us, F/d, N·F/(us+Σu)) of payload; Ethernet, IP and TCP headers take 3.5 % of the link, which \
             the bound does not count and the origin's bytes do."
                .into(),
            "Before each program as much as all devices store, at most 4 GiB, is written and removed: memory that a virtual \
             machine has to ask its host for would fall to whoever comes first."
                .into(),
            format!("The later device had {} % from peers.", spread(&figures.late_peers, 2)),
        ],
    })
}

fn round(shell: &Shell, bin: &Path, options: &Options, figures: &mut Figures) -> Result<()> {
    let dir = scratch("disk")?;
    let size = options.size_mib << 20;
    let site = Site::with_bin(bin, dir.path(), &format!("{}mbit", options.uplink_mbit))?;
    let file = site.root().join("f.bin");
    random_file(&file, 3, size)?;
    let url = site.origin.url("f.bin");
    site.fleet.publish(&file, &url)?;
    let lan = format!("{}mbit", options.lan_mbit);
    let device = |number: u16| site.device(number, &lan);
    let devices = (0..options.devices).map(|n| device(10 + n)).collect::<Result<Vec<_>>>()?;

    figures.curl.push(site.curl_alone(&url)?.as_secs_f64());

    // What all store; with more the disk would begin to write.
    let stored = (size * u64::from(options.devices)).min(4 << 30);
    warm(dir.path(), stored)?;
    let before = site.origin_counters()?;
    let cpu_before = cpu(&devices)?;
    let began = Instant::now();
    let outs: Vec<PathBuf> =
        devices.iter().map(|device| dir.path().join(format!("{}.out", device.name))).collect();
    let jobs = devices
        .iter()
        .zip(&outs)
        .map(|(device, out)| device.begin_get(&url, out, &[]))
        .collect::<Result<Vec<_>>>()?;
    for job in jobs {
        let done = job.output()?;
        ensure!(done.status.success(), "peerage get: {}", done.stderr);
    }
    let last = began.elapsed().as_secs_f64();
    let sent = site.origin_counters()?.since(before).tx_bytes;
    for out in &outs {
        ensure!(same_file(&file, out)?, "a copy differs");
        fs::remove_file(out)?;
    }
    let (f, us, d) = (size as f64, options.uplink_mbit as f64 * 125e3, options.lan_mbit as f64 * 125e3);
    let n = f64::from(options.devices);
    let bound = (f / us).max(f / d).max(n * f / n.mul_add(d, us));
    figures.copies.push(sent as f64 / f);
    figures.last.push(last);
    figures.to_bound.push(last / bound);
    figures.cpu.push((cpu(&devices)? - cpu_before) / (n * f / f64::from(1u32 << 30)));

    let late = device(500)?;
    let before = site.origin_counters()?;
    let out = dir.path().join("late.out");
    let began = Instant::now();
    let status = late.get(&url, &out)?;
    figures.late_seconds.push(began.elapsed().as_secs_f64());
    figures.late_origin.push(site.origin_counters()?.since(before).tx_bytes as f64 / f);
    ensure!(same_file(&file, &out)?, "the late copy differs");
    figures.late_peers.push(status["PercentPeerCaching"].as_f64().unwrap_or(0.0));

    if !options.rivals.is_empty() {
        // Agents that have what they want are of no more use, and theirs is the memory.
        drop((devices, late));
        let rqbit = shell.tools().join("bin/rqbit");
        let task = Task {
            site: &site,
            dir: dir.path(),
            file: &file,
            url: &url,
            devices: options.devices,
            rate: &lan,
            rqbit: &rqbit,
        };
        for ((member, rival), first) in
            options.rivals.iter().zip(&mut figures.rivals).zip((1000u16..).step_by(200))
        {
            warm(dir.path(), stored)?;
            let done = member.run(&task, first)?;
            let last = done.last.as_secs_f64();
            rival.copies.push(done.origin as f64 / f);
            rival.last.push(last);
            rival.to_bound.push(last / bound);
            rival.cpu.push(done.cpu.as_secs_f64() / (n * f / f64::from(1u32 << 30)));
            println!("{}: {:.2} copies, {last:.1} s", member.name(), done.origin as f64 / f);
        }
    }
    Ok(())
}

/// The option as it was given.
fn as_given(members: &[Member]) -> String {
    let names = members.iter().filter_map(|member| Some(member.to_possible_value()?.get_name().to_owned()));
    let names = names.collect::<Vec<_>>().join(",");
    if names.is_empty() { names } else { format!(" --rivals {names}") }
}

fn cpu(devices: &[Agent]) -> Result<f64> {
    let mut sum = Duration::ZERO;
    for device in devices {
        sum += Usage::of(device.daemon.pid())?.cpu;
    }
    Ok(sum.as_secs_f64())
}
