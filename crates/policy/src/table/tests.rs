//! Every row of product §5: spelling, default, what is accepted at the boundaries, what is refused.

use std::collections::BTreeSet;

use crate::{Key, Layer, Layers, PolicyError, Provider, Rule, Setting, Settings, parse_layer};

/// A row as product §5 has it: our name, DO's name, the default as listed, accepted TOML with what it is listed as, and refused TOML.
struct Case {
    name: &'static str,
    do_name: Option<&'static str>,
    default: &'static str,
    good: &'static [(&'static str, &'static str)],
    bad: &'static [&'static str],
}

const fn case(
    name: &'static str,
    do_name: &'static str,
    default: &'static str,
    good: &'static [(&'static str, &'static str)],
    bad: &'static [&'static str],
) -> Case {
    Case { name, do_name: if do_name.is_empty() { None } else { Some(do_name) }, default, good, bad }
}

const SWITCH_BAD: &[&str] = &["2", "-1", "'yes'", "1.0", "[true]"];
const GB_GOOD: &[(&str, &str)] = &[
    ("1", "1 GB"),
    ("100000", "100000 GB"),
    ("'64'", "64 GB"),
    ("'8GB'", "8 GB"),
    ("'8GiB'", "8GiB"),
    ("'1500MB'", "1500MB"),
];
const GB_BAD: &[&str] =
    &["0", "-1", "100001", "4.0", "true", "'many'", "'999MB'", "'100001GB'", "'4GB/s'", "[4]"];
const GB32_BAD: &[&str] = &["-1", "4294967296", "'4294967296'", "'much'", "1.5", "false"];
const RATE_GOOD: &[(&str, &str)] = &[
    ("1", "1 KB/s"),
    ("4294967295", "4294967295 KB/s"),
    ("'20mbit'", "2500 KB/s"),
    ("'500KB/s'", "500 KB/s"),
    ("'1MiB/s'", "1MiB/s"),
];
const RATE_BAD: &[&str] = &["-1", "4294967296", "'20MB'", "'20Mb/s'", "'fast'", "2.5", "true"];
const PERCENT_BAD: &[&str] = &["-1", "101", "'101%'", "'half'", "50.0", "true"];
const FALLBACK_GOOD: &[(&str, &str)] = &[("1", "1 s"), ("2592000", "2592000 s"), ("'30d'", "2592000 s")];
const FALLBACK_BAD: &[&str] = &["-1", "2592001", "'31d'", "'1500ms'", "1.0"];
const DELAY_GOOD: &[(&str, &str)] = &[("60", "60 s"), ("4294967295", "4294967295 s"), ("'90s'", "90 s")];
const DELAY_BAD: &[&str] = &["-1", "4294967296", "'90's", "'90 parsecs'", "true"];
const HOURS_GOOD: &[(&str, &str)] = &[
    ("{from=8,to=17,in=10,out=0}", "08:00-17:00 10 %, else no limit"),
    ("'{from=0,to=23,in=0,out=100}'", "00:00-23:00 no limit, else 100 %"),
    (
        "{from=22,to=6,in=100,out=5,days=['sat','sun'],time_zone='Asia/Tokyo'}",
        "22:00-06:00 100 %, else 5 %, sat sun, Asia/Tokyo",
    ),
];
const HOURS_BAD: &[&str] = &[
    "8",
    "'8-17'",
    "{}",
    "{from=8,to=17,in=10}",
    "{from=24,to=17,in=10,out=0}",
    "{from=8,to=17,in=101,out=0}",
    "{from=8,to=17,in=10,out=0,time_zone='Moon/Base'}",
    "'{from=8,to=17,in=10,out=0}\nlocal_discovery=false'",
];

const CASES: &[Case] = &[
    case(
        "download_mode",
        "DODownloadMode",
        "lan",
        &[
            ("0", "http_only"),
            ("1", "lan"),
            ("2", "group"),
            ("3", "internet"),
            ("99", "simple"),
            ("100", "bypass"),
            ("'Group'", "group"),
            ("'99'", "simple"),
        ],
        &["-1", "4", "98", "101", "256", "'wan'", "true", "1.0", "[1]"],
    ),
    case(
        "group_id",
        "DOGroupId",
        "unset",
        &[
            ("'8A1C3A52-6F5E-4D0E-9D0B-0F3F6F1C2D11'", "8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11"),
            ("'{8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11}'", "8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11"),
        ],
        &["''", "'branch 12'", "7", "'8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d1'"],
    ),
    case(
        "group_id_source",
        "DOGroupIdSource",
        "unset",
        &[("0", "unset"), ("1", "ad_site"), ("5", "entra_tenant"), ("'dhcp_option'", "dhcp_option")],
        &["6", "-1", "'dhcp'"],
    ),
    case(
        "restrict_peer_selection_by",
        "DORestrictPeerSelectionBy",
        "none",
        &[("0", "none"), ("1", "subnet"), ("2", "local_discovery"), ("'subnet'", "subnet")],
        &["3", "-1", "'lan'"],
    ),
    case("min_ram_allowed_to_peer", "DOMinRAMAllowedToPeer", "4 GB", GB_GOOD, GB_BAD),
    case("min_disk_size_allowed_to_peer", "DOMinDiskSizeAllowedToPeer", "32 GB", GB_GOOD, GB_BAD),
    case(
        "min_file_size_to_cache",
        "DOMinFileSizeToCache",
        "50 MB",
        &[
            ("1", "1 MB"),
            ("100000", "100000 MB"),
            ("'64MiB'", "64MiB"),
            ("'10MB'", "10 MB"),
            ("'2 gb'", "2000 MB"),
        ],
        &["0", "100001", "'999KB'", "'100001MB'", "'10'MB", "50.0"],
    ),
    case(
        "max_cache_age",
        "DOMaxCacheAge",
        "259200 s",
        &[("0", "0 (until space is needed)"), ("4294967295", "4294967295 s"), ("'7d'", "604800 s")],
        &["-1", "4294967296", "'7 days'", "'1500ms'"],
    ),
    case(
        "max_cache_size",
        "DOMaxCacheSize",
        "20 %",
        &[("1", "1 %"), ("100", "100 %"), ("'30%'", "30 %"), ("'30 %'", "30 %")],
        &["0", "101", "'0%'", "'-5%'", "20.0", "'10GB'"],
    ),
    case(
        "absolute_max_cache_size",
        "DOAbsoluteMaxCacheSize",
        "unset",
        &[("0", "0 (no limit)"), ("4294967295", "4294967295 GB"), ("'512MiB'", "512MiB")],
        GB32_BAD,
    ),
    case(
        "modify_cache_drive",
        "DOModifyCacheDrive",
        "/var/cache/peerage",
        &[("'/srv/cache'", "/srv/cache"), ("'/'", "/")],
        &["''", "'cache'", "'D:'", "'/srv/../etc'", "\"/a\\u0000b\"", "7"],
    ),
    case(
        "monthly_upload_data_cap",
        "DOMonthlyUploadDataCap",
        "20 GB",
        &[("0", "0 (no limit)"), ("4294967295", "4294967295 GB"), ("'5TB'", "5000 GB")],
        GB32_BAD,
    ),
    case("max_upload_bandwidth", "DOMaxUploadBandwidth", "0 (LEDBAT alone)", RATE_GOOD, RATE_BAD),
    case(
        "min_background_qos",
        "DOMinBackgroundQoS",
        "2500 KB/s",
        RATE_GOOD,
        &["0", "-1", "4294967296", "'500B/s'", "'slow'"],
    ),
    case(
        "max_foreground_download_bandwidth",
        "DOMaxForegroundDownloadBandwidth",
        "0 (dynamic)",
        RATE_GOOD,
        RATE_BAD,
    ),
    case(
        "max_background_download_bandwidth",
        "DOMaxBackgroundDownloadBandwidth",
        "0 (dynamic)",
        RATE_GOOD,
        RATE_BAD,
    ),
    case(
        "percentage_max_foreground_bandwidth",
        "DOPercentageMaxForegroundBandwidth",
        "0 (dynamic)",
        &[("0", "0 (dynamic)"), ("100", "100 %")],
        PERCENT_BAD,
    ),
    case(
        "percentage_max_background_bandwidth",
        "DOPercentageMaxBackgroundBandwidth",
        "0 (dynamic)",
        &[("0", "0 (dynamic)"), ("'100'", "100 %")],
        PERCENT_BAD,
    ),
    case(
        "set_hours_to_limit_foreground_download_bandwidth",
        "DOSetHoursToLimitForegroundDownloadBandwidth",
        "unset",
        HOURS_GOOD,
        HOURS_BAD,
    ),
    case(
        "set_hours_to_limit_background_download_bandwidth",
        "DOSetHoursToLimitBackgroundDownloadBandwidth",
        "unset",
        HOURS_GOOD,
        HOURS_BAD,
    ),
    case(
        "delay_foreground_download_from_http",
        "DODelayForegroundDownloadFromHttp",
        "0 s",
        DELAY_GOOD,
        DELAY_BAD,
    ),
    case(
        "delay_background_download_from_http",
        "DODelayBackgroundDownloadFromHttp",
        "0 s",
        DELAY_GOOD,
        DELAY_BAD,
    ),
    case(
        "cache_host",
        "DOCacheHost",
        "unset",
        &[
            ("'cache.example'", "cache.example"),
            ("'cache.example, 10.0.0.2:8080'", "cache.example, 10.0.0.2:8080"),
            ("['[fd00::2]:80', 'b']", "[fd00::2]:80, b"),
            // Set, though to nothing (DO reference §1.1).
            ("''", "none"),
            ("[]", "none"),
        ],
        &["'http://cache'", "['a b']", "[1]", "['a', '']", "80", "['a:70000']"],
    ),
    case(
        "cache_host_source",
        "DOCacheHostSource",
        "unset",
        &[("0", "dns_sd_off"), ("1", "dhcp_option"), ("2", "dhcp_option_force")],
        &["3", "-1", "'dns'"],
    ),
    case(
        "delay_cache_server_fallback_foreground",
        "DODelayCacheServerFallbackForeground",
        "0 s",
        FALLBACK_GOOD,
        FALLBACK_BAD,
    ),
    case(
        "delay_cache_server_fallback_background",
        "DODelayCacheServerFallbackBackground",
        "0 s",
        FALLBACK_GOOD,
        FALLBACK_BAD,
    ),
    case(
        "disallow_cache_server_downloads_on_vpn",
        "DODisallowCacheServerDownloadsOnVPN",
        "false",
        &[("true", "true"), ("0", "false"), ("'1'", "true")],
        SWITCH_BAD,
    ),
    case(
        "allow_vpn_peer_caching",
        "DOAllowVPNPeerCaching",
        "false",
        &[("1", "true"), ("false", "false")],
        SWITCH_BAD,
    ),
    case(
        "vpn_keywords",
        "DOVpnKeywords",
        "vpn, secure, virtual private network",
        &[("'Corp,Tunnel Box'", "Corp, Tunnel Box"), ("['wg']", "wg"), ("[]", "none")],
        &["7", "['']", "['a,b']", "[1]", "\"a\\nb\""],
    ),
    case(
        "min_battery_percentage_allowed_to_upload",
        "DOMinBatteryPercentageAllowedToUpload",
        "0 (never on battery)",
        &[("0", "0 (never on battery)"), ("100", "100 %"), ("'40%'", "40 %")],
        PERCENT_BAD,
    ),
    case("allow_metered_peer_caching", "", "false", &[("true", "true")], SWITCH_BAD),
    case(
        "allow_metered_downloads",
        "",
        "foreground",
        &[("'always'", "always"), ("'never'", "never"), ("'foreground'", "foreground")],
        &["'sometimes'", "3", "true"],
    ),
    case("local_discovery", "", "true", &[("false", "false")], SWITCH_BAD),
    case("peer_encryption", "", "required", &[("'off'", "off"), ("1", "required")], &["'on'", "2", "false"]),
    case("allow_relay", "", "false", &[("true", "true")], SWITCH_BAD),
    case(
        "trusted_publishers",
        "",
        "none",
        &[(
            "'d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        )],
        &["'d75a'", "['']", "1"],
    ),
    case("upload_slots", "", "0 (all)", &[("4", "4"), ("10000", "10000")], &["-1", "10001", "'4 files'"]),
    case("max_peer_connections", "", "50", &[("1", "1"), ("'10000'", "10000")], &["0", "10001", "true"]),
];

fn listed(layer: Layer, key: Key) -> crate::Row {
    let mut layers = Layers::default();
    layers.replace(Provider::Policy, layer);
    layers.row_of(key)
}

#[test]
fn the_table_has_exactly_the_rows_of_the_product() {
    let wanted: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    let found: BTreeSet<_> = Key::ALL.iter().map(|key| key.name()).collect();
    assert_eq!((found, CASES.len()), (wanted, Key::ALL.len()));
}

#[test]
fn both_spellings_in_any_case_find_the_row() {
    for case in CASES {
        let row = Setting::find(case.name).unwrap();
        assert_eq!((row.name, row.do_name.is_some()), (case.name, case.do_name.is_some()));
        assert_eq!(Setting::find(&case.name.to_uppercase()), Some(row));
        if let Some(do_name) = case.do_name {
            assert_eq!(Setting::find(do_name), Some(row), "{do_name}");
            assert_eq!(Setting::find(&do_name.to_lowercase()), Some(row), "{do_name}");
            // The snake_case of DO's name without DO, letter by letter.
            assert_eq!(row.name.replace('_', ""), do_name[2..].to_lowercase());
        }
    }
}

#[test]
fn rows_are_consistent() {
    let fields: BTreeSet<_> = Key::ALL.iter().map(|key| key.setting().field).collect();
    assert_eq!(fields.len(), Key::ALL.len(), "field names are unique");
    for (at, key) in Key::ALL.iter().enumerate() {
        let row = key.setting();
        assert_eq!((row.key, *key as usize), (*key, at));
        assert!(row.doc.ends_with('.') && !row.doc.contains("  ") && row.doc.len() > 20, "{}", row.doc);
        assert_eq!(row.deprecated, row.name == "max_upload_bandwidth");
        if let Rule::Number { min, max, unit } = row.rule {
            assert!(min < max && max.checked_mul(unit.scale()).is_some(), "{}", row.name);
        }
    }
}

#[test]
fn defaults_are_the_products() {
    let layers = Layers::default();
    for case in CASES {
        let listed = layers.row_of(Setting::find(case.name).unwrap().key);
        assert_eq!(listed.effective.text, case.default, "{}", case.name);
        assert_eq!((listed.effective.provider, listed.lower.len()), (Provider::Default, 0));
    }
}

#[test]
fn allowed_values_are_read_under_both_spellings() {
    for case in CASES {
        for (toml, text) in case.good {
            for name in [Some(case.name), case.do_name].into_iter().flatten() {
                let layer =
                    parse_layer("a.toml", &format!("{name} = {toml}\n")).unwrap_or_else(|e| panic!("{e}"));
                let row = listed(layer.clone(), layer.keys().next().unwrap());
                assert_eq!((row.effective.text.as_str(), row.name), (*text, case.name), "{toml}");
                assert_eq!(row.effective.provider, Provider::Policy);
                // What is written out reads back as the same layer.
                assert_eq!(parse_layer("a.toml", &layer.to_toml()), Ok(layer), "{name} = {toml}");
            }
        }
    }
}

#[test]
fn all_other_values_are_refused_with_file_key_found_and_allowed() {
    for case in CASES {
        assert!(!case.bad.is_empty());
        for toml in case.bad.iter().copied().chain(["1979-05-27", "{ a = 1 }", "[[]]"]) {
            for name in [Some(case.name), case.do_name].into_iter().flatten() {
                let Err(errors) = parse_layer("dir/a.toml", &format!("{name} = {toml}\n")) else {
                    panic!("{name} = {toml} was accepted");
                };
                let message = errors.to_string();
                assert!(message.starts_with("dir/a.toml: ") && !message.contains('\n'), "{message}");
                if let PolicyError::Refused { key, allowed, .. } = &errors.0[0] {
                    assert_eq!(key, name);
                    assert_eq!(*allowed, Setting::find(name).unwrap().rule.to_string());
                    assert!(
                        message.contains(&format!("{name}: found ")) && message.contains(", allowed is ")
                    );
                } else {
                    assert!(matches!(errors.0[0], PolicyError::Syntax { line: 1.., .. }), "{errors:?}");
                }
            }
        }
    }
}

#[test]
fn text_of_a_command_line_reads_as_the_same_value() {
    for case in CASES {
        for (toml, text) in case.good.iter().filter(|(toml, _)| !toml.starts_with('[')) {
            let mut layer = Layer::default();
            let key = layer.set("set", case.name, toml.trim_matches('\'')).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(listed(layer, key).effective.text, *text, "{}", case.name);
        }
    }
}

#[test]
fn values_are_in_base_units() {
    let settings = Settings::default();
    assert_eq!(settings.min_ram_allowed_to_peer, 4_000_000_000);
    assert_eq!(settings.min_file_size_to_cache, 50_000_000);
    assert_eq!(settings.min_background_qos, 2_500_000);
    let mut layers = Layers::default();
    layers.replace(Provider::Admin, parse_layer("a", "DOMaxUploadBandwidth = '20mbit'").unwrap());
    assert_eq!(layers.settings().max_upload_bandwidth, 2_500_000);
    assert_eq!(layers.settings().differing(&settings), [Key::MaxUploadBandwidth]);
}
