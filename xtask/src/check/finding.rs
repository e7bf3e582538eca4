//! One place in the tree that breaks, or strains, a rule.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// The rule is broken: CI fails.
    Error,
    /// Allowed, but look at it.
    Warning,
}

/// A finding. Prints as one line that editors can jump to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) level: Level,
    /// The rule's short name.
    pub(super) rule: &'static str,
    /// What was found, and the reason for the rule.
    pub(super) message: String,
}

impl Finding {
    pub(super) fn error(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, level: Level::Error, rule, message: message.into() }
    }

    pub(super) fn warning(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(path, line, rule, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, level, rule, message } = self;
        let level = if *level == Level::Error { "error" } else { "warning" };
        write!(f, "{path}:{line}: {level}: {rule}: {message}")
    }
}
