//! Peers and networks that mean harm: nothing wrong is delivered, and nobody waits for ever.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows tests only by their attribute")]

mod common;

use std::io::Write as _;

use common::*;
use peerage_transport::{Connection, Encryption, Incoming, Options, Traffic, TransportError, accept};
use peerage_wire::{MAX_DATA, Message, WireError};

/// What the reader says to a foreign peer that does `act` after its handshake.
async fn judged(act: impl FnOnce(&mut Foreign) + Send + 'static) -> TransportError {
    let (accepted, client) = with_foreign(Manners::default(), Encryption::Required, |mut foreign| {
        foreign.handshake().unwrap();
        foreign.send();
        act(&mut foreign);
        foreign.send();
        // Ends with the socket when dropped.
    })
    .await;
    let (mut reader, writer) = accepted.unwrap().split();
    let error = loop {
        match reader.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    writer.abort(&error);
    client.await.unwrap();
    error
}

#[tokio::test]
async fn an_end_is_an_end_only_if_it_is_said() {
    let closed = judged(|foreign| foreign.tls.send_close_notify()).await;
    assert!(matches!(closed, TransportError::Closed), "{closed:?}");
    let cut = judged(|_| {}).await;
    assert!(matches!(cut, TransportError::Truncated), "{cut:?}");
    let inside_a_frame = judged(|foreign| {
        foreign.write(&frame(1, 1000).0[..500]);
        foreign.tls.send_close_notify();
    })
    .await;
    assert!(matches!(inside_a_frame, TransportError::Truncated), "{inside_a_frame:?}");
    let inside_a_head = judged(|foreign| {
        foreign.write(&[0, 0]);
        foreign.tls.send_close_notify();
    })
    .await;
    assert!(matches!(inside_a_head, TransportError::Truncated), "{inside_a_head:?}");
}

#[tokio::test]
async fn key_updates_end_the_connection() {
    let error = judged(|foreign| foreign.tls.refresh_traffic_keys().unwrap()).await;
    assert!(matches!(error, TransportError::UnexpectedRecord { .. }), "{error:?}");
}

#[tokio::test]
async fn records_that_are_none_end_the_connection() {
    let error = judged(|foreign| foreign.tcp.write_all(b"HTTP/1.1 200 OK\r\n").unwrap()).await;
    assert!(matches!(error, TransportError::UnexpectedRecord { what: "not encrypted" }), "{error:?}");
    let error = judged(|foreign| foreign.tcp.write_all(&[23, 3, 3, 0xff, 0xff]).unwrap()).await;
    assert!(matches!(error, TransportError::RecordLength { found: 0xffff }), "{error:?}");
    let error = judged(|foreign| foreign.tcp.write_all(&[23, 3, 3, 0, 16]).unwrap()).await;
    assert!(matches!(error, TransportError::RecordLength { found: 16 }), "{error:?}");
    let error =
        judged(|foreign| foreign.tcp.write_all(&[[23, 3, 3, 0, 40].as_slice(), &[7; 40]].concat()).unwrap());
    assert!(matches!(error.await, TransportError::BadRecord));
}

#[tokio::test]
async fn the_other_side_hears_why() {
    let (accepted, client) = with_foreign(Manners::default(), Encryption::Required, |mut foreign| {
        foreign.handshake().unwrap();
        foreign.send();
        foreign.tcp.write_all(&[[23, 3, 3, 0, 40].as_slice(), &[7; 40]].concat()).unwrap();
        foreign.read_to_end().unwrap_err().to_string()
    })
    .await;
    let (mut reader, mut writer) = accepted.unwrap().split();
    let error = reader.next().await.unwrap_err();
    // Something is pending, too: it goes first.
    writer.send(&Message::Ping).await.unwrap();
    writer.abort(&error);
    assert!(client.await.unwrap().contains("BadRecordMac"));
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    let over = (8 + MAX_DATA + 2).to_be_bytes();
    let error = judged(move |foreign| foreign.write(&[&over[..], &[5]].concat())).await;
    assert!(matches!(error, TransportError::Frame(WireError::Length { kind: 5, .. })), "{error:?}");
    let error = judged(|foreign| foreign.write(&[0, 0, 0, 1, 0x7f])).await;
    assert!(matches!(error, TransportError::Frame(WireError::UnknownKind(0x7f))), "{error:?}");
    let error = judged(|foreign| foreign.write(&[0, 0, 0, 5, 5, 0, 0, 0, 0])).await;
    assert!(matches!(error, TransportError::Frame(WireError::Malformed(_))), "{error:?}");
    let error = judged(|foreign| foreign.write(&[0, 0, 0, 2, 13, 0])).await;
    assert!(matches!(error, TransportError::Frame(WireError::Length { kind: 13, .. })), "{error:?}");
    let error = judged(|foreign| foreign.write(&[0, 0, 0, 4, 2, 0, 0, 0])).await;
    assert!(matches!(error, TransportError::Frame(WireError::Malformed(_))), "{error:?}");
}

/// Bytes of the connection flow through here, one of them with a bit flipped.
async fn meddler(
    at: u64,
    bit: u8,
) -> (Result<Connection, TransportError>, Result<Connection, TransportError>) {
    let inner = peerage_transport::Listener::bind(loopback()).unwrap();
    let outer = std::net::TcpListener::bind(loopback()).unwrap();
    let (inner_addr, outer_addr) = (inner.local_addr().unwrap(), outer.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::Read as _;
        let (mut client, _) = outer.accept().unwrap();
        let mut server = std::net::TcpStream::connect(inner_addr).unwrap();
        let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || {
            // Ends with either socket.
            let _ = std::io::copy(&mut back_from, &mut back_to);
            let _ = back_to.shutdown(std::net::Shutdown::Write);
        });
        let (mut buffer, mut seen) = ([0; 4096], 0);
        while let Ok(len @ 1..) = client.read(&mut buffer) {
            if let Some(index) = at.checked_sub(seen).filter(|index| *index < len as u64) {
                buffer[index as usize] ^= 1 << bit;
            }
            seen += len as u64;
            if server.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(std::net::Shutdown::Write);
    });
    let (one, two, options) = (identity(1), identity(2), Options::default());
    tokio::join!(peerage_transport::connect(outer_addr, peer(2), &one, &options), async {
        accept(inner.next().await?.0, &two, &options).await
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_delivers_nothing_wrong() {
    let handshake = {
        let (one, two) = meddler(u64::MAX, 0).await;
        let sent: Traffic = one.unwrap().counters().traffic();
        two.unwrap();
        sent.wire_out
    };
    let mut numbers = Numbers(0xf11b);
    let mut reached = 0;
    // Headers, contents, content types and tags of records; then anywhere in the stream, handshake included.
    let places =
        (0..30).map(|at| handshake + at).chain([16_386, 16_400, 16_405, 16_406].map(|at| handshake + at));
    for at in places.chain((0..40).map(|_| numbers.below(handshake + 200_000))).collect::<Vec<_>>() {
        let (one, two) = meddler(at, numbers.below(8) as u8).await;
        let Ok(two) = two else { continue };
        let (_one_reader, mut writer) = one.unwrap().split();
        let (mut reader, _two_writer) = two.split();
        reached += 1;
        let sender = tokio::spawn(async move {
            for piece in 0..10 {
                let (_, payload) = frame(piece, 20_000);
                // Fails once the other side has gone.
                writer.send_data(data(piece, 20_000), &payload).await?;
                writer.flush().await?;
            }
            writer.close().await
        });
        let mut piece = 0;
        let error = loop {
            match reader.next().await {
                Ok(Incoming::Data(head)) => {
                    assert_eq!(head, data(piece, 20_000));
                    let mut got = vec![0; 20_000];
                    if let Err(error) = reader.read_payload(&mut got).await {
                        break error;
                    }
                    assert!(got == frame(piece, 20_000).1, "bit flipped at {at} went through");
                    piece += 1;
                }
                Ok(other) => panic!("{other:?} out of nowhere"),
                Err(error) => break error,
            }
        };
        // The version in a record's header is authenticated as well, so every single bit counts.
        assert!(!matches!(error, TransportError::Closed), "flipped bit at {at} went unnoticed");
        assert!(reader.next().await.is_err());
        drop(reader);
        let _ = sender.await.unwrap();
    }
    assert!(reached > 50, "{reached}");
}
