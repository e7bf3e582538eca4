//! The lease that NetworkManager holds, over D-Bus (its reference, org.freedesktop.NetworkManager.DHCP4Config).

use std::collections::HashMap;
use std::time::Duration;

use zbus::{Connection as Bus, OwnedObjectPath, OwnedVariant, connection};

use super::lease_file::hex;
use super::{CACHE_HOST_OPTION, GROUP_OPTION, MAX_VALUE, Offered, SCRIPT_OPTION};

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
    // The system's bus, or the one that DBUS_SYSTEM_BUS_ADDRESS names.
    offered_by(connection::Builder::system()).await
}

async fn offered_by(bus: connection::Builder<'_>) -> Result<Offered, String> {
    let read = async {
        let bus = bus.method_timeout(PATIENCE).build().await?;
        read(&bus).await
    };
    match tokio::time::timeout(2 * PATIENCE, read).await {
        Ok(Ok(Some(offered))) if !offered.is_empty() => Ok(offered),
        Ok(Ok(Some(_))) => Err("NetworkManager's leases hold none of the options".to_owned()),
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
    let mut found = Offered::default();
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
        for option in [GROUP_OPTION, CACHE_HOST_OPTION, SCRIPT_OPTION] {
            // Which name it has depends on the client that NetworkManager uses; 252 it knows by name.
            let names = [format!("private_{option}"), format!("unknown_{option}"), "wpad".to_owned()];
            let names = names.iter().take(if option == SCRIPT_OPTION { 3 } else { 2 });
            let value = names.into_iter().find_map(|name| get::<String>(&options, name));
            if let Some(value) = value.and_then(|value| value_of(&value)) {
                offered.take(option, value);
            }
        }
        found.fill(offered);
    }
    Ok(Some(found))
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
    use std::path::Path;
    use std::process::Command;

    use peerage_testkit::{Process, wait_until};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// A bus of the test's own, without services.
    fn bus(dir: &Path) -> (Process, String) {
        let socket = dir.join("bus");
        let address = format!("unix:path={}", socket.display());
        let mut command = Command::new("dbus-daemon");
        // The session's configuration lets everybody own every name.
        command.args(["--session", "--nofork", "--nopidfile", "--nosyslog", "--address", &address]);
        let daemon = Process::spawn("dbus-daemon", command, dir).unwrap();
        wait_until("the bus is there", LIMIT, || socket.exists());
        (daemon, address)
    }

    /// A stand-in for NetworkManager with one connection, whose lease has these options.
    fn network_manager(dir: &Path, address: &str, options: &str) -> Process {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-m", "dbusmock", "--system", SERVICE, ROOT, SERVICE]);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", address);
        let process = Process::spawn("network-manager", command, dir).unwrap();
        let mock = |method: &str, args: &[&str]| {
            let mut command = Command::new("gdbus");
            command.args([
                "call",
                "--address",
                address,
                "--dest",
                SERVICE,
                "--object-path",
                ROOT,
                "--method",
            ]);
            command.arg(format!("org.freedesktop.DBus.Mock.{method}")).args(args).output().unwrap()
        };
        let (active, lease) = (format!("{ROOT}/ActiveConnection/1"), format!("{ROOT}/DHCP4Config/1"));
        let root = format!("{{'ActiveConnections': <[objectpath '{active}']>}}");
        wait_until("the stand-in answers", LIMIT, || {
            mock("AddProperties", &[SERVICE, &root]).status.success()
        });
        let held = format!("{{'Dhcp4Config': <objectpath '{lease}'>}}");
        let options = format!("{{'Options': <{options}>}}");
        for (path, interface, properties) in [(&active, ACTIVE, &held), (&lease, DHCP4, &options)] {
            let added = mock("AddObject", &[path, interface, properties, "@a(ssss) []"]);
            assert!(added.status.success(), "{added:?}");
        }
        process
    }

    async fn ask(address: &str) -> Result<Offered, String> {
        offered_by(connection::Builder::address(address)).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn its_lease_is_read_from_the_bus() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ask("unix:path=/nonexistent").await.unwrap_err().contains("no D-Bus"));
        let (_bus, address) = bus(dir.path());
        assert_eq!(ask(&address).await, Err("NetworkManager does not run".to_owned()));
        let options = "{'private_234': <'50:61:72:69:73:00'>, 'unknown_235': <'c1.example,c2'>, 'wpad': <'http://p/wpad.dat'>, 'routers': <'10.0.0.1'>}";
        let _stand_in = network_manager(dir.path(), &address, options);
        let offered = ask(&address).await.unwrap();
        assert_eq!(offered.group.as_deref(), Some(&b"Paris\0"[..]));
        assert_eq!(offered.cache_hosts.as_deref(), Some(&b"c1.example,c2"[..]));
        assert_eq!(offered.script.as_deref(), Some(&b"http://p/wpad.dat"[..]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lease_without_them_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (_bus, address) = bus(dir.path());
        let _stand_in = network_manager(dir.path(), &address, "{'routers': <'10.0.0.1'>}");
        assert_eq!(ask(&address).await, Err("NetworkManager's leases hold none of the options".to_owned()));
    }

    #[test]
    fn bytes_in_hex_or_text() {
        assert_eq!(value_of("50:61:72:69:73:00"), Some(b"Paris\0".to_vec()));
        assert_eq!(value_of("Paris"), Some(b"Paris".to_vec()));
        assert_eq!(value_of("cache.example:8080"), Some(b"cache.example:8080".to_vec()));
        assert_eq!(value_of(&"x".repeat(MAX_VALUE + 1)), None);
    }
}
