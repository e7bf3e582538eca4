//! Policy files without any daemon: checked, and made of what Windows tools write.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output};

use peerage_testkit::peerage_bin;
use serde_json::Value;

fn policy(args: &[&str]) -> Output {
    Command::new(peerage_bin().unwrap()).arg("policy").args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn check_explains_and_ends_with_one_only_for_what_a_device_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    let path = file.to_str().unwrap();
    let group =
        "DOGroupId = '6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11'\nDODownloadMode = 1\nDOMaxUploadBandwidth = 9\n";
    fs::write(&file, group).unwrap();
    let output = policy(&["check", path]);
    assert_eq!(output.status.code(), Some(0));
    let said = stdout(&output);
    assert!(
        said.contains("conflict: group_id has no effect: it is used in download_mode group (2)"),
        "{said}"
    );
    assert!(said.contains("deprecated: max_upload_bandwidth"), "{said}");
    assert_eq!(policy(&["check", "--strict", path]).status.code(), Some(1));

    let later = dir.path().join("late.toml");
    fs::write(&later, "max_cache_size = 101\ndownlaod_mode = 1\n").unwrap();
    let output = policy(&["check", "--json", path, later.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(found["Valid"], false);
    let errors: Vec<&Value> =
        found["Findings"].as_array().unwrap().iter().filter(|one| one["Level"] == "error").collect();
    assert_eq!(errors.len(), 2, "{found}");
    assert!(
        errors.iter().any(|one| one["Sentence"].as_str().unwrap().contains("perhaps download_mode is meant"))
    );
    assert_eq!(policy(&["check", "/nowhere.toml"]).status.code(), Some(2));
}

#[test]
fn an_export_of_regedit_becomes_a_policy_and_nothing_is_dropped_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let (export, made) = (dir.path().join("do.reg"), dir.path().join("policy.toml"));
    let text = "Windows Registry Editor Version 5.00\r\n\r\n\
        [HKEY_LOCAL_MACHINE\\SOFTWARE\\Policies\\Microsoft\\Windows\\DeliveryOptimization]\r\n\
        \"DODownloadMode\"=dword:00000002\r\n\
        \"DOModifyCacheDrive\"=\"%SystemDrive%\"\r\n\
        \"DOMaxCacheAge\"=hex(b):80,3a,09,00,\\\r\n  00,00,00,00\r\n\
        \"DOSomethingNew\"=dword:00000007\r\n";
    let utf16: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    fs::write(&export, utf16).unwrap();
    let output = policy(&["import", export.to_str().unwrap(), "-o", made.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("line 5: modify_cache_drive"), "{told}");
    assert!(told.contains("line 8: DOSomethingNew = 7: no such setting"), "{told}");
    let policy_text = fs::read_to_string(&made).unwrap();
    let table: toml::Table = policy_text.parse().unwrap();
    assert_eq!(table.get("download_mode").and_then(toml::Value::as_str), Some("group"));
    assert_eq!(table.get("max_cache_age").and_then(toml::Value::as_integer), Some(604_800));
    assert_eq!(table.len(), 2, "{policy_text}");
    assert!(policy_text.contains("# line 8: DOSomethingNew"), "what was left out stays readable");
    assert_eq!(policy(&["check", made.to_str().unwrap()]).status.code(), Some(0));
    // Without -o it goes to stdout.
    assert_eq!(stdout(&policy(&["import", export.to_str().unwrap()])), policy_text);

    // Nothing that could be taken takes nothing away.
    fs::write(&export, "REGEDIT4\r\n\r\n[HKEY_CURRENT_USER\\Software]\r\n\"a\"=\"b\"\r\n").unwrap();
    let output = policy(&["import", export.to_str().unwrap(), "-o", made.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("policy.toml is left as it is"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&made).unwrap(), policy_text);

    fs::write(&export, "hello").unwrap();
    let output = policy(&["import", export.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("neither a registry export"), "{}", stderr(&output));
}

#[test]
fn an_intune_profile_becomes_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("profile.json");
    let json = r#"{"name": "Delivery Optimization", "settings": [{"settingInstance": {
        "settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_dodownloadmode",
        "choiceSettingValue": {"value": "device_vendor_msft_policy_config_deliveryoptimization_dodownloadmode_2"}}},
        {"settingInstance": {
        "settingDefinitionId": "device_vendor_msft_policy_config_deliveryoptimization_dominfilesizetocache",
        "simpleSettingValue": {"value": 10}}}]}"#;
    fs::write(&profile, json).unwrap();
    let output = policy(&["import", "--json", profile.to_str().unwrap()]);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((found["Settings"].as_u64(), found["Remarks"].as_array().map(Vec::len)), (Some(2), Some(0)));
    let text = found["Policy"].as_str().unwrap();
    assert!(
        text.contains("download_mode = \"group\"") && text.contains("min_file_size_to_cache = 10"),
        "{text}"
    );
}
