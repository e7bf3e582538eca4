//! Origins behind a real proxy (tinyproxy). Peers and the coordinator are reached without one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use peerage_testkit::{Agent, Nginx, OPEN_POLICY, Office, Process, number, same_file, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

struct Proxy {
    address: SocketAddr,
    log: PathBuf,
    _process: Process,
}

impl Proxy {
    /// Starts one with further lines of configuration.
    fn start(dir: &Path, more: &str) -> Self {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let (log, config) = (dir.join("tinyproxy.log"), dir.join("tinyproxy.conf"));
        let text = format!(
            "Port {}\nListen 127.0.0.1\nTimeout 60\nLogFile \"{}\"\nLogLevel Info\nMaxClients 50\nAllow 127.0.0.0/8\n{more}\n",
            address.port(),
            log.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&config);
        let process = Process::spawn("tinyproxy", command, dir).unwrap();
        let proxy = Self { address, log, _process: process };
        wait_until("the proxy listens", PATIENCE, || proxy.said("Accepting connections") > 0);
        proxy
    }

    /// How often its log says `what`.
    fn said(&self, what: &str) -> usize {
        fs::read_to_string(&self.log).map_or(0, |log| log.matches(what).count())
    }
}

#[test]
fn http_and_https_go_through_a_proxy_with_a_password() {
    let office = Office::with_https(34, &[]).unwrap();
    let ca = office.ca().unwrap().to_str().unwrap().to_owned();
    let proxy = Proxy::start(&office.path(""), "BasicAuth me hunter2");
    let (file, url, _) = office.published("tls.bin", 5 * MIB + 3).unwrap();
    let way = format!("http://me:hunter2@{}", proxy.address);
    let a = office.agent_with("a", OPEN_POLICY, &["--origin-ca", &ca, "--proxy", &way]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert!(proxy.said("CONNECT") > 0);
    let office = Office::new(34, &[]).unwrap();
    let (file, url, _) = office.published("clear.bin", 5 * MIB + 3).unwrap();
    let a = office.agent_with("a", OPEN_POLICY, &["--proxy", &way]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert!(proxy.said("GET http://") > 0);
    // The wrong password: the origin is not reached past the proxy.
    let way = format!("http://me:wrong@{}", proxy.address);
    let b = office.agent_with("b", "download_mode = \"simple\"\n", &["--proxy", &way]).unwrap();
    let error = b.get(&url, &office.path("b")).unwrap_err().to_string();
    assert!(error.contains("407") || error.contains("401"), "{error}");
}

#[test]
fn a_proxy_that_drops_ranges_is_read_from_the_first_byte() {
    let office = Office::new(34, &[]).unwrap();
    // Only these headers pass.
    let proxy =
        Proxy::start(&office.path(""), "Anonymous \"Host\"\nAnonymous \"User-Agent\"\nAnonymous \"Accept\"");
    let (file, url, _) = office.published("whole.bin", 24 * MIB + 5).unwrap();
    let way = format!("http://{}", proxy.address);
    let a = office.agent_with("a", OPEN_POLICY, &["--proxy", &way]).unwrap();
    let status = a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert!(status["Reasons"].to_string().contains("ignores ranges"), "{status}");
    let told = a.command(&["doctor", "--health"]).output().unwrap();
    let shown = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{shown}");
    assert!(
        shown.contains("the origin, or the proxy on the way to it, ignores Range at 127.0.0.1"),
        "{shown}"
    );
}

/// A SOCKS5 proxy (microsocks), with further arguments.
fn socks(dir: &Path, args: &[&str]) -> (SocketAddr, Process) {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &address.port().to_string()]).args(args);
    let process = Process::spawn("microsocks", command, dir).unwrap();
    wait_until("the proxy listens", PATIENCE, || TcpStream::connect(address).is_ok());
    (address, process)
}

#[test]
fn http_and_https_go_through_a_socks_proxy_with_a_password() {
    let office = Office::with_https(34, &[]).unwrap();
    let ca = office.ca().unwrap().to_str().unwrap().to_owned();
    let (at, proxy) = socks(&office.path(""), &["-u", "me", "-P", "hunter2"]);
    let through = || proxy.stderr().matches("connected to").count();
    let (file, url, _) = office.published("tls.bin", 5 * MIB + 3).unwrap();
    for (name, scheme) in [("a", "socks5"), ("b", "socks5h")] {
        let before = through();
        let way = format!("{scheme}://me:hunter2@{at}");
        let simple = "download_mode = \"simple\"\n";
        let agent = office.agent_with(name, simple, &["--origin-ca", &ca, "--proxy", &way]).unwrap();
        agent.get(&url, &office.path(name)).unwrap();
        assert!(same_file(&file, &office.path(name)).unwrap());
        assert!(through() > before, "{}", proxy.stderr());
    }
    // Clear text, and the proxy named by the environment.
    let office = Office::new(34, &[]).unwrap();
    let (file, url, _) = office.published("clear.bin", 5 * MIB + 3).unwrap();
    let way = format!("socks5h://me:hunter2@{at}");
    let (before, env) = (through(), [("ALL_PROXY", way.as_str()), ("NO_PROXY", ""), ("no_proxy", "")]);
    let c = office.agent_in("c", OPEN_POLICY, &[], &env).unwrap();
    c.get(&url, &office.path("c")).unwrap();
    assert!(same_file(&file, &office.path("c")).unwrap());
    assert!(through() > before, "{}", proxy.stderr());
    let told = c.command(&["doctor", "--health", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["Facts"]["Proxy"]["Proxies"][0], format!("socks5h://{at}"), "{told}");
    assert!(!told.to_string().contains("hunter2"), "{told}");
    // The wrong password: the origin is not reached past the proxy.
    let before = through();
    let way = format!("socks5://me:wrong@{at}");
    let d = office.agent_with("d", "download_mode = \"simple\"\n", &["--proxy", &way]).unwrap();
    let job = d.begin_get(&url, &office.path("d"), &[]).unwrap();
    wait_until("it is said why nothing comes", PATIENCE, || {
        d.status().unwrap().iter().any(|row| row["Reasons"].to_string().contains("SOCKS error"))
    });
    assert_eq!(through(), before);
    drop(job);
}

#[test]
fn a_script_may_name_a_socks_proxy() {
    let office = Office::new(34, &[]).unwrap();
    let (at, proxy) = socks(&office.path(""), &[]);
    let (file, url, _) = office.published("pac.bin", 5 * MIB).unwrap();
    let script = office.path("proxy.pac");
    fs::write(&script, format!("function FindProxyForURL() {{ return 'SOCKS5 {at}; DIRECT' }}")).unwrap();
    let way = format!("pac+file://{}", script.display());
    let a = office.agent_with("a", "download_mode = \"simple\"\n", &["--proxy", &way]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert!(proxy.stderr().contains("connected to"), "{}", proxy.stderr());
}

#[test]
fn a_script_sends_some_hosts_through_the_proxy_and_peers_never() {
    let office = Office::new(34, &[]).unwrap();
    let proxy = Proxy::start(&office.path(""), "");
    let (file, url, id) = office.published("pac.bin", 6 * MIB).unwrap();
    let script = office.path("proxy.pac");
    let condition = "isInNet(host, '127.0.0.1', '255.255.255.255')";
    let text = format!(
        "function FindProxyForURL(url, host) {{ return {condition} ? 'PROXY {}' : 'DIRECT' }}",
        proxy.address
    );
    fs::write(&script, text).unwrap();
    let way = format!("pac+file://{}", script.display());
    let a = office.agent_with("a", OPEN_POLICY, &["--proxy", &way]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    let through = proxy.said("GET http://");
    assert!(
        through > 0 && office.origin.hits().unwrap().iter().all(|hit| hit.status == 206 || hit.status == 200)
    );
    wait_until("it has become a seed", PATIENCE, || {
        a.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    // Its proxy is down: the coordinator and the neighbour are reached all the same.
    let b = office.agent_with("b", OPEN_POLICY, &["--proxy", "http://127.0.0.1:1"]).unwrap();
    let status = b.get(&url, &office.path("b")).unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert_eq!(number(&status, "BytesFromLanPeers"), 6 * MIB, "{status}");
    // With the proxy down and the origin exempt from it.
    let away = ["--proxy", "http://127.0.0.1:1", "--no-proxy", "127.0.0.1"];
    let c = office.agent_with("c", "download_mode = \"simple\"\n", &away).unwrap();
    c.get(&url, &office.path("c")).unwrap();
    assert!(same_file(&file, &office.path("c")).unwrap());
}

/// The finding of `peerage doctor` about the proxy.
fn of_proxy(agent: &Agent) -> Value {
    let output = agent.command(&["doctor", "--health", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut all = told["Findings"].as_array().unwrap().iter();
    all.find(|finding| finding["Check"] == "proxy").cloned().unwrap()
}

#[test]
fn a_proxy_that_refuses_stops_no_download_that_others_can_finish() {
    let office = Office::new(183, &[]).unwrap();
    let proxy = Nginx::serve(office.root()).directive("location / { return 407; }");
    let proxy = proxy.start(&office.path("")).unwrap();
    let way = format!("http://{}", proxy.address());
    let (file, url, id) = office.published("held.bin", 12 * MIB).unwrap();
    let a = office.agent("a").unwrap();
    a.get(&url, &office.path("a")).unwrap();
    wait_until("it has become a seed", PATIENCE, || {
        a.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    // A neighbour has it.
    let b = office.agent_with("b", OPEN_POLICY, &["--proxy", &way]).unwrap();
    assert_eq!(of_proxy(&b)["Level"], "pass", "nothing is known against it");
    let status = b.get(&url, &office.path("b")).unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert_eq!(number(&status, "BytesFromLanPeers"), 12 * MIB, "{status}");
    let warning = format!("the proxy {way} answers 407");
    assert!(status["Reasons"].to_string().contains(&warning), "{status}");
    let why = b.command(&["why", &id]).output().unwrap();
    assert!(String::from_utf8(why.stdout).unwrap().contains(&warning));
    let told = of_proxy(&b);
    assert_eq!(told["Level"], "fail", "{told}");
    assert!(told["Sentences"][0].as_str().unwrap().contains(&way), "{told}");
    // A cache has it: with a record, and in simple mode.
    let cache = Nginx::serve(office.root()).start(&office.path("")).unwrap();
    let cached = format!("cache_host = \"{}\"\n", cache.address());
    for (name, mode) in [("c", "http_only"), ("d", "simple")] {
        let policy = format!("{OPEN_POLICY}{cached}download_mode = \"{mode}\"\n");
        let agent = office.agent_with(name, &policy, &["--proxy", &way]).unwrap();
        let status = agent.get(&url, &office.path(name)).unwrap();
        assert!(same_file(&file, &office.path(name)).unwrap());
        assert_eq!(number(&status, "BytesFromCacheServer"), 12 * MIB, "{status}");
    }
}

#[test]
fn a_proxy_that_refuses_a_tunnel_is_told_apart_from_one_that_is_down() {
    let office = Office::with_https(184, &[]).unwrap();
    let ca = office.ca().unwrap().to_str().unwrap().to_owned();
    let proxy = Proxy::start(&office.path(""), "BasicAuth me hunter2");
    let (file, url, id) = office.published("tls.bin", 6 * MIB).unwrap();
    let a = office.agent_with("a", OPEN_POLICY, &["--origin-ca", &ca]).unwrap();
    a.get(&url, &office.path("a")).unwrap();
    wait_until("it has become a seed", PATIENCE, || {
        a.file(&id).unwrap().is_some_and(|row| row["Status"] == "Caching")
    });
    let named = format!("http://{}", proxy.address);
    for (name, way, says, level) in [
        ("nobody", named.as_str(), format!("the proxy {named} answers 407"), "fail"),
        (
            "down",
            "http://127.0.0.1:1",
            "could not connect through the proxy http://127.0.0.1:1".to_owned(),
            "warn",
        ),
    ] {
        let agent = office.agent_with(name, OPEN_POLICY, &["--origin-ca", &ca, "--proxy", way]).unwrap();
        let status = agent.get(&url, &office.path(name)).unwrap();
        assert!(same_file(&file, &office.path(name)).unwrap());
        assert_eq!(number(&status, "BytesFromLanPeers"), 6 * MIB, "{status}");
        assert!(status["Reasons"].to_string().contains(&says), "{status}");
        let told = of_proxy(&agent);
        assert_eq!(told["Level"], level, "{told}");
    }
}
