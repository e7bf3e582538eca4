//! Where the built `peerage` binary is.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// The `peerage` binary under test: `PEERAGE_BIN` if set, else what this very build made.
///
/// # Errors
/// It has not been built; the message says how.
pub fn peerage_bin() -> Result<PathBuf> {
    // cargo-nextest names the binaries of a package to its integration tests at run time.
    for key in ["PEERAGE_BIN", "NEXTEST_BIN_EXE_peerage", "CARGO_BIN_EXE_peerage"] {
        if let Some(path) = std::env::var_os(key).map(PathBuf::from) {
            return match path.is_file() {
                true => Ok(path),
                false => bail!("{key} names {}, which is no file", path.display()),
            };
        }
    }
    // Tests of other packages run from target/<profile>/deps, beside which cargo puts the binaries.
    let me = std::env::current_exe().context("cannot find this test's own path")?;
    let built = me.ancestors().skip(1).take(2).map(|dir| dir.join("peerage")).find(|path| path.is_file());
    built.with_context(|| format!("no peerage binary beside {}: run `cargo build --bins`", me.display()))
}
