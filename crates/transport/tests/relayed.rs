//! Connections through a relay: who gets one, and what the relay sees of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows tests only by their attribute")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::*;
use peerage_content::{RELAY_GREETING_LEN, RELAY_JOINED, RelayToken};
use peerage_transport::{Connection, Encryption, Incoming, Options, Relayed, TransportError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TOKENS: [RelayToken; 2] = [RelayToken::from_bytes([1; 32]), RelayToken::from_bytes([2; 32])];
/// No ciphertext holds it by chance.
const SECRET: &[u8] = b"what a relay must never be able to read, let alone to change";

/// A relay that brings two together, passes on what they say, and returns all of it; it flips one byte after the `flip`th.
async fn relay(listener: TcpListener, flip: Option<usize>) -> Vec<u8> {
    let mut ends = Vec::new();
    for _ in 0..2 {
        let (mut end, _) = listener.accept().await.unwrap();
        let mut greeting = [0; RELAY_GREETING_LEN];
        end.read_exact(&mut greeting).await.unwrap();
        assert!(TOKENS.contains(&RelayToken::of_greeting(&greeting).unwrap()));
        ends.push(end);
    }
    for end in &mut ends {
        end.write_all(&[RELAY_JOINED]).await.unwrap();
    }
    let (mut one, mut two): (TcpStream, TcpStream) = (ends.remove(0), ends.remove(0));
    let (mut seen, mut from_one, mut from_two) = (Vec::new(), [0; 4096], [0; 4096]);
    loop {
        let (bytes, to) = tokio::select! {
            read = one.read(&mut from_one) => (&mut from_one[..read.unwrap_or(0)], &mut two),
            read = two.read(&mut from_two) => (&mut from_two[..read.unwrap_or(0)], &mut one),
        };
        if bytes.is_empty() {
            return seen;
        }
        if let Some(at) = flip.and_then(|at| at.checked_sub(seen.len()))
            && let Some(byte) = bytes.get_mut(at)
        {
            *byte ^= 1;
        }
        seen.extend_from_slice(bytes);
        if to.write_all(bytes).await.is_err() {
            return seen;
        }
    }
}

type Met = Result<Connection, TransportError>;

/// Peer 1 asks for `asked`, peer 2 answers whoever proves to be `expected`.
async fn met(asked: u8, expected: u8, options: &Options, flip: Option<usize>) -> (Met, Met, Seen) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let seen = tokio::spawn(relay(listener, flip));
    let [one, two] = [(TOKENS[0], asked), (TOKENS[1], expected)].map(|(token, n)| Relayed {
        relay: addr,
        token,
        peer: peer(n),
    });
    let (own, other) = (identity(1), identity(2));
    let (one, two) = tokio::join!(one.connect(&own, options), two.accept(&other, options));
    (one, two, seen)
}

type Seen = tokio::task::JoinHandle<Vec<u8>>;

#[tokio::test]
async fn what_is_relayed_is_encrypted_even_where_clear_text_may_be() {
    let (one, two, seen) = met(2, 1, &options(Encryption::Off), None).await;
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.peer(), two.peer()), (peer(2), peer(1)));
    assert!(one.is_encrypted() && two.is_encrypted());
    assert_eq!(one.binding(), two.binding());
    let ((_reader, mut writer), (mut reader, _writer)) = (one.split(), two.split());
    let head = data(0, SECRET.len());
    let (sent, read) = tokio::join!(
        async {
            writer.send_data(head, SECRET).await?;
            writer.flush().await
        },
        async {
            assert!(matches!(reader.next().await.unwrap(), Incoming::Data(found) if found == head));
            let mut payload = vec![0; SECRET.len()];
            reader.read_payload(&mut payload).await.map(|()| payload)
        }
    );
    sent.unwrap();
    assert_eq!(read.unwrap(), SECRET);
    drop((_reader, writer, reader, _writer));
    let seen = seen.await.unwrap();
    assert!(seen.len() > 500 && !seen.windows(SECRET.len()).any(|bytes| bytes == SECRET));
}

#[tokio::test]
async fn nobody_but_the_one_who_is_meant() {
    let (one, two, _) = met(9, 1, &Options::default(), None).await;
    assert!(matches!(one, Err(TransportError::WrongPeer { found, .. }) if found == peer(2)), "{one:?}");
    assert!(two.is_err());
    let (_, two, _) = met(2, 9, &Options::default(), None).await;
    assert!(matches!(two, Err(TransportError::WrongPeer { found, .. }) if found == peer(1)), "{two:?}");
}

#[tokio::test]
async fn what_the_relay_changes_is_noticed() {
    // Somewhere in the keys, the signatures, and the ends of the handshake.
    for at in [60, 150, 400, 700] {
        let (one, two, _) = met(2, 1, &Options::default(), Some(at)).await;
        assert!(one.is_err() || two.is_err(), "byte {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_brings_nobody_is_left() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let meeting = Relayed { relay: listener.local_addr().unwrap(), token: TOKENS[0], peer: peer(2) };
    let silent = tokio::spawn(async move {
        let held = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(held);
    });
    let own = identity(1);
    let options = Options { connect_timeout: Duration::from_secs(600), ..Options::default() };
    let error = meeting.connect(&own, &options).await.unwrap_err();
    assert!(matches!(error, TransportError::Relay { what, .. } if what.contains("12 s")), "{error:?}");
    silent.abort();
}
