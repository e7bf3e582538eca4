//! A coordinator at the other end of a long line: its word comes seconds after the first bytes, and still counts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use peerage_testkit::{Agent, OPEN_POLICY, Office, same_file, wait_until};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// What the line adds in each direction: far more than the origin waits for the coordinator, and than the agent takes
/// between two looks at its callers.
const DELAY: Duration = Duration::from_millis(400);

/// A line to `to` that delivers everything [`DELAY`] later: its near end.
fn long_line(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = listener.local_addr().unwrap();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else { continue };
            carry(near.try_clone().unwrap(), far.try_clone().unwrap());
            carry(far, near);
        }
    });
    near
}

#[allow(clippy::disallowed_methods, reason = "the delay is the line's, nobody waits for anything by it")]
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let (sender, line) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let _ = sender.send((Instant::now() + DELAY, buffer[..n].to_vec()));
        }
    });
    thread::spawn(move || {
        for (due, bytes) in line {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn a_record_that_comes_late_is_still_joined() {
    // Long enough on the way from the origin that an answer after seconds finds it there.
    let office = Office::new(41, &["limit_rate 2m;"]).unwrap();
    let (file, url, id) = office.published("far.bin", 40 * MIB).unwrap();
    let near = office.agent("near").unwrap();
    near.get(&url, &office.path("near.out")).unwrap();
    wait_until("the neighbour shares", PATIENCE, || {
        near.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    let coordinator = long_line(office.fleet.url.trim_start_matches("https://").parse().unwrap());
    let args = ["--coordinator", &format!("https://{coordinator}"), "--token"].map(str::to_owned);
    let args = args.into_iter().chain([office.fleet.enroll_token().unwrap()]).collect();
    let listen = SocketAddr::from(([127, 41, 0, 99], 0));
    let far = Agent::start(&office.path("far"), "far", listen, None, OPEN_POLICY, args).unwrap();
    let status = far.get(&url, &office.path("far.out")).unwrap();
    assert!(same_file(&file, &office.path("far.out")).unwrap());
    let from_neighbour = status["BytesFromLanPeers"].as_u64().unwrap();
    assert!(from_neighbour >= 20 * MIB, "{status}");
}
