//! Each setting × its boundary values × each layer, with a real agent: what is allowed holds from every layer and is shown
//! as such; what is one beyond is refused by every door with what is allowed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use peerage_policy::{Key, Layers, Provider, Rule, Setting, parse_layer};
use peerage_testkit::{Agent, Office, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Values at the edges of what is allowed, as TOML.
fn allowed(setting: &Setting) -> [String; 2] {
    let pair = |low: &str, high: &str| [low.to_owned(), high.to_owned()];
    match setting.rule {
        Rule::Switch => pair("0", "true"),
        Rule::Number { min, max, .. } => [min.to_string(), format!("'{max}'")],
        Rule::Choice(choices) => {
            let (first, last) = (choices.first().unwrap(), choices.last().unwrap());
            [first.number.to_string(), format!("'{}'", last.name.to_uppercase())]
        }
        Rule::Group => {
            pair("'6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11'", "'{6F1C2A34-8D2E-4D0E-9D0B-0F3F6F1C2D12}'")
        }
        Rule::Directory => pair("'/a'", "'/srv/b c'"),
        Rule::Words => pair("'a, b'", "['x']"),
        Rule::Hosts => pair("'cache.example'", "['10.0.0.2:80', '[fd00::2]:8080']"),
        Rule::Keys => [format!("'{}'", "0a".repeat(32)), format!("['{}']", "0b".repeat(32))],
        Rule::Hours => pair(
            "{ from = 0, to = 23, in = 0, out = 100 }",
            "{ from = 23, to = 0, in = 100, out = 0, days = ['mon'], time_zone = 'Europe/Paris' }",
        ),
    }
}

/// Values just beyond.
fn refused(setting: &Setting) -> Vec<String> {
    let list = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    match setting.rule {
        Rule::Number { min, max, .. } => {
            let mut values = vec![(max + 1).to_string(), "'soon'".to_owned(), "-1".to_owned()];
            values.extend(min.checked_sub(1).map(|below| below.to_string()));
            values
        }
        Rule::Choice(choices) => {
            vec![
                (choices.iter().map(|choice| choice.number).max().unwrap() + 1).to_string(),
                "'maybe'".to_owned(),
            ]
        }
        Rule::Switch => list(&["2", "'yes'"]),
        Rule::Group => list(&["'corp.example'", "7"]),
        Rule::Directory => list(&["'cache'", "'/a/../b'"]),
        Rule::Words => vec!["['a,b']".to_owned(), format!("'{}'", "x".repeat(129))],
        Rule::Hosts => list(&["'http://cache'", "['a:0']"]),
        Rule::Keys => list(&["'abc'", "5"]),
        _ => list(&["{ from = 24, to = 1, in = 0, out = 0 }", "'8-18'"]),
    }
}

/// A policy with one of the values of every setting.
fn everything(which: usize) -> String {
    let line = |key: &Key| {
        let setting = key.setting();
        let name = if which == 0 { setting.name } else { setting.do_name.unwrap_or(setting.name) };
        format!("{name} = {}\n", allowed(setting)[which])
    };
    Key::ALL.iter().map(line).collect()
}

fn config(agent: &Agent) -> Value {
    let output = agent.command(&["config", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every setting as the agent shows it, beside what `text` says in that layer.
fn shows(agent: &Agent, provider: Provider, text: &str) {
    let mut expected = Layers::default();
    expected.replace(Provider::Policy, parse_layer("test", text).unwrap());
    wait_until(&format!("{provider} holds"), PATIENCE, || {
        config(agent)["Settings"][0]["Effective"]["Provider"] == provider.name()
            && config(agent)["Settings"][0]["Effective"]["Text"] == expected.rows()[0].effective.text
    });
    let config = config(agent);
    for (row, wanted) in config["Settings"].as_array().unwrap().iter().zip(expected.rows()) {
        assert_eq!(row["Name"], wanted.name);
        assert_eq!(row["Effective"]["Text"], wanted.effective.text, "{row}");
        assert_eq!(row["Effective"]["Provider"], provider.name(), "{row}");
        assert_eq!(row["Effective"]["Value"], wanted.effective.value, "{row}");
    }
    let wanted = expected.to_do_json();
    for (field, value) in config["DoConfig"].as_object().unwrap() {
        match field.strip_suffix("Provider") {
            Some(_) => assert_eq!(*value, provider.do_number(), "{field}"),
            None => assert_eq!(Some(value), wanted.get(field), "{field}"),
        }
    }
}

#[test]
fn every_setting_holds_from_every_layer() {
    let office = Office::new(55, &[]).unwrap();
    let agent = office.agent_with("a", "", &[]).unwrap();
    // From the weakest layer to the strongest: each goes over the one before, with the other value.
    for key in Key::ALL {
        let setting = key.setting();
        let value = &allowed(setting)[0];
        let value = value.trim_matches('\'').to_owned();
        let output = agent.command(&["set", setting.name, &value]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // Not everybody may make a directory there; it is the setting all the same.
        let refused = setting.rule == Rule::Directory && said.contains("has no effect yet");
        assert!(output.status.success() || refused, "{} {value}: {said}", setting.name);
    }
    shows(&agent, Provider::Admin, &everything(0));
    agent.set_policy(&everything(1)).unwrap();
    shows(&agent, Provider::Policy, &everything(1));
    let file = office.path("fleet.toml");
    fs::write(&file, everything(0)).unwrap();
    let pushed = office.fleet.command(&["policy", "push", file.to_str().unwrap()]).unwrap().output().unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    shows(&agent, Provider::Fleet, &everything(0));
    // Each layer is still shown below the stronger ones …
    for (row, key) in config(&agent)["Settings"].as_array().unwrap().iter().zip(Key::ALL) {
        let lower = row["Lower"].as_array().unwrap();
        let who: Vec<&str> = lower.iter().map(|said| said["Provider"].as_str().unwrap()).collect();
        assert_eq!(who, ["policy", "admin", "default"], "{row}");
        assert_eq!(lower[1]["Text"], row["Effective"]["Text"], "the same in both: {row}");
        assert_eq!(lower[2]["Text"], defaults(&agent, *key), "{row}");
    }
    // … and holds again when they say nothing more.
    let rolled = office.fleet.command(&["policy", "rollback"]).unwrap().output().unwrap();
    assert!(rolled.status.success(), "{}", String::from_utf8_lossy(&rolled.stderr));
    shows(&agent, Provider::Policy, &everything(1));
    agent.set_policy("").unwrap();
    shows(&agent, Provider::Admin, &everything(0));
    for key in Key::ALL {
        let name = key.setting().do_name.unwrap_or(key.setting().name);
        let output = agent.command(&["unset", name]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for (row, key) in config(&agent)["Settings"].as_array().unwrap().iter().zip(Key::ALL) {
        assert_eq!(row["Effective"]["Provider"], "default", "{row}");
        assert_eq!(
            (&row["Effective"]["Text"], row["Lower"].as_array().unwrap().len()),
            (&defaults(&agent, *key).into(), 0)
        );
    }
}

/// What holds where no layer says anything, as text.
fn defaults(agent: &Agent, key: Key) -> String {
    let mut layers = Layers::default();
    layers.set_own_cache(agent.cache());
    layers.row_of(key).effective.text
}

#[test]
fn what_is_beyond_is_refused_by_every_door() {
    let office = Office::new(56, &[]).unwrap();
    let agent = office.agent_with("a", "", &[]).unwrap();
    let before = config(&agent)["Settings"].clone();
    let file = office.path("bad.toml");
    let path = file.to_str().unwrap();
    let says = |mut command: Command, what: &str, allowed: &str| {
        let output = command.output().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && text.contains(allowed), "{what}: {text}");
    };
    for key in Key::ALL {
        let setting = key.setting();
        let allowed = format!("allowed is {}", setting.rule);
        for value in refused(setting) {
            let what = format!("{} = {value}", setting.name);
            fs::write(&file, format!("{what}\n")).unwrap();
            says(agent.command(&["policy", "check", path]), &what, &allowed);
            // Text of a command line has no quotes and no lists.
            if !value.starts_with('[') {
                says(agent.command(&["set", setting.name, value.trim_matches('\'')]), &what, &allowed);
            }
        }
        says(office.fleet.command(&["policy", "push", path]).unwrap(), setting.name, &allowed);
    }
    assert_eq!(config(&agent)["Settings"], before, "nothing of it holds");
}
