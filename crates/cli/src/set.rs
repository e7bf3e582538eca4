//! `peerage set` and `peerage unset`: the local administrator's layer, through the running agent.

use std::process::ExitCode;

use clap::Args;
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
    if json {
        output::json(&row)?;
    } else {
        let setting: Setting = serde_json::from_value(row)?;
        for line in lines(&setting) {
            output::line(&printable(&line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(setting: &Setting) -> Vec<String> {
    let mut lines = vec![format!("{} = {}, from {}", setting.name, setting.effective.text, setting.set_by())];
    if let Some(own) = setting.lower.iter().find(|said| said.provider == "admin") {
        lines.push(format!(
            "what is set here ({}) does not hold: {} is stronger; it will hold when that falls away",
            own.text, setting.effective.provider
        ));
    }
    lines.extend(setting.note.clone());
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_when_a_stronger_layer_holds() {
        let said = |provider: &str, text: &str| json!({"Provider": provider, "Source": null, "Text": text});
        let read = |value| lines(&serde_json::from_value(value).unwrap());
        let held = json!({"Name": "max_cache_age", "Note": "n", "Effective": said("admin", "5 s"), "Lower": [said("default", "3 d")]});
        assert_eq!(read(held), ["max_cache_age = 5 s, from admin", "n"]);
        let not = json!({"Name": "max_cache_age", "Note": null, "Effective": said("fleet", "9 s"), "Lower": [said("admin", "5 s")]});
        assert!(read(not)[1].starts_with("what is set here (5 s) does not hold: fleet is stronger"));
    }
}
