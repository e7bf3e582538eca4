//! What the daemons have in common: the ready line, signals, the drain.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// All of a drain takes no longer.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on the signals are noted instead of ending the process.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let handler = |kind| signal(kind).context("could not set up signals");
        Ok(Self {
            terminate: handler(SignalKind::terminate())?,
            interrupt: handler(SignalKind::interrupt())?,
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Drains for up to 5 s, or until a second signal.
    pub(crate) async fn drain(&mut self, drain: impl Future<Output = ()>) {
        tracing::info!("ending; a second signal ends at once");
        tokio::select! {
            drained = tokio::time::timeout(DRAIN, drain) => {
                if drained.is_err() {
                    tracing::warn!("not everything ended within {DRAIN:?}");
                }
            }
            () = self.next() => tracing::warn!("ending at once"),
        }
    }
}
