//! The administrator decides: what is set on the device and what the coordinator publishes holds, from which layer it
//! comes is told, and nobody takes it back by replaying an old document.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use peerage_testkit::{Agent, OPEN_POLICY, Office, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that must succeed; its stdout.
#[track_caller]
fn done(command: Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A setting as `peerage config --json` shows it.
fn row(agent: &Agent, key: &str) -> Value {
    let config: Value = serde_json::from_str(&done(agent.command(&["config", "--json"]))).unwrap();
    let rows = config["Settings"].as_array().unwrap();
    rows.iter().find(|row| row["Name"] == key).unwrap_or_else(|| panic!("{key} in {config}")).clone()
}

fn value(agent: &Agent, key: &str) -> String {
    row(agent, key)["Effective"]["Text"].as_str().unwrap().to_owned()
}

fn becomes(agent: &Agent, key: &str, wanted: &str) {
    wait_until(&format!("{} has {key} = {wanted}", agent.name), PATIENCE, || value(agent, key) == wanted);
}

fn push(office: &Office, text: &str, args: &[&str]) -> Value {
    let file = office.path("pushed.toml");
    fs::write(&file, text).unwrap();
    let mut all = vec!["policy", "push", file.to_str().unwrap(), "--json"];
    all.extend(args);
    serde_json::from_str(&done(office.fleet.command(&all).unwrap())).unwrap()
}

#[test]
fn what_the_administrator_sets_holds_at_once_and_over_a_restart() {
    let office = Office::new(46, &[]).unwrap();
    let mut a = office.agent_with("a", "min_background_qos = 700\n", &[]).unwrap();
    let said = done(a.command(&["set", "DOMaxCacheAge", "1d"]));
    assert!(said.contains("max_cache_age = 86400 s, from admin ("), "{said}");
    assert_eq!(value(&a, "max_cache_age"), "86400 s");
    let config: Value = serde_json::from_str(&done(a.command(&["config", "--json"]))).unwrap();
    assert_eq!(config["DoConfig"]["MaxCacheAge"], 86_400);
    assert_eq!(config["DoConfig"]["MaxCacheAgeProvider"], 9);

    let weaker = run(a.command(&["set", "min_background_qos", "800"]));
    assert_eq!(weaker.status.code(), Some(3), "refused by policy");
    let said = text(&weaker);
    assert!(said.contains("min_background_qos = 700 KB/s, from policy"), "{said}");
    assert!(said.contains("(800 KB/s) does not hold: policy is stronger"), "{said}");

    let refused = run(a.command(&["set", "max_cache_size", "101"]));
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused).contains("max_cache_size: found \"101\", allowed is 1 to 100 %"),
        "{}",
        text(&refused)
    );
    let unknown = run(a.command(&["set", "max_cache_siz", "10"]));
    assert!(text(&unknown).contains("perhaps max_cache_size is meant"), "{}", text(&unknown));

    a.restart().unwrap();
    assert_eq!(row(&a, "max_cache_age")["Effective"]["Provider"], "admin");
    a.set_policy("").unwrap();
    becomes(&a, "min_background_qos", "800 KB/s");
    done(a.command(&["unset", "max_cache_age"]));
    assert_eq!(row(&a, "max_cache_age")["Effective"]["Provider"], "default");
}

#[test]
fn a_push_is_obeyed_and_stays_in_force_without_the_coordinator() {
    let mut office = Office::new(47, &["limit_rate 4m;"]).unwrap();
    let (_, url, id) = office.published("held.bin", 64 * MIB).unwrap();
    let mut a = office.agent("a").unwrap();
    let job = a.begin_get(&url, &office.path("a.out"), &[]).unwrap();
    let has = |a: &Agent| a.file(&id).unwrap().map_or(0, |row| row["FileSizeInCache"].as_u64().unwrap());
    wait_until("it has begun", PATIENCE, || has(&a) >= 2 * MIB);

    // Stronger than the device's own file, on a running download.
    a.set_policy(&format!("{OPEN_POLICY}max_background_download_bandwidth = 0\n")).unwrap();
    let pushed = push(&office, "max_background_download_bandwidth = 1\n", &[]);
    becomes(&a, "max_background_download_bandwidth", "1 KB/s");
    let told = row(&a, "max_background_download_bandwidth");
    assert_eq!(told["Effective"]["Provider"], "fleet");
    assert_eq!(told["Effective"]["Source"], format!("fleet policy {} for all", pushed["Serial"]));
    let (mut last, mut still) = (0, 0);
    wait_until("the download stands still", PATIENCE, || {
        let now = has(&a);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        still >= 40
    });
    assert!(last < 64 * MIB);
    drop(job);

    office.fleet.kill_coordinator().unwrap();
    a.restart().unwrap();
    assert_eq!(value(&a, "max_background_download_bandwidth"), "1 KB/s", "cached, signature checked");

    office.fleet.restart_coordinator().unwrap();
    done(office.fleet.command(&["policy", "rollback"]).unwrap());
    becomes(&a, "max_background_download_bandwidth", "0 (dynamic)");
    let history: Vec<Value> =
        serde_json::from_str(&done(office.fleet.command(&["policy", "history", "--json"]).unwrap())).unwrap();
    assert_eq!(history.len(), 2);
    assert!(history[0]["Serial"].as_u64() > history[1]["Serial"].as_u64());
    assert_eq!(history[0]["Note"], "rolled back to nothing");
}

#[test]
fn groups_by_tag_and_subnet_get_their_own() {
    let office = Office::new(48, &[]).unwrap();
    let token = done(office.fleet.command(&["coordinator", "token", "--tag", "laptop"]).unwrap());
    let laptop = office.agent_as("laptop", token.trim(), OPEN_POLICY, &[]).unwrap();
    let desk = office.agent("desk").unwrap();
    let devices = done(office.fleet.command(&["coordinator", "devices"]).unwrap());
    assert_eq!(devices.lines().filter(|line| line.contains("  laptop  ")).count(), 1, "{devices}");
    push(&office, "max_cache_age = 10\nmin_background_qos = 500\n", &[]);
    push(&office, "max_cache_age = 20\n", &["--group", "subnet:127.48.0.12/32"]);
    push(&office, "max_cache_age = 30\n", &["--group", "tag:laptop"]);
    becomes(&laptop, "max_cache_age", "30 s");
    becomes(&desk, "max_cache_age", "20 s");
    assert_eq!(value(&laptop, "min_background_qos"), "500 KB/s");
    let shown = done(desk.command(&["config"]));
    assert!(shown.contains("fleet policy 1 for all, fleet policy 2 for subnet:127.48.0.12/32"), "{shown}");
    // A group id that the fleet's policy gives is itself a selector.
    let group = "6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11";
    push(&office, &format!("download_mode = 'group'\ngroup_id = '{group}'\n"), &["--group", "tag:laptop"]);
    push(&office, "max_cache_size = 44\n", &["--group", &format!("group:{group}")]);
    becomes(&laptop, "max_cache_size", "44 %");
    assert_eq!(value(&desk, "max_cache_size"), "20 %");
    // One that took its devices out of the group would be taken from them with it, and so on without end.
    let circle = office.path("circle.toml");
    fs::write(&circle, "group_id = '6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d12'\n").unwrap();
    let args = ["policy", "push", circle.to_str().unwrap(), "--group", &format!("group:{group}")];
    let refused = run(office.fleet.command(&args).unwrap());
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("would take the devices out of that group"), "{}", text(&refused));
    let refused = run(office.fleet.command(&["policy", "push", "/dev/null", "--group", "site:x"]).unwrap());
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
}

#[test]
fn a_stage_of_nobody_changes_nothing_and_of_all_everything() {
    let office = Office::new(49, &[]).unwrap();
    let a = office.agent("a").unwrap();
    push(&office, "max_cache_age = 10\n", &[]);
    becomes(&a, "max_cache_age", "10 s");
    push(&office, "max_cache_age = 20\n", &["--rollout", "0"]);
    // The next push is seen after the stage was: the stage did not reach the device.
    push(&office, "min_background_qos = 600\n", &["--group", "subnet:127.49.0.0/24"]);
    becomes(&a, "min_background_qos", "600 KB/s");
    assert_eq!(value(&a, "max_cache_age"), "10 s");
    push(&office, "max_cache_age = 20\n", &["--rollout", "100"]);
    becomes(&a, "max_cache_age", "20 s");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn an_older_policy_is_refused_and_said() {
    let mut office = Office::new(50, &[]).unwrap();
    let data = office.path("fleet/coordinator");
    let a = office.agent("a").unwrap();
    push(&office, "max_cache_age = 10\n", &[]);
    becomes(&a, "max_cache_age", "10 s");
    // A backup from before the second push comes back.
    office.fleet.kill_coordinator().unwrap();
    let backup = office.path("backup");
    copy(&data, &backup);
    office.fleet.restart_coordinator().unwrap();
    push(&office, "max_cache_age = 20\n", &[]);
    becomes(&a, "max_cache_age", "20 s");
    office.fleet.kill_coordinator().unwrap();
    for name in ["catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(data.join(name));
    }
    copy(&backup, &data);
    office.fleet.restart_coordinator().unwrap();
    wait_until("the refusal is told", PATIENCE, || {
        done(a.command(&["config"])).contains("older than 2 which is held here: refused")
    });
    assert_eq!(value(&a, "max_cache_age"), "20 s");
    push(&office, "max_cache_age = 30\n", &["--serial", "3"]);
    becomes(&a, "max_cache_age", "30 s");
    assert!(!done(a.command(&["config"])).contains("refused"));
}

#[test]
fn diff_tells_what_would_change_and_what_is_stronger() {
    let office = Office::new(51, &[]).unwrap();
    let a = office.agent_with("a", "max_cache_age = 5\n", &[]).unwrap();
    push(&office, "download_mode = 'group'\n", &[]);
    becomes(&a, "download_mode", "group");
    let file = office.path("new.toml");
    fs::write(&file, "download_mode = 1\nmax_cache_size = 30\n").unwrap();
    let said = done(a.command(&["policy", "diff", file.to_str().unwrap()]));
    assert!(
        said.contains(
            "download_mode: stays group: fleet (fleet policy 1 for all) says group, which is stronger"
        ),
        "{said}"
    );
    assert!(said.contains("max_cache_size: 20 % (from default) -> 30 % (from policy)"), "{said}");
    assert!(said.contains("max_cache_age: 5 s (from policy) -> 259200 s (from default)"), "{said}");
    assert_eq!(value(&a, "max_cache_size"), "20 %", "nothing is changed");
    let said = done(a.command(&["policy", "diff", file.to_str().unwrap(), "--layer", "fleet", "--json"]));
    let found: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert!(found.iter().any(|one| one["Name"] == "download_mode" && one["New"]["Text"] == "lan"), "{said}");
}

#[test]
fn diff_keeps_what_the_fleet_has_published_for_others_of_which_this_is_one() {
    let office = Office::new(118, &[]).unwrap();
    let a = office.agent("a").unwrap();
    push(&office, "download_mode = 'group'\nmax_cache_age = 40\n", &[]);
    push(&office, "max_cache_size = 7\n", &["--group", "subnet:127.0.0.0/8"]);
    becomes(&a, "max_cache_size", "7 %");
    let file = office.path("loopback.toml");
    fs::write(&file, "max_cache_size = 8\n").unwrap();
    let args =
        ["policy", "diff", file.to_str().unwrap(), "--layer", "fleet", "--group", "subnet:127.0.0.0/8"];
    let said = done(a.command(&args));
    assert!(said.contains("max_cache_size: 7 % (from fleet) -> 8 % (from fleet)"), "{said}");
    assert!(!said.contains("download_mode") && !said.contains("max_cache_age"), "{said}");
    // For all, it would end what is there for all; and the narrower one stays.
    let said = done(a.command(&args[..5]));
    assert!(said.contains("download_mode: group (from fleet) -> lan (from default)"), "{said}");
    assert!(said.contains("max_cache_size: stays 7 %"), "{said}");
}

#[test]
fn a_wrong_policy_file_does_not_become_the_defaults_at_a_restart() {
    let office = Office::new(119, &[]).unwrap();
    let mut a = office.agent_with("a", "max_cache_age = 5\n", &[]).unwrap();
    assert_eq!(value(&a, "max_cache_age"), "5 s");
    a.set_policy("max_cache_age = 5\nmax_cache_size = 500\n").unwrap();
    a.restart().unwrap();
    assert_eq!(value(&a, "max_cache_age"), "5 s");
    assert!(done(a.command(&["config"])).contains("the previous ones are"));
    a.set_policy("max_cache_age = 6\n").unwrap();
    becomes(&a, "max_cache_age", "6 s");
}

#[test]
fn a_revoked_device_is_no_longer_served() {
    let office = Office::new(120, &[]).unwrap();
    let (a, _b) = (office.agent("a").unwrap(), office.agent("b").unwrap());
    let listed = || done(office.fleet.command(&["coordinator", "devices", "--json"]).unwrap());
    let devices: Vec<Value> = serde_json::from_str(&listed()).unwrap();
    assert_eq!(devices.len(), 2);
    let none = run(office.fleet.command(&["coordinator", "revoke", "zz"]).unwrap());
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none).contains("no device has a key that begins with \"zz\""), "{}", text(&none));
    let table = done(office.fleet.command(&["coordinator", "devices"]).unwrap());
    let whole = done(office.fleet.command(&["coordinator", "devices", "--full"]).unwrap());
    for device in &devices {
        let key = device["peer"].as_str().unwrap();
        assert!(!table.contains(key) && whole.contains(key), "{table}{whole}");
        // As the table shows it: eight digits, if that is enough.
        let short =
            table.lines().filter_map(|line| line.split("  ").next()).find(|cell| key.starts_with(cell));
        let short = short.unwrap_or_else(|| panic!("{key} in {table}"));
        assert!((8..20).contains(&short.len()), "{table}");
        let said = done(office.fleet.command(&["coordinator", "revoke", short]).unwrap());
        assert!(said.contains(key) && said.contains("is revoked"), "{said}");
    }
    assert_eq!(serde_json::from_str::<Vec<Value>>(&listed()).unwrap().len(), 0);
    // What it asks for still comes, past the fleet.
    let (_, url, _) = office.published("later.bin", 2 << 20).unwrap();
    let status = a.get(&url, &office.path("later")).unwrap();
    assert_eq!(status["BytesFromPeers"], 0, "{status}");
    assert!(done(a.command(&["why", &url])).contains("enrol"), "the reason is told");
}
