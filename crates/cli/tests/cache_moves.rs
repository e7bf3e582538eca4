//! `modify_cache_drive`: the cache moves under a running agent, with all that is in it, or says why it stays.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use peerage_testkit::{Agent, OPEN_POLICY, Office, number, same_file, wait_for, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn to(place: &Path) -> String {
    format!("{OPEN_POLICY}modify_cache_drive = {place:?}\n")
}

fn facts(agent: &Agent) -> Value {
    agent.config().unwrap()["Facts"].clone()
}

/// Waits until everything is in `place`.
fn moved(agent: &Agent, place: &Path) {
    wait_until("everything is there", PATIENCE, || {
        let facts = facts(agent);
        facts["CacheDirectory"] == place.to_str().unwrap() && facts["CacheMovesFrom"] == Value::Array(vec![])
    });
}

/// The data of a content below a cache directory.
fn data(cache: &Path, id: &str) -> std::path::PathBuf {
    cache.join(format!("contents/{}/{id}/data", &id[..2]))
}

#[test]
fn it_moves_to_another_volume_under_a_running_download_and_back() {
    let office = Office::new(130, &["limit_rate 6m;"]).unwrap();
    let (file, url, id) = office.published("running.bin", 48 * MIB).unwrap();
    let (seed, seed_url, seed_id) = office.published("seed.bin", 6 * MIB).unwrap();
    let plain = office.file("plain.bin", 900_000).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&seed_url, &office.path("seed")).unwrap();
    a.get(&office.origin.url("plain.bin"), &office.path("plain")).unwrap();
    assert!(same_file(&plain, &office.path("plain")).unwrap());
    let before = office.origin_bytes().unwrap();
    let job = a.begin_get(&url, &office.path("running"), &[]).unwrap();
    wait_until("it has begun", PATIENCE, || a.held_bytes(&id) >= 4 * MIB);
    // Another volume than that of temporary files.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let far = elsewhere.path().join("cache");
    a.set_policy(&to(&far)).unwrap();
    moved(&a, &far);
    assert!(data(&far, &id).exists() && data(&far, &seed_id).exists());
    assert!(std::fs::read_dir(a.cache()).unwrap().next().is_none(), "nothing is left behind");
    let row = a.file(&id).unwrap().unwrap();
    assert_eq!(row["Status"], "Downloading", "it was to move meanwhile: {row}");
    // What was there is served, from there.
    let held = format!("{OPEN_POLICY}delay_background_download_from_http = 3600\n");
    let b = office.agent_with("b", &held, &[]).unwrap();
    let status = b.get(&seed_url, &office.path("b")).unwrap();
    assert_eq!(number(&status, "BytesFromLanPeers"), 6 * MIB, "{status}");
    assert!(same_file(&seed, &office.path("b")).unwrap());
    // To a directory of the first volume, by rename, and still the same download.
    let near = office.path("near");
    a.set_policy(&to(&near)).unwrap();
    moved(&a, &near);
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("running")).unwrap());
    assert!(data(&near, &id).exists() && !data(&far, &id).exists());
    let fetched = office.origin_bytes().unwrap() - before;
    assert!(fetched <= 49 * MIB, "{fetched} bytes were fetched of 48 MiB: {status}");
    assert_eq!(a.file(&seed_id).unwrap().unwrap()["Status"], "Caching");
}

#[test]
fn a_kill_in_the_middle_loses_nothing_and_the_next_start_goes_on() {
    let office = Office::new(130, &[]).unwrap();
    let mut a = office.agent_with("a", &format!("{OPEN_POLICY}absolute_max_cache_size = 0\n"), &[]).unwrap();
    let mut files = Vec::new();
    for n in 0..4 {
        let (file, url, id) = office.published(&format!("{n}.bin"), 24 * MIB + n).unwrap();
        a.get(&url, &office.path(&format!("a{n}"))).unwrap();
        files.push((file, url, id));
    }
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let far = elsewhere.path().join("cache");
    let rest = "absolute_max_cache_size = 0\n";
    a.set_policy(&(to(&far) + rest)).unwrap();
    // Something has come, and something has not.
    wait_until("it is on its way", PATIENCE, || {
        far.join("contents").read_dir().is_ok_and(|mut it| it.next().is_some())
    });
    a.restart().unwrap();
    moved(&a, &far);
    assert!(std::fs::read_dir(a.cache()).unwrap().next().is_none(), "nothing is left behind");
    let before = office.origin_bytes().unwrap();
    for (n, (file, url, id)) in files.iter().enumerate() {
        let out = office.path(&format!("again{n}"));
        a.get(url, &out).unwrap();
        assert!(same_file(file, &out).unwrap());
        assert!(data(&far, id).exists());
    }
    let fetched = office.origin_bytes().unwrap() - before;
    assert!(fetched <= 8, "only looked at, and nothing fetched again: {fetched}");
    // Another word before everything has come: the next start finds all places.
    a.set_policy(&(OPEN_POLICY.to_owned() + rest)).unwrap();
    wait_until("it is on its way back", PATIENCE, || a.cache().join("contents").is_dir());
    a.daemon.kill().unwrap();
    let third = office.path("third");
    a.set_policy(&(to(&third) + rest)).unwrap();
    a.restart().unwrap();
    moved(&a, &third);
    for (_, _, id) in &files {
        let row = a.file(id).unwrap().unwrap();
        assert_eq!(row["FileSizeInCache"], row["FileSize"], "{row}");
        assert!(data(&third, id).exists() && !data(&far, id).exists() && !data(&a.cache(), id).exists());
    }
}

#[test]
fn a_place_that_cannot_be_used_is_refused_with_the_reason_until_it_can() {
    let office = Office::new(131, &["limit_rate 300k;"]).unwrap();
    let (_, url, id) = office.published("running.bin", 24 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    let _job = a.begin_get(&url, &office.path("running"), &[]).unwrap();
    wait_until("it has begun", PATIENCE, || a.held_bytes(&id) > 0);
    // Nothing but an absolute path is a setting at all.
    a.set_policy(&format!("{OPEN_POLICY}modify_cache_drive = \"relative/cache\"\n")).unwrap();
    wait_until("it is not in force", PATIENCE, || {
        a.config().unwrap()["PolicyError"].to_string().contains("modify_cache_drive")
    });
    let output =
        a.command(&["policy", "check", a.dir.join("policy.toml").to_str().unwrap()]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    let place = office.path("mount/cache");
    for (place, why) in [(Path::new("/proc/cache"), "/proc/cache"), (&place, "mount is not there")] {
        a.set_policy(&to(place)).unwrap();
        let facts = wait_for("it is refused", PATIENCE, || {
            let facts = facts(&a);
            facts["CacheMoveTrouble"].to_string().contains(why).then_some(facts)
        });
        assert_eq!(facts["CacheDirectory"], a.cache().to_str().unwrap());
        assert_eq!(facts["CacheMovesTo"], place.to_str().unwrap());
        let told = wait_for("why tells it", PATIENCE, || {
            let output = a.command(&["why", &id]).output().unwrap();
            let told = String::from_utf8(output.stdout).unwrap().replace('\n', " ");
            told.contains("modify_cache_drive").then_some(told)
        });
        assert!(told.contains("stays in"), "{told}");
        wait_until("status tells it", PATIENCE, || {
            a.file(&id).unwrap().unwrap()["Reasons"].to_string().contains("modify_cache_drive")
        });
        let output = a.command(&["doctor", "--health"]).output().unwrap();
        let doctor = String::from_utf8(output.stdout).unwrap();
        assert!(doctor.contains("modify_cache_drive wants it"), "{doctor}");
        let output = a.command(&["config"]).output().unwrap();
        let config = String::from_utf8(output.stdout).unwrap();
        assert!(config.contains("to be moved to"), "{config}");
    }
    let output =
        a.command(&["policy", "check", a.dir.join("policy.toml").to_str().unwrap()]).output().unwrap();
    let checked = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && checked.contains("mount is not there on this machine"), "{checked}");
    std::fs::create_dir(office.path("mount")).unwrap();
    moved(&a, &place);
    wait_until("and nothing is told of it any more", PATIENCE, || {
        !a.file(&id).unwrap().unwrap()["Reasons"].to_string().contains("modify_cache_drive")
    });
    assert!(a.held_bytes(&id) > 0);
}

/// A `peerage` command: its exit code, stdout and stderr.
fn run(a: &Agent, args: &[&str]) -> (Option<i32>, String, String) {
    let output = a.command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn whoever_sets_a_place_hears_at_once_whether_it_can_be_used() {
    let office = Office::new(212, &[]).unwrap();
    let (_, url, _) = office.published("held.bin", 2 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("held")).unwrap();
    let own = format!("modify_cache_drive = {}, from default", a.cache().display());
    let (code, said, error) = run(&a, &["set", "modify_cache_drive", "/proc/cache"]);
    assert_eq!(code, Some(1), "{said}{error}");
    assert!(said.contains("modify_cache_drive = /proc/cache, from admin"), "{said}");
    let home = a.cache();
    let stays = format!("it stays in {}", home.display());
    assert!(error.contains("has no effect yet") && error.contains(&stays), "{error}");
    let (code, said, _) = run(&a, &["set", "modify_cache_drive", "/proc/cache", "--json"]);
    let row: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(code == Some(1) && row["Trouble"].as_str().unwrap().contains(&stays), "{row}");
    // Nothing is on its way, and it is told nevertheless.
    for look in [&["status"][..], &["config"], &["doctor", "--health"]] {
        let said = run(&a, look).1.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&stays) && said.contains("modify_cache_drive"), "{look:?}: {said}");
    }
    let (code, said, error) = run(&a, &["unset", "modify_cache_drive"]);
    assert!(code == Some(0) && said.contains(&own), "{said}{error}");
    let (_, said, _) = run(&a, &["status"]);
    assert!(!said.contains("modify_cache_drive"), "{said}");
    let place = office.path("elsewhere");
    let (code, said, error) = run(&a, &["set", "modify_cache_drive", place.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}{error}");
    assert_eq!(facts(&a)["CacheDirectory"], place.to_str().unwrap());
    // A stronger layer: what is set here does not hold.
    a.set_policy(&to(&office.path("third"))).unwrap();
    moved(&a, &office.path("third"));
    let (code, said, error) = run(&a, &["set", "modify_cache_drive", place.to_str().unwrap()]);
    assert!(code == Some(3) && error.contains("policy is stronger"), "{said}{error}");
}
