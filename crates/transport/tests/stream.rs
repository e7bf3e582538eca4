//! Frames in both directions: everything arrives, whole and in order, whatever its size and whoever sealed it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows tests only by their attribute")]

mod common;

use std::io::Write as _;

use common::*;
use peerage_content::PieceIndex;
use peerage_transport::{Encryption, FrameReader, FrameWriter, Incoming, TransportError};
use peerage_wire::{MAX_DATA, Message};
use rustls::crypto::aws_lc_rs::cipher_suite;

/// Payloads out of two random megabytes.
struct Content(Numbers, Vec<u8>);

impl Content {
    fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let bytes = numbers.bytes(2 << 20);
        Self(numbers, bytes)
    }

    fn next(&mut self, len: usize) -> &[u8] {
        let at = self.0.below((self.1.len() - len) as u64) as usize;
        &self.1[at..at + len]
    }
}

/// Sends `total` bytes of payload in frames of random sizes with messages in between.
async fn send_all(mut writer: FrameWriter, seed: u64, total: usize) {
    let (mut sizes, mut content) = (Numbers(seed), Content::new(!seed));
    let (mut sent, mut frame) = (0, 0);
    while sent < total {
        let len = sizes.size(20);
        writer.send_data(data(frame, len), content.next(len)).await.unwrap();
        (sent, frame) = (sent + len, frame + 1);
        match sizes.below(4) {
            0 => writer.send(&Message::Have(vec![PieceIndex(frame)])).await.unwrap(),
            1 => writer.flush().await.unwrap(),
            _ => {}
        }
    }
    writer.close().await.unwrap();
}

/// Receives what [`send_all`] sends with the same seed, in parts of random sizes; returns the bytes of payload.
async fn receive_all(mut reader: FrameReader, seed: u64) -> u64 {
    let (mut sizes, mut content) = (Numbers(seed), Content::new(!seed));
    let mut parts = Numbers(seed ^ 0xabc);
    let (mut frame, mut total) = (0, 0);
    let mut page = vec![0; MAX_DATA as usize];
    loop {
        let head = match reader.next().await {
            Ok(Incoming::Data(head)) => head,
            Err(TransportError::Closed) => return total,
            other => panic!("{other:?}"),
        };
        let len = sizes.size(20);
        assert_eq!(head, data(frame, len));
        let page = &mut page[..len];
        let mut at = 0;
        while at < len {
            let part = parts.size(20).min(len - at);
            reader.read_payload(&mut page[at..at + part]).await.unwrap();
            at += part;
            assert_eq!(reader.payload_left(), len - at);
        }
        assert!(page == content.next(len), "frame {frame} of {len} bytes differs");
        (total, frame) = (total + len as u64, frame + 1);
        if sizes.below(4) == 0 {
            let have = Message::Have(vec![PieceIndex(frame)]);
            assert_eq!(reader.next().await.unwrap(), Incoming::Message(have));
        }
    }
}

async fn both_ways(encryption: Encryption, total: usize) {
    let (one, two) = pair(encryption).await;
    let counters = [one.counters(), two.counters()];
    let ((one_reader, one_writer), (two_reader, two_writer)) = (one.split(), two.split());
    let tasks = (
        tokio::spawn(send_all(one_writer, 0x1111, total)),
        tokio::spawn(send_all(two_writer, 0x2222, total)),
        tokio::spawn(receive_all(one_reader, 0x2222)),
        tokio::spawn(receive_all(two_reader, 0x1111)),
    );
    tasks.0.await.unwrap();
    tasks.1.await.unwrap();
    let (from_two, from_one) = (tasks.2.await.unwrap(), tasks.3.await.unwrap());
    let [one, two] = counters.map(|counters| counters.traffic());
    assert!(from_one >= total as u64 && from_two >= total as u64);
    assert_eq!((one.payload_out, one.payload_in), (from_one, from_two));
    assert_eq!((two.payload_out, two.payload_in), (from_two, from_one));
    // Every byte that one side wrote the other has read, and the cost of framing and sealing is small.
    assert_eq!((one.wire_out, one.wire_in), (two.wire_in, two.wire_out));
    assert!(one.wire_out > from_one && one.wire_out < from_one + from_one / 100 + 4096, "{one:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_both_ways_at_once() {
    both_ways(Encryption::Required, 100_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_in_clear_text() {
    both_ways(Encryption::Off, 100_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_text_takes_files_and_sealed_text_does_not() {
    let bytes = Numbers(7).bytes(3 << 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let (one, two) = pair(Encryption::Off).await;
    let ((_one_reader, mut writer), (mut reader, _two_writer)) = (one.split(), two.split());
    assert!(writer.takes_files());
    let sender = tokio::spawn(async move {
        // Messages and data of either kind keep their order.
        writer.send(&Message::Have(vec![PieceIndex(9)])).await.unwrap();
        writer.send_file(data(1, 1 << 20), &file, 5000).await.unwrap();
        writer.send_file(data(2, 1), &file, 0).await.unwrap();
        writer.send_data(data(3, 3), b"abc").await.unwrap();
        writer.send_file(data(4, 1 << 20), &file, 2 << 20).await.unwrap();
        let short = writer.send_file(data(5, 2), &file, (3 << 20) - 1).await;
        assert!(matches!(short, Err(TransportError::Send(_))), "{short:?}");
        let torn = writer.send(&Message::Ping).await;
        assert!(matches!(torn, Err(TransportError::TornFrame)), "{torn:?}");
    });
    assert_eq!(reader.next().await.unwrap(), Incoming::Message(Message::Have(vec![PieceIndex(9)])));
    for (frame, expected) in
        [(1, &bytes[5000..][..1 << 20]), (2, &bytes[..1]), (3, b"abc"), (4, &bytes[2 << 20..])]
    {
        assert_eq!(reader.next().await.unwrap(), Incoming::Data(data(frame, expected.len())));
        let mut found = vec![0; expected.len()];
        reader.read_payload(&mut found).await.unwrap();
        assert!(found == expected, "frame {frame}");
    }
    sender.await.unwrap();

    let (one, _two) = pair(Encryption::Required).await;
    let (_reader, mut writer) = one.split();
    assert!(!writer.takes_files());
    let file = tempfile::tempfile().unwrap();
    let refused = writer.send_file(data(1, 10), &file, 0).await;
    assert!(matches!(refused, Err(TransportError::PayloadLength { .. })), "{refused:?}");
}

/// How many segments a mebibyte arrives in.
async fn segments(encryption: Encryption, most: Option<u32>) -> u32 {
    let bytes = Numbers(8).bytes(1 << 20);
    let (one, two) = pair(encryption).await;
    one.path().set_burst(most);
    let path = two.path();
    let ((_one_reader, mut writer), (mut reader, _two_writer)) = (one.split(), two.split());
    assert_eq!(writer.takes_files(), encryption == Encryption::Off && most.is_none());
    let before = path.info().unwrap().segments_in;
    let sent = bytes.clone();
    let sender = tokio::spawn(async move {
        writer.send_data(data(1, sent.len()), &sent).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    expect_frame(&mut reader, 1, &bytes).await;
    drop(sender.await.unwrap());
    path.info().unwrap().segments_in - before
}

#[tokio::test]
async fn no_more_leaves_at_once_than_is_allowed() {
    for encryption in [Encryption::Required, Encryption::Off] {
        let bounded = segments(encryption, Some(4096)).await;
        assert!(bounded >= (1 << 20) / 4096, "{encryption:?}: {bounded}");
        let free = segments(encryption, None).await;
        assert!(free < bounded / 2, "{encryption:?}: {free} of {bounded}");
    }
}

#[tokio::test]
async fn data_right_behind_the_handshake_is_not_lost() {
    // The whole last flight with the first frames in one write, and cut at every kind of place.
    for cut in [None, Some(1), Some(7), Some(60), Some(3000), Some(20_000)] {
        let (first, first_payload) = frame(1, 50_000);
        let (second, second_payload) = frame(2, 10);
        let (accepted, client) =
            with_foreign(Manners::default(), Encryption::Required, move |mut foreign| {
                foreign.handshake().unwrap();
                foreign.write(&first);
                foreign.write(&second);
                let flight = foreign.sealed();
                let (now, later) = flight.split_at(cut.map_or(flight.len(), |cut| flight.len() - cut));
                foreign.tcp.write_all(now).unwrap();
                foreign.tcp.write_all(later).unwrap();
                foreign.tls.send_close_notify();
                foreign.send();
                foreign
            })
            .await;
        let connection = accepted.unwrap();
        assert_eq!(connection.peer(), peer(3));
        let (mut reader, _writer) = connection.split();
        expect_frame(&mut reader, 1, &first_payload).await;
        expect_frame(&mut reader, 2, &second_payload).await;
        assert!(matches!(reader.next().await, Err(TransportError::Closed)));
        assert!(matches!(reader.next().await, Err(TransportError::Closed)));
        client.await.unwrap();
    }
}

#[tokio::test]
async fn clear_text_right_behind_the_handshake_is_not_lost() {
    let manners = Manners { alpn: Some(b"peerage/1-clear"), ..Manners::default() };
    let (bytes, payload) = frame(1, 50_000);
    let (accepted, client) = with_foreign(manners, Encryption::Off, move |mut foreign| {
        foreign.handshake().unwrap();
        let flight = [foreign.sealed(), bytes].concat();
        foreign.tcp.write_all(&flight).unwrap();
        foreign
    })
    .await;
    let connection = accepted.unwrap();
    assert!(!connection.is_encrypted());
    let (mut reader, _writer) = connection.split();
    expect_frame(&mut reader, 1, &payload).await;
    drop(client.await.unwrap());
    assert!(matches!(reader.next().await, Err(TransportError::Closed)));
}

#[tokio::test]
async fn another_implementation_reads_every_cipher() {
    for suite in [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let manners = Manners { suite, ..Manners::default() };
        let (to_us, payload) = frame(1, 100_000);
        let (accepted, client) = with_foreign(manners, Encryption::Required, move |mut foreign| {
            foreign.handshake().unwrap();
            foreign.write(&to_us);
            foreign.send();
            foreign.read_to_end().unwrap()
        })
        .await;
        let (mut reader, mut writer) = accepted.unwrap().split();
        expect_frame(&mut reader, 1, &payload).await;
        let mut expected = Vec::new();
        for (piece, len) in [(1, 1), (2, 16_371), (3, 16_384), (4, 700_000), (5, 1 << 20)] {
            let (bytes, payload) = frame(piece, len);
            writer.send_data(data(piece, len), &payload).await.unwrap();
            writer.send(&Message::Ping).await.unwrap();
            if piece % 2 == 0 {
                writer.flush().await.unwrap();
            }
            expected.extend_from_slice(&bytes);
            expected.extend_from_slice(&Message::Ping.encode());
        }
        writer.close().await.unwrap();
        assert!(client.await.unwrap() == expected, "{suite:?}");
    }
}

#[tokio::test]
async fn extensions_are_passed_over() {
    let (bytes, payload) = frame(1, 20);
    let (accepted, client) = with_foreign(Manners::default(), Encryption::Required, move |mut foreign| {
        foreign.handshake().unwrap();
        foreign.write(&[0, 0, 0, 4, 0xfe, 1, 2, 3]);
        foreign.write(&[0, 0, 0, 1, 0xff]);
        foreign.write(&[&[0, 1, 0, 0, 0x99][..], &[5; 0xffff]].concat());
        foreign.write(&bytes);
        foreign.send();
        foreign
    })
    .await;
    let (mut reader, _writer) = accepted.unwrap().split();
    expect_frame(&mut reader, 1, &payload).await;
    client.await.unwrap();
}

async fn halves(encryption: Encryption) -> ((FrameReader, FrameWriter), (FrameReader, FrameWriter)) {
    let (one, two) = pair(encryption).await;
    (one.split(), two.split())
}

#[tokio::test]
async fn payload_may_be_skipped_or_left() {
    let ((_one_reader, mut writer), (mut reader, _two_writer)) = halves(Encryption::Required).await;
    let send = async {
        for piece in 0..3 {
            writer.send_data(data(piece, 100_000), &frame(piece, 100_000).1).await.unwrap();
        }
        writer.send(&Message::Choke).await.unwrap();
        writer.flush().await.unwrap();
    };
    let receive = async {
        assert_eq!(reader.next().await.unwrap(), Incoming::Data(data(0, 100_000)));
        reader.skip_payload().await.unwrap();
        assert_eq!(reader.payload_left(), 0);
        assert_eq!(reader.next().await.unwrap(), Incoming::Data(data(1, 100_000)));
        let mut part = [0; 300];
        reader.read_payload(&mut part).await.unwrap();
        assert_eq!(part, frame(1, 100_000).1[..300]);
        let error = reader.read_payload(&mut vec![0; 99_701]).await.unwrap_err();
        let expected = (99_701, 99_700);
        assert!(
            matches!(error, TransportError::PayloadLength { found, allowed } if (found, allowed) == expected)
        );
        // The rest is left; the next frame comes all the same.
        assert_eq!(reader.next().await.unwrap(), Incoming::Data(data(2, 100_000)));
        assert_eq!(reader.next().await.unwrap(), Incoming::Message(Message::Choke));
        assert!(matches!(
            reader.read_payload(&mut part).await,
            Err(TransportError::PayloadLength { found: 300, allowed: 0 })
        ));
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn waiting_for_a_frame_may_be_given_up() {
    // Frames that arrive byte by byte, each in a record of its own, and a reader that starts anew all the time.
    let have = Message::Have((0..20).map(PieceIndex).collect());
    let bytes = [have.encode(), frame(7, 3).0].concat();
    let (accepted, client) = with_foreign(Manners::default(), Encryption::Required, move |mut foreign| {
        foreign.handshake().unwrap();
        for byte in bytes {
            foreign.write(&[byte]);
            foreign.send();
        }
        foreign
    })
    .await;
    let (mut reader, _writer) = accepted.unwrap().split();
    let mut next = async || {
        loop {
            tokio::select! {
                biased;
                incoming = reader.next() => return incoming.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    assert_eq!(next().await, Incoming::Message(have));
    assert_eq!(next().await, Incoming::Data(data(7, 3)));
    client.await.unwrap();
}

#[tokio::test]
async fn half_a_frame_is_the_last() {
    let ((_one_reader, mut writer), _two) = halves(Encryption::Required).await;
    // Nobody reads: this cannot end.
    let full = async {
        loop {
            writer.send_data(data(0, 1 << 20), &vec![0; 1 << 20]).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        () = full => unreachable!("sends without end"),
        () = until_idle() => {}
    }
    assert!(matches!(writer.send(&Message::Ping).await, Err(TransportError::TornFrame)));
    assert!(matches!(writer.close().await, Err(TransportError::TornFrame)));
}

/// Gives the other branch every chance to go on.
async fn until_idle() {
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn payload_and_head_must_agree() {
    let ((_one_reader, mut writer), (mut reader, _two_writer)) = halves(Encryption::Required).await;
    let big = MAX_DATA as usize + 1;
    for (said, given) in [(10, 9), (10, 11), (0, 0), (big, big)] {
        let error = writer.send_data(data(0, said), &vec![0; given]).await.unwrap_err();
        assert!(matches!(error, TransportError::PayloadLength { found, .. } if found == given), "{error:?}");
    }
    // Nothing of that was sent.
    writer.send(&Message::Unchoke).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(reader.next().await.unwrap(), Incoming::Message(Message::Unchoke));
}

#[tokio::test]
async fn one_direction_may_end_before_the_other() {
    for encryption in [Encryption::Required, Encryption::Off] {
        let ((mut one_reader, one_writer), (mut two_reader, mut two_writer)) = halves(encryption).await;
        one_writer.close().await.unwrap();
        assert!(matches!(two_reader.next().await, Err(TransportError::Closed)));
        two_writer.send(&Message::Choke).await.unwrap();
        two_writer.close().await.unwrap();
        assert_eq!(one_reader.next().await.unwrap(), Incoming::Message(Message::Choke));
        assert!(matches!(one_reader.next().await, Err(TransportError::Closed)));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_not_a_closed_one() {
    let ((one_reader, one_writer), (mut reader, mut writer)) = halves(Encryption::Required).await;
    drop((one_reader, one_writer));
    assert!(matches!(reader.next().await, Err(TransportError::Truncated)));
    // The kernel finds out with the first answer at the latest.
    let error = loop {
        writer.send(&Message::Ping).await.unwrap();
        if let Err(error) = writer.flush().await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(error, TransportError::Send(_)));
}

#[tokio::test]
async fn the_path_is_known_and_governed() {
    let (one, two) = pair(Encryption::Required).await;
    let fresh = one.path_info().unwrap();
    assert!(fresh.mss > 0 && fresh.cwnd > 0 && fresh.bytes_acked > 0, "{fresh:?}");
    let path = one.path();
    assert_eq!(path.pacing().unwrap(), None);
    one.set_pacing(Some(4 << 20)).unwrap();
    assert_eq!(path.pacing().unwrap(), Some(4 << 20));
    path.set_pacing(None).unwrap();
    assert_eq!(path.pacing().unwrap(), None);
    // Beyond what fits in 32 bits.
    path.set_pacing(Some(5_000_000_000)).unwrap();
    assert_eq!(path.pacing().unwrap(), Some(5_000_000_000));
    assert!(!path.lower_effort().unwrap());
    path.set_lower_effort(true).unwrap();
    assert!(path.lower_effort().unwrap());
    path.set_lower_effort(false).unwrap();
    assert!(!path.lower_effort().unwrap());

    let before = one.counters().traffic();
    let ((one_reader, mut writer), (mut reader, _two_writer)) = (one.split(), two.split());
    let (_, payload) = frame(1, 1 << 20);
    let (sent, ()) = tokio::join!(
        async {
            writer.send_data(data(1, 1 << 20), &payload).await?;
            writer.flush().await
        },
        expect_frame(&mut reader, 1, &payload)
    );
    sent.unwrap();
    let info = path.info().unwrap();
    assert!(info.bytes_sent - fresh.bytes_sent >= 1 << 20, "{info:?}");
    assert!(info.rtt > std::time::Duration::ZERO && info.min_rtt <= info.rtt, "{info:?}");
    assert!(info.delivery_rate > 0, "{info:?}");
    assert!(before.wire_out > 0 && before.wire_in > 0);
    drop((one_reader, writer));
    assert!(matches!(path.info(), Err(TransportError::Ended)));
    assert!(matches!(path.set_pacing(None), Err(TransportError::Ended)));
}
