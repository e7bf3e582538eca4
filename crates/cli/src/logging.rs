//! Logs: to stderr, filtered by `--log` or `PEERAGE_LOG`.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::output;

/// Starts logging. A filter that cannot be read counts as none, and that is said.
pub(crate) fn start(filter: Option<&str>, daemon: bool) {
    let default = if daemon { "info" } else { "warn" };
    let (parsed, wrong) = match filter.filter(|filter| !filter.is_empty()).map(EnvFilter::try_new) {
        None => (EnvFilter::new(default), None),
        Some(Ok(parsed)) => (parsed, None),
        Some(Err(error)) => (EnvFilter::new(default), Some(error)),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(io::stderr().is_terminal())
        .with_target(daemon)
        .with_writer(Stderr);
    // A second start in one process is impossible: this is called by main alone.
    let _ = if daemon { log.try_init() } else { log.without_time().try_init() };
    if let Some(error) = wrong {
        tracing::warn!(%error, default, "the log filter is not understood; the default holds");
    }
}

/// stderr, with progress bars lifted for as long as a line is written.
#[derive(Debug, Clone, Copy)]
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        output::BARS.suspend(|| io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
