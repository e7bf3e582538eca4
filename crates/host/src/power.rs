//! Battery and mains as the kernel shows them in `/sys/class/power_supply` (kernel documentation, ABI/testing/sysfs-class-power).
//! For devices without UPower.

use std::path::Path;

use peerage_policy::Power;

use crate::small_file::read_text;

const SUPPLIES: &str = "sys/class/power_supply";
/// More than any device has.
const MAX_SUPPLIES: usize = 64;

/// What feeds the device; `None`: the kernel shows no supply, as on servers and most virtual machines.
pub(crate) fn power() -> Option<Power> {
    power_under(Path::new("/"))
}

/// On battery is whoever has a battery that is being emptied, or one beside a mains that gives nothing. The charge is the
/// mean of all batteries.
fn power_under(root: &Path) -> Option<Power> {
    let entries = std::fs::read_dir(root.join(SUPPLIES)).ok()?;
    let (mut seen, mut mains_on, mut mains_off, mut emptying) = (false, false, false, false);
    let mut charges: Vec<Option<u32>> = Vec::new();
    for entry in entries.flatten().take(MAX_SUPPLIES) {
        let read = |name: &str| {
            let text = read_text(&entry.path().join(name), 256).ok();
            text.map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        match read("type").as_str() {
            // Those of mice and keyboards feed these, not the device.
            "Battery" if read("scope") != "Device" && read("present") != "0" => {
                charges.push(read("capacity").parse().ok());
                emptying |= read("status") == "Discharging";
            }
            "Battery" | "" => continue,
            _ if read("scope") == "Device" => continue,
            _ => match read("online").as_str() {
                "" | "0" => mains_off = true,
                _ => mains_on = true,
            },
        }
        seen = true;
    }
    if !seen {
        return None;
    }
    if charges.is_empty() || mains_on || !(emptying || mains_off) {
        return Some(Power::Mains);
    }
    let known: Vec<u32> = charges.into_iter().flatten().map(|charge| charge.min(100)).collect();
    let mean = known.iter().sum::<u32>().checked_div(u32::try_from(known.len()).unwrap_or(u32::MAX));
    Some(Power::Battery { charge: mean.and_then(|mean| u8::try_from(mean).ok()) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A device whose supplies have these files: `type=Battery capacity=50`.
    fn device(supplies: &[&str]) -> Option<Power> {
        let root = tempfile::tempdir().unwrap();
        for (at, files) in supplies.iter().enumerate() {
            let directory = root.path().join(SUPPLIES).join(format!("S{at}"));
            fs::create_dir_all(&directory).unwrap();
            for (name, text) in files.split(' ').filter_map(|file| file.split_once('=')) {
                fs::write(directory.join(name), format!("{text}\n")).unwrap();
            }
        }
        power_under(root.path())
    }

    #[test]
    fn supplies() {
        let battery = |charge| Some(Power::Battery { charge });
        for (supplies, power) in [
            (&[][..], None),
            (&["type=Mains online=1"], Some(Power::Mains)),
            (&["type=Mains online=0"], Some(Power::Mains)),
            (&["type=Mains online=1", "type=Battery status=Charging capacity=50"], Some(Power::Mains)),
            (&["type=Mains online=1", "type=Battery status=Discharging capacity=50"], Some(Power::Mains)),
            (&["type=Mains online=0", "type=Battery status=Discharging capacity=50"], battery(Some(50))),
            (&["type=Mains online=0", "type=Battery status=Unknown capacity=7"], battery(Some(7))),
            (
                &["type=Battery status=Discharging capacity=80", "type=Battery status=Full capacity=100"],
                battery(Some(90)),
            ),
            (&["type=Battery status=Discharging"], battery(None)),
            (&["type=Battery status=Discharging capacity=much"], battery(None)),
            (&["type=Battery status=Full capacity=100"], Some(Power::Mains)),
            (&["type=Battery status=Discharging scope=Device capacity=5"], None),
            (&["type=Mains online=0", "type=Battery present=0"], Some(Power::Mains)),
            (&["type=USB online=1", "type=Battery status=Discharging capacity=5"], Some(Power::Mains)),
        ] {
            assert_eq!(device(supplies), power, "{supplies:?}");
        }
    }
}
