//! The coordinator from outside: real TLS on loopback, in one process.

mod access;
mod announce;
mod ingest;
mod origin;
mod policy;
mod publish;
mod relay;
mod restart;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerage_api::client::{
    AdminClient, ClientOptions, CoordinatorClient, DeviceClient, DeviceCredentials, TlsTrust,
};
use peerage_api::coordinator::{Counts, PublishRequest, ResolveRequest, ResolveResponse};
use peerage_content::{
    ContentRecord, Digester, EnrolToken, PublicKey, ScopeSet, SecretKey, Signed, Validators,
};
use peerage_origin::{Resolver, SystemResolver};

use crate::{Config, Running};

/// A coordinator and what a device would need to know of it.
struct World {
    running: Running,
    admin_token: EnrolToken,
    token: EnrolToken,
    key: PublicKey,
    dir: tempfile::TempDir,
}

fn config(dir: &Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        ingest_allow: vec!["127.0.0.1".into()],
        ..Config::default()
    }
}

fn token(path: &Path) -> EnrolToken {
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start(tempfile::tempdir().unwrap(), change, Arc::new(SystemResolver)).await
    }

    async fn start(
        dir: tempfile::TempDir,
        change: impl FnOnce(&mut Config),
        resolver: Arc<dyn Resolver>,
    ) -> Self {
        let mut config = config(dir.path());
        change(&mut config);
        let coordinator = config.build_with(resolver).await.unwrap();
        let admin_token = token(&coordinator.admin_token_path());
        let token = token(&coordinator.enroll_token_path());
        let key = coordinator.catalog_key();
        assert_eq!((token.tls_pin, token.catalog_key), (coordinator.tls_pin(), key));
        Self { running: coordinator.spawn(), admin_token, token, key, dir }
    }

    /// Ends it and starts it again in the same directory.
    async fn restart(self) -> Self {
        let Self { running, dir, .. } = self;
        running.drain(Duration::from_secs(10)).await;
        Self::start(dir, |_| {}, Arc::new(SystemResolver)).await
    }

    fn url(&self) -> String {
        format!("https://{}", self.running.address())
    }

    fn client(&self) -> CoordinatorClient {
        CoordinatorClient::new(&self.url(), TlsTrust::Pin(self.token.tls_pin)).unwrap()
    }

    fn client_from(&self, local: &str) -> CoordinatorClient {
        let local_address: Option<IpAddr> = Some(local.parse().unwrap());
        let options = ClientOptions { local_address, ..ClientOptions::default() };
        CoordinatorClient::with_options(&self.url(), TlsTrust::Pin(self.token.tls_pin), options).unwrap()
    }

    fn admin(&self) -> AdminClient {
        self.client().admin(&self.admin_token)
    }

    /// How much it says there is.
    async fn counts(&self) -> Counts {
        self.admin().health().await.unwrap().counts.unwrap()
    }

    /// An enrolled device that connects from `local`.
    async fn device_from(&self, n: u8, local: &str) -> DeviceClient {
        let client = self.client_from(local);
        client.enroll(&self.token, &key(n), "box").await.unwrap();
        client.device(DeviceCredentials { key: key(n) })
    }

    async fn device(&self, n: u8) -> DeviceClient {
        self.device_from(n, "127.0.0.1").await
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

/// A publish request for `bytes`.
fn publication(bytes: &[u8], url: &str) -> PublishRequest {
    let mut digester = Digester::new();
    digester.update(bytes);
    let digest = digester.finish().unwrap();
    PublishRequest {
        urls: vec![url.to_owned()],
        sha256: digest.sha256,
        map: URL_SAFE_NO_PAD.encode(digest.map.to_bytes()),
        id: digest.id,
        validators: Validators::default(),
        scopes: ScopeSet::ALL,
        valid_s: None,
    }
}

fn by_url(url: impl Into<String>) -> ResolveRequest {
    ResolveRequest { url: Some(url.into()), wait_ms: 20_000, ..ResolveRequest::default() }
}

/// The record in an answer, its signature checked.
#[track_caller]
fn known(answer: ResolveResponse, key: PublicKey) -> Signed<ContentRecord> {
    match answer {
        ResolveResponse::Known { record, .. } => record.check(&[key]).unwrap(),
        other => panic!("not known: {other:?}"),
    }
}

#[track_caller]
fn refusal(answer: ResolveResponse) -> (String, Option<u64>) {
    match answer {
        ResolveResponse::Refused { reason, retry_after_s } => (reason, retry_after_s),
        other => panic!("not refused: {other:?}"),
    }
}
