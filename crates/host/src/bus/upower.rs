//! UPower (its D-Bus reference, org.freedesktop.UPower and org.freedesktop.UPower.Device).

use peerage_policy::Power;
use zbus::{Connection as Bus, OwnedObjectPath};

use super::{Properties, call, get, number, properties, runs};

const SERVICE: &str = "org.freedesktop.UPower";
const ROOT: &str = "/org/freedesktop/UPower";
const DEVICE: &str = "org.freedesktop.UPower.Device";
/// All batteries as one.
const DISPLAY_DEVICE: &str = "/org/freedesktop/UPower/devices/DisplayDevice";
/// Batteries that are looked at where there is no such device.
const MAX_DEVICES: usize = 16;
/// Types of devices.
const BATTERY: f64 = 2.0;
const UPS: f64 = 3.0;

/// What says that something may have changed.
pub(super) const SIGNALS: &[&str] = &[
    "type='signal',sender='org.freedesktop.UPower',interface='org.freedesktop.DBus.Properties',\
     path_namespace='/org/freedesktop/UPower'",
    "type='signal',sender='org.freedesktop.UPower',interface='org.freedesktop.UPower'",
    "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.UPower'",
];

/// What feeds the device; `None`: UPower does not run or does not say.
pub(super) async fn power(bus: &Bus) -> Option<Power> {
    if !runs(bus, SERVICE).await {
        return None;
    }
    let root = properties(bus, SERVICE, ROOT, SERVICE).await.ok()?;
    match get::<bool>(&root, "OnBattery")? {
        false => Some(Power::Mains),
        true => Some(Power::Battery { charge: charge(bus).await }),
    }
}

/// The charge in percent.
async fn charge(bus: &Bus) -> Option<u8> {
    let display = properties(bus, SERVICE, DISPLAY_DEVICE, DEVICE).await.ok();
    if let Some(charge) = display.and_then(|device| charge_of(&device)) {
        return Some(charge);
    }
    // Old versions and odd devices have no display device, or an empty one.
    let answer = call(bus, SERVICE, ROOT, SERVICE, "EnumerateDevices", &()).await.ok()?;
    let devices: Vec<OwnedObjectPath> = answer.body().deserialize().ok()?;
    let mut charges = Vec::new();
    for device in devices.iter().take(MAX_DEVICES) {
        let device = properties(bus, SERVICE, device.as_str(), DEVICE).await.ok();
        charges.extend(device.filter(feeds_the_device).and_then(|device| charge_of(&device)).map(u32::from));
    }
    let mean = charges.iter().sum::<u32>().checked_div(u32::try_from(charges.len()).ok()?)?;
    u8::try_from(mean).ok()
}

/// Not the battery of a mouse.
fn feeds_the_device(device: &Properties) -> bool {
    get(device, "PowerSupply").unwrap_or(true)
}

fn charge_of(device: &Properties) -> Option<u8> {
    let is_battery = [BATTERY, UPS].map(Some).contains(&number(device, "Type"));
    let present = get(device, "IsPresent").unwrap_or(true);
    let percent = number(device, "Percentage").filter(|_| is_battery && present)?;
    // Rounded down: 59.9 % is less than 60 %.
    Some(percent.clamp(0.0, 100.0) as u8)
}
