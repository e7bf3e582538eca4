//! DHCP options 234 and 235 from a real server: the group that they name, and what becomes of malformed ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use peerage_testkit::{
    Agent, Fleet, Host, Nginx, OPEN_POLICY, Process, World, random_file, same_file, wait_for, wait_until,
};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
const GUID: &str = "8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11";
/// Group mode, with the group that DHCP names.
const BY_DHCP: &str = "download_mode = \"group\"\ngroup_id_source = \"dhcp_option\"\n\
                       restrict_peer_selection_by = \"none\"\n";

/// dnsmasq as DHCP server of `host`, whose address ends in .1.
fn dnsmasq(host: &Host, dir: &Path, options: &[&str]) -> Process {
    let mut command = host.command("/usr/sbin/dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--port=0",
        "--user=root",
        "--conf-file=/dev/null",
        "--log-facility=-",
    ]);
    command.args(["--dhcp-range=10.97.0.100,10.97.0.200,1h", "--dhcp-authoritative", "--no-ping"]);
    command.arg(format!("--dhcp-leasefile={}", dir.join("leases").display()));
    command.arg(format!("--pid-file={}", dir.join("pid").display()));
    command.args(options.iter().map(|option| format!("--dhcp-option-force={option}")));
    let process = Process::spawn("dnsmasq", command, dir).unwrap();
    wait_until("the DHCP server listens", PATIENCE, || {
        host.run("ss", ["-lunH", "sport", "=", ":67"]).is_ok_and(|text| text.contains(":67"))
    });
    process
}

struct Link {
    dir: tempfile::TempDir,
    world: World,
    lan: peerage_testkit::Bridge,
    server: Host,
}

impl Link {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new().unwrap();
        let lan = world.bridge("lan").unwrap();
        let server = lan.host("dhcp", "10.97.0.1/24").unwrap();
        Self { dir, world, lan, server }
    }

    /// An agent that is not enrolled: naming needs no coordinator.
    fn agent(&self, last: u8, lines: &str) -> Agent {
        let host = self.lan.host(&format!("d{last}"), &format!("10.97.0.{last}/24")).unwrap();
        let at = SocketAddr::new(host.ip(), 7680);
        let policy = format!("{OPEN_POLICY}{lines}");
        let dir = self.dir.path().join(format!("agent{last}"));
        Agent::start(&dir, &format!("d{last}"), at, Some(&host), &policy, Vec::new()).unwrap()
    }
}

fn config(agent: &Agent) -> Value {
    let out = agent.command(&["config", "--json"]).output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap()
}

/// The configuration once the DHCP server has been asked.
fn settled(agent: &Agent, done: impl Fn(&Value) -> bool) -> Value {
    wait_for("DHCP has been asked", PATIENCE, || Some(config(agent)).filter(|config| done(config)))
}

fn failed(config: &Value, source: &str) -> String {
    let all = config["Group"]["Failed"].as_array().unwrap().iter();
    let mut of = all.filter(|row| row["Source"] == source);
    of.next().map(|row| row["Why"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn the_server_names_group_and_caches() {
    let link = Link::new();
    let options = [&format!("234,{GUID}"), "235,cache.example,10.97.0.7:8080"];
    let _server = dnsmasq(&link.server, link.dir.path(), &options.map(|option| option));
    let agent = link.agent(11, BY_DHCP);
    let found = settled(&agent, |config| config["Group"]["Source"] == "dhcp_option");
    assert_eq!(found["Group"]["GroupId"], GUID);
    // printf '%s\0' GUID | iconv -t UTF-16LE | openssl dgst -sha256 -binary | base64
    assert_eq!(found["Group"]["HashedGroupId"], "aM9ZIa2TlvuYqTjNras941WyGGEHdIIXw+Vaj4bifdc=");
    assert_eq!(found["DhcpCacheHosts"]["Hosts"], serde_json::json!(["cache.example", "10.97.0.7:8080"]));
    let shown = agent.command(&["config"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("Group: {GUID} (from dhcp_option)")), "{shown}");
    // The setting itself wins, at once.
    let own = "6f1c2a34-0000-4000-8000-000000000001";
    agent.set_policy(&format!("{OPEN_POLICY}{BY_DHCP}group_id = \"{own}\"\n")).unwrap();
    let found = settled(&agent, |config| config["Group"]["Source"] == "group_id");
    assert_eq!(found["Group"]["GroupId"], own);
}

#[test]
fn malformed_options_are_passed_over_with_a_reason() {
    let link = Link::new();
    // Bytes that are no text, and a list of which one entry is no host.
    let _server = dnsmasq(&link.server, link.dir.path(), &["234,ff:fe:00:01", "235,good.example,http://bad"]);
    let agent = link.agent(11, BY_DHCP);
    let found = settled(&agent, |config| failed(config, "dhcp_option").contains("malformed"));
    assert!(found["Group"]["GroupId"].is_null() || found["Group"]["Source"] != "dhcp_option", "{found}");
    // DO's order goes on with the other sources.
    assert!(!failed(&found, "ad_site").is_empty() || found["Group"]["Source"] == "ad_site", "{found}");
    assert!(
        found["DhcpCacheHosts"]["WhyNone"].as_str().unwrap().contains("option 235 is malformed"),
        "{found}"
    );
    assert_eq!(found["DhcpCacheHosts"]["Hosts"], serde_json::json!([]));
}

#[test]
fn an_address_that_is_sent_as_a_number_is_told_as_such() {
    let link = Link::new();
    // dnsmasq makes four bytes of it, as of every value that looks like an address; in quotes it stays text.
    let _server = dnsmasq(&link.server, link.dir.path(), &["234,\"Paris\"", "235,10.97.0.7"]);
    let agent = link.agent(11, BY_DHCP);
    let found = settled(&agent, |config| config["Group"]["Source"] == "dhcp_option");
    let why = found["DhcpCacheHosts"]["WhyNone"].as_str().unwrap();
    assert!(why.contains("the address 10.97.0.7 as number"), "{why}");
}

#[test]
fn a_link_without_a_server_says_so() {
    let link = Link::new();
    let agent = link.agent(11, BY_DHCP);
    let found = settled(&agent, |config| failed(config, "dhcp_option").contains("no server answers on eth0"));
    assert_ne!(found["Group"]["Source"], "dhcp_option");
}

#[test]
fn two_offices_are_two_groups_that_dhcp_names() {
    let link = Link::new();
    let _server = dnsmasq(&link.server, link.dir.path(), &["234,Paris"]);
    let head = link.lan.host("head", "10.97.0.3/24").unwrap();
    let origin_host = link.lan.host("origin", "10.97.0.2/24").unwrap();
    let root = link.dir.path().join("www");
    std::fs::create_dir_all(&root).unwrap();
    let file = root.join("f.bin");
    random_file(&file, 3, 8 * MIB).unwrap();
    let origin = Nginx::serve(&root).on(&origin_host).start(link.dir.path()).unwrap();
    // Every device is a site of its own, so that only the group makes them peers.
    let sites: String =
        (11..14).map(|last| format!("s{last} = [\"10.97.0.{last}/32\"]\n")).collect::<Vec<_>>().concat();
    let config = format!("ingest_allow = [\"10.97.0.0/24\"]\n[sites]\n{sites}");
    let listen = SocketAddr::new(head.ip(), 7690);
    let fleet = Fleet::start(&link.dir.path().join("fleet"), listen, Some(&head), &config).unwrap();
    let url = origin.url("f.bin");
    fleet.publish(&file, &url).unwrap();
    let device = |last: u8, lines: &str| {
        let host = link.lan.host(&format!("d{last}"), &format!("10.97.0.{last}/24")).unwrap();
        let at = SocketAddr::new(host.ip(), 7680);
        fleet.agent(&format!("d{last}"), at, Some(&host), &format!("{OPEN_POLICY}{lines}")).unwrap()
    };
    // The origin waits for the second one: else it has brought all before a peer of another site is asked.
    let patient = format!("{BY_DHCP}delay_background_download_from_http = 30\n");
    let (a, b) = (device(11, BY_DHCP), device(12, &patient));
    let lyon = "download_mode = \"group\"\ngroup_id = \"6f1c2a34-0000-4000-8000-000000000002\"\n";
    let c = device(13, lyon);
    for agent in [&a, &b] {
        let found = settled(agent, |config| config["Group"]["Source"] == "dhcp_option");
        // `uuidgen --sha1 --namespace @dns --name paris`
        assert_eq!(found["Group"]["GroupId"], "12c92cce-a675-51df-9da5-c91db5c631dd");
    }
    let get = |agent: &Agent, name: &str| {
        let out = link.dir.path().join(name);
        let row = agent.get(&url, &out).unwrap();
        assert!(same_file(&file, &out).unwrap());
        row
    };
    get(&a, "a");
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap();
    let row = get(&c, "c");
    assert_eq!(number(&row, "BytesFromPeers"), 0, "{row}");
    let row = get(&b, "b");
    assert!(number(&row, "BytesFromGroupPeers") > 0, "{row}");
    assert!(!link.world.namespaces().is_empty());
}

#[test]
fn caches_that_dhcp_names_are_used_as_far_as_they_may_be() {
    let link = Link::new();
    let _server = dnsmasq(&link.server, link.dir.path(), &["235,10.97.0.9,10.97.0.7:8080"]);
    let root = link.dir.path().join("www");
    std::fs::create_dir_all(&root).unwrap();
    let file = root.join("f.bin");
    random_file(&file, 3, 4 * MIB).unwrap();
    let (origin_host, cache_host) =
        (link.lan.host("origin", "10.97.0.2/24").unwrap(), link.lan.host("cache", "10.97.0.7/24").unwrap());
    let origin = Nginx::serve(&root).on(&origin_host).start(link.dir.path()).unwrap();
    let cache = Nginx::serve(&root).on(&cache_host).port(8080).start(link.dir.path()).unwrap();
    // Nothing verifies this file, and its URL is clear text. The first cache is not there.
    let agent = link.agent(11, "download_mode = \"simple\"\ncache_host_source = \"dhcp_option\"\n");
    let found = settled(&agent, |config| config["Caches"]["Source"] == "dhcp_option");
    assert_eq!(found["Caches"]["Hosts"][1]["Host"], "10.97.0.7:8080", "{found}");
    let get = |name: &str| {
        let out = link.dir.path().join(name);
        let row = agent.get(&origin.url("f.bin"), &out).unwrap();
        assert!(same_file(&file, &out).unwrap());
        (row["BytesFromCacheServer"].as_u64().unwrap(), row["BytesFromCdn"].as_u64().unwrap())
    };
    assert_eq!(get("a"), (4 * MIB, 0));
    assert!(cache.hits().unwrap().iter().any(|hit| hit.path == "/f.bin"));
    // On a VPN such bytes are not for whoever answers on the link.
    assert!(!link.world.namespaces().is_empty());
    let vpn = "vpn_keywords = \"eth\"\n";
    let lines = "download_mode = \"simple\"\ncache_host_source = \"dhcp_option\"\n";
    agent.set_policy(&format!("{OPEN_POLICY}{lines}{vpn}")).unwrap();
    settled(&agent, |config| config["Facts"]["VPN"].is_string());
    std::fs::write(root.join("f.bin"), std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(get("b"), (0, 4 * MIB));
    // What the administrator names is another matter, and by default wins over DHCP.
    agent.set_policy(&format!("{OPEN_POLICY}{lines}cache_host = \"\"\n")).unwrap();
    settled(&agent, |config| config["Caches"]["Hosts"] == serde_json::json!([]));
}
