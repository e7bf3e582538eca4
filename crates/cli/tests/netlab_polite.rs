//! A user's transfer beside ours at a bottleneck of 10 Mbit/s, in network namespaces: ours goes away, and alone uses the link.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use peerage_testkit::{Agent, Bottleneck, Job, peerage_bin, random_file, wait_until};

const MIB: u64 = 1 << 20;

fn scene(dir: &Path, buffer_ms: u64) -> (Bottleneck, String) {
    let buffer = Duration::from_millis(buffer_ms);
    let scene = Bottleneck::new(&peerage_bin().unwrap(), dir, Some("10mbit"), buffer).unwrap();
    let file = scene.root().join("f.bin");
    random_file(&file, 7, 200 * MIB).unwrap();
    let url = scene.origin.url("f.bin");
    scene.fleet.publish(&file, &url).unwrap();
    (scene, url)
}

/// A seed on the near side; the origin is gone, so that all comes from it.
fn seed(scene: &mut Bottleneck, url: &str, dir: &Path) -> Agent {
    let seed = scene.device(false, 20, "").unwrap();
    let row = seed.get(url, &dir.join("seed.out")).unwrap();
    let id = row["FileId"].as_str().unwrap().to_owned();
    wait_until("the seed shares", Duration::from_secs(20), || {
        seed.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    // Not killed: the worker would go on serving without its master.
    scene.origin.process().terminate(Duration::from_secs(5)).unwrap();
    seed
}

fn begin(scene: &Bottleneck, leech: &Agent, url: &str, dir: &Path) -> Job {
    let before = scene.carried().unwrap();
    let job = leech.begin_get(url, &dir.join(format!("{}.out", leech.name)), &[]).unwrap();
    wait_until("bytes flow", Duration::from_secs(30), || {
        scene.carried().unwrap().since(before).tx_bytes > MIB
    });
    job
}

/// (share of the link, added delay in ms, what a user keeps) of what runs now.
fn measure(scene: &Bottleneck, alone: f64, idle: f64) -> (f64, f64, f64) {
    scene.ping(3).unwrap();
    let (before, began) = (scene.carried().unwrap(), std::time::Instant::now());
    let delay = scene.ping(15).unwrap() - idle;
    let used = scene.carried().unwrap().since(before).tx_bytes as f64 * 8.0 / began.elapsed().as_secs_f64();
    let keeps = scene.user_flow(Duration::from_secs(15)).unwrap() / alone;
    (used / 10e6, delay, keeps)
}

fn buffers() -> Vec<u64> {
    std::env::var("BUFFERS")
        .unwrap_or("20,50,200,500".into())
        .split(',')
        .map(|b| b.parse().unwrap())
        .collect()
}

#[test]
fn an_upload_yields_and_uses_what_is_left() {
    for buffer in buffers() {
        let dir = tempfile::tempdir().unwrap();
        let (mut scene, url) = scene(dir.path(), buffer);
        let (idle, alone) = (scene.ping(2).unwrap(), scene.user_flow(Duration::from_secs(15)).unwrap());
        let _seed = seed(&mut scene, &url, dir.path());
        let leech = scene.device(true, 20, "").unwrap();
        let _job = begin(&scene, &leech, &url, dir.path());
        let (used, delay, keeps) = measure(&scene, alone, idle);
        println!(
            "up buffer {buffer} ms: alone {alone:.2} Mbit/s, ours uses {used:.3}, adds {delay:.1} ms, the user keeps {keeps:.3}"
        );
        if let Ok(to) = std::env::var("DBG") {
            std::fs::copy(_seed.dir.join("n20.stderr"), to).unwrap();
        }
    }
}

#[test]
fn a_background_download_yields_and_uses_what_is_left() {
    for buffer in buffers() {
        let dir = tempfile::tempdir().unwrap();
        let (scene, url) = scene(dir.path(), buffer);
        let (idle, alone) = (scene.ping(2).unwrap(), scene.user_flow(Duration::from_secs(15)).unwrap());
        let leech = scene.device(true, 20, "").unwrap();
        let _job = begin(&scene, &leech, &url, dir.path());
        let (used, delay, keeps) = measure(&scene, alone, idle);
        println!(
            "down buffer {buffer} ms: alone {alone:.2} Mbit/s, ours uses {used:.3}, adds {delay:.1} ms, the user keeps {keeps:.3}"
        );
        if let Ok(to) = std::env::var("DBG") {
            std::fs::copy(leech.dir.join("f20.stderr"), to).unwrap();
        }
    }
}
