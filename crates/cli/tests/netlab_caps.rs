//! Caps as the link sees them: counted at the network interface, headers and all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use peerage_testkit::{OPEN_POLICY, Site, number, random_file, wait_until};

const MIB: u64 = 1 << 20;
const SPAN: Duration = Duration::from_secs(5);
/// What new connections may take in before their buffers are bounded. A device that downloads alone begins with two.
const OPENING: u64 = 160 << 10;

/// What the link carried by a moment. Reading takes time: the moment lies between the two.
struct Look {
    before: Instant,
    after: Instant,
    bytes: u64,
}

/// No five seconds carry more than the cap, 2 %, and what a connection begins with. A busy machine may carry less; that is no fault.
fn holds(setting: &str, cap: u64, args: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), "100mbit").unwrap();
    let file = site.root().join("f.bin");
    random_file(&file, 7, 64 * MIB).unwrap();
    let url = site.origin.url("f.bin");
    let id = site.fleet.publish(&file, &url).unwrap()["FileId"].as_str().unwrap().to_owned();
    let device = site.device(10, "1gbit").unwrap();
    device.set_policy(&format!("{OPEN_POLICY}{setting} = {}\n", cap / 1000)).unwrap();
    wait_until("the cap is in force", Duration::from_secs(60), || {
        device.config().unwrap().to_string().contains(&format!("\"{} KB/s\"", cap / 1000))
    });
    let _job = device.begin_get(&url, &dir.path().join("out"), args).unwrap();
    let mut looks = Vec::new();
    wait_until("it has run for a while", Duration::from_secs(90), || {
        let before = Instant::now();
        let bytes = site.origin_counters().unwrap().tx_bytes;
        looks.push(Look { before, after: Instant::now(), bytes });
        device.held_bytes(&id) >= cap * 8
    });
    for (at, first) in looks.iter().enumerate() {
        let Some(last) = looks[at..].iter().find(|look| look.after - first.before >= SPAN) else { break };
        let (bytes, span) = (last.bytes - first.bytes, (last.after - first.before).as_secs_f64());
        let most = 1.02 * cap as f64 * span + OPENING as f64;
        assert!(bytes as f64 <= most, "{setting} = {cap} B/s: {bytes} bytes in {span:.2} s");
    }
}

#[test]
fn caps_hold_at_the_interface_in_any_five_seconds() {
    holds("max_background_download_bandwidth", 1_000_000, &[]);
    holds("max_background_download_bandwidth", 4_000_000, &[]);
    holds("max_foreground_download_bandwidth", 1_000_000, &["--foreground"]);
}

/// A cap that comes in while a download runs: no five seconds from then on carry more, and no second goes by in which nothing
/// of the file arrives.
fn comes_in(setting: &str, cap: u64, args: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), "100mbit").unwrap();
    let file = site.root().join("f.bin");
    random_file(&file, 9, 192 * MIB).unwrap();
    let url = site.origin.url("f.bin");
    let id = site.fleet.publish(&file, &url).unwrap()["FileId"].as_str().unwrap().to_owned();
    let device = site.device(10, "1gbit").unwrap();
    let _job = device.begin_get(&url, &dir.path().join("out"), args).unwrap();
    wait_until("it runs", Duration::from_secs(60), || device.held_bytes(&id) >= 12 * MIB);
    device.set_policy(&format!("{OPEN_POLICY}{setting} = {}\n", cap / 1000)).unwrap();
    wait_until("the cap is in force", Duration::from_secs(60), || {
        device.config().unwrap().to_string().contains(&format!("\"{} KB/s\"", cap / 1000))
    });
    let mut looks = Vec::new();
    let began = Instant::now();
    wait_until("it has run for a while", Duration::from_secs(60), || {
        let row = device.file(&id).unwrap().unwrap();
        let before = Instant::now();
        let bytes = site.origin_counters().unwrap().tx_bytes;
        looks.push((Look { before, after: Instant::now(), bytes }, number(&row, "TotalBytesDownloaded")));
        began.elapsed() >= 2 * SPAN
    });
    let still = looks.iter().enumerate().map(|(at, first)| {
        let next = looks[at..].iter().find(|look| look.1 > first.1);
        next.map_or(Duration::ZERO, |next| next.0.before - first.0.before)
    });
    let still = still.max().unwrap();
    for (at, (first, _)) in looks.iter().enumerate() {
        let Some((last, _)) = looks[at..].iter().find(|(look, _)| look.after - first.before >= SPAN) else {
            break;
        };
        let (bytes, span) = (last.bytes - first.bytes, (last.after - first.before).as_secs_f64());
        let most = 1.02 * cap as f64 * span + OPENING as f64;
        assert!(bytes as f64 <= most, "{setting} = {cap} B/s: {bytes} bytes in {span:.2} s");
    }
    assert!(still < Duration::from_secs(1), "nothing came for {still:?}");
}

#[test]
fn a_cap_that_comes_in_holds_from_then_on_and_stops_nothing() {
    comes_in("max_background_download_bandwidth", 1_000_000, &[]);
    comes_in("max_foreground_download_bandwidth", 1_000_000, &["--foreground"]);
}
