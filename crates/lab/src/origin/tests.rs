//! Tests of the room's origin part.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use peerage_origin::{Failure, Known, OriginClient, OriginConfig, ProxyMode, RangeRequest};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Bytes that differ wherever a mix-up of positions could go unnoticed.
fn content(len: usize) -> Vec<u8> {
    (0..len as u64)
        .flat_map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes().into_iter().skip(7))
        .collect()
}

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}

fn client() -> OriginClient {
    let config =
        OriginConfig { proxy: ProxyMode::Direct.into(), system_roots: false, ..OriginConfig::default() };
    OriginClient::new(config).unwrap()
}

fn url(origin: &LabOrigin) -> SourceUrl {
    SourceUrl::parse(&origin.url()).unwrap()
}

async fn fetch(
    client: &OriginClient,
    url: &SourceUrl,
    from: u64,
    to: Option<u64>,
) -> Result<Vec<u8>, OriginError> {
    let mut body = client.open(url, RangeRequest { from, to }, &Known::default()).await?;
    assert_eq!(body.start(), from);
    let mut all = Vec::new();
    while let Some(bytes) = body.chunk().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

async fn file_origin(path: &Path, rate: Option<u64>) -> LabOrigin {
    LabOrigin::bind(OriginSource::File(path.to_owned()), LOOPBACK, rate).await.unwrap()
}

#[tokio::test]
async fn ranges_are_slices_and_all_of_them_are_counted() {
    let dir = TempDir::new().unwrap();
    let bytes = content(200_000);
    let origin = file_origin(&file(&dir, "größe 100%?#.bin", &bytes), None).await;
    let (client, url) = (client(), url(&origin));
    let mut sent = 0;
    for (from, to) in
        [(0, 1), (0, 200_000), (65_535, 65_537), (199_999, 200_000), (70_000, 199_000), (1, 131_073)]
    {
        let part = fetch(&client, &url, from, Some(to)).await.unwrap();
        assert_eq!(part, &bytes[from as usize..to as usize], "{from}..{to}");
        sent += to - from;
    }
    assert_eq!(fetch(&client, &url, 0, None).await.unwrap(), bytes);
    assert_eq!(fetch(&client, &url, 150_000, None).await.unwrap(), &bytes[150_000..]);
    sent += 250_000;
    let error = fetch(&client, &url, 200_000, None).await.unwrap_err();
    assert_eq!(error.failure, Failure::OutOfRange { from: 200_000, size: Some(200_000) });

    let stats = origin.shutdown().await;
    assert_eq!((stats.body_bytes, stats.requests), (sent, 9));
    // Kept alive from the first request to the last.
    assert_eq!(stats.connections.len(), 1);
    assert_eq!(stats.connections[0].body_bytes, sent);
    assert!(stats.wire_bytes > sent && stats.wire_bytes < sent + 9 * 500);
    assert!(!stats.connections[0].open);
    assert!(fetch(&client, &url, 0, None).await.is_err());
}

#[tokio::test]
async fn probes_and_validators() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "a", b"first");
    let origin = file_origin(&path, None).await;
    let (client, url) = (client(), url(&origin));
    let info = client.probe(&url).await.unwrap();
    assert_eq!((info.size, info.supports_ranges), (Some(5), true));
    assert!(peerage_origin::headers::is_strong_etag(&info.validators.etag));
    assert!(httpdate::parse_http_date(&info.validators.last_modified).is_ok());
    assert_eq!(origin.stats().body_bytes, 0);

    // The file changes in place: the range of a client that knows the old one is not served from the new one.
    let range = RangeRequest { from: 1, to: Some(3) };
    assert!(client.open(&url, range, &info.known()).await.is_ok());
    file(&dir, "a", b"second");
    let error = client.open(&url, range, &info.known()).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Changed { .. }), "{error}");
}

/// Sends a raw request and returns the whole answer, the connection closed by it.
async fn raw(origin: &LabOrigin, request: &str) -> String {
    let mut stream = TcpStream::connect(origin.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn nothing_but_the_file_is_served() {
    let dir = TempDir::new().unwrap();
    file(&dir, "secret", b"secret");
    let origin = file_origin(&file(&dir, "a", b"hello"), None).await;
    for path in
        ["/", "/secret", "/../secret", "/a/../secret", "/a/", "//a", "/%61", "/..%2fsecret", "/a%00", "*"]
    {
        let answer =
            raw(&origin, &format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        assert!(!answer.contains("secret\n") && !answer.ends_with("secret"), "{path}: {answer}");
    }
    let close = "HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
    assert!(raw(&origin, &format!("DELETE /a {close}\r\n")).await.starts_with("HTTP/1.1 405"));
    assert!(raw(&origin, "garbage\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    assert!(raw(&origin, &format!("GET /a?x=1 {close}\r\n")).await.ends_with("\r\n\r\nhello"));
    let head = raw(&origin, &format!("HEAD /a {close}\r\n")).await;
    assert!(head.contains("content-length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let weak = raw(&origin, &format!("GET /a {close}Range: bytes=0-0\r\nIf-Range: W/\"x\"\r\n\r\n")).await;
    assert!(weak.starts_with("HTTP/1.1 200") && weak.ends_with("hello"), "{weak}");
    let last = raw(&origin, &format!("GET /a {close}Range: bytes=-2\r\n\r\n")).await;
    assert!(last.contains("content-range: bytes 3-4/5\r\n") && last.ends_with("\r\n\r\nlo"), "{last}");
    assert_eq!(origin.stats().body_bytes, 12);
}

#[tokio::test]
async fn what_cannot_be_served_is_named() {
    let dir = TempDir::new().unwrap();
    let bind =
        async |path: PathBuf| LabOrigin::bind(OriginSource::File(path), LOOPBACK, None).await.unwrap_err();
    assert!(matches!(bind(dir.path().join("none")).await, LabOriginError::Open { .. }));
    assert!(matches!(bind(dir.path().to_owned()).await, LabOriginError::NotAFile { .. }));
    let path = file(&dir, "a", b"");
    let origin = file_origin(&path, None).await;
    let again = LabOrigin::bind(OriginSource::File(path), origin.addr(), None).await.unwrap_err();
    assert!(matches!(again, LabOriginError::Bind { .. }), "{again}");
    // An empty file is a file.
    assert_eq!(fetch(&client(), &url(&origin), 0, None).await.unwrap(), b"");
}

#[tokio::test]
async fn an_upstream_is_passed_through_in_ranges() {
    let dir = TempDir::new().unwrap();
    let bytes = content(300_000);
    let upstream = file_origin(&file(&dir, "a.bin", &bytes), None).await;
    let source = OriginSource::Upstream { client: client(), url: url(&upstream) };
    let origin = LabOrigin::bind(source, LOOPBACK, None).await.unwrap();
    assert!(origin.url().ends_with("/a.bin"));
    let (client, url) = (client(), url(&origin));
    assert_eq!(fetch(&client, &url, 1_000, Some(200_000)).await.unwrap(), &bytes[1_000..200_000]);
    assert_eq!(origin.stats().body_bytes, 199_000);
    // Only what was asked for has crossed the upstream.
    assert_eq!(upstream.stats().body_bytes, 199_000);
    assert!(!client.probe(&url).await.unwrap().validators.etag.is_empty());

    drop(upstream);
    let error = fetch(&client, &url, 0, None).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Busy { status: 502, .. }), "{error}");
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_sending() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "large", b"");
    let size = 1 << 30;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
    let origin = file_origin(&path, None).await;
    let mut body = client().open(&url(&origin), RangeRequest::ALL, &Known::default()).await.unwrap();
    let got = body.chunk().await.unwrap().unwrap().len() as u64;
    drop(body);
    origin.idle().await;
    let stats = origin.stats();
    assert!(stats.body_bytes >= got && stats.body_bytes < size / 4, "{} of {size}", stats.body_bytes);
    assert!(!stats.connections[0].open);
}

// === Paused time: in-memory streams, so that the clock moves only when everybody waits for it. ===

fn connect(site: &Arc<Site>, buffer: usize) -> DuplexStream {
    let (near, far) = duplex(buffer);
    tokio::spawn(Arc::clone(site).serve(far, LOOPBACK));
    near
}

/// Asks for the file of `path` on a fresh stream and reads the head of the answer.
async fn ask(stream: &mut DuplexStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

async fn site(path: PathBuf, rate: u64) -> Arc<Site> {
    Arc::new(Site::new(OriginSource::File(path), Some(rate)).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_for_all_together_and_is_shared_evenly() {
    let dir = TempDir::new().unwrap();
    const SIZE: usize = 500_000;
    let path = file(&dir, "a", &content(SIZE));
    for (readers, rate) in [(1, 125_000), (1, 2_000_000), (4, 1_000_000), (8, 2_500_000), (32, 12_500_000)] {
        let site = site(path.clone(), rate).await;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..readers {
            let site = Arc::clone(&site);
            tasks.spawn(async move {
                let mut stream = connect(&site, 64 << 10);
                ask(&mut stream, "/a").await;
                let mut all = vec![0; SIZE];
                stream.read_exact(&mut all).await.unwrap();
                start.elapsed()
            });
        }
        let times = tasks.join_all().await;
        let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        let ideal = Duration::from_secs_f64((readers * SIZE) as f64 / rate as f64);
        assert!(
            *last >= ideal.mul_f64(0.9) && *last <= ideal.mul_f64(1.1),
            "{readers}: {last:?} for {ideal:?}"
        );
        // Equal shares: all end within the last few turns.
        assert!(*first >= last.mul_f64(0.9), "{readers}: first {first:?}, last {last:?}");
        assert_eq!(site.counters.stats().body_bytes, (readers * SIZE) as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_reader_costs_the_others_nothing() {
    let dir = TempDir::new().unwrap();
    const SIZE: usize = 1_000_000;
    let site = site(file(&dir, "a", &content(SIZE)), 1_000_000).await;
    // Reads its head, and nothing more: its few buffers fill, then it takes no part in the uplink.
    let mut idle = connect(&site, 1024);
    ask(&mut idle, "/a").await;
    let start = Instant::now();
    let mut busy = connect(&site, 64 << 10);
    ask(&mut busy, "/a").await;
    let mut all = vec![0; SIZE];
    busy.read_exact(&mut all).await.unwrap();
    let took = start.elapsed();
    assert!(took <= Duration::from_millis(1_100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn exactly_what_was_written_counts() {
    let dir = TempDir::new().unwrap();
    let site = site(file(&dir, "a", &content(1_000_000)), 1_000_000).await;
    let mut stream = connect(&site, 4096);
    ask(&mut stream, "/a").await;
    let mut some = vec![0; 100_000];
    stream.read_exact(&mut some).await.unwrap();
    // Let the server fill what the pipe holds, then leave.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(stream);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stats = site.counters.stats();
    assert_eq!(stats.body_bytes, 100_000 + 4096);
    assert!(!stats.connections[0].open);
}

proptest! {
    #[test]
    fn odd_file_names_have_a_path(name in "[^/\\x00]{1,20}") {
        prop_assume!(name != "." && name != "..");
        let path = source::served_path(&name);
        prop_assert!(path.starts_with('/') && !path[1..].contains('/'));
        let url = SourceUrl::parse(&format!("http://h{path}")).unwrap();
        prop_assert_eq!(url.as_url().path(), path);
    }
}
