//! A URL whose file changes: what a device still has of the old one is never given out for the new one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use peerage_testkit::{Job, Office, peerage_bin, random_file, same_file, wait_until};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// `peerage get` where no agent runs, with a cache of its own.
fn get_alone(office: &Office, url: &str, out: &Path) {
    let mut command = Command::new(peerage_bin().unwrap());
    command.args(["get", url, "--json", "-o"]).arg(out);
    command.arg("--data-dir").arg(office.path("own")).env("PEERAGE_SOCKET", office.path("nobody.sock"));
    Job::start("get", command, &office.path("")).unwrap().json().unwrap();
}

#[test]
fn without_an_agent_a_changed_file_is_fetched_again_and_nothing_stays_behind() {
    let office = Office::new(42, &[]).unwrap();
    let file = office.file("v", 3 * MIB).unwrap();
    let url = office.origin.url("v");
    for version in [3, 4, 5] {
        random_file(&file, version, version * MIB).unwrap();
        let out = office.path(&format!("v{version}"));
        get_alone(&office, &url, &out);
        assert!(same_file(&file, &out).unwrap(), "version {version}");
        assert_eq!(fs::read_dir(office.path("own/cache/staging")).unwrap().count(), 0);
    }
}

#[test]
fn a_finished_copy_is_used_again_only_while_the_origin_has_the_same() {
    let office = Office::new(42, &[]).unwrap();
    let file = office.file("own", 3 * MIB).unwrap();
    // A file of one's own: no record will ever say what it is.
    let url = format!("{}?X-Amz-Signature=deadbeef", office.origin.url("own"));
    let a = office.agent("a").unwrap();
    let bodies = || office.origin.hits().unwrap().iter().filter(|hit| hit.body_bytes > 0).count();
    for out in ["one", "two"] {
        a.get(&url, &office.path(out)).unwrap();
        assert!(same_file(&file, &office.path(out)).unwrap());
    }
    assert_eq!(bodies(), 1, "the second is the first one's copy");
    fs::copy(&file, office.path("old")).unwrap();
    random_file(&file, 99, 3 * MIB + 1).unwrap();
    a.get(&url, &office.path("three")).unwrap();
    assert!(same_file(&file, &office.path("three")).unwrap());
    for out in ["one", "two"] {
        assert!(same_file(&office.path("old"), &office.path(out)).unwrap(), "{out} was delivered and stays");
    }
}

#[test]
fn what_a_killed_agent_left_is_swept_when_it_is_old() {
    let office = Office::new(42, &["limit_rate 512k;"]).unwrap();
    office.file("own", 8 * MIB).unwrap();
    let url = format!("{}?X-Amz-Signature=deadbeef", office.origin.url("own"));
    let mut a = office.agent("a").unwrap();
    let staging = a.cache().join("staging");
    let areas =
        || fs::read_dir(&staging).into_iter().flatten().flatten().map(|area| area.path().join("data"));
    let job = a.begin_get(&url, &office.path("never"), &[]).unwrap();
    wait_until("some bytes are here", PATIENCE, || {
        areas().any(|data| fs::metadata(data).is_ok_and(|data| data.len() >= MIB))
    });
    a.daemon.kill().unwrap();
    drop(job);
    let data = File::options().write(true).open(areas().next().unwrap()).unwrap();
    // Older than the cache keeps anything.
    data.set_modified(SystemTime::now() - Duration::from_secs(40 * 24 * 3600)).unwrap();
    a.restart().unwrap();
    wait_until("it is swept", PATIENCE, || areas().count() == 0);
}
