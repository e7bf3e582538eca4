//! Conditions of the device that change while downloads run: battery, metered connections, VPNs, the hour.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use peerage_testkit::{Agent, Office, SystemBus, number, same_file, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Everything is shared; the conditions of the device count, as by default.
const POLICY: &str =
    "min_ram_allowed_to_peer = 1\nmin_disk_size_allowed_to_peer = 1\nmin_file_size_to_cache = 1\n";
/// Only from peers, if there may be any.
const FROM_PEERS: &str = "delay_background_download_from_http = 3600\n";

const UPOWER: &str = "org.freedesktop.UPower";
const UPOWER_PATH: &str = "/org/freedesktop/UPower";
const BATTERY: &str = "/org/freedesktop/UPower/devices/bat0";
const NM: &str = "org.freedesktop.NetworkManager";
const NM_PATH: &str = "/org/freedesktop/NetworkManager";

/// Waits until the row of `id` gives a reason with `word`.
fn gives_reason(agent: &Agent, id: &str, word: &str) {
    wait_until(word, PATIENCE, || {
        agent.file(id).unwrap().is_some_and(|row| row["Reasons"].to_string().contains(word))
    });
}

fn fact(agent: &Agent, key: &str) -> Value {
    agent.config().unwrap()["Facts"][key].clone()
}

/// A bus beside the office, and the environment of whoever shall use it.
fn bus(office: &Office) -> SystemBus {
    SystemBus::start(&office.path("bus.d")).unwrap()
}

fn agent_on(office: &Office, bus: &SystemBus, name: &str, policy: &str) -> Agent {
    office.agent_in(name, policy, &[], &[("DBUS_SYSTEM_BUS_ADDRESS", bus.address())]).unwrap()
}

fn charge(bus: &SystemBus, percent: &str) {
    bus.set(UPOWER, BATTERY, "org.freedesktop.UPower.Device", "Percentage", percent).unwrap();
}

#[test]
fn a_device_on_battery_uploads_while_it_is_charged_enough() {
    let office = Office::new(36, &[]).unwrap();
    let mut bus = bus(&office);
    bus.mock("upower", UPOWER).unwrap();
    let add = "org.freedesktop.DBus.Mock.AddDischargingBattery";
    bus.call(UPOWER, UPOWER_PATH, add, &["bat0", "a battery", "80.0", "3600"]).unwrap();
    let (file, url, id) = office.published("battery.bin", 48 * MIB).unwrap();
    let slow = "max_upload_bandwidth = 4000\nmin_battery_percentage_allowed_to_upload = 60\n";
    let a = agent_on(&office, &bus, "a", &format!("{POLICY}{slow}"));
    assert_eq!((fact(&a, "Power"), fact(&a, "BatteryCharge")), ("mains".into(), Value::Null));
    bus.set(UPOWER, UPOWER_PATH, UPOWER, "OnBattery", "true").unwrap();
    wait_until("the battery is seen", PATIENCE, || fact(&a, "BatteryCharge") == 80);
    a.get(&url, &office.path("a.out")).unwrap();
    let b = office.agent_with("b", &format!("{POLICY}{FROM_PEERS}"), &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b.out"), &[]).unwrap();
    wait_until("it comes from the peer", PATIENCE, || b.held_bytes(&id) >= 2 * MIB);
    charge(&bus, "59.9");
    gives_reason(&a, &id, "min_battery_percentage_allowed_to_upload");
    b.wait_still(&id, PATIENCE);
    assert!(b.held_bytes(&id) < 48 * MIB);
    charge(&bus, "60.0");
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b.out")).unwrap());
    assert_eq!(number(&status, "BytesFromLanPeers"), 48 * MIB, "{status}");
    // 0 is never, whatever the charge; without UPower the kernel's word counts, which knows of no such battery.
    a.set_policy(POLICY).unwrap();
    wait_until("the port is closed", PATIENCE, || {
        a.status().unwrap().iter().all(|row| row["Status"] == "Complete")
    });
    bus.end_mocks();
    wait_until("UPower is gone", PATIENCE, || fact(&a, "BatteryCharge") != 60);
}

#[test]
fn downloads_that_may_not_run_on_a_metered_connection_wait_until_it_is_none() {
    let office = Office::new(36, &["limit_rate 4m;"]).unwrap();
    let mut bus = bus(&office);
    bus.mock("networkmanager", NM).unwrap();
    let add = "org.freedesktop.DBus.Mock.AddProperty";
    bus.call(NM, NM_PATH, add, &[NM, "Metered", "<uint32 2>"]).unwrap();
    let (file, url, id) = office.published("metered.bin", 32 * MIB).unwrap();
    // Nobody has published this one and the coordinator may not read it: plain HTTP.
    let plain = office.file("plain.bin", 24 * MIB).unwrap();
    let plain_url = office.origin.url("plain.bin?token=1").replace("127.0.0.1", "user:word@127.0.0.1");
    let a = agent_on(&office, &bus, "a", POLICY);
    let job = a.begin_get(&url, &office.path("a.out"), &[]).unwrap();
    let plain_job = a.begin_get(&plain_url, &office.path("plain.out"), &[]).unwrap();
    let simple =
        || a.status().unwrap().into_iter().find(|row| row["FileId"].as_str().unwrap().starts_with("url-"));
    let simple_has = || simple().map_or(0, |row| number(&row, "FileSizeInCache"));
    wait_until("both have begun", PATIENCE, || a.held_bytes(&id) >= MIB && simple_has() >= MIB);
    bus.set(NM, NM_PATH, NM, "Metered", "uint32 3").unwrap();
    gives_reason(&a, &id, "allow_metered_downloads");
    wait_until("both are paused", PATIENCE, || {
        let rows = [a.file(&id).unwrap(), simple()];
        rows.into_iter().all(|row| row.is_some_and(|row| row["Status"] == "Paused"))
    });
    a.wait_still(&id, PATIENCE);
    let held = simple_has();
    assert!(simple().unwrap()["Reasons"].to_string().contains("allow_metered_downloads"));
    // Somebody waits for this one.
    let (other, other_url, _) = office.published("foreground.bin", 4 * MIB).unwrap();
    a.begin_get(&other_url, &office.path("f.out"), &["--foreground"]).unwrap().json().unwrap();
    assert!(same_file(&other, &office.path("f.out")).unwrap());
    assert_eq!(simple_has(), held);
    bus.set(NM, NM_PATH, NM, "Metered", "uint32 4").unwrap();
    job.json().unwrap();
    plain_job.json().unwrap();
    assert!(same_file(&file, &office.path("a.out")).unwrap());
    assert!(same_file(&plain, &office.path("plain.out")).unwrap());
}

#[test]
fn a_vpn_connection_parts_from_peers_until_it_ends() {
    let office = Office::new(36, &["limit_rate 2m;"]).unwrap();
    let mut bus = bus(&office);
    bus.mock("networkmanager", NM).unwrap();
    let (file, url, id) = office.published("vpn.bin", 48 * MIB).unwrap();
    let a = office.agent_with("a", &format!("{POLICY}max_upload_bandwidth = 3000\n"), &[]).unwrap();
    a.get(&url, &office.path("a.out")).unwrap();
    let b = agent_on(&office, &bus, "b", &format!("{POLICY}{FROM_PEERS}"));
    let job = b.begin_get(&url, &office.path("b.out"), &[]).unwrap();
    wait_until("it comes from the peer", PATIENCE, || b.held_bytes(&id) >= 2 * MIB);
    assert_eq!(number(&b.file(&id).unwrap().unwrap(), "BytesFromCdn"), 0);
    // Known by a keyword in its name, not by its type.
    let active = "/org/freedesktop/NetworkManager/ActiveConnection/7";
    let interface = "org.freedesktop.NetworkManager.Connection.Active";
    let properties = "{'Id': <'Head Office VPN'>, 'Type': <'tun'>, 'State': <uint32 2>}";
    let add = "org.freedesktop.DBus.Mock.AddObject";
    bus.call(NM, NM_PATH, add, &[active, interface, properties, "@a(ssss) []"]).unwrap();
    bus.set(NM, NM_PATH, NM, "ActiveConnections", &format!("[objectpath '{active}']")).unwrap();
    gives_reason(&b, &id, "allow_vpn_peer_caching");
    wait_until("it comes from the origin alone", PATIENCE, || {
        let row = b.file(&id).unwrap().unwrap();
        number(&row, "ConnectedPeers") == 0 && number(&row, "BytesFromCdn") >= MIB
    });
    let vpn = fact(&b, "VPN");
    assert!(vpn.as_str().unwrap().contains("Head Office VPN"), "{vpn}");
    let before = number(&b.file(&id).unwrap().unwrap(), "BytesFromLanPeers");
    bus.set(NM, NM_PATH, NM, "ActiveConnections", "@ao []").unwrap();
    wait_until("the peer is connected again", PATIENCE, || {
        number(&b.file(&id).unwrap().unwrap(), "BytesFromLanPeers") > before
    });
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b.out")).unwrap());
    assert!(number(&status, "BytesFromCdn") < 48 * MIB, "{status}");
}

/// A clock that a test can move, by libfaketime: its file says how much it is ahead.
struct Wall(PathBuf);

impl Wall {
    fn new(path: PathBuf, ahead: i64) -> Self {
        let wall = Self(path);
        wall.is(ahead);
        wall
    }

    /// From now on it is so many seconds ahead of the true time.
    fn is(&self, ahead: i64) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{ahead:+}\n")).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    fn library() -> PathBuf {
        let mut places = std::fs::read_dir("/usr/lib").unwrap().flatten();
        let found = places.find_map(|place| {
            let path = place.path().join("faketime/libfaketimeMT.so.1");
            path.exists().then_some(path)
        });
        found.expect("libfaketime: run `cargo xtask setup`")
    }
}

/// Makes the agent begin with a downlink of 100 KB/s in its memory: a percentage needs something to be of.
fn remember_downlink(office: &Office, name: &str) {
    let data = office.path("agents").join(name).join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(data.join("traffic.json"), "{\"downlink\": 100000}").unwrap();
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_download_changes_its_rate_when_the_hour_strikes() {
    let office = Office::new(36, &["limit_rate 8m;"]).unwrap();
    let (file, url, id) = office.published("hours.bin", 24 * MIB).unwrap();
    remember_downlink(&office, "a");
    // A coordinator turns away devices whose clocks are an hour wrong, so the clock is moved over the nearest full hour.
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let strikes = (now + 1800) / 3600 * 3600;
    let wall = Wall::new(office.path("wall"), strikes - 600 - now);
    let library = Wall::library();
    let env = [
        ("LD_PRELOAD", path_text(&library)),
        ("FAKETIME_TIMESTAMP_FILE", path_text(&wall.0)),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("TZ", "Asia/Tokyo"),
    ];
    // Tokyo is nine hours ahead, all year. The hours end when it strikes.
    let to = (strikes / 3600 + 9) % 24;
    let hours = format!(
        "set_hours_to_limit_background_download_bandwidth = {{ from = {}, to = {to}, in = 1, out = 0 }}\n",
        (to + 16) % 24
    );
    let a = office.agent_in("a", &format!("{POLICY}{hours}"), &[], &env).unwrap();
    let job = a.begin_get(&url, &office.path("a.out"), &[]).unwrap();
    gives_reason(&a, &id, "inside the hours");
    a.wait_still(&id, PATIENCE);
    assert!(a.held_bytes(&id) < 24 * MIB);
    wall.is(strikes + 1 - now);
    job.json().unwrap();
    assert!(same_file(&file, &office.path("a.out")).unwrap());
}

#[test]
fn a_clock_that_is_set_forward_takes_nothing_from_running_downloads() {
    let office = Office::new(134, &["limit_rate 1m;"]).unwrap();
    let (file, url, id) = office.published("swarm.bin", 10 * MIB).unwrap();
    let plain = office.file("plain.bin", 9 * MIB).unwrap();
    let wall = Wall::new(office.path("wall"), 0);
    let library = Wall::library();
    let env = [
        ("LD_PRELOAD", path_text(&library)),
        ("FAKETIME_TIMESTAMP_FILE", path_text(&wall.0)),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    let a = office.agent_in("a", POLICY, &[], &env).unwrap();
    // Without a coordinator, so without a record: the one that could be swept.
    let b = office.agent_in("b", &format!("{POLICY}download_mode = \"simple\"\n"), &[], &env).unwrap();
    // In the foreground: one in the background yields to an origin that sends in bursts, as a limited nginx does.
    let begin =
        |agent: &Agent, url: &str, out: &str| agent.begin_get(url, &office.path(out), &["--foreground"]);
    let job = begin(&a, &url, "a.out").unwrap();
    let other = begin(&b, &office.origin.url("plain.bin"), "b.out").unwrap();
    wait_until("both have begun", PATIENCE, || {
        let held = |row: &Value| number(row, "FileSizeInCache");
        a.held_bytes(&id) >= MIB && b.status().unwrap().iter().any(|row| held(row) >= MIB)
    });
    wall.is(60 * 24 * 3600);
    // New limits of the cache hold at once: it is looked through now, with the new time.
    a.set_policy(&format!("{POLICY}max_cache_age = 3600\n")).unwrap();
    b.set_policy(&format!("{POLICY}download_mode = \"simple\"\nmax_cache_age = 3600\n")).unwrap();
    let deleted = |agent: &Agent| {
        agent.status().unwrap().iter().any(|row| row["Reasons"].to_string().contains("deleted"))
    };
    job.json().unwrap();
    assert!(!deleted(&b), "{:?}", b.status());
    other.json().unwrap();
    assert!(same_file(&file, &office.path("a.out")).unwrap());
    assert!(same_file(&plain, &office.path("b.out")).unwrap());
    let fetched = office.origin_bytes().unwrap();
    assert!(fetched <= 20 * MIB, "{fetched} bytes were fetched of 19 MiB");
}
