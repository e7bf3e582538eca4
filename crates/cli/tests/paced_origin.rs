//! An origin that paces what it sends, as servers and CDNs do, sends a portion and pauses: its pauses are no queue to which a
//! background download yields.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use peerage_testkit::{Office, wait_until};

const MIB: u64 = 1 << 20;

#[test]
fn in_the_background_a_paced_origin_is_as_fast_as_in_the_foreground() {
    // nginx sends what its socket takes, and waits until that much was due.
    let office = Office::new(108, &["limit_rate 300k;"]).unwrap();
    let (_, first, waited_for) = office.published("foreground.bin", 24 * MIB).unwrap();
    let (_, second, in_background) = office.published("background.bin", 24 * MIB + 1).unwrap();
    let (a, b) = (office.agent("a").unwrap(), office.agent("b").unwrap());
    let _jobs = [
        a.begin_get(&first, &office.path("a.out"), &["--foreground"]).unwrap(),
        b.begin_get(&second, &office.path("b.out"), &[]).unwrap(),
    ];
    wait_until("somebody who waits has a good part", Duration::from_secs(120), || {
        a.held_bytes(&waited_for) >= 8 * MIB
    });
    let (foreground, background) = (a.held_bytes(&waited_for), b.held_bytes(&in_background));
    // Pieces of a MiB are counted when they are whole.
    assert!(background * 10 >= foreground * 6, "{background} bytes, {foreground} in the foreground");
}
