//! `peerage lab --simulate` as a user runs it: the documented example, the same figures for the same seed, and mistakes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use peerage_testkit::peerage_bin;
use serde_json::Value;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name)
}

fn simulate(file: &Path, args: &[&str]) -> Output {
    Command::new(peerage_bin().unwrap()).args(["lab", "--simulate"]).arg(file).args(args).output().unwrap()
}

#[test]
fn the_documented_example_answers() {
    let (one, other) =
        (simulate(&example("branches.toml"), &["--json"]), simulate(&example("branches.toml"), &["--json"]));
    assert_eq!(one.status.code(), Some(0), "{}", String::from_utf8_lossy(&one.stderr));
    assert_eq!(one.stdout, other.stdout, "the same file and seed give the same result");
    let json: Value = serde_json::from_slice(&one.stdout).unwrap();
    for key in [
        "devices",
        "file_bytes",
        "origin_bytes",
        "origin_copies",
        "percent_from_peers",
        "seconds",
        "all_correct",
    ] {
        assert!(!json[key].is_null(), "{key}");
    }
    assert_eq!((json["devices"].as_u64(), json["all_correct"].as_bool()), (Some(102), Some(true)));
    assert!(json["bound_seconds"].is_null(), "the branches' devices start one after the other");
    assert_eq!(json["per_device"].as_array().unwrap().len(), 102);
    let sites = json["per_site"].as_array().unwrap();
    assert_eq!(sites.len(), 13);
    for site in sites {
        let copies = site["copies_in"].as_f64().unwrap();
        assert!((1.0..=1.15).contains(&copies), "site {}: {copies} copies", site["site"]);
    }
}

#[test]
fn the_table_shows_sites_and_totals() {
    let ended = simulate(&example("branches.toml"), &[]);
    let text = String::from_utf8(ended.stdout).unwrap();
    for part in ["head office", "INTERNET IN", "102 devices in 13 sites", "102 of 102 devices have the file"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn the_largest_example_is_within_the_limits() {
    let text = fs::read_to_string(example("ten-thousand.toml")).unwrap();
    let (dir, small) =
        (tempfile::tempdir().unwrap(), text.replace("count = 200", "count = 2").replace("1000MiB", "20MiB"));
    let file = dir.path().join("world.toml");
    fs::write(&file, small).unwrap();
    let ended = simulate(&file, &["--json"]);
    let json: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((json["devices"].as_u64(), json["all_correct"].as_bool()), (Some(100), Some(true)));
}

#[test]
fn a_mistake_is_a_usage_error_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("world.toml");
    fs::write(&file, "size = '1GiB'\n[[sites]]\ndevices = 5\ndownlink = 'fast'\nuplink = '1mbit'\n").unwrap();
    let ended = simulate(&file, &[]);
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.contains("line 4") && told.contains("world.toml") && ended.stdout.is_empty(), "{told}");
    assert_eq!(simulate(&dir.path().join("none.toml"), &[]).status.code(), Some(2));
    fs::write(
        &file,
        "size = '1MiB'\ntime_limit = '10s'\n[[sites]]\ndevices = 1\ndownlink = '8kbit'\nuplink = '1mbit'\n",
    )
    .unwrap();
    let ended = simulate(&file, &[]);
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("does not come to an end: [0] are not complete"), "{told}");
}
