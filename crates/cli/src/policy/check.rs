//! `peerage policy check`: what is wrong, contradictory or outdated in policy files, without any agent.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use peerage_policy::{Advice, Key, Layer, Layers, Level, MAX_POLICY_TEXT, Provider, check, parse_layer};
use serde_json::json;

use super::read_text;
use crate::output::{self, printable_lines};

/// Check policy files: what would be refused, what contradicts itself, what is deprecated
///
/// Files are read one after the other as a device reads them, later ones over earlier ones. The exit code is 1 if a device
/// would refuse them.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Policy files; - reads stdin
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Exit code 1 for conflicts and deprecated settings too
    #[arg(long)]
    strict: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let read = |path: &PathBuf| Ok((name(path), read_text(path, MAX_POLICY_TEXT)?));
    let files = args.files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let mut found = check(&files);
    found.extend(no_place_for_the_cache(&files));
    let worst = if args.strict { Level::Deprecated } else { Level::Error };
    let refused = found.iter().any(|advice| advice.level <= worst);
    if args.json {
        output::json(&json!({"Valid": !has(&found, Level::Error), "Findings": found}))?;
    } else {
        for advice in &found {
            output::line(&printable_lines(&format!("{}: {}", advice.level.name(), advice.sentence)))?;
        }
        if found.is_empty() {
            output::line("nothing to be said: the policy is valid and without conflicts")?;
        }
    }
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The cache moves only below a directory that is there. Whether it is on the devices cannot be seen from here; on this
/// machine it can.
fn no_place_for_the_cache(files: &[(String, String)]) -> Option<Advice> {
    let mut layer = Layer::default();
    for (name, text) in files {
        layer.overlay(parse_layer(name, text).ok()?);
    }
    let mut layers = Layers::default();
    layers.replace(Provider::Policy, layer);
    let settings = layers.settings();
    let above = settings.modify_cache_drive.parent()?;
    if settings.provider(Key::ModifyCacheDrive) == Provider::Default || above.is_dir() {
        return None;
    }
    let sentence = format!(
        "modify_cache_drive: {} is not there on this machine; a device without it keeps its cache where it is, and says so",
        above.display()
    );
    Some(Advice { level: Level::Note, settings: vec![Key::ModifyCacheDrive.name()], sentence })
}

fn has(found: &[Advice], level: Level) -> bool {
    found.iter().any(|advice| advice.level == level)
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}
