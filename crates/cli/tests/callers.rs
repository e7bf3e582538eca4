//! Callers: each is answered for itself, whoever else waits for the same URL; who asks wrongly is told what is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use peerage_testkit::{Agent, Job, Office, same_file, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
const WRONG: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// One download that three share: who is right, who does not know, and who is wrong, in two ways.
fn share(office: &Office, url: &str, file: &std::path::Path) {
    let right = blake3::hash(&fs::read(file).unwrap()).to_string();
    let a = office.agent("a").unwrap();
    let wishes: [&[&str]; 4] = [&["--id", &right], &[], &["--id", WRONG], &["--sha256", WRONG]];
    let jobs: Vec<_> = wishes
        .iter()
        .enumerate()
        .map(|(i, wish)| a.begin_get(url, &office.path(&format!("out{i}")), wish).unwrap())
        .collect();
    for (i, job) in jobs.into_iter().enumerate() {
        let (output, out) = (job.output().unwrap(), office.path(&format!("out{i}")));
        if i < 2 {
            assert!(output.status.success(), "caller {i}: {}", output.stderr);
            assert!(same_file(file, &out).unwrap(), "caller {i}");
        } else {
            assert!(
                !output.status.success() && !out.exists(),
                "caller {i} got a file that it did not ask for"
            );
            assert!(output.stderr.contains(WRONG), "caller {i}: {}", output.stderr);
        }
    }
}

#[test]
fn a_wrong_hash_fails_its_caller_alone() {
    let office = Office::new(43, &["limit_rate 1m;"]).unwrap();
    let (file, url, _) = office.published("known.bin", 12 * MIB).unwrap();
    share(&office, &url, &file);
}

#[test]
fn a_wrong_hash_fails_its_caller_alone_without_a_record() {
    let office = Office::new(43, &["limit_rate 1m;"]).unwrap();
    let file = office.file("own.bin", 3 * MIB).unwrap();
    share(&office, &format!("{}?X-Amz-Signature=deadbeef", office.origin.url("own.bin")), &file);
}

#[test]
fn a_name_that_nobody_knows_is_said_at_once() {
    let office = Office::new(43, &[]).unwrap();
    let a = office.agent("a").unwrap();
    for name in ["--id", "--sha256"] {
        let mut command = a.command(&["get", name, WRONG, "-o"]);
        command.arg(office.path("out"));
        let output = Job::start("get", command, &a.dir).unwrap().output().unwrap();
        assert!(!output.status.success(), "{name}: {}", output.stdout);
        assert!(!output.stderr.is_empty() && !office.path("out").exists(), "{name}");
    }
    wait_until("nothing runs", PATIENCE, || a.status().unwrap().is_empty());
}

/// What the agent answers to a request over its socket.
fn ask(agent: &Agent, request: &str) -> (String, Value) {
    let mut line = UnixStream::connect(agent.socket()).unwrap();
    line.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap_or_default().to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn whoever_asks_wrongly_is_told_what_is_wrong() {
    let office = Office::new(72, &[]).unwrap();
    let agent = office.agent("a").unwrap();
    let head = "host: agent\r\nconnection: close\r\ncontent-type: application/json\r\n";
    for (line, body, what) in [
        ("POST /v1/downloads", "{\"url\": 5}", "invalid type: integer `5`"),
        ("POST /v1/downloads", "{", "EOF"),
        ("GET /v1/status?peers=perhaps", "", "peers"),
    ] {
        let length = body.len();
        let (status, error) =
            ask(&agent, &format!("{line} HTTP/1.1\r\n{head}content-length: {length}\r\n\r\n{body}"));
        assert_eq!(
            (status.as_str(), &error["code"]),
            ("HTTP/1.1 400 Bad Request", &"bad_request".into()),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains(what), "{error}");
    }
}
