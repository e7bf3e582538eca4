//! The server loop: accepts, agrees on TLS, serves HTTP/2 and HTTP/1.1, and drains.
//!
//! Nobody can hold a place without cause: connections are capped, the handshake and each request's head have a
//! deadline, idle HTTP/2 connections are pinged, HTTP/1.1 ones closed by the header time-out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::answer;
use crate::relay::{Guest, Relay, is_for_relay};
use crate::state::Shared;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's head, and so for an idle HTTP/1.1 connection: somewhat longer than the usual announce interval.
const HEAD: Duration = Duration::from_secs(90);
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_STREAMS: u32 = 64;
const MAX_HEADERS: u32 = 16 << 10;

/// What the loop needs.
pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) tls: TlsAcceptor,
    pub(crate) state: Shared,
    /// For those who come to the same port and do not speak TLS.
    pub(crate) relay: Option<Arc<Relay>>,
    pub(crate) max_connections: usize,
    pub(crate) tasks: TaskTracker,
    /// Stop accepting, finish what is under way.
    pub(crate) stop: CancellationToken,
    /// Drop what is still under way.
    pub(crate) kill: CancellationToken,
}

impl Server {
    pub(crate) async fn run(self) {
        let places = Arc::new(Semaphore::new(self.max_connections));
        let mut http = Builder::new(TokioExecutor::new());
        // The number of headers stays hyper's own: any other costs an allocation for each request.
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS);
        let http = Arc::new(http);
        loop {
            // A place first: what cannot be served waits in the kernel's queue, or finds another coordinator.
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.ok();
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let connection = Connection {
                        stream,
                        remote,
                        tls: self.tls.clone(),
                        http: Arc::clone(&http),
                        state: Arc::clone(&self.state),
                        relay: self.relay.clone(),
                        stop: self.stop.clone(),
                        kill: self.kill.clone(),
                        place,
                    };
                    self.tasks.spawn(connection.run());
                }
                Err(error) => {
                    // Out of descriptors, most likely: give those in use a moment to be freed.
                    tracing::warn!(%error, "could not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    remote: SocketAddr,
    tls: TlsAcceptor,
    http: Arc<Builder<TokioExecutor>>,
    state: Shared,
    relay: Option<Arc<Relay>>,
    stop: CancellationToken,
    kill: CancellationToken,
    place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn run(self) {
        let remote = self.remote;
        // While there is no relay nobody is looked at before TLS.
        if let Some(relay) = &self.relay {
            let looked = tokio::select! {
                looked = tokio::time::timeout(HANDSHAKE, is_for_relay(&self.stream)) => looked,
                () = self.stop.cancelled() => return,
            };
            match looked {
                Ok(false) => {}
                Ok(true) => {
                    let guest = Guest { stream: self.stream, place: self.place };
                    tokio::select! {
                        () = relay.welcome(guest) => {}
                        () = self.stop.cancelled() => {}
                    }
                    return;
                }
                Err(_) => return tracing::debug!(%remote, "said nothing"),
            }
        }
        let _place = self.place;
        // Answers are small; waiting to fill a segment would only delay them.
        let _ = self.stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE, self.tls.accept(self.stream));
        let stream = tokio::select! {
            done = handshake => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%remote, %error, "tls handshake failed"),
                Err(_) => return tracing::debug!(%remote, "tls handshake took too long"),
            },
            () = self.stop.cancelled() => return,
        };
        let state = self.state;
        let service = service_fn(move |request: Request<Incoming>| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(answer(state, remote, request).await) }
        });
        let serving = self.http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let mut draining = false;
        loop {
            tokio::select! {
                biased;
                done = serving.as_mut() => {
                    if let Err(error) = done {
                        tracing::debug!(%remote, error, "connection ended");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !draining => {
                    draining = true;
                    serving.as_mut().graceful_shutdown();
                }
                // Nothing is dropped before everything has been asked to end.
                () = self.kill.cancelled(), if draining => return,
            }
        }
    }
}
