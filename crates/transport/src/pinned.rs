//! Raw public keys (RFC 7250) instead of certificates: who signs the handshake *is* who the peer is.
//!
//! Invariant: a handshake completes only if the other side signed it with an Ed25519 key, and on the connecting side
//! only with the key that was asked for. Signatures are checked strictly: a key of small order, for which anyone can
//! make signatures, proves nothing.

use peerage_content::{PeerId, PublicKey, Signature};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

/// Everything before the key in the SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 §4).
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The SubjectPublicKeyInfo of a key, in DER.
pub(crate) fn to_spki(key: &PublicKey) -> Vec<u8> {
    [&SPKI_HEAD[..], key.as_bytes()].concat()
}

/// The key in a SubjectPublicKeyInfo; `None` for anything but Ed25519.
pub(crate) fn from_spki(spki: &[u8]) -> Option<PublicKey> {
    let key = spki.strip_prefix(&SPKI_HEAD)?;
    Some(PublicKey::from_bytes(key.try_into().ok()?))
}

/// The other side proved this key instead of the expected one.
#[derive(Debug, thiserror::Error)]
#[error("key of {0}")]
struct OtherKey(PeerId);

/// Who answered instead, if that is why the TLS library gave up.
pub(crate) fn wrong_peer(error: &Error) -> Option<PeerId> {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else { return None };
    cause.downcast_ref::<OtherKey>().map(|other| other.0)
}

/// Accepts one key.
#[derive(Debug)]
pub(crate) struct ExpectedServer(pub(crate) PeerId);

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match key_of(end_entity)? {
            key if key == self.0 => Ok(ServerCertVerified::assertion()),
            other => Err(CertificateError::Other(OtherError(std::sync::Arc::new(OtherKey(other)))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Accepts every Ed25519 key: whether its holder is admitted is decided by the swarm ticket, after the handshake.
#[derive(Debug)]
pub(crate) struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key_of(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Not reached: the configurations know TLS 1.3 alone. The traits ask for an answer all the same.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken between peers".into())
}

fn key_of(spki: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    from_spki(spki).ok_or_else(|| CertificateError::BadEncoding.into())
}

fn verify(
    message: &[u8],
    spki: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let signature = match (signed.scheme, <[u8; 64]>::try_from(signed.signature())) {
        (SignatureScheme::ED25519, Ok(bytes)) => Signature(bytes),
        _ => return Err(CertificateError::BadSignature.into()),
    };
    key_of(spki)?.verify(message, &signature).map_err(|_| CertificateError::BadSignature)?;
    Ok(HandshakeSignatureValid::assertion())
}

#[cfg(test)]
mod tests {
    use peerage_content::SecretKey;

    use super::*;

    #[test]
    fn spki_round_trip_and_nothing_else() {
        let key = SecretKey::from_seed(&[3; 32]).public();
        let spki = to_spki(&key);
        assert_eq!(from_spki(&spki), Some(key));
        assert_eq!(from_spki(&spki[..43]), None);
        assert_eq!(from_spki(&[&spki[..], &[0]].concat()), None);
        let x25519 = [&spki[..8], &[0x6e], &spki[9..]].concat();
        assert_eq!(from_spki(&x25519), None);
    }
}
