//! Who this device is on the wire: its Ed25519 key and the TLS configurations made from it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use peerage_content::{PeerId, SecretKey};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use crate::TransportError;
use crate::buffer::BufferPool;
use crate::pinned::{AnyClient, ExpectedServer, to_spki};

/// ALPN name of the encrypted peer protocol.
const ALPN: &[u8] = b"peerage/1";
/// ALPN name of the peer protocol in clear text after the handshake.
const ALPN_CLEAR: &[u8] = b"peerage/1-clear";

/// Whether frames may travel in clear text (setting `peer_encryption`).
///
/// The handshake is TLS 1.3 in either case, so both sides have proved their keys, and since the choice is part of the
/// signed handshake nobody on the way can bring it about. Clear text is used only if **both** sides have it `Off`. From
/// then on nothing but the piece map protects the bytes: who can change them on the way can forge messages in the
/// peer's name and end the connection unnoticed, but can not pass a wrong piece for a right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encryption {
    /// Never clear text.
    #[default]
    Required,
    /// Clear text with a peer that has it `Off` as well; encrypted with all others.
    Off,
}

impl Encryption {
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Required => vec![ALPN.to_vec()],
            Self::Off => vec![ALPN_CLEAR.to_vec(), ALPN.to_vec()],
        }
    }

    /// What the handshake agreed on: whether the frames are encrypted. `None`: no peer protocol at all.
    pub(crate) fn agreed(self, alpn: Option<&[u8]>) -> Option<bool> {
        match alpn {
            Some(name) if name == ALPN => Some(true),
            Some(name) if name == ALPN_CLEAR && self == Self::Off => Some(false),
            _ => None,
        }
    }
}

/// The device's key, ready for handshakes in both roles. Cheap to clone; clones share their buffers.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    peer: PeerId,
    client: ClientConfig,
    server_required: Arc<ServerConfig>,
    server_off: Arc<ServerConfig>,
    pool: BufferPool,
}

impl Identity {
    /// Makes the TLS configurations of a key: TLS 1.3 only, raw public keys on both sides, no resumption, no 0-RTT.
    ///
    /// # Errors
    /// The TLS library does not take the key.
    pub fn new(key: &SecretKey) -> Result<Self, TransportError> {
        let peer = key.public();
        Self::configure(key, peer).map_err(|source| TransportError::Identity { peer, source })
    }

    fn configure(key: &SecretKey, peer: PeerId) -> Result<Self, rustls::Error> {
        let provider = Arc::new(provider());
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8()));
        let signer = provider.key_provider.load_private_key(private)?;
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(to_spki(&peer))], signer));

        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            // Replaced by the expected key for each connection; nobody can prove this one by accident.
            .with_custom_certificate_verifier(Arc::new(ExpectedServer(peer)))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified.clone())));
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        client.enable_secret_extraction = true;

        let server = |encryption: Encryption| -> Result<_, rustls::Error> {
            let mut config = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_client_cert_verifier(Arc::new(AnyClient))
                .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified.clone())));
            config.session_storage = Arc::new(NoServerSessionStorage {});
            // A ticket would be a post-handshake message, which the record layer refuses.
            config.send_tls13_tickets = 0;
            config.enable_secret_extraction = true;
            config.alpn_protocols = encryption.alpn();
            Ok(Arc::new(config))
        };
        let (server_required, server_off) = (server(Encryption::Required)?, server(Encryption::Off)?);
        Ok(Self(Arc::new(Inner { peer, client, server_required, server_off, pool: BufferPool::default() })))
    }

    /// Who this device is.
    pub fn peer(&self) -> PeerId {
        self.0.peer
    }

    pub(crate) fn pool(&self) -> &BufferPool {
        &self.0.pool
    }

    pub(crate) fn client(
        &self,
        expected: PeerId,
        remote: IpAddr,
        encryption: Encryption,
    ) -> Result<ClientConnection, rustls::Error> {
        let mut config = self.0.client.clone();
        config.dangerous().set_certificate_verifier(Arc::new(ExpectedServer(expected)));
        config.alpn_protocols = encryption.alpn();
        // The name is neither sent nor checked: the key is the name.
        ClientConnection::new(Arc::new(config), ServerName::IpAddress(remote.into()))
    }

    pub(crate) fn server(&self, encryption: Encryption) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(match encryption {
            Encryption::Required => self.0.server_required.clone(),
            Encryption::Off => self.0.server_off.clone(),
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.peer.short())
    }
}

/// The algorithms, best first. AES-128 leads: it is the fastest on processors with AES instructions and strong enough;
/// ChaCha20 is there for those without. Passed explicitly, so the process-wide default stays free for others.
fn provider() -> CryptoProvider {
    use aws_lc_rs::{cipher_suite as suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    }
}
