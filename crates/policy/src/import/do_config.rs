//! `Get-DOConfig -Verbose | ConvertTo-Json`: DO's field names, each with its provider. Fields that somebody set are taken;
//! defaults are not, because ours stand in for them.

use serde_json::Value as Json;
use toml::Value;

use super::collect::{Collector, shown};
use super::intune::scalar;
use crate::setting::Setting;
use crate::table::{Key, TABLE};

/// Names that PowerShell prints for modes (DO reference §1.2).
const MODES: [(&str, i64); 6] =
    [("CdnOnly", 0), ("Lan", 1), ("Group", 2), ("Internet", 3), ("Simple", 99), ("Bypass", 100)];
/// The provider of what nobody has set (DO reference §4.4).
const DEFAULT: i64 = 99;

/// Reads an object, or the first of a list.
pub(super) fn read(json: &Json, found: &mut Collector) {
    let object = match json {
        Json::Array(items) => {
            if items.len() > 1 {
                found.remark("$", format!("a list of {} objects, of which the first is read", items.len()));
            }
            items.first()
        }
        other => Some(other),
    };
    let Some(fields) = object.and_then(Json::as_object) else {
        return found.remark("$", "no object with the fields of Get-DOConfig");
    };
    for (name, json) in fields {
        let place = format!("$.{}", shown(name));
        if name.ends_with("Provider") || name.starts_with("Cim") || name.starts_with("PS") {
            continue;
        }
        let provider = fields.get(&format!("{name}Provider"));
        if provider.is_some_and(is_default) {
            found.remark(&place, format!("{} is a default of Delivery Optimization; not taken", shown(name)));
            continue;
        }
        if json.is_null() {
            continue;
        }
        field(&place, name, json, found);
    }
}

fn is_default(provider: &Json) -> bool {
    // Names are printed with a blank and without.
    let name = provider.as_str().map(|name| name.replace(' ', ""));
    provider.as_i64() == Some(DEFAULT)
        || name.is_some_and(|name| name.eq_ignore_ascii_case("DefaultProvider"))
}

fn field(place: &str, name: &str, json: &Json, found: &mut Collector) {
    let row = TABLE.iter().find(|row| row.field.eq_ignore_ascii_case(name));
    let setting = row.or_else(|| Setting::find(name));
    let do_name = setting.map_or(name, |setting| setting.name);
    let value = match (setting.map(|setting| setting.key), json) {
        (Some(Key::DownloadMode), Json::String(mode)) => {
            let known = MODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(mode));
            Some(known.map_or_else(|| Value::String(mode.clone()), |(_, number)| Value::Integer(*number)))
        }
        // Bytes per second, where the policy is in KB/s.
        (Some(_), Json::Number(rate)) if name.ends_with("Bps") => rate
            .as_u64()
            .map(|rate| if rate == 0 { Value::Integer(0) } else { Value::String(format!("{rate}B/s")) }),
        (_, Json::Array(items)) => {
            let texts = items.iter().map(|item| item.as_str().map(Value::from));
            texts.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        (_, Json::Object(fields)) => {
            let parts = fields.iter().map(|(name, part)| Some((name.clone(), scalar(part)?)));
            parts.collect::<Option<toml::Table>>().map(Value::Table)
        }
        _ => scalar(json),
    };
    match value {
        Some(value) => found.take(place, do_name, &value),
        None => found.remark(place, format!("{}: its value has a form that is not known", shown(name))),
    }
}
