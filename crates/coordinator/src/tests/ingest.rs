//! On-demand ingestion through the API, from a fake origin.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use peerage_api::Code;
use peerage_api::client::Ingested;
use peerage_api::coordinator::{IngestRequest, ResolveRequest, ResolveResponse};
use peerage_content::{Digester, Scope, ScopeSet};
use peerage_origin::{Lookup, Resolver};

use super::origin::{Origin, Page};
use super::{World, by_url, known, publication, refusal};

fn file(body: &[u8], etag: &'static str) -> Page {
    Page::File { body: body.to_vec(), etag }
}

#[tokio::test]
async fn an_unknown_url_is_read_hashed_and_signed() {
    let (world, origin) = (World::new().await, Origin::new().await);
    let body: Vec<u8> = (0..2_500_000u32).map(|n| (n / 7) as u8).collect();
    origin.put("/f", file(&body, "\"v1\""));
    let device = world.device(1).await;
    let record = known(device.resolve(&by_url(origin.url("/f"))).await.unwrap(), world.key);
    let mut digester = Digester::new();
    digester.update(&body);
    let digest = digester.finish().unwrap();
    let record = record.get();
    assert_eq!((record.id, record.sha256, record.size), (digest.id, digest.sha256, 2_500_000));
    assert_eq!((record.validators.etag.as_str(), &record.urls[..]), ("\"v1\"", &[origin.url("/f")][..]));
    assert_eq!(device.map(record.id).await.unwrap(), digest.map);
    known(device.resolve(&by_url(origin.url("/f"))).await.unwrap(), world.key);
    assert_eq!(origin.counts(), (1, 0), "known from then on");
}

#[tokio::test]
async fn one_fetch_for_many_askers() {
    let (world, origin) = (World::new().await, Origin::new().await);
    origin.put("/f", Page::Gated { body: vec![5; 100_000] });
    let devices = join_all((1..6).map(|n| world.device(n))).await;
    let mut now = by_url(origin.url("/f"));
    now.wait_ms = 0;
    for device in &devices {
        assert!(matches!(device.resolve(&now).await.unwrap(), ResolveResponse::Pending { .. }));
    }
    let patient = by_url(origin.url("/f"));
    let asking = join_all(devices.iter().cycle().take(20).map(|device| device.resolve(&patient)));
    let admin = world.admin();
    let ingesting = async {
        // Joins the same job, and lets the file through once it is under way.
        let request = IngestRequest { url: origin.url("/f"), wait_ms: 0 };
        assert!(matches!(admin.ingest(&request).await.unwrap(), Ingested::Pending { .. }));
        origin.open_gate();
    };
    let (answers, ()) = tokio::join!(asking, ingesting);
    let ids: Vec<_> = answers.into_iter().map(|a| known(a.unwrap(), world.key).get().id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(origin.counts().0, 1);
}

#[tokio::test]
async fn a_changed_file_gets_a_new_record() {
    let (world, origin) = (World::new().await, Origin::new().await);
    origin.put("/f", file(b"old", "\"1\""));
    let device = world.device(1).await;
    let old = known(device.resolve(&by_url(origin.url("/f"))).await.unwrap(), world.key);
    origin.put("/f", file(b"new!", "\"2\""));
    let serial = old.get().serial;
    let mut stale = by_url(origin.url("/f"));
    stale.stale_serial = Some(serial + 77);
    let same = known(device.resolve(&stale).await.unwrap(), world.key);
    assert_eq!((same.get().serial, origin.counts()), (serial, (1, 0)), "not about the record it speaks of");

    stale.stale_serial = Some(serial);
    let new = known(device.resolve(&stale).await.unwrap(), world.key);
    assert!(new.get().serial > serial && new.get().id != old.get().id);
    assert_eq!(new.get().validators.etag, "\"2\"");
    assert_eq!(origin.counts(), (2, 1));
    let now = known(device.resolve(&by_url(origin.url("/f"))).await.unwrap(), world.key);
    assert_eq!(now.get().serial, new.get().serial);
    let by_id = ResolveRequest { id: Some(old.get().id), ..Default::default() };
    assert_eq!(known(device.resolve(&by_id).await.unwrap(), world.key).get().serial, serial);
}

#[tokio::test]
async fn crying_wolf_costs_the_origin_one_look_a_minute() {
    let (world, origin) = (World::new().await, Origin::new().await);
    origin.put("/f", file(b"same", "\"1\""));
    origin.put("/mute", file(b"same", ""));
    let device = world.device(1).await;
    for (path, counts) in [("/f", (1, 1)), ("/mute", (3, 2))] {
        let record = known(device.resolve(&by_url(origin.url(path))).await.unwrap(), world.key);
        let mut stale = by_url(origin.url(path));
        let mut serial = record.get().serial;
        for _ in 0..5 {
            stale.stale_serial = Some(serial);
            let same = known(device.resolve(&stale).await.unwrap(), world.key);
            assert_eq!(same.get().id, record.get().id);
            serial = same.get().serial;
        }
        // Without validators only the bytes can tell, so one claim makes it read the file again.
        assert_eq!(origin.counts(), counts, "{path}");
    }
}

#[tokio::test]
async fn a_record_known_to_be_stale_is_not_handed_out() {
    let (world, origin) = (World::new().await, Origin::new().await);
    origin.put("/f", file(b"old", "\"1\""));
    let device = world.device(1).await;
    let old = known(device.resolve(&by_url(origin.url("/f"))).await.unwrap(), world.key);
    origin.put("/f", Page::Broken { etag: "\"2\"" });
    let mut stale = by_url(origin.url("/f"));
    stale.stale_serial = Some(old.get().serial);
    let (reason, retry) = refusal(device.resolve(&stale).await.unwrap());
    assert!(reason.contains("500") && retry.is_some(), "{reason}");
    let gets = origin.counts().0;
    refusal(device.resolve(&by_url(origin.url("/f"))).await.unwrap());
    assert_eq!(origin.counts().0, gets, "a failing url is left alone for a while");
}

#[tokio::test]
async fn guards_hold_through_the_api() {
    let origin = Origin::new().await;
    let world = World::with(|config| config.ingest_max_size = 1 << 20).await;
    let device = world.device(1).await;
    origin.put("/away", Page::Redirect { to: format!("http://127.0.0.2:{}/f", origin.port()) });
    origin.put("/file", Page::Redirect { to: "file:///etc/passwd".into() });
    origin.put("/meta", Page::Redirect { to: "http://169.254.169.254/latest/".into() });
    origin.put("/round", Page::Redirect { to: origin.url("/round") });
    origin.put("/endless", Page::Endless);
    origin.put("/large", file(&vec![0; (1 << 20) + 1], "\"1\""));
    for (url, why) in [
        (format!("http://127.0.0.2:{}/f", origin.port()), "ingest_allow"),
        (format!("http://[::1]:{}/f", origin.port()), "ingest_allow"),
        (origin.url("/away"), "ingest_allow"),
        (origin.url("/meta"), "ingest_allow"),
        (origin.url("/file"), "scheme"),
        (origin.url("/round"), "redirects"),
        (origin.url("/endless"), "ingest_max_size"),
        (origin.url("/large"), "ingest_max_size"),
        (origin.url("/missing"), "404"),
        ("file:///etc/passwd".into(), "scheme"),
        (format!("http://user:hunter2@127.0.0.1:{}/f", origin.port()), "credentials"),
        (format!("{}?X-Amz-Signature=hunter2", origin.url("/f")), "x-amz-signature"),
        ("not a url".into(), "white space"),
        ("http://".into(), "url"),
    ] {
        let (reason, _) = refusal(device.resolve(&by_url(&url)).await.unwrap());
        assert!(reason.contains(why), "{url}: {reason}");
        assert!(!reason.contains("hunter2"), "{reason}");
    }
    let gets = origin.counts().0;
    refusal(device.resolve(&by_url(origin.url("/endless"))).await.unwrap());
    assert_eq!(origin.counts().0, gets, "not tried again at once");
    let large = IngestRequest { url: origin.url("/large"), wait_ms: 20_000 };
    assert_eq!(world.admin().ingest(&large).await.unwrap_err().code, Code::Guarded);
    let gone = IngestRequest { url: origin.url("/missing"), wait_ms: 20_000 };
    assert_eq!(world.admin().ingest(&gone).await.unwrap_err().code, Code::Origin);
}

/// Answers every name with one address.
#[derive(Debug)]
struct Always(IpAddr);

impl Resolver for Always {
    fn lookup(&self, _: &str) -> Lookup {
        let answer = vec![self.0];
        Box::pin(async move { Ok(answer) })
    }
}

#[tokio::test]
async fn a_public_name_with_a_private_address_is_refused() {
    let origin = Origin::new().await;
    origin.put("/f", file(b"inside", "\"1\""));
    let resolver = Arc::new(Always("127.0.0.1".parse().unwrap()));
    let dir = || tempfile::tempdir().unwrap();
    let url = format!("http://mirror.example:{}/f", origin.port());
    let world = World::start(dir(), |config| config.ingest_allow.clear(), resolver.clone()).await;
    let (reason, _) = refusal(world.device(1).await.resolve(&by_url(&url)).await.unwrap());
    assert!(reason.contains("127.0.0.1") && reason.contains("loopback"), "{reason}");
    assert_eq!(origin.counts(), (0, 0));
    let world =
        World::start(dir(), |config| config.ingest_allow = vec!["mirror.example".into()], resolver).await;
    known(world.device(1).await.resolve(&by_url(&url)).await.unwrap(), world.key);
}

#[tokio::test]
async fn without_on_demand_only_an_administrator_ingests() {
    let (world, origin) = (World::with(|config| config.on_demand = false).await, Origin::new().await);
    origin.put("/f", file(b"bytes", "\"1\""));
    let device = world.device(1).await;
    let (reason, retry) = refusal(device.resolve(&by_url(origin.url("/f"))).await.unwrap());
    assert!(reason.contains("on_demand") && retry.is_some());
    assert_eq!(origin.counts(), (0, 0));
    let request = IngestRequest { url: origin.url("/f"), wait_ms: 20_000 };
    let Ingested::Done(done) = world.admin().ingest(&request).await.unwrap() else { panic!("pending") };
    let record = known(device.resolve(&by_url(origin.url("/f"))).await.unwrap(), world.key);
    assert_eq!(record.get().id, done.id);

    origin.put("/f", file(b"other bytes", "\"2\""));
    let mut stale = by_url(origin.url("/f"));
    stale.stale_serial = Some(record.get().serial);
    assert!(refusal(device.resolve(&stale).await.unwrap()).0.contains("on_demand"));
    refusal(device.resolve(&by_url(origin.url("/f"))).await.unwrap());
    assert_eq!(origin.counts(), (1, 1), "looked at, not fetched");
    let Ingested::Done(again) = world.admin().ingest(&request).await.unwrap() else { panic!("pending") };
    assert_ne!(again.id, done.id);
}

#[tokio::test]
async fn a_broken_fetch_is_taken_up_where_it_broke() {
    let (world, origin) = (World::new().await, Origin::new().await);
    // One that a single request reads, and one that several do at once.
    for (path, size, at, gets) in [("/small", 300_000, 123_456, 2), ("/large", 9 << 20, 5_000_001, 2 + 6)] {
        let full: Vec<u8> = (0..size as u32).map(|n| (n / 3) as u8).collect();
        origin.put(path, Page::Cut { full: full.clone(), at });
        let record =
            known(world.device(1).await.resolve(&by_url(origin.url(path))).await.unwrap(), world.key);
        assert_eq!(record.get().id.as_bytes(), blake3::hash(&full).as_bytes());
        assert_eq!(origin.counts(), (gets, 0), "{path}");
    }
}

#[tokio::test]
async fn an_origin_is_not_asked_for_byte_after_byte() {
    let (world, origin) = (World::new().await, Origin::new().await);
    let device = world.device(1).await;
    origin.put("/capped", Page::Drip { size: 5 << 20, len: 1 << 20 });
    let record = known(device.resolve(&by_url(origin.url("/capped"))).await.unwrap(), world.key);
    assert_eq!(record.get().size, 5 << 20, "an origin may send less than it was asked for");
    let gets = origin.counts().0;
    origin.put("/drip", Page::Drip { size: 5 << 20, len: 1 });
    let (reason, _) = refusal(device.resolve(&by_url(origin.url("/drip"))).await.unwrap());
    assert!(reason.contains("1 bytes"), "{reason}");
    assert!(origin.counts().0 - gets < 10, "{:?}", origin.counts());
}

#[tokio::test]
async fn one_device_does_not_keep_others_from_ingestion() {
    let (world, origin) = (World::new().await, Origin::new().await);
    let (greedy, modest) = (world.device(1).await, world.device(2).await);
    for n in 0..20 {
        origin.put(&format!("/{n}"), Page::Gated { body: vec![n; 100] });
        let mut now = by_url(origin.url(&format!("/{n}")));
        now.wait_ms = 0;
        assert!(matches!(greedy.resolve(&now).await.unwrap(), ResolveResponse::Pending { .. }));
    }
    origin.put("/modest", file(b"modest", "\"1\""));
    known(modest.resolve(&by_url(origin.url("/modest"))).await.unwrap(), world.key);
}

#[tokio::test]
async fn an_administrator_is_not_kept_waiting_by_devices() {
    let (world, origin) = (World::with(|config| config.ingest_concurrency = 1).await, Origin::new().await);
    origin.put("/held", Page::Gated { body: vec![1; 100] });
    origin.put("/asked", file(b"asked for by a device", "\"1\""));
    origin.put("/wanted", file(b"wanted", "\"1\""));
    let device = world.device(1).await;
    for path in ["/held", "/asked"] {
        let mut now = by_url(origin.url(path));
        now.wait_ms = 0;
        assert!(matches!(device.resolve(&now).await.unwrap(), ResolveResponse::Pending { .. }));
    }
    for path in ["/wanted", "/asked"] {
        let request = IngestRequest { url: origin.url(path), wait_ms: 20_000 };
        assert!(matches!(world.admin().ingest(&request).await.unwrap(), Ingested::Done(_)), "{path}");
    }
}

#[tokio::test]
async fn only_an_administrator_lifts_a_publishers_restriction() {
    let (world, origin) = (World::new().await, Origin::new().await);
    let (body, device) = (b"not to be shared", world.device(1).await);
    origin.put("/f", file(body, "\"1\""));
    let mut request = publication(body, &origin.url("/f"));
    request.scopes = ScopeSet::up_to(Scope::Lan);
    world.admin().publish(&request).await.unwrap();
    let record = known(device.resolve(&by_url(origin.url("/f?x=1"))).await.unwrap(), world.key);
    assert_eq!(record.get().scopes, ScopeSet::up_to(Scope::Lan));

    // The same url with other bytes.
    let published = known(device.resolve(&by_url(origin.url("/f"))).await.unwrap(), world.key);
    origin.put("/f", file(b"the next version", "\"2\""));
    let mut stale = by_url(origin.url("/f"));
    stale.stale_serial = Some(published.get().serial);
    let next = known(device.resolve(&stale).await.unwrap(), world.key);
    assert_ne!(next.get().id, published.get().id);
    assert_eq!(next.get().scopes, ScopeSet::up_to(Scope::Lan));

    let again = IngestRequest { url: origin.url("/f"), wait_ms: 20_000 };
    assert!(matches!(world.admin().ingest(&again).await.unwrap(), Ingested::Done(_)));
    let widened = known(device.resolve(&by_url(origin.url("/f"))).await.unwrap(), world.key);
    assert_eq!(widened.get().scopes, ScopeSet::ALL);
}

#[tokio::test]
async fn a_device_cannot_make_the_coordinator_fetch_for_ever() {
    let (world, origin) = (World::new().await, Origin::new().await);
    let (greedy, modest) = (world.device(1).await, world.device(2).await);
    let mut refused = String::new();
    for n in 0..201 {
        let (reason, _) = refusal(greedy.resolve(&by_url(origin.url(&format!("/{n}")))).await.unwrap());
        refused = reason;
    }
    assert!(refused.contains("too many"), "{refused}");
    let (reason, _) = refusal(modest.resolve(&by_url(origin.url("/other"))).await.unwrap());
    assert!(reason.contains("404"), "{reason}");
}
