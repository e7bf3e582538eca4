//! What an administrator does at the coordinator, and what is remembered for him.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};
use std::time::Duration;

use peerage_testkit::{Agent, OPEN_POLICY, Office, number, wait_for, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn run(mut command: Command) -> (bool, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn ask(office: &Office, args: &[&str]) -> (bool, String, String) {
    run(office.fleet.command(args).unwrap())
}

/// The answer of a command that succeeds, from its JSON.
fn json(office: &Office, args: &[&str]) -> Value {
    let (done, out, err) = ask(office, args);
    assert!(done, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

fn why(agent: &Agent, file: &str) -> (bool, String, String) {
    run(agent.command(&["why", file]))
}

#[test]
fn publish_looks_at_its_urls() {
    let office = Office::new(135, &[]).unwrap();
    let file = office.file("there.bin", 3 * MIB).unwrap();
    office.file("other.bin", MIB).unwrap();
    let file = file.to_str().unwrap();
    let publish = |url: &str, more: &[&str]| ask(&office, &[&["publish", file, "--url", url], more].concat());
    let there = office.origin.url("there.bin");
    let (done, _, err) = publish(&there, &[]);
    assert!(done && !err.contains("warning"), "{err}");
    for (url, says) in [
        ("ftp://o/there.bin".to_owned(), "ftp"),
        ("there.bin".to_owned(), "there.bin"),
        (office.origin.url("missing.bin"), "404"),
        (office.origin.url("other.bin"), "serves 1048576 bytes, the file has 3145728"),
    ] {
        let (done, _, err) = publish(&url, &[]);
        assert!(!done && err.contains(says), "{url}: {err}");
    }
    // The second URL is looked at, too.
    let missing = office.origin.url("missing.bin");
    let (done, _, err) = publish(&there, &["--url", &missing]);
    assert!(!done && err.contains("missing.bin") && err.contains("--no-check"), "{err}");
    assert!(publish(&missing, &["--no-check"]).0);
    let (done, _, err) = publish("http://127.0.0.1:1/there.bin", &[]);
    assert!(done && err.contains("warning") && err.contains("127.0.0.1:1"), "{err}");
}

#[test]
fn a_policy_tells_whom_it_is_for_and_can_be_removed() {
    let office = Office::new(136, &[]).unwrap();
    let token = json(&office, &["coordinator", "token", "--tag", "lab", "--json"])["token"].clone();
    let a = office.agent_as("a", token.as_str().unwrap(), OPEN_POLICY, &[]).unwrap();
    let _b = office.agent("b").unwrap();
    let file = office.path("policy.toml");
    std::fs::write(&file, "max_cache_age = \"5d\"\n").unwrap();
    let file = file.to_str().unwrap();
    let heard = || {
        let devices = json(&office, &["coordinator", "devices", "--json"]);
        let all = devices.as_array().unwrap().clone();
        all.iter()
            .all(|device| device["last_contact"].as_u64().is_some_and(|at| at > 1_700_000_000))
            .then_some(all)
    };
    wait_for("both devices are heard of", PATIENCE, heard);
    let push = |more: &[&str]| {
        let (done, out, err) = ask(&office, &[&["policy", "push", file], more].concat());
        assert!(done, "{err}");
        out
    };
    assert!(push(&[]).contains("2 enrolled devices are meant"));
    assert!(push(&["--group", "tag:lab"]).contains("1 enrolled device is meant"));
    let none = push(&["--group", "tag:nobody", "--rollout", "0"]);
    assert!(none.contains("no enrolled device is meant"), "{none}");
    let subnet = push(&["--group", "subnet:127.136.0.0/24", "--rollout", "0"]);
    assert!(subnet.contains("2 enrolled devices are meant; the 0 % take 0 of them"), "{subnet}");
    let serial_of = |agent: &Agent| agent.config().unwrap()["Fleet"]["Serial"].as_u64();
    let held = wait_for("it holds", PATIENCE, || serial_of(&a).filter(|serial| *serial >= 2));
    wait_until("the coordinator knows what they have", PATIENCE, || {
        heard().is_some_and(|all| {
            let policy =
                |device: &Value| device["policy"]["serial"].as_u64().is_some_and(|serial| serial >= 1);
            all.iter().all(|device| policy(device) && device["policy"]["current"] == true)
        })
    });
    let (_, table, _) = ask(&office, &["coordinator", "devices"]);
    assert!(table.contains("LAST CONTACT") && table.contains("now"), "{table}");
    // Each with the policies for itself: one published later for others changes nothing.
    assert_eq!(
        table.lines().filter(|line| line.trim_end().ends_with("  2 (tag:lab), 1 (all)")).count(),
        1,
        "{table}"
    );
    assert_eq!(table.lines().filter(|line| line.trim_end().ends_with("  1 (all)")).count(), 1, "{table}");
    let names = |agent: &Agent| agent.config().unwrap()["Fleet"]["Parts"].to_string();
    wait_until("both parts hold", PATIENCE, || names(&a).contains("tag:lab"));
    let (done, out, err) = ask(&office, &["policy", "remove", "tag:lab"]);
    assert!(done && out.contains("removed"), "{out}{err}");
    wait_until("the device falls back", PATIENCE, || {
        !names(&a).contains("tag:lab") && names(&a).contains("for all")
    });
    assert!(serial_of(&a).unwrap() > held, "the serial goes on");
    let (_, shown, _) = ask(&office, &["policy", "show"]);
    assert!(!shown.contains("tag:lab") && shown.contains("of all"), "{shown}");
    let (_, history, _) = ask(&office, &["policy", "history"]);
    assert!(history.contains("removed") && history.contains("tag:lab"), "{history}");
    let (done, _, err) = ask(&office, &["policy", "remove", "tag:lab"]);
    assert!(!done && err.contains("no policy holds for tag:lab"), "{err}");
    assert!(ask(&office, &["policy", "rollback", "--group", "tag:lab"]).0);
    wait_until("and it comes back", PATIENCE, || names(&a).contains("tag:lab"));
}

#[test]
fn why_remembers_what_was_cancelled_and_what_was_evicted() {
    let office = Office::new(137, &["limit_rate 400k;"]).unwrap();
    let (_, url, id) = office.published("gone.bin", 24 * MIB).unwrap();
    office.file("plain.bin", 20 * MIB).unwrap();
    let plain = office.origin.url("plain.bin");
    let a = office.agent("a").unwrap();
    let simple = format!("{OPEN_POLICY}download_mode = \"simple\"\n");
    let b = office.agent_with("b", &simple, &[]).unwrap();
    let mut job = a.begin_get(&url, &office.path("a"), &[]).unwrap();
    let mut other = b.begin_get(&plain, &office.path("b"), &[]).unwrap();
    wait_until("both run", PATIENCE, || {
        a.held_bytes(&id) > 0 && b.status().unwrap().iter().any(|row| number(row, "FileSizeInCache") > 0)
    });
    job.process.kill().unwrap();
    other.process.kill().unwrap();
    let told = wait_for("the cancelled one is remembered", PATIENCE, || {
        let (done, told, _) = why(&b, &plain);
        (done && told.contains("ended without the file")).then_some(told)
    });
    assert!(told.contains("came from the origin"), "{told}");
    a.set_policy(&format!("{OPEN_POLICY}max_cache_age = 1\n")).unwrap();
    wait_until("the part is evicted", Duration::from_secs(120), || a.file(&id).unwrap().is_none());
    for file in [&id, &url] {
        let (done, told, err) = why(&a, file);
        assert!(
            done && told.contains("no longer in the cache") && told.contains("max_cache_age"),
            "{told}{err}"
        );
    }
    // Fetched again, it is one file, with one story.
    a.set_policy(OPEN_POLICY).unwrap();
    let _again = a.begin_get(&url, &office.path("a"), &[]).unwrap();
    wait_until("it runs again", PATIENCE, || a.held_bytes(&id) > 0);
    let (done, told, err) = why(&a, &id);
    assert!(done && told.contains("on its way") && !told.contains("no longer"), "{told}{err}");
}

#[test]
fn reports_stay_right_after_the_end() {
    let office = Office::new(138, &[]).unwrap();
    let (_, url, id) = office.published("seed.bin", 24 * MIB).unwrap();
    let mut a = office.agent_with("a", &format!("{OPEN_POLICY}max_upload_bandwidth = 2000\n"), &[]).unwrap();
    let status = a.get(&url, &office.path("a")).unwrap();
    let took = number(&status, "DownloadDuration");
    assert!(took > 0, "{status}");
    let lasted = |agent: &Agent| number(&agent.file(&id).unwrap().unwrap(), "DownloadDuration");
    assert!(lasted(&a) > 0);
    // Whoever asks again waits for nothing, and changes nothing.
    let before = lasted(&a);
    a.get(&url, &office.path("a2")).unwrap();
    assert_eq!(lasted(&a), before);
    a.restart().unwrap();
    assert_eq!(lasted(&a), before);
    let held = format!("{OPEN_POLICY}delay_background_download_from_http = 3600\n");
    let b = office.agent_with("b", &held, &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    let row = wait_for("a neighbour has come in", PATIENCE, || {
        a.file(&id).unwrap().filter(|row| number(row, "ConnectedPeers") > 0)
    });
    assert!(number(&row, "NumPeers") >= number(&row, "ConnectedPeers"), "{row}");
    a.set_policy(OPEN_POLICY).unwrap();
    job.json().unwrap();
    assert!(lasted(&b) > 0);
}
