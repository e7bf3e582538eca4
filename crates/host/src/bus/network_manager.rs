//! NetworkManager (its D-Bus reference, org.freedesktop.NetworkManager and …Connection.Active).

use peerage_policy::Connection;
use zbus::{Connection as Bus, OwnedObjectPath};

use super::{get, number, properties, runs};

const SERVICE: &str = "org.freedesktop.NetworkManager";
const ROOT: &str = "/org/freedesktop/NetworkManager";
const ACTIVE: &str = "org.freedesktop.NetworkManager.Connection.Active";
/// Connections beyond this many are not looked at.
const MAX_CONNECTIONS: usize = 64;
/// States of an active connection, from this one on: it is being taken down.
const DEACTIVATING: f64 = 3.0;

/// What says that something may have changed. Not all of its signals: access points and statistics change all the time.
pub(super) const SIGNALS: &[&str] = &[
    "type='signal',sender='org.freedesktop.NetworkManager',interface='org.freedesktop.DBus.Properties',\
     path='/org/freedesktop/NetworkManager'",
    "type='signal',sender='org.freedesktop.NetworkManager',interface='org.freedesktop.DBus.Properties',\
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
    // Yes and no, and what is guessed: applications are to treat both alike (NMMetered).
    let metered = number(&root, "Metered").filter(|value| (1.0..=4.0).contains(value));
    let metered = metered.map(|value| value == 1.0 || value == 3.0);
    let active: Vec<OwnedObjectPath> = get(&root, "ActiveConnections").unwrap_or_default();
    let mut connections = Vec::new();
    for path in active.iter().take(MAX_CONNECTIONS) {
        // One that has gone since is none.
        let Ok(active) = properties(bus, SERVICE, path.as_str(), ACTIVE).await else { continue };
        if number(&active, "State").is_some_and(|state| state >= DEACTIVATING) {
            continue;
        }
        let kind: String = get(&active, "Type").unwrap_or_default();
        let vpn = get(&active, "Vpn").unwrap_or(false) || matches!(kind.as_str(), "vpn" | "wireguard");
        connections.push(Connection { id: get(&active, "Id").unwrap_or_default(), vpn });
    }
    Some(Network { metered, connections })
}
