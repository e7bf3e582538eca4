//! A run that went wrong.

use std::time::Duration;

/// An invariant was broken. The seed replays it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("seed {seed}, {at:?}, device {device}: {what}\n{}", .diary.join("\n"))]
pub struct Violation {
    /// Seed of the run.
    pub seed: u64,
    /// Virtual time.
    pub at: Duration,
    /// The device concerned.
    pub device: usize,
    /// What happened.
    pub what: String,
    /// The last entries of its diary, if one was kept.
    pub diary: Vec<String>,
}
