//! A connection between two peers, from the end of its handshake.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use peerage_content::PeerId;
use tokio::net::TcpStream;

use crate::buffer::BufferPool;
use crate::burst::Burst;
use crate::handshake::Agreed;
use crate::inbox::Inbox;
use crate::outbox::Outbox;
use crate::record::{Opener, Sealer};
use crate::sockopt::{self, PathInfo};
use crate::{Counters, FrameReader, FrameWriter, TransportError};

/// A connection whose two ends have proved their keys to each other.
#[derive(Debug)]
pub struct Connection {
    peer: PeerId,
    remote: SocketAddr,
    local: SocketAddr,
    encrypted: bool,
    binding: [u8; 32],
    stream: Arc<TcpStream>,
    counters: Arc<Counters>,
    burst: Arc<Burst>,
    reader: FrameReader,
    writer: FrameWriter,
}

impl Connection {
    pub(crate) fn new(tcp: TcpStream, agreed: Agreed, pool: &BufferPool) -> Result<Self, TransportError> {
        let remote =
            tcp.peer_addr().map_err(|source| TransportError::Option { name: "peer name", source })?;
        let local = tcp.local_addr().map_err(|source| TransportError::Option { name: "name", source })?;
        let (stream, counters) = (Arc::new(tcp), Arc::new(Counters::default()));
        counters.add_wire_in(agreed.wire.0);
        counters.add_wire_out(agreed.wire.1);
        let encrypted = agreed.secrets.is_some();
        let (opener, sealer) = match agreed.secrets {
            Some(secrets) => (Some(Opener::new(secrets.rx)?), Some(Sealer::new(secrets.tx)?)),
            None => (None, None),
        };
        let inbox = Inbox::new(stream.clone(), opener, pool.clone(), counters.clone(), &agreed.early);
        let burst = Arc::new(Burst::default());
        let outbox = Outbox::new(stream.clone(), sealer, pool.clone(), counters.clone(), burst.clone());
        Ok(Self {
            peer: agreed.peer,
            remote,
            local,
            encrypted,
            binding: agreed.binding,
            reader: FrameReader::new(inbox, counters.clone()),
            writer: FrameWriter::new(outbox, stream.clone(), counters.clone()),
            stream,
            counters,
            burst,
        })
    }

    /// Who the other side has proved to be. On the accepting side: after the other side's signature was checked.
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// The other side's address.
    pub fn remote(&self) -> SocketAddr {
        canonical(self.remote)
    }

    /// This side's address.
    pub fn local(&self) -> SocketAddr {
        canonical(self.local)
    }

    /// Whether frames are encrypted. See [`crate::Encryption`] for what holds if not.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// A secret of this very connection that both ends know and nobody else (TLS exporter, RFC 8446 §7.5): what is
    /// proved together with it cannot be carried over to another connection.
    pub const fn binding(&self) -> &[u8; 32] {
        &self.binding
    }

    /// What the connection has moved.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// What the kernel knows of the path. See [`Connection::path`] for asking after [`Connection::split`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn path_info(&self) -> Result<PathInfo, TransportError> {
        sockopt::path_info(&self.stream)
    }

    /// Limits the rate of sending, in bytes/s; `None` lifts the limit.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_pacing(&self, rate: Option<u64>) -> Result<(), TransportError> {
        sockopt::set_pacing(&self.stream, rate)
    }

    /// A handle for whoever governs the rate of sending.
    pub fn path(&self) -> Path {
        Path { stream: Arc::downgrade(&self.stream), burst: self.burst.clone(), local: self.local }
    }

    /// The two directions, for two tasks at once. The connection ends when both have been dropped.
    pub fn split(self) -> (FrameReader, FrameWriter) {
        (self.reader, self.writer)
    }
}

/// An IPv4 address as such, also on a socket for both families.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The way to the other side, as the kernel sees it and lets it be governed. Cheap to clone, usable from any task, and
/// does not keep the connection open: after its end all calls fail with [`TransportError::Ended`].
#[derive(Debug, Clone)]
pub struct Path {
    stream: Weak<TcpStream>,
    burst: Arc<Burst>,
    /// Not canonical: what counts for options is the family of the socket.
    local: SocketAddr,
}

impl Path {
    /// The path of a TCP connection that is not one between peers.
    ///
    /// # Errors
    /// It has no local address.
    pub fn of(stream: &Arc<TcpStream>) -> Result<Self, TransportError> {
        let local = stream.local_addr().map_err(|source| TransportError::Option { name: "name", source })?;
        Ok(Self { stream: Arc::downgrade(stream), burst: Arc::default(), local })
    }

    /// Bounds the window that is offered to the other side, in bytes: what may be under way to here. The kernel keeps to no
    /// less than about one segment, and takes nothing back that was offered.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn set_window(&self, bytes: u32) -> Result<(), TransportError> {
        sockopt::set_window(&self.stream()?, bytes)
    }

    /// Bounds what may wait unread, in bytes of the kernel's accounting (about twice the payload): without that the window
    /// stays open however little is read. `None`: the kernel tunes it again.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn set_unread(&self, bytes: Option<u32>) -> Result<(), TransportError> {
        sockopt::set_unread(&self.stream()?, bytes)
    }

    /// Bounds the bytes that may wait unsent, instead of [`crate::NOTSENT_LOWAT`].
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn set_backlog(&self, bytes: u32) -> Result<(), TransportError> {
        sockopt::set_backlog(&self.stream()?, bytes)
    }

    /// Bounds the bytes that leave at once, whatever the pace: between bursts the kernel keeps to it, within one it does not.
    /// `None`: the kernel decides. Of no effect on what is not sent by a [`FrameWriter`].
    pub fn set_burst(&self, most: Option<u32>) {
        self.burst.set(most);
    }

    /// What the kernel knows of the path.
    ///
    /// # Errors
    /// The connection has ended, or the kernel refuses; so for all calls.
    pub fn info(&self) -> Result<PathInfo, TransportError> {
        sockopt::path_info(&self.stream()?)
    }

    /// Limits the rate of sending, in bytes/s; `None` lifts the limit.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn set_pacing(&self, rate: Option<u64>) -> Result<(), TransportError> {
        sockopt::set_pacing(&self.stream()?, rate)
    }

    /// The limit in force.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn pacing(&self) -> Result<Option<u64>, TransportError> {
        sockopt::pacing(&self.stream()?)
    }

    /// Marks what is sent as lower effort (DSCP LE, RFC 8622), or as ordinary.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn set_lower_effort(&self, on: bool) -> Result<(), TransportError> {
        sockopt::set_lower_effort(&self.stream()?, self.local, on)
    }

    /// Whether what is sent is marked as lower effort.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn lower_effort(&self) -> Result<bool, TransportError> {
        sockopt::lower_effort(&self.stream()?, self.local)
    }

    fn stream(&self) -> Result<Arc<TcpStream>, TransportError> {
        self.stream.upgrade().ok_or(TransportError::Ended)
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::PieceIndex;
    use peerage_wire::{DataHead, Message};
    use rustls::ExtractedSecrets;
    use tokio::net::TcpListener;

    use super::*;
    use crate::Incoming;
    use crate::record::MAX_RECORDS;
    use crate::record::tests::keys;

    /// Two ends that agreed on keys without a handshake; `next` is the number of the next record.
    async fn pair(next: u64, pools: [&BufferPool; 2]) -> [Connection; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (one, two) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let end = |tcp, pool| {
            let peer = PeerId::from_bytes([0; 32]);
            let secrets = Some(ExtractedSecrets { tx: keys(next), rx: keys(next) });
            let agreed = Agreed { peer, secrets, early: Vec::new(), binding: [0; 32], wire: (0, 0) };
            Connection::new(tcp, agreed, pool).unwrap()
        };
        [end(one.unwrap(), pools[0]), end(two.unwrap().0, pools[1])]
    }

    #[tokio::test]
    async fn used_up_keys_end_the_connection_between_frames() {
        let pool = BufferPool::default();
        let [one, two] = pair(MAX_RECORDS - 300, [&pool, &pool]).await;
        let ((_one_reader, mut writer), (mut reader, _two_writer)) = (one.split(), two.split());
        let mut sent = 0;
        let error = loop {
            if let Err(error) = writer.send(&Message::Ping).await {
                break error;
            }
            writer.flush().await.unwrap();
            sent += 1;
        };
        assert!(matches!(error, TransportError::RecordLimit));
        // Refused, not torn: what was begun has been sent whole, and there is room for an orderly end.
        writer.close().await.unwrap();
        for _ in 0..sent {
            assert_eq!(reader.next().await.unwrap(), Incoming::Message(Message::Ping));
        }
        assert!(matches!(reader.next().await, Err(TransportError::Closed)));
        assert!(sent > 0);
    }

    #[tokio::test]
    async fn idle_connections_hold_no_buffers() {
        let pools = [BufferPool::default(), BufferPool::default()];
        let [one, two] = pair(0, [&pools[0], &pools[1]]).await;
        let ((_one_reader, mut writer), (mut reader, _two_writer)) = (one.split(), two.split());
        assert_eq!((pools[0].spare(), pools[1].spare()), (0, 0));
        let head = DataHead { piece: PieceIndex(0), offset: 0, len: 9 };
        writer.send_data(head, b"something").await.unwrap();
        assert_eq!(pools[0].spare(), 0);
        writer.flush().await.unwrap();
        assert_eq!(pools[0].spare(), 1);
        assert_eq!(reader.next().await.unwrap(), Incoming::Data(head));
        assert_eq!(pools[1].spare(), 0);
        reader.skip_payload().await.unwrap();
        // The reader knows that there is nothing more once it waits.
        tokio::select! {
            biased;
            _ = reader.next() => unreachable!("nothing was sent"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(pools[1].spare(), 1);
    }
}
