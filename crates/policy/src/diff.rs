//! What a policy would change on a device, setting by setting, and why it would not.

use serde::Serialize;

use crate::layer::Layer;
use crate::layers::{Layers, Said};
use crate::table::Key;

/// One setting that a policy speaks of, or spoke of before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Difference {
    /// Our name.
    pub name: &'static str,
    /// What holds now.
    pub old: Said,
    /// What would hold.
    pub new: Said,
    /// Whether that is another value.
    pub changes: bool,
    /// Why nothing changes though the policy speaks of it.
    pub why: Option<String>,
}

/// Compares what holds with what would hold if `given` came in force, which `then` has in its place.
pub fn diff(now: &Layers, then: &Layers, given: &Layer) -> Vec<Difference> {
    let one = |key: Key| {
        let (old, new) = (now.row_of(key).effective, then.row_of(key).effective);
        let changes = old.value != new.value;
        let wanted = given.get(key).map(|value| value.json(&key.setting().rule));
        if !changes && wanted.is_none() && old == new {
            return None;
        }
        let why = (!changes).then(|| match (&wanted, given.source(key)) {
            (Some(wanted), source) if new.source.as_deref() != source && *wanted != new.value => {
                format!("{} says {}, which is stronger", new.who(), new.text)
            }
            _ => format!("it is so already, from {}", old.who()),
        });
        Some(Difference { name: key.name(), old, new, changes, why })
    };
    Key::ALL.iter().filter_map(|key| one(*key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Provider, parse_layer};

    #[test]
    fn says_what_changes_what_does_not_and_why() {
        let layer = |name: &str, text: &str| parse_layer(name, text).unwrap();
        let mut now = Layers::default();
        now.replace(Provider::Fleet, layer("fleet policy 3 for all", "download_mode = 2"));
        now.replace(Provider::Policy, layer("policy.toml", "max_cache_age = 5\nmin_background_qos = 700"));
        let given = layer(
            "new.toml",
            "download_mode = 1\nmax_cache_size = 30\nmax_cache_age = 5\nlocal_discovery = true",
        );
        let mut then = now.clone();
        then.replace(Provider::Policy, given.clone());
        let found = diff(&now, &then, &given);
        let told: Vec<_> = found
            .iter()
            .map(|d| (d.name, d.old.text.as_str(), d.new.text.as_str(), d.why.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "download_mode",
                    "group",
                    "group",
                    "fleet (fleet policy 3 for all) says group, which is stronger"
                ),
                ("max_cache_age", "5 s", "5 s", "it is so already, from policy (policy.toml)"),
                ("max_cache_size", "20 %", "30 %", ""),
                ("min_background_qos", "700 KB/s", "2500 KB/s", ""),
                ("local_discovery", "true", "true", "it is so already, from default"),
            ]
        );
        assert!(diff(&now, &now, &Layer::default()).is_empty());
    }

    #[test]
    fn a_zero_that_is_said_is_the_zero_that_holds() {
        // Published, the file is known by another name.
        let text = "max_background_download_bandwidth = 0";
        let (given, published) = (parse_layer("do.toml", text), parse_layer("fleet policy 6 for all", text));
        let mut then = Layers::default();
        then.replace(Provider::Fleet, published.unwrap());
        let found = diff(&Layers::default(), &then, &given.unwrap());
        assert_eq!(found[0].why.as_deref(), Some("it is so already, from default"));
    }
}
