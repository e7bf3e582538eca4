//! Connected caches: whose bytes they save, what follows when they fail, lie or are forbidden, and who may name them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use peerage_testkit::{
    Agent, Nginx, OPEN_POLICY, Office, SystemBus, TestCa, number, random_file, same_file, wait_until,
};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// As many looks at a download without a new byte, each after at least 10 ms, count as a standstill.
const STILL: u32 = 60;
/// Nothing listens there.
const DEAD: &str = "127.0.0.1:1";

fn policy(lines: &str) -> String {
    format!("{OPEN_POLICY}{lines}\n")
}

fn named(hosts: &str) -> String {
    policy(&format!("cache_host = \"{hosts}\""))
}

/// A cache that has whatever the origin has.
fn cache(office: &Office, directives: &[&str]) -> Nginx {
    cache_of(office, &office.root(), directives)
}

fn cache_of(office: &Office, root: &Path, directives: &[&str]) -> Nginx {
    let nginx = directives.iter().fold(Nginx::serve(root), |nginx, line| nginx.directive(line));
    nginx.start(&office.path("")).unwrap()
}

fn host(nginx: &Nginx) -> String {
    nginx.address().to_string()
}

/// Bytes of bodies that it has sent.
fn sent(nginx: &Nginx) -> u64 {
    nginx.hits().unwrap().iter().map(|hit| hit.body_bytes).sum()
}

/// The row of the only download.
fn row(agent: &Agent) -> Option<Value> {
    agent.status().unwrap().pop()
}

fn has(agent: &Agent, key: &str) -> u64 {
    row(agent).map_or(0, |row| number(&row, key))
}

fn reasons(agent: &Agent) -> String {
    row(agent).map_or_else(String::new, |row| row["Reasons"].to_string())
}

fn stands_still(agent: &Agent) {
    let (mut last, mut same) = (u64::MAX, 0);
    wait_until("the download stands still", PATIENCE, || {
        let now = has(agent, "FileSizeInCache");
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same >= STILL
    });
}

fn why(agent: &Agent, file: &str) -> String {
    let output = agent.command(&["why", file]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_cache_serves_every_mode_and_the_origin_sends_nothing() {
    let office = Office::new(61, &[]).unwrap();
    let cache = cache(&office, &[]);
    let (file, url, id) = office.published("all.bin", 12 * MIB + 5).unwrap();
    let before = office.origin_bytes().unwrap();
    for (name, mode) in
        [("m0", "http_only"), ("m1", "lan"), ("m2", "group"), ("m99", "simple"), ("m100", "bypass")]
    {
        let lines = format!("download_mode = \"{mode}\"\ncache_host = \"{}\"", host(&cache));
        let agent = office.agent_with(name, &policy(&lines), &[]).unwrap();
        let (out, seen) = (office.path(name), sent(&cache));
        let status = agent.get(&url, &out).unwrap();
        assert!(same_file(&file, &out).unwrap());
        assert_eq!(
            (number(&status, "BytesFromCdn"), number(&status, "BytesFromHttp")),
            (0, number(&status, "BytesFromCacheServer")),
            "{status}"
        );
        let from_cache = number(&status, "BytesFromCacheServer");
        // The second device in mode `lan` and `group` has a neighbour.
        assert_eq!(from_cache + number(&status, "BytesFromPeers"), 12 * MIB + 5, "{status}");
        assert!(
            ["m0", "m99", "m100"].iter().all(|alone| *alone != name) || from_cache == 12 * MIB + 5,
            "{status}"
        );
        assert!(status["Reasons"].to_string().contains("asked before the origin"), "{status}");
        assert!(sent(&cache) >= seen + from_cache, "{name}");
        let told = why(&agent, if mode == "simple" || mode == "bypass" { &url } else { &id });
        assert!(told.contains("came from a connected cache") && told.contains(&host(&cache)), "{told}");
    }
    assert_eq!(office.origin_bytes().unwrap(), before, "the origin was asked for bytes");
    assert!(cache.hits().unwrap().iter().all(|hit| hit.path == "/all.bin"));
    // For people.
    let agent =
        office.agent_with("human", &format!("{}download_mode = 0\n", named(&host(&cache))), &[]).unwrap();
    let output = agent.command(&["get", &url, "-o"]).arg(office.path("human.out")).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("all from the cache server"), "{text}");
    let shown = agent.command(&["config"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("Connected caches (from cache_host):") && shown.contains(&host(&cache)),
        "{shown}"
    );
}

#[test]
fn one_failure_leads_to_the_next_cache_and_then_to_the_origin() {
    let office = Office::new(61, &[]).unwrap();
    let empty = office.path("empty");
    fs::create_dir(&empty).unwrap();
    let (good, missing, busy) = (
        cache(&office, &[]),
        cache_of(&office, &empty, &[]),
        cache(&office, &["location / { return 503; }"]),
    );
    let away = cache(&office, &["location / { return 302 http://127.0.0.1:1/; }"]);
    let (file, url, id) = office.published("fail.bin", 9 * MIB).unwrap();
    for (name, mode) in [("swarm", "http_only"), ("plain", "simple")] {
        let all = [DEAD, &host(&missing), &host(&busy), &host(&away), &host(&good)].join(", ");
        let mode = format!("download_mode = \"{mode}\"\n");
        let agent = office.agent_with(name, &format!("{}{mode}", named(&all)), &[]).unwrap();
        let out = office.path(name);
        let status = agent.get(&url, &out).unwrap();
        assert!(same_file(&file, &out).unwrap());
        assert_eq!(
            (number(&status, "BytesFromCacheServer"), number(&status, "BytesFromCdn")),
            (9 * MIB, 0),
            "{status}"
        );
        let told = why(&agent, if name == "plain" { &url } else { &id });
        for failed in [DEAD, &host(&missing), &host(&busy), &host(&away)] {
            assert!(told.contains(&format!("{failed}, a connected cache, failed")), "{failed} in {told}");
        }
        // All of them are out of use: the next download does not ask them again.
        let config = agent.config().unwrap();
        assert!(config["Caches"]["Hosts"][0]["OutOfUse"].as_u64().is_some_and(|left| left > 200), "{config}");
        let last = office.agent_with(
            &format!("{name}2"),
            &format!("{}{mode}", named(&format!("{DEAD}, {}", host(&busy)))),
            &[],
        );
        let last = last.unwrap();
        let status = last.get(&url, &office.path(&format!("{name}2"))).unwrap();
        assert_eq!(
            (number(&status, "BytesFromCacheServer"), number(&status, "BytesFromCdn")),
            (0, 9 * MIB),
            "{status}"
        );
        let asked = busy.hits().unwrap().len();
        let (other, other_url, _) = office.published(&format!("{name}.bin"), 5 * MIB).unwrap();
        last.get(&other_url, &office.path(&format!("{name}3"))).unwrap();
        assert!(same_file(&other, &office.path(&format!("{name}3"))).unwrap());
        assert_eq!(busy.hits().unwrap().len(), asked, "it is left alone by the next download");
    }
}

#[test]
fn the_delay_keeps_the_origin_waiting_while_the_caches_are_asked_in_turn() {
    for (name, mode) in [("swarm", "http_only"), ("plain", "simple")] {
        let office = Office::new(61, &[]).unwrap();
        let (file, url, _) = office.published("delay.bin", 9 * MIB).unwrap();
        let before = office.origin_bytes().unwrap();
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let later = probe.local_addr().unwrap();
        drop(probe);
        let lines = format!(
            "download_mode = \"{mode}\"\ncache_host = \"{DEAD}, {later}\"\n\
             delay_cache_server_fallback_background = 3600\ndelay_cache_server_fallback_foreground = 0"
        );
        let agent = office.agent_with(name, &policy(&lines), &[]).unwrap();
        let job = agent.begin_get(&url, &office.path("back"), &[]).unwrap();
        wait_until("it waits", PATIENCE, || reasons(&agent).contains("in favour of connected caches"));
        stands_still(&agent);
        assert_eq!((has(&agent, "FileSizeInCache"), office.origin_bytes().unwrap()), (0, before));
        // In the foreground the delay is another one.
        let (front, front_url, _) = office.published("front.bin", 5 * MIB).unwrap();
        let published = office.origin_bytes().unwrap();
        agent.begin_get(&front_url, &office.path("front"), &["--foreground"]).unwrap().json().unwrap();
        assert!(same_file(&front, &office.path("front")).unwrap());
        assert_eq!(office.origin_bytes().unwrap(), published + 5 * MIB);
        // The second one comes up while the origin waits.
        let cache = Nginx::serve(office.root()).port(later.port()).start(&office.path("")).unwrap();
        let status = job.json().unwrap();
        assert!(same_file(&file, &office.path("back")).unwrap());
        assert_eq!(
            (number(&status, "BytesFromCacheServer"), number(&status, "BytesFromCdn")),
            (9 * MIB, 0),
            "{status}"
        );
        assert!(sent(&cache) >= 9 * MIB);
    }
}

#[test]
fn the_end_of_the_delay_lets_the_origin_in() {
    let office = Office::new(61, &[]).unwrap();
    let (file, url, _) = office.published("end.bin", 9 * MIB).unwrap();
    let lines = |delay: u64| {
        policy(&format!("cache_host = \"{DEAD}\"\ndelay_cache_server_fallback_background = {delay}"))
    };
    // It passes by itself …
    let a = office.agent_with("a", &lines(2), &[]).unwrap();
    let status = a.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert_eq!(number(&status, "BytesFromCdn"), 9 * MIB, "{status}");
    // … or is lifted.
    a.set_policy(&policy("download_mode = 0")).unwrap();
    let b = office.agent_with("b", &format!("{}download_mode = 0\n", lines(3600)), &[]).unwrap();
    let job = b.begin_get(&url, &office.path("b"), &[]).unwrap();
    wait_until("it waits", PATIENCE, || reasons(&b).contains("in favour of connected caches"));
    stands_still(&b);
    assert_eq!(has(&b, "BytesFromCdn"), 0);
    b.set_policy(&format!("{}download_mode = 0\n", lines(0))).unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert_eq!(number(&status, "BytesFromCdn"), 9 * MIB, "{status}");
}

#[test]
fn another_list_moves_running_downloads_at_once() {
    let office = Office::new(61, &["limit_rate 1m;"]).unwrap();
    let cache = cache(&office, &["limit_rate 4m;"]);
    let (file, url, _) = office.published("hot.bin", 36 * MIB).unwrap();
    for (name, mode) in [("swarm", "http_only"), ("plain", "simple")] {
        let without = policy(&format!("download_mode = \"{mode}\""));
        let with = format!("{without}cache_host = \"{}\"\n", host(&cache));
        let agent = office.agent_with(name, &without, &[]).unwrap();
        let out = office.path(name);
        let job = agent.begin_get(&url, &out, &[]).unwrap();
        wait_until("it comes from the origin", PATIENCE, || has(&agent, "BytesFromCdn") >= 2 * MIB);
        agent.set_policy(&with).unwrap();
        wait_until("it comes from the cache", PATIENCE, || has(&agent, "BytesFromCacheServer") >= 2 * MIB);
        let row = row(&agent).unwrap();
        assert_eq!(row["CacheHost"], host(&cache), "{row}");
        assert!(
            number(&row, "CacheServerConnectionCount") > 0 && number(&row, "HttpConnectionCount") == 0,
            "{row}"
        );
        let from_origin = has(&agent, "BytesFromCdn");
        wait_until("more comes from the cache", PATIENCE, || has(&agent, "BytesFromCacheServer") >= 6 * MIB);
        assert_eq!(has(&agent, "BytesFromCdn"), from_origin, "the origin is left alone");
        agent.set_policy(&without).unwrap();
        wait_until("it comes from the origin again", PATIENCE, || {
            has(&agent, "BytesFromCdn") >= from_origin + 2 * MIB
        });
        let from_cache = has(&agent, "BytesFromCacheServer");
        agent.set_policy(&with).unwrap();
        let status = job.json().unwrap();
        assert!(same_file(&file, &out).unwrap());
        assert!(number(&status, "BytesFromCacheServer") >= from_cache + 8 * MIB, "{status}");
        // A little was cut off on its way and came again.
        let total = number(&status, "TotalBytesDownloaded");
        assert!((36 * MIB..40 * MIB).contains(&total), "{status}");
    }
}

#[test]
fn a_vpn_forbids_caches_where_policy_says_so() {
    const NM: &str = "org.freedesktop.NetworkManager";
    const NM_PATH: &str = "/org/freedesktop/NetworkManager";
    let office = Office::new(61, &["limit_rate 2m;"]).unwrap();
    let cache = cache(&office, &["limit_rate 2m;"]);
    let mut bus = SystemBus::start(&office.path("bus.d")).unwrap();
    bus.mock("networkmanager", NM).unwrap();
    let (file, url, _) = office.published("vpn.bin", 40 * MIB).unwrap();
    // The conditions of the device count, as by default; what delays there are concern nobody on a VPN.
    let lines = format!(
        "min_ram_allowed_to_peer = 1\nmin_disk_size_allowed_to_peer = 1\nmin_file_size_to_cache = 1\n\
         cache_host = \"{}\"\ndisallow_cache_server_downloads_on_vpn = true\n\
         delay_cache_server_fallback_background = 3600\n",
        host(&cache)
    );
    let env = [("DBUS_SYSTEM_BUS_ADDRESS", bus.address())];
    let agent = office.agent_in("a", &lines, &[], &env).unwrap();
    let job = agent.begin_get(&url, &office.path("a"), &[]).unwrap();
    wait_until("it comes from the cache", PATIENCE, || has(&agent, "BytesFromCacheServer") >= 2 * MIB);
    assert_eq!(has(&agent, "BytesFromCdn"), 0);
    let active = "/org/freedesktop/NetworkManager/ActiveConnection/7";
    let interface = "org.freedesktop.NetworkManager.Connection.Active";
    let properties = "{'Id': <'Head Office VPN'>, 'Type': <'tun'>, 'State': <uint32 2>}";
    let add = "org.freedesktop.DBus.Mock.AddObject";
    bus.call(NM, NM_PATH, add, &[active, interface, properties, "@a(ssss) []"]).unwrap();
    bus.set(NM, NM_PATH, NM, "ActiveConnections", &format!("[objectpath '{active}']")).unwrap();
    wait_until("it comes from the origin", PATIENCE, || has(&agent, "BytesFromCdn") >= 2 * MIB);
    assert!(reasons(&agent).contains("disallow_cache_server_downloads_on_vpn"), "{}", reasons(&agent));
    let from_cache = has(&agent, "BytesFromCacheServer");
    bus.set(NM, NM_PATH, NM, "ActiveConnections", "@ao []").unwrap();
    let status = job.json().unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert!(number(&status, "BytesFromCacheServer") > from_cache + 8 * MIB, "{status}");
}

/// A directory with a file of the same name, size and date as `file`, and other bytes.
fn forged(office: &Office, file: &Path) -> PathBuf {
    let root = office.path("forged");
    fs::create_dir(&root).unwrap();
    let (there, meta) = (root.join(file.file_name().unwrap()), fs::metadata(file).unwrap());
    random_file(&there, 4711, meta.len()).unwrap();
    File::options().write(true).open(&there).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    root
}

#[test]
fn wrong_bytes_are_dropped_told_and_the_origin_asked() {
    let office = Office::new(61, &[]).unwrap();
    let (file, url, id) = office.published("lie.bin", 12 * MIB).unwrap();
    let liar = cache_of(&office, &forged(&office, &file), &[]);
    let lines = format!("{}delay_cache_server_fallback_background = 3600\n", named(&host(&liar)));
    let agent = office.agent_with("a", &lines, &[]).unwrap();
    let status = agent.get(&url, &office.path("a")).unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert!(sent(&liar) >= MIB && number(&status, "WastedBytes") >= MIB, "{status}");
    assert!(number(&status, "BytesFromCdn") >= 12 * MIB, "{status}");
    let told = why(&agent, &id);
    assert!(told.contains(&format!("{}, a connected cache, sent wrong bytes", host(&liar))), "{told}");
    // The next download does not ask it again.
    let asked = liar.hits().unwrap().len();
    let (other, other_url, _) = office.published("truth.bin", 5 * MIB).unwrap();
    agent.set_policy(&named(&host(&liar))).unwrap();
    wait_until("the delay is lifted", PATIENCE, || {
        let config = agent.config().unwrap();
        let rows = config["Settings"].as_array().unwrap();
        rows.iter().any(|row| {
            row["Name"] == "delay_cache_server_fallback_background" && row["Effective"]["Text"] == "0 s"
        })
    });
    agent.get(&other_url, &office.path("b")).unwrap();
    assert!(same_file(&other, &office.path("b")).unwrap());
    assert_eq!(liar.hits().unwrap().len(), asked);
}

#[test]
fn without_a_record_an_old_copy_is_passed_over_and_a_forged_one_found_by_its_hash() {
    let office = Office::new(61, &[]).unwrap();
    let file = office.file("plain.bin", 6 * MIB).unwrap();
    let url = office.origin.url("plain.bin");
    let root = forged(&office, &file);
    let liar = cache_of(&office, &root, &[]);
    let simple = format!("{}download_mode = \"simple\"\n", named(&host(&liar)));
    // Nothing tells it from the real one but a hash.
    let agent = office.agent_with("a", &simple, &[]).unwrap();
    let sha256 = {
        let out = std::process::Command::new("sha256sum").arg(&file).output().unwrap();
        String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap().to_owned()
    };
    let args = ["--sha256", sha256.as_str()];
    let output = agent.begin_get(&url, &office.path("a"), &args).unwrap().output().unwrap();
    assert!(!output.status.success() && !office.path("a").exists(), "{}", output.stderr);
    // Having found that, the agent asks the origin.
    let status = agent.begin_get(&url, &office.path("a"), &args).unwrap().json().unwrap();
    assert!(same_file(&file, &office.path("a")).unwrap());
    assert_eq!(number(&status, "BytesFromCdn"), 6 * MIB, "{status}");
    // Another date, and so another ETag: an old copy.
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(root.join("plain.bin")).unwrap().set_modified(old).unwrap();
    let agent = office.agent_with("b", &simple, &[]).unwrap();
    let status = agent.get(&url, &office.path("b")).unwrap();
    assert!(same_file(&file, &office.path("b")).unwrap());
    assert_eq!(number(&status, "BytesFromCdn"), 6 * MIB, "{status}");
    let told = why(&agent, &url);
    assert!(told.contains("its copy is not the origin's file: ETag"), "{told}");
}

#[test]
fn https_is_never_asked_for_in_clear_text() {
    let office = Office::with_https(61, &[]).unwrap();
    let (ca, cache_ca) = (office.ca().unwrap().to_owned(), TestCa::new().unwrap());
    let cache_pem = office.path("cache-ca.pem");
    fs::write(&cache_pem, cache_ca.cert_pem()).unwrap();
    let identity = cache_ca.issue("cache.example", Ipv4Addr::LOCALHOST.into()).unwrap();
    let secure = Nginx::serve(office.root()).tls(identity).start(&office.path("")).unwrap();
    let clear = cache(&office, &[]);
    let (file, url, _) = office.published("tls.bin", 6 * MIB).unwrap();
    let args = |pems: &[&Path]| -> Vec<String> {
        pems.iter().flat_map(|pem| ["--origin-ca".to_owned(), pem.to_str().unwrap().to_owned()]).collect()
    };
    let start = |name: &str, hosts: &str, mode: &str, args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let lines = format!("{}download_mode = \"{mode}\"\n", named(hosts));
        let agent = office.agent_with(name, &lines, &args).unwrap();
        let status = agent.get(&url, &office.path(name)).unwrap();
        assert!(same_file(&file, &office.path(name)).unwrap());
        (number(&status, "BytesFromCacheServer"), number(&status, "BytesFromCdn"))
    };
    for mode in ["http_only", "simple"] {
        let both = args(&[&ca, &cache_pem]);
        assert_eq!(start(&format!("{mode}-clear"), &host(&clear), mode, &both), (0, 6 * MIB));
        assert_eq!(start(&format!("{mode}-tls"), &host(&secure), mode, &both), (6 * MIB, 0));
        // Nobody vouches for its certificate.
        assert_eq!(start(&format!("{mode}-stranger"), &host(&secure), mode, &args(&[&ca])), (0, 6 * MIB));
    }
    assert!(clear.hits().unwrap().iter().all(|hit| hit.path != "/tls.bin"), "{:?}", clear.hits());
}

#[test]
fn a_url_with_a_secret_is_shown_to_no_cache() {
    let office = Office::new(61, &[]).unwrap();
    let cache = cache(&office, &[]);
    let file = office.file("own.bin", 3 * MIB).unwrap();
    let agent = office.agent_with("a", &named(&host(&cache)), &[]).unwrap();
    for (out, query) in [("a", "X-Amz-Signature=deadbeef"), ("b", "cacheHostOrigin=elsewhere.example")] {
        let url = format!("{}?{query}", office.origin.url("own.bin"));
        let status = agent.get(&url, &office.path(out)).unwrap();
        assert!(same_file(&file, &office.path(out)).unwrap());
        assert_eq!(number(&status, "BytesFromCdn"), 3 * MIB, "{status}");
        assert!(status["Reasons"].to_string().contains("connected caches are not asked"), "{status}");
    }
    assert_eq!(cache.hits().unwrap(), []);
}

/// The nginx of `docs/cache-hosts.md`, for the origins of this machine.
fn nginx_as_documented(office: &Office) -> Nginx {
    let book = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cache-hosts.md")).unwrap();
    let (_, text) = book.split_once("```nginx\n").unwrap();
    let (text, _) = text.split_once("```").unwrap();
    let (http, server) = text.split_once("server {").unwrap();
    let http = http
        .replace("/var/cache/nginx/peerage", office.path("nginx-cache").to_str().unwrap())
        .replace("(downloads\\.example|mirror\\.example)", "127\\.0\\.0\\.1");
    let (_, location) = server.split_once("resolver 10.0.0.53;").unwrap();
    let location = location.trim_end().strip_suffix('}').unwrap();
    Nginx::serve(office.root()).http_directive(&http).directive(location).start(&office.path("")).unwrap()
}

#[test]
fn the_documented_nginx_fetches_a_file_once_for_all_devices() {
    let office = Office::new(61, &[]).unwrap();
    let cache = nginx_as_documented(&office);
    let (file, url, _) = office.published("once.bin", 9 * MIB + 77).unwrap();
    let before = office.origin_bytes().unwrap();
    for (name, mode) in [("a", "http_only"), ("b", "simple"), ("c", "http_only")] {
        let lines = format!("{}download_mode = \"{mode}\"\n", named(&host(&cache)));
        let agent = office.agent_with(name, &lines, &[]).unwrap();
        // The query is the origin's own business.
        let status = agent.get(&url, &office.path(name)).unwrap();
        assert!(same_file(&file, &office.path(name)).unwrap());
        assert_eq!(number(&status, "BytesFromCacheServer"), 9 * MIB + 77, "{status}");
    }
    assert_eq!(office.origin_bytes().unwrap(), before + 9 * MIB + 77);
    // An origin that it is not to serve.
    let other = Nginx::serve(office.root()).start(&office.path("")).unwrap();
    let hits = cache.hits().unwrap().len();
    let url = other.url("once.bin").replace("127.0.0.1", "localhost");
    let agent =
        office.agent_with("d", &format!("{}download_mode = 99\n", named(&host(&cache))), &[]).unwrap();
    let status = agent.get(&url, &office.path("d")).unwrap();
    assert_eq!(number(&status, "BytesFromCdn"), 9 * MIB + 77, "{status}");
    assert_eq!(cache.hits().unwrap().get(hits).map(|hit| hit.status), Some(403));
}
