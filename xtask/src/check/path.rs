//! No file names a directory of some developer's machine: it would work there and nowhere else.

use std::path::Path;

use super::finding::Finding;

/// Where operating systems keep people's directories; a name follows.
const HOMES: &[&str] = &["/home/", "/Users/"];

/// The directories of this machine that must not be named: this checkout's and the user's own.
pub(super) fn private_dirs(root: &Path, home: Option<&Path>) -> Vec<String> {
    let dirs = [Some(root), home].into_iter().flatten().filter(|dir| dir.parent().is_some());
    dirs.map(|dir| dir.display().to_string()).collect()
}

/// Checks one text file.
pub(super) fn check(path: &str, text: &str, private: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let home = HOMES.iter().find(|dir| names(line, dir, |next| next.is_ascii_alphanumeric()));
        let private = || private.iter().map(String::as_str).find(|dir| names(line, dir, |next| next == '/'));
        if let Some(dir) = home.copied().or_else(private) {
            let message =
                format!("names {dir}, a directory of one machine; write a path that is there for everybody");
            findings.push(Finding::error(path, at + 1, "developer-path", message));
        }
    }
    findings
}

/// Whether `line` names `dir` from the root on, followed by what `next` accepts.
fn names(line: &str, dir: &str, next: impl Fn(char) -> bool) -> bool {
    line.match_indices(dir).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let inside_a_path = before.is_some_and(|c| c.is_alphanumeric() || "._~-/$}".contains(c));
        !inside_a_path && line[at + dir.len()..].starts_with(&next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<usize> {
        let private = private_dirs(Path::new("/src/peerage"), Some(Path::new("/root")));
        check("a.md", text, &private).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn directories_of_one_machine_are_found() {
        // Put together here, because this file is checked as well.
        let home = format!("cd {}{}", HOMES[0], "ann/peerage");
        assert_eq!(found(&format!("fine\n{home}\n")), [2]);
        assert_eq!(found("let path = \"/src/peerage/target\";"), [1]);
        assert_eq!(found(&format!("cp x {}{}", "/root", "/.config")), [1]);
    }

    #[test]
    fn other_paths_are_fine() {
        assert_eq!(
            found("/var/lib/peerage /etc/peerage/agent.toml https://host.example/src/peerage/x"),
            [0; 0]
        );
        assert_eq!(found("ProtectHome hides /home and /root; ~/home/x; $HOME/home/x"), [0; 0]);
        assert!(private_dirs(Path::new("/"), None).is_empty());
    }
}
