//! Rules on a room's `Cargo.toml`: its imports, its lints, and what a pure room drags in.

use toml::{Table, Value};

use super::finding::Finding;
use super::room;

/// Crates that bring I/O, a clock, threads or randomness, directly or through another crate.
const IMPURE: &[&str] = &[
    "async-io",
    "async-std",
    "curl",
    "fastrand",
    "getrandom",
    "hyper",
    "mio",
    "nix",
    "num_cpus",
    "rand",
    "rayon",
    "reqwest",
    "rusqlite",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "ureq",
];

/// Checks one manifest: imports of other rooms, and that the workspace's lints hold.
pub(super) fn check(path: &str, text: &str, name: &str) -> Vec<Finding> {
    let Ok(manifest) = text.parse::<Table>() else {
        return vec![Finding::error(path, 1, "manifest", "does not parse")];
    };
    let mut findings = Vec::new();
    let Some(room) = room::find(name) else {
        let message = format!(
            "{name} is not in the plan of rooms; draw it in ARCHITECTURE.md and in xtask/src/check/room.rs"
        );
        return vec![Finding::error(path, 1, "room-import", message)];
    };
    let kinds =
        [("dependencies", &[][..]), ("build-dependencies", &[]), ("dev-dependencies", room.dev_imports)];
    for (kind, besides) in kinds {
        for import in imports(&manifest, kind) {
            if !room.imports.contains(&import) && !besides.contains(&import) {
                let allowed = [room.imports, besides].concat().join(", ");
                let message = format!(
                    "{name} imports {import}; arrows point down only, siblings never: it may import {}",
                    if allowed.is_empty() { "no room" } else { &allowed }
                );
                findings.push(Finding::error(
                    path,
                    line_of(text, &format!("peerage-{import}")),
                    "room-import",
                    message,
                ));
            }
        }
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints != Some(&Value::Boolean(true)) {
        findings.push(Finding::error(
            path,
            1,
            "lints",
            "lacks `[lints] workspace = true`; the house's lints hold in every room",
        ));
    }
    findings
}

/// Rooms among the dependencies of one kind, those of single targets included.
fn imports<'a>(manifest: &'a Table, kind: &str) -> Vec<&'a str> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = manifest.get(kind).into_iter().chain(targets.filter_map(|target| target.get(kind)));
    let keys = tables.filter_map(Value::as_table).flat_map(Table::keys);
    keys.filter_map(|key| key.strip_prefix("peerage-")).collect()
}

/// Checks what a pure room is built with: `closure` is the list of all its crates, one a line.
pub(super) fn check_pure_closure(path: &str, text: &str, name: &str, closure: &str) -> Vec<Finding> {
    let mut crates: Vec<_> = closure.lines().filter_map(|line| line.split(' ').next()).collect();
    crates.sort_unstable();
    crates.dedup();
    let bad = crates.into_iter().filter(|found| IMPURE.contains(found));
    bad.map(|found| {
        let message = format!(
            "{name} is built with {found}; a pure room has no I/O, clock or randomness, time and chance are arguments \
             (who brings it: cargo tree --package peerage-{name} --edges normal --invert {found})"
        );
        Finding::error(path, line_of(text, found), "pure-room", message)
    })
    .collect()
}

/// The first line that begins with `key`, else the first line.
fn line_of(text: &str, key: &str) -> usize {
    text.lines().position(|line| line.starts_with(key)).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn found(name: &str, dependencies: &str) -> Vec<String> {
        let findings = check("Cargo.toml", &format!("{LINTS}{dependencies}"), name);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn imports_up_and_sideways_are_found() {
        let up = found(
            "swarm",
            "[dependencies]\npeerage-content.workspace = true\npeerage-agent.workspace = true\n",
        );
        assert_eq!(up.len(), 1, "{up:?}");
        assert!(up[0].starts_with("Cargo.toml:5: error: room-import: swarm imports agent;"), "{up:?}");
        assert!(up[0].ends_with("it may import content, policy, wire"), "{up:?}");
        assert_eq!(found("store", "[build-dependencies]\npeerage-wire = { path = \"../wire\" }\n").len(), 1);
        assert_eq!(
            found("store", "[target.'cfg(unix)'.dependencies]\npeerage-origin.workspace = true\n").len(),
            1
        );
        assert_eq!(found("content", "[dev-dependencies]\npeerage-testkit.workspace = true\n").len(), 1);
        assert_eq!(found("agent", "[dependencies]\npeerage-testkit.workspace = true\n").len(), 1);
        assert_eq!(found("cellar", "").len(), 1);
    }

    #[test]
    fn imports_down_are_fine() {
        let down = "[dependencies]\nserde = \"1\"\npeerage-swarm.workspace = true\n[dev-dependencies]\npeerage-testkit.workspace = true\n";
        assert_eq!(found("agent", down), [""; 0]);
    }

    #[test]
    fn every_room_has_the_lints() {
        for bad in ["", "[lints]\nworkspace = false\n", "[lints.rust]\nunsafe_code = \"allow\"\n", "[lints"] {
            assert_eq!(check("Cargo.toml", bad, "content").len(), 1, "{bad}");
        }
    }

    #[test]
    fn what_a_pure_room_drags_in_is_found() {
        let closure = "peerage-wire v0.1.0 (crates/wire)\nbytes v1.2.3\nuuid v1.0.0\ngetrandom v0.4.0\ngetrandom v0.4.0\n";
        let findings = check_pure_closure("Cargo.toml", "bytes\nuuid\n", "wire", closure);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("wire is built with getrandom"), "{findings:?}");
        assert!(check_pure_closure("Cargo.toml", "", "wire", "bytes v1.2.3\n").is_empty());
    }
}
