//! Fixtures as Windows tools write them, and anything else.

use proptest::prelude::*;

use super::*;
use crate::Key;

/// As regedit writes it: UTF-16LE with its mark, CRLF, long values folded.
const EXPORT: &str = concat!(
    "Windows Registry Editor Version 5.00\r\n\r\n",
    "[HKEY_LOCAL_MACHINE\\SOFTWARE\\Policies\\Microsoft\\Windows\\DeliveryOptimization]\r\n",
    "\"DODownloadMode\"=dword:00000002\r\n",
    "\"DOGroupId\"=\"{6F1C2A34-8D2E-4D0E-9D0B-0F3F6F1C2D11}\"\r\n",
    "\"DOMaxCacheAge\"=dword:00093a80\r\n",
    "\"DOAbsoluteMaxCacheSize\"=hex(b):0a,00,00,00,00,00,00,00\r\n",
    "\"DOModifyCacheDrive\"=\"D:\\\\DOCache\"\r\n",
    "\"DOCacheHost\"=hex(2):63,00,61,00,63,00,68,00,65,00,2e,00,65,00,78,00,61,00,6d,00,\\\r\n",
    "  70,00,6c,00,65,00,2c,00,31,00,30,00,2e,00,30,00,2e,00,30,00,2e,00,32,00,00,00\r\n",
    "\"DOVpnKeywords\"=hex(7):56,00,50,00,4e,00,00,00,43,00,6f,00,72,00,70,00,00,00,00,00\r\n",
    "\"DOMaxDownloadBandwidth\"=dword:000003e8\r\n",
    "\"DOMaxBackgroundDownloadBandwidth\"=dword:000001f4\r\n",
    "\"SetHoursToLimitBackgroundDownloadBandwidth\"=dword:00000001\r\n",
    "\"SetHoursToLimitBackgroundDownloadBandwidthFrom\"=dword:00000008\r\n",
    "\"SetHoursToLimitBackgroundDownloadBandwidthTo\"=dword:00000012\r\n",
    "\"SetHoursToLimitBackgroundDownloadBandwidthIn\"=dword:0000001e\r\n",
    "\"DOSetHoursToLimitBackgroundDownloadBandwidth_Out\"=dword:00000000\r\n",
    "\"DOMinRAMAllowedToPeer\"=dword:ffffffff\r\n",
    "\"DOGroupIdSauce\"=dword:00000001\r\n",
    "\"DOMinFileSizeToCache\"=-\r\n",
    "@=\"\"\r\n\r\n",
    "[HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\DeliveryOptimization\\Config]\r\n",
    "\"DODownloadMode\"=dword:00000001\r\n",
    "\"Flags\"=hex:01,02\r\n\r\n",
    "[HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run]\r\n",
    "\"Thing\"=\"C:\\\\a \\\"b\\\".exe\"\r\n",
);

fn utf16(text: &str) -> Vec<u8> {
    [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn said(imported: &Imported, key: Key) -> String {
    imported.layer.said(key).unwrap_or_default()
}

#[track_caller]
fn remarks(imported: &Imported, expected: &[(&str, &str)]) {
    for (place, part) in expected {
        let told = |remark: &Remark| remark.place == *place && remark.sentence.contains(part);
        assert!(imported.remarks.iter().any(told), "{place} {part}: {:#?}", imported.remarks);
    }
    assert_eq!(imported.remarks.len(), expected.len(), "{:#?}", imported.remarks);
}

#[test]
fn a_registry_export_as_windows_writes_it() {
    let found = import(&utf16(EXPORT)).unwrap();
    assert_eq!(found, import(EXPORT.as_bytes()).unwrap(), "also in UTF-8");
    for (key, value) in [
        (Key::DownloadMode, "group"),
        (Key::GroupId, "6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11"),
        (Key::MaxCacheAge, "604800 s"),
        (Key::AbsoluteMaxCacheSize, "10 GB"),
        (Key::CacheHost, "cache.example, 10.0.0.2"),
        (Key::VpnKeywords, "VPN, Corp"),
        (Key::MaxForegroundDownloadBandwidth, "1000 KB/s"),
        (Key::MaxBackgroundDownloadBandwidth, "500 KB/s"),
    ] {
        assert_eq!(said(&found, key), value);
    }
    let hours = said(&found, Key::SetHoursToLimitBackgroundDownloadBandwidth);
    assert!(hours.contains("30"), "{hours}");
    assert_eq!(found.layer.keys().count(), 9);
    remarks(
        &found,
        &[
            ("line 8", "modify_cache_drive = 'D:"),
            ("line 12", "was replaced by max_foreground_download_bandwidth"),
            ("line 19", "min_ram_allowed_to_peer: found 4294967295, allowed is 1 to 100000 GB"),
            ("line 20", "DOGroupIdSauce = 1: no such setting, perhaps group_id_source is meant"),
            ("line 21", "deleted, which sets nothing"),
            ("line 22", "default value"),
            ("line 25", "download_mode = 1: the policies' key goes before it"),
            ("line 26", "binary data"),
            ("line 28", "its 1 values are no policies"),
        ],
    );
}

#[test]
fn a_registry_export_of_a_device_under_mdm() {
    let text = "REGEDIT4\n\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\PolicyManager\\current\\device\\DeliveryOptimization]\n\
        \"DODownloadMode\"=dword:00000002\n\"DODownloadMode_ProviderSet\"=dword:00000001\n\
        \"DODownloadMode_WinningProvider\"=\"B1E9301C-8666-412A-BA2F-3BF8A55BFA62\"\n\
        \"DOSetHoursToLimitBackgroundDownloadBandwidth\"=\"<enabled/><data id=\\\"SetHoursToLimitBackgroundDownloadBandwidthFrom\\\" value=\\\"8\\\"/>\"\n";
    let found = import(text.as_bytes()).unwrap();
    assert_eq!(said(&found, Key::DownloadMode), "group");
    remarks(
        &found,
        &[("line 3", "2 values say which provider"), ("line 7", "without all of from, to, in, out")],
    );
}

#[test]
fn an_intune_profile_of_the_settings_catalog() {
    let json = r##"{
      "@odata.context": "https://graph.microsoft.com/beta/$metadata#deviceManagement/configurationPolicies/$entity",
      "name": "DO", "platforms": "windows10", "settings": [
      {"id": "0", "settingInstance": {
        "@odata.type": "#microsoft.graph.deviceManagementConfigurationChoiceSettingInstance",
        "settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_dodownloadmode",
        "choiceSettingValue": {"value": "device_vendor_msft_policy_config_deliveryoptimization_dodownloadmode_2", "children": []}}},
      {"id": "1", "settingInstance": {
        "settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_domaxcacheage",
        "simpleSettingValue": {"@odata.type": "#microsoft.graph.deviceManagementConfigurationIntegerSettingValue", "value": 604800}}},
      {"id": "2", "settingInstance": {
        "settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_docachehost",
        "simpleSettingCollectionValue": [{"value": "cache1.example"}, {"value": "cache2.example"}]}},
      {"id": "3", "settingInstance": {
        "settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_dosethourstolimitforegrounddownloadbandwidth",
        "choiceSettingValue": {"value": "device_vendor_msft_policy_config_deliveryoptimization_dosethourstolimitforegrounddownloadbandwidth_1", "children": [
          {"settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_dosethourstolimitforegrounddownloadbandwidth_sethourstolimitforegrounddownloadbandwidthfrom",
           "choiceSettingValue": {"value": "x_8"}},
          {"settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_sethourstolimitforegrounddownloadbandwidthto",
           "choiceSettingValue": {"value": "x_17"}},
          {"settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_sethourstolimitforegrounddownloadbandwidthin",
           "simpleSettingValue": {"value": 10}},
          {"settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_sethourstolimitforegrounddownloadbandwidthout",
           "simpleSettingValue": {"value": 50}}]}}},
      {"id": "4", "settingInstance": {
        "settingDefinitionId": "device_vendor_msft_policy_config_update_allowautoupdate",
        "simpleSettingValue": {"value": 1}}}
      ]}"##;
    let found = import(json.as_bytes()).unwrap();
    assert_eq!(said(&found, Key::DownloadMode), "group");
    assert_eq!(said(&found, Key::MaxCacheAge), "604800 s");
    assert_eq!(said(&found, Key::CacheHost), "cache1.example, cache2.example");
    assert!(
        !said(&found, Key::SetHoursToLimitForegroundDownloadBandwidth).is_empty(),
        "{:#?}",
        found.remarks
    );
    remarks(
        &found,
        &[("$.settings[4].settingInstance", "update_allowautoupdate: no setting of Delivery Optimization")],
    );
}

#[test]
fn an_intune_profile_of_oma_uris() {
    let json = r##"{"@odata.type": "#microsoft.graph.windows10CustomConfiguration", "omaSettings": [
      {"@odata.type": "#microsoft.graph.omaSettingInteger", "displayName": "mode",
       "omaUri": "./Device/Vendor/MSFT/Policy/Config/DeliveryOptimization/DODownloadMode", "value": 1},
      {"omaUri": "./Device/Vendor/MSFT/Policy/Config/DeliveryOptimization/DOMinBackgroundQos", "value": "500"},
      {"omaUri": "./Device/Vendor/MSFT/Policy/Config/DeliveryOptimization/DOSetHoursToLimitBackgroundDownloadBandwidth",
       "value": "<enabled/><data id=\"SetHoursToLimitBackgroundDownloadBandwidthFrom\" value=\"22\"/><data id=\"SetHoursToLimitBackgroundDownloadBandwidthTo\" value=\"6\"/><data id=\"SetHoursToLimitBackgroundDownloadBandwidthIn\" value=\"100\"/><data id=\"SetHoursToLimitBackgroundDownloadBandwidthOut\" value=\"20\"/>"},
      {"omaUri": "./Device/Vendor/MSFT/Policy/Config/DeliveryOptimization/DONew", "value": 3},
      {"omaUri": "./Vendor/MSFT/Other", "value": 3}
    ]}"##;
    let found = import(json.as_bytes()).unwrap();
    assert_eq!(said(&found, Key::MinBackgroundQos), "500 KB/s");
    assert_eq!(found.layer.keys().count(), 3);
    remarks(
        &found,
        &[("$.omaSettings[3]", "donew = 3: no such setting"), ("$.omaSettings[4]", "./Vendor/MSFT/Other")],
    );
}

#[test]
fn an_oma_uri_without_the_word_device_and_values_of_no_use() {
    let json = r#"{"omaSettings": [
      {"omaUri": "./Vendor/MSFT/Policy/Config/DeliveryOptimization/DODownloadMode", "value": 2},
      {"omaUri": "./Device/Vendor/MSFT/Policy/Config/DeliveryOptimization/DOMaxCacheSize", "value": 20.5},
      {"omaUri": "./Device/Vendor/MSFT/Policy/Config/DeliveryOptimization/DOMaxCacheAge", "value": null}
    ]}"#;
    let found = import(json.as_bytes()).unwrap();
    assert_eq!(said(&found, Key::DownloadMode), "group");
    remarks(
        &found,
        &[
            ("$.omaSettings[1]", "domaxcachesize = 20.5: neither text nor a whole number"),
            ("$.omaSettings[2]", "without a value"),
        ],
    );
}

#[test]
fn a_provider_s_name_may_have_a_blank() {
    let json = r#"{"DownloadMode": "Lan", "DownloadModeProvider": "Default Provider", "DownBackLimitPct": 5,
      "DownBackLimitPctProvider": "Mdm Provider"}"#;
    let found = import(json.as_bytes()).unwrap();
    assert_eq!(found.layer.keys().collect::<Vec<_>>(), [Key::PercentageMaxBackgroundBandwidth]);
    remarks(&found, &[("$.DownloadMode", "a default")]);
}

#[test]
fn what_get_do_config_says() {
    let json = r#"{"DownloadMode": "Group", "DownloadModeProvider": 7, "DownBackLimitBps": 500000,
      "DownBackLimitBpsProvider": 5, "DownBackLimitPct": 0, "DownBackLimitPctProvider": 99,
      "UploadLimitMonthlyGB": 30, "UploadLimitMonthlyGBProvider": "RegistryProvider", "WorkingDirectory": "%SystemDrive%",
      "VpnPeerCachingAllowed": true, "VpnKeywords": ["VPN"], "MaxUploadRatePct": 50, "BatteryPctToSeed": null}"#;
    let found = import(json.as_bytes()).unwrap();
    assert_eq!(said(&found, Key::DownloadMode), "group");
    assert_eq!(said(&found, Key::MaxBackgroundDownloadBandwidth), "500 KB/s");
    assert_eq!(said(&found, Key::MonthlyUploadDataCap), "30 GB");
    assert_eq!(said(&found, Key::AllowVPNPeerCaching), "true");
    assert_eq!(found.layer.keys().count(), 5);
    remarks(
        &found,
        &[
            ("$.DownBackLimitPct", "a default"),
            ("$.WorkingDirectory", "drive or variable"),
            ("$.MaxUploadRatePct", "no such setting"),
        ],
    );
}

#[test]
fn what_we_write_for_programs_reads_back() {
    let text = "download_mode = 2\nmax_cache_age = 5\nmax_background_download_bandwidth = 700\nvpn_keywords = ['a']\n";
    let mut layers = crate::Layers::default();
    let layer = crate::parse_layer("p", text).unwrap();
    layers.replace(crate::Provider::Policy, layer.clone());
    let json = serde_json::to_vec(&layers.to_do_json()).unwrap();
    assert_eq!(import(&json).unwrap().layer.to_toml(), layer.to_toml());
}

#[test]
fn other_files_are_refused() {
    for (bytes, part) in [
        (&b"max_cache_age = 5"[..], "begins with"),
        (b"{\"a\": ", "line 1"),
        (b"\xff\xfea", "odd number"),
        (b"\xff\xfe\x00\xd8", "half a character"),
        (b"REGEDIT4\r\n\x80", "no UTF-8"),
    ] {
        assert!(import(bytes).unwrap_err().to_string().contains(part), "{part}");
    }
    assert!(import(&vec![b' '; MAX_IMPORT + 1]).is_err());
    assert_eq!(import(b"REGEDIT4\r\n\r\n").unwrap(), Imported::default());
}

proptest! {
    #[test]
    fn any_export_is_read_or_refused(
        lines in prop::collection::vec("\\PC{0,40}|\\[[A-Z\\\\]{0,20}\\]|\"DO[A-Za-z]{0,12}\"=(dword:|hex\\(b\\):|\"|hex\\(7\\):|-)[0-9a-f,\\\\\"]{0,20}", 0..12),
        cut in any::<u16>(),
    ) {
        let text = format!("{EXPORT}{}", lines.join("\r\n"));
        let mut bytes = utf16(&text);
        let _ = import(&bytes);
        bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        if let Ok(found) = import(&bytes) {
            let again = crate::parse_layer("p", &found.layer.to_toml()).unwrap();
            prop_assert_eq!(again.to_toml(), found.layer.to_toml());
        }
    }

    #[test]
    fn any_json_is_read_or_refused(key in "[A-Za-z]{0,20}", text in "\\PC{0,30}", number in any::<i64>(), depth in 0usize..60) {
        let mut json = serde_json::json!({
            "settingDefinitionId": format!("device_vendor_msft_policy_config_deliveryoptimization_{key}"),
            "simpleSettingValue": {"value": number}, "omaUri": text, key: number,
        });
        for _ in 0..depth {
            json = serde_json::json!([json]);
        }
        let _ = import(json.to_string().as_bytes());
    }
}
