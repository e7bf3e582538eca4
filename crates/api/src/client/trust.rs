//! Whom a client believes that it is the coordinator.
//!
//! Invariant: a connection is used only if the other side proved that it holds the private key of the certificate it
//! showed, and that certificate is pinned or leads to a trusted root. A pin alone, without the check of the
//! handshake's signature, would let anybody who has seen the certificate stand in for its owner.

use std::sync::{Arc, Mutex, PoisonError};

use peerage_content::Sha256;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::Digest as _;
use subtle::ConstantTimeEq;

/// Whom to believe that it is the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsTrust {
    /// Whoever holds the key with this SHA-256 of its SubjectPublicKeyInfo: what an enrolment token carries. Names and
    /// dates in the certificate do not matter.
    Pin(Sha256),
    /// Whoever has a certificate for the host name that leads to a root of this system.
    SystemRoots,
    /// The same with these roots (PEM) and no others.
    Ca(Vec<u8>),
}

/// Trust cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The PEM text holds no usable certificate.
    #[error("no usable certificate among the roots: {0}")]
    Roots(String),
    /// The TLS library refused.
    #[error("could not set up tls: {0}")]
    Tls(String),
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo.
///
/// # Errors
/// Not a certificate.
pub fn spki_pin(certificate: &CertificateDer<'_>) -> Result<Sha256, Error> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(Sha256::from_bytes(sha2::Sha256::digest(spki.as_ref()).into()))
}

/// The key that the coordinator showed on the last connection.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenPin(Arc<Mutex<Option<Sha256>>>);

impl SeenPin {
    pub(super) fn get(&self) -> Option<Sha256> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, pin: Sha256) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(pin);
    }
}

/// The TLS configuration for a kind of trust, and where it notes the key it saw.
pub(super) fn client_config(trust: &TlsTrust) -> Result<(ClientConfig, SeenPin), TrustError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let seen = SeenPin::default();
    let check = match trust {
        TlsTrust::Pin(pin) => Check::Pin(*pin),
        TlsTrust::SystemRoots => Check::Roots(webpki(system_roots()?, &provider)?),
        TlsTrust::Ca(pem) => Check::Roots(webpki(pem_roots(pem)?, &provider)?),
    };
    let verifier = Verifier { check, provider: Arc::clone(&provider), seen: seen.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Tls(error.to_string()))?
        .dangerous() // The verifier below is what stands in for the default one.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, seen))
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "the system has none".into(), ToString::to_string);
        return Err(TrustError::Roots(why));
    }
    Ok(roots)
}

fn pem_roots(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| TrustError::Roots(error.to_string()))?;
        roots.add(certificate).map_err(|error| TrustError::Roots(error.to_string()))?;
    }
    if roots.is_empty() { Err(TrustError::Roots("the pem text has none".into())) } else { Ok(roots) }
}

fn webpki(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TrustError::Tls(error.to_string()))
}

#[derive(Debug)]
enum Check {
    Pin(Sha256),
    Roots(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
    seen: SeenPin,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = spki_pin(end_entity)?;
        match &self.check {
            Check::Pin(pin) => {
                if !bool::from(found.as_bytes().ct_eq(pin.as_bytes())) {
                    return Err(CertificateError::ApplicationVerificationFailure.into());
                }
            }
            Check::Roots(roots) => {
                roots.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
            }
        }
        self.seen.set(found);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
