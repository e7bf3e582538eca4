//! `docs/man/peerage-policy.5`: every setting, for `man` (roff with the man macros, groff_man(7)).

use std::fmt::Write as _;

use peerage_policy::Layers;

const HEAD: &str = r#".\" Written by `cargo xtask docs` from the table in crates/policy; edit there.
.TH PEERAGE\-POLICY 5 "" "Peerage" "File formats"
.SH NAME
peerage\-policy \- what a device may download from whom, and how fast
.SH SYNOPSIS
.I /etc/peerage/policy.toml
.br
.I /etc/peerage/policy.d/*.toml
.SH DESCRIPTION
Policy files are TOML: one flat list of settings.
.I policy.toml
is read first, then the files of
.I policy.d
in the order of their names; later ones go over earlier ones.
Changes hold within 2 seconds, for running downloads too.
.PP
Both spellings of a setting are read, this one and Delivery Optimization's, with its numbers or the names given here.
A plain number is in the unit of the setting; text may carry a unit of its own, such as
.BR \(dq64MiB\(dq ,
.BR \(dq20mbit\(dq ,
.BR \(dq3d\(dq .
An unknown setting or a value that is not allowed refuses all policy files; those that were in force before stay so, and
.B peerage config
says why.
.PP
What the coordinator publishes
.RB ( "peerage policy push" )
goes over these files; what
.B peerage set
sets on the device goes under them.
.SH SETTINGS
"#;

const TAIL: &str = r#".SH EXAMPLES
.nf
download_mode = \(dqgroup\(dq
group_id = \(dq6f1c2a34\-8d2e\-4d0e\-9d0b\-0f3f6f1c2d11\(dq
min_file_size_to_cache = \(dq10MB\(dq
max_background_download_bandwidth = \(dq80mbit\(dq
.fi
.SH SEE ALSO
.B peerage config\fR,
.B peerage policy check\fR,
.B peerage why
"#;

/// Its text.
pub(super) fn text() -> String {
    let mut text = HEAD.to_owned();
    for row in Layers::default().rows() {
        let _ = writeln!(text, ".TP\n.B {}", escaped(row.name));
        let _ = writeln!(text, "{}", escaped(row.doc));
        let _ = writeln!(text, ".br\nAllowed: {}", escaped(&row.allowed));
        let _ = writeln!(text, ".br\nDefault: {}", escaped(&row.effective.text));
        if let Some(name) = row.do_name {
            let deprecated = if row.deprecated { ", deprecated there" } else { "" };
            let _ = writeln!(text, ".br\nDelivery Optimization: {}{deprecated}", escaped(name));
        }
    }
    text.push_str(TAIL);
    text
}

/// Text that roff prints as it stands.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '"' => out.push_str("\\(dq"),
            '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    // A point or an apostrophe at the beginning of a line is a request.
    if out.starts_with(['.', '\'']) { format!("\\&{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_an_unknown_request_and_no_escape_is_lost() {
        assert_eq!(escaped(r#".a-b "c\d""#), r"\&.a\-b \(dqc\ed\(dq");
        let text = text();
        for line in text.lines().filter(|line| line.starts_with('.')) {
            let request = line.split(' ').next().unwrap();
            let known = [".\\\"", ".TH", ".SH", ".I", ".B", ".BR", ".RB", ".PP", ".TP", ".br", ".nf", ".fi"];
            assert!(known.contains(&request), "{line}");
        }
        assert_eq!(text.matches(".TP\n").count(), peerage_policy::Key::ALL.len());
    }
}
