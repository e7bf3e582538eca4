//! The stack of layers: fleet over policy over admin over default, and what each of them says.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use serde_json::json;

use crate::choice::DownloadMode;
use crate::field::Show;
use crate::layer::Layer;
use crate::rule::Rule;
use crate::setting::Setting;
use crate::table::{Key, Settings};

/// Why `bypass` is not done.
pub(crate) const BYPASS: &str = "bypass hands downloads to BITS in Windows, is deprecated there since Windows 11 and makes \
     some downloads fail (0x80D03002); it is treated as simple";

/// Who gives a setting, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// The coordinator, by signature.
    Fleet,
    /// `policy.toml` and `policy.d/*.toml` of the device.
    Policy,
    /// The device's administrator, by `peerage set`.
    Admin,
    /// The table.
    Default,
}

impl Provider {
    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Policy => "policy",
            Self::Admin => "admin",
            Self::Default => "default",
        }
    }

    /// DO's number of its like: MDM, registry, admin and default provider (DO reference §4.4).
    pub const fn do_number(self) -> u8 {
        match self {
            Self::Fleet => 7,
            Self::Policy => 5,
            Self::Admin => 9,
            Self::Default => 99,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Provider {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What one layer says about one setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Said {
    /// The layer.
    pub provider: Provider,
    /// The file it stands in; `None` for a default.
    pub source: Option<String>,
    /// The value for people: `50 MB`, `lan`.
    pub text: String,
    /// The value in DO's number and unit.
    pub value: serde_json::Value,
}

impl Said {
    /// The layer, and the file it stands in: `policy (/etc/peerage/policy.toml)`.
    pub fn who(&self) -> String {
        self.source
            .as_ref()
            .map_or_else(|| self.provider.to_string(), |file| format!("{} ({file})", self.provider))
    }
}

/// One setting as `peerage config` lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    /// Our name.
    pub name: &'static str,
    /// DO's name of the policy, if it has one.
    pub do_name: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
    /// What is allowed.
    pub allowed: String,
    /// Whether DO has deprecated it.
    pub deprecated: bool,
    /// What holds.
    pub effective: Said,
    /// What each weaker layer says that says something, down to the default.
    pub lower: Vec<Said>,
    /// What else to know about the value.
    pub note: Option<&'static str>,
}

/// The three layers above the defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layers {
    fleet: Layer,
    policy: Layer,
    admin: Layer,
    /// Where this device's cache is as long as no layer says otherwise; `None`: where the table says.
    own_cache: Option<PathBuf>,
}

impl Layers {
    /// Tells where the cache is without a setting: the agent's configuration may name another directory than the table.
    pub fn set_own_cache(&mut self, directory: PathBuf) {
        self.own_cache = Some(directory);
    }

    fn defaults(&self) -> Settings {
        let mut settings = Settings::default();
        if let Some(directory) = &self.own_cache {
            settings.modify_cache_drive.clone_from(directory);
        }
        settings
    }

    /// Puts a whole layer in place of the last one of that provider. The default layer cannot be replaced: it is left as it is.
    pub fn replace(&mut self, provider: Provider, layer: Layer) {
        match provider {
            Provider::Fleet => self.fleet = layer,
            Provider::Policy => self.policy = layer,
            Provider::Admin => self.admin = layer,
            Provider::Default => {}
        }
    }

    /// The layer of a provider; `None` for the defaults.
    pub const fn layer(&self, provider: Provider) -> Option<&Layer> {
        match provider {
            Provider::Fleet => Some(&self.fleet),
            Provider::Policy => Some(&self.policy),
            Provider::Admin => Some(&self.admin),
            Provider::Default => None,
        }
    }

    /// The effective values.
    pub fn settings(&self) -> Settings {
        let mut settings = self.defaults();
        for (provider, layer) in self.strongest_first().into_iter().rev() {
            settings.overlay(provider, &layer.values);
        }
        settings
    }

    /// Every setting, in the order of the table.
    pub fn rows(&self) -> Vec<Row> {
        let defaults = self.defaults();
        Key::ALL.iter().map(|key| self.row(*key, &defaults)).collect()
    }

    /// One setting.
    pub fn row_of(&self, key: Key) -> Row {
        self.row(key, &self.defaults())
    }

    /// The effective values as `Get-DOConfig -Verbose` has them: DO's field names, each with its `...Provider`.
    /// Choices and providers are numbers, as DO's objects become JSON; fields in `Bps` are bytes per second,
    /// all others in the policy's unit.
    pub fn to_do_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let settings = self.settings();
        let mut fields = serde_json::Map::new();
        for key in Key::ALL {
            let Setting { field, rule, .. } = key.setting();
            let base = Rule::Number { unit: crate::Unit::Count, min: 0, max: u64::MAX };
            let rule = if field.ends_with("Bps") { &base } else { rule };
            fields.insert((*field).to_owned(), settings.get(*key).json(rule));
            fields.insert(format!("{field}Provider"), json!(settings.provider(*key).do_number()));
        }
        fields
    }

    const fn strongest_first(&self) -> [(Provider, &Layer); 3] {
        [(Provider::Fleet, &self.fleet), (Provider::Policy, &self.policy), (Provider::Admin, &self.admin)]
    }

    fn row(&self, key: Key, defaults: &Settings) -> Row {
        let setting = key.setting();
        let mut said: Vec<Said> = Vec::new();
        for (provider, layer) in self.strongest_first() {
            let source = layer.source(key).map(str::to_owned);
            said.extend(layer.get(key).map(|value| say(setting, provider, source, value)));
        }
        let default = say(setting, Provider::Default, None, defaults.get(key));
        said.push(default.clone());
        let bypass = key == Key::DownloadMode && said[0].text == DownloadMode::Bypass.name();
        let note = bypass.then_some(BYPASS);
        Row {
            name: setting.name,
            do_name: setting.do_name,
            doc: setting.doc,
            allowed: setting.rule.to_string(),
            deprecated: setting.deprecated,
            effective: said.remove(0),
            lower: said,
            note,
        }
    }
}

fn say(setting: &Setting, provider: Provider, source: Option<String>, value: &dyn Show) -> Said {
    let json = value.json(&setting.rule);
    let mut text = value.text(&setting.rule);
    if let Some(meaning) = setting.zero.filter(|_| json == json!(0)) {
        text = format!("0 ({meaning})");
    }
    Said { provider, source, text, value: json }
}

#[cfg(test)]
mod tests;
