//! How a command ends: the exit codes of product §3, and one or two sentences on stderr when it failed.
//!
//! | code | when |
//! |---|---|
//! | 0 | done |
//! | 1 | failed |
//! | 2 | wrong usage |
//! | 3 | refused by policy |
//! | 4 | agent or coordinator unreachable |

use std::io;
use std::process::ExitCode;

use peerage_api::ApiError;

use crate::output;

/// The user asked for what cannot be done that way: arguments or a configuration file are wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A wrong usage.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Tells of a failure and turns the result into an exit code.
pub(crate) fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    // Whoever read the output has seen enough (`peerage status | head`).
    if error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    output::note(&format!("peerage: {}", chain(&error)));
    ExitCode::from(code(&error))
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<ApiError>() {
            return error.code.exit_code();
        }
        if cause.is::<Usage>() {
            return 2;
        }
    }
    1
}

/// An error and its causes on one line, each said once.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};
    use peerage_api::Code;

    use super::*;

    #[test]
    fn codes_are_those_of_the_table() {
        let api = |code| anyhow::Error::from(ApiError::new(code, "no"));
        assert_eq!(code(&api(Code::Origin)), 1);
        assert_eq!(code(&api(Code::Policy).context("while publishing")), 3);
        assert_eq!(code(&api(Code::Unreachable)), 4);
        assert_eq!(code(&usage("no such flag")), 2);
        assert_eq!(code(&anyhow!("disk full")), 1);
    }

    #[test]
    fn every_cause_is_said_once() {
        let error = Err::<(), _>(io::Error::other("disk full")).context("could not write x: disk full");
        assert_eq!(chain(&error.unwrap_err()), "could not write x: disk full");
        let error = Err::<(), _>(io::Error::other("disk full")).context("could not write x");
        assert_eq!(chain(&error.unwrap_err()), "could not write x: disk full");
    }
}
