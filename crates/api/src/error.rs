//! Errors that cross a process boundary: one table of code, HTTP status and exit code.

use serde::{Deserialize, Serialize};

/// What kind of failure it is. Stable: programs may match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request itself is wrong.
    BadRequest,
    /// No or wrong credentials.
    Unauthorized,
    /// The credentials are right, but not for this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It conflicts with the state of the thing (pinned, already there, in use).
    Conflict,
    /// Policy does not allow it; the message names the setting.
    Policy,
    /// A guard refuses to fetch the URL (private address, scheme, size, deny list).
    Guarded,
    /// The caller must slow down.
    TooMany,
    /// The origin failed or does not have the file.
    Origin,
    /// The bytes are not what was asked for (SHA-256, content id).
    Integrity,
    /// The disk is full, read-only or gone.
    Disk,
    /// No bytes arrived for too long.
    NoProgress,
    /// The other part (agent, coordinator) cannot be reached.
    Unreachable,
    /// The caller took the request back.
    Cancelled,
    /// A bug, or something nobody thought of.
    #[serde(other)]
    Internal,
}

impl Code {
    /// The HTTP status it travels with.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::Policy | Self::Guarded => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooMany => 429,
            Self::Cancelled => 499,
            Self::Origin | Self::Integrity => 502,
            Self::Unreachable => 503,
            Self::NoProgress => 504,
            Self::Disk => 507,
            Self::Internal => 500,
        }
    }

    /// The exit code of the command line (product §3).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BadRequest => 2,
            Self::Policy | Self::Guarded => 3,
            Self::Unreachable => 4,
            _ => 1,
        }
    }
}

/// A failure, as JSON body and as Rust error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The kind.
    pub code: Code,
    /// One or two sentences: what was found, what is allowed, what to do.
    pub message: String,
}

impl ApiError {
    /// A failure of `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
