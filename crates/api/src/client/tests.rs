//! Tests of the room's client part.

use std::convert::Infallible;
use std::io::{IoSlice, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use peerage_content::Sha256;
use rcgen::{CertificateParams, CertifiedIssuer, Issuer, KeyPair};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::agent::{DownloadEvent, DownloadRequest, FileStatus};
use crate::{ApiError, Code};

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A TLS server that shows `certificate`, signs with `key`, and answers every request alike.
async fn server(
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    status: u16,
    body: String,
) -> SocketAddr {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shows = Shows(Arc::new(CertifiedKey::new(vec![certificate], key)));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shows));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, acceptor) = (listener.local_addr().unwrap(), TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, body) = (acceptor.clone(), body.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |_: Request<Incoming>| {
                    let answer =
                        Response::builder().status(status).body(Full::new(Bytes::from(body.clone())));
                    async move { Ok::<_, Infallible>(answer.unwrap()) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

fn health() -> String {
    r#"{"version":"9","contents":1,"devices":2,"members":3,"new_field":true}"#.into()
}

fn self_signed(names: &[&str]) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.der().clone(), key)
}

async fn ask(address: SocketAddr, trust: TlsTrust) -> Result<u64, ApiError> {
    let client = CoordinatorClient::new(&format!("https://{address}"), trust)?;
    client.health().await.map(|health| health.counts.map_or(0, |counts| counts.devices))
}

#[tokio::test]
async fn the_pin_decides_and_the_handshake_must_be_signed_by_its_key() {
    let (certificate, key) = self_signed(&["other.example"]);
    let pin = spki_pin(&certificate).unwrap();
    let genuine = server(certificate.clone(), &key, 200, health()).await;
    assert_eq!(ask(genuine, TlsTrust::Pin(pin)).await, Ok(2), "names do not matter to a pin");

    let wrong = ask(genuine, TlsTrust::Pin(Sha256::from_bytes([1; 32]))).await.unwrap_err();
    assert_eq!(wrong.code, Code::Unreachable);
    // Somebody who saw the certificate, but does not have its key.
    let thief = server(certificate, &self_signed(&[]).1, 200, health()).await;
    assert_eq!(ask(thief, TlsTrust::Pin(pin)).await.unwrap_err().code, Code::Unreachable);
}

#[tokio::test]
async fn a_ca_vouches_for_the_host_name_only() {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let issue = |name: &str, issuer: &Issuer<'_, KeyPair>| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        (certificate.der().clone(), key)
    };
    let trust = TlsTrust::Ca(ca.pem().into_bytes());
    let (certificate, key) = issue("127.0.0.1", &ca);
    assert_eq!(ask(server(certificate, &key, 200, health()).await, trust.clone()).await, Ok(2));
    let (certificate, key) = issue("127.0.0.9", &ca);
    let other = ask(server(certificate, &key, 200, health()).await, trust.clone()).await;
    assert_eq!(other.unwrap_err().code, Code::Unreachable);
    let (certificate, key) = self_signed(&["127.0.0.1"]);
    let unsigned = ask(server(certificate, &key, 200, health()).await, trust).await;
    assert_eq!(unsigned.unwrap_err().code, Code::Unreachable);
    let none = CoordinatorClient::new("https://h", TlsTrust::Ca(b"no pem".to_vec()));
    assert_eq!(none.unwrap_err().code, Code::BadRequest);
}

#[tokio::test]
async fn answers_that_are_errors_or_nonsense() {
    let (certificate, key) = self_signed(&["h"]);
    let trust = TlsTrust::Pin(spki_pin(&certificate).unwrap());
    let said = ApiError::new(Code::Guarded, "no");
    for (status, body, code) in [
        (403, serde_json::to_string(&said).unwrap(), Code::Guarded),
        (429, "slow down".into(), Code::TooMany),
        (502, String::new(), Code::Unreachable),
        (302, String::new(), Code::Internal),
        (200, "{".into(), Code::Internal),
        (200, " ".repeat((32 << 20) + 1), Code::Internal),
    ] {
        let address = server(certificate.clone(), &key, status, body).await;
        assert_eq!(ask(address, trust.clone()).await.unwrap_err().code, code, "{status}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(ask(closed, trust.clone()).await.unwrap_err().code, Code::Unreachable);
    for url in ["http://h", "https://u:p@h/", "https://h/?q", "ftp://h", "h", ""] {
        assert_eq!(CoordinatorClient::new(url, trust.clone()).unwrap_err().code, Code::BadRequest, "{url}");
    }
}

/// An agent whose downloads send `chunks` and whose other endpoints answer 404.
fn fake_agent(socket: &Path, chunks: Vec<&'static str>) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let chunks = chunks.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let chunks = chunks.clone();
                    async move { Ok::<_, Infallible>(agent_answer(request.uri().path(), chunks)) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
}

type Chunks = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn agent_answer(path: &str, chunks: Vec<&'static str>) -> Response<Chunks> {
    let body = |chunks: Vec<&str>| {
        let frames: Vec<_> =
            chunks.into_iter().map(|c| Ok(Frame::data(Bytes::copy_from_slice(c.as_bytes())))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    };
    match path {
        "/v1/downloads" => Response::new(body(chunks)),
        "/v1/status" => Response::new(body(vec!["[]"])),
        _ => {
            let mut answer = Response::new(body(vec![r#"{"code":"not_found","message":"no such file"}"#]));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
        }
    }
}

#[tokio::test]
async fn agent_stream_in_any_slices() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let status = serde_json::to_string(&FileStatus { file_size: 7, ..FileStatus::default() }).unwrap();
    let done = format!("{{\"event\":\"done\",\"status\":{status},\"delivery\":\"w\"}}\n");
    let progress = format!("{{\"event\":\"progress\",\"status\":{status}}}\n\n");
    let all: &'static str = Box::leak(format!("{progress}{done}").into_boxed_str());
    let (a, rest) = all.split_at(3);
    let (b, c) = rest.split_at(progress.len() + 5);
    fake_agent(&socket, vec![a, b, c]);
    let client = AgentClient::new(&socket);
    let mut download = client.download(&DownloadRequest::default()).await.unwrap();
    assert!(
        matches!(download.next().await, Ok(Some(DownloadEvent::Progress { status })) if status.file_size == 7)
    );
    assert!(
        matches!(download.next().await, Ok(Some(DownloadEvent::Done { delivery, .. })) if delivery == "w")
    );
    assert!(matches!(download.next().await, Ok(None)));
    assert!(client.status(Some("a&b"), true).await.unwrap().is_empty());
    let missing = client.health().await.unwrap_err();
    assert_eq!((missing.code, missing.message.as_str()), (Code::NotFound, "no such file"));
}

#[tokio::test]
async fn agent_stream_that_is_cut_or_foreign() {
    let dir = tempfile::tempdir().unwrap();
    for (name, chunk, code) in
        [("cut", "{\"event\":\"pro", Code::Unreachable), ("foreign", "hello\n", Code::Internal)]
    {
        let socket = dir.path().join(name);
        fake_agent(&socket, vec![chunk]);
        let mut download = AgentClient::new(&socket).download(&DownloadRequest::default()).await.unwrap();
        assert_eq!(download.next().await.unwrap_err().code, code, "{name}");
    }
    let nobody = AgentClient::new(dir.path().join("nobody"));
    assert_eq!(nobody.health().await.unwrap_err().code, Code::Unreachable);
}

#[tokio::test]
async fn files_come_as_open_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let listener = UnixListener::bind(dir.path().join("agent.sock.files")).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = tokio::io::BufReader::new(stream);
            let mut word = String::new();
            stream.read_line(&mut word).await.unwrap();
            if word != "open sesame\n" {
                continue;
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"forty thieves").unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let files = [file.as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
            sendmsg(stream.get_ref(), &[IoSlice::new(b"\n")], &mut control, SendFlags::empty()).unwrap();
        }
    });
    let mut text = String::new();
    fetch_file(&socket, "open sesame").await.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "forty thieves");
    assert_eq!(fetch_file(&socket, "open barley").await.unwrap_err().code, Code::NotFound);
    assert_eq!(fetch_file(&socket, "a\nb").await.unwrap_err().code, Code::BadRequest);
    assert_eq!(fetch_file(&dir.path().join("x"), "w").await.unwrap_err().code, Code::Unreachable);
}
