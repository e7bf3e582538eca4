//! The command line from the outside: what it prints, where, and with which exit code it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use peerage_testkit::{
    Agent, Daemon, Fleet, Job, Nginx, OPEN_POLICY, number, peerage_bin, random_file, same_file, wait_until,
};
use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 3 * MIB + 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// `peerage ARGS` with no agent and no coordinator to be found, in `dir`.
fn peerage(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(peerage_bin().unwrap());
    command.args(args).current_dir(dir).env("PEERAGE_SOCKET", dir.join("none.sock"));
    for key in ["PEERAGE_COORDINATOR", "PEERAGE_ADMIN_TOKEN", "PEERAGE_LOG"] {
        command.env_remove(key);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs it and returns exit code, stdout, stderr.
fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    fs::write(dir.path().join("bad.toml"), "listne = 1").unwrap();
    let missing = "--token=@missing";
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["get"], "<URL>"),
        (&["get", "ftp://h/x"], "allowed are \"http\" and \"https\""),
        (&["get", "http://h/"], "-o FILE"),
        (&["get", "http://h/x", "-o", "."], "-o FILE"),
        (&["get", "http://h/x", "-o", "missing/x"], "missing"),
        (&["get", "http://h/x", "--id", "1234"], "64 hex digits"),
        (&["get", "notaurl"], "neither http:// nor https://"),
        (&["get", "http://h/x", "-o", "/proc/x"], "/proc cannot be written to"),
        (&["publish", "file"], "--url"),
        (&["publish", "file:///etc/passwd"], "http or https"),
        (&["publish", "http://h/x", "--url", "http://h/y"], "--url"),
        (&["publish", "file", "--url", "http://h/x", missing], "missing"),
        (&["publish", "file", "--url", "http://h/x", "--token", "x"], "peerage1-"),
        (&["files", "expire", "12", "soon"], "3d"),
        (&["enroll", "https://127.0.0.1:1", "--token", "x"], "peerage1-"),
        (&["agent", "--config", "bad.toml"], "listne"),
        (&["agent", "--config", "missing.toml"], "missing.toml"),
        (&["agent", "--data-dir", "a", "--coordinator", "http://h"], "begins with https://"),
        (&["coordinator", "--config", "bad.toml"], "listne"),
        (&["coordinator", "--data-dir", "c", "--ingest-allow", "a b"], "ingest_allow"),
        (&["coordinator", "--listen", "nowhere"], "nowhere"),
    ];
    for (args, expected) in cases {
        let (code, stdout, stderr) = run(peerage(dir.path(), args));
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
}

#[test]
fn nobody_there_ends_with_4() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["status"][..], &["files", "list"], &["config"]] {
        let (code, stdout, stderr) = run(peerage(dir.path(), args));
        assert_eq!((code, stdout.as_str()), (4, ""), "{args:?}: {stderr}");
        assert!(stderr.contains("none.sock") && stderr.contains("peerage agent"), "{stderr}");
    }
}

#[test]
fn completions_and_help_are_there() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = run(peerage(dir.path(), &["completions", shell]));
        assert!(code == 0 && stdout.contains("peerage") && stdout.contains("foreground"), "{shell}");
    }
    let (code, stdout, stderr) = run(peerage(dir.path(), &["--version"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("peerage "), "{stdout}");
}

/// A whole fleet: origin, coordinator, published file, one agent.
struct Office {
    dir: TempDir,
    nginx: Nginx,
    fleet: Fleet,
    agent: Agent,
    source: PathBuf,
    id: String,
}

fn any(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 32, 0, last], 0))
}

impl Office {
    fn new(directives: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("www");
        fs::create_dir(&root).unwrap();
        let source = root.join("a file.bin");
        random_file(&source, 7, SIZE).unwrap();
        let mut nginx = Nginx::serve(&root);
        for directive in directives {
            nginx = nginx.directive(directive);
        }
        let nginx = nginx.start(dir.path()).unwrap();
        let config = "ingest_allow = [\"127.0.0.0/8\"]\n";
        let fleet = Fleet::start(&dir.path().join("fleet"), any(1), None, config).unwrap();
        let record = fleet.publish(&source, &nginx.url("a%20file.bin")).unwrap();
        assert_eq!(record["FileSize"], SIZE);
        let id = record["FileId"].as_str().unwrap().to_owned();
        assert_eq!(id, blake3::hash(&fs::read(&source).unwrap()).to_string());
        let agent = fleet.agent("agent", any(2), None, OPEN_POLICY).unwrap();
        Self { dir, nginx, fleet, agent, source, id }
    }

    fn url(&self) -> String {
        self.nginx.url("a%20file.bin")
    }

    /// `peerage ARGS` for the agent of this office.
    fn ask(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = peerage(self.dir.path(), args);
        command.env("PEERAGE_SOCKET", self.agent.socket());
        run(command)
    }

    /// The same with JSON on stdout and success.
    fn json(&self, args: &[&str]) -> Value {
        let (code, stdout, stderr) = self.ask(args);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap()
    }
}

#[test]
fn who_comes_later_is_told_what_came_since() {
    let office = Office::new(&["limit_rate 400k;"]);
    let first = office.agent.begin_get(&office.url(), &office.dir.path().join("first"), &[]).unwrap();
    let received =
        || office.agent.file(&office.id).unwrap().map_or(0, |row| number(&row, "TotalBytesDownloaded"));
    wait_until("a part of it has come", PATIENCE, || received() >= SIZE / 4);
    let later = office.json(&["get", &office.url(), "-o", "later", "--json"]);
    let whole = first.json().unwrap();
    assert_eq!((number(&whole, "BytesFromCdn"), received()), (SIZE, SIZE), "{whole}");
    let came = number(&later, "BytesFromCdn");
    assert!(came > 0 && came <= SIZE * 3 / 4, "{later}");
    assert_eq!(number(&later, "FileSizeInCache"), SIZE, "{later}");
}

#[test]
fn a_file_on_its_way_through_the_commands() {
    let office = Office::new(&[]);
    let (id, short) = (office.id.as_str(), &office.id[..9]);

    let (code, stdout, stderr) = office.ask(&["get", &office.url()]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(same_file(&office.source, &office.dir.path().join("a file.bin")).unwrap());
    assert!(
        stdout.starts_with("a file.bin  3.0 MiB in ") && stdout.ends_with("  -> ./a file.bin\n"),
        "{stdout}"
    );
    assert!(stdout.contains("all from the origin") && stdout.lines().count() == 1, "{stdout}");

    let (_, stdout, _) = office.ask(&["get", "--id", id, "--copy"]);
    assert!(stdout.contains("all of it was in the cache"), "{stdout}");
    let copy = office.dir.path().join(id);
    assert!(same_file(&office.source, &copy).unwrap());
    let again = office.json(&["get", &office.url(), "-o", "/dev/null", "--json"]);
    assert_eq!((&again["FileId"], &again["Path"]), (&id.into(), &"/dev/null".into()));
    assert_eq!((&again["BytesFromCdn"], &again["TotalBytesDownloaded"]), (&0.into(), &0.into()), "{again}");
    let listed = office.json(&["files", "list", "--json"]);
    let (completed, expires) = (listed[0]["Completed"].as_u64(), listed[0]["ExpireOn"].as_u64());
    assert_eq!(expires, completed.map(|completed| completed + 259_200), "as max_cache_age says: {listed}");

    let (_, stdout, _) = office.ask(&["status", short]);
    assert!(stdout.contains(&id[..10]) && stdout.contains("\n- "), "{stdout}");
    assert_eq!(office.json(&["status", "--json"])[0]["FileId"], *id);

    assert_eq!(office.json(&["files", "pin", short, "--json"])["IsPinned"], true);
    let (_, stdout, _) = office.ask(&["files", "list"]);
    assert!(stdout.contains("never (pinned)") && stdout.contains("1 file, 3.0 MiB held"), "{stdout}");
    let (code, _, stderr) = office.ask(&["files", "remove", short]);
    assert!(code == 1 && stderr.contains("pinned"), "{stderr}");
    assert_eq!(office.json(&["files", "unpin", short, "--json"])["IsPinned"], false);
    let (_, stdout, _) = office.ask(&["files", "expire", short, "2d"]);
    assert_eq!(stdout, format!("{}: expires in 2 d\n", &id[..10]));
    assert_eq!(office.json(&["files", "verify", short, "--json"])["Good"], 4);
    let (code, _, stderr) = office.ask(&["files", "verify", "zz"]);
    assert!(code == 1 && stderr.contains("zz"), "{stderr}");
    assert_eq!(office.json(&["files", "remove", short, "--json"])["Removed"], true);
    assert_eq!(office.json(&["files", "list", "--json"]), Value::Array(Vec::new()));

    let (_, stdout, _) = office.ask(&["config"]);
    let row = stdout.lines().find(|line| line.starts_with("min_file_size_to_cache ")).unwrap();
    assert!(row.contains("1 MB") && row.contains("policy (") && row.ends_with("50 MB (default)"), "{row}");
    fs::write(office.agent.dir.join("policy.toml"), "no_such_key = 1").unwrap();
    wait_until("the wrong policy to be noticed", PATIENCE, || {
        office.ask(&["config"]).1.contains("no_such_key")
    });
    let config = office.json(&["config", "--json"]);
    assert!(config["PolicyError"].as_str().unwrap().contains("no_such_key"));
}

#[test]
fn failures_say_what_and_why() {
    let office = Office::new(&[]);
    let (code, stdout, stderr) = office.ask(&["get", &office.nginx.url("nothing")]);
    assert!(code == 1 && stdout.is_empty() && stderr.contains("404"), "{stderr}");
    let wrong = "0".repeat(64);
    let (code, _, stderr) = office.ask(&["get", &office.url(), "-o", "out", "--sha256", &wrong]);
    assert!(code == 1 && stderr.contains(&wrong), "{stderr}");
    assert!(!office.dir.path().join("out").exists());

    let token = office.fleet.admin_token().unwrap();
    let admin = ["--coordinator", &office.fleet.url, "--token", &token];
    let with_admin = |args: &[&str]| office.ask(&[args, &admin].concat());
    let (code, _, stderr) = with_admin(&["publish", "http://10.0.0.1/x"]);
    assert!(code == 3 && stderr.contains("ingest_allow"), "{stderr}");
    let (code, stdout, _) = with_admin(&["publish", &office.url()]);
    assert!(code == 0 && stdout.contains(&office.id), "{stdout}");
    fs::write(office.dir.path().join("other"), "another file").unwrap();
    let (code, _, stderr) = with_admin(&["publish", "other", "--url", &office.url()]);
    assert!(code == 1 && stderr.contains("12") && stderr.contains(&SIZE.to_string()), "{stderr}");
    let (code, stdout, _) = with_admin(&["coordinator", "token", "--uses", "1"]);
    assert!(code == 0 && stdout.starts_with("peerage1-"), "{stdout}");

    let once = stdout.trim();
    let enroll = |dir: &str| {
        office.ask(&["enroll", &office.fleet.url, "--token", once, "--data-dir", dir, "--socket", "none"])
    };
    let (code, stdout, stderr) = enroll("device1");
    assert!(code == 0 && stdout.contains("next start"), "{stdout}{stderr}");
    assert!(office.dir.path().join("device1/enrolment.json").exists());
    let (code, _, stderr) = enroll("device2");
    assert!(code == 1 && stderr.contains("token"), "{stderr}");
    let (code, stdout, _) =
        office.ask(&["enroll", &office.fleet.url, "--token", &office.fleet.enroll_token().unwrap()]);
    assert!(code == 0 && stdout.contains("the running agent"), "{stdout}");
}

#[test]
fn without_an_agent_the_engine_runs_inside_the_command() {
    let office = Office::new(&[]);
    let seed = office.dir.path().join("seed");
    office.agent.get(&office.url(), &seed).unwrap();
    let token = office.fleet.enroll_token().unwrap();
    let policy = office.agent.dir.to_str().unwrap();
    let args = ["get", &office.url(), "-o", "out", "--json", "--data-dir", "own", "--policy-dir", policy];
    let join = ["--coordinator", &office.fleet.url, "--token", &token];
    let (code, stdout, stderr) = run(peerage(office.dir.path(), &[&args[..], &join].concat()));
    assert_eq!(code, 0, "{stderr}");
    let status: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&status["FileId"], &status["TotalBytesDownloaded"]),
        (&office.id.as_str().into(), &SIZE.into())
    );
    assert!(same_file(&office.source, &office.dir.path().join("out")).unwrap());
    assert!(
        office.dir.path().join("own/cache").is_dir() && !office.dir.path().join("own/agent.sock").exists()
    );

    // The cache of the running agent is not free: the download goes on without it.
    let data = office.agent.dir.join("data");
    let args = ["get", &office.url(), "-o", "out2", "--data-dir", data.to_str().unwrap()];
    let (code, stdout, stderr) = run(peerage(office.dir.path(), &args));
    assert!(code == 0 && stderr.contains("another command uses this user's cache"), "{stderr}");
    assert!(stdout.contains("all from the origin"), "{stdout}");
    assert!(same_file(&office.source, &office.dir.path().join("out2")).unwrap());
}

#[test]
fn a_cancelled_download_leaves_nothing_at_the_destination() {
    let office = Office::new(&["limit_rate 200k;"]);
    let out = office.dir.path().join("out");
    let mut get = office.agent.begin_get(&office.url(), &out, &[]).unwrap();
    let began = || office.agent.status().unwrap().iter().any(|row| row["TotalBytesDownloaded"] != 0);
    wait_until("the first bytes", PATIENCE, began);
    let before = fs::read_dir(office.dir.path()).unwrap().count();
    let end = get.process.terminate(PATIENCE).unwrap();
    assert_eq!(end.status.code(), Some(1));
    assert!(get.output().unwrap().stderr.ends_with("peerage: cancelled\n"));
    assert!(!out.exists());
    assert_eq!(fs::read_dir(office.dir.path()).unwrap().count(), before, "no temporary file is left");
    wait_until("the agent to pause it", PATIENCE, || {
        office.agent.status().unwrap().iter().all(|row| row["Status"] != "Downloading")
    });
}

#[test]
fn an_agent_that_ends_is_named_as_the_reason() {
    let mut office = Office::new(&["limit_rate 200k;"]);
    let get = office.agent.begin_get(&office.url(), &office.dir.path().join("out"), &[]).unwrap();
    let began = || office.agent.status().unwrap().iter().any(|row| row["TotalBytesDownloaded"] != 0);
    wait_until("the first bytes", PATIENCE, began);
    office.agent.daemon.kill().unwrap();
    let end = get.output().unwrap();
    assert_eq!(end.status.code(), Some(4));
    assert!(end.stderr.contains("the agent ended"), "{}", end.stderr);
}

#[test]
fn what_may_be_secret_in_a_url_is_not_shown() {
    let office = Office::new(&[]);
    let url = format!("{}?which=1", office.url());
    let out = office.dir.path().join("out");
    office.agent.get(&url, &out).unwrap();
    let shown = format!("{}?…", office.url());
    wait_until("the file to be held", PATIENCE, || {
        office.json(&["files", "list", "--json"]) != Value::Array(vec![])
    });
    assert_eq!(office.json(&["files", "list", "--json"])[0]["SourceURL"], shown);
    assert_eq!(office.json(&["status", "--json"])[0]["SourceURL"], shown);
    assert_eq!(office.json(&["why", &url, "--json"])["SourceURL"], shown);
}

#[test]
fn a_taken_port_is_told_once_and_taken_when_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind(any(3)).unwrap();
    let address = taken.local_addr().unwrap();
    let agent = Agent::start(dir.path(), "agent", address, None, OPEN_POLICY, vec![]).unwrap();
    let said =
        |what: &str| fs::read_to_string(dir.path().join("agent.stderr")).unwrap().matches(what).count();
    assert_eq!(agent.daemon.ready()["peers"], Value::Null);
    // Ready comes before the first line about the port.
    wait_until("the port to be missed", PATIENCE, || said("the peer port cannot be opened") == 1);
    drop(taken);
    wait_until("the port to be open", PATIENCE, || said("the peer port is open") == 1);
    assert_eq!(said("the peer port cannot be opened"), 1);
}

#[test]
fn daemons_say_when_they_are_ready_and_end_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (listen, data) = (any(1).to_string(), dir.path().join("c"));
    let args = ["coordinator", "--data-dir", data.to_str().unwrap(), "--listen", &listen];
    let mut coordinator = Daemon::spawn("coordinator", peerage(dir.path(), &args), dir.path()).unwrap();
    let ready = coordinator.ready().clone();
    assert!(ready["url"].as_str().unwrap().starts_with("https://127.32.0.1:"), "{ready}");
    for key in ["enroll_token_file", "admin_token_file"] {
        let token = fs::read_to_string(ready[key].as_str().unwrap()).unwrap();
        assert!(token.starts_with("peerage1-"), "{key}");
    }
    let listen = any(2).to_string();
    let args = ["agent", "--data-dir", "a", "--listen", &listen, "--policy-dir", "."];
    fs::write(dir.path().join("policy.toml"), OPEN_POLICY).unwrap();
    let mut agent = Daemon::spawn("agent", peerage(dir.path(), &args), dir.path()).unwrap();
    assert_eq!(agent.address("peers").unwrap().ip(), any(2).ip());
    let socket = agent.ready()["socket"].as_str().unwrap().to_owned();
    assert!(Path::new(&socket).is_absolute(), "{socket}");
    let status =
        Job::start("status", peerage(dir.path(), &["status", "--json", "--socket", &socket]), dir.path());
    assert_eq!(status.unwrap().json().unwrap(), Value::Array(Vec::new()));
    // A drain has five seconds; the rest is for a machine that is busy.
    for daemon in [&mut agent, &mut coordinator] {
        assert_eq!(daemon.terminate(PATIENCE).unwrap().status.code(), Some(0));
    }
    assert!(!Path::new(&socket).exists());
}
