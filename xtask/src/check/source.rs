//! Rules on one Rust file: its head, its length, `unsafe`, and what a pure room may not name.

use super::finding::Finding;
use super::room;
use super::rust::{NamedPath, Source};

/// Lines without tests above which a file deserves a look, and above which it must be cut.
const LONG: usize = 400;
const TOO_LONG: usize = 800;

/// The one audited module with `unsafe` code: socket options that no crate wraps.
const UNSAFE_MODULE: &str = "crates/transport/src/sockopt.rs";

/// What a pure room may not name, and why. A name that begins with a crate stands at the start of a path; any other
/// may stand anywhere in it, since it is mostly imported.
const FORBIDDEN: &[(&str, &str)] = &[
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("Timestamp::now", "time is an argument"),
    ("Zoned::now", "time is an argument"),
    ("HashMap", "its order differs in every process, so a seed would not replay; use BTreeMap"),
    ("HashSet", "its order differs in every process, so a seed would not replay; use BTreeSet"),
    ("RandomState", "randomness is an argument"),
    ("fastrand", "randomness is an argument"),
    ("getrandom", "randomness is an argument"),
    ("rand", "randomness is an argument"),
    ("async_std", "no runtime below the line"),
    ("tokio", "no runtime below the line"),
    ("std::thread", "no threads below the line"),
    ("thread::spawn", "no threads below the line"),
    ("hyper", "no network below the line"),
    ("reqwest", "no network below the line"),
    ("rustix", "no system calls below the line"),
    ("socket2", "no network below the line"),
    ("std::env", "no environment below the line"),
    ("std::fs", "no files below the line"),
    ("std::net::TcpListener", "no network below the line"),
    ("std::net::TcpStream", "no network below the line"),
    ("std::net::ToSocketAddrs", "no network below the line"),
    ("std::net::UdpSocket", "no network below the line"),
    ("std::os", "no system calls below the line"),
    ("std::process", "no processes below the line"),
];

/// Checks one file, `path` being relative to the root.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.trim_start().starts_with("//!") {
        let message = "begins without `//!`; say its role, its invariant, and what survives a crash";
        findings.push(Finding::error(path, 1, "file-head", message));
    }
    let source = match Source::parse(text) {
        Ok(source) => source,
        Err(error) => {
            findings.push(Finding::error(path, error.span().start().line, "syntax", "is not Rust"));
            return findings;
        }
    };
    if path != UNSAFE_MODULE {
        let message = format!(
            "`unsafe` outside {UNSAFE_MODULE}; find a crate that wraps it, or put it there and have it audited"
        );
        findings
            .extend(source.unsafe_lines.iter().map(|line| Finding::error(path, *line, "unsafe", &*message)));
    }
    if is_test(path, text) {
        return findings;
    }
    findings.extend(length(path, text.lines().count() - source.test_lines));
    if path.strip_prefix("crates/").and_then(|rest| rest.split('/').next()).is_some_and(room::is_pure) {
        findings.extend(source.paths.iter().filter_map(|named| {
            let (name, why) = FORBIDDEN.iter().find(|(name, _)| mentions(named, name))?;
            Some(Finding::error(path, named.line, "pure-room", format!("names {name}: {why}")))
        }));
    }
    findings
}

/// Whether the whole file is test code: `tests/…`, `benches/…`, `foo/tests.rs`, `foo/tests/bar.rs`.
fn is_test(path: &str, text: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| ["tests", "benches", "tests.rs"].contains(&part))
        || text.lines().any(|line| line == "#![cfg(test)]")
}

fn length(path: &str, lines: usize) -> Option<Finding> {
    let finding = match lines {
        0..=LONG => return None,
        _ if lines <= TOO_LONG => Finding::warning,
        _ => Finding::error,
    };
    let message = format!(
        "{lines} lines without tests; a file is one noun, rarely over {LONG} lines, never over {TOO_LONG}"
    );
    Some(finding(path, 1, "file-length", message))
}

fn mentions(named: &NamedPath, forbidden: &str) -> bool {
    let wanted: Vec<_> = forbidden.split("::").collect();
    let is_crate = wanted[0].starts_with(char::is_lowercase) && wanted[0] != "thread";
    if !is_crate {
        return named.segments.windows(wanted.len()).any(|window| window == wanted);
    }
    // A lone `rand` that is not imported is somebody's variable.
    let is_path = named.import || named.segments.len() > 1;
    is_path && named.segments.len() >= wanted.len() && named.segments.iter().zip(&wanted).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, body: &str) -> Vec<String> {
        check(path, &format!("//! Head.\n{body}")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        assert_eq!(check("crates/store/src/a.rs", "// Not a head.\nfn f() {}\n").len(), 1);
        assert_eq!(check("crates/store/src/a.rs", "").len(), 1);
        assert_eq!(found("crates/store/src/a.rs", "fn f() {}\n"), [""; 0]);
    }

    #[test]
    fn every_forbidden_name_is_found_in_pure_rooms_only() {
        for (name, why) in FORBIDDEN {
            for body in [format!("fn f() {{\n    {name}::x();\n}}\n"), format!("\nuse {name};\n")] {
                let pure = found("crates/swarm/src/a.rs", &body);
                assert_eq!(
                    pure,
                    [format!("crates/swarm/src/a.rs:3: error: pure-room: names {name}: {why}")],
                    "{body}"
                );
                assert_eq!(found("crates/agent/src/a.rs", &body), [""; 0]);
                let tested = format!("#[cfg(test)]\nmod tests {{\n{body}}}\n");
                assert_eq!(found("crates/swarm/src/a.rs", &tested), [""; 0]);
                assert_eq!(found("crates/swarm/src/a/tests.rs", &body), [""; 0]);
                assert_eq!(found("crates/swarm/tests/a.rs", &body), [""; 0]);
            }
        }
    }

    #[test]
    fn imported_names_and_trees_are_found() {
        let body = "use std::{collections::BTreeMap, time::{Duration, Instant}, net::{IpAddr, UdpSocket}};\nfn f() { Instant::now(); }\n";
        let lines = found("crates/wire/src/a.rs", body);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains(":2:") && lines[0].contains("std::net::UdpSocket"), "{lines:?}");
        assert!(lines[1].contains(":3:") && lines[1].contains("Instant::now"), "{lines:?}");
    }

    #[test]
    fn innocent_names_are_not_found() {
        let body = "use std::net::IpAddr;\nuse crate::rand::pick;\nfn f(now: Instant, rand: u32) { self.tokio(rand); now.env::<u8>(); }\n";
        assert_eq!(found("crates/swarm/src/a.rs", body), [""; 0]);
    }

    #[test]
    fn unsafe_is_found_outside_its_module() {
        let body = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(found("crates/agent/src/a.rs", body).len(), 1);
        assert_eq!(found("crates/agent/tests/a.rs", body).len(), 1);
        assert_eq!(found(UNSAFE_MODULE, body), [""; 0]);
    }

    #[test]
    fn long_files_are_found() {
        let levels = |path: &str, lines: usize, tests: &str| -> Vec<String> {
            let found = found(path, &format!("{}{tests}", "fn f() {}\n".repeat(lines - 1)));
            found.iter().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect()
        };
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn g() {}\n".repeat(900));
        for tests in ["", &tests] {
            assert_eq!(levels("crates/agent/src/a.rs", LONG, tests), [""; 0]);
            assert_eq!(levels("crates/agent/src/a.rs", LONG + 1, tests), ["warning"]);
            assert_eq!(levels("crates/agent/src/a.rs", TOO_LONG + 1, tests), ["error"]);
        }
        assert_eq!(levels("crates/agent/tests/a.rs", TOO_LONG + 1, ""), [""; 0]);
    }

    #[test]
    fn what_is_not_rust_is_found() {
        assert_eq!(found("crates/agent/src/a.rs", "fn f( {\n").len(), 1);
    }
}
