//! `peerage lab` as a user runs it: what it prints, how it ends, and that nothing is left of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use peerage_testkit::{Finished, Process, peerage_bin, random_file, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(150);

/// A directory for the lab, and one for what goes in and comes out.
struct Bench {
    own: tempfile::TempDir,
    lab: tempfile::TempDir,
}

/// A run that has ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Self {
        Self { own: tempfile::tempdir().unwrap(), lab: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.own.path().join(name)
    }

    fn file(&self, size: u64) -> PathBuf {
        let path = self.path("update.bin");
        random_file(&path, size, size).unwrap();
        path
    }

    fn start(&self, args: &[&str], source: &Path) -> Process {
        let mut command = Command::new(peerage_bin().unwrap());
        command.args(["lab", "--dir"]).arg(self.lab.path()).args(args).arg(source);
        Process::spawn("lab", command, self.own.path()).unwrap()
    }

    fn run(&self, args: &[&str], source: &Path) -> Ended {
        let end = self.start(args, source).wait(LIMIT).unwrap();
        self.ended(end)
    }

    fn ended(&self, end: Finished) -> Ended {
        let read = |name| fs::read_to_string(self.path(name)).unwrap();
        Ended { code: end.status.code(), stdout: read("lab.stdout"), stderr: read("lab.stderr") }
    }

    /// What the lab has left in its directory.
    fn left(&self) -> Vec<PathBuf> {
        fs::read_dir(self.lab.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// A run that takes minutes, and its children, once all of them are there and bytes flow.
    fn long_run(&self, devices: usize) -> (Process, Vec<i32>) {
        let file = self.file(32 * MIB);
        let lab = self.start(&["--devices", &devices.to_string(), "--uplink", "1mbit"], &file);
        wait_until("the downloads have begun", PATIENCE, || lab.stderr().contains("0/"));
        let children = children(lab.pid());
        assert_eq!(children.len(), devices + 2, "one for each device, origin, coordinator");
        (lab, children)
    }
}

impl Ended {
    /// The one object on stdout.
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

fn children(pid: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// Whether a process still runs. One that nobody has waited for yet does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn signal(process: &Process, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn lab_devices_that_start_together_share_one_download() {
    let bench = Bench::new();
    let size = 8 * MIB + 77;
    let ended = bench.run(&["--devices", "3", "--uplink", "40mbit", "--json"], &bench.file(size));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let json = ended.json();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = [
        "all_correct",
        "bound_seconds",
        "devices",
        "file_bytes",
        "origin_bytes",
        "origin_copies",
        "per_device",
        "percent_from_peers",
        "seconds",
    ];
    assert_eq!(keys, promised);
    assert_eq!((number(&json["devices"]), number(&json["file_bytes"])), (3, size));
    assert_eq!(json["all_correct"], true);
    // Without peers it would be 3.
    let copies = json["origin_copies"].as_f64().unwrap();
    assert!((1.0..2.0).contains(&copies), "{json}");
    assert!(json["percent_from_peers"].as_f64().unwrap() > 30.0, "{json}");
    let (seconds, bound) = (json["seconds"].as_f64().unwrap(), json["bound_seconds"].as_f64().unwrap());
    assert!((bound - size as f64 / 5e6).abs() < 0.001 && seconds > bound * 0.9, "{json}");
    let devices = json["per_device"].as_array().unwrap();
    let addresses: Vec<_> = devices.iter().map(|device| device["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["127.77.0.10", "127.77.0.11", "127.77.0.12"]);
    for device in devices {
        assert_eq!(device["correct"], true);
        assert!(
            number(&device["bytes_from_origin"]) + number(&device["bytes_from_peers"]) >= size,
            "{device}"
        );
        assert!(number(&device["peak_rss_bytes"]) > MIB, "{device}");
    }
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn lab_staggered_devices_take_everything_from_the_first() {
    let bench = Bench::new();
    let size = 8 * MIB;
    let ended =
        bench.run(&["--stagger", "--devices", "3", "--uplink", "40mbit", "--json"], &bench.file(size));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let json = ended.json();
    let devices = json["per_device"].as_array().unwrap();
    assert_eq!(number(&devices[0]["bytes_from_origin"]), size);
    assert_eq!(number(&devices[0]["bytes_from_peers"]), 0);
    for later in &devices[1..] {
        assert!(later["percent_from_peers"].as_f64().unwrap() > 90.0, "{later}");
    }
}

#[test]
fn lab_tables_tell_why_no_peer_helped() {
    let bench = Bench::new();
    let policy = bench.path("policy.toml");
    fs::write(&policy, "download_mode = \"http_only\"\n").unwrap();
    let args = ["--devices", "2", "--policy", policy.to_str().unwrap()];
    let ended = bench.run(&args, &bench.file(3 * MIB));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for part in [
        "DEVICE  ADDRESS",
        "= 2.00 copies of the file\n",
        "from peers  0.0 %",
        "no peers    device 1: ",
        "download_mode",
        "all 2 devices have the right file\n",
    ] {
        assert!(ended.stdout.contains(part), "{part:?} is not in\n{}", ended.stdout);
    }
}

#[test]
fn lab_refuses_what_cannot_be_run_before_it_starts_anything() {
    let bench = Bench::new();
    let (file, policy) = (bench.file(MIB), bench.path("policy.toml"));
    fs::write(&policy, "download_mode = \"sideways\"\n").unwrap();
    let wrong_policy = bench.run(&["--policy", policy.to_str().unwrap()], &file);
    assert_eq!((wrong_policy.code, wrong_policy.stdout.as_str()), (Some(2), ""));
    assert!(wrong_policy.stderr.contains("download_mode"), "{}", wrong_policy.stderr);
    let no_file = bench.run(&[], &bench.path("missing"));
    assert_eq!(no_file.code, Some(2));
    assert!(no_file.stderr.contains("missing"), "{}", no_file.stderr);
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

/// An origin that sends other bytes on each request: no two whole copies are the same.
fn lying_origin(size: usize) -> String {
    static TURN: AtomicU8 = AtomicU8::new(0);
    fn answer(stream: TcpStream, size: usize) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let (mut head, mut range) = (String::new(), None);
            reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("range: bytes=") {
                    let (from, to) = value.split_once('-')?;
                    range = Some((from.parse::<usize>().ok()?, to.parse().unwrap_or(size - 1)));
                }
            }
            let (from, to) = range.unwrap_or((0, size - 1));
            let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
            let len = to + 1 - from;
            let fields = format!(
                "Content-Length: {len}\r\nAccept-Ranges: bytes\r\nContent-Range: bytes {from}-{to}/{size}"
            );
            write!(stream, "HTTP/1.1 {status}\r\n{fields}\r\n\r\n").ok()?;
            if !head.starts_with("HEAD") {
                stream.write_all(&vec![TURN.fetch_add(1, Ordering::Relaxed); len]).ok()?;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/lies.bin", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, size));
        }
    });
    url
}

#[test]
fn lab_fails_when_devices_do_not_have_the_same_file() {
    let bench = Bench::new();
    let url = lying_origin(3 * MIB as usize);
    let ended = bench.run(&["--devices", "2", "--json"], Path::new(&url));
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    let json = ended.json();
    assert_eq!(json["all_correct"], false);
    assert!(
        json["per_device"].as_array().unwrap().iter().any(|device| device["error"].is_string()),
        "{json}"
    );
}

#[test]
fn lab_leaves_nothing_after_ctrl_c() {
    let bench = Bench::new();
    let (mut lab, children) = bench.long_run(3);
    signal(&lab, Signal::INT);
    let ended = bench.ended(lab.wait(PATIENCE).unwrap());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{}", ended.stderr);
    assert!(!children.iter().any(|pid| runs(*pid)), "{children:?}");
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn lab_leaves_no_process_when_it_is_killed_and_the_next_one_cleans_up() {
    let bench = Bench::new();
    let (mut lab, children) = bench.long_run(2);
    lab.kill().unwrap();
    wait_until("its children have ended", PATIENCE, || !children.iter().any(|pid| runs(*pid)));
    assert_eq!(bench.left().len(), 1);
    let ended = bench.run(&["--devices", "1"], &bench.file(MIB));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn lab_says_which_process_ended_and_what_it_logged() {
    let bench = Bench::new();
    let (mut lab, children) = bench.long_run(2);
    let named = |pid: &&i32| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.contains("device-2/")
    };
    let victim = wait_for("device 2 is found", PATIENCE, || children.iter().find(named).copied());
    kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    let ended = bench.ended(lab.wait(PATIENCE).unwrap());
    assert_eq!(ended.code, Some(1));
    for part in [&format!("device 2 (process {victim}) ended: signal: 9"), "its log ends:\n", "enrolled"] {
        assert!(ended.stderr.contains(part), "{part:?} is not in\n{}", ended.stderr);
    }
    assert!(!children.iter().any(|pid| runs(*pid)), "{children:?}");
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}
