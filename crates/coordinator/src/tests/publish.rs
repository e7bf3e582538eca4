//! Publishing, and finding what was published.

use peerage_api::Code;
use peerage_api::coordinator::{ResolveRequest, ResolveResponse};
use peerage_content::{ContentId, PieceMap, ScopeSet, Validators};

use super::{World, by_url, known, publication, refusal};

#[tokio::test]
async fn what_is_published_is_found_by_url_id_and_sha256() {
    let world = World::new().await;
    let device = world.device(1).await;
    let bytes = vec![3u8; 3_000_000];
    let mut request = publication(&bytes, "http://mirror.example:80/a/../big.iso#top");
    request.urls.push("https://other.example/big.iso".into());
    request.validators = Validators { etag: "\"v1\"".into(), last_modified: String::new() };
    let done = world.admin().publish(&request).await.unwrap();
    assert_eq!((done.id, done.size, done.sha256), (request.id, 3_000_000, request.sha256));

    let by_id = ResolveRequest { id: Some(done.id), ..Default::default() };
    let by_sha = ResolveRequest { sha256: Some(done.sha256), ..Default::default() };
    for ask in
        [by_url("http://mirror.example/big.iso"), by_url("https://other.example/big.iso"), by_id, by_sha]
    {
        let answer = device.resolve(&ask).await.unwrap();
        let ResolveResponse::Known { map: Some(map), announce: None, .. } = &answer else {
            panic!("{answer:?}")
        };
        assert_eq!(map, &request.map);
        let record = known(answer, world.key);
        assert_eq!((record.get().id, record.get().size), (done.id, 3_000_000));
        assert_eq!(record.get().urls, ["http://mirror.example/big.iso", "https://other.example/big.iso"]);
        assert_eq!(record.get().validators.etag, "\"v1\"");
    }
    let map: PieceMap = device.map(done.id).await.unwrap();
    assert_eq!((map.id(), map.layout().size()), (done.id, 3_000_000));
    assert_eq!(device.map(ContentId::from_bytes([1; 32])).await.unwrap_err().code, Code::NotFound);
    let unknown = ResolveRequest { id: Some(ContentId::from_bytes([1; 32])), ..Default::default() };
    assert!(refusal(device.resolve(&unknown).await.unwrap()).0.contains("no record"));
    assert_eq!(world.counts().await.contents, 1);
}

#[tokio::test]
async fn a_newer_record_wins_its_url_and_the_older_stays_reachable_by_id() {
    let world = World::new().await;
    let device = world.device(1).await;
    let (old, new) = (publication(b"old", "http://h.example/f"), publication(b"new", "http://h.example/f"));
    let first = world.admin().publish(&old).await.unwrap();
    let second = world.admin().publish(&new).await.unwrap();
    let record = known(device.resolve(&by_url("http://h.example/f")).await.unwrap(), world.key);
    assert_eq!(record.get().id, second.id);
    let by_id = ResolveRequest { id: Some(first.id), ..Default::default() };
    let older = known(device.resolve(&by_id).await.unwrap(), world.key);
    assert!(older.get().serial < record.get().serial);
}

#[tokio::test]
async fn a_publication_must_prove_itself_and_be_public() {
    let world = World::new().await;
    let good = publication(&[7; 2_500_000], "http://h.example/f");
    let code = async |change: &dyn Fn(&mut peerage_api::coordinator::PublishRequest)| {
        let mut request = good.clone();
        change(&mut request);
        world.admin().publish(&request).await.map(drop).unwrap_err().code
    };
    assert_eq!(code(&|r| r.id = ContentId::from_bytes([1; 32])).await, Code::Integrity);
    assert_eq!(code(&|r| r.map = publication(&[8; 2_500_000], "http://h/").map).await, Code::Integrity);
    assert_eq!(code(&|r| r.map.truncate(40)).await, Code::Integrity);
    assert_eq!(code(&|r| r.map = "!".into()).await, Code::BadRequest);
    assert_eq!(code(&|r| r.urls.clear()).await, Code::BadRequest);
    assert_eq!(code(&|r| r.urls = vec!["http://h/".into(); 65]).await, Code::BadRequest);
    assert_eq!(code(&|r| r.valid_s = Some(1)).await, Code::BadRequest);
    assert_eq!(code(&|r| r.validators.etag = "a\nb".into()).await, Code::BadRequest);
    for url in ["file:///etc/passwd", "http://u:p@h/", "http://h/?token=1", "x", ""] {
        assert_eq!(code(&|r| r.urls = vec![url.into()]).await, Code::Guarded, "{url}");
    }
    assert_eq!(world.counts().await.contents, 0);
    world.admin().publish(&good).await.unwrap();
}

#[tokio::test]
async fn large_maps_come_on_their_own() {
    let world = World::new().await;
    let device = world.device(1).await;
    // 2,100 pieces of one value each: the map of 2 GiB and a bit is over 64 KiB.
    let layout = peerage_content::Layout::new(2100 << 20).unwrap();
    let values = (0..2100u32).map(|n| *blake3::hash(&n.to_be_bytes()).as_bytes()).collect();
    let map = PieceMap::from_values(layout, values).unwrap();
    let mut request = publication(b"", "http://h.example/huge");
    (request.id, request.scopes) = (map.id(), ScopeSet::NONE);
    request.map = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, map.to_bytes());
    world.admin().publish(&request).await.unwrap();
    let answer = device.resolve(&by_url("http://h.example/huge")).await.unwrap();
    assert!(matches!(answer, ResolveResponse::Known { map: None, .. }));
    assert_eq!(device.map(map.id()).await.unwrap(), map);
}
