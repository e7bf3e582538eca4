//! Peers for the tests: two of ours, and a foreign one that speaks TLS by the book of another implementation.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "clippy knows tests only by their attribute")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use peerage_content::{PeerId, PieceIndex, SecretKey};
use peerage_transport::{
    Connection, Encryption, FrameReader, Identity, Incoming, Listener, Options, TransportError, accept,
    connect,
};
use peerage_wire::DataHead;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, SupportedCipherSuite};

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub fn peer(seed: u8) -> PeerId {
    key(seed).public()
}

pub fn identity(seed: u8) -> Identity {
    Identity::new(&key(seed)).unwrap()
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub fn options(encryption: Encryption) -> Options {
    Options { encryption, ..Options::default() }
}

pub fn data(piece: u32, len: usize) -> DataHead {
    DataHead { piece: PieceIndex(piece), offset: 0, len: len as u32 }
}

/// Peer 1 connects to peer 2; what either side says.
pub async fn meet(
    ours: &Options,
    theirs: &Options,
) -> (Result<Connection, TransportError>, Result<Connection, TransportError>) {
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr().unwrap();
    let (one, two) = (identity(1), identity(2));
    tokio::join!(connect(addr, peer(2), &one, ours), async {
        accept(listener.next().await?.0, &two, theirs).await
    })
}

/// Peers 1 and 2, connected.
pub async fn pair(encryption: Encryption) -> (Connection, Connection) {
    let options = options(encryption);
    let (one, two) = meet(&options, &options).await;
    (one.unwrap(), two.unwrap())
}

/// Numbers that look random and are the same each time (xorshift64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// 1 to 2^`bits`, every magnitude equally often.
    pub fn size(&mut self, bits: u64) -> usize {
        let magnitude = self.below(bits + 1);
        1 + self.below(1 << magnitude) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }
}

/// A frame with a payload of `len` bytes, and that payload.
pub fn frame(piece: u32, len: usize) -> (Vec<u8>, Vec<u8>) {
    let payload = Numbers(u64::from(piece) + 1).bytes(len);
    ([&data(piece, len).encode()[..], &payload].concat(), payload)
}

pub async fn expect_frame(reader: &mut FrameReader, piece: u32, payload: &[u8]) {
    assert_eq!(reader.next().await.unwrap(), Incoming::Data(data(piece, payload.len())));
    let mut got = vec![0; payload.len()];
    reader.read_payload(&mut got).await.unwrap();
    assert!(got == payload);
}

/// What a foreign client does.
#[derive(Clone, Copy)]
pub struct Manners {
    pub alpn: Option<&'static [u8]>,
    pub has_key: bool,
    pub suite: SupportedCipherSuite,
}

impl Default for Manners {
    fn default() -> Self {
        let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        Self { alpn: Some(b"peerage/1"), has_key: true, suite }
    }
}

/// A client with the record layer of rustls, on a blocking socket. Its key is that of peer 3.
pub struct Foreign {
    pub tls: ClientConnection,
    pub tcp: TcpStream,
}

impl Foreign {
    pub fn new(addr: SocketAddr, manners: Manners) -> Self {
        let provider = CryptoProvider { cipher_suites: vec![manners.suite], ..aws_lc_rs::default_provider() };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting));
        let mut config = if manners.has_key {
            let private = PrivateKeyDer::Pkcs8(key(3).to_pkcs8().into());
            let signer = aws_lc_rs::default_provider().key_provider.load_private_key(private).unwrap();
            let spki = signer.public_key().unwrap().to_vec();
            let certified = rustls::sign::CertifiedKey::new(vec![CertificateDer::from(spki)], signer);
            let resolver = rustls::client::AlwaysResolvesClientRawPublicKeys::new(Arc::new(certified));
            config.with_client_cert_resolver(Arc::new(resolver))
        } else {
            config.with_no_client_auth()
        };
        config.alpn_protocols = manners.alpn.map(<[u8]>::to_vec).into_iter().collect();
        let name = ServerName::IpAddress(addr.ip().into());
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        tls.set_buffer_limit(None);
        Self { tls, tcp: TcpStream::connect(addr).unwrap() }
    }

    /// Runs the handshake, but keeps the last flight: what is written from now on goes with it.
    pub fn handshake(&mut self) -> Result<(), rustls::Error> {
        while self.tls.is_handshaking() {
            self.send();
            if self.tls.read_tls(&mut self.tcp).unwrap() == 0 {
                return Err(rustls::Error::HandshakeNotComplete);
            }
            self.tls.process_new_packets()?;
        }
        Ok(())
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
    }

    /// What would be sent now.
    pub fn sealed(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        out
    }

    pub fn send(&mut self) {
        let out = self.sealed();
        self.tcp.write_all(&out).unwrap();
    }

    /// All data up to the orderly end; an error if the end is not orderly.
    pub fn read_to_end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut all = Vec::new();
        rustls::Stream::new(&mut self.tls, &mut self.tcp).read_to_end(&mut all)?;
        Ok(all)
    }
}

/// Runs a foreign client beside an accepting peer 2; the result of either.
pub async fn with_foreign<T: Send + 'static>(
    manners: Manners,
    encryption: Encryption,
    client: impl FnOnce(Foreign) -> T + Send + 'static,
) -> (Result<Connection, TransportError>, tokio::task::JoinHandle<T>) {
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = tokio::task::spawn_blocking(move || client(Foreign::new(addr, manners)));
    let (tcp, _) = listener.next().await.unwrap();
    (accept(tcp, &identity(2), &options(encryption)).await, client)
}

/// Takes any server.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let spki = cert.as_ref().into();
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &spki, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
