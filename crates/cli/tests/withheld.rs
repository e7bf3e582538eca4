//! A neighbour that has the file and does not share it says why, to those who want it and to nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use peerage_testkit::{Agent, Office, SystemBus, same_file, wait_until};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Everything is shared; the conditions of the device count, as by default.
const POLICY: &str =
    "min_ram_allowed_to_peer = 1\nmin_disk_size_allowed_to_peer = 1\nmin_file_size_to_cache = 1\n";
/// Only from peers, if there may be any.
const FROM_PEERS: &str = "delay_background_download_from_http = 3600\n";
const SLOW: &str = "max_upload_bandwidth = 4000\n";

const UPOWER: &str = "org.freedesktop.UPower";
const UPOWER_PATH: &str = "/org/freedesktop/UPower";
const NM: &str = "org.freedesktop.NetworkManager";
const NM_PATH: &str = "/org/freedesktop/NetworkManager";

const ON_BATTERY: &str =
    "does not share now: it runs on battery (min_battery_percentage_allowed_to_upload there)";

fn said(agent: &Agent, what: &[&str]) -> String {
    let output = agent.command(what).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn notes(agent: &Agent, id: &str) -> String {
    agent.file(id).unwrap().map_or_else(String::new, |row| row["Peers"].to_string())
}

#[test]
fn a_neighbour_on_battery_says_so_until_it_shares_again() {
    let office = Office::new(181, &[]).unwrap();
    let mut bus = SystemBus::start(&office.path("bus.d")).unwrap();
    bus.mock("upower", UPOWER).unwrap();
    let add = "org.freedesktop.DBus.Mock.AddDischargingBattery";
    bus.call(UPOWER, UPOWER_PATH, add, &["bat0", "a battery", "80.0", "3600"]).unwrap();
    let (file, url, id) = office.published("battery.bin", 40 * MIB).unwrap();
    let env = [("DBUS_SYSTEM_BUS_ADDRESS", bus.address())];
    let a = office.agent_in("a", &format!("{POLICY}{SLOW}"), &[], &env).unwrap();
    a.get(&url, &office.path("a.out")).unwrap();
    let b = office.agent_with("b", &format!("{POLICY}{FROM_PEERS}"), &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b.out"), &[]).unwrap();
    wait_until("it comes from the peer", PATIENCE, || b.held_bytes(&id) >= 2 * MIB);
    let told = said(&b, &["why", &id]);
    assert!(!told.contains("does not share"), "{told}");
    bus.set(UPOWER, UPOWER_PATH, UPOWER, "OnBattery", "true").unwrap();
    wait_until("the reason is told", PATIENCE, || said(&b, &["why", &id]).contains(ON_BATTERY));
    // Who it is: its address, and the beginning of its key. Of its charge and its settings' values nothing.
    let told = said(&b, &["why", &id]);
    assert!(told.contains("- 127.181.0.11 ("), "{told}");
    assert!(!told.contains("80 %"), "{told}");
    assert!(notes(&b, &id).contains(ON_BATTERY), "{}", notes(&b, &id));
    bus.set(UPOWER, UPOWER_PATH, UPOWER, "OnBattery", "false").unwrap();
    job.json().unwrap();
    assert!(same_file(&file, &office.path("b.out")).unwrap());
    let told = said(&b, &["why", &id]);
    assert!(!told.contains("does not share"), "{told}");
    assert!(!notes(&b, &id).contains("does not share"), "{}", notes(&b, &id));
}

#[test]
fn a_neighbour_that_leaves_says_why_it_does() {
    let office = Office::new(182, &["limit_rate 2m;"]).unwrap();
    let mut bus = SystemBus::start(&office.path("bus.d")).unwrap();
    bus.mock("networkmanager", NM).unwrap();
    let add = "org.freedesktop.DBus.Mock.AddProperty";
    bus.call(NM, NM_PATH, add, &[NM, "Metered", "<uint32 2>"]).unwrap();
    let env = [("DBUS_SYSTEM_BUS_ADDRESS", bus.address())];
    let cases = [
        ("metered.bin", "its connection is metered (allow_metered_peer_caching there)"),
        ("policy.bin", "its policy does not let it share this file now"),
    ];
    for (at, (name, reason)) in cases.into_iter().enumerate() {
        let (_, url, id) = office.published(name, (40 + at as u64) * MIB).unwrap();
        let a = office.agent_in(&format!("a{at}"), &format!("{POLICY}{SLOW}"), &[], &env).unwrap();
        a.begin_get(&url, &office.path("a.out"), &["--foreground"]).unwrap().json().unwrap();
        let b = office.agent_with(&format!("b{at}"), &format!("{POLICY}{FROM_PEERS}"), &[]).unwrap();
        let _job = b.begin_get(&url, &office.path("b.out"), &[]).unwrap();
        wait_until("it comes from the peer", PATIENCE, || b.held_bytes(&id) >= 2 * MIB);
        match at {
            0 => bus.set(NM, NM_PATH, NM, "Metered", "uint32 1").unwrap(),
            _ => a.set_policy(&format!("{POLICY}download_mode = 0\n")).unwrap(),
        }
        // After the goodbye, when the port is closed and nobody could be asked.
        wait_until("it has left", PATIENCE, || b.file(&id).unwrap().unwrap()["ConnectedPeers"] == 0);
        let told = said(&b, &["why", &id]);
        assert!(told.contains(&format!("does not share now: {reason}")), "{told}");
        bus.set(NM, NM_PATH, NM, "Metered", "uint32 2").unwrap();
    }
}
