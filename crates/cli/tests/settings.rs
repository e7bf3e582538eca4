//! Settings about how many files are served at once, and about who may sign records.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use peerage_content::{ContentRecord, PublicKey, SecretKey, Signed};
use peerage_testkit::{Agent, OPEN_POLICY, Office, number, same_file, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn from_peers(agent: &Agent, id: &str) -> u64 {
    agent.file(id).unwrap().map_or(0, |row| number(&row, "BytesFromLanPeers"))
}

#[test]
fn only_so_many_files_are_served_at_once() {
    let office = Office::new(37, &[]).unwrap();
    let (_, url, id) = office.published("one.bin", 32 * MIB).unwrap();
    let (file, other_url, other_id) = office.published("two.bin", 12 * MIB).unwrap();
    let slow = format!("{OPEN_POLICY}max_upload_bandwidth = 1500\n");
    let a = office.agent_with("a", &format!("{slow}upload_slots = 1\n"), &[]).unwrap();
    for (url, out) in [(&url, "a1"), (&other_url, "a2")] {
        a.get(url, &office.path(out)).unwrap();
    }
    let held = format!("{OPEN_POLICY}delay_background_download_from_http = 3600\n");
    let b = office.agent_with("b", &held, &[]).unwrap();
    let _first = b.begin_get(&url, &office.path("b1"), &[]).unwrap();
    wait_until("the first is served", PATIENCE, || from_peers(&b, &id) >= MIB);
    let second = b.begin_get(&other_url, &office.path("b2"), &[]).unwrap();
    wait_until("the second waits for its turn", PATIENCE, || {
        let row = a.file(&other_id).unwrap().unwrap();
        number(&row, "ConnectedPeers") == 1 && row["Reasons"].to_string().contains("upload_slots")
    });
    let seen = from_peers(&b, &id);
    wait_until("the first goes on", PATIENCE, || from_peers(&b, &id) >= seen + 2 * MIB);
    assert_eq!(from_peers(&b, &other_id), 0);
    a.set_policy(&slow).unwrap();
    second.json().unwrap();
    assert!(same_file(&file, &office.path("b2")).unwrap());
}

#[test]
fn records_of_a_trusted_publisher_count_as_long_as_it_is_trusted() {
    let mut office = Office::new(37, &[]).unwrap();
    let (_, url, id) = office.published("signed.bin", 6 * MIB).unwrap();
    let mut a = office.agent("a").unwrap();
    a.get(&url, &office.path("a1")).unwrap();
    office.fleet.kill_coordinator().unwrap();
    // What this device remembers of the URL is now signed by a publisher, not by the catalog.
    let publisher = SecretKey::from_seed(&[7; 32]);
    let path = office.path("agents/a/data/records.json");
    let mut records: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for known in records.as_object_mut().unwrap().values_mut() {
        let signed = resign(known["record"].as_str().unwrap(), &publisher);
        known["record"] = Value::String(signed);
    }
    let trusting = format!("{OPEN_POLICY}trusted_publishers = [\"{}\"]\n", publisher.public());
    for (policy, trusted) in [(OPEN_POLICY, false), (trusting.as_str(), true)] {
        std::fs::write(&path, records.to_string()).unwrap();
        a.set_policy(policy).unwrap();
        a.restart().unwrap();
        let before = office.origin_bytes().unwrap();
        let status = a.get(&url, &office.path("a2")).unwrap();
        let fetched = office.origin_bytes().unwrap() - before;
        assert_eq!(status["FileId"] == id.as_str(), trusted, "{status}");
        assert_eq!(fetched, if trusted { 0 } else { 6 * MIB }, "{status}");
    }
}

/// The same record, signed by another key.
fn resign(text: &str, key: &SecretKey) -> String {
    // Version, then the signer's key (`peerage_content::Signed`).
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap();
    let signer = PublicKey::from_bytes(bytes[1..33].try_into().unwrap());
    let record = Signed::<ContentRecord>::from_text(text, &[signer]).unwrap();
    Signed::new(record.get().clone(), key).to_text()
}
