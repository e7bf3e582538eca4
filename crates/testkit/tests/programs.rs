//! Real programs under the kit: readiness, logs, ends, cost, and nginx as an origin. Needs no root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use peerage_testkit::{
    Daemon, Nginx, Process, TestCa, Usage, random_bytes, random_file, same_file, wait_for, wait_until,
};

const LIMIT: Duration = Duration::from_secs(30);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn a_daemon_is_ready_when_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        r#"echo starting >&2; echo '{"ready":"agent","peers":"127.0.0.1:7680"}'; echo more; exec sleep 600"#;
    let mut daemon = Daemon::spawn("agent", shell(script), dir.path()).unwrap();
    assert_eq!(daemon.ready()["ready"], "agent");
    assert_eq!(daemon.address("peers").unwrap(), "127.0.0.1:7680".parse().unwrap());
    assert!(daemon.address("gateway").unwrap_err().to_string().contains("gateway"));
    assert_eq!(daemon.stderr(), "starting\n");
    assert!(daemon.poll().unwrap().is_none());
    wait_until("the rest of stdout in the log", LIMIT, || {
        std::fs::read_to_string(dir.path().join("agent.stdout")).unwrap().ends_with("}\nmore\n")
    });
    let pid = daemon.pid();
    drop(daemon);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_daemon_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let failed =
        |name: &str, script| format!("{:#}", Daemon::spawn(name, shell(script), dir.path()).unwrap_err());
    let ended = failed("ended", "echo 'port 7680 is taken' >&2; exit 3");
    assert!(ended.contains("exit status: 3") && ended.contains("port 7680 is taken"), "{ended}");
    let chatty = failed("chatty", "echo hello; exec sleep 600");
    assert!(chatty.contains(r#"no ready line but "hello\n""#), "{chatty}");
    let missing = Daemon::spawn("missing", Command::new("/nonexistent"), dir.path()).unwrap_err();
    assert!(missing.to_string().contains("cannot start missing"), "{missing}");
}

#[test]
fn a_stubborn_program_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::spawn(
        "deaf",
        shell(r#"trap '' TERM; echo '{"ready":"deaf"}'; while :; do sleep 600; done"#),
        dir.path(),
    )
    .unwrap();
    let refused = daemon.terminate(Duration::from_millis(50)).unwrap_err();
    assert!(refused.to_string().contains("still runs"), "{refused}");
    let sleeper = wait_for_child(daemon.pid());
    assert_eq!(daemon.kill().unwrap().status.code(), None);
    // The shell is gone; its child was not the kit's to kill, so end it here.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(sleeper).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

fn wait_for_child(pid: u32) -> i32 {
    let list = format!("/proc/{pid}/task/{pid}/children");
    wait_for("the shell's child", LIMIT, || {
        std::fs::read_to_string(&list).unwrap().split_whitespace().next()?.parse().ok()
    })
}

#[test]
fn a_killed_test_takes_its_daemons_along() {
    // A process started by the kit is in the test's own process group, which is what a test runner kills.
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sleep");
    command.arg("600");
    let sleeper = Process::spawn("sleeper", command, dir.path()).unwrap();
    let group = |pid: u32| -> Option<String> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(2).map(str::to_owned)
    };
    let mine = wait_for("own process group", LIMIT, || group(std::process::id()));
    wait_until("the child in it", LIMIT, || group(sleeper.pid()).as_ref() == Some(&mine));
}

#[test]
fn what_a_program_and_its_children_cost() {
    let dir = tempfile::tempdir().unwrap();
    // The child burns the CPU time and is waited for by the shell; dd holds 64 MiB while it runs.
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=20 2>/dev/null; exit 7";
    let mut program = Process::spawn("burner", shell(script), dir.path()).unwrap();
    let finished = program.wait(LIMIT).unwrap();
    assert_eq!(finished.status.code(), Some(7));
    let Usage { cpu, peak_rss, .. } = finished.usage;
    assert!(cpu >= Duration::from_millis(20) && cpu <= finished.wall * 2, "{finished:?}");
    assert!(peak_rss > 64 << 20, "{finished:?}");
    assert_eq!(program.usage(), finished.usage);
}

#[test]
fn nginx_serves_ranges_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    random_file(&dir.path().join("a.bin"), 1, 300_000).unwrap();
    let nginx = Nginx::serve(dir.path()).directive("etag off;").start(dir.path()).unwrap();
    let got = dir.path().join("got");
    curl(&["--output", got.to_str().unwrap(), &nginx.url("a.bin")]);
    assert!(same_file(&got, &dir.path().join("a.bin")).unwrap());
    curl(&["--output", got.to_str().unwrap(), "--range", "1000-1999", &nginx.url("/a.bin")]);
    assert_eq!(std::fs::read(&got).unwrap(), random_bytes(1, 2000)[1000..]);

    wait_until("both requests in the log", LIMIT, || nginx.hits().unwrap().len() == 2);
    let hits = nginx.hits().unwrap();
    let seen: Vec<_> = hits.iter().map(|hit| (&*hit.path, &*hit.range, hit.status, hit.body_bytes)).collect();
    assert_eq!(seen, [("/a.bin", "", 200, 300_000), ("/a.bin", "bytes=1000-1999", 206, 1000)]);
    assert!(hits.iter().all(|hit| hit.method == "GET" && hit.client == nginx.address().ip()));
    assert!(hits[1].sent_bytes > 1000);
}

#[test]
fn nginx_speaks_tls_with_the_tests_own_authority() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "hello").unwrap();
    let ca = TestCa::new().unwrap();
    let trusted = dir.path().join("ca.pem");
    std::fs::write(&trusted, ca.cert_pem()).unwrap();
    let identity = ca.issue("origin.test", "127.0.0.1".parse().unwrap()).unwrap();
    let nginx = Nginx::serve(dir.path()).tls(identity).start(dir.path()).unwrap();
    assert_eq!(curl(&["--cacert", trusted.to_str().unwrap(), &nginx.url("a.txt")]), "hello");
    let untrusted =
        Command::new("curl").args(["--silent", "--noproxy", "*", &nginx.url("a.txt")]).output().unwrap();
    assert_eq!(untrusted.status.code(), Some(60), "curl must refuse an unknown authority");
}

#[test]
fn nginx_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Nginx::serve(dir.path()).directive("no_such_directive;").start(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("no_such_directive"), "{refused}");
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .args(args)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
