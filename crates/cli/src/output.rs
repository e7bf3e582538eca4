//! Where text goes: results to stdout, everything else to stderr, and nothing foreign that a terminal would obey.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use serde::Serialize;

/// All progress bars of this process. They are lifted while something else is written, so that lines never mix.
pub(crate) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes one line of the result.
///
/// # Errors
/// stdout is closed or full.
pub(crate) fn line(text: &str) -> io::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a part of the result as it is.
///
/// # Errors
/// stdout is closed or full.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    BARS.suspend(|| {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    })
}

/// Writes the result as JSON: indented for people, one line for programs.
///
/// # Errors
/// stdout is closed or full.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    if io::stdout().is_terminal() { line(&serde_json::to_string_pretty(value)?) } else { json_line(value) }
}

/// Writes JSON as one line.
///
/// # Errors
/// stdout is closed or full.
pub(crate) fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Tells something on stderr. What cannot be told is dropped.
pub(crate) fn note(text: &str) {
    let text = printable_lines(text);
    BARS.suspend(|| {
        let _ = writeln!(io::stderr().lock(), "{text}");
    });
}

/// Text that came from outside, with everything escaped that would move the cursor, colour the terminal or reorder
/// what is shown.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_harmful)
}

/// The same for text that may have several lines.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && is_harmful(c))
}

fn escape(text: &str, harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmful(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Control characters, and the marks that change the direction of writing (Unicode UAX #9).
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(printable("é.iso"), "é.iso");
        assert_eq!(printable("a\x1b[2Jb\nc\u{202e}gpj"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}gpj");
        assert_eq!(printable_lines("a\nb\r"), "a\nb\\u{d}");
    }
}
