//! A coordinator that is started with the usual few file descriptors, as services are, still holds a connection of every device.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use peerage_testkit::{Daemon, peerage_bin};

/// Starts one with these limits; what its process may open then, and its log.
fn limits(soft: u32, hard: u32, connections: u32) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("coordinator.toml");
    let text = format!(
        "data_dir = {:?}\nlisten = \"127.219.0.1:0\"\nmax_connections = {connections}\n",
        dir.path().join("data")
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("sh");
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" coordinator --config \"$1\"");
    command.args(["-c", &script]).arg(peerage_bin().unwrap()).arg(&config);
    let daemon = Daemon::spawn("coordinator", command, dir.path()).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    (line.split_whitespace().nth(3).unwrap().to_owned(), daemon.stderr())
}

#[test]
fn it_takes_what_the_system_lets_it_have_and_says_when_that_is_too_little() {
    let (soft, log) = limits(256, 4096, 2000);
    assert_eq!(soft, "2128", "as many as it needs");
    assert!(!log.contains("fewer connections"), "{log}");
    let (soft, log) = limits(256, 1024, 2000);
    assert_eq!(soft, "1024", "all that there are");
    assert!(log.contains("fewer connections are possible") && log.contains("possible=896"), "{log}");
}
