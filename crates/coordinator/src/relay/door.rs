//! The door: who comes to the API's port and does not speak TLS has [`GREETING`] to show a token that was made for it.
//!
//! Whoever shows none hears nothing, not even that there is a relay.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use peerage_content::{PeerId, RELAY_GREETING_LEN, RELAY_JOINED, RelayToken};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::meetings::{Entry, Held, Pair, Part};
use super::pump::pump;
use super::{Guest, Relay};

/// Time for the greeting.
const GREETING: Duration = Duration::from_secs(5);
/// What a TLS connection begins with (RFC 8446 §5.1): a handshake record.
const TLS_HANDSHAKE: u8 = 22;

/// Whether whoever has connected wants the relay: known by the first byte, which is left where it is.
pub(crate) async fn is_for_relay(stream: &TcpStream) -> bool {
    let mut first = [TLS_HANDSHAKE];
    matches!(stream.peek(&mut first).await, Ok(1)) && first != [TLS_HANDSHAKE]
}

impl Relay {
    /// Sees to a connection until it ends, or until another connection sees to it.
    pub(crate) async fn welcome(&self, mut guest: Guest) {
        let Some(entry) = self.admit(&mut guest.stream).await else { return };
        let Entry { meeting, pair, cut, part } = entry;
        match part {
            // Whoever waits there has left if it comes back.
            Part::Second(first) => drop(first.send(guest)),
            Part::First(second, until) => {
                let _held = Held::new(&self.meetings, meeting);
                tokio::select! {
                    () = self.carry(guest, second, until, &pair) => {}
                    () = cut.cancelled() => tracing::debug!(?pair, "a relayed connection is cut"),
                }
            }
        }
    }

    async fn admit(&self, stream: &mut TcpStream) -> Option<Entry<Guest>> {
        let mut greeting = [0; RELAY_GREETING_LEN];
        let read = timeout(GREETING, stream.read_exact(&mut greeting)).await;
        let token = read.ok().and_then(Result::ok).and_then(|_| RelayToken::of_greeting(&greeting));
        let entry = token.and_then(|token| self.meetings.lock().enter(&token, Instant::now()));
        if entry.is_none() {
            tracing::debug!(from = ?stream.peer_addr().ok(), "nobody is expected at the relay with that");
        }
        entry
    }

    async fn carry(
        &self,
        guest: Guest,
        second: tokio::sync::oneshot::Receiver<Guest>,
        until: Instant,
        pair: &Pair,
    ) {
        let Guest { stream: mut one, place: _one_place } = guest;
        let Ok(Ok(Guest { stream: mut other, place: _other_place })) = timeout_at(until, second).await else {
            return;
        };
        for stream in [&mut one, &mut other] {
            if stream.write_all(&[RELAY_JOINED]).await.is_err() {
                return;
            }
        }
        let (bytes, began) = (AtomicU64::new(0), Instant::now());
        let Pair { asker, other: called, content } = pair;
        let log = Ended { open: &self.tally.open, bytes: &bytes, began, asker, called };
        self.tally.open.fetch_add(1, Relaxed);
        self.tally.connections.fetch_add(1, Relaxed);
        tracing::info!(asker = %asker.short(), called = %called.short(), %content, "two devices meet at the relay");
        let end = pump(one, other, &self.pace, &[&self.tally.bytes, &bytes]).await;
        tracing::debug!(?end, "a relayed connection ended by itself");
        drop(log);
    }
}

/// Counts a connection down and tells of it, however it ends.
struct Ended<'a> {
    open: &'a AtomicU64,
    bytes: &'a AtomicU64,
    began: Instant,
    asker: &'a PeerId,
    called: &'a PeerId,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let open = self.open.fetch_sub(1, Relaxed) - 1;
        let (bytes, seconds) = (self.bytes.load(Relaxed), self.began.elapsed().as_secs());
        let (asker, called) = (self.asker.short(), self.called.short());
        tracing::info!(%asker, %called, bytes, seconds, open, "a relayed connection has ended");
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::ContentId;
    use tokio::net::TcpListener;

    use super::super::{Limits, MEETING};
    use super::*;

    async fn knocked(bytes: &[u8]) -> (TcpStream, Guest) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (device, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut device = device.unwrap();
        device.write_all(bytes).await.unwrap();
        (device, Guest { stream: accepted.unwrap().0, place: None })
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_half_a_greeting_or_comes_alone_is_not_waited_for() {
        let relay = Relay::new(Limits { rate: 1_000_000, connections: 4 });
        let began = Instant::now();
        let (_half, guest) = knocked(b"PGREL").await;
        relay.welcome(guest).await;
        assert_eq!(began.elapsed().as_secs(), GREETING.as_secs());

        let peer = |n| PeerId::from_bytes([n; 32]);
        relay.listen(peer(2));
        let token = relay.call(peer(1), peer(2), ContentId::from_bytes([3; 32])).unwrap().unwrap();
        let began = Instant::now();
        let (_alone, guest) = knocked(&token.greeting()).await;
        relay.welcome(guest).await;
        assert_eq!(began.elapsed().as_secs(), MEETING.as_secs());
        assert_eq!(relay.counts().connections, 0);
    }

    #[tokio::test]
    async fn tls_is_told_from_a_greeting_and_left_unread() {
        for (bytes, expected) in [(&b"\x16\x03\x01"[..], false), (b"PGRELAY", true), (b"\0", true)] {
            let (_device, mut guest) = knocked(bytes).await;
            assert_eq!(is_for_relay(&guest.stream).await, expected);
            let mut first = [0];
            guest.stream.read_exact(&mut first).await.unwrap();
            assert_eq!(first[0], bytes[0]);
        }
    }
}
