//! Why the bytes came from where they came: asked while it runs, after the end, and after a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use peerage_testkit::{Agent, OPEN_POLICY, Office, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn said(agent: &Agent, file: &str) -> String {
    let output = agent.command(&["why", file]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(agent: &Agent, file: &str) -> Value {
    let output = agent.command(&["why", file, "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_reason_names_its_setting_value_layer_file_and_remedy_after_a_restart_too() {
    let office = Office::new(52, &[]).unwrap();
    let (file, url, id) = office.published("why.bin", 6 * MIB).unwrap();
    let (_, other, other_id) = office.published("shared.bin", 8 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a1")).unwrap();
    a.get(&other, &office.path("a2")).unwrap();
    let alone = said(&a, &id);
    assert!(alone.contains("6.0 MiB (100 %) came from the origin."), "{alone}");
    assert!(alone.contains("peers were allowed and nobody named one"), "{alone}");

    // Too small for this device's policy: from the origin, though a neighbour has it.
    let small = OPEN_POLICY.replace("min_file_size_to_cache = 1", "min_file_size_to_cache = 7");
    let mut b = office.agent_with("b", &small, &[]).unwrap();
    b.get(&url, &office.path("b1")).unwrap();
    b.get(&other, &office.path("b2")).unwrap();
    let check = |b: &Agent| {
        let policy = b.dir.join("policy.toml");
        let told = said(b, &url);
        assert!(told.contains("6.0 MiB (100 %) came from the origin."), "{told}");
        assert!(told.contains("the content has 6.2 MB, peers share from 7 MB"), "{told}");
        let line = format!("min_file_size_to_cache = 7 MB, from policy ({})", policy.display());
        assert!(told.contains(&line), "{told}");
        assert!(
            told.contains("to change it: lower min_file_size_to_cache in the device's policy file"),
            "{told}"
        );
        assert_eq!(said(b, file.to_str().unwrap()), told, "by a copy of the file");
        assert_eq!(said(b, &id[..8]), told, "by the beginning of the id");
        let shared = json(b, &other_id);
        assert!(shared["BytesFromLanPeers"].as_u64().unwrap() >= 6 * MIB, "{shared}");
        assert_eq!((shared["ConnectedPeers"].as_u64(), shared["Complete"].as_bool()), (Some(1), Some(true)));
        assert_eq!(shared["Decisions"][0]["Because"][0]["Code"], "mode_admits");
    };
    check(&b);
    b.restart().unwrap();
    check(&b);
    let unknown = b.command(&["why", "0000000000"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn a_decision_that_changes_on_the_way_is_remembered_with_what_came_under_it() {
    let office = Office::new(53, &["limit_rate 2m;"]).unwrap();
    let (_, url, id) = office.published("turn.bin", 12 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    let b = office.agent_with("b", &format!("{OPEN_POLICY}download_mode = 0\n"), &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    wait_until("some of it has come", PATIENCE, || {
        b.file(&id).unwrap().is_some_and(|row| row["FileSizeInCache"].as_u64().unwrap() >= 2 * MIB)
    });
    assert_eq!(json(&b, &id)["Complete"], false);
    b.set_policy(OPEN_POLICY).unwrap();
    job.json().unwrap();
    let why = json(&b, &id);
    let decisions = why["Decisions"].as_array().unwrap();
    assert_eq!(decisions[0]["Because"][0]["Code"], "http_only", "{why}");
    let last = decisions.last().unwrap();
    assert_eq!(
        (last["Because"][0]["Code"].as_str(), last["Peers"].as_bool()),
        (Some("mode_admits"), Some(true))
    );
    assert!(last["Before"]["BytesFromCdn"].as_u64().unwrap() >= 2 * MIB, "{why}");
    assert_eq!(last["Before"]["BytesFromLanPeers"], 0);
    assert!(why["BytesFromLanPeers"].as_u64().unwrap() > 0, "{why}");
}

#[test]
fn a_file_of_simple_mode_answers_too() {
    let office = Office::new(54, &[]).unwrap();
    office.file("plain.bin", 3 * MIB).unwrap();
    let url = office.origin.url("plain.bin");
    let mut a = office.agent_with("a", &format!("{OPEN_POLICY}download_mode = 'simple'\n"), &[]).unwrap();
    a.get(&url, &office.path("out")).unwrap();
    for _ in 0..2 {
        let told = said(&a, &url);
        assert!(told.contains("3.0 MiB (100 %) came from the origin."), "{told}");
        assert!(told.contains("download_mode = simple, from policy"), "{told}");
        assert!(told.contains("Simple mode: the download mode does not use a coordinator."), "{told}");
        a.restart().unwrap();
    }
}
