//! Who wins, and what the listing says of the others.

use serde_json::json;

use super::*;
use crate::parse_layer;

fn stack() -> Layers {
    let mut layers = Layers::default();
    layers.replace(
        Provider::Admin,
        parse_layer("admin.toml", "max_cache_age = 1\nmax_cache_size = 30").unwrap(),
    );
    layers.replace(
        Provider::Policy,
        parse_layer("policy.toml", "max_cache_age = 2\nupload_slots = 4").unwrap(),
    );
    layers.replace(Provider::Fleet, parse_layer("fleet", "DOMaxCacheAge = 3").unwrap());
    layers
}

#[test]
fn the_strongest_layer_wins_for_each_setting() {
    let settings = stack().settings();
    let is = |key, provider| assert_eq!(settings.provider(key), provider, "{}", Key::name(key));
    assert_eq!((settings.max_cache_age, settings.upload_slots, settings.max_cache_size), (3, 4, 30));
    is(Key::MaxCacheAge, Provider::Fleet);
    is(Key::UploadSlots, Provider::Policy);
    is(Key::MaxCacheSize, Provider::Admin);
    is(Key::DownloadMode, Provider::Default);
}

#[test]
fn every_subset_of_layers_resolves_in_order() {
    let order = [Provider::Fleet, Provider::Policy, Provider::Admin];
    for subset in 0u8..8 {
        let mut layers = Layers::default();
        let present: Vec<_> = (0..3).filter(|at| subset >> at & 1 == 1).map(|at| order[at]).collect();
        for (age, provider) in (10..).zip(&present) {
            layers
                .replace(*provider, parse_layer(provider.name(), &format!("max_cache_age = {age}")).unwrap());
        }
        let (settings, row) = (layers.settings(), layers.row_of(Key::MaxCacheAge));
        let expected = present.first().copied().unwrap_or(Provider::Default);
        assert_eq!(settings.provider(Key::MaxCacheAge), expected);
        assert_eq!(settings.max_cache_age, if present.is_empty() { 259_200 } else { 10 });
        let told: Vec<_> =
            std::iter::once(&row.effective).chain(&row.lower).map(|said| said.provider).collect();
        assert_eq!(told, present.into_iter().chain([Provider::Default]).collect::<Vec<_>>());
    }
}

#[test]
fn a_row_tells_what_each_weaker_layer_says() {
    let row = stack().row_of(Key::MaxCacheAge);
    assert_eq!((row.effective.text.as_str(), row.effective.source.as_deref()), ("3 s", Some("fleet")));
    let lower: Vec<_> = row.lower.iter().map(|said| (said.provider.name(), said.text.as_str())).collect();
    assert_eq!(lower, [("policy", "2 s"), ("admin", "1 s"), ("default", "259200 s")]);
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!((&json["Name"], &json["DoName"]), (&json!("max_cache_age"), &json!("DOMaxCacheAge")));
    assert_eq!(
        json["Lower"][1],
        json!({"Provider": "admin", "Source": "admin.toml", "Text": "1 s", "Value": 1})
    );
    assert_eq!(stack().rows().len(), Key::ALL.len());
}

#[test]
fn a_layer_that_falls_away_leaves_no_trace() {
    let mut layers = stack();
    layers.replace(Provider::Fleet, Layer::default());
    layers.replace(Provider::Default, parse_layer("x", "max_cache_size = 99").unwrap());
    assert_eq!((layers.settings().max_cache_age, layers.settings().max_cache_size), (2, 30));
    assert!(layers.layer(Provider::Default).is_none());
}

#[test]
fn bypass_is_explained() {
    let mut layers = Layers::default();
    assert_eq!(layers.row_of(Key::DownloadMode).note, None);
    layers.replace(Provider::Policy, parse_layer("p", "download_mode = 100").unwrap());
    let row = layers.row_of(Key::DownloadMode);
    assert!(row.note.unwrap().contains("deprecated") && row.note.unwrap().contains("simple"));
}

#[test]
fn json_has_the_field_names_and_numbers_of_get_doconfig() {
    let mut layers = Layers::default();
    let fleet = "download_mode = 'group'\nmax_background_download_bandwidth = '20mbit'\nmin_file_size_to_cache = '64MiB'";
    layers.replace(Provider::Fleet, parse_layer("fleet", fleet).unwrap());
    layers.replace(Provider::Policy, parse_layer("policy", "monthly_upload_data_cap = 7").unwrap());
    let json = serde_json::Value::Object(layers.to_do_json());
    for (field, value) in [
        ("DownloadMode", json!(2)),
        ("DownloadModeProvider", json!(7)),
        ("DownBackLimitBps", json!(2_500_000)),
        ("DownloadForegroundLimitBps", json!(0)),
        ("UploadLimitMonthlyGB", json!(7)),
        ("UploadLimitMonthlyGBProvider", json!(5)),
        ("MinTotalRAM", json!(4)),
        ("MinTotalRAMProvider", json!(99)),
        ("MinFileSizeToCache", json!(67.108_864)),
        ("WorkingDirectory", json!("/var/cache/peerage")),
        ("VpnKeywords", json!(["vpn", "secure", "virtual private network"])),
        ("SetHoursToLimitDownloadBackground", json!(null)),
        ("LocalDiscovery", json!(true)),
    ] {
        assert_eq!(json[field], value, "{field}");
    }
    assert_eq!(json.as_object().unwrap().len(), 2 * Key::ALL.len());
}
