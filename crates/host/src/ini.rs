//! INI files, as sssd, Kerberos and Himmelblau write them: sections of `key = value` lines.

/// Lines that are looked at; a longer file is not what it should be.
const MAX_LINES: usize = 10_000;

/// Calls `line` with section, key and value of each setting, in the file's order. What is not understood is passed over.
pub(crate) fn each_setting<'a>(text: &'a str, mut line: impl FnMut(&'a str, &'a str, &'a str)) {
    let mut section = "";
    for raw in text.lines().take(MAX_LINES) {
        let raw = raw.trim();
        if raw.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = raw.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim();
        } else if let Some((key, value)) = raw.split_once('=') {
            line(section, key.trim(), value.trim());
        }
    }
}

/// The last value of a key in one section.
pub(crate) fn setting<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut found = None;
    each_setting(text, |in_section, named, value| {
        if in_section.eq_ignore_ascii_case(section) && named.eq_ignore_ascii_case(key) && !value.is_empty() {
            found = Some(value);
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_the_section_holds() {
        let text =
            "key = none\n[one]\n# key = no\n; key=no\n key = a \nkey=b=c\nempty =\n[ two ]\nKEY = d\n[";
        assert_eq!(setting(text, "one", "key"), Some("b=c"));
        assert_eq!(setting(text, "TWO", "key"), Some("d"));
        assert_eq!(setting(text, "", "key"), Some("none"));
        assert_eq!((setting(text, "one", "empty"), setting(text, "three", "key")), (None, None));
    }
}
