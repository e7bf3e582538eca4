//! NetworkManager (its D-Bus reference, org.freedesktop.NetworkManager and …Connection.Active).

use peerage_policy::Connection;
use zbus::{Connection as Bus, OwnedObjectPath};

use super::{get, properties, runs};

const SERVICE: &str = "org.freedesktop.NetworkManager";
const ROOT: &str = "/org/freedesktop/NetworkManager";
const ACTIVE: &str = "org.freedesktop.NetworkManager.Connection.Active";
/// Connections beyond this many are not looked at.
const MAX_CONNECTIONS: usize = 64;
/// States of an active connection, from this one on: it is being taken down.
const DEACTIVATING: u32 = 3;

/// What says that something may have changed. Not all of its signals: access points and statistics change all the time.
pub(super) const SIGNALS: &[&str] = &[
    "type='signal',sender='org.freedesktop.NetworkManager',path='/org/freedesktop/NetworkManager'",
    "type='signal',sender='org.freedesktop.NetworkManager',\
     path_namespace='/org/freedesktop/NetworkManager/ActiveConnection'",
    "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.NetworkManager'",
];

/// What NetworkManager says.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) metered: Option<bool>,
    pub(super) connections: Vec<Connection>,
}

/// Asks it; `None`: it does not run or does not say.
pub(super) async fn read(bus: &Bus) -> Option<Network> {
    if !runs(bus, SERVICE).await {
        return None;
    }
    let root = properties(bus, SERVICE, ROOT, SERVICE).await.ok()?;
    let metered = match get::<u32>(&root, "Metered") {
        // Yes, and guessed so: applications are to treat both alike (NMMetered).
        Some(1 | 3) => Some(true),
        Some(2 | 4) => Some(false),
        _ => None,
    };
    let active: Vec<OwnedObjectPath> = get(&root, "ActiveConnections").unwrap_or_default();
    let mut connections = Vec::new();
    for path in active.iter().take(MAX_CONNECTIONS) {
        // One that has gone since is none.
        let Ok(active) = properties(bus, SERVICE, path.as_str(), ACTIVE).await else { continue };
        if get::<u32>(&active, "State").is_some_and(|state| state >= DEACTIVATING) {
            continue;
        }
        let kind: String = get(&active, "Type").unwrap_or_default();
        let vpn = get(&active, "Vpn").unwrap_or(false) || matches!(kind.as_str(), "vpn" | "wireguard");
        connections.push(Connection { id: get(&active, "Id").unwrap_or_default(), vpn });
    }
    Some(Network { metered, connections })
}
