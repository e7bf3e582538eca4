//! HTTPS: trust in an extra root and in nothing else, HTTP/2, and no way back to clear text under the guard.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use peerage_origin::{
    ErrorKind, Failure, Guard, Known, OriginClient, OriginConfig, RangeRequest, Refusal, SourceUrl,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::support::{Answers, Reply, Server, config, read};

struct Secure {
    addr: SocketAddr,
    root_pem: String,
    http2: Arc<AtomicUsize>,
    /// Whether the client has left an endless body.
    left: watch::Receiver<bool>,
}

/// Never ends; says when it is dropped.
struct Endless(watch::Sender<bool>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16 << 10])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Serves 200 "secret" over TLS; `/down` redirects to `down`, `/endless` never ends.
async fn secure(alpn: &[&str], down: String) -> Secure {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "tls.example".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();

    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let http2 = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&http2);
    let (leave, left) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counter, down) = (acceptor.clone(), Arc::clone(&counter), down.clone());
            let leave = leave.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: Request<Incoming>| {
                    counter.fetch_add(usize::from(request.version() == Version::HTTP_2), Ordering::Relaxed);
                    let answer = match request.uri().path() {
                        "/down" => Response::builder().status(302).header("location", &down),
                        _ => Response::builder(),
                    };
                    let answer = answer.body(match request.uri().path() {
                        "/endless" => Endless(leave.clone()).boxed(),
                        _ => Full::new(Bytes::from_static(b"secret")).boxed(),
                    });
                    async move { answer }
                });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Secure { addr, root_pem: root.pem(), http2, left }
}

fn trusting(server: &Secure) -> OriginConfig {
    OriginConfig { extra_roots: vec![server.root_pem.clone().into_bytes()], ..config() }
}

#[tokio::test]
async fn an_extra_root_is_trusted_over_http_1_and_2() {
    for (alpn, http2) in [(&["http/1.1"][..], 0), (&["h2", "http/1.1"], 1)] {
        let server = secure(alpn, String::new()).await;
        let client = OriginClient::new(trusting(&server)).unwrap();
        let url = SourceUrl::parse(&format!("https://{}/f", server.addr)).unwrap();
        let mut body = client.open(&url, RangeRequest::ALL, &Known::default()).await.unwrap();
        assert_eq!(body.total_size(), Some(6));
        assert_eq!(read(&mut body).await.unwrap(), b"secret");
        assert_eq!(server.http2.load(Ordering::Relaxed), http2);
    }
}

#[tokio::test]
async fn everything_else_is_not() {
    let server = secure(&["http/1.1"], String::new()).await;
    let url = SourceUrl::parse(&format!("https://{}/f", server.addr)).unwrap();
    // A root that did not sign.
    let other = secure(&[], String::new()).await;
    for config in [config(), trusting(&other)] {
        let client = OriginClient::new(config).unwrap();
        let error = client.open(&url, RangeRequest::ALL, &Known::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    }
    // The right root, but another name than the certificate's.
    let config = OriginConfig { resolver: Answers::new(&[&["127.0.0.1"]]), ..trusting(&server) };
    let named = SourceUrl::parse(&format!("https://other.example:{}/f", server.addr.port())).unwrap();
    let client = OriginClient::new(config).unwrap();
    let error = client.open(&named, RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    // No TLS on the other side at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = SourceUrl::parse(&format!("https://{}/f", listener.local_addr().unwrap())).unwrap();
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Open until the client has read it and left.
        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    });
    let error = client.open(&url, RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    plain.await.unwrap();
}

#[tokio::test]
async fn a_dropped_body_resets_its_http_2_stream() {
    let server = secure(&["h2"], String::new()).await;
    let client = OriginClient::new(trusting(&server)).unwrap();
    let at = |path| SourceUrl::parse(&format!("https://{}{path}", server.addr)).unwrap();
    let mut body = client.open(&at("/endless"), RangeRequest::ALL, &Known::default()).await.unwrap();
    body.chunk().await.unwrap().unwrap();
    assert!(!*server.left.borrow());
    drop(body);
    // The server lets go of the body: no more of it will be sent.
    server.left.clone().wait_for(|left| *left).await.unwrap();
    // Other streams of the connection are not disturbed.
    let mut body = client.open(&at("/f"), RangeRequest::ALL, &Known::default()).await.unwrap();
    assert_eq!(read(&mut body).await.unwrap(), b"secret");
}

#[tokio::test]
async fn the_guard_pins_addresses_and_keeps_the_name_for_tls() {
    let plain = Server::start(|_| Reply::answer("200 OK", "", "clear")).await;
    let server = secure(&["h2"], plain.url("/f").as_str().to_owned()).await;
    let guard = Guard { allow: vec!["127.0.0.1".parse().unwrap()], ..Guard::default() };
    let config =
        OriginConfig { guard: Some(guard), resolver: Answers::new(&[&["127.0.0.1"]]), ..trusting(&server) };
    let guarded = OriginClient::new(config).unwrap();
    let at = |path| SourceUrl::parse(&format!("https://tls.example:{}{path}", server.addr.port())).unwrap();
    let mut body = guarded.open(&at("/f"), RangeRequest::ALL, &Known::default()).await.unwrap();
    assert_eq!(read(&mut body).await.unwrap(), b"secret");

    // A redirect out of TLS is refused, even to a listed host.
    let error = guarded.open(&at("/down"), RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::Refused(Refusal::Downgrade { host: "127.0.0.1".into() }));
    assert_eq!(plain.seen().connections, 0);
}

#[test]
fn bad_roots_are_named() {
    for (pem, why) in
        [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "1")]
    {
        let extra_roots = vec![pem.as_bytes().to_vec()];
        let error = OriginClient::new(OriginConfig { extra_roots, ..config() }).unwrap_err().to_string();
        assert!(error.contains("extra root certificate 0") && (why == "1" || error.contains(why)), "{error}");
    }
}
