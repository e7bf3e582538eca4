//! Proxies that the network names (WPAD): by DHCP option 252 and by the DNS, from a real dnsmasq; and what becomes of bad
//! advice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use peerage_testkit::{
    Bridge, Daemon, Host, Job, Nginx, Process, World, peerage_bin, random_file, same_file, wait_for,
    wait_until,
};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// One link: a server for DHCP and DNS, an origin that also has the script, a proxy, and a device.
struct Link {
    lan: Bridge,
    server: Host,
    origin: Nginx,
    proxy: Proxy,
    dir: tempfile::TempDir,
    // Last: namespaces go when everything in them has ended.
    _world: World,
}

struct Proxy {
    log: PathBuf,
    _process: Process,
}

impl Proxy {
    fn start(host: &Host, dir: &Path) -> Self {
        let (log, config) = (dir.join("tinyproxy.log"), dir.join("tinyproxy.conf"));
        let text = format!(
            "Port 3128\nListen {}\nTimeout 60\nLogFile \"{}\"\nLogLevel Info\nMaxClients 50\nAllow 10.98.0.0/16\n",
            host.ip(),
            log.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = host.command("tinyproxy");
        command.arg("-d").arg("-c").arg(&config);
        let process = Process::spawn("tinyproxy", command, dir).unwrap();
        let proxy = Self { log, _process: process };
        wait_until("the proxy listens", PATIENCE, || proxy.said("Accepting connections") > 0);
        proxy
    }

    /// How often its log says `what`.
    fn said(&self, what: &str) -> usize {
        fs::read_to_string(&self.log).map_or(0, |log| log.matches(what).count())
    }
}

impl Link {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new().unwrap();
        let lan = world.bridge("lan").unwrap();
        let server = lan.host("server", "10.98.0.1/24").unwrap();
        let root = dir.path().join("www");
        fs::create_dir_all(&root).unwrap();
        random_file(&root.join("f.bin"), 7, 2 * MIB).unwrap();
        let script = "function FindProxyForURL(url, host) { return 'PROXY 10.98.0.3:3128; DIRECT' }";
        for name in ["wpad.dat", "proxy.pac"] {
            fs::write(root.join(name), script).unwrap();
        }
        let origin = Nginx::serve(&root).on(&lan.host("origin", "10.98.0.2/24").unwrap());
        let origin = origin.start(dir.path()).unwrap();
        let proxy = Proxy::start(&lan.host("proxy", "10.98.0.3/24").unwrap(), dir.path());
        Self { lan, server, origin, proxy, dir, _world: world }
    }

    /// dnsmasq for DHCP and DNS, with further options.
    fn dnsmasq(&self, name: &str, options: &[&str]) -> Process {
        let dir = self.dir.path();
        let mut command = self.server.command("/usr/sbin/dnsmasq");
        command.args(["--keep-in-foreground", "--user=root", "--conf-file=/dev/null", "--log-facility=-"]);
        command.args(["--no-resolv", "--no-hosts", "--dhcp-authoritative", "--no-ping"]);
        command.arg("--dhcp-range=10.98.0.100,10.98.0.200,1h");
        command.arg(format!("--dhcp-leasefile={}", dir.join(format!("{name}.leases")).display()));
        command.arg(format!("--pid-file={}", dir.join(format!("{name}.pid")).display()));
        command.args(options);
        let process = Process::spawn(name, command, dir).unwrap();
        wait_until("the DHCP server listens", PATIENCE, || {
            self.server.run("ss", ["-lunH", "sport", "=", ":67"]).is_ok_and(|text| text.contains(":67"))
        });
        process
    }

    /// A device whose resolver is the link's server and whose domain is `domain`.
    fn device(&self, domain: &str) -> Device {
        let host = self.lan.host("dev", "10.98.0.11/24").unwrap();
        let dir = self.dir.path().join("dev");
        fs::create_dir_all(&dir).unwrap();
        let resolver = dir.join("resolv.conf");
        fs::write(
            &resolver,
            format!("search {domain}\nnameserver 10.98.0.1\noptions timeout:1 attempts:1\n"),
        )
        .unwrap();
        fs::write(dir.join("policy.toml"), "download_mode = \"simple\"\n").unwrap();
        // Its own view of /etc/resolv.conf, gone with its processes.
        let script = "mount --bind \"$1\" /etc/resolv.conf; shift; exec \"$@\"";
        let mut command = host.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&resolver);
        command.arg(peerage_bin().unwrap()).arg("agent").arg("--data-dir").arg(dir.join("data"));
        command.arg("--policy-dir").arg(&dir).args(["--proxy", "wpad"]);
        command.args(["--listen", &SocketAddr::new(host.ip(), 7680).to_string()]);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent").env("PEERAGE_LOG", "info");
        let daemon = Daemon::spawn("dev", command, &dir).unwrap();
        Device { dir, host, _daemon: daemon }
    }
}

struct Device {
    dir: PathBuf,
    host: Host,
    _daemon: Daemon,
}

impl Device {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(peerage_bin().unwrap());
        command.args(args).env("PEERAGE_SOCKET", self.dir.join("data/agent.sock"));
        command
    }

    fn get(&self, link: &Link, name: &str) {
        let out = self.dir.join(name);
        let mut command = self.command(&["get", &link.origin.url("f.bin"), "--json", "-o"]);
        command.arg(&out);
        Job::start("get", command, &self.dir).unwrap().json().unwrap();
        assert!(same_file(&link.dir.path().join("www/f.bin"), &out).unwrap());
        // The next one asks the origin again.
        fs::remove_file(out).unwrap();
    }

    /// What the check-up knows of the way to origins.
    fn proxy(&self) -> Value {
        let output = self.command(&["doctor", "--health", "--json"]).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        told["Facts"]["Proxy"].clone()
    }
}

#[test]
fn dhcp_names_the_script_and_another_network_another_one() {
    let link = Link::new();
    let option = format!("--dhcp-option-force=252,{}", link.origin.url("proxy.pac"));
    let first = link.dnsmasq("dnsmasq", &["--port=0", &option]);
    let device = link.device("corp.example");
    // The first download waits for the answer: nothing goes past the proxy.
    device.get(&link, "a");
    assert!(link.proxy.said("GET http://") > 0);
    let proxy = device.proxy();
    assert_eq!(proxy["Script"], link.origin.url("proxy.pac").replace(":80/", "/"), "{proxy}");
    assert_eq!(proxy["By"], "discovery");
    let asked = link.origin.hits().unwrap();
    let own = |hit: &&peerage_testkit::Hit| hit.client == device.host.ip() && hit.path.ends_with("f.bin");
    assert_eq!(asked.iter().filter(own).count(), 0, "{asked:?}");
    // A network that names none.
    drop(first);
    let _second = link.dnsmasq("dnsmasq2", &["--port=0"]);
    device.host.run("ip", ["addr", "del", "10.98.0.11/24", "dev", "eth0"]).unwrap();
    device.host.run("ip", ["addr", "add", "10.98.0.12/24", "dev", "eth0"]).unwrap();
    let proxy = wait_for("the script is forgotten", PATIENCE, || {
        Some(device.proxy()).filter(|proxy| proxy["Script"].is_null() && !proxy["Trouble"].is_null())
    });
    assert!(proxy["Trouble"].as_str().unwrap().contains("DHCP gives no option 252"), "{proxy}");
    let before = link.proxy.said("GET http://");
    device.get(&link, "b");
    assert_eq!(link.proxy.said("GET http://"), before);
}

#[test]
fn the_dns_names_the_script_in_the_devices_own_domain() {
    let link = Link::new();
    let dns = ["--address=/wpad.corp.example/10.98.0.2", "--address=/wpad.example/10.98.0.2"];
    let _server = link.dnsmasq("dnsmasq", &dns);
    let device = link.device("corp.example");
    device.get(&link, "a");
    assert!(link.proxy.said("GET http://") > 0);
    assert_eq!(device.proxy()["Script"], "http://wpad.corp.example./wpad.dat");
}

#[test]
fn a_domain_above_the_own_one_is_never_asked_and_bad_advice_is_passed_over() {
    let link = Link::new();
    // What a stranger could register, and a script that is no business of the network.
    let options =
        ["--address=/wpad.example/10.98.0.2", "--dhcp-option-force=252,file:///etc/passwd", "--log-queries"];
    let server = link.dnsmasq("dnsmasq", &options);
    let device = link.device("corp.example");
    device.get(&link, "a");
    assert_eq!(link.proxy.said("GET http://"), 0);
    let proxy = device.proxy();
    let trouble = proxy["Trouble"].as_str().unwrap_or_default();
    assert!(trouble.contains("option 252 is malformed") && trouble.contains("wpad.corp.example"), "{proxy}");
    let log = fs::read_to_string(link.dir.path().join("dnsmasq.stderr")).unwrap();
    assert!(log.contains("wpad.corp.example from") && !log.contains("wpad.example from"), "{log}");
    assert!(!log.contains("corp.example.corp.example"), "{log}");
    drop(server);
}
