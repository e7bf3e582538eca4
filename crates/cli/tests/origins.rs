//! Origins as they are found outside: HTTPS with an authority of one's own, and URLs that are somebody's own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use peerage_testkit::{Job, OPEN_POLICY, Office, number, peerage_bin, same_file, wait_until};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn https_with_an_authority_of_ones_own() {
    let office = Office::with_https(33, &[]).unwrap();
    let ca = office.ca().unwrap().to_str().unwrap().to_owned();
    let trusting = ["--origin-ca", ca.as_str()];
    let a = office.agent_with("a", OPEN_POLICY, &trusting).unwrap();
    let b = office.agent_with("b", OPEN_POLICY, &trusting).unwrap();
    // Nobody has published it: the coordinator reads it over HTTPS too.
    let file = office.file("tls.bin", 5 * MIB + 3).unwrap();
    let url = office.origin.url("tls.bin");
    assert!(url.starts_with("https://"));
    a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    let id = blake3::hash(&fs::read(&file).unwrap()).to_string();
    wait_until("it has become a seed", PATIENCE, || {
        a.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    let status = b.get(&url, &office.path("b")).unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert!(number(&status, "BytesFromLanPeers") >= 4 * MIB, "{status}");
}

#[test]
fn https_that_nobody_vouches_for_is_refused_and_said() {
    let office = Office::with_https(33, &[]).unwrap();
    office.file("tls.bin", MIB).unwrap();
    let mut command = Command::new(peerage_bin().unwrap());
    command.args(["get", &office.origin.url("tls.bin"), "-o"]).arg(office.path("out"));
    command.arg("--data-dir").arg(office.path("own")).env("PEERAGE_SOCKET", office.path("nobody.sock"));
    let output = Job::start("get", command, &office.path("")).unwrap().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("certificate"), "{}", output.stderr);
    assert!(!office.path("out").exists());
}

#[test]
fn an_origin_that_ignores_ranges_is_read_from_its_first_byte() {
    // nginx then answers 200 and the whole file to every range, as proxies do that drop the header.
    let office = Office::new(33, &["max_ranges 0;"]).unwrap();
    let (file, url, id) = office.published("whole.bin", 24 * MIB + 5).unwrap();
    let (a, b) = (office.agent("a").unwrap(), office.agent("b").unwrap());
    let status = a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert!(status["Reasons"].to_string().contains("ignores ranges"), "{status}");
    // What its first requests brought is let pass once.
    assert!(number(&status, "WastedBytes") <= 12 * MIB, "{status}");
    wait_until("it has become a seed", PATIENCE, || {
        a.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    let status = b.get(&url, &office.path("b")).unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert!(number(&status, "BytesFromLanPeers") >= 23 * MIB, "{status}");
}

#[test]
fn a_small_file_that_a_neighbour_holds_is_not_taken_from_an_origin_that_ignores_ranges() {
    // As fast as a link of an office: one without a limit brings all of it while the neighbour shakes hands.
    let office = Office::new(216, &["max_ranges 0;", "limit_rate 1m;"]).unwrap();
    let (a, b) = (office.agent("a").unwrap(), office.agent("b").unwrap());
    let (file, url, id) = office.published("small.bin", 8 * MIB).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    wait_until("it has become a seed", PATIENCE, || {
        a.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    let status = b.get(&url, &office.path("b")).unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert!(number(&status, "BytesFromLanPeers") >= 6 * MIB, "{status}");
}

#[test]
fn a_finished_download_does_not_wait_long_for_an_origin_that_never_answers() {
    let office = Office::new(217, &[]).unwrap();
    let (file, url) = (office.file("twice.bin", 8 * MIB).unwrap(), office.origin.url("twice.bin"));
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.217.0.9:0").unwrap();
    let nowhere = format!("http://{}/twice.bin", silent.local_addr().unwrap());
    let path = file.to_str().unwrap();
    let publish = ["publish", path, "--url", &url, "--url", &nowhere, "--no-check", "--coordinator"];
    let mut command = office.fleet.command(&publish).unwrap();
    command.arg(&office.fleet.url).args(["--token", &office.fleet.admin_token().unwrap()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (a, b) = (office.agent("a").unwrap(), office.agent("b").unwrap());
    a.get(&url, &office.path("a")).unwrap();
    let status = b.get(&nowhere, &office.path("b")).unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert_eq!(number(&status, "BytesFromLanPeers"), 8 * MIB, "{status}");
    let said = b.daemon.stderr();
    assert!(said.contains("the origin does not answer, and nothing else is waited for"), "{said}");
}

#[test]
fn what_a_cancelled_download_leaves_without_a_content_id_is_thrown_away() {
    let office = Office::new(218, &["limit_rate 1m;"]).unwrap();
    office.file("plain.bin", 40 * MIB).unwrap();
    let url = office.origin.url("plain.bin?X-Amz-Signature=deadbeef");
    let a = office.agent("a").unwrap();
    let staged = || fs::read_dir(a.cache().join("staging")).map_or(0, |all| all.flatten().count());
    let row =
        || a.status().unwrap().into_iter().find(|row| row["FileId"].as_str().unwrap().starts_with("url-"));
    let begin = || {
        let job = a.begin_get(&url, &office.path("never"), &[]).unwrap();
        wait_until("it has begun", PATIENCE, || {
            row().is_some_and(|row| number(&row, "FileSizeInCache") >= MIB)
        });
        job
    };
    let mut job = begin();
    let name = row().unwrap()["FileId"].as_str().unwrap().to_owned();
    let remove = || a.command(&["files", "remove", &name]).output().unwrap();
    assert_eq!(remove().status.code(), Some(1), "a download of it is running");
    job.process.terminate(PATIENCE).unwrap();
    wait_until("it has stopped", PATIENCE, || row().is_none());
    assert_eq!(staged(), 1, "whoever asks again at once goes on");
    // Removed by hand, it is gone at once …
    wait_until("it can be removed", PATIENCE, || remove().status.success());
    assert_eq!((staged(), remove().status.code()), (0, Some(1)));
    // … and by itself soon.
    begin().process.terminate(PATIENCE).unwrap();
    wait_until("it has been thrown away", PATIENCE, || staged() == 0);
}

#[test]
fn a_signed_url_is_downloaded_and_never_shared() {
    let office = Office::new(33, &[]).unwrap();
    let file = office.file("own.bin", 3 * MIB).unwrap();
    let url = format!("{}?X-Amz-Signature=deadbeef", office.origin.url("own.bin"));
    let (a, b) = (office.agent("a").unwrap(), office.agent("b").unwrap());
    for agent in [&a, &b] {
        let out = office.path(&format!("{}.out", agent.name));
        let status = agent.get(&url, &out).unwrap();
        assert!(same_file(&file, &out).unwrap());
        assert_eq!(number(&status, "BytesFromCdn"), 3 * MIB);
        let reasons = status["Reasons"].to_string();
        assert!(reasons.contains("x-amz-signature") && !reasons.contains("deadbeef"), "{reasons}");
    }
    // Two devices, one copy each; the coordinator has not read it.
    assert_eq!(office.origin_bytes().unwrap(), 6 * MIB);
    assert!(office.origin.hits().unwrap().iter().all(|hit| hit.method == "GET"));
}
