//! Documents that follow from the code: all of them from the table of settings.

mod man;
mod policy;
mod schema;

use std::fs;

use anyhow::{Context as _, Result};

use crate::shell::Shell;

/// Each document's path and text.
pub(crate) fn all() -> [(&'static str, String); 3] {
    [
        ("docs/policy.md", policy::text()),
        ("docs/policy.schema.json", schema::text()),
        ("docs/man/peerage-policy.5", man::text()),
    ]
}

/// Writes all of them.
pub(crate) fn write(shell: &Shell) -> Result<()> {
    for (path, text) in all() {
        let path = shell.root().join(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
