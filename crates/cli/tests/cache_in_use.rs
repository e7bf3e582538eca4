//! The cache while it is used: pieces found wrong under a download, all of it deleted, bytes that turn out to be held.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use peerage_testkit::{Agent, Job, Office, number, same_file, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn run(agent: &Agent, args: &[&str]) -> Value {
    Job::start("command", agent.command(args), &agent.dir).unwrap().json().unwrap()
}

/// The data file of a content in the cache.
fn data(agent: &Agent, id: &str) -> File {
    let contents = agent.cache().join("contents");
    let shelves = fs::read_dir(contents).unwrap().map(|shelf| shelf.unwrap().path());
    let found = shelves.map(|shelf| shelf.join(id).join("data")).find(|data| data.exists()).unwrap();
    File::options().write(true).open(found).unwrap()
}

#[test]
fn pieces_that_turn_out_wrong_under_a_download_are_fetched_again() {
    let office = Office::new(44, &["limit_rate 1m;"]).unwrap();
    let (file, url, id) = office.published("rot.bin", 24 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    let job = a.begin_get(&url, &office.path("out"), &[]).unwrap();
    for _ in 0..2 {
        wait_until("some pieces are here", PATIENCE, || {
            a.file(&id).unwrap().is_some_and(|row| number(&row, "FileSizeInCache") >= 4 * MIB)
        });
        // Whichever pieces are here already, half of each is spoilt.
        let spoilt = data(&a, &id);
        for piece in 0..24 {
            spoilt.write_all_at(&[0x5a; 4096], piece * MIB + 1000).unwrap();
        }
        let report = run(&a, &["files", "verify", &id, "--json"]);
        assert!(!report.is_null(), "{report}");
    }
    job.json().unwrap();
    assert!(same_file(&file, &office.path("out")).unwrap());
}

#[test]
fn a_cache_deleted_while_idle_is_filled_again() {
    let office = Office::new(44, &[]).unwrap();
    let (file, url, _) = office.published("gone.bin", 5 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    for out in ["one", "two", "three"] {
        a.get(&url, &office.path(out)).unwrap();
        assert!(same_file(&file, &office.path(out)).unwrap(), "{out}");
        assert_eq!(run(&a, &["files", "list", "--json"]).as_array().unwrap().len(), 1);
        fs::remove_dir_all(a.cache()).unwrap();
        let left = run(&a, &["files", "list", "--json"]);
        assert_eq!(left.as_array().unwrap().len(), 0, "{left}");
    }
    wait_until("nothing is said to be shared", PATIENCE, || a.status().unwrap().is_empty());
}

#[test]
fn every_byte_is_counted_once_when_a_record_joins_a_plain_download() {
    let office = Office::new(44, &["limit_rate 1m;"]).unwrap();
    let file = office.file("late.bin", 10 * MIB + 12_345).unwrap();
    let url = office.origin.url("late.bin");
    let a = office.agent("a").unwrap();
    let first = a.get(&url, &office.path("one")).unwrap();
    assert!(same_file(&file, &office.path("one")).unwrap());
    assert_eq!(number(&first, "BytesFromCdn"), number(&first, "FileSize"), "{first}");
    // Under another name the origin sends it again until the record says that it is here.
    let id = blake3::hash(&fs::read(&file).unwrap()).to_string();
    wait_until("it is cached", PATIENCE, || {
        a.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    let mut command = a.command(&["get", &format!("{url}?again"), "-o"]);
    command.arg(office.path("two"));
    let output = Job::start("get", command, &a.dir).unwrap().output().unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    assert!(output.stdout.contains("in the cache") && output.stdout.contains("in vain"), "{}", output.stdout);
    let row = a.file(&id).unwrap().unwrap();
    assert_eq!(number(&row, "BytesFromCdn"), number(&first, "FileSize"), "{row}");
    assert!(number(&row, "WastedBytes") > 0, "{row}");
}
