//! What both clients do with an answer: read it up to a limit, then as JSON or as an error.

use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::{ApiError, Code};

/// A failure of the way there, not of the other side.
pub(super) fn unreachable(who: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::Unreachable, format!("{who} cannot be reached: {why}"))
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The answer is longer than this client reads.
pub(super) fn too_long(who: &str, limit: usize) -> ApiError {
    ApiError::new(Code::Internal, format!("answer of {who} is longer than {limit} bytes"))
}

/// Reads a successful answer.
pub(super) fn read<T: DeserializeOwned>(who: &str, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new(Code::Internal, format!("answer of {who} is not understood: {error}")))
}

/// Reads an unsuccessful answer: the error in its body or, when something else stands between, one for its status.
pub(super) fn failure(who: &str, status: StatusCode, body: &[u8]) -> ApiError {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let code = match status.as_u16() {
            400 | 405 | 413 | 415 | 422 => Code::BadRequest,
            401 => Code::Unauthorized,
            403 => Code::Forbidden,
            404 => Code::NotFound,
            409 => Code::Conflict,
            429 => Code::TooMany,
            408 | 502..=504 => Code::Unreachable,
            _ => Code::Internal,
        };
        ApiError::new(code, format!("{who} answers {status}"))
    })
}
