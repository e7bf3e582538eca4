//! `cargo xtask check`: proves what the compiler cannot, the rules of the house (ARCHITECTURE.md).
//!
//! The rules are pure functions from text to findings; this file alone touches the disk.

mod finding;
mod manifest;
mod path;
mod room;
mod rust;
mod source;

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use cargo_metadata::MetadataCommand;

use self::finding::{Finding, Level};
use crate::docs;
use crate::shell::{self, Shell};

/// Checks the whole tree; prints findings and a closing line. Returns whether no rule is broken.
pub(crate) fn run(shell: &Shell) -> Result<bool> {
    let mut findings = rooms(shell)?;
    let (files, in_files) = files(shell)?;
    findings.extend(in_files);
    findings.extend(documents(shell));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let broken = findings.iter().filter(|finding| finding.level == Level::Error).count();
    println!("check: {files} files, {broken} broken rules, {} warnings", findings.len() - broken);
    Ok(broken == 0)
}

/// Documents that follow from the code, and no longer do.
fn documents(shell: &Shell) -> Vec<Finding> {
    let message = "is not what the code says; run `cargo xtask docs`";
    let old = docs::all()
        .into_iter()
        .filter(|(path, text)| fs::read_to_string(shell.root().join(path)).unwrap_or_default() != *text);
    old.map(|(path, _)| Finding::error(path, 1, "generated", message)).collect()
}

fn rooms(shell: &Shell) -> Result<Vec<Finding>> {
    let mut metadata = MetadataCommand::new();
    let metadata =
        metadata.current_dir(shell.root()).no_deps().exec().context("cannot read the workspace")?;
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let path = package.manifest_path.as_std_path();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = path.strip_prefix(shell.root()).unwrap_or(path).display().to_string();
        let room = room::name(&package.name);
        findings.extend(manifest::check(&shown, &text, room));
        if room::is_pure(room) {
            let args = [
                "tree",
                "--quiet",
                "--package",
                &package.name,
                "--edges",
                "normal",
                "--prefix",
                "none",
                "--format",
                "{p}",
            ];
            let closure = shell::output(&mut shell.cargo(args))?;
            findings.extend(manifest::check_pure_closure(&shown, &text, room, &closure));
        }
    }
    Ok(findings)
}

/// Every file that git tracks or would track.
fn files(shell: &Shell) -> Result<(usize, Vec<Finding>)> {
    let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = shell::output(&mut shell.command("git", listed))?;
    let private = path::private_dirs(shell.root(), std::env::home_dir().as_deref());
    let (mut count, mut findings) = (0, Vec::new());
    for name in listed.split_terminator('\0') {
        let text = match fs::read_to_string(shell.root().join(name)) {
            Ok(text) => text,
            // Deleted but still in the index; a picture or another binary file.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
        };
        count += 1;
        findings.extend(path::check(name, &text, &private));
        if name.ends_with(".rs") {
            findings.extend(source::check(name, &text));
        }
    }
    Ok((count, findings))
}
