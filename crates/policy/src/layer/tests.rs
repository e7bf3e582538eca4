//! Whole files: all errors at once, later files over earlier ones, text that is no policy.

use proptest::prelude::*;

use super::*;

#[test]
fn all_errors_are_collected_and_name_their_place() {
    let text =
        "download_mode = 7\nmin_ram_alowed_to_peer = 4\nDOMaxCacheSize = 0\nzzz = 1\nmax_cache_age = 60\n";
    let errors = parse_layer("/etc/peerage/policy.toml", text).unwrap_err();
    let message = errors.to_string();
    assert_eq!(errors.0.len(), 4, "{message}");
    for line in [
        "/etc/peerage/policy.toml: DOMaxCacheSize: found 0, allowed is 1 to 100 %",
        "/etc/peerage/policy.toml: download_mode: found 7, allowed is http_only (0), lan (1), group (2), internet (3), \
         simple (99), bypass (100)",
        "/etc/peerage/policy.toml: min_ram_alowed_to_peer: unknown setting, perhaps min_ram_allowed_to_peer is meant",
        "/etc/peerage/policy.toml: zzz: unknown setting",
    ] {
        assert!(message.lines().any(|found| found == line), "{line}\nnot in\n{message}");
    }
}

#[test]
fn one_setting_under_two_spellings_is_refused() {
    let errors = parse_layer("p", "max_cache_age = 1\nDOMaxCacheAge = 1").unwrap_err();
    assert!(matches!(&errors.0[..], [PolicyError::Twice { key: "max_cache_age", .. }]), "{errors}");
    assert_eq!(errors.to_string(), "p: max_cache_age: given again as DOMaxCacheAge, allowed is one of them");
}

#[test]
fn what_is_not_toml_names_its_line() {
    let errors = parse_layer("p", "max_cache_age = 1\n\nmax_cache_size = = 2\n").unwrap_err();
    assert!(matches!(&errors.0[..], [PolicyError::Syntax { line: 3, .. }]), "{errors}");
    let twice = parse_layer("p", "max_cache_age = 1\nmax_cache_age = 2\n").unwrap_err();
    assert!(matches!(&twice.0[..], [PolicyError::Syntax { line: 2, .. }]), "{twice}");
}

#[test]
fn text_has_a_limit() {
    let mut text = "#".repeat(MAX_POLICY_TEXT);
    assert!(parse_layer("p", &text).unwrap().is_empty());
    text.push('#');
    assert!(matches!(&parse_layer("p", &text).unwrap_err().0[..], [PolicyError::TooLarge { .. }]));
    let many = vec!["'a'"; 65].join(",");
    assert!(parse_layer("p", &format!("vpn_keywords = [{many}]")).is_err());
    let deep = format!("vpn_keywords = {}{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(parse_layer("p", &deep).is_err());
}

#[test]
fn messages_stay_short_and_on_one_line() {
    let text = format!("group_id = \"{}\\n\\u001b[31m\"\n\"{}\" = 1", "x".repeat(5000), "k".repeat(5000));
    for error in parse_layer("p", &text).unwrap_err().0 {
        let message = error.to_string();
        assert!(message.len() < 300 && !message.contains(char::is_control), "{message}");
    }
}

#[test]
fn later_files_replace_earlier_ones_setting_by_setting() {
    let mut layer = parse_layer("policy.toml", "download_mode = 2\nmax_cache_age = 60").unwrap();
    layer.overlay(parse_layer("policy.d/10.toml", "DODownloadMode = 'internet'").unwrap());
    assert_eq!(layer.source(Key::DownloadMode), Some("policy.d/10.toml"));
    assert_eq!(layer.source(Key::MaxCacheAge), Some("policy.toml"));
    assert_eq!(layer.to_toml(), "download_mode = \"internet\"\nmax_cache_age = 60\n");
}

#[test]
fn set_and_unset() {
    let mut layer = Layer::default();
    assert_eq!(layer.set("cli", "DOMaxCacheAge", "3d"), Ok(Key::MaxCacheAge));
    assert_eq!(layer.set("cli", "max_cache_age", "5"), Ok(Key::MaxCacheAge));
    let before = layer.clone();
    assert!(layer.set("cli", "max_cache_age", "soon").is_err() && layer.set("cli", "max_age", "1").is_err());
    assert_eq!((layer.to_toml().as_str(), &layer), ("max_cache_age = 5\n", &before));
    assert!(layer.unset(Key::MaxCacheAge) && !layer.unset(Key::MaxCacheAge) && layer.is_empty());
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (0u64..5_000_000_000).prop_map(|number| number.to_string()),
        "\\PC{0,40}".prop_map(|text| Value::String(text).to_string()),
        "[0-9]{1,12}(\\.[0-9]{1,3})? ?(B|KB|MiB|GB|mbit|KB/s|s|d|%)?"
            .prop_map(|text| Value::String(text).to_string()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<f64>().prop_map(|number| Value::Float(number).to_string()),
        prop::collection::vec("[a-z0-9.:,]{0,20}", 0..5).prop_map(|list| Value::from(list).to_string()),
        (any::<u8>(), 0u8..30, 0u8..120, 0u8..120)
            .prop_map(|(from, to, inside, out)| format!("{{from={from},to={to},in={inside},out={out}}}")),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = parse_layer("p", &text);
        for key in Key::ALL {
            let _ = Layer::default().set("p", key.name(), &text);
        }
        let _ = Layer::default().set("p", &text, &text);
    }

    #[test]
    fn what_is_accepted_reads_back_from_its_own_text(
        entries in prop::collection::btree_map(prop::sample::select(Key::ALL), any_value(), 0..12),
    ) {
        let mut layer = Layer::default();
        for (key, value) in entries {
            if let Ok(one) = parse_layer("p", &format!("{} = {value}", key.name())) {
                prop_assert_eq!(one.keys().collect::<Vec<_>>(), vec![key]);
                layer.overlay(one);
            }
        }
        prop_assert_eq!(parse_layer("p", &layer.to_toml()), Ok(layer));
    }
}
