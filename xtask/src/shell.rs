//! How xtask runs other programs: in the workspace's root, with the pinned cargo tools on the path.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The workspace, and the way to run programs in it.
#[derive(Debug)]
pub(crate) struct Shell {
    root: PathBuf,
    cargo: OsString,
    path: OsString,
}

impl Shell {
    /// Finds the workspace that this xtask was built from.
    pub(crate) fn new() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").context("start it as `cargo xtask`")?;
        let root = Path::new(&manifest_dir).parent().context("xtask stands in no workspace")?.to_owned();
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let inherited = env::var_os("PATH").unwrap_or_default();
        // Debian keeps ip, tc, nft and nginx where only root's path leads.
        let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let path = env::join_paths(
            [root.join("target/tools/bin")].into_iter().chain(env::split_paths(&inherited)).chain(system),
        )
        .context("cannot extend PATH")?;
        Ok(Self { root, cargo, path })
    }

    /// The workspace's root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo puts what it builds: `CARGO_TARGET_DIR`, or `target`.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
    }

    /// Where tools built from source are kept: `bin/` inside it is first on the path.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// A command that will run in the root, without stdin.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.root).env("PATH", &self.path).stdin(Stdio::null());
        command
    }

    /// `cargo` with `args`; the same cargo that runs this xtask.
    pub(crate) fn cargo<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command(&self.cargo, args)
    }

    /// Whether `program` is on the path.
    pub(crate) fn has(&self, program: &str) -> bool {
        env::split_paths(&self.path).any(|dir| dir.join(program).is_file())
    }
}

/// Runs `command`; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{}: {status}", line(command));
    }
    Ok(())
}

/// Runs `command` and returns what it writes to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(Stdio::piped()).output().with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        bail!("{}: {}: {}", line(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it; of the program only the name.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
