//! The network in which changes are measured, and how a case is played in it.
//!
//! Two subnets of one site behind a router, and in the second one a device of another site: an origin, a cache, seeds.
//! Each sender has a link of 20 Mbit/s towards its LAN once the seeds have their files. Every case has a device of its own.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use peerage_testkit::{
    Agent, Bridge, Fleet, Host, Job, Limit, Nginx, SystemBus, World, random_file, wait_until,
};

use super::cases::{Act, Case, Step};
use super::timeline::{Flow, STEADY, Sent, Timeline};

const MIB: u64 = 1 << 20;
/// Enough for the longest case at 20 Mbit/s.
const SIZE: u64 = 160 * MIB;
const PEER_PORT: u16 = 7680;
const PATIENCE: Duration = Duration::from_secs(60);
/// Whatever has not changed by then is written down as that.
const GIVE_UP: Duration = Duration::from_secs(8);
/// Between two changes of one download. A peer that was told that it is not served is not told the opposite within 2 s
/// (`swarm`): that is about two changes, not about how soon one holds.
const APART: Duration = Duration::from_millis(2500);
/// What everybody's policy says besides what a case adds.
const BASE: &str = "min_ram_allowed_to_peer = 1\nmin_disk_size_allowed_to_peer = 1\nmin_file_size_to_cache = 1\n\
                    min_background_qos = 500\n";

const UPOWER: &str = "org.freedesktop.UPower";
const UPOWER_PATH: &str = "/org/freedesktop/UPower";
const BATTERY: &str = "/org/freedesktop/UPower/devices/bat0";
const NM: &str = "org.freedesktop.NetworkManager";
const NM_PATH: &str = "/org/freedesktop/NetworkManager";
const VPN: &str = "/org/freedesktop/NetworkManager/ActiveConnection/7";

/// A seed that is always there.
#[derive(Debug)]
struct Seed {
    agent: Agent,
    host: Host,
}

#[derive(Debug)]
pub(super) struct Scene {
    dir: PathBuf,
    lans: [Bridge; 2],
    fleet: Fleet,
    origin: Nginx,
    /// `a`, `twin`, `far` (another subnet), `other` (another site).
    seeds: Vec<Seed>,
    /// That of the seed `a`.
    seed_bus: SystemBus,
    /// That of the devices.
    device_bus: SystemBus,
    devices: u8,
    _cache: Nginx,
    // Last: namespaces go when everything in them has ended.
    _world: World,
}

/// The device of one case, with its download under way.
struct Running {
    agent: Agent,
    host: Host,
    _job: Job,
    /// The file that says how far its clock is ahead, and when the next full hour strikes, in seconds from now.
    clock: PathBuf,
    strikes: i64,
}

impl Scene {
    /// Builds it; every seed has its file.
    pub(super) fn open(bin: &Path, dir: &Path) -> Result<Self> {
        let world = World::new()?;
        let lans = [world.bridge("lan1")?, world.bridge("lan2")?];
        let router = world.router("router")?;
        router.port(&lans[0], "198.18.1.1/24")?;
        router.port(&lans[1], "198.18.2.1/24")?;
        let root = dir.join("www");
        fs::create_dir_all(&root)?;
        let origin_host = host(&lans, 0, "origin", 2)?;
        let cache_host = host(&lans, 0, "cache", 4)?;
        let origin = Nginx::serve(&root).on(&origin_host).start(dir)?;
        let cache_dir = dir.join("cache");
        fs::create_dir_all(&cache_dir)?;
        let cache = Nginx::serve(&root).on(&cache_host).port(80).start(&cache_dir)?;
        let head = host(&lans, 0, "head", 3)?;
        let config = "ingest_allow = [\"198.18.0.0/15\"]\n\
                      [sites]\none = [\"198.18.1.0/24\", \"198.18.2.0/25\"]\ntwo = [\"198.18.2.128/25\"]\n";
        let listen = SocketAddr::new(head.ip(), 7690);
        let fleet = Fleet::start_bin(bin, &dir.join("fleet"), listen, Some(&head), config)?;
        let mut seed_bus = SystemBus::start(&dir.join("seed-bus"))?;
        seed_bus.mock("upower", UPOWER)?;
        let add = "org.freedesktop.DBus.Mock.AddDischargingBattery";
        seed_bus.call(UPOWER, UPOWER_PATH, add, &["bat0", "a battery", "80.0", "3600"])?;
        let mut device_bus = SystemBus::start(&dir.join("device-bus"))?;
        device_bus.mock("networkmanager", NM)?;
        let add = "org.freedesktop.DBus.Mock.AddProperty";
        device_bus.call(NM, NM_PATH, add, &[NM, "Metered", "<uint32 4>"])?;
        let add = "org.freedesktop.DBus.Mock.AddObject";
        let interface = "org.freedesktop.NetworkManager.Connection.Active";
        let properties = "{'Id': <'Head Office VPN'>, 'Type': <'tun'>, 'State': <uint32 2>}";
        device_bus.call(NM, NM_PATH, add, &[VPN, interface, properties, "@a(ssss) []"])?;
        let mut scene = Self {
            dir: dir.to_owned(),
            lans,
            fleet,
            origin,
            seeds: Vec::new(),
            seed_bus,
            device_bus,
            devices: 0,
            _cache: cache,
            _world: world,
        };
        for (name, lan, last, files) in [
            ("a", 0, 11, &["near", "pair"][..]),
            ("twin", 0, 12, &["pair"]),
            ("far", 1, 13, &["far"]),
            ("other", 1, 200, &["other"]),
        ] {
            scene.add_seed(name, lan, last, files)?;
        }
        for host in [&origin_host, &cache_host].into_iter().chain(scene.seeds.iter().map(|seed| &seed.host)) {
            host.limit_egress(Limit::rate("20mbit"))?;
        }
        Ok(scene)
    }

    fn add_seed(&mut self, name: &str, lan: usize, last: u8, files: &[&str]) -> Result<()> {
        let host = host(&self.lans, lan, name, last)?;
        if name == "other" {
            // It has served the Internet for a while already.
            let sent = "{\"internet_sent\": [[MONTH, 2000000000]]}".replace("MONTH", &month()?.to_string());
            remember(&self.dir.join("fleet").join(name), &sent)?;
        }
        let env = if name == "a" { self.on_bus(&self.seed_bus) } else { Vec::new() };
        let listen = SocketAddr::new(host.ip(), PEER_PORT);
        let agent = self.fleet.agent_in(name, listen, Some(&host), BASE, env)?;
        for file in files {
            let path = self.dir.join("www").join(file);
            if !path.exists() {
                // One content each: other bytes in each file.
                random_file(&path, file.bytes().map(u64::from).sum(), SIZE)?;
                self.fleet.publish(&path, &self.origin.url(file))?;
            }
            let out = self.dir.join("seed.out");
            agent.get(&self.origin.url(file), &out)?;
            fs::remove_file(out)?;
        }
        self.seeds.push(Seed { agent, host });
        Ok(())
    }

    fn on_bus(&self, bus: &SystemBus) -> Vec<(String, String)> {
        vec![("DBUS_SYSTEM_BUS_ADDRESS".to_owned(), bus.address().to_owned())]
    }

    /// Plays a case on a device of its own; the seconds that each step took.
    pub(super) fn play(&mut self, case: &Case) -> Result<Vec<f64>> {
        for (name, lines) in case.seeds {
            self.seed(name)?.agent.set_policy(&format!("{BASE}{lines}"))?;
        }
        for (name, lines) in case.seeds {
            let (agent, mut looked) = (&self.seed(name)?.agent, Ok(false));
            // A device that connects before would be served by the policy of the case before.
            wait_until("the seed's policy is in force", PATIENCE, || {
                looked = in_force(agent, lines);
                !matches!(looked, Ok(false))
            });
            looked?;
        }
        let running = self.begin(case)?;
        let mut seconds = Vec::new();
        let mut last = Instant::now();
        for step in case.steps {
            wait_until("the next change", PATIENCE, || last.elapsed() >= APART);
            last = Instant::now();
            seconds.push(self.measure(step, &running).with_context(|| step.what)?);
        }
        running.end()?;
        self.on_battery(false)?;
        self.charge(80)?;
        for seed in &self.seeds {
            seed.agent.set_policy(BASE)?;
        }
        Ok(seconds)
    }

    fn seed(&self, name: &str) -> Result<&Seed> {
        self.seeds.iter().find(|seed| seed.agent.name == name).with_context(|| format!("no seed {name}"))
    }

    /// Starts the case's download and waits until it comes from where it should, and from nowhere else.
    fn begin(&mut self, case: &Case) -> Result<Running> {
        self.devices += 1;
        let name = format!("d{}", self.devices);
        let host = host(&self.lans, 0, &name, 20 + self.devices)?;
        let dir = self.dir.join("fleet").join(&name);
        remember(&dir, "{\"downlink\": 2000000}")?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        // A coordinator turns away devices whose clocks are an hour wrong, so the nearest full hour is taken.
        let strikes = (now + 1800) / 3600 * 3600 - now;
        let mut env = self.on_bus(&self.device_bus);
        let clock = dir.join("clock");
        let mut lines = case.device.to_owned();
        if case.clock {
            set_clock(&clock, strikes - 600)?;
            env.extend(faketime(&clock)?);
            let to = (now + strikes) / 3600 % 24;
            let hours =
                format!("{{ from = {}, to = {to}, in = 2, out = 0, time_zone = 'UTC' }}", (to + 16) % 24);
            lines = lines.replace("HOURS", &hours);
        }
        let listen = SocketAddr::new(host.ip(), PEER_PORT);
        let agent = self.fleet.agent_in(&name, listen, Some(&host), &format!("{BASE}{lines}"), env)?;
        let args: &[&str] = if case.foreground { &["--foreground"] } else { &[] };
        let job = agent.begin_get(&self.origin.url(case.file), &dir.join("out"), args)?;
        let began = Instant::now();
        let mut line = Timeline::default();
        let mut looked = Ok(());
        wait_until("the first bytes come from where they should", PATIENCE, || {
            looked = self.sent().map(|sent| line.add(began.elapsed(), sent));
            // Each look at a second that begins anew: what was there before does not count.
            if line.span() > 2 * STEADY {
                line.keep_last(STEADY + STEADY / 4);
            }
            looked.is_err() || line.is_from(case.first)
        });
        looked?;
        Ok(Running { agent, host, _job: job, clock, strikes })
    }

    /// What everybody has sent so far.
    fn sent(&self) -> Result<Sent> {
        let mut all = Sent::new();
        for lan in &self.lans {
            all.extend(lan.carried()?.into_iter().map(|(name, counters)| (name, counters.tx_bytes)));
        }
        Ok(all)
    }

    /// Does what the step says, and how long all its flows took to become what they should be.
    fn measure(&self, step: &Step, running: &Running) -> Result<f64> {
        let reconnects = step.flows.iter().find_map(|flow| match flow {
            Flow::Reconnects(who) => Some(*who),
            _ => None,
        });
        let peer = reconnects.map(|who| self.seed(who)).transpose()?.map(|seed| seed.host.ip().to_string());
        let connections =
            || peer.as_deref().map_or_else(|| Ok(BTreeSet::new()), |ip| running.connections(ip));
        let before = connections()?;
        let mut line = Timeline::default();
        line.add(Duration::ZERO, self.sent()?);
        let began = Instant::now();
        self.act(step.act, running)?;
        let (mut looked, mut parted) = (Ok(()), None);
        let mut settled = Vec::new();
        wait_until("a change", PATIENCE, || {
            looked = self.sent().and_then(|sent| {
                line.add(began.elapsed(), sent);
                if !before.is_empty() && parted.is_none() && connections()?.is_disjoint(&before) {
                    parted = Some(began.elapsed());
                }
                Ok(())
            });
            settled = step
                .flows
                .iter()
                .map(|flow| match flow {
                    Flow::Reconnects(who) => parted.and_then(|since| line.delivers_after(who, since)),
                    flow => line.settled(*flow),
                })
                .collect::<Vec<Option<Duration>>>();
            looked.is_err() || settled.iter().all(Option::is_some) || began.elapsed() > GIVE_UP
        });
        looked?;
        let late = |at: &Option<Duration>| at.is_none_or(|at| at.as_secs_f64() > super::BOUND);
        if settled.iter().any(late) {
            println!("late: {}", line.told());
        }
        let latest = settled.into_iter().map(|at| at.unwrap_or(GIVE_UP)).max().unwrap_or_default();
        Ok(latest.as_secs_f64())
    }

    fn on_battery(&self, on: bool) -> Result<()> {
        self.seed_bus.set(UPOWER, UPOWER_PATH, UPOWER, "OnBattery", &on.to_string())
    }

    fn charge(&self, percent: u8) -> Result<()> {
        let device = "org.freedesktop.UPower.Device";
        self.seed_bus.set(UPOWER, BATTERY, device, "Percentage", &format!("{percent}.0"))
    }

    fn act(&self, act: Act, running: &Running) -> Result<()> {
        let agent = &running.agent;
        let said = |mut command: std::process::Command| -> Result<()> {
            let output = command.output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        match act {
            Act::Device(lines) => agent.set_policy(&format!("{BASE}{lines}")),
            Act::Seed(name, lines) => self.seed(name)?.agent.set_policy(&format!("{BASE}{lines}")),
            Act::DropIn(lines) => {
                let (dir, file) = (agent.dir.join("policy.d"), "50-bench.toml");
                fs::create_dir_all(&dir)?;
                fs::write(dir.join("new"), lines)?;
                Ok(fs::rename(dir.join("new"), dir.join(file))?)
            }
            Act::Set(key, value) => said(agent.command(&["set", key, value])),
            Act::Unset(key) => said(agent.command(&["unset", key])),
            Act::Push(lines) => {
                let file = self.dir.join("push.toml");
                fs::write(&file, lines)?;
                let path = file.to_str().context("the path is no text")?;
                let of = format!("subnet:{}/32", running.host.ip());
                said(self.fleet.command(&["policy", "push", path, "--group", &of])?)
            }
            Act::OnBattery(on) => self.on_battery(on),
            Act::Charge(percent) => self.charge(percent),
            Act::Discharge => self.charge(59).and_then(|()| self.on_battery(true)),
            Act::Metered(yes) => {
                let value = if yes { "uint32 3" } else { "uint32 4" };
                self.device_bus.set(NM, NM_PATH, NM, "Metered", value)
            }
            Act::Vpn(up) => {
                let value = if up { format!("[objectpath '{VPN}']") } else { "@ao []".to_owned() };
                self.device_bus.set(NM, NM_PATH, NM, "ActiveConnections", &value)
            }
            Act::Tun(true) => {
                running.host.run("ip", ["tuntap", "add", "tun0", "mode", "tun"])?;
                running.host.run("ip", ["link", "set", "tun0", "up"]).map(drop)
            }
            Act::Tun(false) => running.host.run("ip", ["link", "del", "tun0"]).map(drop),
            Act::Strike(true) => set_clock(&running.clock, running.strikes + 1),
            Act::Strike(false) => set_clock(&running.clock, running.strikes - 600),
        }
    }
}

impl Running {
    /// The device's own ends of its connections with `ip`.
    fn connections(&self, ip: &str) -> Result<BTreeSet<String>> {
        let text = self.host.run("ss", ["-Htn", "state", "established", "dst", ip])?;
        // Queues, own end, other end.
        Ok(text.lines().filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned)).collect())
    }

    /// Ends the device, politely, so that its coordinator forgets it.
    fn end(self) -> Result<()> {
        let Self { mut agent, _job: job, .. } = self;
        drop(job);
        agent.daemon.terminate(Duration::from_secs(10))?;
        Ok(fs::remove_dir_all(agent.dir.join("data/cache"))?)
    }
}

/// Whether all settings of `lines` come from the agent's policy file.
fn in_force(agent: &Agent, lines: &str) -> Result<bool> {
    let config = agent.config()?;
    let rows = config["Settings"].as_array().context("no settings")?;
    let by_file =
        |key: &str| rows.iter().any(|row| row["Name"] == key && row["Effective"]["Provider"] == "policy");
    Ok(lines.lines().filter_map(|line| line.split_once('=')).all(|(key, _)| by_file(key.trim())))
}

fn host(lans: &[Bridge; 2], lan: usize, name: &str, last: u8) -> Result<Host> {
    let Some(bridge) = lans.get(lan) else { bail!("no LAN {lan}") };
    let host = bridge.host(name, &format!("198.18.{}.{last}/24", lan + 1))?;
    host.default_route(format!("198.18.{}.1", lan + 1).parse()?)?;
    Ok(host)
}

/// Gives an agent that has not been started yet a memory of its traffic.
fn remember(dir: &Path, traffic: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let data = dir.join("data");
    fs::create_dir_all(&data)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    Ok(fs::write(data.join("traffic.json"), traffic)?)
}

/// The present month as the agent counts them: years since 0 times 12, plus the month from 0.
fn month() -> Result<u64> {
    let output = std::process::Command::new("date").args(["+%Y %m"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let (year, month) = text.trim().split_once(' ').context("`date` names no month")?;
    Ok(year.parse::<u64>()? * 12 + month.parse::<u64>()? - 1)
}

/// Moves a clock: so many seconds ahead of the true time from now on.
fn set_clock(file: &Path, ahead: i64) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, format!("{ahead:+}\n"))?;
    Ok(fs::rename(new, file)?)
}

/// What puts a program under a clock that `file` moves (libfaketime).
fn faketime(file: &Path) -> Result<Vec<(String, String)>> {
    let mut places =
        fs::read_dir("/usr/lib")?.flatten().map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    let library = places.find(|path| path.exists()).context("libfaketime is missing: cargo xtask setup")?;
    let pairs = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    Ok(pairs.map(|(key, value)| (key.to_owned(), value)).to_vec())
}
