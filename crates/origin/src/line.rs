//! A connection as the HTTP client has it: a socket whose reading can be slowed down, TLS over it where there is TLS.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::Intake;
use crate::intake::Valve;

/// A read of so many bytes is acknowledged at once: over a thin path segments come one by one, and the kernel would hold each
/// second acknowledgement back for up to 40 ms in the hope of another segment, which a window of a few of them has no room
/// for. The slowest of several downloads would wait most.
const FEW: usize = 4 * 1460;

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Arc<TcpStream>,
    valve: Option<Valve>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, intake: Option<&dyn Intake>) -> Self {
        let stream = Arc::new(stream);
        let valve = intake.map(|intake| Valve::new(intake.connected(&stream)));
        Self { stream, valve }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, valve } = &mut *self;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            if let Some(valve) = valve {
                ready!(valve.poll_open(cx));
            }
            match stream.try_read(buf.initialize_unfilled()) {
                Ok(len) => {
                    buf.advance(len);
                    if let Some(valve) = valve {
                        valve.passed(len);
                    }
                    if len <= FEW {
                        // No loss where it fails.
                        let _ = SockRef::from(&**stream).set_tcp_quickack(true);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

/// A connection to an origin or to a proxy, or through a proxy to an origin.
#[derive(Debug)]
pub(crate) struct Line {
    layer: Layer,
    /// Requests name their target in full: a proxy reads them (RFC 9112 §3.2.2).
    to_proxy: bool,
}

#[derive(Debug)]
enum Layer {
    Clear(Socket),
    Tls(Box<TlsStream<Line>>),
}

impl Line {
    pub(crate) const fn clear(socket: Socket) -> Self {
        Self { layer: Layer::Clear(socket), to_proxy: false }
    }

    pub(crate) fn tls(stream: TlsStream<Self>) -> Self {
        Self { layer: Layer::Tls(Box::new(stream)), to_proxy: false }
    }

    pub(crate) const fn for_proxy(mut self) -> Self {
        self.to_proxy = true;
        self
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.to_proxy);
        match &self.layer {
            Layer::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                connected.negotiated_h2()
            }
            _ => connected,
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Clear(socket) => Pin::new(socket).poll_read(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Clear(socket) => Pin::new(socket).poll_write(cx, bytes),
            Layer::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Clear(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Layer::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.layer {
            Layer::Clear(socket) => socket.is_write_vectored(),
            Layer::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Clear(socket) => Pin::new(socket).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Clear(socket) => Pin::new(socket).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
