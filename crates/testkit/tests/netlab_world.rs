//! The network lab's own proof: what it builds behaves like a network, and nothing of it is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use peerage_testkit::{Daemon, Limit, Nginx, World, random_file, same_file};

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn exists(netns: &str) -> bool {
    Path::new("/run/netns").join(netns).exists()
}

#[test]
fn a_bottleneck_has_about_its_rate() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new().unwrap();
    let lan = world.bridge("lan").unwrap();
    let origin = lan.host("origin", "10.77.0.1/24").unwrap();
    let device = lan.host("dev1", "10.77.0.11/24").unwrap();
    device.run("ping", ["-c", "1", "-W", "5", "10.77.0.1"]).unwrap();

    let size = 10 * MIB;
    random_file(&dir.path().join("a.bin"), 1, size).unwrap();
    let nginx = Nginx::serve(dir.path()).on(&origin).start(dir.path()).unwrap();
    assert_eq!(nginx.url("a.bin"), "http://10.77.0.1:80/a.bin");
    origin.limit_egress("40mbit").unwrap();
    let (before, started) = (origin.counters().unwrap(), Instant::now());
    let got = dir.path().join("got");
    let fetch =
        ["--silent", "--fail", "--noproxy", "*", "--output", got.to_str().unwrap(), &nginx.url("a.bin")];
    device.run("curl", fetch).unwrap();
    let (carried, took) = (origin.counters().unwrap().since(before), started.elapsed());

    assert!(same_file(&got, &dir.path().join("a.bin")).unwrap());
    // Headers of Ethernet, IP and TCP are 66 bytes on 1448 of payload, so 4.6 %; the rest is slack for retransmissions.
    assert!((size..size * 112 / 100).contains(&carried.tx_bytes), "{carried:?}");
    // Never faster than the bucket lets through: 40 Mbit/s and one burst. How much slower depends on the machine.
    let floor = Duration::from_secs_f64((carried.tx_bytes - 64 * 1024) as f64 * 8.0 / 40e6);
    assert!(took >= floor.mul_f64(0.98), "{carried:?} in {took:?}, at 40 Mbit/s at least {floor:?}");

    // The same from the other side, with a limit that replaces the first.
    origin.limit_egress(Limit::rate("1gbit").burst("256kb")).unwrap();
    device.limit_ingress(Limit::rate("80mbit").latency("20ms")).unwrap();
    let (before, started) = (device.counters().unwrap(), Instant::now());
    device.run("curl", fetch).unwrap();
    let (carried, took) = (device.counters().unwrap().since(before), started.elapsed());
    let floor = Duration::from_secs_f64((carried.rx_bytes - 64 * 1024) as f64 * 8.0 / 80e6);
    assert!(
        carried.rx_bytes > size && took >= floor.mul_f64(0.98),
        "{carried:?} in {took:?}, at least {floor:?}"
    );
}

/// Without room for them the kernel refuses some thousandth neighbour, whichever namespace wants it.
#[test]
fn each_of_many_reaches_all_others() {
    let world = World::new().unwrap();
    let lan = world.bridge("lan").unwrap();
    let numbers = 1..=36;
    let hosts: Vec<_> =
        numbers.clone().map(|n| lan.host(&format!("d{n}"), &format!("10.77.0.{n}/24")).unwrap()).collect();
    for host in &hosts {
        let socket = host.within(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        // The kernel does not say whom it cannot send to.
        for n in numbers.clone() {
            socket.send_to(b"x", format!("10.77.0.{n}:9")).unwrap();
        }
        let known = host.run("ip", ["neigh", "show"]).unwrap();
        assert_eq!(known.lines().count(), hosts.len() - 1, "{}: {known}", host.name());
    }
}

#[test]
fn a_home_router_hides_the_lan() {
    let world = World::new().unwrap();
    let (home, internet) = (world.bridge("home").unwrap(), world.bridge("internet").unwrap());
    let router = world.router("nat").unwrap();
    let inside = router.port(&home, "192.168.1.1/24").unwrap();
    let outside = router.port(&internet, "203.0.113.1/24").unwrap();
    router.masquerade(&outside, false).unwrap();
    let laptop = home.host("laptop", "192.168.1.10/24").unwrap();
    laptop.default_route(inside.ip()).unwrap();
    let server = internet.host("server", "203.0.113.80/24").unwrap();

    // From the inside out: the server sees the router.
    let listener = server.within(|| TcpListener::bind("203.0.113.80:7680")).unwrap().unwrap();
    let mut called = laptop
        .within(|| TcpStream::connect_timeout(&"203.0.113.80:7680".parse().unwrap(), LIMIT))
        .unwrap()
        .unwrap();
    let (mut answering, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), outside.ip());
    assert_eq!(from.port(), called.local_addr().unwrap().port(), "the source port is kept");
    called.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    answering.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");

    // From the outside in: even with a route there, nothing gets through to a listening laptop.
    server.default_route(outside.ip()).unwrap();
    let hidden = laptop.within(|| TcpListener::bind("192.168.1.10:7680")).unwrap().unwrap();
    let address: SocketAddr = hidden.local_addr().unwrap();
    let refused = server.within(|| TcpStream::connect_timeout(&address, Duration::from_millis(300))).unwrap();
    assert!(refused.is_err(), "the router let a stranger in");
    // The laptop did listen: its neighbour gets through.
    let neighbour = home.host("desktop", "192.168.1.11/24").unwrap();
    neighbour.within(|| TcpStream::connect_timeout(&address, LIMIT)).unwrap().unwrap();
}

#[test]
fn ipv6_works_at_once() {
    let world = World::new().unwrap();
    let lan = world.bridge("lan").unwrap();
    let one = lan.host("dev1", "fd77::11/64").unwrap();
    let two = lan.host("dev2", "fd77::12/64").unwrap();
    let listener = one.within(|| TcpListener::bind("[fd77::11]:0")).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    two.within(|| TcpStream::connect_timeout(&address, LIMIT)).unwrap().unwrap();
    assert_eq!(listener.accept().unwrap().1.ip(), two.ip());
}

#[test]
fn programs_run_inside() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new().unwrap();
    let host = world.bridge("lan").unwrap().host("dev1", "10.77.0.11/24").unwrap();
    let mut command = host.command("sh");
    command.args([
        "-c",
        r#"ip -br addr show dev eth0 >&2; echo "{\"ready\":\"x\",\"pid\":$$}"; exec sleep 600"#,
    ]);
    let daemon = Daemon::spawn("dev1", command, dir.path()).unwrap();
    assert!(daemon.stderr().contains("10.77.0.11/24"), "{}", daemon.stderr());
    assert_eq!(daemon.ready()["pid"], daemon.pid(), "the pid is the program's own, so signals and costs are");
    assert!(host.sysctl("net/ipv4/no_such_key", "1").is_err());
}

#[test]
fn nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new().unwrap();
    let lan = world.bridge("lan").unwrap();
    let host = lan.host("dev1", "10.77.0.11/24").unwrap();
    // It says that it is inside: before that the namespace does not know it, and nothing could kill it there.
    let mut command = host.command("sh");
    command.args(["-c", r#"echo '{"ready":"sleeper"}'; exec sleep 600"#]);
    let mut sleeper = Daemon::spawn("sleeper", command, dir.path()).unwrap();
    let names = world.namespaces();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.iter().all(|name| name.starts_with(&format!("pg-{}-", std::process::id())) && exists(name))
    );

    // As long as one handle lives, the world does.
    drop((world, lan));
    assert!(names.iter().all(|name| exists(name)));
    drop(host);
    assert!(!names.iter().any(|name| exists(name)));
    // What ran inside was killed with it.
    assert_eq!(sleeper.wait(LIMIT).unwrap().status.code(), None);
}

#[test]
fn a_panic_cleans_up_and_strangers_stay() {
    let world = World::new().unwrap();
    world.bridge("lan").unwrap();
    let names = std::sync::Mutex::new(Vec::new());
    let panic = std::panic::catch_unwind(|| {
        let other = World::new().unwrap();
        let _host = other.bridge("lan").unwrap().host("dev1", "10.77.0.11/24").unwrap();
        names.lock().unwrap().extend(other.namespaces());
        panic!("as a failing test does");
    });
    assert!(panic.is_err());
    let names = names.into_inner().unwrap_or_else(|poison| poison.into_inner());
    assert_eq!(names.len(), 2);
    assert!(!names.iter().any(|name| exists(name)));
    assert_eq!(world.namespaces().len(), 1, "the other world is untouched");
}

#[test]
fn worlds_of_killed_tests_are_swept() {
    // A process that is over and waited for: its pid names nobody now.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let stale = format!("pg-{}-0-lan", gone.id());
    gone.wait().unwrap();
    let made = std::process::Command::new("ip").args(["netns", "add", &stale]).status().unwrap();
    assert!(made.success() && exists(&stale));
    World::new().unwrap();
    assert!(!exists(&stale));
}

#[test]
fn bad_names_and_addresses_are_refused() {
    let world = World::new().unwrap();
    let lan = world.bridge("lan").unwrap();
    for bad in ["", "has space", "../etc", "muchtoolongname"] {
        assert!(world.bridge(bad).is_err(), "{bad}");
    }
    lan.host("dev1", "10.77.0.11/24").unwrap();
    assert!(lan.host("dev1", "10.77.0.12/24").is_err(), "the name is taken");
    assert!(lan.host("dev2", "nowhere").is_err());
}
