//! What is wrong, contradictory or outdated in policy files, in sentences. Nothing here is needed to obey a policy: the
//! layers settle every conflict in one way (product §5), and this says which.

mod rules;

use serde::{Serialize, Serializer};

use crate::error::PolicyError;
use crate::layer::{Layer, parse_layer};
use crate::retired;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file is refused as a whole.
    Error,
    /// Settings contradict each other, or one has no effect beside the others.
    Conflict,
    /// Delivery Optimization has deprecated it.
    Deprecated,
    /// Worth knowing.
    Note,
}

impl Level {
    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Conflict => "conflict",
            Self::Deprecated => "deprecated",
            Self::Note => "note",
        }
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Advice {
    /// How bad it is.
    pub level: Level,
    /// The settings that it is about.
    pub settings: Vec<&'static str>,
    /// What was found, and what follows.
    pub sentence: String,
}

/// Checks policy files that are read one after the other, later ones over earlier ones, each a name and a text. The worst
/// comes first.
pub fn check(files: &[(String, String)]) -> Vec<Advice> {
    let (mut all, mut layer) = (Vec::new(), Layer::default());
    for (name, text) in files {
        match parse_layer(name, text) {
            Ok(later) => {
                all.extend(replaced(&layer, &later));
                layer.overlay(later);
            }
            Err(errors) => all.extend(errors.0.iter().map(error)),
        }
    }
    all.extend(rules::judge(&layer));
    all.sort_by_key(|advice| advice.level);
    all
}

fn error(error: &PolicyError) -> Advice {
    let hint = match error {
        PolicyError::UnknownKey { key, .. } => retired::find(key).map(|retired| retired.advice()),
        _ => None,
    };
    let sentence = hint.map_or_else(|| error.to_string(), |hint| format!("{error}: {hint}"));
    Advice { level: Level::Error, settings: Vec::new(), sentence }
}

/// Settings that a later file gives another value.
fn replaced<'a>(before: &'a Layer, later: &'a Layer) -> impl Iterator<Item = Advice> + 'a {
    later.keys().filter_map(|key| {
        let (was, is) = (before.said(key)?, later.said(key)?);
        let (from, by) = (before.source(key)?, later.source(key)?);
        (was != is).then(|| Advice {
            level: Level::Conflict,
            settings: vec![key.name()],
            sentence: format!(
                "{} is {was} in {from} and {is} in {by}, which is read later and wins",
                key.name()
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(Level, String)> {
        let files = [("policy.toml".to_owned(), text.to_owned())];
        check(&files).into_iter().map(|advice| (advice.level, advice.sentence)).collect()
    }

    #[track_caller]
    fn says(text: &str, level: Level, part: &str) {
        let all = found(text);
        assert!(all.iter().any(|(l, sentence)| *l == level && sentence.contains(part)), "{text}: {all:?}");
    }

    #[test]
    fn a_limit_of_nothing_contradicts_no_other() {
        let hours =
            "set_hours_to_limit_background_download_bandwidth = { from = 8, to = 18, in = 30, out = 0 }\n";
        for text in [
            "percentage_max_background_bandwidth = 50\nmax_background_download_bandwidth = 0\n".to_owned(),
            "percentage_max_foreground_bandwidth = 0\nmax_foreground_download_bandwidth = 9\n".to_owned(),
            format!("{hours}percentage_max_background_bandwidth = 0\n"),
        ] {
            let conflicts = found(&text).into_iter().filter(|(level, _)| *level == Level::Conflict);
            assert_eq!(conflicts.collect::<Vec<_>>(), [], "{text}");
        }
    }

    #[test]
    fn every_conflict_has_its_sentence() {
        use Level::{Conflict, Deprecated, Error, Note};
        let group = "group_id = '6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11'\n";
        let hours =
            "set_hours_to_limit_background_download_bandwidth = { from = 20, to = 6, in = 100, out = 10 }\n";
        for (text, level, part) in [
            (
                group,
                Conflict,
                "group_id has no effect: it is used in download_mode group (2), and the mode is lan (1), unless another file or \
                 layer sets download_mode",
            ),
            (&format!("{group}DODownloadMode = 2\nDOGroupIdSource = 1"), Conflict, "group_id wins"),
            ("DODownloadMode = 2", Note, "first available of AD site"),
            ("DODownloadMode = 100", Deprecated, "0x80D03002"),
            ("DOMaxUploadBandwidth = 5", Deprecated, "max_upload_bandwidth is deprecated"),
            ("DOMaxDownloadBandwidth = 5", Error, "replaced by max_foreground_download_bandwidth"),
            ("absolute_max_cache_size = 5\nmax_cache_size = 5", Conflict, "the absolute size overrides"),
            (&format!("{hours}percentage_max_background_bandwidth = 5"), Conflict, "replace the percentage"),
            (hours, Note, "crosses midnight"),
            (
                "percentage_max_foreground_bandwidth = 5\nmax_foreground_download_bandwidth = 5",
                Conflict,
                "the lower",
            ),
            ("download_mode = 0\ndelay_background_download_from_http = 5", Conflict, "uses no peers"),
            ("delay_foreground_download_from_http = 600", Note, "30 to 60 s"),
            (
                "delay_background_download_from_http = 5\ndelay_cache_server_fallback_background = 5",
                Conflict,
                "passes first",
            ),
            ("max_background_download_bandwidth = 1000", Conflict, "the floor is never reached"),
            ("monthly_upload_data_cap = 5", Conflict, "counts bytes to Internet peers"),
            ("download_mode = 3\nmonthly_upload_data_cap = 0", Note, "nothing limits"),
            ("restrict_peer_selection_by = 2\nlocal_discovery = false", Conflict, "no peers at all"),
            ("restrict_peer_selection_by = 1\ndownload_mode = 2", Conflict, "are never used"),
            ("cache_host = 'a'\ncache_host_source = 2", Conflict, "DHCP option 235 wins"),
            ("cache_host = ''", Conflict, "counts as configured"),
            (
                "cache_host_source = 0\ndelay_cache_server_fallback_background = 5",
                Conflict,
                "none is looked for",
            ),
            ("vpn_keywords = ['vp', 'secure']", Conflict, "part of many names"),
            ("vpn_keywords = ['corp']", Note, "no longer tells a VPN"),
            ("vpn_keywords = ['corp']\nallow_vpn_peer_caching = 1", Conflict, "vpn_keywords has no effect"),
            ("peer_encryption = 'off'", Note, "whoever listens"),
            ("max_cache_age = 0", Note, "until their space is needed"),
            ("max_cache_size = 0", Error, "found 0, allowed is 1 to 100 %"),
        ] {
            says(text, level, part);
        }
    }

    #[test]
    fn a_sound_policy_has_nothing_to_be_said_of() {
        assert_eq!(found("download_mode = 'lan'\nmin_file_size_to_cache = '10MB'\nmax_cache_age = '7d'"), []);
        assert_eq!(found(""), []);
    }

    #[test]
    fn later_files_win_and_that_is_said() {
        let files = [
            ("a.toml", "max_cache_age = 5\nmax_cache_size = 9"),
            ("b.toml", "max_cache_age = 6\nmax_cache_size = 9"),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let found = check(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].sentence,
            "max_cache_age is 5 s in a.toml and 6 s in b.toml, which is read later and wins"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in "\\PC{0,80}|((DO)?(max_cache_size|download_mode|vpn_keywords|GroupIdSource) = [0-9'a]{1,4}\n){0,4}") {
            let found = check(&[("p".to_owned(), text)]);
            prop_assert!(found.is_sorted_by_key(|advice| advice.level));
        }
    }
}
