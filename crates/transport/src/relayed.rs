//! Connections through a relay: both ends connect to it, and it passes on what each says to the other.
//!
//! Invariant: the relay is trusted with nothing. The handshake of [`crate::connect`] and [`crate::accept`] runs from end
//! to end, each side proves the key that the other expects, and frames are always encrypted, whatever the options say:
//! clear text would let whoever runs the relay read what it carries, and forge the messages around the pieces.

use std::net::SocketAddr;
use std::time::Duration;

use peerage_content::{PeerId, RELAY_JOINED, RelayToken};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::{greet, open};
use crate::{Connection, Encryption, Identity, Options, TransportError, accept};

/// Time until the other end is there: the relay forgets a meeting after 10 s.
const MEETING: Duration = Duration::from_secs(12);

/// One end of a meeting at a relay.
#[derive(Debug, Clone, Copy)]
pub struct Relayed {
    /// The relay.
    pub relay: SocketAddr,
    /// Lets this end in.
    pub token: RelayToken,
    /// Who the other end must prove to be.
    pub peer: PeerId,
}

impl Relayed {
    /// The end that asked for the meeting: it begins the handshake.
    ///
    /// # Errors
    /// The relay cannot be reached or does not let us in, the peer does not come, somebody else does
    /// ([`TransportError::WrongPeer`]), or the handshake fails.
    pub async fn connect(
        &self,
        identity: &Identity,
        options: &Options,
    ) -> Result<Connection, TransportError> {
        let options = encrypted(options);
        let tcp = self.join(&options).await?;
        greet(tcp, self.relay, self.peer, identity, &options).await
    }

    /// The end that was called: it answers the handshake.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn accept(&self, identity: &Identity, options: &Options) -> Result<Connection, TransportError> {
        let options = encrypted(options);
        let tcp = self.join(&options).await?;
        let connection = accept(tcp, identity, &options).await?;
        let (expected, found) = (self.peer, connection.peer());
        if found == expected { Ok(connection) } else { Err(TransportError::WrongPeer { expected, found }) }
    }

    /// Waits at the relay until the other end is there, too.
    async fn join(&self, options: &Options) -> Result<TcpStream, TransportError> {
        let refused = |what| TransportError::Relay { addr: self.relay, what };
        let mut tcp = open(self.relay, options).await?;
        tcp.write_all(&self.token.greeting()).await.map_err(TransportError::Send)?;
        let mut answer = [0];
        match timeout(MEETING, tcp.read_exact(&mut answer)).await {
            Ok(Ok(_)) if answer == [RELAY_JOINED] => Ok(tcp),
            Ok(Ok(_)) => Err(refused("does not answer as a relay")),
            // It says nothing to whom it does not know, and to whom nobody has come.
            Ok(Err(_)) => Err(refused("closed: the peer did not come, or the token is too old")),
            Err(_) => Err(refused("brought no peer within 12 s")),
        }
    }
}

const fn encrypted(options: &Options) -> Options {
    Options { encryption: Encryption::Required, ..*options }
}
