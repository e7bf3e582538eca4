//! A cache on a volume that fills up, or turns read-only, under a running agent. Needs root for the volume.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use peerage_testkit::{Agent, OPEN_POLICY, Office, Site, random_file, same_file, wait_for, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A volume of its own, gone when dropped.
struct Volume(PathBuf);

impl Volume {
    fn new(path: PathBuf, mib: u64) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        assert!(mount(&path, &format!("size={mib}m")), "mount a tmpfs at {}", path.display());
        Self(path)
    }

    fn resize(&self, mib: u64) {
        assert!(mount(&self.0, &format!("remount,size={mib}m")), "resize {}", self.0.display());
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(path: &Path, options: &str) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path);
    command.output().unwrap().status.success()
}

fn has(agent: &Agent, id: &str) -> u64 {
    agent.file(id).unwrap().map_or(0, |row| row["FileSizeInCache"].as_u64().unwrap())
}

/// Waits until the download is paused for the disk's sake; the row.
fn paused(agent: &Agent, id: &str) -> Value {
    wait_for("the download pauses and says why", PATIENCE, || {
        let row = agent.file(id).unwrap()?;
        (row["Status"] == "Paused" && row["Reasons"].to_string().contains("Paused")).then_some(row)
    })
}

#[test]
fn a_full_disk_pauses_downloads_and_loses_nothing() {
    let office = Office::new(35, &[]).unwrap();
    let (file, url, id) = office.published("big.bin", 64 * MIB).unwrap();
    let volume = Volume::new(office.path("volume"), 100);
    // Somebody else's: it could go, so the download waits for that.
    std::fs::write(volume.0.join("others"), vec![7; 60 << 20]).unwrap();
    let cache = volume.0.join("cache");
    let a = office.agent_with("a", OPEN_POLICY, &["--cache-dir", cache.to_str().unwrap()]).unwrap();
    let job = a.begin_get(&url, &office.path("a.out"), &[]).unwrap();
    let row = paused(&a, &id);
    assert!(row["Reasons"].to_string().contains("space"), "{row}");
    assert!(has(&a, &id) >= 24 * MIB, "{row}");
    std::fs::remove_file(volume.0.join("others")).unwrap();
    job.json().unwrap();
    assert!(same_file(&file, &office.path("a.out")).unwrap());
    // Each stop may cost what was on its way, on each connection.
    let origin = office.origin_bytes().unwrap();
    assert!(origin <= 96 * MIB, "the origin sent {origin} bytes");
}

#[test]
fn what_can_never_fit_fails_at_once_and_says_so() {
    let office = Office::new(133, &[]).unwrap();
    let (_, url, _) = office.published("big.bin", 64 * MIB).unwrap();
    office.file("plain.bin", 65 * MIB).unwrap();
    let volume = Volume::new(office.path("volume"), 40);
    let cache = volume.0.join("cache");
    let a = office.agent_with("a", OPEN_POLICY, &["--cache-dir", cache.to_str().unwrap()]).unwrap();
    for url in [url, office.origin.url("plain.bin")] {
        let output = a.begin_get(&url, &office.path("a.out"), &[]).unwrap().output().unwrap();
        assert!(!output.status.success());
        assert!(output.stderr.contains("can never fit in the cache"), "{}", output.stderr);
        assert!(output.stderr.contains("modify_cache_drive"), "{}", output.stderr);
    }
    // What had come of it is not in the way of others; `why` remembers it.
    let output = a.command(&["why", &office.origin.url("plain.bin")]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("ended without the file"), "{told}");
    assert_eq!(small(&office, &a)["Status"], "Complete");
}

/// A file that does fit still comes.
fn small(office: &Office, agent: &Agent) -> Value {
    let (_, url, _) = office.published("small.bin", 8 * MIB).unwrap();
    agent.get(&url, &office.path("small")).unwrap()
}

#[test]
fn what_is_cached_gives_way_to_a_download() {
    let office = Office::new(35, &[]).unwrap();
    let volume = Volume::new(office.path("volume"), 120);
    let cache = volume.0.join("cache");
    let lavish = format!("{OPEN_POLICY}absolute_max_cache_size = 0\n");
    let a = office.agent_with("a", &lavish, &["--cache-dir", cache.to_str().unwrap()]).unwrap();
    for name in ["one.bin", "two.bin", "three.bin"] {
        let (file, url, _) = office.published(name, 50 * MIB + name.len() as u64).unwrap();
        let out = office.path(&format!("{name}.out"));
        a.get(&url, &out).unwrap();
        assert!(same_file(&file, &out).unwrap());
    }
}

#[test]
fn a_disk_that_turned_read_only_pauses_downloads_until_it_is_mended() {
    let office = Office::new(35, &[]).unwrap();
    let (file, url, id) = office.published("big.bin", 24 * MIB).unwrap();
    let (old, old_url, _) = office.published("old.bin", 8 * MIB).unwrap();
    let volume = Volume::new(office.path("volume"), 200);
    let cache = volume.0.join("cache");
    let a = office.agent_with("a", OPEN_POLICY, &["--cache-dir", cache.to_str().unwrap()]).unwrap();
    a.get(&old_url, &office.path("old")).unwrap();
    // Refused while a file is open for writing, which none is when nothing is downloaded.
    wait_until("the volume is read-only", PATIENCE, || mount(&volume.0, "remount,ro"));
    let job = a.begin_get(&url, &office.path("a.out"), &[]).unwrap();
    let plain = office.file("plain.bin", 3 * MIB).unwrap();
    let other = a.begin_get(&office.origin.url("plain.bin"), &office.path("plain"), &[]).unwrap();
    wait_until("somebody is told why", PATIENCE, || {
        let all = Value::Array(a.status().unwrap()).to_string();
        all.contains("ead-only")
    });
    // What is there is still delivered.
    a.get(&old_url, &office.path("old2")).unwrap();
    assert!(same_file(&old, &office.path("old2")).unwrap());
    assert!(mount(&volume.0, "remount,rw"));
    job.json().unwrap();
    assert!(same_file(&file, &office.path("a.out")).unwrap());
    assert!(has(&a, &id) == 24 * MIB);
    other.json().unwrap();
    assert!(same_file(&plain, &office.path("plain")).unwrap());
}

#[test]
fn a_cache_does_not_move_to_a_volume_without_room_and_its_facts_follow_it_to_one_with() {
    let office = Office::new(132, &[]).unwrap();
    let (_, url, id) = office.published("big.bin", 24 * MIB).unwrap();
    let lavish = format!("{OPEN_POLICY}absolute_max_cache_size = 0\n");
    let a = office.agent_with("a", &lavish, &[]).unwrap();
    a.get(&url, &office.path("a.out")).unwrap();
    let capacity = || a.config().unwrap()["Facts"]["CacheVolumeCapacity"].as_u64().unwrap();
    let before = capacity();
    let volume = Volume::new(office.path("volume"), 16);
    let place = volume.0.join("cache");
    a.set_policy(&format!("{lavish}modify_cache_drive = {place:?}\n")).unwrap();
    wait_until("it is refused", PATIENCE, || {
        a.config().unwrap()["Facts"]["CacheMoveTrouble"]
            .to_string()
            .contains("bytes free, and the cache takes")
    });
    assert!(!place.exists() && has(&a, &id) == 24 * MIB && capacity() == before);
    volume.resize(64);
    wait_until("it moves once there is room", PATIENCE, || {
        let facts = a.config().unwrap()["Facts"].clone();
        facts["CacheDirectory"] == place.to_str().unwrap()
            && facts["CacheMovesFrom"].as_array().unwrap().is_empty()
    });
    wait_until("what is decided by the volume looks at this one", PATIENCE, || capacity() == 64 * MIB);
    assert_eq!(has(&a, &id), 24 * MIB);
    wait_until("1 GB is asked of a volume that shares", PATIENCE, || {
        let output = a.command(&["doctor", "--p2p"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains("min_disk_size_allowed_to_peer")
    });
}

#[test]
fn an_agent_with_mounts_of_its_own_gives_its_own_user_a_link() {
    let dir = tempfile::tempdir().unwrap();
    // A file system that knows no reflinks: link or copy.
    let volume = Volume::new(dir.path().join("volume"), 100);
    // Each of its processes sees the volume as another mount, as beside a sandboxed service.
    let site = Site::new(&volume.0, "1gbit").unwrap();
    let file = site.root().join("f.bin");
    random_file(&file, 9, 16 * MIB).unwrap();
    let url = site.origin.url("f.bin");
    site.fleet.publish(&file, &url).unwrap();
    let device = site.device(10, "1gbit").unwrap();
    for (arg, links) in [("--foreground", 2), ("--copy", 1)] {
        let out = volume.0.join("out");
        device.begin_get(&url, &out, &[arg]).unwrap().json().unwrap();
        assert!(same_file(&file, &out).unwrap());
        assert_eq!(std::fs::metadata(&out).unwrap().nlink(), links, "{arg}");
    }
}
