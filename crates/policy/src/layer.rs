//! Layers: what one provider says. TOML text in and out.

use std::collections::BTreeMap;

use toml::Value;

use crate::error::{PolicyError, PolicyErrors};
use crate::field::Show;
use crate::setting::Setting;
use crate::table::{Key, Values};

/// The most text that one policy file may have: 256 KiB.
pub const MAX_POLICY_TEXT: usize = 256 * 1024;

/// The settings that one provider gives, each with the file it stands in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layer {
    pub(crate) values: Values,
    sources: BTreeMap<Key, String>,
}

/// Reads one file of settings: TOML, one flat list, either spelling of the keys, either form of the values.
/// `source_name` is the file's path, or what else the messages shall name.
///
/// # Errors
/// Everything that is wrong, not only the first; nothing of such a file holds.
pub fn parse_layer(source_name: &str, toml_text: &str) -> Result<Layer, PolicyErrors> {
    let file = source_name.to_owned();
    if toml_text.len() > MAX_POLICY_TEXT {
        return Err(PolicyError::TooLarge { file, found: toml_text.len(), allowed: MAX_POLICY_TEXT }.into());
    }
    let table = toml_text.parse::<toml::Table>().map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + toml_text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        PolicyError::Syntax { file, line, message: error.message().to_owned() }
    })?;
    let mut layer = Layer::default();
    let mut errors = Vec::new();
    for (key, raw) in &table {
        if let Err(error) = layer.read(source_name, key, raw) {
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(layer) } else { Err(PolicyErrors(errors)) }
}

impl Layer {
    /// Sets one value from text, as a command line has it. Lists are comma-separated.
    ///
    /// # Errors
    /// The setting is unknown or the value not allowed; the layer is as before.
    pub fn set(&mut self, source_name: &str, name: &str, text: &str) -> Result<Key, PolicyError> {
        let mut one = Self::default();
        let key = one.read(source_name, name, &Value::String(text.to_owned()))?;
        self.overlay(one);
        Ok(key)
    }

    /// Takes one setting out; whether it was there.
    pub fn unset(&mut self, key: Key) -> bool {
        self.sources.remove(&key);
        self.values.remove(key)
    }

    /// Lets a file that is read later replace what stands here, setting by setting.
    pub fn overlay(&mut self, later: Self) {
        self.values.overlay(later.values);
        self.sources.extend(later.sources);
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The settings it gives.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.sources.keys().copied()
    }

    /// The file a setting stands in.
    pub fn source(&self, key: Key) -> Option<&str> {
        self.sources.get(&key).map(String::as_str)
    }

    /// The text of a file that [`parse_layer`] reads as this layer.
    pub fn to_toml(&self) -> String {
        let mut table = toml::Table::new();
        for key in Key::ALL {
            let value = self.get(*key).and_then(|value| value.toml(&key.setting().rule));
            table.extend(value.map(|value| (key.name().to_owned(), value)));
        }
        table.to_string()
    }

    /// The value of a setting for people, if it is given.
    pub fn said(&self, key: Key) -> Option<String> {
        self.get(key).map(|value| value.text(&key.setting().rule))
    }

    /// Keeps only the settings that `keep` wants, by key and file.
    pub fn retain(&mut self, keep: impl Fn(Key, &str) -> bool) {
        let gone: Vec<Key> =
            self.sources.iter().filter(|(key, file)| !keep(**key, file)).map(|(key, _)| *key).collect();
        for key in gone {
            self.unset(key);
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&dyn Show> {
        self.values.get(key)
    }

    /// Reads one value of a file.
    pub(crate) fn read(&mut self, source_name: &str, name: &str, raw: &Value) -> Result<Key, PolicyError> {
        let file = source_name.to_owned();
        let spelled = || name.chars().take(80).collect::<String>();
        let Some(setting) = Setting::find(name) else {
            let nearest = if name.len() <= 80 { Setting::nearest(name) } else { None };
            return Err(PolicyError::UnknownKey { file, key: spelled(), nearest });
        };
        let key = setting.key;
        if self.sources.contains_key(&key) {
            // Two keys that are spelt alike are no TOML, so the first was spelt in the other way.
            let ours = name.eq_ignore_ascii_case(setting.name);
            let again = setting.do_name.filter(|_| ours).map_or_else(spelled, str::to_owned);
            return Err(PolicyError::Twice { file, key: setting.name, again });
        }
        self.values.read(key, raw).map_err(|found| {
            let allowed = setting.rule.to_string();
            PolicyError::Refused { file: file.clone(), key: spelled(), found, allowed }
        })?;
        self.sources.insert(key, file);
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
