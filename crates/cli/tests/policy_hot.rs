//! Policy files that change while downloads run: the bytes change their source, or stop, and go on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use peerage_testkit::{Agent, OPEN_POLICY, Office, number, same_file, wait_for, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// As many looks at a download without a new byte, each after at least 10 ms, count as a standstill.
const STILL: u32 = 60;

fn open(directives: &[&str]) -> Office {
    Office::new(34, directives).unwrap()
}

fn policy(lines: &str) -> String {
    format!("{OPEN_POLICY}{lines}\n")
}

#[test]
fn a_cap_on_background_downloads_takes_hold_and_lets_go() {
    let office = open(&["limit_rate 8m;"]);
    let (file, url, id) = office.published("capped.bin", 160 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    let job = a.begin_get(&url, &office.path("a.out"), &[]).unwrap();
    wait_until("it has begun", PATIENCE, || a.held_bytes(&id) >= 2 * MIB);
    a.set_policy(&policy("max_background_download_bandwidth = 1")).unwrap();
    a.wait_still(&id, PATIENCE);
    assert!(a.held_bytes(&id) < 160 * MIB);
    a.set_policy(OPEN_POLICY).unwrap();
    job.json().unwrap();
    assert!(same_file(&file, &office.path("a.out")).unwrap());
}

#[test]
fn a_cap_on_foreground_downloads_leaves_background_ones_alone() {
    let office = open(&["limit_rate 8m;"]);
    let (file, url, _) = office.published("back.bin", 8 * MIB).unwrap();
    let (_, slow_url, slow_id) = office.published("front.bin", 24 * MIB).unwrap();
    let a = office.agent_with("a", &policy("max_foreground_download_bandwidth = 1"), &[]).unwrap();
    let _held = a.begin_get(&slow_url, &office.path("front"), &["--foreground"]).unwrap();
    wait_until("the foreground download runs", PATIENCE, || a.file(&slow_id).unwrap().is_some());
    a.get(&url, &office.path("back")).unwrap();
    assert!(same_file(&file, &office.path("back")).unwrap());
    assert!(a.held_bytes(&slow_id) < 4 * MIB);
}

#[test]
fn a_cap_on_uploads_takes_hold_and_lets_go() {
    let office = open(&[]);
    let (file, url, id) = office.published("up.bin", 48 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    let b = office.agent_with("b", &policy("delay_background_download_from_http = 3600"), &[]).unwrap();
    a.set_policy(&policy("max_upload_bandwidth = 1")).unwrap();
    wait_until("the cap is in force", PATIENCE, || setting(&a, "max_upload_bandwidth") == "1 KB/s");
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    wait_until("it has begun", PATIENCE, || b.file(&id).unwrap().is_some());
    b.wait_still(&id, PATIENCE);
    assert!(b.held_bytes(&id) < 4 * MIB);
    assert_eq!(number(&b.file(&id).unwrap().unwrap(), "BytesFromCdn"), 0);
    a.set_policy(OPEN_POLICY).unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert!(number(&status, "BytesFromLanPeers") >= 44 * MIB, "{status}");
}

/// What `peerage config` shows as the value in force.
fn setting(agent: &Agent, key: &str) -> String {
    let out = agent.command(&["config", "--json"]).output().unwrap();
    let config: Value = serde_json::from_slice(&out.stdout).unwrap();
    let all = config["Settings"].as_array().unwrap();
    let row = all.iter().find(|row| row["Name"] == key).unwrap_or_else(|| panic!("{key} in {config}"));
    row["Effective"]["Text"].as_str().unwrap_or_default().to_owned()
}

/// Bytes that came from the origin, and from neighbours.
fn sources(agent: &Agent, id: &str) -> (u64, u64) {
    let row = agent.file(id).unwrap().unwrap();
    (number(&row, "BytesFromCdn"), number(&row, "BytesFromLanPeers"))
}

/// Waits until the origin is left alone while the neighbour goes on; what came from the origin by then.
fn rests(agent: &Agent, id: &str) -> u64 {
    let (mut at, mut same) = ((u64::MAX, 0), 0);
    wait_until("HTTP has let go", PATIENCE, || {
        let now = sources(agent, id);
        same = if now.0 == at.0 { same + 1 } else { 0 };
        at = if same == 0 { now } else { at };
        same >= STILL && now.1 > at.1
    });
    at.0
}

#[test]
fn http_tops_up_beside_a_slow_neighbour_and_lets_go() {
    let office = open(&["limit_rate 1m;"]);
    let (file, url, id) = office.published("qos.bin", 64 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    a.set_policy(&policy("max_upload_bandwidth = 1000")).unwrap();
    wait_until("the cap is in force", PATIENCE, || setting(&a, "max_upload_bandwidth") == "1000 KB/s");
    // Less is enough: the neighbour alone, though it is slow. Its first bytes may be late; then the origin gives some.
    let low = policy("min_background_qos = 100");
    let b = office.agent_with("b", &low, &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    wait_until("it comes from the neighbour", PATIENCE, || {
        b.file(&id).unwrap().is_some() && sources(&b, &id).1 >= MIB
    });
    let before = rests(&b, &id);
    // More than the neighbour gives is wanted: the origin adds to it.
    b.set_policy(&policy("min_background_qos = 20000")).unwrap();
    wait_until("HTTP tops up", PATIENCE, || sources(&b, &id).0 >= before + 3 * MIB);
    // The neighbour is enough again: the origin is left alone, and the rest comes from there.
    b.set_policy(&low).unwrap();
    wait_until("that is in force", PATIENCE, || setting(&b, "min_background_qos") == "100 KB/s");
    let last = rests(&b, &id);
    assert!(b.held_bytes(&id) < 64 * MIB, "nothing is left for the neighbour");
    a.set_policy(OPEN_POLICY).unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    // A busy machine may make the neighbour stumble once more, for a moment.
    assert!(number(&status, "BytesFromCdn") <= last + 8 * MIB, "{status}");
}

#[test]
fn the_mode_changes_where_bytes_come_from() {
    let office = open(&["limit_rate 2m;"]);
    let (file, url, id) = office.published("mode.bin", 24 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    // From the origin alone, until peers are allowed.
    let b = office.agent_with("b", &policy("download_mode = \"http_only\""), &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    wait_until("it comes from the origin", PATIENCE, || b.held_bytes(&id) >= 2 * MIB);
    let row = b.file(&id).unwrap().unwrap();
    assert_eq!((number(&row, "BytesFromLanPeers"), number(&row, "ConnectedPeers")), (0, 0));
    b.set_policy(OPEN_POLICY).unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert!(number(&status, "BytesFromLanPeers") >= 4 * MIB, "{status}");
    // And the other way round: peers alone, until they are forbidden.
    a.set_policy(&policy("max_upload_bandwidth = 2000")).unwrap();
    b.set_policy(&policy("download_mode = \"http_only\"")).unwrap();
    wait_until("both are in force", PATIENCE, || {
        setting(&a, "max_upload_bandwidth") == "2000 KB/s" && setting(&b, "download_mode") == "http_only"
    });
    let held = policy("delay_background_download_from_http = 3600");
    let c = office.agent_with("c", &held, &[]).unwrap();
    let job = c.begin_get(&url, &office.path("c"), &[]).unwrap();
    wait_until("it comes from a peer", PATIENCE, || c.held_bytes(&id) >= MIB);
    assert_eq!(number(&c.file(&id).unwrap().unwrap(), "BytesFromCdn"), 0);
    c.set_policy(&policy("download_mode = \"http_only\"")).unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("c")).unwrap());
    assert!(number(&status, "BytesFromCdn") >= 4 * MIB, "{status}");
}

#[test]
fn the_delay_holds_the_origin_back_until_it_is_lifted() {
    let office = open(&[]);
    let (file, url, id) = office.published("delay.bin", 24 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    a.set_policy(&policy("max_upload_bandwidth = 1")).unwrap();
    wait_until("the cap is in force", PATIENCE, || setting(&a, "max_upload_bandwidth") == "1 KB/s");
    // The foreground's delay is not the background's.
    let held = policy("delay_background_download_from_http = 3600\ndelay_foreground_download_from_http = 0");
    let b = office.agent_with("b", &held, &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    wait_until("the peer is connected", PATIENCE, || {
        b.file(&id).unwrap().is_some_and(|row| number(&row, "ConnectedPeers") == 1)
    });
    b.wait_still(&id, PATIENCE);
    assert_eq!(number(&b.file(&id).unwrap().unwrap(), "BytesFromCdn"), 0);
    b.set_policy(OPEN_POLICY).unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert!(number(&status, "BytesFromCdn") >= 20 * MIB, "{status}");
}

#[test]
fn small_files_are_shared_once_policy_lowers_the_bound() {
    let office = open(&[]);
    let big = "min_ram_allowed_to_peer = 1\nmin_disk_size_allowed_to_peer = 1\n";
    let (file, url, _) = office.published("small.bin", 6 * MIB).unwrap();
    let (_, other_url, other_id) = office.published("other.bin", 7 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    for (url, out) in [(&url, "a1"), (&other_url, "a2")] {
        a.get(url, &office.path(out)).unwrap();
    }
    let b = office.agent_with("b", big, &[]).unwrap();
    let status = b.get(&url, &office.path("b1")).unwrap();
    assert!(same_file(&file, &office.path("b1")).unwrap());
    assert_eq!(number(&status, "BytesFromLanPeers"), 0, "{status}");
    assert!(status["Reasons"].to_string().contains("min_file_size_to_cache"), "{status}");
    b.set_policy(OPEN_POLICY).unwrap();
    wait_until("the bound is in force", PATIENCE, || setting(&b, "min_file_size_to_cache") == "1 MB");
    let status = b.get(&other_url, &office.path("b2")).unwrap();
    assert_eq!(status["FileId"], other_id.as_str());
    assert!(number(&status, "BytesFromLanPeers") >= 5 * MIB, "{status}");
}

#[test]
fn groups_are_kept_apart() {
    let sites = (1..=3).map(|site| format!("s{site} = [\"127.34.0.{}/32\"]\n", 10 + site));
    let sites = format!("[sites]\n{}", sites.collect::<String>());
    let office = Office::with_coordinator(34, &[], &sites).unwrap();
    let group = |last: u8| {
        policy(&format!(
            "download_mode = \"group\"\ngroup_id = \"6f1c2a34-0000-4000-8000-0000000000{last:02x}\""
        ))
    };
    let (file, url, _) = office.published("group.bin", 12 * MIB).unwrap();
    let a = office.agent_with("a", &group(1), &[]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    // At another site, of another group.
    let other = office.agent_with("other", &group(2), &[]).unwrap();
    let status = other.get(&url, &office.path("other.out")).unwrap();
    assert_eq!(number(&status, "BytesFromCdn"), 12 * MIB, "{status}");
    // At a third site, of the first one's group.
    // The origin waits: else it has brought all before a peer of another site is asked.
    let patient = format!("{}delay_background_download_from_http = 30\n", group(1));
    let same = office.agent_with("same", &patient, &[]).unwrap();
    let status = same.get(&url, &office.path("same.out")).unwrap();
    assert!(same_file(&file, &office.path("same.out")).unwrap());
    assert!(number(&status, "BytesFromGroupPeers") >= 4 * MIB, "{status}");
    assert_eq!(number(&status, "BytesFromLanPeers"), 0, "{status}");
}

#[test]
fn another_group_parts_from_the_members_of_the_former_one() {
    let sites = "[sites]\none = [\"127.150.0.11/32\"]\ntwo = [\"127.150.0.12/32\"]\n";
    let office = Office::with_coordinator(150, &["limit_rate 2m;"], sites).unwrap();
    let group = |last: u8, more: &str| {
        let group = format!("group_id = \"6f1c2a34-0000-4000-8000-0000000000{last:02x}\"");
        policy(&format!("download_mode = \"group\"\n{group}\n{more}"))
    };
    let (file, url, id) = office.published("regroup.bin", 48 * MIB).unwrap();
    let a = office.agent_with("a", &group(1, "max_upload_bandwidth = 3000"), &[]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    let held = "delay_background_download_from_http = 3600";
    let b = office.agent_with("b", &group(1, held), &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    let has = |key: &str| b.file(&id).unwrap().map_or(0, |row| number(&row, key));
    wait_until("it comes from the group", PATIENCE, || has("BytesFromGroupPeers") >= 2 * MIB);
    assert_eq!(has("BytesFromCdn"), 0);
    // Nobody is of that group: the delay in favour of peers is over, too.
    b.set_policy(&group(2, held)).unwrap();
    wait_until("it comes from the origin alone", PATIENCE, || {
        has("ConnectedPeers") == 0 && has("BytesFromCdn") >= MIB
    });
    let before = has("BytesFromGroupPeers");
    b.set_policy(&group(1, held)).unwrap();
    wait_until("it comes from the group again", PATIENCE, || has("BytesFromGroupPeers") > before + MIB);
    job.json().unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
}

/// The ends at `own` of its connections with `ip`.
fn connections(own: &str, ip: &str) -> BTreeSet<String> {
    let output =
        Command::new("ss").args(["-Htn", "state", "established", "src", own, "dst", ip]).output().unwrap();
    // Queues, own end, other end.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned)).collect()
}

#[test]
fn encryption_that_is_required_ends_the_connections_in_clear_text() {
    let office = Office::new(151, &[]).unwrap();
    let clear = policy("peer_encryption = \"off\"\nmax_upload_bandwidth = 3000");
    let (file, url, id) = office.published("clear.bin", 32 * MIB).unwrap();
    let a = office.agent_with("a", &clear, &[]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    let held = "delay_background_download_from_http = 3600";
    let b = office.agent_with("b", &policy(&format!("{held}\npeer_encryption = \"off\"")), &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    wait_until("it comes from the peer", PATIENCE, || b.held_bytes(&id) >= 2 * MIB);
    let before = connections("127.151.0.12", "127.151.0.11");
    assert!(!before.is_empty());
    b.set_policy(&policy(held)).unwrap();
    wait_until("the connection is another one", PATIENCE, || {
        let now = connections("127.151.0.12", "127.151.0.11");
        !now.is_empty() && now.is_disjoint(&before)
    });
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert_eq!(number(&status, "BytesFromCdn"), 0, "{status}");
}

#[test]
fn a_lower_cap_on_connections_parts_from_the_surplus_and_holds_for_all_downloads_together() {
    let office = Office::new(152, &[]).unwrap();
    let (file, url, id) = office.published("many.bin", 64 * MIB).unwrap();
    let (other, other_url, other_id) = office.published("second.bin", 4 * MIB).unwrap();
    let slow = policy("max_upload_bandwidth = 1500");
    let seeds = ["a", "twin"].map(|name| office.agent_with(name, OPEN_POLICY, &[]).unwrap());
    for seed in &seeds {
        seed.get(&url, &office.path(&seed.name)).unwrap();
        seed.get(&other_url, &office.path(&format!("{}-2", seed.name))).unwrap();
        seed.set_policy(&slow).unwrap();
        wait_until("the cap is in force", PATIENCE, || setting(seed, "max_upload_bandwidth") == "1500 KB/s");
    }
    let held = "delay_background_download_from_http = 3600";
    let b = office.agent_with("b", &policy(held), &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    let connected = |id: &str| b.file(id).unwrap().map_or(0, |row| number(&row, "ConnectedPeers"));
    wait_until("both are connected", PATIENCE, || connected(&id) == 2);
    b.set_policy(&policy(&format!("{held}\nmax_peer_connections = 1"))).unwrap();
    wait_until("one is parted from", PATIENCE, || connected(&id) == 1);
    // There is no place for a peer of another download: nobody waits for one.
    let status = b.get(&other_url, &office.path("b2")).unwrap();
    assert!(same_file(&other, &office.path("b2")).unwrap());
    assert_eq!((number(&status, "BytesFromPeers"), connected(&other_id)), (0, 0), "{status}");
    assert_eq!(connected(&id), 1);
    b.set_policy(&policy(held)).unwrap();
    wait_until("both are connected again", PATIENCE, || connected(&id) == 2);
    for seed in &seeds {
        seed.set_policy(OPEN_POLICY).unwrap();
    }
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert_eq!(number(&status, "BytesFromCdn"), 0, "{status}");
}

#[test]
fn a_device_that_has_ended_is_named_to_nobody() {
    let office = Office::new(153, &[]).unwrap();
    let (file, url, _) = office.published("ended.bin", 6 * MIB).unwrap();
    let mut a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    a.daemon.terminate(PATIENCE).unwrap();
    let held = policy("delay_background_download_from_http = 3600");
    let b = office.agent_with("b", &held, &[]).unwrap();
    let status = b.get(&url, &office.path("b")).unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert_eq!((number(&status, "BytesFromCdn"), number(&status, "NumPeers")), (6 * MIB, 0), "{status}");
}

#[test]
fn every_mode_and_both_kinds_of_connection_deliver() {
    let office = open(&[]);
    let (file, url, _) = office.published("modes.bin", 5 * MIB).unwrap();
    let a = office.agent_with("a", &policy("peer_encryption = \"off\""), &[]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    for (name, lines, from_peers) in [
        ("m0", "download_mode = 0", false),
        ("m1", "download_mode = 1\npeer_encryption = \"off\"", true),
        ("m1e", "download_mode = \"lan\"", true),
        ("m3", "download_mode = \"internet\"", true),
        ("m99", "download_mode = \"simple\"", false),
        ("m100", "download_mode = \"bypass\"", false),
    ] {
        let agent = office.agent_with(name, &policy(lines), &[]).unwrap();
        let out = office.path(&format!("{name}.out"));
        let status = agent.get(&url, &out).unwrap();
        assert!(same_file(&file, &out).unwrap(), "{lines}");
        let peers = number(&status, "BytesFromPeers");
        assert!(if from_peers { peers >= 3 * MIB } else { peers == 0 }, "{lines}: {status}");
    }
}

#[test]
fn a_wrong_policy_is_reported_and_the_old_one_holds() {
    let office = open(&[]);
    let a = office.agent_with("a", &policy("min_background_qos = 777"), &[]).unwrap();
    a.set_policy("min_background_qos = 888\ndownlaod_mode = 1\n").unwrap();
    let told = wait_for("the error is told", PATIENCE, || {
        let out = a.command(&["config"]).output().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        text.contains("downlaod_mode").then_some(text)
    });
    assert!(told.contains("policy.toml"), "{told}");
    assert_eq!(setting(&a, "min_background_qos"), "777 KB/s");
}

#[test]
fn what_reaches_its_age_goes_when_it_does() {
    let office = Office::new(185, &[]).unwrap();
    let (_, url, id) = office.published("aged.bin", 4 * MIB).unwrap();
    let (_, other, other_id) = office.published("expired.bin", 5 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    // Sooner than the cache is looked through anyway, and than a content without peers falls asleep: 30 s each.
    let soon = Duration::from_secs(15);
    a.set_policy(&policy("max_cache_age = 2")).unwrap();
    wait_until("it is as old as it may be", soon, || a.file(&id).unwrap().is_none());
    // One that comes under that limit goes by it, too.
    a.get(&url, &office.path("a")).unwrap();
    wait_until("it is evicted again", soon, || a.file(&id).unwrap().is_none());
    a.set_policy(OPEN_POLICY).unwrap();
    wait_until("the limit is gone", PATIENCE, || setting(&a, "max_cache_age") != "2 s");
    a.get(&other, &office.path("other")).unwrap();
    let done = a.command(&["files", "expire", &other_id, "2s"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    wait_until("its own time has come", soon, || a.file(&other_id).unwrap().is_none());
}

#[test]
fn a_cache_that_may_hold_less_holds_less_at_once() {
    let office = Office::new(72, &[]).unwrap();
    let (_, url, id) = office.published("much.bin", 24 * MIB).unwrap();
    let (file, other, other_id) = office.published("more.bin", 20 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    // Sooner than a content without peers falls asleep: 30 s.
    let soon = Duration::from_secs(15);
    a.set_policy(&policy("absolute_max_cache_size = '10MB'")).unwrap();
    wait_until("it is evicted", soon, || a.file(&id).unwrap().is_none());
    // What is more than the whole cache may hold is delivered, and not kept.
    a.get(&other, &office.path("other")).unwrap();
    assert!(same_file(&file, &office.path("other")).unwrap());
    wait_until("it is not kept", soon, || a.file(&other_id).unwrap().is_none());
    let why = a.command(&["why", "more.bin"]).output().unwrap();
    assert!(String::from_utf8_lossy(&why.stdout).contains("absolute_max_cache_size = 10MB"), "{why:?}");
}
