//! `peerage policy diff`: what a policy file would change on this device.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use peerage_api::agent::{DiffRequest, PolicyLayer};
use peerage_policy::MAX_POLICY_TEXT;
use peerage_policy::fleet::Selector;
use serde::Deserialize;
use serde_json::Value;

use super::read_text;
use crate::config::Said;
use crate::output::{self, printable};
use crate::socket::{SocketArgs, reach};

/// Show what a policy file would change on this device, and what it would not and why
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The policy file; - reads stdin
    file: PathBuf,
    /// The layer that it is thought in place of
    #[arg(long, value_name = "LAYER", default_value = "policy")]
    layer: Layer,
    /// With --layer fleet: the devices that it is to be pushed for: all, tag:NAME, subnet:CIDR or group:GUID [default: all]
    #[arg(long, value_name = "SELECTOR")]
    group: Option<Selector>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// The layer that a file is thought in place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// What the coordinator says
    Fleet,
    /// /etc/peerage/policy.toml
    Policy,
    /// What `peerage set` has set
    Admin,
}

impl From<Layer> for PolicyLayer {
    fn from(layer: Layer) -> Self {
        match layer {
            Layer::Fleet => Self::Fleet,
            Layer::Policy => Self::Policy,
            Layer::Admin => Self::Admin,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Difference {
    name: String,
    old: Said,
    new: Said,
    changes: bool,
    why: Option<String>,
}

pub(crate) async fn run(args: DiffArgs) -> anyhow::Result<ExitCode> {
    let text = read_text(&args.file, MAX_POLICY_TEXT)?;
    if args.group.is_some() && args.layer != Layer::Fleet {
        return Err(crate::exit::usage(
            "--group goes with --layer fleet: the other layers are this device's alone",
        ));
    }
    let request = DiffRequest {
        name: args.file.display().to_string(),
        text,
        layer: Some(args.layer.into()),
        group: args.group.map(|group| group.to_string()),
    };
    let answer: Value = args.socket.client().diff(&request).await.map_err(reach)?;
    if args.json {
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines(&serde_json::from_value::<Vec<Difference>>(answer)?) {
        output::line(&printable(&line))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(found: &[Difference]) -> Vec<String> {
    if found.is_empty() {
        return vec!["nothing would change: the file sets nothing".to_owned()];
    }
    let one = |one: &Difference| {
        let Difference { name, old, new, .. } = one;
        let why = one.why.as_deref().unwrap_or_default();
        if one.changes {
            format!("{name}: {} (from {}) -> {} (from {})", old.text, old.provider, new.text, new.provider)
        } else {
            format!("{name}: stays {}: {why}", new.text)
        }
    };
    found.iter().map(one).collect()
}
