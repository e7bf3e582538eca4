//! Who gets a connection, and who does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows tests only by their attribute")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use common::*;
use peerage_transport::{Encryption, Incoming, Listener, Options, TransportError, accept, connect};
use peerage_wire::Message;
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn both_prove_their_keys() {
    let (one, two) = pair(Encryption::Required).await;
    assert_eq!((one.peer(), two.peer()), (peer(2), peer(1)));
    assert_eq!((one.remote(), one.local()), (two.local(), two.remote()));
    assert!(one.is_encrypted() && two.is_encrypted());
    assert_eq!(one.binding(), two.binding());
    let (other, _two) = pair(Encryption::Required).await;
    assert_ne!(one.binding(), other.binding());
}

#[tokio::test]
async fn somebody_else_is_told_from_the_expected_peer() {
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr().unwrap();
    let (one, two, options) = (identity(1), identity(2), Options::default());
    let (connected, accepted) = tokio::join!(connect(addr, peer(9), &one, &options), async {
        accept(listener.next().await.unwrap().0, &two, &options).await
    });
    match connected {
        Err(TransportError::WrongPeer { expected, found }) => {
            assert_eq!((expected, found), (peer(9), peer(2)));
        }
        other => panic!("{other:?}"),
    }
    // The one who was not meant learns nothing but that, and not who asked.
    let refused = rustls::Error::AlertReceived(AlertDescription::CertificateUnknown);
    assert!(matches!(accepted, Err(TransportError::Tls(error)) if error == refused));
}

#[tokio::test]
async fn a_client_needs_a_key() {
    let manners = Manners { has_key: false, ..Manners::default() };
    let (accepted, client) = with_foreign(manners, Encryption::Required, |mut foreign| {
        // The client believes it is done until it reads.
        foreign.handshake().and_then(|()| {
            foreign.send();
            foreign.read_to_end().map(drop).map_err(|_| rustls::Error::HandshakeNotComplete)
        })
    })
    .await;
    assert!(matches!(accepted, Err(TransportError::Tls(_))), "{accepted:?}");
    assert!(client.await.unwrap().is_err());
}

#[tokio::test]
async fn a_client_needs_the_protocol() {
    for alpn in [None, Some(&b"h2"[..]), Some(b"peerage/1-clear"), Some(b"peerage/2")] {
        let manners = Manners { alpn, ..Manners::default() };
        let (accepted, client) = with_foreign(manners, Encryption::Required, |mut foreign| {
            foreign.handshake().map(|()| foreign.send())
        })
        .await;
        let refused = rustls::Error::NoApplicationProtocol;
        assert!(matches!(accepted, Err(TransportError::Tls(error)) if error == refused), "{alpn:?}");
        assert_eq!(client.await.unwrap().is_ok(), alpn.is_none());
    }
}

#[tokio::test]
async fn an_ordinary_tls_client_is_refused() {
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
    config.alpn_protocols = vec![b"peerage/1".to_vec()];
    let tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
    let client = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let (two, options) = (identity(2), Options::default());
    let (connected, accepted) = tokio::join!(client.connect(name, tcp), async {
        accept(listener.next().await.unwrap().0, &two, &options).await
    });
    assert!(connected.is_err());
    assert!(matches!(accepted, Err(TransportError::Tls(rustls::Error::PeerIncompatible(_)))), "{accepted:?}");
}

/// What `accept` says to somebody who sends `bytes` and then nothing, and what it answers.
async fn refused(bytes: &[u8]) -> (TransportError, Vec<u8>) {
    let listener = Listener::bind(loopback()).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(bytes).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (tcp, _) = listener.next().await.unwrap();
    let error = accept(tcp, &identity(2), &Options::default()).await.unwrap_err();
    let mut answer = Vec::new();
    // A reset, for bytes that were not read any more, is as good an end.
    let _ = client.read_to_end(&mut answer);
    (error, answer)
}

#[tokio::test]
async fn strangers_are_refused() {
    let not_tls = |error: &TransportError| matches!(error, TransportError::Handshake { what: "not TLS" });
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x13BitTorrent protocol", &[0; 100], &[0x16, 9, 9, 9, 9]]
    {
        let (error, answer) = refused(bytes).await;
        assert!(not_tls(&error), "{error:?}");
        assert!(answer.is_empty());
    }
    let cut = |error: &TransportError| matches!(error, TransportError::Handshake { what } if what.contains("closed"));
    for bytes in [&b""[..], &[0x16], &[0x16, 3, 1, 0, 200, 1, 0, 0]] {
        let (error, _) = refused(bytes).await;
        assert!(cut(&error), "{error:?}");
    }
    let (error, _) = refused(&[0x16, 3, 1, 0xff, 0xff, 0]).await;
    assert!(matches!(error, TransportError::RecordLength { found: 0xffff }), "{error:?}");
    // Records as long as they may be, of a message that never ends.
    let mut endless = Vec::new();
    for at in 0..4 {
        endless.extend_from_slice(&[0x16, 3, 1, 0x40, 0]);
        let mut body = vec![0; 1 << 14];
        if at == 0 {
            body[..4].copy_from_slice(&[1, 0, 0xff, 0xff]);
        }
        endless.extend_from_slice(&body);
    }
    let (error, _) = refused(&endless).await;
    assert!(matches!(error, TransportError::Handshake { .. } | TransportError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn random_bytes_never_panic() {
    let mut numbers = Numbers(0x5eed);
    for _ in 0..200 {
        let len = numbers.below(400) as usize;
        let mut bytes = numbers.bytes(len);
        // Half of them look like records at first sight.
        if numbers.below(2) == 0 && len > 5 {
            bytes[..5].copy_from_slice(&[0x14 + numbers.below(4) as u8, 3, 3, 0, numbers.below(100) as u8]);
        }
        refused(&bytes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_given_up() {
    let listener = Listener::bind(loopback()).unwrap();
    for bytes in [&b""[..], &[0x16, 3, 1, 0, 200, 1]] {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(bytes).unwrap();
        let (tcp, _) = listener.next().await.unwrap();
        let started = tokio::time::Instant::now();
        let error = accept(tcp, &identity(2), &Options::default()).await.unwrap_err();
        let five = Duration::from_secs(5);
        assert!(matches!(error, TransportError::HandshakeTimeout { after } if after == five), "{error:?}");
        assert!(started.elapsed() >= five);
    }
    // The same for one who connects to somebody that says nothing.
    let addr = listener.local_addr().unwrap();
    let error = connect(addr, peer(2), &identity(1), &Options::default()).await.unwrap_err();
    assert!(matches!(error, TransportError::HandshakeTimeout { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_answers() {
    // A listener that is full drops further attempts: the first fills it.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&loopback().into()).unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let _filler = TcpStream::connect(addr).unwrap();
    let error = connect(addr, peer(2), &identity(1), &Options::default()).await.unwrap_err();
    assert!(matches!(error, TransportError::ConnectTimeout { addr: to, .. } if to == addr), "{error:?}");
}

#[tokio::test]
async fn nobody_listens() {
    let gone = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let error = connect(gone, peer(2), &identity(1), &Options::default()).await.unwrap_err();
    assert!(matches!(error, TransportError::Connect { addr, .. } if addr == gone), "{error:?}");
    let error = Listener::bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(error, TransportError::Listen { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_cuts_the_handshake() {
    let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut hello = [0; 64];
        tcp.read_exact(&mut hello).await.unwrap();
        tcp.write_all(&[0x16, 3, 3, 0, 100, 2]).await.unwrap();
        tcp.shutdown().await.unwrap();
        while tcp.read(&mut hello).await.is_ok_and(|len| len > 0) {}
    };
    let (one, options) = (identity(1), Options::default());
    let (connected, ()) = tokio::join!(connect(addr, peer(2), &one, &options), server);
    assert!(matches!(connected, Err(TransportError::Handshake { .. })), "{connected:?}");
}

#[tokio::test]
async fn comes_from_the_address_it_is_told_to() {
    let bind: IpAddr = "127.0.7.9".parse().unwrap();
    let ours = Options { bind: Some(bind), ..Options::default() };
    let (one, two) = meet(&ours, &Options::default()).await;
    assert_eq!(one.unwrap().local().ip(), bind);
    assert_eq!(two.unwrap().remote().ip(), bind);
}

#[tokio::test]
async fn the_open_address_takes_both_families() {
    let listener = Listener::bind("[::]:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (one, two, options) = (identity(1), identity(2), Options::default());
    for to in ["127.0.0.1", "::1"] {
        let addr = SocketAddr::new(to.parse().unwrap(), port);
        let (connected, accepted) = tokio::join!(connect(addr, peer(2), &one, &options), async {
            accept(listener.next().await.unwrap().0, &two, &options).await
        });
        let (connected, accepted) = (connected.unwrap(), accepted.unwrap());
        assert_eq!(accepted.local(), addr);
        assert_eq!(accepted.remote(), connected.local());
        for path in [connected.path(), accepted.path()] {
            path.set_lower_effort(true).unwrap();
            assert!(path.lower_effort().unwrap());
        }
    }
}

#[tokio::test]
async fn clear_text_only_if_both_want_it() {
    use Encryption::{Off, Required};
    for (ours, theirs, encrypted) in
        [(Required, Required, true), (Required, Off, true), (Off, Required, true), (Off, Off, false)]
    {
        let (one, two) = meet(&options(ours), &options(theirs)).await;
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((one.is_encrypted(), two.is_encrypted()), (encrypted, encrypted), "{ours:?} {theirs:?}");
        assert_eq!((one.peer(), two.peer()), (peer(2), peer(1)));
        let (mut reader, _writer) = one.split();
        let (_reader, mut writer) = two.split();
        writer.send(&Message::Unchoke).await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Incoming::Message(Message::Unchoke));
    }
}
