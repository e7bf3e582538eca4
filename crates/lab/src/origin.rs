//! The lab's own origin: an HTTP/1.1 server of one file behind one uplink.
//!
//! It stands in for the Internet side of a site, so its two promises are what a measurement needs: the rate holds for
//! all connections together and is shared evenly, and the bytes it counts are bytes that were written to a socket,
//! not bytes that somebody meant to write. Nothing is stored; counters end with the process.

mod bucket;
mod meter;
mod range;
mod service;
mod source;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use peerage_origin::{OriginError, SourceUrl};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use bucket::Bucket;
pub use meter::{ConnectionStats, OriginStats};
use meter::{Counters, Metered};
pub use source::OriginSource;
use source::Source;

/// Bytes that the kernel may hold of one connection. They count as sent, so they are few; the kernel doubles the
/// number for its own bookkeeping.
const SEND_BUFFER: u32 = 128 << 10;
/// Connections waiting to be accepted.
const BACKLOG: u32 = 1024;

/// The origin cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LabOriginError {
    /// The file cannot be opened.
    #[error("could not open {path:?}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a file that ranges can be read from.
    #[error("{path:?} is not a regular file")]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// The address cannot be listened on.
    #[error("could not listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The upstream does not answer.
    #[error("upstream: {0}")]
    Upstream(#[from] OriginError),
    /// The upstream cannot be relayed in ranges.
    #[error("upstream {url} tells no size or serves no ranges")]
    NoRanges {
        /// Where it is.
        url: SourceUrl,
    },
}

/// A running origin. Dropping it closes its socket and every connection.
#[derive(Debug)]
pub struct LabOrigin {
    addr: SocketAddr,
    path: String,
    site: Arc<Site>,
    open: watch::Receiver<usize>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// What all connections share.
#[derive(Debug)]
struct Site {
    source: Source,
    counters: Arc<Counters>,
    uplink: Option<Arc<Bucket>>,
}

impl LabOrigin {
    /// Serves `source` on `addr` (port 0: any), all connections together at `rate` bytes/s; `None`: unlimited.
    ///
    /// # Errors
    /// [`LabOriginError`].
    pub async fn bind(
        source: OriginSource,
        addr: SocketAddr,
        rate: Option<u64>,
    ) -> Result<Self, LabOriginError> {
        let site = Arc::new(Site::new(source, rate).await?);
        let listener = listen(addr).map_err(|source| LabOriginError::Bind { addr, source })?;
        let addr = listener.local_addr().map_err(|source| LabOriginError::Bind { addr, source })?;
        let (stop, stopped) = oneshot::channel();
        let (count, open) = watch::channel(0);
        let path = site.source.path().to_owned();
        let task = tokio::spawn(accept(listener, Arc::clone(&site), count, stopped));
        Ok(Self { addr, path, site, open, stop: Some(stop), task })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the file is.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.addr, self.path)
    }

    /// What has been sent so far.
    pub fn stats(&self) -> OriginStats {
        self.site.counters.stats()
    }

    /// Waits until no connection is open, and so no count can grow.
    pub async fn idle(&self) {
        // The sender lives as long as the server; once it is gone, nothing is open any more.
        let _ = self.open.clone().wait_for(|open| *open == 0).await;
    }

    /// Stops: closes the socket and every connection, and returns the last counts.
    pub async fn shutdown(mut self) -> OriginStats {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "lab origin ended badly");
        }
        self.stats()
    }
}

impl Drop for LabOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    async fn new(source: OriginSource, rate: Option<u64>) -> Result<Self, LabOriginError> {
        Ok(Self {
            source: Source::open(source).await?,
            counters: Arc::default(),
            uplink: rate.map(|rate| Arc::new(Bucket::new(rate))),
        })
    }

    /// Serves one connection until either side closes it.
    async fn serve<S>(self: Arc<Self>, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let meter = self.counters.connection(peer);
        let stream = Metered::new(stream, Arc::clone(&meter), self.uplink.clone());
        let service = service_fn(|request| {
            let (site, meter) = (Arc::clone(&self), Arc::clone(&meter));
            async move { Ok::<_, std::convert::Infallible>(service::answer(&site.source, &meter, &request).await) }
        });
        if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
            // A client that goes away in the middle is everyday business.
            tracing::debug!(%peer, %error, "connection ended");
        }
        meter.close();
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Before `listen`, so that accepted connections inherit it (tcp(7)).
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    site: Arc<Site>,
    open: watch::Sender<usize>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(Arc::clone(&site).serve(stream, peer));
                }
                // The peer is gone already, or descriptors are short until a connection ends.
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    connections.join_next().await;
                }
            },
        }
        open.send_replace(connections.len());
    }
    connections.shutdown().await;
    site.counters.close_all();
    open.send_replace(0);
}
