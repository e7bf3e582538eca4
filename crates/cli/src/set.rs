//! `peerage set` and `peerage unset`: the local administrator's layer, through the running agent.
//!
//! What was set is kept even if it has no effect now; the exit code says so: 3 when a stronger layer holds, 1 when the
//! device cannot do it.

use std::process::ExitCode;

use clap::Args;
use peerage_api::Code;
use serde::Deserialize;
use serde_json::Value;

use crate::config::Setting;
use crate::output::{self, printable};
use crate::socket::{SocketArgs, reach};

/// Set a value on this device; a policy file and the fleet's policy go over it
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The setting, in either spelling: max_cache_age or DOMaxCacheAge
    setting: String,
    /// Its value: a number in the setting's unit, or text such as 3d, 20mbit, group; lists are comma-separated
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Print the setting as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Take back a value that was set with `peerage set`
#[derive(Debug, Args)]
pub(crate) struct UnsetArgs {
    /// The setting, in either spelling
    setting: String,
    /// Print the setting as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(crate) async fn set(args: SetArgs) -> anyhow::Result<ExitCode> {
    let row: Value = args.socket.client().set(&args.setting, Some(&args.value)).await.map_err(reach)?;
    tell(row, args.json)
}

pub(crate) async fn unset(args: UnsetArgs) -> anyhow::Result<ExitCode> {
    let row: Value = args.socket.client().set(&args.setting, None).await.map_err(reach)?;
    tell(row, args.json)
}

fn tell(row: Value, json: bool) -> anyhow::Result<ExitCode> {
    let changed: Changed = serde_json::from_value(row.clone())?;
    if json {
        output::json(&row)?;
    } else {
        for line in lines(&changed.setting) {
            output::line(&printable(&line))?;
        }
    }
    let Some((why, code)) = without_effect(&changed) else { return Ok(ExitCode::SUCCESS) };
    output::note(&format!("peerage: {why}"));
    Ok(ExitCode::from(code.exit_code()))
}

/// A setting after the change.
#[derive(Debug, Deserialize)]
struct Changed {
    #[serde(flatten)]
    setting: Setting,
    /// Why the value that holds has no effect yet.
    #[serde(rename = "Trouble")]
    trouble: Option<String>,
}

fn lines(setting: &Setting) -> Vec<String> {
    let mut lines = vec![format!("{} = {}, from {}", setting.name, setting.effective.text, setting.set_by())];
    lines.extend(setting.note.clone());
    lines
}

/// Why what was asked for is not so, if it is not.
fn without_effect(Changed { setting, trouble }: &Changed) -> Option<(String, Code)> {
    let Setting { name, effective, lower, .. } = setting;
    if let Some(own) = lower.iter().find(|said| said.provider == "admin") {
        let why = format!(
            "what is set here ({}) does not hold: {} is stronger; it will hold when that falls away",
            own.text, effective.provider
        );
        return Some((why, Code::Policy));
    }
    let why = trouble.as_ref()?;
    let why = format!(
        "{name} = {} has no effect yet: {why}; it is tried again every 10 s, or choose another value",
        effective.text
    );
    Some((why, Code::Disk))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_when_a_stronger_layer_holds() {
        let said = |provider: &str, text: &str| json!({"Provider": provider, "Source": null, "Text": text});
        let read = |value: &Value| lines(&serde_json::from_value(value.clone()).unwrap());
        let failed = |value: &Value| without_effect(&serde_json::from_value(value.clone()).unwrap());
        let mut held = json!({"Name": "max_cache_age", "Note": "n", "Effective": said("admin", "5 s"), "Lower": [said("default", "3 d")]});
        assert_eq!(read(&held), ["max_cache_age = 5 s, from admin", "n"]);
        assert_eq!(failed(&held), None);
        held["Trouble"] = "the disk is full".into();
        let (why, code) = failed(&held).unwrap();
        assert!(why.starts_with("max_cache_age = 5 s has no effect yet: the disk is full;"), "{why}");
        assert_eq!(code.exit_code(), 1);
        let not = json!({"Name": "max_cache_age", "Note": null, "Effective": said("fleet", "9 s"), "Lower": [said("admin", "5 s")]});
        let (why, code) = failed(&not).unwrap();
        assert!(why.starts_with("what is set here (5 s) does not hold: fleet is stronger"), "{why}");
        assert_eq!((read(&not).len(), code.exit_code()), (1, 3));
    }
}
