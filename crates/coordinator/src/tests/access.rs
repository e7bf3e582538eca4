//! Who may do what.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use peerage_api::client::{CoordinatorClient, DeviceCredentials, TlsTrust, bearer_of};
use peerage_api::coordinator::{
    EnrollRequest, NewTokenRequest, ResolveRequest, SessionRequest, SessionResponse, enroll_proof,
    session_proof,
};
use peerage_api::{ApiError, Code};
use peerage_content::{EnrolToken, SecretKey, Sha256};

use super::{World, key};
use crate::http::{Endpoint, ROUTES};

/// An HTTPS client that looks at nothing: for requests that the typed client cannot make.
fn raw() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn session_request(world: &World, key: &SecretKey, time: u64) -> SessionRequest {
    let proof = key.sign(&session_proof(&key.public(), time, &world.token.tls_pin));
    SessionRequest { peer: key.public(), time, proof: URL_SAFE_NO_PAD.encode(proof.0) }
}

#[tokio::test]
async fn every_route_is_closed_unless_it_says_otherwise() {
    let open: Vec<_> =
        ROUTES.iter().filter(|r| matches!(r.endpoint, Endpoint::Open(_))).map(|r| r.path).collect();
    assert_eq!(open, ["/v1/health", "/v1/enroll", "/v1/session"]);

    let world = World::new().await;
    let session = world.device(1).await.session(false).await.unwrap().token;
    let admin = bearer_of(&world.admin_token);
    let enrol = bearer_of(&world.token);
    let ask = async |method: &Method, path: &str, bearer: Option<&str>| {
        let path = path.replace("{id}", &"0".repeat(64)).replace("{peer}", &"0".repeat(64));
        let mut request = raw().request(method.clone(), world.url() + &path).body("{}");
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        request.send().await.unwrap().status()
    };
    let closed = ROUTES.iter().filter(|route| !matches!(route.endpoint, Endpoint::Open(_)));
    for route in closed.clone() {
        let (method, path) = (&route.method, route.path);
        for bearer in [None, Some(""), Some("AAAA"), Some(enrol.as_str())] {
            assert_eq!(
                ask(method, path, bearer).await,
                StatusCode::UNAUTHORIZED,
                "{method} {path} {bearer:?}"
            );
        }
        let for_admins = matches!(route.endpoint, Endpoint::Admin(_));
        let (right, wrong) = if for_admins { (&admin, &session) } else { (&session, &admin) };
        assert_eq!(ask(method, path, Some(wrong)).await, StatusCode::UNAUTHORIZED, "{method} {path}");
        assert_ne!(ask(method, path, Some(right)).await, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    assert_eq!(closed.count(), 14);
    assert_eq!(ask(&Method::GET, "/v1/health", None).await, StatusCode::OK);
    assert_eq!(ask(&Method::HEAD, "/v1/health", None).await, StatusCode::OK);
    assert_eq!(ask(&Method::GET, "/v1/devices", Some(&world.admin_token.to_string())).await, StatusCode::OK);
    for (method, path) in [(Method::GET, "/"), (Method::GET, "/v1/resolve"), (Method::PUT, "/v1/health")] {
        assert_eq!(ask(&method, path, Some(&admin)).await, StatusCode::NOT_FOUND, "{method} {path}");
    }
}

#[tokio::test]
async fn strangers_learn_the_version_and_no_more() {
    let world = World::new().await;
    let _device = world.device(1).await;
    let ask = async |bearer: &str| {
        let request =
            raw().get(world.url() + "/v1/health").header("authorization", format!("Bearer {bearer}"));
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let version = env!("CARGO_PKG_VERSION");
    for stranger in ["", &bearer_of(&world.token)] {
        assert_eq!(ask(stranger).await, serde_json::json!({"version": version}));
    }
    let counts = serde_json::json!({"version": version, "contents": 0, "devices": 1, "members": 0});
    assert_eq!(ask(&bearer_of(&world.admin_token)).await, counts);
}

#[tokio::test]
async fn enrolment_needs_a_good_token_and_the_key() {
    let world = World::new().await;
    let client = world.client();
    let joined = client.enroll(&world.token, &key(1), "first").await.unwrap();
    assert_eq!(joined.catalog_keys, [world.key]);

    let stranger = EnrolToken { secret: [9; 16], ..world.token };
    let code = |result: Result<_, ApiError>| result.map(drop).unwrap_err().code;
    assert_eq!(code(client.enroll(&stranger, &key(2), "x").await), Code::Unauthorized);
    assert_eq!(code(client.enroll(&world.admin_token, &key(2), "x").await), Code::Unauthorized);
    assert_eq!(code(client.enroll(&world.token, &key(2), &"x".repeat(256)).await), Code::BadRequest);

    let request = NewTokenRequest { uses: Some(1), ..NewTokenRequest::default() };
    let once: EnrolToken = world.admin().new_token(&request).await.unwrap().token.parse().unwrap();
    assert_eq!((once.tls_pin, once.catalog_key), (world.token.tls_pin, world.key));
    client.enroll(&once, &key(3), "third").await.unwrap();
    client.enroll(&once, &key(3), "third, whose answer was lost").await.unwrap();
    assert_eq!(code(client.enroll(&once, &key(4), "x").await), Code::Unauthorized, "used up");

    let names: Vec<_> =
        world.admin().devices().await.unwrap().into_iter().map(|d| (d.peer, d.name)).collect();
    let third = "third, whose answer was lost".to_owned();
    assert_eq!(names, [(key(1).public(), "first".to_owned()), (key(3).public(), third)]);

    // Somebody else's key, signed with one's own.
    let (peer, secret) = (key(5).public(), URL_SAFE_NO_PAD.encode(world.token.secret));
    let proof = URL_SAFE_NO_PAD.encode(key(6).sign(&enroll_proof(&peer, &secret)).0);
    let stolen = EnrollRequest { peer, secret, name: "x".into(), proof };
    let answer = raw().post(world.url() + "/v1/enroll").json(&stolen).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.counts().await.devices, 2);
}

#[tokio::test]
async fn the_site_key_is_told_to_devices_and_replaced_with_a_revocation() {
    let world = World::new().await;
    let joined = world.client().enroll(&world.token, &key(1), "first").await.unwrap();
    let first = joined.site_key.expect("every device is told");
    let [one, two] = [world.device(1).await, world.device(2).await];
    for device in [&one, &two] {
        assert_eq!(device.session(true).await.unwrap().site_key.as_ref(), Some(&first));
    }
    world.admin().revoke(key(2).public()).await.unwrap();
    two.session(true).await.unwrap_err();
    let second = one.session(true).await.unwrap().site_key.unwrap();
    assert_ne!(first, second);
    let world = world.restart().await;
    let one = world.client().device(DeviceCredentials { key: key(1) });
    assert_eq!(one.session(false).await.unwrap().site_key, Some(second), "kept over a restart");
}

#[tokio::test]
async fn the_wrong_coordinator_learns_nothing() {
    let world = World::new().await;
    let pin = TlsTrust::Pin(Sha256::from_bytes([7; 32]));
    let client = CoordinatorClient::new(&world.url(), pin).unwrap();
    let error = client.enroll(&world.token, &key(1), "x").await.unwrap_err();
    assert_eq!(error.code, Code::Unreachable);
    assert_eq!(world.counts().await.devices, 0);
}

#[tokio::test]
async fn its_own_certificate_serves_those_who_do_not_pin() {
    let world = World::new().await;
    let pem = std::fs::read(world.dir.path().join("data/tls.crt")).unwrap();
    let client = CoordinatorClient::new(&world.url(), TlsTrust::Ca(pem)).unwrap();
    client.enroll(&world.token, &key(1), "x").await.unwrap();
    let device = client.device(DeviceCredentials { key: key(1) });
    assert_eq!(device.session(false).await.unwrap().catalog_keys, [world.key]);
}

#[tokio::test]
async fn sessions_and_revocation() {
    let world = World::new().await;
    let device = world.device(1).await;
    let session = device.session(false).await.unwrap();
    assert_eq!((session.seen_as, session.expires_in), ("127.0.0.1".parse().unwrap(), 3600));
    assert!(session.time.abs_diff(now()) < 60);
    let unknown =
        ResolveRequest { id: Some(peerage_content::ContentId::from_bytes([1; 32])), ..Default::default() };
    device.resolve(&unknown).await.unwrap();

    let stranger = world.client().device(DeviceCredentials { key: key(2) });
    assert_eq!(stranger.resolve(&unknown).await.unwrap_err().code, Code::Unauthorized);

    world.admin().revoke(key(1).public()).await.unwrap();
    assert_eq!(device.resolve(&unknown).await.unwrap_err().code, Code::Unauthorized, "at once");
    assert_eq!(world.admin().revoke(key(1).public()).await.unwrap_err().code, Code::NotFound);
    let again = world.client().enroll(&world.token, &key(1), "x").await.unwrap_err();
    assert_eq!(again.code, Code::Forbidden, "not with a token from before");
}

#[tokio::test]
async fn a_session_proof_is_for_one_clock_and_one_coordinator() {
    let world = World::new().await;
    world.device(1).await;
    let post = async |request: &SessionRequest| {
        raw().post(world.url() + "/v1/session").json(request).send().await.unwrap().status()
    };
    assert_eq!(post(&session_request(&world, &key(1), now())).await, StatusCode::OK);
    assert_eq!(post(&session_request(&world, &key(1), now() - 3000)).await, StatusCode::OK);
    for time in [0, now() - 3700, now() + 3700, u64::MAX] {
        assert_eq!(post(&session_request(&world, &key(1), time)).await, StatusCode::UNAUTHORIZED, "{time}");
    }
    let elsewhere = session_proof(&key(1).public(), now(), &Sha256::from_bytes([1; 32]));
    let proof = URL_SAFE_NO_PAD.encode(key(1).sign(&elsewhere).0);
    let request = SessionRequest { peer: key(1).public(), time: now(), proof };
    assert_eq!(post(&request).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_proxy_header_counts_only_from_a_trusted_proxy() {
    for (trusted, seen) in [(vec![], "127.0.0.1"), (vec!["127.0.0.0/8".parse().unwrap()], "198.51.100.7")] {
        let world = World::with(|config| config.trusted_proxies = trusted).await;
        world.device(1).await;
        let answer = raw()
            .post(world.url() + "/v1/session")
            .header("x-forwarded-for", "203.0.113.1, 198.51.100.7")
            .json(&session_request(&world, &key(1), now()))
            .send()
            .await
            .unwrap();
        let session: SessionResponse = answer.json().await.unwrap();
        assert_eq!(session.seen_as.to_string(), seen);
    }
}

#[tokio::test]
async fn guessing_is_soon_silenced_and_only_for_the_guesser() {
    let world = World::new().await;
    let guesser = world.client_from("127.0.0.9");
    let bad = EnrolToken { secret: [9; 16], ..world.token };
    let mut codes = Vec::new();
    for n in 0..12 {
        codes.push(guesser.enroll(&bad, &key(n), "x").await.unwrap_err().code);
    }
    assert_eq!(codes.iter().filter(|code| **code == Code::Unauthorized).count(), 10);
    assert_eq!(codes.last(), Some(&Code::TooMany));
    for n in 0..30 {
        world.client().enroll(&world.token, &key(n), "x").await.unwrap();
    }
}

#[tokio::test]
async fn malformed_bodies_are_refused_and_nothing_breaks() {
    let world = World::new().await;
    let session = world.device(1).await.session(false).await.unwrap().token;
    let admin = bearer_of(&world.admin_token);
    let post = async |path: &str, bearer: &str, body: Vec<u8>| {
        let request = raw().post(world.url() + path).header("authorization", format!("Bearer {bearer}"));
        let answer = request.body(body).send().await.unwrap();
        let (status, body) = (answer.status(), answer.bytes().await.unwrap());
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(StatusCode::from_u16(error.code.status()).unwrap(), status);
        error.code
    };
    let deep = vec![b'['; 60_000];
    let (admins, devices) = (["/v1/publish", "/v1/ingest", "/v1/tokens"], ["/v1/resolve", "/v1/announce"]);
    let open = ["/v1/enroll", "/v1/session"];
    let bearers = [(&open[..], ""), (&admins, admin.as_str()), (&devices, session.as_str())];
    for (path, bearer) in bearers.iter().flat_map(|(paths, bearer)| paths.iter().map(move |p| (*p, *bearer)))
    {
        let wrong = br#"{"url":7,"urls":7,"items":7,"uses":-1,"peer":"x"}"#;
        for body in [&b""[..], b"{", b"null", b"7", b"\xff\xfe", wrong, &deep] {
            let code = post(path, bearer, body.to_vec()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(9)]);
            assert_eq!(code, Code::BadRequest, "{path} {shown:?}");
        }
    }
    assert_eq!(post("/v1/resolve", &session, vec![b' '; 65 << 10]).await, Code::BadRequest, "too long");
    assert_eq!(post("/v1/resolve", &session, b"{}".to_vec()).await, Code::BadRequest, "names nothing");
    let two =
        br#"{"url":"http://h/","sha256":"0000000000000000000000000000000000000000000000000000000000000000"}"#;
    assert_eq!(post("/v1/resolve", &session, two.to_vec()).await, Code::BadRequest, "names two things");
    let map = raw().get(world.url() + "/v1/maps/xyz").bearer_auth(&session).send().await.unwrap();
    assert_eq!(map.status(), StatusCode::BAD_REQUEST);
    world.client().health().await.unwrap();
}
