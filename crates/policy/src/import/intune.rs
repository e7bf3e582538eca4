//! Intune: profiles of the settings catalog as the portal exports them, and custom profiles with OMA-URIs as Graph has
//! them. Both are trees; settings may stand at any depth.

use serde_json::Value as Json;
use toml::Value;

use super::collect::{Collector, shown};

/// The area of the policies in both spellings.
const CATALOG: &str = "device_vendor_msft_policy_config_deliveryoptimization_";
const OMA: &str = "./vendor/msft/policy/config/deliveryoptimization/";
/// The same: policies of a device may be written without saying that they are.
const OMA_OF_DEVICE: &str = "./device/vendor/msft/policy/config/deliveryoptimization/";
/// Trees are not deeper.
const MAX_DEPTH: usize = 32;

/// Whether there is any setting of Intune's in it.
pub(super) fn is_export(json: &Json) -> bool {
    has(json, MAX_DEPTH)
}

fn has(json: &Json, depth: usize) -> bool {
    if depth == 0 {
        return false;
    }
    match json {
        Json::Object(fields) => {
            fields.contains_key("settingDefinitionId")
                || fields.contains_key("omaUri")
                || fields.contains_key("omaSettings")
                || fields.values().any(|field| has(field, depth - 1))
        }
        Json::Array(items) => items.iter().any(|item| has(item, depth - 1)),
        _ => false,
    }
}

/// Reads every setting.
pub(super) fn read(json: &Json, found: &mut Collector) {
    walk(json, "$", MAX_DEPTH, found);
}

fn walk(json: &Json, place: &str, depth: usize, found: &mut Collector) {
    if depth == 0 {
        return found.remark(place, format!("nested deeper than {MAX_DEPTH} levels; not read"));
    }
    match json {
        Json::Object(fields) => {
            if let Some(id) = fields.get("settingDefinitionId").and_then(Json::as_str) {
                catalog(id, json, place, found);
            }
            if let Some(uri) = fields.get("omaUri").and_then(Json::as_str) {
                oma(uri, json.get("value"), place, found);
            }
            for (name, field) in fields {
                if field.is_object() || field.is_array() {
                    walk(field, &format!("{place}.{}", shown(name)), depth - 1, found);
                }
            }
        }
        Json::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                walk(item, &format!("{place}[{at}]"), depth - 1, found);
            }
        }
        _ => {}
    }
}

/// A setting of the catalog: its id ends in the policy's name, a choice's value in `_` and the number.
fn catalog(id: &str, instance: &Json, place: &str, found: &mut Collector) {
    let id = id.to_ascii_lowercase();
    let Some(name) = id.strip_prefix(CATALOG) else {
        return found.remark(place, format!("{}: no setting of Delivery Optimization", shown(&id)));
    };
    let value = |kind: &str| instance.get(kind).and_then(|value| value.get("value"));
    let items = instance.get("simpleSettingCollectionValue").and_then(Json::as_array);
    let value = match (value("simpleSettingValue"), value("choiceSettingValue"), items) {
        (Some(simple), ..) => scalar(simple),
        (_, Some(choice), _) => {
            let number = choice.as_str().and_then(|choice| choice.rsplit_once('_')).map(|(_, number)| number);
            number.and_then(|number| number.parse().ok()).map(Value::Integer)
        }
        (.., Some(items)) => {
            let texts = items.iter().map(|item| Some(Value::from(item.get("value")?.as_str()?)));
            texts.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        _ => None,
    };
    match value {
        Some(value) => found.take(place, name, &value),
        None => found.remark(place, format!("{}: its value has a form that is not known", shown(name))),
    }
}

fn oma(uri: &str, value: Option<&Json>, place: &str, found: &mut Collector) {
    let lower = uri.trim().to_ascii_lowercase();
    let Some(name) = lower.strip_prefix(OMA).or_else(|| lower.strip_prefix(OMA_OF_DEVICE)) else {
        return found.remark(place, format!("{}: no setting of Delivery Optimization", shown(uri)));
    };
    match value.filter(|value| !value.is_null()) {
        None => found.remark(place, format!("{}: without a value", shown(uri))),
        Some(value) => match scalar(value) {
            Some(value) => found.take(place, name, &value),
            None => {
                let sentence =
                    format!("{name} = {}: neither text nor a whole number", shown(&value.to_string()));
                found.remark(place, sentence);
            }
        },
    }
}

/// A number or text.
pub(super) fn scalar(json: &Json) -> Option<Value> {
    match json {
        Json::Number(number) => number.as_i64().map(Value::Integer),
        Json::String(text) => Some(Value::String(text.clone())),
        Json::Bool(value) => Some(Value::Boolean(*value)),
        _ => None,
    }
}
