//! The network changes while downloads run, in network namespaces: another address, a VPN; and peers of the own subnet only.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use peerage_testkit::{Agent, Bridge, Fleet, Host, Nginx, World, number, random_file, same_file, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(90);
/// Everything is shared; the conditions of the device count, as by default.
const POLICY: &str =
    "min_ram_allowed_to_peer = 1\nmin_disk_size_allowed_to_peer = 1\nmin_file_size_to_cache = 1\n";
/// Only from peers, if there may be any.
const FROM_PEERS: &str = "delay_background_download_from_http = 3600\n";
const NEAR: &str = "restrict_peer_selection_by = \"subnet\"\n";
/// Slow enough that a test can step in.
const SLOW: &str = "max_upload_bandwidth = 3000\n";

/// Where a device seems to be that reaches the coordinator through a VPN.
const AWAY: &str = "10.77.9.0/24";

/// Two subnets of one site, joined by a router; origin and coordinator are in the first.
struct Scene {
    lans: [Bridge; 2],
    origin: Nginx,
    fleet: Fleet,
    dir: PathBuf,
    // Last: namespaces go when everything in them has ended.
    _world: World,
}

fn gateway(lan: usize) -> String {
    format!("10.77.{}.1", lan + 1)
}

impl Scene {
    fn new(dir: &Path) -> Self {
        Self::with(dir, "")
    }

    /// With further TOML for the coordinator.
    fn with(dir: &Path, config: &str) -> Self {
        let world = World::new().unwrap();
        let lans = [world.bridge("lan1").unwrap(), world.bridge("lan2").unwrap()];
        let router = world.router("router").unwrap();
        for (at, lan) in lans.iter().enumerate() {
            router.port(lan, &format!("{}/24", gateway(at))).unwrap();
        }
        let host = |name: &str, address: &str| {
            let host = lans[0].host(name, address).unwrap();
            host.default_route(gateway(0).parse().unwrap()).unwrap();
            host
        };
        let root = dir.join("www");
        std::fs::create_dir_all(&root).unwrap();
        let origin = Nginx::serve(&root).directive("limit_rate 2m;");
        let origin = origin.on(&host("origin", "10.77.1.2/24")).start(dir).unwrap();
        let head = host("head", "10.77.1.3/24");
        let listen = SocketAddr::new(head.ip(), 7690);
        let config = format!("ingest_allow = [\"10.77.0.0/16\"]\n{config}");
        let fleet = Fleet::start(&dir.join("fleet"), listen, Some(&head), &config).unwrap();
        // Whoever comes from there is on this cable, too.
        head.run("ip", ["route", "add", AWAY, "dev", "eth0"]).unwrap();
        Self { lans, origin, fleet, dir: dir.to_owned(), _world: world }
    }

    fn published(&self, name: &str, size: u64) -> (PathBuf, String, String) {
        let path = self.dir.join("www").join(name);
        random_file(&path, size, size).unwrap();
        let url = self.origin.url(name);
        let record = self.fleet.publish(&path, &url).unwrap();
        (path, url, record["FileId"].as_str().unwrap().to_owned())
    }

    /// A device of one of the subnets, whose agent listens on whatever address there is.
    fn device(&self, name: &str, lan: usize, last: u8, policy: &str) -> (Host, Agent) {
        let host = self.lans[lan].host(name, &format!("10.77.{}.{last}/24", lan + 1)).unwrap();
        host.default_route(gateway(lan).parse().unwrap()).unwrap();
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7680);
        let agent = self.fleet.agent(name, listen, Some(&host), &format!("{POLICY}{policy}")).unwrap();
        (host, agent)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.out"))
    }
}

fn row(agent: &Agent, id: &str, key: &str) -> u64 {
    agent.file(id).unwrap().map_or(0, |row| number(&row, key))
}

#[test]
fn only_peers_of_the_own_subnet_on_either_side() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path());
    let (file, url, id) = scene.published("near.bin", 12 * MIB);
    let (_, a) = scene.device("a", 0, 11, "");
    a.get(&url, &scene.out("a")).unwrap();
    let mut running = Vec::new();
    // The first of the second subnet finds nobody there, the next one finds it.
    for (name, lan, last, from_peers) in
        [("near", 0, 21, true), ("far", 1, 22, false), ("beside", 1, 23, true)]
    {
        let (_, agent) = scene.device(name, lan, last, NEAR);
        let status = agent.get(&url, &scene.out(name)).unwrap();
        assert!(same_file(&file, &scene.out(name)).unwrap());
        let lan = number(&status, "BytesFromLanPeers");
        assert!(if from_peers { lan >= 6 * MIB } else { lan == 0 }, "{name}: {status}");
        assert!(status["Reasons"].to_string().contains("restrict_peer_selection_by"), "{status}");
        running.push(agent);
    }
    // The other way round: those who have it take nobody from elsewhere in.
    let (_, other_url, _) = scene.published("closed.bin", 11 * MIB);
    a.set_policy(&format!("{POLICY}{NEAR}")).unwrap();
    wait_until("the restriction holds", PATIENCE, || {
        a.file(&id).unwrap().unwrap()["Reasons"].to_string().contains("restrict_peer_selection_by")
            || a.config().unwrap()["DoConfig"]["RestrictPeerSelectionBy"] == 1
    });
    a.get(&other_url, &scene.out("a2")).unwrap();
    let (_, stranger) = scene.device("stranger", 1, 40, "");
    let status = stranger.get(&other_url, &scene.out("s")).unwrap();
    assert_eq!(number(&status, "BytesFromCdn"), 11 * MIB, "{status}");
}

#[test]
fn a_tunnel_that_appears_parts_from_peers_until_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path());
    let (file, url, id) = scene.published("tunnel.bin", 48 * MIB);
    let (_, a) = scene.device("a", 0, 11, SLOW);
    a.get(&url, &scene.out("a")).unwrap();
    // Neighbours found by DNS-SD are exempt from the ban.
    let alone = format!("{FROM_PEERS}local_discovery = false\n");
    let (host, b) = scene.device("b", 0, 12, &alone);
    let job = b.begin_get(&url, &scene.out("b"), &[]).unwrap();
    wait_until("it comes from the peer", PATIENCE, || row(&b, &id, "BytesFromLanPeers") >= 2 * MIB);
    // Virtual machines have such: no VPN.
    host.run("ip", ["tuntap", "add", "tap0", "mode", "tap"]).unwrap();
    host.run("ip", ["link", "set", "tap0", "up"]).unwrap();
    let seen = row(&b, &id, "BytesFromLanPeers");
    wait_until("it goes on", PATIENCE, || row(&b, &id, "BytesFromLanPeers") > seen + MIB);
    assert_eq!(b.config().unwrap()["Facts"]["VPN"], Value::Null);
    host.run("ip", ["tuntap", "add", "tun0", "mode", "tun"]).unwrap();
    host.run("ip", ["link", "set", "tun0", "up"]).unwrap();
    wait_until("it comes from the origin alone", PATIENCE, || {
        row(&b, &id, "ConnectedPeers") == 0 && row(&b, &id, "BytesFromCdn") >= MIB
    });
    let reasons = b.file(&id).unwrap().unwrap()["Reasons"].to_string();
    assert!(reasons.contains("tun0") && reasons.contains("allow_vpn_peer_caching"), "{reasons}");
    assert_eq!(b.config().unwrap()["Facts"]["Interfaces"].to_string().matches("\"tun\"").count(), 1);
    let before = row(&b, &id, "BytesFromLanPeers");
    host.run("ip", ["link", "del", "tun0"]).unwrap();
    wait_until("it comes from the peer again", PATIENCE, || row(&b, &id, "BytesFromLanPeers") > before);
    job.json().unwrap();
    assert!(same_file(&file, &scene.out("b")).unwrap());
}

#[test]
fn downloads_go_on_and_peers_find_a_device_that_has_got_another_address() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path());
    let (file, url, id) = scene.published("roam.bin", 32 * MIB);
    let (_, a) = scene.device("a", 0, 11, SLOW);
    a.get(&url, &scene.out("a")).unwrap();
    let (host, b) = scene.device("b", 0, 12, FROM_PEERS);
    // One from a peer, one from the origin, in simple mode because of its password.
    let job = b.begin_get(&url, &scene.out("b"), &[]).unwrap();
    let plain = dir.path().join("www/plain.bin");
    random_file(&plain, 5, 32 * MIB).unwrap();
    let plain_url = scene.origin.url("plain.bin").replace("http://", "http://user:word@");
    let plain_job = b.begin_get(&plain_url, &scene.out("plain"), &[]).unwrap();
    let simple = || {
        let rows = b.status().unwrap();
        let row = rows.iter().find(|row| row["FileId"].as_str().unwrap().starts_with("url-"));
        row.map_or(0, |row| number(row, "FileSizeInCache"))
    };
    wait_until("both have begun", PATIENCE, || {
        row(&b, &id, "BytesFromLanPeers") >= 2 * MIB && simple() >= 2 * MIB
    });
    host.run("ip", ["addr", "flush", "dev", "eth0"]).unwrap();
    wait_until("the peer is parted from", PATIENCE, || row(&b, &id, "ConnectedPeers") == 0);
    host.run("ip", ["addr", "add", "10.77.1.112/24", "dev", "eth0"]).unwrap();
    host.default_route(gateway(0).parse().unwrap()).unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &scene.out("b")).unwrap());
    assert_eq!(number(&status, "BytesFromCdn"), 0, "{status}");
    plain_job.json().unwrap();
    assert!(same_file(&plain, &scene.out("plain")).unwrap());
    // Found at the new address: nobody else has it now.
    a.set_policy(&format!("{POLICY}download_mode = 0\n")).unwrap();
    let (_, c) = scene.device("c", 0, 13, FROM_PEERS);
    let status = c.get(&url, &scene.out("c")).unwrap();
    assert_eq!(number(&status, "BytesFromLanPeers"), 32 * MIB, "{status}");
}

#[test]
fn peers_are_counted_as_what_they_are_after_a_vpn_and_before() {
    let dir = tempfile::tempdir().unwrap();
    let sites = format!("[sites]\noffice = [\"10.77.1.0/24\"]\naway = [\"{AWAY}\"]\n");
    let scene = Scene::with(dir.path(), &sites);
    let (file, url, id) = scene.published("class.bin", 80 * MIB);
    let group = "download_mode = 'group'\ngroup_id = '6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11'\n\
                 allow_vpn_peer_caching = true\n";
    let (_, a) = scene.device("a", 0, 11, &format!("{group}{SLOW}"));
    a.begin_get(&url, &scene.out("a"), &["--foreground"]).unwrap().json().unwrap();
    let (host, b) = scene.device("b", 0, 12, &format!("{group}{FROM_PEERS}"));
    let job = b.begin_get(&url, &scene.out("b"), &[]).unwrap();
    let connections =
        |agent: &Agent| ["LanConnectionCount", "GroupConnectionCount"].map(|field| row(agent, &id, field));
    let counted = |what: &str, lan: u64, group: u64| {
        wait_until(what, PATIENCE, || [&b, &a].iter().all(|agent| connections(agent) == [lan, group]));
    };
    counted("they are of one site", 1, 0);
    wait_until("it comes from the site", PATIENCE, || row(&b, &id, "BytesFromLanPeers") >= 2 * MIB);
    // The VPN: the coordinator is reached from an address of another site, while the peer stays on the cable.
    host.run("ip", ["addr", "add", "10.77.9.12/24", "dev", "eth0"]).unwrap();
    host.run("ip", ["route", "add", "10.77.1.3/32", "dev", "eth0", "src", "10.77.9.12"]).unwrap();
    host.run("ip", ["tuntap", "add", "tun0", "mode", "tun"]).unwrap();
    host.run("ip", ["link", "set", "tun0", "up"]).unwrap();
    host.run("ip", ["route", "add", "default", "dev", "tun0", "metric", "1"]).unwrap();
    counted("they are of one group", 0, 1);
    let sent = || row(&a, &id, "BytesToGroupPeers");
    wait_until("it is counted so at both ends", PATIENCE, || {
        row(&b, &id, "BytesFromGroupPeers") >= MIB && sent() >= MIB
    });
    host.run("ip", ["link", "del", "tun0"]).unwrap();
    host.run("ip", ["route", "del", "10.77.1.3/32"]).unwrap();
    host.run("ip", ["addr", "del", "10.77.9.12/24", "dev", "eth0"]).unwrap();
    counted("they are of one site again", 1, 0);
    let status = job.json().unwrap();
    assert!(same_file(&file, &scene.out("b")).unwrap());
    assert_eq!(number(&status, "BytesFromCdn"), 0, "{status}");
}

#[test]
fn a_neighbour_on_no_link_of_the_device_any_more_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path());
    let (_, url, id) = scene.published("link.bin", 64 * MIB);
    let (_, a) = scene.device("a", 0, 11, SLOW);
    a.begin_get(&url, &scene.out("a"), &["--foreground"]).unwrap().json().unwrap();
    let (host, b) = scene.device("b", 0, 12, FROM_PEERS);
    // The file is known to it, and some of it is here; from now on there is DNS-SD alone.
    let job = b.begin_get(&url, &scene.out("b"), &[]).unwrap();
    wait_until("it has begun", PATIENCE, || row(&b, &id, "BytesFromLanPeers") >= MIB);
    scene.fleet.kill_coordinator().unwrap();
    let output = host.run("ip", ["-o", "addr", "show", "dev", "eth0"]).unwrap();
    assert!(output.contains("10.77.1.12"), "{output}");
    drop(job);
    let _job = b.begin_get(&url, &scene.out("b"), &[]).unwrap();
    wait_until("the neighbour is found", PATIENCE, || row(&b, &id, "LinkLocalConnectionCount") == 1);
    // Another subnet on the same cable: the neighbour can still be reached, through the router, and is on no link any more.
    host.run("ip", ["addr", "add", "10.77.1.12/32", "dev", "eth0"]).unwrap();
    host.run("ip", ["addr", "del", "10.77.1.12/24", "dev", "eth0"]).unwrap();
    host.run("ip", ["route", "add", "10.77.1.0/24", "dev", "eth0"]).unwrap();
    // Not only when nothing has been heard of it for a minute.
    wait_until("it is none any more", Duration::from_secs(20), || {
        b.file(&id).unwrap().is_some_and(|row| {
            number(&row, "LinkLocalConnectionCount") == 0 && !row["Peers"].to_string().contains("LinkLocal")
        })
    });
}
