//! `peerage doctor` beside real agents: healthy, gone, behind a proxy that drops ranges, told not to peer, with a port
//! that somebody else holds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::Duration;

use peerage_testkit::{Agent, Fleet, Job, OPEN_POLICY, Office, peerage_bin, same_file, wait_for};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// What it says as JSON, and its exit code.
fn doctor(agent: &Agent, args: &[&str]) -> (Value, i32) {
    let output = agent.command(&[&["doctor", "--json"], args].concat()).output().unwrap();
    let told = serde_json::from_slice(&output.stdout);
    (told.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.status.code().unwrap())
}

fn finding<'a>(told: &'a Value, check: &str) -> &'a Value {
    let mut all = told["Findings"].as_array().unwrap().iter();
    all.find(|finding| finding["Check"] == check).unwrap_or_else(|| panic!("no {check} in {told}"))
}

fn level<'a>(told: &'a Value, check: &str) -> &'a str {
    finding(told, check)["Level"].as_str().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_healthy_agent_fails_nothing_and_a_lost_coordinator_is_said() {
    let mut office = Office::new(71, &[]).unwrap();
    let a = office.agent("a").unwrap();
    let (told, code) = doctor(&a, &[]);
    assert_eq!(code, 0, "{told}");
    for check in ["agent", "policy", "coordinator", "cache", "network", "proxy", "ranges", "port", "peering"]
    {
        assert_eq!(level(&told, check), "pass", "{told}");
    }
    // On the loopback there is no link to look for neighbours on.
    assert_eq!(level(&told, "local discovery"), "warn", "{told}");
    assert_eq!(told["Result"], "warn");
    assert_eq!(told["Facts"]["Peering"]["Mode"], "lan", "{told}");
    let plain = a.command(&["doctor", "--p2p"]).output().unwrap();
    let shown = text(&plain);
    assert!(plain.status.success() && shown.starts_with("Peers\n  pass  download mode    lan: "), "{shown}");
    assert!(!shown.contains("Health") && shown.contains("checks pass, 1 warns."), "{shown}");
    office.fleet.kill_coordinator().unwrap();
    let (told, code) = doctor(&a, &["--health"]);
    assert_eq!((code, level(&told, "coordinator")), (1, "fail"), "{told}");
    assert!(finding(&told, "coordinator")["Remedies"][0].as_str().unwrap().contains("check that it runs"));
}

#[test]
fn without_an_agent_the_place_of_one_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let config = |listen: &str| {
        let [data, policy] = [path("data"), path("policy")];
        std::fs::create_dir_all(&policy).unwrap();
        let text = format!("data_dir = {data:?}\npolicy_dir = {policy:?}\nlisten = \"{listen}\"\n");
        std::fs::write(path("agent.toml"), text).unwrap();
    };
    let run = || {
        let mut command = Command::new(peerage_bin().unwrap());
        command.args(["doctor", "--json", "--config"]).arg(path("agent.toml"));
        command.env("PEERAGE_SOCKET", path("nobody.sock"));
        let output = command.output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(4), "{told}");
        told
    };
    config("127.71.0.99:0");
    let told = run();
    assert_eq!(told["Findings"][0]["Check"], "agent");
    assert_eq!(level(&told, "agent"), "fail");
    for check in ["configuration", "policy", "directories", "disk space", "port"] {
        assert_ne!(level(&told, check), "fail", "{told}");
    }
    let taken = TcpListener::bind("127.71.0.99:0").unwrap();
    config(&taken.local_addr().unwrap().to_string());
    std::fs::write(path("policy/policy.toml"), "download_mode = \"nonsense\"\n").unwrap();
    std::fs::write(path("data"), "a file in the way").unwrap();
    let told = run();
    assert_eq!(level(&told, "policy"), "fail", "{told}");
    assert_eq!(level(&told, "directories"), "fail", "{told}");
    assert_eq!(level(&told, "port"), "warn", "{told}");
    std::fs::write(path("agent.toml"), "lisen = 1\n").unwrap();
    assert_eq!(level(&run(), "configuration"), "fail");
}

#[test]
fn a_mode_without_peers_fails_with_the_remedy_of_its_layer() {
    let office = Office::new(71, &[]).unwrap();
    let a = office.agent_with("a", &format!("{OPEN_POLICY}download_mode = 99\n"), &[]).unwrap();
    let (told, code) = doctor(&a, &[]);
    assert_eq!((code, level(&told, "download mode")), (1, "fail"), "{told}");
    let mode = finding(&told, "download mode").to_string();
    assert!(
        mode.contains("only plain HTTP") && mode.contains("download_mode in the device's policy file"),
        "{mode}"
    );
    assert_eq!(level(&told, "peering"), "warn");
    // Neither is a fault of its own.
    assert_eq!((level(&told, "port"), level(&told, "coordinator")), ("pass", "pass"), "{told}");
    a.set_policy(&OPEN_POLICY.replace("min_ram_allowed_to_peer = 1\n", "min_ram_allowed_to_peer = 100000\n"))
        .unwrap();
    let told = wait_for("the policy is seen", PATIENCE, || {
        let (told, code) = doctor(&a, &["--p2p"]);
        (level(&told, "memory") == "fail").then_some((told, code))
    });
    assert_eq!((told.1, level(&told.0, "download mode")), (1, "pass"), "{}", told.0);
    // What is wrong in the file is said, and what held before holds on.
    a.set_policy("download_mode = \"nonsense\"\n").unwrap();
    wait_for("the mistake is seen", PATIENCE, || {
        let (told, _) = doctor(&a, &["--health"]);
        (level(&told, "policy") == "fail" && told.to_string().contains("nonsense")).then_some(())
    });
}

#[test]
fn an_origin_without_ranges_is_named() {
    let office = Office::new(71, &["max_ranges 0;"]).unwrap();
    let (file, url, _) = office.published("whole.bin", 24 * MIB + 5).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    let (told, code) = doctor(&a, &["--health"]);
    assert_eq!((code, level(&told, "ranges")), (0, "warn"), "{told}");
    let ranges = finding(&told, "ranges")["Sentences"][0].as_str().unwrap();
    assert!(
        ranges.contains(&office.origin.address().to_string()) && ranges.contains("simple mode from byte 0")
    );
}

#[test]
fn a_port_that_somebody_else_holds_fails() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.71.0.98:0").unwrap();
    let at = taken.local_addr().unwrap();
    let fleet = Fleet::start(&dir.path().join("fleet"), "127.71.0.97:0".parse().unwrap(), None, "").unwrap();
    let a = fleet.agent("a", at, None, OPEN_POLICY).unwrap();
    wait_for("it has tried to open the port", PATIENCE, || {
        let (told, code) = doctor(&a, &["--p2p"]);
        ((code, level(&told, "port")) == (1, "fail")).then_some(())
    });
    drop(taken);
    wait_for("the port is opened", PATIENCE, || {
        let (told, code) = doctor(&a, &["--p2p"]);
        (code == 0 && level(&told, "port") == "pass").then_some(())
    });
}

#[test]
fn an_agent_that_has_joined_nobody_says_how_to() {
    let dir = tempfile::tempdir().unwrap();
    let listen = "127.71.0.96:0".parse().unwrap();
    let a = Agent::start(&dir.path().join("a"), "a", listen, None, OPEN_POLICY, Vec::new()).unwrap();
    let job = Job::start("doctor", a.command(&["doctor"]), dir.path()).unwrap();
    let output = job.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
    assert!(output.stdout.contains("→ join one with `peerage enroll URL --token T`"), "{}", output.stdout);
}
