//! The lab's origin as a process of its own, so that its CPU time and memory are not the lab's or the agents'.
//!
//! On stdout, one JSON object a line: first [`OriginReady`], then an [`OriginCount`] whenever it has changed, and a last one
//! when it ends. It ends on SIGTERM or SIGINT, once the open connections are closed.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use peerage_origin::{OriginClient, OriginConfig};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::args::{Source, rate};
use crate::origin::{LabOrigin, OriginSource, OriginStats};
use crate::signals::Signals;

/// Counts follow each other at least this far apart.
const EVERY: Duration = Duration::from_millis(100);
/// How long clients that are being stopped may take to close their connections.
const LINGER: Duration = Duration::from_secs(2);

/// Arguments of the hidden `peerage lab-origin`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabOriginArgs {
    /// The file to serve, or the http(s) URL to pass on
    #[arg(value_name = "FILE|URL", value_parser = OsStringValueParser::new().try_map(Source::parse))]
    source: Source,

    /// Address and port; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Rate of all connections together [default: unlimited]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<u64>,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OriginReady {
    /// `lab-origin`.
    pub(crate) ready: String,
    /// Where the file is.
    pub(crate) url: String,
}

/// What has been sent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct OriginCount {
    /// Bytes of bodies.
    pub(crate) body_bytes: u64,
    /// Bytes of heads and bodies.
    pub(crate) wire_bytes: u64,
    /// Requests answered.
    pub(crate) requests: u64,
    /// Connections open now.
    pub(crate) open: u32,
}

impl From<&OriginStats> for OriginCount {
    fn from(stats: &OriginStats) -> Self {
        let open = stats.connections.iter().filter(|connection| connection.open).count();
        Self {
            body_bytes: stats.body_bytes,
            wire_bytes: stats.wire_bytes,
            requests: stats.requests,
            open: u32::try_from(open).unwrap_or(u32::MAX),
        }
    }
}

/// Serves until it is told to end.
///
/// # Errors
/// The source cannot be served, the address is taken, or nobody reads stdout any more.
pub async fn run_origin(args: LabOriginArgs) -> Result<u8> {
    let mut signals = Signals::new()?;
    let source = match args.source {
        Source::File(path) => OriginSource::File(path),
        Source::Url(url) => {
            OriginSource::Upstream { client: OriginClient::new(OriginConfig::default())?, url }
        }
    };
    let origin = LabOrigin::bind(source, args.listen, args.rate).await?;
    print(&OriginReady { ready: "lab-origin".to_owned(), url: origin.url() })?;
    let mut tick = tokio::time::interval(EVERY);
    let mut told = OriginCount::default();
    loop {
        tokio::select! {
            _ = signals.next() => break,
            _ = tick.tick() => {
                let now = OriginCount::from(&origin.stats());
                if now != told {
                    print(&now)?;
                    told = now;
                }
            }
        }
    }
    let _ = timeout(LINGER, origin.idle()).await;
    print(&OriginCount::from(&origin.shutdown().await))?;
    Ok(0)
}

fn print(line: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&text).and_then(|()| stdout.flush()).context("could not write to stdout")
}
