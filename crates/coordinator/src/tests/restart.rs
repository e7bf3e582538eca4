//! What a restart keeps, and what it must not need.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use peerage_api::Code;
use peerage_api::client::{DeviceCredentials, bearer_of};
use peerage_api::coordinator::{NewTokenRequest, ResolveRequest, ResolveResponse};
use peerage_content::EnrolToken;
use rcgen::{CertificateParams, KeyPair};

use super::origin::{Origin, Page};
use super::{World, by_url, config, key, known, publication, refusal, token};
use crate::BuildError;

#[tokio::test]
async fn catalog_enrolments_keys_and_tokens_stay() {
    let world = World::new().await;
    let device = world.device(1).await;
    let session = device.session(false).await.unwrap().token;
    let request = publication(&[1; 1_500_000], "http://h.example/f");
    let published = world.admin().publish(&request).await.unwrap();
    let once = world
        .admin()
        .new_token(&NewTokenRequest { uses: Some(1), ..NewTokenRequest::default() })
        .await
        .unwrap();
    let once: EnrolToken = once.token.parse().unwrap();
    world.device(2).await;
    world.admin().revoke(key(2).public()).await.unwrap();
    let (admin, enrol) = (world.admin_token, world.token);

    let world = world.restart().await;
    assert_eq!((world.admin_token, world.token), (admin, enrol), "tokens, pin and catalog key");
    // The very session from before, not a new one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap();
    let by_id = ResolveRequest { id: Some(published.id), ..Default::default() };
    let ask = |bearer: String| http.post(world.url() + "/v1/resolve").bearer_auth(bearer).json(&by_id).send();
    assert_eq!(ask(session).await.unwrap().status(), 200);
    assert_eq!(ask(bearer_of(&admin)).await.unwrap().status(), 401);

    let device = world.client().device(DeviceCredentials { key: key(1) });
    let record = known(device.resolve(&by_url("http://h.example/f")).await.unwrap(), world.key);
    assert_eq!(record.get().id, published.id);
    assert_eq!(device.map(published.id).await.unwrap().layout().size(), 1_500_000);
    world.client().enroll(&once, &key(3), "x").await.unwrap();
    world.client().enroll(&once, &key(4), "x").await.unwrap_err();
    world.client().device(DeviceCredentials { key: key(2) }).session(false).await.unwrap_err();
    let newer = world.admin().publish(&publication(b"x", "http://h.example/g")).await.unwrap();
    let newer = newer.record.check::<peerage_content::ContentRecord>(&[world.key]).unwrap();
    assert!(newer.get().serial > record.get().serial);
}

#[tokio::test]
async fn secrets_are_private_and_removing_a_token_voids_it() {
    let world = World::new().await;
    let data = world.dir.path().join("data");
    for entry in std::fs::read_dir(&data).unwrap().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let expected = if entry.file_type().unwrap().is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{:?}", entry.file_name());
    }
    assert!(matches!(config(world.dir.path()).build().await, Err(BuildError::DataDir(_))), "in use");
    world.device(1).await;
    let old = world.token;
    std::fs::remove_file(data.join("enroll.token")).unwrap();
    let world = world.restart().await;
    assert_ne!(world.token, old);
    world.client().enroll(&old, &key(2), "x").await.unwrap_err();
    world.device(3).await;
    assert_eq!(world.admin().devices().await.unwrap().len(), 2, "enrolled devices stay");
}

#[tokio::test]
async fn own_certificates_and_the_pin_that_follows_them() {
    let dir = tempfile::tempdir().unwrap();
    let key_pair = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key_pair).unwrap();
    let (cert, key_path) = (dir.path().join("own.crt"), dir.path().join("own.key"));
    std::fs::write(&cert, certificate.pem()).unwrap();
    std::fs::write(&key_path, key_pair.serialize_pem()).unwrap();
    let plain = config(dir.path());
    let own = crate::Config { tls_cert: Some(cert.clone()), tls_key: Some(key_path), ..plain.clone() };

    let first = plain.clone().build().await.unwrap();
    let before = token(&first.enroll_token_path());
    drop(first);
    let second = own.clone().build().await.unwrap();
    let after = token(&second.enroll_token_path());
    assert_eq!((before.secret, before.catalog_key), (after.secret, after.catalog_key));
    assert_ne!(before.tls_pin, after.tls_pin);
    let running = second.spawn();
    let trust = peerage_api::client::TlsTrust::Pin(after.tls_pin);
    let url = format!("https://{}", running.address());
    peerage_api::client::CoordinatorClient::new(&url, trust).unwrap().health().await.unwrap();
    running.drain(Duration::from_secs(10)).await;

    let other = KeyPair::generate().unwrap();
    std::fs::write(
        &cert,
        CertificateParams::new(["h".to_owned()]).unwrap().self_signed(&other).unwrap().pem(),
    )
    .unwrap();
    assert!(matches!(own.build().await, Err(BuildError::Identity(_))), "certificate of another key");
}

#[tokio::test]
async fn draining_answers_long_polls() {
    let (world, origin) = (World::new().await, Origin::new().await);
    origin.put("/f", Page::Gated { body: vec![1] });
    let device = world.device(1).await;
    let mut now = by_url(origin.url("/f"));
    now.wait_ms = 0;
    device.resolve(&now).await.unwrap();
    let patient = by_url(origin.url("/f"));
    let asking = tokio::spawn(async move { device.resolve(&patient).await });
    while origin.counts().0 == 0 {
        tokio::task::yield_now().await;
    }
    // Ends long before the poll would: the gate is never opened.
    world.running.drain(Duration::from_secs(25)).await;
    // Answered with how far it is, or cut off where the request had not been read yet; never left hanging.
    match asking.await.unwrap() {
        Ok(ResolveResponse::Pending { .. }) => {}
        Ok(answer) => assert!(refusal(answer).0.contains("shutting down")),
        Err(error) => assert_eq!(error.code, Code::Unreachable),
    }
}
