//! `docs/policy.md`: every setting, for people.

use std::fmt::Write as _;

use peerage_policy::Layers;

const HEAD: &str = "\
# Policy: every setting

<!-- Written by `cargo xtask docs` from the table in crates/policy; edit there. -->

Four layers say what holds, the strongest first:

| layer | who | how |
|---|---|---|
| fleet | the coordinator's administrator | `peerage policy push`, for all devices or some ([fleet-policy.md](fleet-policy.md)) |
| policy | the device's configuration | `/etc/peerage/policy.toml`, then `/etc/peerage/policy.d/*.toml` in the order of their names |
| admin | the device's administrator | `peerage set SETTING VALUE`, `peerage unset SETTING` |
| default | this table | |

A policy file:

```toml
download_mode = \"group\"
group_id = \"6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11\"
min_file_size_to_cache = \"10MB\"
max_background_download_bandwidth = \"80mbit\"
```

- Changes hold within 2 s, for running downloads too; nothing is restarted.
- Both spellings are read: ours (`download_mode`) and Delivery Optimization's (`DODownloadMode`), with its numbers or our
  names. A plain number is in the unit of the row; text may carry a unit of its own (`\"64MiB\"`, `\"20mbit\"`, `\"3d\"`).
- An unknown key or a value that is not allowed: the error names file, key, what was found and what is allowed
  (`peerage config` shows it), and the policy that was in force before stays in force.
- `peerage config` shows every value in force, which layer set it, and what it is set instead of; `peerage why FILE` says
  which of them decided where a file's bytes came from.
- `peerage policy check FILE` explains what would be refused, what contradicts itself and what is deprecated;
  `peerage policy diff FILE` what it would change on this device; `peerage policy import FILE` makes a policy file of a
  registry export, an Intune profile or the output of `Get-DOConfig`.
- Editors that know JSON Schema check the file while it is written: [policy.schema.json](policy.schema.json). The same as
  this page for a terminal: [man/peerage-policy.5](man/peerage-policy.5).

";

/// Its text.
pub(super) fn text() -> String {
    let rows = Layers::default().rows();
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "{} settings.\n", rows.len());
    for row in &rows {
        let _ = writeln!(text, "## `{}`\n", row.name);
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
