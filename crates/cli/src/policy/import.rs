//! `peerage policy import`: settings of Delivery Optimization as Windows tools write them, as a policy file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use peerage_policy::{Imported, MAX_IMPORT, Remark, import};
use serde_json::json;

use super::read;
use crate::output;

/// Make a policy file of settings that Windows tools wrote
///
/// Reads registry exports (regedit, reg export), Intune profiles as JSON (settings catalog, OMA-URI) and
/// `Get-DOConfig -Verbose | ConvertTo-Json`. What has no meaning here is told on stderr, line by line.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; - reads stdin
    file: PathBuf,
    /// Write the policy here [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print policy and remarks as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let bytes = read(&args.file, MAX_IMPORT)?;
    let found = import(&bytes).with_context(|| args.file.display().to_string())?;
    let text = policy(&found, &args.file);
    // Nothing is no policy: what stands there, perhaps the one in force, stays.
    if let Some(path) = args.output.as_ref().filter(|_| !found.layer.is_empty()) {
        std::fs::write(path, &text).with_context(|| format!("could not write {}", path.display()))?;
    }
    if args.json {
        let settings = found.layer.keys().count();
        output::json(
            &json!({"Settings": settings, "Policy": text, "Remarks": found.remarks, "More": found.more}),
        )?;
    } else {
        for Remark { place, sentence } in &found.remarks {
            output::note(&format!("{}: {place}: {sentence}", args.file.display()));
        }
        if found.more > 0 {
            output::note(&format!("{}: and {} more of the kind", args.file.display(), found.more));
        }
        if args.output.is_none() && !found.layer.is_empty() {
            output::bytes(text.as_bytes())?;
        }
    }
    if found.layer.is_empty() {
        let unwritten = args.output.as_ref().map(|path| format!("; {} is left as it is", path.display()));
        let unwritten = unwritten.unwrap_or_default();
        bail!("{}: no setting of Delivery Optimization that could be taken{unwritten}", args.file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The policy file, with what was not taken as comments: whoever reads it later has the warnings no more.
fn policy(found: &Imported, from: &Path) -> String {
    let one_line = |text: &str| text.replace(char::is_control, " ");
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    let mut text =
        format!("# Imported from {}. `peerage policy check` explains what it holds.\n", one_line(&name));
    for Remark { place, sentence } in &found.remarks {
        let _ = writeln!(text, "# {}: {}", one_line(place), one_line(sentence));
    }
    text.push('\n');
    text.push_str(&found.layer.to_toml());
    text
}
