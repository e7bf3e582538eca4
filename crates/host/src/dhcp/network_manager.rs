//! The lease that NetworkManager holds, over D-Bus (its reference, org.freedesktop.NetworkManager.DHCP4Config).

use std::collections::HashMap;
use std::time::Duration;

use zbus::{Connection as Bus, OwnedObjectPath, OwnedVariant, connection};

use super::lease_file::hex;
use super::{CACHE_HOST_OPTION, GROUP_OPTION, MAX_VALUE, Offered};

const SERVICE: &str = "org.freedesktop.NetworkManager";
const ROOT: &str = "/org/freedesktop/NetworkManager";
const ACTIVE: &str = "org.freedesktop.NetworkManager.Connection.Active";
const DHCP4: &str = "org.freedesktop.NetworkManager.DHCP4Config";
/// A service that does not answer for this long is taken for absent.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections beyond this many are not looked at.
const MAX_CONNECTIONS: usize = 16;

type Values = HashMap<String, OwnedVariant>;

/// What its leases offer, or why nothing is known.
pub(super) async fn offered() -> Result<Offered, String> {
    let read = async {
        let bus = connection::Builder::system().method_timeout(PATIENCE).build().await?;
        read(&bus).await
    };
    match tokio::time::timeout(2 * PATIENCE, read).await {
        Ok(Ok(Some(offered))) if !offered.is_empty() => Ok(offered),
        Ok(Ok(Some(_))) => Err("NetworkManager's leases hold neither option".to_owned()),
        Ok(Ok(None)) => Err("NetworkManager does not run".to_owned()),
        Ok(Err(_)) | Err(_) => Err("there is no D-Bus to ask NetworkManager by".to_owned()),
    }
}

async fn read(bus: &Bus) -> zbus::Result<Option<Offered>> {
    // Asked so that the service is not started by the question.
    let dbus = "org.freedesktop.DBus";
    let answer =
        bus.call_method(Some(dbus), "/org/freedesktop/DBus", Some(dbus), "NameHasOwner", &SERVICE).await?;
    if !answer.body().deserialize::<bool>()? {
        return Ok(None);
    }
    let root = properties(bus, ROOT, SERVICE).await?;
    let active: Vec<OwnedObjectPath> = get(&root, "ActiveConnections").unwrap_or_default();
    for path in active.iter().take(MAX_CONNECTIONS) {
        // One that has gone since is none.
        let Ok(active) = properties(bus, path.as_str(), ACTIVE).await else { continue };
        let Some(lease) = get::<OwnedObjectPath>(&active, "Dhcp4Config") else { continue };
        // "/": it has no lease.
        if lease.as_str() == "/" {
            continue;
        }
        let Ok(lease) = properties(bus, lease.as_str(), DHCP4).await else { continue };
        let Some(options) = get::<Values>(&lease, "Options") else { continue };
        let mut offered = Offered::default();
        for option in [GROUP_OPTION, CACHE_HOST_OPTION] {
            // Which name it has depends on the client that NetworkManager uses.
            let names = [format!("private_{option}"), format!("unknown_{option}")];
            let value = names.iter().find_map(|name| get::<String>(&options, name));
            if let Some(value) = value.and_then(|value| value_of(&value)) {
                offered.take(option, value);
            }
        }
        if !offered.is_empty() {
            return Ok(Some(offered));
        }
    }
    Ok(Some(Offered::default()))
}

/// An option that NetworkManager does not know it shows as bytes in hex, or, by another client, as text.
fn value_of(text: &str) -> Option<Vec<u8>> {
    let bytes = if text.contains(':') { hex(text, Some(':')) } else { None };
    bytes.or_else(|| (text.len() <= MAX_VALUE).then(|| text.as_bytes().to_vec()))
}

async fn properties(bus: &Bus, path: &str, interface: &str) -> zbus::Result<Values> {
    let all = "org.freedesktop.DBus.Properties";
    let answer = bus.call_method(Some(SERVICE), path, Some(all), "GetAll", &interface).await?;
    answer.body().deserialize()
}

/// One property, if it is there and of that type.
fn get<T: TryFrom<OwnedVariant>>(properties: &Values, name: &str) -> Option<T> {
    properties.get(name)?.try_clone().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_hex_or_text() {
        assert_eq!(value_of("50:61:72:69:73:00"), Some(b"Paris\0".to_vec()));
        assert_eq!(value_of("Paris"), Some(b"Paris".to_vec()));
        assert_eq!(value_of("cache.example:8080"), Some(b"cache.example:8080".to_vec()));
        assert_eq!(value_of(&"x".repeat(MAX_VALUE + 1)), None);
    }
}
