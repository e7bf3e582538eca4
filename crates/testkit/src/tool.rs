//! Runs a system tool to its end; a failure names the command line and what the tool said.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs `program` with `args` and returns what it wrote to stdout.
pub(crate) fn run<I, S>(program: &str, args: I) -> Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    output(Command::new(program).args(args), None)
}

/// Runs `command`, with `input` on its stdin, and returns what it wrote to stdout.
pub(crate) fn output(command: &mut Command, input: Option<&str>) -> Result<String> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| {
            format!("cannot start {command:?}; `cargo xtask setup` installs what tests need")
        })?;
    // The inputs are rule sets of a few hundred bytes, far below what a pipe holds: this cannot block.
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).with_context(|| format!("cannot write to {command:?}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
