//! A certificate authority of the test, for HTTPS origins.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// A certificate authority that only this test knows.
#[derive(Debug)]
pub struct TestCa(CertifiedIssuer<'static, KeyPair>);

/// A server's certificate and key, in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl TestCa {
    /// Makes a new authority.
    ///
    /// # Errors
    /// The key or the certificate cannot be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Peerage test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("cannot make a CA key")?;
        Ok(Self(CertifiedIssuer::self_signed(params, key).context("cannot sign the CA certificate")?))
    }

    /// The authority's certificate, in PEM: what the client under test must trust.
    pub fn cert_pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server that is called `name` or has the address `ip`.
    ///
    /// # Errors
    /// `name` is no DNS name.
    pub fn issue(&self, name: &str, ip: IpAddr) -> Result<Identity> {
        let names = [name.to_owned(), ip.to_string()];
        let params = CertificateParams::new(names).with_context(|| format!("{name:?} is no DNS name"))?;
        let key = KeyPair::generate().context("cannot make a server key")?;
        let cert = params.signed_by(&key, &self.0).with_context(|| format!("cannot sign {name}"))?;
        Ok(Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}
