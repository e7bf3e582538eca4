//! A user's transfer beside ours at a bottleneck of 10 Mbit/s, in network namespaces: ours goes away, and alone uses the link.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use peerage_testkit::{Agent, Bottleneck, Job, peerage_bin, random_file, wait_until};

const MIB: u64 = 1 << 20;
/// Of the bottleneck, in ms: one shorter than LEDBAT's target, one longer.
const BUFFERS: [u64; 2] = [50, 200];

fn scene(dir: &Path, buffer_ms: u64) -> (Bottleneck, String) {
    let buffer = Duration::from_millis(buffer_ms);
    let scene = Bottleneck::new(&peerage_bin().unwrap(), dir, Some("10mbit"), buffer).unwrap();
    let file = scene.root().join("f.bin");
    random_file(&file, 7, 100 * MIB).unwrap();
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

/// Lets what runs be alone for a while, and then beside a user; says how it did. Shares are of bytes at interfaces, with room
/// for a machine that does other things too; `cargo xtask bench polite` measures.
fn judge(scene: &Bottleneck, alone: f64, idle: f64) {
    let span = Duration::from_secs(10);
    scene.ping(5).unwrap();
    let (before, began) = (scene.carried().unwrap(), Instant::now());
    let delay = scene.ping(span.as_secs()).unwrap() - idle;
    let used =
        scene.carried().unwrap().since(before).tx_bytes as f64 * 8.0 / began.elapsed().as_secs_f64() / 10e6;
    let keeps = scene.user_flow(span).unwrap() / alone;
    let figures = format!("alone {used:.3} of the link, {delay:.1} ms more; the user keeps {keeps:.3}");
    assert!(used >= 0.85 && delay <= 60.0 && keeps >= 0.90, "{figures}");
}

#[test]
fn an_upload_yields_and_uses_what_is_left() {
    for buffer in BUFFERS {
        let dir = tempfile::tempdir().unwrap();
        let (mut scene, url) = scene(dir.path(), buffer);
        let (idle, alone) = (scene.ping(2).unwrap(), scene.user_flow(Duration::from_secs(10)).unwrap());
        let _seed = seed(&mut scene, &url, dir.path());
        let leech = scene.device(true, 20, "").unwrap();
        let _job = begin(&scene, &leech, &url, dir.path());
        judge(&scene, alone, idle);
    }
}

#[test]
fn a_background_download_yields_and_uses_what_is_left() {
    for buffer in BUFFERS {
        let dir = tempfile::tempdir().unwrap();
        let (scene, url) = scene(dir.path(), buffer);
        let (idle, alone) = (scene.ping(2).unwrap(), scene.user_flow(Duration::from_secs(10)).unwrap());
        let leech = scene.device(true, 20, "").unwrap();
        let _job = begin(&scene, &leech, &url, dir.path());
        judge(&scene, alone, idle);
    }
}
