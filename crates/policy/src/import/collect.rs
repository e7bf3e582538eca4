//! What all forms have in common: a value with DO's name of its setting becomes a setting or a remark.

use toml::Value;

use super::hours::{Half, HalfOf};
use super::{Imported, MAX_REMARKS, Remark};
use crate::error::PolicyError;
use crate::layer::Layer;
use crate::rule::Rule;
use crate::setting::Setting;
use crate::table::Key;
use crate::{Hours, retired};

/// Where the settings stand that came from an import, for messages.
const SOURCE: &str = "import";
/// The longest value in a remark.
const MAX_SHOWN: usize = 80;

/// Collects settings and remarks.
#[derive(Debug, Default)]
pub(super) struct Collector {
    layer: Layer,
    /// What goes under the layer, each with where it stands: what an administrator set beside the policies.
    under: Vec<(String, &'static Setting, Value)>,
    /// Whether values go there now.
    is_under: bool,
    /// From retired policies: their successors go before them.
    weak: Layer,
    /// Hours come in four values.
    hours: [Half; 2],
    remarks: Vec<Remark>,
    more: usize,
}

impl Collector {
    /// Says what became of something.
    pub(super) fn remark(&mut self, place: &str, sentence: impl Into<String>) {
        if self.remarks.len() < MAX_REMARKS {
            self.remarks.push(Remark { place: place.to_owned(), sentence: sentence.into() });
        } else {
            self.more += 1;
        }
    }

    /// Whether the values that follow are weaker than policies.
    pub(super) const fn set_under(&mut self, is_under: bool) {
        self.is_under = is_under;
    }

    /// Takes in a value under DO's name, with or without `DO`.
    pub(super) fn take(&mut self, place: &str, name: &str, value: &Value) {
        if let Some((class, part)) = HalfOf::find(name) {
            let done = self.hours[class].take(part, place, value);
            if let Err(why) = done {
                self.remark(place, format!("{}: {why}", shown(name)));
            }
            return;
        }
        if let Some(retired) = retired::find(name) {
            self.remark(
                place,
                format!("{}; both get its value unless they have one of their own", retired.advice()),
            );
            for by in retired.by {
                if let Err(error) = self.weak.read(SOURCE, by, value) {
                    self.remark(place, said(&error));
                }
            }
            return;
        }
        let Some(setting) = Setting::find(name).or_else(|| Setting::find(&format!("DO{name}"))) else {
            let nearest = Setting::nearest(name).map(|name| format!(", perhaps {name} is meant"));
            let sentence = format!(
                "{} = {}: no such setting{}",
                shown(name),
                shown(&value.to_string()),
                nearest.unwrap_or_default()
            );
            return self.remark(place, sentence);
        };
        if let Some(why) = without_meaning(setting, value) {
            return self.remark(place, format!("{} = {}: {why}", setting.name, shown(&value.to_string())));
        }
        if self.is_under {
            return self.under.push((place.to_owned(), setting, value.clone()));
        }
        match self.layer.read(SOURCE, setting.name, value) {
            Ok(_) => self.after(place, setting),
            Err(PolicyError::Twice { .. }) => {
                // The registry and a profile may say a thing twice; the last one counts, as in a file read later.
                self.layer.unset(setting.key);
                match self.layer.read(SOURCE, setting.name, value) {
                    Ok(_) => {
                        self.remark(place, format!("{} stands here again; this value is taken", setting.name))
                    }
                    Err(error) => self.remark(place, said(&error)),
                }
            }
            Err(error) => self.remark(place, said(&error)),
        }
    }

    /// What to say of a setting that was taken.
    fn after(&mut self, place: &str, setting: &Setting) {
        if setting.deprecated {
            let sentence = format!(
                "{} is deprecated in Delivery Optimization; it is taken, and holds here",
                setting.name
            );
            self.remark(place, sentence);
        }
        if setting.key == Key::DownloadMode && self.layer.said(Key::DownloadMode).as_deref() == Some("bypass")
        {
            self.remark(place, crate::layers::BYPASS);
        }
    }

    pub(super) fn finish(mut self) -> Imported {
        self.is_under = false;
        for (place, setting, value) in std::mem::take(&mut self.under) {
            if self.layer.source(setting.key).is_some() {
                let sentence = format!(
                    "{} = {}: the policies' key goes before it",
                    setting.name,
                    shown(&value.to_string())
                );
                self.remark(&place, sentence);
            } else {
                self.take(&place, setting.name, &value);
            }
        }
        let halves = std::mem::take(&mut self.hours);
        for (half, key) in halves.into_iter().zip([
            Key::SetHoursToLimitForegroundDownloadBandwidth,
            Key::SetHoursToLimitBackgroundDownloadBandwidth,
        ]) {
            let place = half.place().to_owned();
            match half.finish() {
                None => {}
                Some(Ok(hours)) => self.hours_of(&place, key, &hours),
                Some(Err(why)) => self.remark(&place, format!("{}: {why}", key.name())),
            }
        }
        let Self { mut layer, mut weak, remarks, more, .. } = self;
        weak.retain(|key, _| layer.source(key).is_none());
        layer.overlay(weak);
        Imported { layer, remarks, more }
    }

    fn hours_of(&mut self, place: &str, key: Key, hours: &Hours) {
        if let Err(error) = self.layer.read(SOURCE, key.name(), &Value::Table(hours.to_table())) {
            self.remark(place, said(&error));
        }
    }
}

/// Why a value that DO allows means nothing on Linux.
fn without_meaning(setting: &Setting, value: &Value) -> Option<&'static str> {
    let text = value.as_str()?;
    let windows = text.contains('%') || text.contains('\\') || text.get(1..2) == Some(":");
    match setting.rule {
        Rule::Directory if windows || !text.starts_with('/') => Some(
            "a drive or variable of Windows has no meaning here; set the directory yourself if it shall not be /var/cache/peerage",
        ),
        Rule::Group if text.is_empty() => Some("empty, so nothing is set"),
        _ => None,
    }
}

fn said(error: &PolicyError) -> String {
    format!("{}; not taken", error.without_file())
}

/// Foreign text for a remark.
pub(super) fn shown(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    if text.chars().count() <= MAX_SHOWN {
        text
    } else {
        text.chars().take(MAX_SHOWN - 3).chain("...".chars()).collect()
    }
}
