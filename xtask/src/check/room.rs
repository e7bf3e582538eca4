//! The rooms of the house: who may import whom (ARCHITECTURE.md §1). Arrows point down only; siblings never.

/// One room.
#[derive(Debug)]
pub(super) struct Room {
    /// The package's name without `peerage-`.
    pub(super) name: &'static str,
    /// The rooms it may import.
    pub(super) imports: &'static [&'static str],
    /// The rooms its tests and benches may import besides.
    pub(super) dev_imports: &'static [&'static str],
    /// Below the line: no I/O, no clock, no randomness of its own.
    pub(super) pure: bool,
}

const fn pure(name: &'static str, imports: &'static [&'static str]) -> Room {
    Room { name, imports, dev_imports: &[], pure: true }
}

const fn room(name: &'static str, imports: &'static [&'static str]) -> Room {
    Room { name, imports, dev_imports: &["testkit"], pure: false }
}

/// Bottom up.
const ROOMS: &[Room] = &[
    pure("content", &[]),
    pure("policy", &["content"]),
    pure("wire", &["content"]),
    pure("swarm", &["content", "policy", "wire"]),
    pure("sim", &["content", "policy", "swarm", "wire"]),
    room("store", &["content"]),
    room("transport", &["content", "wire"]),
    room("origin", &["content"]),
    room("host", &["policy"]),
    room("api", &["content", "policy"]),
    room("agent", &["api", "content", "host", "origin", "policy", "store", "swarm", "transport", "wire"]),
    room("coordinator", &["api", "content", "origin", "policy", "swarm"]),
    room("connected-cache", &["api", "content", "origin", "store"]),
    room("lab", &["api", "content", "origin", "policy", "sim"]),
    room("cli", &["agent", "api", "connected-cache", "content", "coordinator", "lab", "policy"]),
    // Beside the house: tests stand on the testkit, developers on xtask. Nothing that ships imports either.
    Room { name: "testkit", imports: &[], dev_imports: &[], pure: false },
    Room { name: "xtask", imports: &["api", "content", "policy", "testkit"], dev_imports: &[], pure: false },
];

/// The room of a package, by the package's name.
pub(super) fn name(package: &str) -> &str {
    package.strip_prefix("peerage-").unwrap_or(package)
}

/// The rules of a room, if there is such a room.
pub(super) fn find(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

/// Whether the room is below the line.
pub(super) fn is_pure(name: &str) -> bool {
    find(name).is_some_and(|room| room.pure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_down() {
        for (at, room) in ROOMS.iter().enumerate() {
            for import in room.imports {
                assert!(ROOMS[..at].iter().any(|below| below.name == *import), "{} -> {import}", room.name);
                assert!(!room.pure || is_pure(import), "{} is pure, {import} is not", room.name);
            }
        }
    }
}
