//! Documents that follow from the code: `docs/policy.md` from the table of settings.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use peerage_policy::Layers;

use crate::shell::Shell;

/// Where the settings are described.
pub(crate) const POLICY: &str = "docs/policy.md";

const HEAD: &str = "\
# Policy: every setting

<!-- Written by `cargo xtask docs` from the table in crates/policy; edit there. -->

A device's administrator writes settings to `/etc/peerage/policy.toml`, and to `/etc/peerage/policy.d/*.toml`, which are
read after it in the order of their names:

```toml
download_mode = \"group\"
group_id = \"6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11\"
min_file_size_to_cache = \"10MB\"
max_background_download_bandwidth = \"20mbit\"
```

- Changes hold within 2 s, for running downloads too; nothing is restarted.
- Both spellings are read: ours (`download_mode`) and Delivery Optimization's (`DODownloadMode`), with its numbers or our
  names. A plain number is in the unit of the row; text may carry a unit of its own (`\"64MiB\"`, `\"20mbit\"`, `\"3d\"`).
- An unknown key or a value that is not allowed: the error names file, key, what was found and what is allowed
  (`peerage config` shows it), and the policy that was in force before stays in force.
- `peerage config` shows every value in force, which layer set it, and what it is set instead of.

";

/// The text of [`POLICY`].
pub(crate) fn policy() -> String {
    let rows = Layers::default().rows();
    let mut text = HEAD.to_owned();
    let pending = rows.iter().filter(|row| row.pending).count();
    let _ = writeln!(
        text,
        "{} settings; {pending} of them are read and checked but have no effect yet, and say so.\n",
        rows.len()
    );
    for row in &rows {
        let _ = writeln!(text, "## `{}`\n", row.name);
        if row.pending {
            text.push_str("**No effect yet.** ");
        }
        let _ = writeln!(text, "{}\n", row.doc);
        let _ = writeln!(text, "- Allowed: {}", row.allowed);
        let _ = writeln!(text, "- Default: {}", row.effective.text);
        match row.do_name {
            Some(name) => {
                let deprecated = if row.deprecated { ", deprecated there" } else { "" };
                let _ = writeln!(text, "- Delivery Optimization: `{name}`{deprecated}");
            }
            None => text.push_str("- Delivery Optimization: has no such setting\n"),
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Writes all of them.
pub(crate) fn write(shell: &Shell) -> Result<()> {
    let path = shell.root().join(POLICY);
    fs::write(&path, policy()).with_context(|| format!("cannot write {}", path.display()))
}
