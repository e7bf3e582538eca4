//! Devices of one link without their coordinator: they find each other by DNS-SD and prove the fleet's site key.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use peerage_testkit::{
    Agent, Bridge, Fleet, Host, Nginx, OPEN_POLICY, Process, World, number, random_file, same_file,
    wait_until,
};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 8 * MIB;
const PATIENCE: Duration = Duration::from_secs(90);
const SHORT: Duration = Duration::from_secs(10);

/// One link with an origin and a coordinator, whose file has been published.
struct Link {
    dir: tempfile::TempDir,
    net: &'static str,
    lan: Bridge,
    origin: Nginx,
    fleet: Fleet,
    file: PathBuf,
    url: String,
    id: String,
    _world: World,
}

struct Device {
    agent: Agent,
    host: Host,
    at: SocketAddr,
}

fn policy(lines: &str) -> String {
    format!("{OPEN_POLICY}{lines}\n")
}

impl Link {
    /// `net`: `10.98.0.{}/24` or the like.
    fn new(net: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new().unwrap();
        let lan = world.bridge("lan").unwrap();
        let host = |name: &str, last: &str| lan.host(name, &net.replace("{}", last)).unwrap();
        let (origin_host, head) = (host("origin", "2"), host("head", "3"));
        let root = dir.path().join("www");
        fs::create_dir_all(&root).unwrap();
        let file = root.join("f.bin");
        random_file(&file, 21, SIZE).unwrap();
        let origin = Nginx::serve(&root).on(&origin_host).start(dir.path()).unwrap();
        let config = format!("ingest_allow = [\"{}\"]\n", net.replace("{}", "0"));
        let listen = SocketAddr::new(head.ip(), 7690);
        let fleet = Fleet::start(&dir.path().join("fleet"), listen, Some(&head), &config).unwrap();
        let url = origin.url("f.bin");
        let id = fleet.publish(&file, &url).unwrap()["FileId"].as_str().unwrap().to_owned();
        Self { dir, net, lan, origin, fleet, file, url, id, _world: world }
    }

    fn device(&self, last: u8, lines: &str) -> Device {
        let name = format!("d{last}");
        let host = self.lan.host(&name, &self.net.replace("{}", &last.to_string())).unwrap();
        let at = SocketAddr::new(host.ip(), 7680);
        let agent = self.fleet.agent(&name, at, Some(&host), &policy(lines)).unwrap();
        Device { agent, host, at }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Downloads the file and makes sure that it is the right one.
    fn get(&self, device: &Device, name: &str) -> Value {
        let out = self.out(name);
        let row = device.agent.get(&self.url, &out).unwrap();
        assert!(same_file(&self.file, &out).unwrap(), "{name}");
        row
    }

    /// Lets the device learn the file's record, then takes the file from it again.
    fn knows_it(&self, device: &Device, name: &str) {
        self.get(device, name);
        let removed = device.agent.command(&["files", "remove", &self.id]).output().unwrap();
        assert!(removed.status.success(), "{removed:?}");
    }

    fn kill_coordinator_and_origin(&mut self) {
        self.fleet.kill_coordinator().unwrap();
        self.origin.process().terminate(SHORT).unwrap();
    }
}

impl Device {
    fn health(&self) -> Value {
        let socket = self.agent.socket();
        let socket = socket.to_str().unwrap();
        let text = self.host.run("curl", ["-s", "--unix-socket", socket, "http://agent/v1/health"]).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn sees(&self, neighbours: u64) {
        wait_until("the neighbours are found", PATIENCE, || {
            number(&self.health(), "neighbours") == neighbours
        });
    }

    fn port_is_open(&self) -> bool {
        let at = self.at;
        self.host.within(move || TcpStream::connect_timeout(&at, SHORT).is_ok()).unwrap()
    }
}

#[test]
fn neighbours_deliver_when_coordinator_and_origin_are_gone() {
    let mut link = Link::new("10.98.0.{}/24");
    let (a, b, c) = (link.device(11, ""), link.device(12, ""), link.device(13, ""));
    let row = link.get(&a, "a");
    assert_eq!(number(&row, "BytesFromLinkLocalPeers"), 0, "the coordinator names peers: {row}");
    link.knows_it(&b, "b1");
    link.knows_it(&c, "c1");
    for device in [&a, &b, &c] {
        device.sees(2);
    }
    link.kill_coordinator_and_origin();
    for (device, name) in [(&b, "b2"), (&c, "c2")] {
        let row = link.get(device, name);
        assert!(number(&row, "BytesFromLinkLocalPeers") >= SIZE, "{row}");
        assert_eq!(number(&row, "BytesFromCdn") + number(&row, "BytesFromLanPeers"), 0, "{row}");
    }
    // What was served is counted as what it is.
    let served =
        |device: &Device| number(&device.agent.file(&link.id).unwrap().unwrap(), "BytesToLinkLocalPeers");
    wait_until("all that was served is counted", PATIENCE, || served(&a) + served(&b) >= 2 * SIZE);
}

#[test]
fn the_site_key_outlives_a_restart_and_is_kept_from_other_users() {
    let mut link = Link::new("10.98.0.{}/24");
    let (mut a, mut b) = (link.device(11, ""), link.device(12, ""));
    link.get(&a, "a");
    link.knows_it(&b, "b1");
    link.kill_coordinator_and_origin();
    for device in [&mut a, &mut b] {
        device.agent.restart().unwrap();
        let state = device.agent.dir.join("data/enrolment.json");
        assert!(fs::read_to_string(&state).unwrap().contains("site_key"));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&state).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
    let row = link.get(&b, "b2");
    assert!(number(&row, "BytesFromLinkLocalPeers") >= SIZE, "{row}");
}

#[test]
fn local_discovery_alone_finds_peers_and_closes_with_its_setting() {
    let link = Link::new("10.98.0.{}/24");
    let only =
        "restrict_peer_selection_by = \"local_discovery\"\ndelay_background_download_from_http = 3600\n";
    let (a, b) = (link.device(11, only), link.device(12, only));
    link.get(&a, "a");
    b.sees(1);
    // The coordinator is there, and still only neighbours are asked.
    let row = link.get(&b, "b");
    assert!(number(&row, "BytesFromLinkLocalPeers") >= SIZE, "{row}");
    assert_eq!(number(&row, "BytesFromLanPeers"), 0, "{row}");
    assert!(a.port_is_open());
    a.agent.set_policy(&policy(&format!("{only}local_discovery = false"))).unwrap();
    wait_until("the port is closed", PATIENCE, || !a.port_is_open());
    assert_eq!(number(&a.health(), "neighbours"), 0);
    wait_until("it has said goodbye", PATIENCE, || number(&b.health(), "neighbours") == 0);
    // And back again, without a restart.
    a.agent.set_policy(&policy(only)).unwrap();
    wait_until("the port is open", PATIENCE, || a.port_is_open());
    b.sees(1);
}

#[test]
fn without_local_discovery_the_coordinators_absence_means_the_origin() {
    let mut link = Link::new("10.98.0.{}/24");
    let off = "local_discovery = false\n";
    let (a, b) = (link.device(11, ""), link.device(12, off));
    link.get(&a, "a");
    link.knows_it(&b, "b1");
    link.fleet.kill_coordinator().unwrap();
    let row = link.get(&b, "b2");
    assert_eq!((number(&row, "BytesFromCdn"), number(&row, "BytesFromPeers")), (SIZE, 0), "{row}");
}

#[test]
fn groups_keep_to_themselves() {
    let mut link = Link::new("10.98.0.{}/24");
    let group = |last: u8| {
        format!(
            "restrict_peer_selection_by = 2\ndownload_mode = \"group\"\n\
             group_id = \"6f1c2a34-0000-4000-8000-0000000000{last:02x}\"\n"
        )
    };
    let (a, b, c) = (link.device(11, &group(1)), link.device(12, &group(1)), link.device(13, &group(2)));
    link.get(&a, "a");
    for device in [&b, &c] {
        link.knows_it(device, &format!("{}-1", device.agent.name));
        device.sees(2);
    }
    link.fleet.kill_coordinator().unwrap();
    let row = link.get(&c, "c2");
    assert_eq!((number(&row, "BytesFromCdn"), number(&row, "BytesFromPeers")), (SIZE, 0), "{row}");
    link.origin.process().terminate(SHORT).unwrap();
    let row = link.get(&b, "b2");
    assert!(number(&row, "BytesFromLinkLocalPeers") >= SIZE, "{row}");
}

#[test]
fn another_fleet_on_the_same_link_is_not_a_neighbour() {
    let mut link = Link::new("10.98.0.{}/24");
    let (a, b) = (link.device(11, ""), link.device(12, ""));
    let (host, dir) = (link.lan.host("other", "10.98.0.4/24").unwrap(), link.out("other"));
    let config = "ingest_allow = [\"10.98.0.0/24\"]\n";
    let other = Fleet::start(&dir, SocketAddr::new(host.ip(), 7690), Some(&host), config).unwrap();
    other.publish(&link.file, &link.url).unwrap();
    let host = link.lan.host("stranger", "10.98.0.20/24").unwrap();
    let at = SocketAddr::new(host.ip(), 7680);
    let agent = other.agent("stranger", at, Some(&host), OPEN_POLICY).unwrap();
    let stranger = Device { agent, host, at };
    link.get(&a, "a");
    a.sees(1);
    b.sees(1);
    link.knows_it(&stranger, "s1");
    let mut other = other;
    other.kill_coordinator().unwrap();
    link.fleet.kill_coordinator().unwrap();
    let row = link.get(&stranger, "s2");
    assert_eq!((number(&row, "BytesFromCdn"), number(&row, "BytesFromPeers")), (SIZE, 0), "{row}");
    assert_eq!(number(&stranger.health(), "neighbours"), 0);
    assert_eq!(number(&a.health(), "neighbours"), 1);
}

#[test]
fn a_link_without_ipv4() {
    let mut link = Link::new("fd98::{}/64");
    let (a, b) = (link.device(11, ""), link.device(12, ""));
    link.get(&a, "a");
    link.knows_it(&b, "b1");
    b.sees(1);
    link.kill_coordinator_and_origin();
    let row = link.get(&b, "b2");
    assert!(number(&row, "BytesFromLinkLocalPeers") >= SIZE, "{row}");
}

#[test]
fn beside_avahi() {
    let mut link = Link::new("10.98.0.{}/24");
    let host = link.lan.host("d11", "10.98.0.11/24").unwrap();
    let _avahi = avahi(&host, link.dir.path());
    let at = SocketAddr::new(host.ip(), 7680);
    let agent = link.fleet.agent("d11", at, Some(&host), OPEN_POLICY).unwrap();
    let a = Device { agent, host, at };
    let b = link.device(12, "");
    link.get(&a, "a");
    link.knows_it(&b, "b1");
    for device in [&a, &b] {
        device.sees(1);
    }
    link.kill_coordinator_and_origin();
    let row = link.get(&b, "b2");
    assert!(number(&row, "BytesFromLinkLocalPeers") >= SIZE, "{row}");
}

/// A running Avahi, without D-Bus, that holds port 5353 of `host`.
fn avahi(host: &Host, dir: &Path) -> Process {
    let file = dir.join("avahi.conf");
    let text =
        "[server]\nhost-name=beside\nuse-ipv6=no\nenable-dbus=no\n[publish]\npublish-workstation=yes\n";
    fs::write(&file, text).unwrap();
    // Its pid file has one place on the machine; two of them would only meet there.
    let mut command = host.command("/usr/sbin/avahi-daemon");
    command.args(["--no-drop-root", "--no-chroot", "--no-rlimits", "--file"]).arg(&file);
    let process = Process::spawn("avahi", command, dir).unwrap();
    wait_until("avahi answers", PATIENCE, || {
        host.run("ss", ["-lunH", "sport", "=", ":5353"]).is_ok_and(|text| text.contains("5353"))
    });
    process
}
