//! Making connections, in both roles.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use peerage_content::PeerId;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::connection::canonical;
use crate::handshake::{Agreed, handshake};
use crate::pinned::wrong_peer;
use crate::{Connection, Encryption, Identity, TransportError, sockopt};

/// Connections that wait to be accepted before the kernel turns further ones away.
const BACKLOG: i32 = 128;

/// How connections are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The local address that outgoing connections come from; the system's choice if `None`.
    pub bind: Option<IpAddr>,
    /// Time for the TCP connection.
    pub connect_timeout: Duration,
    /// Time for the whole TLS handshake.
    pub handshake_timeout: Duration,
    /// Whether clear text may be agreed on.
    pub encryption: Encryption,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: None,
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            encryption: Encryption::Required,
        }
    }
}

/// Connects to the peer at `addr`, which must prove to be `expected`; no frame is sent to anybody else, and nobody else
/// learns who is asking.
///
/// # Errors
/// Nobody answers in time, somebody else answers ([`TransportError::WrongPeer`]), or the handshake fails.
pub async fn connect(
    addr: SocketAddr,
    expected: PeerId,
    identity: &Identity,
    options: &Options,
) -> Result<Connection, TransportError> {
    let tcp = open(addr, options).await?;
    greet(tcp, addr, expected, identity, options).await
}

/// A TCP connection to `addr`, with the options that peer connections have.
pub(crate) async fn open(addr: SocketAddr, options: &Options) -> Result<TcpStream, TransportError> {
    let after = options.connect_timeout;
    let tcp = match timeout(after, connect_tcp(addr, options.bind)).await {
        Ok(tcp) => tcp.map_err(|source| TransportError::Connect { addr, source })?,
        Err(_) => return Err(TransportError::ConnectTimeout { addr, after }),
    };
    sockopt::prepare(&tcp)?;
    Ok(tcp)
}

/// The handshake of the side that connects.
pub(crate) async fn greet(
    mut tcp: TcpStream,
    addr: SocketAddr,
    expected: PeerId,
    identity: &Identity,
    options: &Options,
) -> Result<Connection, TransportError> {
    let tls = identity.client(expected, addr.ip(), options.encryption).map_err(TransportError::Tls)?;
    let agreed = in_time(handshake(&mut tcp, tls.into(), options.encryption), options).await;
    let agreed = agreed.map_err(|error| match &error {
        TransportError::Tls(cause) => match wrong_peer(cause) {
            Some(found) => TransportError::WrongPeer { expected, found },
            None => error,
        },
        _ => error,
    })?;
    Connection::new(tcp, agreed, identity.pool())
}

async fn connect_tcp(addr: SocketAddr, bind: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(local) = bind {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.connect(addr).await
}

async fn in_time(
    handshake: impl Future<Output = Result<Agreed, TransportError>>,
    options: &Options,
) -> Result<Agreed, TransportError> {
    let after = options.handshake_timeout;
    timeout(after, handshake).await.unwrap_or(Err(TransportError::HandshakeTimeout { after }))
}

/// Answers the handshake of whoever has connected. The peer proves *some* key: whether that peer may have anything is
/// for the swarm ticket to say, and how many strangers may try at once for the caller.
///
/// # Errors
/// The other side is not a peer, proves no key, or takes too long.
pub async fn accept(
    mut tcp: TcpStream,
    identity: &Identity,
    options: &Options,
) -> Result<Connection, TransportError> {
    sockopt::prepare(&tcp)?;
    let tls = identity.server(options.encryption).map_err(TransportError::Tls)?;
    let agreed = in_time(handshake(&mut tcp, tls.into(), options.encryption), options).await?;
    Connection::new(tcp, agreed, identity.pool())
}

/// Where peers connect to.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Opens `addr`; port 0 is any free one. `[::]` takes IPv4 connections as well, and nothing but those where the
    /// kernel has no IPv6. Must be called on a runtime.
    ///
    /// # Errors
    /// The address cannot be opened.
    pub fn bind(addr: SocketAddr) -> Result<Self, TransportError> {
        let open = |addr: SocketAddr| {
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
            // A restarted daemon gets its port back while old connections linger.
            socket.set_reuse_address(true)?;
            if addr.is_ipv6() {
                socket.set_only_v6(!addr.ip().is_unspecified())?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&addr.into())?;
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        };
        let opened = match open(addr) {
            Err(error)
                if addr.ip() == Ipv6Addr::UNSPECIFIED && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())))
            }
            opened => opened,
        };
        opened.map(Self).map_err(|source| TransportError::Listen { addr, source })
    }

    /// The address that is open.
    ///
    /// # Errors
    /// The system refuses to tell.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        self.0.local_addr().map_err(|source| TransportError::Option { name: "name", source })
    }

    /// The next connection, before its handshake: for [`accept`], in a task of its own, after the caller's limits.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The system cannot hand over a connection, for instance for want of file descriptors.
    pub async fn next(&self) -> Result<(TcpStream, SocketAddr), TransportError> {
        let (tcp, from) = self.0.accept().await.map_err(TransportError::Accept)?;
        Ok((tcp, canonical(from)))
    }
}
