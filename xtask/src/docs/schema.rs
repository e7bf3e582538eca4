//! `docs/policy.schema.json`: policy files for editors and configuration tools (JSON Schema, draft 2020-12).

use peerage_policy::{Key, Layers, Rule, Setting, Unit};
use serde_json::{Map, Value, json};

/// Its text.
pub(super) fn text() -> String {
    let mut properties = Map::new();
    for (key, row) in Key::ALL.iter().zip(Layers::default().rows()) {
        let setting = key.setting();
        let mut schema = rule(setting);
        schema
            .insert("description".into(), json!(format!("{} Default: {}.", setting.doc, row.effective.text)));
        if setting.deprecated {
            schema.insert("deprecated".into(), json!(true));
        }
        properties.insert(setting.name.to_owned(), Value::Object(schema));
        if let Some(name) = setting.do_name {
            properties.insert(name.to_owned(), json!({"$ref": format!("#/properties/{}", setting.name)}));
        }
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Peerage policy",
        "description": "A policy file of Peerage: /etc/peerage/policy.toml, policy.d/*.toml, peerage policy push. Written \
                        by `cargo xtask docs` from the table in crates/policy.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn rule(setting: &Setting) -> Map<String, Value> {
    let list = |item: Value| json!({"anyOf": [{"type": "array", "maxItems": 64, "items": item}, {"type": "string"}]});
    let schema = match setting.rule {
        Rule::Switch => json!({"anyOf": [{"type": "boolean"}, {"enum": [0, 1, "true", "false", "0", "1"]}]}),
        Rule::Number { unit, min, max } => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"type": "string", "pattern": pattern(unit)},
        ]}),
        Rule::Choice(choices) => {
            let names = choices.iter().map(|choice| json!(choice.name));
            let numbers = choices.iter().map(|choice| json!(choice.number));
            json!({"enum": names.chain(numbers).collect::<Vec<_>>()})
        }
        Rule::Group => json!({
            "type": "string",
            "pattern": "^\\{?[0-9A-Fa-f]{8}-?([0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\\}?$",
        }),
        Rule::Directory => json!({"type": "string", "pattern": "^/", "maxLength": 4096}),
        Rule::Words => {
            list(json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[^,]+$"}))
        }
        Rule::Hosts => list(json!({"type": "string", "minLength": 1, "maxLength": 261})),
        Rule::Keys => list(json!({"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"})),
        Rule::Hours => hours(),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// What the text of a number looks like: a plain number, or one with a unit.
fn pattern(unit: Unit) -> &'static str {
    match unit {
        Unit::Gigabytes | Unit::Megabytes => r"^[0-9]+(\.[0-9]+)? *([KMGTkmgt][Ii]?)?[Bb]?$",
        Unit::KilobytesPerSecond => {
            r"^[0-9]+(\.[0-9]+)? *(([KMGTkmgt][Ii]?)?[Bb]/[Ss]|[KMGkmg]?[Bb][Ii][Tt])?$"
        }
        Unit::Seconds => r"^[0-9].*$",
        Unit::Percent => r"^[0-9]+ *%?$",
        Unit::Count => r"^[0-9]+$",
    }
}

fn hours() -> Value {
    let number = |max: u8| json!({"type": "integer", "minimum": 0, "maximum": max});
    json!({
        "type": "object",
        "properties": {
            "from": number(23), "to": number(23), "in": number(100), "out": number(100),
            "days": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "time_zone": {"type": "string", "maxLength": 64},
        },
        "required": ["from", "to", "in", "out"],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_every_setting_are_in_it() {
        let schema: Value = serde_json::from_str(&text()).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        for key in Key::ALL {
            let setting = key.setting();
            let schema = &properties[setting.name];
            assert!(schema["description"].as_str().unwrap().contains("Default: "), "{}", setting.name);
            assert!(
                ["anyOf", "enum", "type"].iter().any(|word| schema.get(word).is_some()),
                "{}: {schema}",
                setting.name
            );
            assert!(setting.do_name.is_none_or(|name| properties[name]["$ref"].is_string()));
        }
        assert_eq!(
            properties["max_cache_size"]["anyOf"][0],
            json!({"type": "integer", "minimum": 1, "maximum": 100})
        );
        assert_eq!(properties["max_upload_bandwidth"]["deprecated"], true);
        assert_eq!(schema["additionalProperties"], false);
    }
}
