//! Two offices of private addresses: what one is to the other only the coordinator knows, and both ends of a connection go by
//! its word.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use peerage_testkit::{Agent, OPEN_POLICY, Office, number, same_file, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Only from peers, if there may be any.
const FROM_PEERS: &str = "delay_background_download_from_http = 3600\n";

/// The first two agents are in one site, those after them in the other.
fn two_sites(net: u8) -> Office {
    let of = |agents: [u8; 2]| agents.map(|last| format!("\"127.{net}.0.{last}/32\"")).join(", ");
    let config = format!("[sites]\nhere = [{}]\nthere = [{}]\n", of([11, 12]), of([13, 14]));
    Office::with_coordinator(net, &[], &config).unwrap()
}

fn policy(mode: &str, lines: &str) -> String {
    format!("{OPEN_POLICY}download_mode = '{mode}'\n{lines}\n")
}

/// Of what `agent` has sent of the file: to its site, to its group, to the Internet.
fn sent(agent: &Agent, id: &str) -> [u64; 3] {
    let row = agent.file(id).unwrap().unwrap_or(Value::Null);
    ["BytesToLanPeers", "BytesToGroupPeers", "BytesToInternetPeers"].map(|field| number(&row, field))
}

fn said(agent: &Agent, what: &[&str]) -> String {
    let output = agent.command(what).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_monthly_cap_stops_uploads_to_the_other_site_and_no_others() {
    let office = two_sites(210);
    let (file, url, id) = office.published("cap.bin", 48 * MIB).unwrap();
    let seed = |cap: &str| policy("internet", &format!("max_upload_bandwidth = 8000\n{cap}"));
    let s = office.agent_with("s", &seed(""), &[]).unwrap();
    s.get(&url, &office.path("s")).unwrap();
    // A neighbour that shares with its site alone, so that the other site has nobody but the seed.
    let near = office.agent_with("near", &policy("lan", FROM_PEERS), &[]).unwrap();
    let far = office.agent_with("far", &policy("internet", FROM_PEERS), &[]).unwrap();
    let job = far.begin_get(&url, &office.path("far"), &[]).unwrap();
    wait_until("the other site downloads", PATIENCE, || far.held_bytes(&id) >= 4 * MIB);
    let [lan, group, internet] = sent(&s, &id);
    assert!(lan == 0 && group == 0 && internet >= 3 * MIB, "{lan} {group} {internet}");
    let connected = number(&s.file(&id).unwrap().unwrap(), "InternetConnectionCount");
    assert_eq!(connected, 1);
    let counted = || number(&s.config().unwrap()["Facts"], "UploadedToInternetPeers");
    assert!(counted() >= 3 * MIB);

    s.set_policy(&seed("monthly_upload_data_cap = '2MiB'")).unwrap();
    wait_until("the reason is told", PATIENCE, || {
        s.file(&id).unwrap().unwrap()["Reasons"].to_string().contains("monthly_upload_data_cap")
    });
    far.wait_still(&id, PATIENCE);
    assert!(far.held_bytes(&id) < 48 * MIB);
    let told = said(&s, &["why", &id]);
    assert!(told.contains("uploaded to Internet peers"), "{told}");
    assert!(told.contains("monthly_upload_data_cap = 2MiB, from policy"), "{told}");
    assert!(told.contains("to change it: raise, or give 0 (no limit) for monthly_upload_data_cap in the device's policy file"), "{told}");
    let before = counted();
    near.get(&url, &office.path("near")).unwrap();
    assert!(same_file(&file, &office.path("near")).unwrap());
    wait_until("the neighbour has it all from the seed", PATIENCE, || sent(&s, &id)[0] >= 48 * MIB);
    assert_eq!(counted(), before, "nothing of it counts");

    s.set_policy(&seed("")).unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("far")).unwrap());
    assert_eq!(number(&status, "BytesFromInternetPeers"), 48 * MIB, "{status}");
    wait_until("all of it is counted", PATIENCE, || sent(&s, &id)[2] >= 48 * MIB);
}

#[test]
fn a_group_is_known_at_both_ends_and_a_site_goes_before_it() {
    let office = two_sites(211);
    let (_, url, id) = office.published("group.bin", 8 * MIB).unwrap();
    let group = "group_id = '6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11'\n";
    let s = office.agent_with("s", &policy("group", group), &[]).unwrap();
    s.get(&url, &office.path("s")).unwrap();
    let near = office.agent_with("near", &policy("group", &format!("{group}{FROM_PEERS}")), &[]).unwrap();
    let status = near.get(&url, &office.path("near")).unwrap();
    assert_eq!(number(&status, "BytesFromLanPeers"), 8 * MIB, "{status}");
    wait_until("it is counted where it was sent", PATIENCE, || sent(&s, &id)[0] >= 8 * MIB);
    assert_eq!(sent(&s, &id)[1..], [0, 0], "the same site");
    drop(near);
    let far = office.agent_with("far", &policy("group", &format!("{group}{FROM_PEERS}")), &[]).unwrap();
    let status = far.get(&url, &office.path("far")).unwrap();
    assert_eq!(number(&status, "BytesFromGroupPeers"), 8 * MIB, "{status}");
    wait_until("it is counted where it was sent", PATIENCE, || sent(&s, &id)[1] >= 8 * MIB);
    assert_eq!(sent(&s, &id)[2], 0, "the same group");
    let origin = office.origin_bytes().unwrap();
    assert!(origin < 2 * 8 * MIB, "{origin}");
}

#[test]
fn uploads_that_are_stopped_and_allowed_again_flow_again_and_nobody_is_banned() {
    let office = two_sites(220);
    let (file, url, id) = office.published("toggle.bin", 64 * MIB).unwrap();
    let s = office.agent_with("s", &policy("internet", "max_upload_bandwidth = 6000"), &[]).unwrap();
    s.get(&url, &office.path("s")).unwrap();
    // The other site begins behind the coordinator's third address on.
    let _near = office.agent_with("near", &policy("simple", ""), &[]).unwrap();
    let far = office.agent_with("far", &policy("internet", FROM_PEERS), &[]).unwrap();
    let job = far.begin_get(&url, &office.path("far"), &[]).unwrap();
    wait_until("it flows", PATIENCE, || far.held_bytes(&id) >= 2 * MIB);
    let cap = |value: &str| {
        let output = s.command(&["set", "monthly_upload_data_cap", value]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let stopped = || s.file(&id).unwrap().unwrap()["Reasons"].to_string().contains("monthly_upload_data_cap");
    for _ in 0..4 {
        cap("1MiB");
        wait_until("it is stopped", PATIENCE, stopped);
        cap("0");
        wait_until("it is allowed", PATIENCE, || !stopped());
        let held = far.held_bytes(&id);
        wait_until("it flows again", PATIENCE, || far.held_bytes(&id) > held + MIB);
    }
    cap("0");
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("far")).unwrap());
    assert_eq!(number(&status, "BytesFromInternetPeers"), 64 * MIB, "{status}");
    for agent in [&s, &far] {
        let log = agent.daemon.stderr();
        assert!(!log.contains("offence"), "{log}");
    }
}
