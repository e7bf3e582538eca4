//! Two devices of a group, each behind a NAT that lets nobody in, with the coordinator on the Internet between them: the
//! relay, and what is said where there is none.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use peerage_testkit::{
    Agent, Fleet, Host, Nginx, OPEN_POLICY, World, number, random_file, same_file, wait_until,
};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(90);
/// Only from peers, if there may be any.
const FROM_PEERS: &str = "delay_background_download_from_http = 3600\n";
const RELAY: &str = "allow_relay = true\n";

/// Origin and coordinator on the Internet; any number of homes with a device each.
struct Scene {
    internet: peerage_testkit::Bridge,
    origin: Nginx,
    origin_host: Host,
    head: Host,
    fleet: Fleet,
    dir: PathBuf,
    // Last: namespaces go when everything in them has ended.
    world: World,
}

impl Scene {
    fn new(dir: &Path, relay: &str) -> Self {
        let world = World::new().unwrap();
        let internet = world.bridge("internet").unwrap();
        let origin_host = internet.host("origin", "198.51.100.2/24").unwrap();
        let root = dir.join("www");
        std::fs::create_dir_all(&root).unwrap();
        let origin = Nginx::serve(&root).directive("limit_rate 2m;");
        let origin = origin.on(&origin_host).start(dir).unwrap();
        let head = internet.host("head", "198.51.100.3/24").unwrap();
        let listen = SocketAddr::new(head.ip(), 7690);
        let config = format!("ingest_allow = [\"198.51.100.0/24\"]\n{relay}");
        let fleet = Fleet::start(&dir.join("fleet"), listen, Some(&head), &config).unwrap();
        Self { internet, origin, origin_host, head, fleet, dir: dir.to_owned(), world }
    }

    fn published(&self, name: &str, size: u64) -> (PathBuf, String, String) {
        let path = self.dir.join("www").join(name);
        random_file(&path, size, size).unwrap();
        let url = self.origin.url(name);
        let record = self.fleet.publish(&path, &url).unwrap();
        (path, url, record["FileId"].as_str().unwrap().to_owned())
    }

    /// A device in a home of its own, whose router hides it and lets nobody in.
    fn device(&self, n: u8, policy: &str) -> Agent {
        let home = self.world.bridge(&format!("home{n}")).unwrap();
        let router = self.world.router(&format!("nat{n}")).unwrap();
        let inside: IpAddr = format!("10.{n}.0.1").parse().unwrap();
        router.port(&home, &format!("{inside}/24")).unwrap();
        let outside = router.port(&self.internet, &format!("198.51.100.{}/24", 10 + n)).unwrap();
        router.masquerade(&outside, false).unwrap();
        let host = home.host(&format!("d{n}"), &format!("10.{n}.0.11/24")).unwrap();
        host.default_route(inside).unwrap();
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7680);
        self.fleet.agent(&format!("d{n}"), listen, Some(&host), &policy_of(policy)).unwrap()
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.out"))
    }

    /// The coordinator's figures of its relay.
    fn relay(&self) -> Value {
        let bearer = format!("authorization: Bearer {}", self.fleet.admin_token().unwrap());
        let health = format!("{}/v1/health", self.fleet.url);
        let told = self.head.run("curl", ["--silent", "--insecure", "--header", &bearer, &health]).unwrap();
        serde_json::from_str::<Value>(&told).unwrap()["relay"].clone()
    }

    /// Waits until the coordinator knows that so many devices may be called.
    fn knows(&self, callable: u64) {
        wait_until("the coordinator knows who may be called", PATIENCE, || {
            number(&self.relay(), "callable") == callable
        });
    }
}

/// A policy of the group, unless `lines` say otherwise.
fn policy_of(lines: &str) -> String {
    let group = "download_mode = 'group'\ngroup_id = '6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11'\n";
    format!("{OPEN_POLICY}{}{lines}", if lines.contains("download_mode") { "" } else { group })
}

fn row(agent: &Agent, id: &str) -> Value {
    agent.file(id).unwrap().unwrap_or(Value::Null)
}

fn why(agent: &Agent, id: &str) -> String {
    let output = agent.command(&["why", id]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn who_cannot_reach_a_peer_is_told_why_and_meets_it_where_both_may() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path(), "relay = true\nrelay_rate = \"80mbit\"\n");
    let (one, url, id) = scene.published("one.bin", 12 * MIB);
    let (a, b) = (scene.device(1, RELAY), scene.device(2, ""));
    a.get(&url, &scene.out("a")).unwrap();
    scene.knows(1);
    // Without: from the origin, and it says why.
    let status = b.get(&url, &scene.out("b")).unwrap();
    assert_eq!(number(&status, "BytesFromCdn"), 12 * MIB, "{status}");
    let told = why(&b, &id);
    for said in ["allow_relay = false, from default", "give true for allow_relay with `peerage set`"] {
        assert!(told.contains(said), "{told}");
    }
    assert_eq!(number(&scene.relay(), "connections"), 0);
    // The peer does not allow it: nothing is gained by one of two.
    let (_, url, id) = scene.published("two.bin", 13 * MIB);
    a.get(&url, &scene.out("a")).unwrap();
    a.set_policy(&policy_of("")).unwrap();
    scene.knows(0);
    b.set_policy(&policy_of(RELAY)).unwrap();
    scene.knows(1);
    let status = b.get(&url, &scene.out("b")).unwrap();
    assert_eq!(number(&status, "BytesFromCdn"), 13 * MIB, "{status}");
    let told = why(&b, &id);
    assert!(told.contains("give true for allow_relay on those devices, too"), "{told}");
    assert_eq!(number(&scene.relay(), "connections"), 0);

    // Both: from the peer, through the relay, as bytes of an Internet peer at either end and at the interfaces.
    let (three, url, id) = scene.published("three.bin", 14 * MIB);
    a.get(&url, &scene.out("a")).unwrap();
    a.set_policy(&policy_of(RELAY)).unwrap();
    b.set_policy(&policy_of(&format!("{RELAY}{FROM_PEERS}"))).unwrap();
    scene.knows(2);
    wait_until("the delay holds", PATIENCE, || b.config().unwrap().to_string().contains("3600"));
    let (relay, origin) = (scene.head.counters().unwrap(), scene.origin_host.counters().unwrap());
    let job = b.begin_get(&url, &scene.out("b3"), &[]).unwrap();
    wait_until("it is told who is met how", PATIENCE, || {
        let peers = row(&b, &id)["Peers"].clone();
        peers.as_array().into_iter().flatten().any(|peer| {
            peer["Relayed"] == true && peer["IP"] == "198.51.100.3:7690" && peer["PeerType"] == "Internet"
        })
    });
    let status = job.json().unwrap();
    assert!(same_file(&three, &scene.out("b3")).unwrap());
    assert_eq!(number(&status, "BytesFromInternetPeers"), 14 * MIB, "{status}");
    assert_eq!(number(&status, "BytesFromGroupPeers") + number(&status, "BytesFromCdn"), 0, "{status}");
    let relayed = scene.head.counters().unwrap().since(relay);
    assert!(relayed.rx_bytes >= 14 * MIB && relayed.tx_bytes >= 14 * MIB, "{relayed:?}");
    assert!(relayed.tx_bytes <= 16 * MIB, "each byte crosses it once: {relayed:?}");
    assert!(scene.origin_host.counters().unwrap().since(origin).tx_bytes < MIB);
    let figures = scene.relay();
    assert!((14 * MIB..15 * MIB).contains(&number(&figures, "bytes")), "{figures}");
    // The last of it is counted when the connection has taken it.
    wait_until("it is counted where it came from", PATIENCE, || {
        number(&row(&a, &id), "BytesToInternetPeers") >= 14 * MIB
            && number(&a.config().unwrap()["Facts"], "UploadedToInternetPeers") >= 14 * MIB
    });
    assert!(why(&b, &id).contains("may be met through the coordinator's relay"), "{}", why(&b, &id));
    assert!(same_file(&one, &scene.out("a")).is_ok());
}

#[test]
fn turned_off_in_mid_download_the_bytes_change_their_source() {
    const RATE: u64 = 1_000_000;
    for (at, mode) in [("the one who takes", ""), ("the one who gives", "download_mode = 'internet'\n")] {
        let relay = format!("{RELAY}{mode}");
        let dir = tempfile::tempdir().unwrap();
        let scene = Scene::new(dir.path(), "relay = true\nrelay_rate = \"1MB/s\"\n");
        let (file, url, id) = scene.published("f.bin", 24 * MIB);
        let (a, b) = (scene.device(1, &relay), scene.device(2, &format!("{relay}{FROM_PEERS}")));
        scene.knows(2);
        a.get(&url, &scene.out("a")).unwrap();
        let job = b.begin_get(&url, &scene.out("b"), &[]).unwrap();
        wait_until("it comes through the relay", PATIENCE, || b.held_bytes(&id) >= 3 * MIB);
        assert_eq!(number(&row(&b, &id), "BytesFromCdn"), 0);
        if at == "the one who gives" {
            // Who takes is left with nobody: the origin may give at once.
            b.set_policy(&policy_of(&relay)).unwrap();
            wait_until("the origin gives, too", PATIENCE, || number(&row(&b, &id), "BytesFromCdn") > 0);
        }
        let before = scene.head.counters().unwrap().tx_bytes;
        if at == "the one who takes" { &b } else { &a }.set_policy(&policy_of(mode)).unwrap();
        let status = job.json().unwrap();
        assert!(same_file(&file, &scene.out("b")).unwrap());
        // What the relay may carry in two seconds, with headers; had it gone on, it would have been a third of the rest.
        let carried = scene.head.counters().unwrap().tx_bytes - before;
        assert!(carried <= 2 * RATE + RATE / 2, "{at}: {carried} bytes went on through the relay");
        assert!(number(&status, "BytesFromCdn") >= 12 * MIB, "{at}: {status}");
        let figures = scene.relay();
        assert_eq!(number(&figures, "open"), 0, "{at}: {figures}");
    }
}

#[test]
fn a_coordinator_without_a_relay_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path(), "");
    let (_, url, id) = scene.published("f.bin", 12 * MIB);
    let (a, b) = (scene.device(1, RELAY), scene.device(2, RELAY));
    a.get(&url, &scene.out("a")).unwrap();
    let status = b.get(&url, &scene.out("b")).unwrap();
    assert_eq!(number(&status, "BytesFromCdn"), 12 * MIB, "{status}");
    let told = why(&b, &id);
    assert!(told.contains("the coordinator has no relay") && told.contains("`relay = true`"), "{told}");
    assert_eq!(scene.relay(), Value::Null);
}
