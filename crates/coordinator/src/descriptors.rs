//! File descriptors: each connected device takes one, and the usual limit of a service (1024 under systemd) is far below
//! the devices of a fleet, each of which keeps a connection for its policy.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the database, the maps, the listener, the journal, and what ingestion has open.
const RESERVED: usize = 128;

/// Raises the limit of this process as far as `connections` need and the system lets it; returns how many are possible.
/// More must not be taken in: whoever has no descriptor left cannot open its database either.
pub(crate) fn make_room(connections: usize) -> usize {
    let needed = (connections.saturating_add(RESERVED)) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if enough(current) {
        return connections;
    }
    let wanted = maximum.map_or(needed, |most| most.min(needed));
    let held = match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, "the limit of file descriptors was not raised");
            current.unwrap_or(wanted)
        }
    };
    let possible = usize::try_from(held).unwrap_or(usize::MAX).saturating_sub(RESERVED).clamp(1, connections);
    if possible < connections {
        tracing::warn!(
            possible,
            max_connections = connections,
            "fewer connections are possible than may be: raise the limit of file descriptors (LimitNOFILE= of systemd)"
        );
    }
    possible
}
