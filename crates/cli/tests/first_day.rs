//! What an administrator meets on the first day: mistakes in files, a proxy that wants a login, a cache that is down, a
//! metered line; and whether `why`, `status`, `doctor` and the errors name what is amiss.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};
use std::time::Duration;

use peerage_testkit::{Agent, Nginx, OPEN_POLICY, Office, SystemBus, peerage_bin, wait_for, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn says(agent: &Agent, args: &[&str]) -> String {
    text(&agent.command(args).output().unwrap())
}

/// What `peerage doctor` finds of one thing.
fn finding(agent: &Agent, check: &str) -> Value {
    let output = agent.command(&["doctor", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut all = told["Findings"].as_array().unwrap().iter();
    all.find(|finding| finding["Check"] == check).cloned().unwrap_or(Value::Null)
}

#[test]
fn a_cache_that_is_down_is_told_by_doctor_and_of_every_file_by_why() {
    let office = Office::new(230, &[]).unwrap();
    let down = Nginx::serve(office.root()).directive("location / { return 502; }");
    let down = down.start(&office.path("")).unwrap();
    let host = down.address().to_string();
    let (_, one, _) = office.published("one.bin", 5 * MIB).unwrap();
    let (_, two, _) = office.published("two.bin", 6 * MIB).unwrap();
    let a = office.agent_with("a", &format!("{OPEN_POLICY}cache_host = \"{host}\"\n"), &[]).unwrap();
    let before = finding(&a, "connected caches");
    assert_eq!(before["Level"], "pass", "{before}");
    assert!(before["Sentences"][0].as_str().unwrap().contains(&host), "{before}");
    a.get(&one, &office.path("one.out")).unwrap();
    // The second file's download does not ask it at all, and says so.
    a.get(&two, &office.path("two.out")).unwrap();
    for name in ["one.bin", "two.bin"] {
        let told = says(&a, &["why", name]);
        assert!(told.contains(&host) && told.contains("it answers 502"), "{told}");
    }
    let told = says(&a, &["why", &two]);
    assert!(told.contains("it failed before"), "{told}");
    let after = finding(&a, "connected caches");
    assert_eq!(after["Level"], "warn", "{after}");
    let sentence = after["Sentences"][0].as_str().unwrap();
    assert!(sentence.contains(&host) && sentence.contains("it answers 502"), "{after}");
    // That peers are fine is said without it.
    let peering = finding(&a, "peering");
    assert_eq!(peering["Sentences"].as_array().unwrap().len(), 1, "{peering}");
}

#[test]
fn why_takes_the_name_that_a_url_ends_with_and_asks_where_two_do() {
    let office = Office::new(231, &[]).unwrap();
    std::fs::create_dir(office.root().join("other")).unwrap();
    let (_, url, id) = office.published("name.bin", 2 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("saved-as-this")).unwrap();
    let told = says(&a, &["why", "name.bin"]);
    assert!(told.starts_with(&id), "{told}");
    let (_, other, _) = office.published("other/name.bin", 3 * MIB).unwrap();
    a.get(&other, &office.path("other.out")).unwrap();
    let told = says(&a, &["why", "name.bin"]);
    assert!(told.contains("2 URLs end with name.bin") && told.contains(&other), "{told}");
    let told = says(&a, &["why", "nobody.bin"]);
    assert!(told.contains("no download of nobody.bin is remembered"), "{told}");
}

#[test]
fn a_proxy_that_wants_a_login_is_not_taken_for_the_origin() {
    let office = Office::new(232, &[]).unwrap();
    let proxy = Nginx::serve(office.root()).directive("location / { return 407; }");
    let proxy = proxy.start(&office.path("")).unwrap();
    let (_, url, _) = office.published("login.bin", MIB).unwrap();
    let way = format!("http://{}", proxy.address());
    let a = office.agent_with("a", OPEN_POLICY, &["--proxy", &way]).unwrap();
    let told = says(&a, &["get", &url, "-o", office.path("login.out").to_str().unwrap()]);
    assert!(
        told.contains(&format!("the proxy {way} answers 407")) && told.contains("proxy_credentials"),
        "{told}"
    );
    assert!(!told.contains("origin answers"), "{told}");
}

#[test]
fn who_gave_a_file_stands_there_after_the_connection_has_ended() {
    let office = Office::new(233, &[]).unwrap();
    let (_, url, id) = office.published("given.bin", 6 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a.out")).unwrap();
    let b = office.agent("b").unwrap();
    b.get(&url, &office.path("b.out")).unwrap();
    let row = |agent: &Agent| {
        let output = agent.command(&["status", "--peers", "--json"]).output().unwrap();
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = rows.as_array().unwrap().iter();
        rows.filter(|row| row["FileId"] == *id)
            .flat_map(|row| row["Peers"].as_array().unwrap())
            .next()
            .cloned()
    };
    wait_until("the connection has ended", PATIENCE, || {
        row(&b).is_some_and(|row| row["ConnectionEstablished"] == false)
    });
    let from_peers = b.file(&id).unwrap().unwrap()["BytesFromPeers"].clone();
    assert_eq!(row(&b).unwrap()["BytesReceived"], from_peers);
    assert!(from_peers.as_u64().unwrap() >= 5 * MIB, "{from_peers}");
}

#[test]
fn doctor_says_that_background_downloads_wait_on_a_metered_line() {
    const NM: &str = "org.freedesktop.NetworkManager";
    const PATH: &str = "/org/freedesktop/NetworkManager";
    let office = Office::new(234, &[]).unwrap();
    let mut bus = SystemBus::start(&office.path("bus.d")).unwrap();
    bus.mock("networkmanager", NM).unwrap();
    let add = "org.freedesktop.DBus.Mock.AddProperty";
    bus.call(NM, PATH, add, &[NM, "Metered", "<uint32 1>"]).unwrap();
    let env = [("DBUS_SYSTEM_BUS_ADDRESS", bus.address())];
    let a = office.agent_in("a", OPEN_POLICY, &[], &env).unwrap();
    wait_until("the line is known to be metered", PATIENCE, || finding(&a, "metered")["Level"] == "warn");
    let told = finding(&a, "metered").to_string();
    assert!(told.contains("background downloads wait until it is not"), "{told}");
    assert!(told.contains("peers are not used on such a one"), "{told}");
}

#[test]
fn the_list_of_devices_says_where_each_is_seen_and_in_which_group() {
    const GROUP: &str = "6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11";
    let office = Office::new(235, &[]).unwrap();
    let policy = format!("{OPEN_POLICY}download_mode = \"group\"\ngroup_id = \"{GROUP}\"\n");
    let _a = office.agent_with("a", &policy, &[]).unwrap();
    let list = |args: &[&str]| {
        text(&office.fleet.command(&[&["coordinator", "devices"], args].concat()).unwrap().output().unwrap())
    };
    let device = wait_for("the device has asked", PATIENCE, || {
        let devices: Value = serde_json::from_str(&list(&["--json"])).unwrap();
        devices[0]["group"].is_string().then(|| devices[0].clone())
    });
    assert_eq!(device["group"], GROUP, "{device}");
    let seen = device["seen_at"].as_str().unwrap();
    assert!(seen.starts_with("127."), "{device}");
    let table = list(&[]);
    assert!(table.contains("SEEN AT") && table.contains(seen), "{table}");
}

#[test]
fn a_key_below_the_sites_is_named_when_the_coordinator_starts() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("coordinator.toml");
    std::fs::write(&config, "[sites]\nparis = [\"10.1.0.0/16\"]\ningest_allow = [\"mirror.example\"]\n")
        .unwrap();
    let mut command = Command::new(peerage_bin().unwrap());
    let output = command.arg("coordinator").arg("--config").arg(&config).output().unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("site \"ingest_allow\"") && told.contains("above [sites]"), "{told}");
}
