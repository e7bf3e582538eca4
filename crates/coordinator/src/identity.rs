//! The coordinator's keys and the two tokens it starts with. Made at the first start, kept for ever after.
//!
//! | file | holds |
//! |---|---|
//! | `tls.key`, `tls.crt` | the TLS key and its self-signed certificate, unless the administrator brings their own |
//! | `catalog.key` | the Ed25519 seed that signs records and tickets, in hex |
//! | `session.key` | the secret behind session tokens, in hex |
//! | `site.key` | the secret by which devices know each other without a coordinator, in hex; see `site.rs` |
//! | `admin.token`, `enroll.token` | text forms of [`EnrolToken`]: secret, TLS pin, catalog key |
//!
//! The tokens' secrets never change by themselves; their pin follows the TLS key, so they are rewritten when that does.
//! Removing `admin.token`, `enroll.token`, `session.key` or `site.key` and starting again makes a new one and voids the old.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use peerage_api::client::spki_pin;
use peerage_content::{EnrolToken, SecretKey, Sha256, SiteKey};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::data_dir::{DataDir, DataDirError};
use crate::{Config, random};

pub(crate) const ADMIN_TOKEN: &str = "admin.token";
pub(crate) const ENROLL_TOKEN: &str = "enroll.token";
const TLS_KEY: &str = "tls.key";
const TLS_CERT: &str = "tls.crt";
const CATALOG_KEY: &str = "catalog.key";
const SESSION_KEY: &str = "session.key";
pub(crate) const SITE_KEY: &str = "site.key";

/// The keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The administrator's certificate or key cannot be read.
    #[error("could not read {path}: {why}")]
    Own {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The certificate is not for the key.
    #[error("certificate {path} does not belong to the private key: {why}")]
    Mismatch {
        /// The certificate's file.
        path: String,
        /// What the TLS library says.
        why: String,
    },
    /// A key or certificate cannot be made.
    #[error("could not make a tls certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The system gives no randomness.
    #[error(transparent)]
    Random(#[from] random::RandomError),
}

#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) tls: Arc<CertifiedKey>,
    pub(crate) pin: Sha256,
    pub(crate) catalog: SecretKey,
    pub(crate) session_key: [u8; 32],
    pub(crate) site_key: SiteKey,
    pub(crate) admin: EnrolToken,
    pub(crate) enroll: EnrolToken,
}

impl Identity {
    pub(crate) fn load(
        config: &Config,
        dir: &DataDir,
        provider: &CryptoProvider,
    ) -> Result<Self, IdentityError> {
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => {
                let read = |path: &Path| std::fs::read(path).map_err(|error| own(path, &error.to_string()));
                certified(certificate, &read(certificate)?, key, &read(key)?, provider)?
            }
            _ => self_signed(dir, config.listen.ip(), provider)?,
        };
        let certificate =
            tls.end_entity_cert().map_err(|error| own(Path::new(TLS_CERT), &error.to_string()))?;
        let pin = spki_pin(certificate).map_err(|error| own(Path::new(TLS_CERT), &error.to_string()))?;
        let catalog = SecretKey::from_seed(&secret32(dir, CATALOG_KEY)?);
        let session_key = secret32(dir, SESSION_KEY)?;
        let site_key = SiteKey::from_bytes(secret32(dir, SITE_KEY)?);
        let token = |name| token(dir, name, pin, &catalog);
        let (admin, enroll) = (token(ADMIN_TOKEN)?, token(ENROLL_TOKEN)?);
        Ok(Self { tls: Arc::new(tls), pin, catalog, session_key, site_key, admin, enroll })
    }
}

fn own(path: &Path, why: &str) -> IdentityError {
    IdentityError::Own { path: path.display().to_string(), why: why.to_owned() }
}

fn certified(
    certificate_path: &Path,
    certificate: &[u8],
    key_path: &Path,
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, IdentityError> {
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| own(certificate_path, &error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| own(key_path, &error.to_string()))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| IdentityError::Mismatch {
        path: certificate_path.display().to_string(),
        why: error.to_string(),
    })
}

fn self_signed(
    dir: &DataDir,
    listen: IpAddr,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, IdentityError> {
    let key = match dir.read(TLS_KEY)? {
        Some(pem) => {
            let pem = String::from_utf8(pem).map_err(|_| dir.damaged(TLS_KEY, "not text"))?;
            KeyPair::from_pem(&pem).map_err(|error| dir.damaged(TLS_KEY, error))?
        }
        None => {
            let key = KeyPair::generate()?;
            dir.write(TLS_KEY, key.serialize_pem().as_bytes())?;
            key
        }
    };
    let path = dir.path(TLS_CERT);
    let load =
        |pem: &[u8]| certified(&path, pem, &dir.path(TLS_KEY), key.serialize_pem().as_bytes(), provider);
    // Kept while it fits the key: somebody may trust this very certificate.
    if let Some(tls) = dir.read(TLS_CERT)?.and_then(|pem| load(&pem).ok()) {
        return Ok(tls);
    }
    let pem = CertificateParams::new(names(listen))?.self_signed(&key)?.pem();
    dir.write(TLS_CERT, pem.as_bytes())?;
    load(pem.as_bytes())
}

/// What the certificate is for. Pinned clients do not look at it; browsers and `curl --cacert` do.
fn names(listen: IpAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_name = !node.is_empty()
        && node.len() <= 253
        && node.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if is_name && node != "localhost" {
        names.push(node);
    }
    if !listen.is_unspecified() {
        names.push(listen.to_canonical().to_string());
    }
    names
}

fn secret32(dir: &DataDir, name: &str) -> Result<[u8; 32], IdentityError> {
    if let Some(text) = dir.read(name)? {
        let text = String::from_utf8(text).map_err(|_| dir.damaged(name, "not text"))?;
        // Any 32 bytes in hex read like a SHA-256 does.
        let value: Sha256 = text.trim().parse().map_err(|_| dir.damaged(name, "not 64 hex digits"))?;
        return Ok(*value.as_bytes());
    }
    let secret = random::bytes::<32>()?;
    dir.write(name, format!("{}\n", Sha256::from_bytes(secret)).as_bytes())?;
    Ok(secret)
}

fn token(dir: &DataDir, name: &str, pin: Sha256, catalog: &SecretKey) -> Result<EnrolToken, IdentityError> {
    let kept = match dir.read(name)? {
        None => None,
        Some(text) => {
            let text = String::from_utf8(text).map_err(|_| dir.damaged(name, "not text"))?;
            Some(text.parse::<EnrolToken>().map_err(|error| dir.damaged(name, error))?)
        }
    };
    let secret = match &kept {
        Some(token) => token.secret,
        None => random::bytes()?,
    };
    let token = EnrolToken { secret, tls_pin: pin, catalog_key: catalog.public() };
    if kept != Some(token) {
        dir.write(name, format!("{token}\n").as_bytes())?;
    }
    Ok(token)
}
