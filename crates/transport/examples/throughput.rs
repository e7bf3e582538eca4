//! How fast one connection is on this machine: `throughput [GiB] [part in KiB] [mode…]`.
//!
//! Two threads, a sender and a receiver, each with a runtime of its own, over loopback; the receiver takes payloads in
//! parts of the given size. Modes: `tls` and `clear` are this crate, `verify` is `tls` with each part hashed while it is
//! warm, and `tokio-rustls` is a ready-made record layer for comparison. Prints GiB/s and processor seconds per GiB of
//! either side.

#![allow(clippy::print_stdout, reason = "prints figures")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use peerage_content::{Digester, PIECE_SIZE, PieceHasher, PieceIndex, SecretKey};
use peerage_transport::{Encryption, Identity, Incoming, Listener, Options, accept, connect};
use peerage_wire::DataHead;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const FRAME: usize = PIECE_SIZE as usize;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let gib: u64 = args.next().map_or(Ok(8), |arg| arg.parse()).context("GiB")?;
    let part = args.next().map_or(Ok(256), |arg| arg.parse::<usize>()).context("part in KiB")? << 10;
    let mut modes: Vec<String> = args.collect();
    if modes.is_empty() {
        modes = ["tls", "verify", "clear", "tokio-rustls"].map(String::from).to_vec();
    }
    for mode in modes {
        let started = Instant::now();
        let (to_sender, from_receiver) = mpsc::channel();
        let receiver = spawn(mode.clone(), move |mode| receive(mode, part, to_sender));
        let hello = from_receiver.recv().context("receiver did not start")?;
        let sender = spawn(mode.clone(), move |mode| send(mode, hello, gib << 10));
        let output = join(sender)? / gib as f64;
        let input = join(receiver)? / gib as f64;
        let rate = gib as f64 / started.elapsed().as_secs_f64();
        println!("{mode:>12}: {rate:.2} GiB/s; CPU s/GiB: sender {output:.3}, receiver {input:.3}");
    }
    Ok(())
}

/// Runs one side on a thread and a runtime of its own; it yields the processor seconds it took.
fn spawn<F>(mode: String, side: impl FnOnce(String) -> F + Send + 'static) -> JoinHandle<Result<f64>>
where
    F: Future<Output = Result<()>>,
{
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(side(mode))?;
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    })
}

fn join(thread: JoinHandle<Result<f64>>) -> Result<f64> {
    thread.join().map_err(|_| anyhow!("thread panicked"))?
}

/// What the receiver tells the sender: where it listens, and the ready-made layer's certificate.
struct Hello {
    address: SocketAddr,
    certificate: Option<rustls::pki_types::CertificateDer<'static>>,
}

fn identity(seed: u8) -> Result<Identity> {
    Ok(Identity::new(&SecretKey::from_seed(&[seed; 32]))?)
}

fn options(mode: &str) -> Options {
    let encryption = if mode == "clear" { Encryption::Off } else { Encryption::Required };
    Options { encryption, ..Options::default() }
}

fn payload() -> Vec<u8> {
    (0..FRAME).map(|i| (i / 7) as u8).collect()
}

async fn receive(mode: String, part: usize, hello: mpsc::Sender<Hello>) -> Result<()> {
    let mut page = vec![0; FRAME];
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if mode == "tokio-rustls" {
        let listener = TcpListener::bind(any).await?;
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let certificate = made.cert.der().clone();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        hello.send(Hello { address: listener.local_addr()?, certificate: Some(certificate) })?;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let mut tls = acceptor.accept(listener.accept().await?.0).await?;
        while tls.read_exact(&mut page).await.is_ok() {}
        return Ok(());
    }
    let listener = Listener::bind(any)?;
    hello.send(Hello { address: listener.local_addr()?, certificate: None })?;
    let connection = accept(listener.next().await?.0, &identity(1)?, &options(&mode)).await?;
    let (mut reader, _writer) = connection.split();
    // Two equal pieces, so that a piece is a subtree and not the root.
    let mut digester = Digester::new();
    digester.update(&payload());
    digester.update(&payload());
    let map = digester.finish()?.map;
    while let Ok(Incoming::Data(head)) = reader.next().await {
        let mut hasher = PieceHasher::new(map.clone(), PieceIndex(head.piece.0 % 2));
        for (at, part) in (0_u32..).zip(page.chunks_mut(part)) {
            reader.read_payload(part).await?;
            if mode == "verify" {
                hasher.update(at * part.len() as u32, part)?;
            }
        }
        if mode == "verify" {
            hasher.finish()?;
        }
    }
    Ok(())
}

async fn send(mode: String, to: Hello, frames: u64) -> Result<()> {
    let payload = payload();
    if let Some(certificate) = to.certificate {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate)?;
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(to.address).await?;
        let name = rustls::pki_types::ServerName::IpAddress(to.address.ip().into());
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        for _ in 0..frames {
            tls.write_all(&payload).await?;
        }
        return Ok(tls.shutdown().await?);
    }
    let connection = connect(to.address, identity(1)?.peer(), &identity(2)?, &options(&mode)).await?;
    let (_reader, mut writer) = connection.split();
    for piece in 0..frames {
        let head = DataHead { piece: PieceIndex(piece as u32), offset: 0, len: FRAME as u32 };
        writer.send_data(head, &payload).await?;
    }
    Ok(writer.close().await?)
}

/// The same cipher as ours.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    use rustls::crypto::aws_lc_rs;
    let cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(rustls::crypto::CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}
