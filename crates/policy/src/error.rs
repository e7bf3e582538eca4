//! What is wrong with a policy file: which file, which key, what was found, what is allowed.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// More text than a policy can be.
    #[error("{file}: {found} bytes, allowed is {allowed}")]
    TooLarge {
        /// The file, or another name of where the text comes from.
        file: String,
        /// Its bytes.
        found: usize,
        /// The most that is read.
        allowed: usize,
    },
    /// Not TOML.
    #[error("{file}: line {line}: {message}")]
    Syntax {
        /// The file, or another name of where the text comes from.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// No such setting.
    #[error("{file}: {key}: unknown setting{}", perhaps(*.nearest))]
    UnknownKey {
        /// The file, or another name of where the text comes from.
        file: String,
        /// What was found, shortened to 80 characters.
        key: String,
        /// The setting that was perhaps meant.
        nearest: Option<&'static str>,
    },
    /// The same setting under two spellings.
    #[error("{file}: {key}: given again as {again}, allowed is one of them")]
    Twice {
        /// The file, or another name of where the text comes from.
        file: String,
        /// Our name of the setting.
        key: &'static str,
        /// The other spelling.
        again: String,
    },
    /// A value that is out of range or of another type.
    #[error("{file}: {key}: found {found}, allowed is {allowed}")]
    Refused {
        /// The file, or another name of where the text comes from.
        file: String,
        /// The key as it was spelled.
        key: String,
        /// What was found, shortened to 80 characters.
        found: String,
        /// What is allowed.
        allowed: String,
    },
}

impl PolicyError {
    /// The same for a setting that stands in no file but was given on a command line.
    pub fn without_file(&self) -> String {
        let (Self::TooLarge { file, .. }
        | Self::Syntax { file, .. }
        | Self::UnknownKey { file, .. }
        | Self::Twice { file, .. }
        | Self::Refused { file, .. }) = self;
        let text = self.to_string();
        text.strip_prefix(file.as_str()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text).to_owned()
    }
}

fn perhaps(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", perhaps {name} is meant"))
}

/// Everything that is wrong with a policy; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl std::error::Error for PolicyErrors {}

impl fmt::Display for PolicyErrors {
    /// One line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl From<PolicyError> for PolicyErrors {
    fn from(error: PolicyError) -> Self {
        Self(vec![error])
    }
}
