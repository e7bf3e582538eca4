//! Eight devices behind one thin link, in network namespaces: the file crosses the link once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use peerage_testkit::{OPEN_POLICY, Site, number, random_file, same_file, wait_until};

const MIB: u64 = 1 << 20;

#[test]
fn eight_devices_at_once_and_one_late() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), "100mbit").unwrap();
    let (file, size) = (site.root().join("f.bin"), 128 * MIB);
    random_file(&file, 5, size).unwrap();
    let url = site.origin.url("f.bin");
    site.fleet.publish(&file, &url).unwrap();
    let devices: Vec<_> = (10..18).map(|n| site.device(n, "1gbit").unwrap()).collect();
    let before = site.origin_counters().unwrap();
    let outs: Vec<_> = devices.iter().map(|device| dir.path().join(format!("{}.out", device.name))).collect();
    let jobs: Vec<_> =
        devices.iter().zip(&outs).map(|(device, out)| device.begin_get(&url, out, &[]).unwrap()).collect();
    for (job, out) in jobs.into_iter().zip(&outs) {
        job.json().unwrap();
        assert!(same_file(&file, out).unwrap(), "{}", out.display());
    }
    let sent = site.origin_counters().unwrap().since(before).tx_bytes;
    // On the wire, with all headers.
    assert!(sent <= size * 110 / 100, "the origin sent {sent} bytes for {size}");
    let late = site.device(30, "1gbit").unwrap();
    let out = dir.path().join("late.out");
    let before = site.origin_counters().unwrap();
    let status = late.get(&url, &out).unwrap();
    assert!(same_file(&file, &out).unwrap());
    let sent = site.origin_counters().unwrap().since(before).tx_bytes;
    assert!(sent <= size * 2 / 100, "the origin sent {sent} bytes to the late device: {status}");
}

#[test]
fn the_origin_vanishes_and_the_peers_finish() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = Site::new(dir.path(), "100mbit").unwrap();
    let (file, size) = (site.root().join("f.bin"), 16 * MIB);
    random_file(&file, 6, size).unwrap();
    let url = site.origin.url("f.bin");
    let record = site.fleet.publish(&file, &url).unwrap();
    let id = record["FileId"].as_str().unwrap().to_owned();
    let (seed, late) = (site.device(10, "1gbit").unwrap(), site.device(11, "1gbit").unwrap());
    seed.get(&url, &dir.path().join("seed.out")).unwrap();
    wait_until("the seed shares", Duration::from_secs(20), || {
        seed.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    site.origin.process().terminate(Duration::from_secs(10)).unwrap();
    let out = dir.path().join("late.out");
    late.get(&url, &out).unwrap();
    assert!(same_file(&file, &out).unwrap());
}

#[test]
fn an_agent_killed_twenty_times_fetches_next_to_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), "100mbit").unwrap();
    let (file, size) = (site.root().join("f.bin"), 200 * MIB);
    random_file(&file, 7, size).unwrap();
    let url = site.origin.url("f.bin");
    let id = site.fleet.publish(&file, &url).unwrap()["FileId"].as_str().unwrap().to_owned();
    let mut device = site.device(10, "1gbit").unwrap();
    let (out, before) = (dir.path().join("out"), site.origin_counters().unwrap());
    for round in 1..=20 {
        let job = device.begin_get(&url, &out, &[]).unwrap();
        // A different, deterministic distance each time.
        let target = round * size / 22 + (round * 37 % 20) * 100_000;
        wait_until("it gets on", Duration::from_secs(60), || device.held_bytes(&id) >= target);
        device.daemon.kill().unwrap();
        drop(job);
        device.restart().unwrap();
    }
    device.get(&url, &out).unwrap();
    assert!(same_file(&file, &out).unwrap());
    let sent = site.origin_counters().unwrap().since(before).tx_bytes;
    let logged = site.origin_body_bytes().unwrap();
    println!("{sent} bytes left the origin for {size}, its log says {logged}");
    // On the wire, with all headers.
    assert!(sent <= size * 106 / 100, "the origin sent {sent} bytes for {size}");
}

#[test]
fn neighbours_of_one_group_are_lan_peers_whoever_called_whom() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), "100mbit").unwrap();
    let (file, size) = (site.root().join("f.bin"), 48 * MIB);
    random_file(&file, 8, size).unwrap();
    let url = site.origin.url("f.bin");
    let id = site.fleet.publish(&file, &url).unwrap()["FileId"].as_str().unwrap().to_owned();
    let policy = format!(
        "{OPEN_POLICY}download_mode = 'group'\ngroup_id = '7ac35bd6-9e4b-4d0a-9f1e-62d5c8f4a001'\n\
         local_discovery = false\n"
    );
    let devices: Vec<_> = (10..14).map(|n| site.device(n, "1gbit").unwrap()).collect();
    for device in &devices {
        device.set_policy(&policy).unwrap();
        wait_until("the group is known", Duration::from_secs(60), || {
            device.config().unwrap().to_string().contains("7ac35bd6")
        });
    }
    let jobs: Vec<_> = devices
        .iter()
        .map(|device| device.begin_get(&url, &dir.path().join(format!("{}.out", device.name)), &[]).unwrap())
        .collect();
    for job in jobs {
        job.json().unwrap();
    }
    for device in &devices {
        let row = device.file(&id).unwrap().unwrap();
        let lan = number(&row, "BytesFromLanPeers") + number(&row, "BytesToLanPeers");
        let group = number(&row, "BytesFromGroupPeers") + number(&row, "BytesToGroupPeers");
        assert!(lan > 0 && group == 0, "{row}");
    }
}
