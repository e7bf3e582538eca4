//! Fields: the Rust types of settings' values, each with how it is read and shown.

use std::path::{Component, Path, PathBuf};

use peerage_content::PublicKey;
use serde_json::json;
use toml::Value;

use crate::choice::{
    CacheHostSource, DownloadMode, GroupIdSource, MeteredDownloads, PeerEncryption, PeerRestriction,
};
use crate::rule::{Rule, Unit};
use crate::{CacheHost, GroupId, Hours};

const MAX_ITEMS: usize = 64;
const MAX_WORD: usize = 128;
const MAX_PATH: usize = 4096;

/// What was found where something else is allowed: the value, or the part of it that does not fit.
pub(crate) type Found = String;

/// A value that can be shown.
pub(crate) trait Show {
    /// For people: `50 MB`, `lan`, `unset`.
    fn text(&self, rule: &Rule) -> String;
    /// In DO's number and unit.
    fn json(&self, rule: &Rule) -> serde_json::Value;
    /// As [`Field::read`] reads it; `None` where there is nothing to write.
    fn toml(&self, rule: &Rule) -> Option<Value>;
}

/// A type that a setting's value can have.
pub(crate) trait Field: Show + Sized {
    /// Reads and checks what a file says. Every type can also be read from text, which is what a command line has.
    fn read(raw: &Value, rule: &Rule) -> Result<Self, Found>;
}

/// A foreign value for a message.
fn found(raw: &Value) -> Found {
    shorten(&raw.to_string())
}

/// One line of at most 80 characters.
fn shorten(text: &str) -> Found {
    let text = text.trim().replace(char::is_control, " ");
    if text.chars().count() <= 80 { text } else { text.chars().take(77).chain("...".chars()).collect() }
}

// === Numbers ===

impl Field for u64 {
    fn read(raw: &Value, rule: &Rule) -> Result<Self, Found> {
        let error = || found(raw);
        let Rule::Number { unit, min, max } = *rule else { return Err(error()) };
        let plain = match raw {
            Value::Integer(number) => Some(u64::try_from(*number).map_err(|_| error())?),
            Value::String(text) => text.trim().parse().ok(),
            _ => return Err(error()),
        };
        let base = match (plain, raw.as_str()) {
            (Some(number), _) => number.checked_mul(unit.scale()),
            (None, text) => text.and_then(|text| unit.read(text.trim())),
        };
        let bounds = min.saturating_mul(unit.scale())..=max.saturating_mul(unit.scale());
        base.filter(|base| bounds.contains(base)).ok_or_else(error)
    }
}

/// The unit and, if it is a whole one, DO's number.
fn in_unit(base: u64, rule: &Rule) -> (Unit, Option<u64>) {
    let Rule::Number { unit, .. } = *rule else { return (Unit::Count, Some(base)) };
    (unit, base.is_multiple_of(unit.scale()).then(|| base / unit.scale()))
}

impl Show for u64 {
    fn text(&self, rule: &Rule) -> String {
        match in_unit(*self, rule) {
            (unit, Some(number)) => format!("{number} {}", unit.sign()).trim_end().to_owned(),
            (unit, None) => unit.exact_text(*self),
        }
    }

    fn json(&self, rule: &Rule) -> serde_json::Value {
        match in_unit(*self, rule) {
            (_, Some(number)) => json!(number),
            (unit, None) => json!(*self as f64 / unit.scale() as f64),
        }
    }

    fn toml(&self, rule: &Rule) -> Option<Value> {
        let (unit, number) = in_unit(*self, rule);
        let number = number.and_then(|number| i64::try_from(number).ok());
        Some(number.map_or_else(|| Value::String(unit.exact_text(*self)), Value::Integer))
    }
}

// === Switches and choices ===

impl Field for bool {
    fn read(raw: &Value, _: &Rule) -> Result<Self, Found> {
        match raw {
            Value::Boolean(value) => Ok(*value),
            Value::Integer(0) => Ok(false),
            Value::Integer(1) => Ok(true),
            Value::String(text) => match text.trim() {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(found(raw)),
            },
            _ => Err(found(raw)),
        }
    }
}

impl Show for bool {
    fn text(&self, _: &Rule) -> String {
        self.to_string()
    }

    fn json(&self, _: &Rule) -> serde_json::Value {
        json!(self)
    }

    fn toml(&self, _: &Rule) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

macro_rules! choice_fields {
    ($($type:ty),+) => { $(
        impl Field for $type {
            fn read(raw: &Value, _: &Rule) -> Result<Self, Found> {
                let value = match raw {
                    Value::Integer(number) => Self::from_number(*number),
                    Value::String(text) => Self::from_text(text.trim()),
                    _ => None,
                };
                value.ok_or_else(|| found(raw))
            }
        }

        impl Show for $type {
            fn text(&self, _: &Rule) -> String {
                self.name().to_owned()
            }

            fn json(&self, _: &Rule) -> serde_json::Value {
                json!(self.number())
            }

            fn toml(&self, _: &Rule) -> Option<Value> {
                Some(self.name().into())
            }
        }
    )+ };
}
choice_fields!(
    DownloadMode,
    GroupIdSource,
    PeerRestriction,
    CacheHostSource,
    MeteredDownloads,
    PeerEncryption
);

// === Text of some form ===

impl Field for GroupId {
    fn read(raw: &Value, _: &Rule) -> Result<Self, Found> {
        raw.as_str().and_then(|text| text.trim().parse().ok()).ok_or_else(|| found(raw))
    }
}

impl Show for GroupId {
    fn text(&self, _: &Rule) -> String {
        self.to_string()
    }

    fn json(&self, _: &Rule) -> serde_json::Value {
        json!(self)
    }

    fn toml(&self, _: &Rule) -> Option<Value> {
        Some(self.to_string().into())
    }
}

impl Field for PathBuf {
    fn read(raw: &Value, _: &Rule) -> Result<Self, Found> {
        let fits = |text: &&str| {
            let climbs = Path::new(text).components().any(|part| part == Component::ParentDir);
            text.starts_with('/') && text.len() <= MAX_PATH && !climbs && !text.contains(char::is_control)
        };
        raw.as_str().filter(fits).map(Self::from).ok_or_else(|| found(raw))
    }
}

impl Show for PathBuf {
    fn text(&self, _: &Rule) -> String {
        self.display().to_string()
    }

    fn json(&self, _: &Rule) -> serde_json::Value {
        json!(self.display().to_string())
    }

    fn toml(&self, _: &Rule) -> Option<Value> {
        Some(self.display().to_string().into())
    }
}

impl Field for Hours {
    fn read(raw: &Value, _: &Rule) -> Result<Self, Found> {
        let table = match raw {
            Value::Table(table) => Some(table.clone()),
            // On a command line: the same inline table as in a file.
            Value::String(text) => {
                let document = format!("hours = {text}").parse::<toml::Table>().ok();
                document.filter(|table| table.len() == 1).and_then(|mut table| match table.remove("hours") {
                    Some(Value::Table(hours)) => Some(hours),
                    _ => None,
                })
            }
            _ => None,
        };
        Self::read(&table.ok_or_else(|| found(raw))?).map_err(|part| shorten(&part))
    }
}

impl Show for Hours {
    fn text(&self, _: &Rule) -> String {
        self.to_string()
    }

    fn json(&self, _: &Rule) -> serde_json::Value {
        json!(self.to_table())
    }

    fn toml(&self, _: &Rule) -> Option<Value> {
        Some(Value::Table(self.to_table()))
    }
}

// === Lists ===

/// One entry of a list.
trait Item: Sized {
    fn from_text(text: &str) -> Option<Self>;
    fn to_text(&self) -> String;
}

impl Item for String {
    fn from_text(text: &str) -> Option<Self> {
        let fits = (1..=MAX_WORD).contains(&text.chars().count()) && !text.contains(char::is_control);
        // A comma parts words where lists are text, so no word can hold one.
        (fits && !text.contains(',')).then(|| text.to_owned())
    }

    fn to_text(&self) -> String {
        self.clone()
    }
}

impl Item for CacheHost {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Item for PublicKey {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl<T: Item> Field for Vec<T> {
    fn read(raw: &Value, _: &Rule) -> Result<Self, Found> {
        let items: Vec<&str> = match raw {
            // DO's lists are comma-separated text (DO reference §1.1).
            Value::String(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
            Value::Array(items) => {
                let text = |item| Value::as_str(item).map(str::trim).ok_or_else(|| found(item));
                items.iter().map(text).collect::<Result<_, _>>()?
            }
            _ => return Err(found(raw)),
        };
        if items.len() > MAX_ITEMS {
            return Err(format!("{} entries", items.len()));
        }
        items.iter().map(|item| T::from_text(item).ok_or_else(|| shorten(&format!("{item:?}")))).collect()
    }
}

impl<T: Item> Show for Vec<T> {
    fn text(&self, _: &Rule) -> String {
        if self.is_empty() {
            return "none".to_owned();
        }
        self.iter().map(Item::to_text).collect::<Vec<_>>().join(", ")
    }

    fn json(&self, _: &Rule) -> serde_json::Value {
        json!(self.iter().map(Item::to_text).collect::<Vec<_>>())
    }

    fn toml(&self, _: &Rule) -> Option<Value> {
        Some(self.iter().map(|item| Value::String(item.to_text())).collect::<Vec<_>>().into())
    }
}

// === Settings that may be unset ===

impl<T: Field> Field for Option<T> {
    fn read(raw: &Value, rule: &Rule) -> Result<Self, Found> {
        T::read(raw, rule).map(Some)
    }
}

impl<T: Show> Show for Option<T> {
    fn text(&self, rule: &Rule) -> String {
        self.as_ref().map_or_else(|| "unset".to_owned(), |value| value.text(rule))
    }

    fn json(&self, rule: &Rule) -> serde_json::Value {
        self.as_ref().map_or(serde_json::Value::Null, |value| value.json(rule))
    }

    fn toml(&self, rule: &Rule) -> Option<Value> {
        self.as_ref().and_then(|value| value.toml(rule))
    }
}
