//! Whatever keeps a file from peers or holds its bytes back is told of by `why` and `status`: the setting, its value, the
//! layer and file that give it, and a remedy that takes the reason away; from every layer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use peerage_testkit::{Agent, OPEN_POLICY, Office, number, wait_for, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings that may bite together: what else must be set, then each with a value that bites and one that does not.
struct Together {
    beside: &'static [(&'static str, &'static str)],
    settings: &'static [(&'static str, &'static str, &'static str)],
}

const CASES: [Together; 3] = [
    Together { beside: &[], settings: &[("download_mode", "'http_only'", "'lan'")] },
    Together {
        beside: &[("download_mode", "'group'")],
        settings: &[
            ("group_id_source", "'dhcp_option'", "'dns_suffix'"),
            ("restrict_peer_selection_by", "'subnet'", "'none'"),
            ("min_ram_allowed_to_peer", "100000", "1"),
            ("min_disk_size_allowed_to_peer", "100000", "1"),
            ("min_file_size_to_cache", "100000", "1"),
            ("local_discovery", "false", "true"),
            ("modify_cache_drive", "'/proc/cache'", "OWN"),
            ("max_upload_bandwidth", "500000", "0"),
            ("max_background_download_bandwidth", "500000", "0"),
            (
                "set_hours_to_limit_background_download_bandwidth",
                "{ from = 0, to = 0, in = 90, out = 90 }",
                "{ from = 0, to = 0, in = 0, out = 0 }",
            ),
            ("cache_host_source", "'dhcp_option_force'", "'dns_sd_off'"),
        ],
    },
    Together {
        beside: &[
            ("download_mode", "'lan'"),
            ("cache_host", "'127.213.0.99:1'"),
            ("set_hours_to_limit_background_download_bandwidth", "{ from = 0, to = 0, in = 0, out = 0 }"),
        ],
        settings: &[
            ("delay_background_download_from_http", "5", "0"),
            ("delay_cache_server_fallback_background", "5", "0"),
        ],
    },
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Layer {
    Admin,
    PolicyFile,
    PolicyD,
    Fleet,
}

impl Layer {
    const fn provider(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::PolicyFile | Self::PolicyD => "policy",
            Self::Fleet => "fleet",
        }
    }

    const fn place(self) -> &'static str {
        match self {
            Self::Admin => "with `peerage set`",
            Self::PolicyFile | Self::PolicyD => "in the device's policy file",
            Self::Fleet => "in the coordinator's policy",
        }
    }

    /// Makes this all that the layer says beside what was said before with `set`.
    fn say(self, office: &Office, agent: &Agent, lines: &[(&str, String)]) {
        let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        match self {
            Self::Admin => lines.iter().for_each(|(key, value)| {
                let output = agent.command(&["set", key, value.trim_matches('\'')]).output().unwrap();
                let refused = *key == "modify_cache_drive" && value.contains("/proc");
                assert_eq!(output.status.success(), !refused, "{key} = {value}: {output:?}");
            }),
            Self::PolicyFile => agent.set_policy(&text).unwrap(),
            Self::PolicyD => {
                let dir = agent.dir.join("policy.d");
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join("new"), text).unwrap();
                fs::rename(dir.join("new"), dir.join("50-told.toml")).unwrap();
            }
            Self::Fleet => {
                let file = office.path("fleet.toml");
                fs::write(&file, text).unwrap();
                let push = office.fleet.command(&["policy", "push", file.to_str().unwrap()]);
                let output = push.unwrap().output().unwrap();
                assert!(output.status.success(), "{output:?}");
            }
        }
    }

    fn is_quiet_again(self, agent: &Agent) {
        match self {
            Self::PolicyFile => agent.set_policy("").unwrap(),
            Self::PolicyD => fs::remove_file(agent.dir.join("policy.d/50-told.toml")).unwrap(),
            Self::Admin | Self::Fleet => {}
        }
    }
}

fn why(agent: &Agent, file: &str) -> Value {
    let output = agent.command(&["why", file, "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// What holds now, by setting.
fn now(agent: &Agent, file: &str) -> Vec<Value> {
    why(agent, file)["Now"].as_array().cloned().unwrap_or_default()
}

#[test]
fn from_every_layer_by_setting_value_file_and_remedy() {
    let office = Office::new(213, &[]).unwrap();
    let (_, url, id) = office.published("told.bin", 6 * MIB).unwrap();
    let agent = office.agent_with("a", "", &[]).unwrap();
    let open: Vec<(&str, String)> = OPEN_POLICY
        .lines()
        .map(|line| line.split_once(" = ").unwrap())
        .map(|(k, v)| (k, v.to_owned()))
        .collect();
    Layer::Admin.say(&office, &agent, &open);
    agent.get(&url, &office.path("told")).unwrap();
    let own = format!("'{}'", agent.cache().display());
    for layer in [Layer::Admin, Layer::PolicyFile, Layer::PolicyD, Layer::Fleet] {
        for Together { beside, settings } in CASES {
            let beside = beside.iter().map(|(key, value)| (*key, (*value).to_owned()));
            let with = |pick: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
                let own = &own;
                let each =
                    settings.iter().map(move |row| (row.0, pick(row).replace("OWN", own.trim_matches('\''))));
                let quoted = each.map(|(key, value)| match value.strip_prefix('/') {
                    Some(_) => (key, format!("'{value}'")),
                    None => (key, value),
                });
                beside.clone().chain(quoted).collect::<Vec<_>>()
            };
            layer.say(&office, &agent, &with(|row| row.1));
            let wanted: BTreeSet<&str> = settings.iter().map(|row| row.0).collect();
            let of = |found: &Value| {
                let setting = found["Setting"].as_str().filter(|_| found["Remedy"].is_string())?;
                (found["Provider"] == layer.provider()).then(|| wanted.get(setting).copied()).flatten()
            };
            let what = format!("{layer:?} names {wanted:?}");
            let told = wait_for(&what, PATIENCE, || {
                let told = now(&agent, &id);
                let named: BTreeSet<&str> = told.iter().filter_map(of).collect();
                (named == wanted).then_some(told)
            });
            for found in told.iter().filter(|found| of(found).is_some()) {
                let (setting, remedy) =
                    (found["Setting"].as_str().unwrap(), found["Remedy"].as_str().unwrap());
                let by_caches = setting == "cache_host_source";
                assert!(by_caches || remedy.ends_with(&format!("{setting} {}", layer.place())), "{found}");
                assert!(!found["Value"].as_str().unwrap().is_empty(), "{found}");
                let file = found["Source"].as_str().unwrap_or_default();
                match layer {
                    Layer::PolicyFile => assert!(file.ends_with("/policy.toml"), "{found}"),
                    Layer::PolicyD => assert!(file.ends_with("/policy.d/50-told.toml"), "{found}"),
                    Layer::Admin => assert!(file.ends_with("/admin.toml"), "{found}"),
                    Layer::Fleet => {}
                }
                let sentence = found["Sentence"].as_str().unwrap();
                let named = format!("({setting}, from {})", layer.provider());
                assert!(sentence.ends_with(&named), "{found}");
                let row = agent.file(&id).unwrap().unwrap();
                let mut lines = row["Reasons"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
                let line =
                    lines.find(|line| line.contains(&named)).unwrap_or_else(|| panic!("{named} in {row}"));
                assert!(line.ends_with(remedy), "{line}");
            }
            layer.say(&office, &agent, &with(|row| row.2));
            wait_until(&format!("{layer:?}: the remedies help"), PATIENCE, || {
                let told = now(&agent, &id);
                // Another source of the group may be silent too on this machine.
                let left = told.iter().filter_map(of).filter(|setting| *setting != "group_id_source");
                !told.is_empty() && left.count() == 0
            });
        }
        layer.is_quiet_again(&agent);
    }
}

#[test]
fn what_was_evicted_says_by_which_setting() {
    let office = Office::new(214, &[]).unwrap();
    let (_, url, id) = office.published("old.bin", 2 * MIB).unwrap();
    let agent = office.agent("a").unwrap();
    agent.get(&url, &office.path("old")).unwrap();
    let output = agent.command(&["set", "max_cache_age", "1"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let gone = |agent: &Agent| {
        let why = why(agent, &id);
        why["Findings"].as_array()?.iter().find(|found| found["Code"] == "evicted").cloned()
    };
    // Limits are looked at when they change, and the file must be older than they allow by then.
    let mut values = ["2", "1"].into_iter().cycle();
    let found = wait_for("it is evicted", PATIENCE, || {
        agent.command(&["set", "max_cache_age", values.next()?]).output().unwrap();
        gone(&agent)
    });
    assert_eq!(
        (&found["Setting"], &found["Provider"]),
        (&"max_cache_age".into(), &"admin".into()),
        "{found}"
    );
    assert_eq!(found["Remedy"], "raise, or give 0 (no limit) for max_cache_age with `peerage set`");
}

#[test]
fn a_full_house_of_peers_is_told() {
    let office = Office::new(215, &[]).unwrap();
    let (_, url, id) = office.published("house.bin", 24 * MIB).unwrap();
    let slow = format!("{OPEN_POLICY}max_upload_bandwidth = 1000\n");
    let (a, b) = (office.agent_with("a", &slow, &[]).unwrap(), office.agent_with("b", &slow, &[]).unwrap());
    a.get(&url, &office.path("a")).unwrap();
    b.get(&url, &office.path("b")).unwrap();
    let few = format!("{OPEN_POLICY}max_peer_connections = 1\ndelay_background_download_from_http = 3600\n");
    let c = office.agent_with("c", &few, &[]).unwrap();
    let _job = c.begin_get(&url, &office.path("c"), &[]).unwrap();
    let reasons = || c.file(&id).unwrap().map_or(String::new(), |row| row["Reasons"].to_string());
    wait_until("the house is full", PATIENCE, || reasons().contains("max_peer_connections"));
    let told = now(&c, &id).into_iter().find(|found| found["Code"] == "no_peer_place").unwrap();
    assert_eq!((&told["Value"], &told["Provider"]), (&"1".into(), &"policy".into()), "{told}");
    assert_eq!(told["Remedy"], "raise max_peer_connections in the device's policy file");
    c.set_policy(&few.replace("connections = 1", "connections = 9")).unwrap();
    wait_until("both are connected", PATIENCE, || {
        c.file(&id).unwrap().is_some_and(|row| number(&row, "ConnectedPeers") == 2)
    });
    wait_until("nothing more is said of it", PATIENCE, || !reasons().contains("max_peer_connections"));
}
