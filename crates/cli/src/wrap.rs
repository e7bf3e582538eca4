//! Sentences in lines of a terminal.

use console::measure_text_width;

/// Breaks a text between words so that no line is wider than `width` columns; a word that is stands alone, uncut: paths and
/// URLs are to be copied.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut taken) = (String::new(), 0);
    for word in text.split_whitespace() {
        let wide = measure_text_width(word);
        if taken > 0 && taken + 1 + wide > width {
            lines.push(std::mem::take(&mut line));
            taken = 0;
        }
        if taken > 0 {
            line.push(' ');
            taken += 1;
        }
        line.push_str(word);
        taken += wide;
    }
    if taken > 0 {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_words_and_never_within() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("see /a/very/long/path now", 6), ["see", "/a/very/long/path", "now"]);
        assert_eq!(wrap("文文 文", 4), ["文文", "文"]);
        assert_eq!(wrap("  ", 4), [""; 0]);
    }
}
