//! Ranges, validators, redirects, retries, and bodies that do not keep their word.

use std::sync::Arc;
use std::time::Duration;

use peerage_content::Validators;
use peerage_origin::{
    ErrorKind, Failure, Known, MAX_REDIRECTS, OriginClient, OriginConfig, ProxyMode, RangeRequest, SourceUrl,
};

use crate::support::{Answers, Reply, Server, client, config, read};

const FILE: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

const fn range(from: u64, to: u64) -> RangeRequest {
    RangeRequest { from, to: Some(to) }
}

fn known(etag: &str) -> Known {
    Known { size: None, validators: Validators { etag: etag.into(), last_modified: String::new() } }
}

/// The value of a header in a request's head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A well-behaved answer out of [`FILE`].
pub(crate) fn honest(head: &str) -> Reply {
    const SAME: &str =
        "ETag: \"v1\"\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nAccept-Ranges: bytes\r\n";
    let body = if head.starts_with("HEAD") { "" } else { FILE };
    if body.is_empty() {
        return Reply::Keep(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{SAME}\r\n", FILE.len()));
    }
    let Some(asked) = header(head, "range") else { return Reply::answer("200 OK", SAME, FILE) };
    let (from, to) = asked.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(FILE.len(), |last: usize| FILE.len().min(last + 1));
    let Some(part) = FILE.get(from..to) else {
        return Reply::answer("416 No", &format!("Content-Range: bytes */{}\r\n{SAME}", FILE.len()), "");
    };
    let content = format!("{SAME}Content-Range: bytes {from}-{}/{}\r\n", to - 1, FILE.len());
    Reply::answer("206 Partial Content", &content, part)
}

#[tokio::test]
async fn every_range_is_the_slice_of_the_file() {
    let server = Server::start(honest).await;
    let (client, url) = (client(), server.url("/f"));
    for from in 0..FILE.len() as u64 {
        for to in from + 1..=FILE.len() as u64 {
            let mut body = client.open(&url, range(from, to), &known("\"v1\"")).await.unwrap();
            assert_eq!((body.start(), body.end(), body.total_size()), (from, Some(to), Some(36)));
            assert_eq!(read(&mut body).await.unwrap(), FILE.as_bytes()[from as usize..to as usize]);
            assert_eq!(body.position(), to);
        }
    }
    let seen = server.seen();
    // A body read to its end gives its connection back.
    assert_eq!(seen.connections, 1);
    let head = &seen.requests[0];
    assert_eq!((header(head, "range"), header(head, "if-range")), (Some("bytes=0-0"), Some("\"v1\"")));
    assert_eq!(header(head, "accept-encoding"), Some("identity"));
    assert_eq!(header(head, "user-agent"), Some(concat!("Peerage/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(header(head, "cookie"), None);
}

#[tokio::test]
async fn the_whole_and_the_rest() {
    let server = Server::start(honest).await;
    let (client, url) = (client(), server.url("/f"));
    let mut body = client.open(&url, RangeRequest::ALL, &known("\"v1\"")).await.unwrap();
    assert_eq!(read(&mut body).await.unwrap(), FILE.as_bytes());
    assert!(body.chunk().await.unwrap().is_none());
    assert!(body.info().supports_ranges);
    let rest = RangeRequest { from: 30, to: None };
    let mut body = client.open(&url, rest, &known("W/\"v1\"")).await.unwrap();
    assert_eq!(read(&mut body).await.unwrap(), &FILE.as_bytes()[30..]);
    let requests = server.seen().requests;
    assert_eq!((header(&requests[0], "range"), header(&requests[0], "if-range")), (None, None));
    // A weak tag must not be sent in If-Range.
    assert_eq!((header(&requests[1], "range"), header(&requests[1], "if-range")), (Some("bytes=30-"), None));
}

#[tokio::test]
async fn behind_the_end_and_empty_ranges() {
    let server = Server::start(honest).await;
    let error = client().open(&server.url("/f"), range(99, 100), &Known::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::OutOfRange { from: 99, size: Some(36) });
    assert_eq!(error.kind(), ErrorKind::Stale);
    let error = client().open(&server.url("/f"), range(5, 5), &Known::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::EmptyRange { from: 5, to: 5 });
    assert_eq!(server.seen().requests.len(), 1);
}

#[tokio::test]
async fn an_origin_without_ranges_sends_from_byte_0() {
    let server = Server::start(|_| Reply::answer("200 OK", "", FILE)).await;
    let mut body = client().open(&server.url("/f"), range(10, 12), &Known::default()).await.unwrap();
    assert_eq!((body.start(), body.end(), body.info().supports_ranges), (0, Some(36), false));
    assert_eq!(read(&mut body).await.unwrap(), FILE.as_bytes());
}

#[tokio::test]
async fn a_file_that_changes_in_the_middle_is_noticed() {
    for (second, other) in [
        ("206 Partial Content\r\nContent-Range: bytes 5-35/36", "another file's last 31 bytes..."),
        ("200 OK", "another file, as long as the first.."),
    ] {
        // The first answer breaks off after five bytes; the second is of another file.
        let server = Server::start(move |head| match header(head, "range") {
            None => Reply::Close("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 36\r\n\r\n01234".into()),
            Some(_) => Reply::answer(second, "ETag: \"v2\"\r\n", other),
        })
        .await;
        let (client, url) = (client(), server.url("/f"));
        let mut body = client.open(&url, RangeRequest::ALL, &Known::default()).await.unwrap();
        let first = body.chunk().await.unwrap().unwrap();
        assert_eq!(&first[..], b"01234");
        let error = body.chunk().await.unwrap_err();
        assert_eq!(error.failure, Failure::Short { at: 5, end: 36 });
        assert_eq!(error.kind(), ErrorKind::Later { delay: None });
        // A failed body never looks complete afterwards.
        assert_eq!(body.chunk().await.unwrap_err(), error);

        let rest = RangeRequest { from: body.position(), to: None };
        let error = client.open(&url, rest, &body.info().known()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
        assert!(matches!(error.failure, Failure::Changed { what: "ETag", .. }));
        assert_eq!(header(&server.seen().requests[1], "if-range"), Some("\"v1\""));
    }
}

#[tokio::test]
async fn wrong_headers_never_become_bytes() {
    for (status, headers) in [
        ("206 Partial Content", "Content-Range: bytes 0-9/36\r\n"),
        ("206 Partial Content", "Content-Range: bytes 10-18/36\r\n"),
        ("206 Partial Content", "Content-Range: bytes 10-20/36\r\n"),
        ("206 Partial Content", "Content-Range: lines 10-19/36\r\n"),
        ("206 Partial Content", ""),
        ("206 Partial Content", "Content-Type: multipart/byteranges; boundary=b\r\n"),
        ("206 Partial Content", "Content-Range: bytes 10-19/36\r\nContent-Encoding: gzip\r\n"),
        ("200 OK", "Content-Encoding: gzip\r\n"),
        ("204 No Content", ""),
        ("304 Not Modified", ""),
    ] {
        let server = Server::start(move |_| Reply::answer(status, headers, "0123456789")).await;
        let error = client().open(&server.url("/f"), range(10, 20), &Known::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{status} {headers}: {error}");
    }
}

#[tokio::test]
async fn short_and_long_bodies() {
    let part = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 10-19/36\r\n";
    for (reply, want) in [
        (format!("{part}Content-Length: 10\r\n\r\n012"), Failure::Short { at: 13, end: 20 }),
        // No length: the end of the connection ends the body.
        (format!("{part}\r\n012"), Failure::Short { at: 13, end: 20 }),
        (
            format!("{part}Transfer-Encoding: chunked\r\n\r\n3\r\n012\r\n0\r\n\r\n"),
            Failure::Short { at: 13, end: 20 },
        ),
        (format!("{part}\r\n0123456789A"), Failure::TooLong { end: 20 }),
        (
            format!("{part}Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789A\r\n0\r\n\r\n"),
            Failure::TooLong { end: 20 },
        ),
    ] {
        let server = Server::start(move |_| Reply::Close(reply.clone())).await;
        let mut body = client().open(&server.url("/f"), range(10, 20), &Known::default()).await.unwrap();
        assert_eq!(read(&mut body).await.unwrap_err().failure, want);
    }
    // A broken chunked body without any announced end must not look like a shorter file.
    let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n012\r\n";
    let server = Server::start(move |_| Reply::Close(cut.into())).await;
    let mut body = client().open(&server.url("/f"), RangeRequest::ALL, &Known::default()).await.unwrap();
    assert!(matches!(read(&mut body).await.unwrap_err().failure, Failure::Broken { at: 3, .. }));
}

#[tokio::test]
async fn statuses_and_retry_after() {
    let server = Server::start(|head| match head.split(' ').nth(1).unwrap() {
        "/seconds" => Reply::answer("503 Busy", "Retry-After: 120\r\n", ""),
        "/date" => Reply::answer("429 Slow", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n", ""),
        "/past" => Reply::answer("503 Busy", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""),
        "/broken" => Reply::answer("500 Oops", "Retry-After: soon\r\n", ""),
        "/gone" => Reply::answer("410 Gone", "", ""),
        _ => Reply::answer("403 Forbidden", "", ""),
    })
    .await;
    let later = |delay| ErrorKind::Later { delay };
    for (path, kind) in [
        ("/seconds", later(Some(Duration::from_secs(120)))),
        ("/date", later(Some(Duration::from_secs(86_400)))),
        ("/past", later(Some(Duration::ZERO))),
        ("/broken", later(None)),
        ("/gone", ErrorKind::Gone),
        ("/secret", ErrorKind::Denied),
    ] {
        let error = client().open(&server.url(path), RangeRequest::ALL, &Known::default()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{path}");
    }
}

#[tokio::test]
async fn redirects_are_followed_with_the_range_but_not_for_ever() {
    let server = Server::start(|head| match head.split(' ').nth(1).unwrap() {
        "/a" => Reply::redirect("b?x=1#top"),
        "/b?x=1" => Reply::redirect("/f"),
        "/f" => honest(head),
        "/bare" => Reply::answer("302 Found", "", ""),
        "/file" => Reply::redirect("file:///etc/passwd"),
        _ => Reply::redirect("/loop"),
    })
    .await;
    let open = async |path| client().open(&server.url(path), range(2, 4), &Known::default()).await;
    let mut body = open("/a").await.unwrap();
    assert_eq!(body.final_url(), &server.url("/f"));
    assert_eq!(read(&mut body).await.unwrap(), b"23");
    assert!(server.seen().requests.iter().all(|head| header(head, "range") == Some("bytes=2-3")));
    assert!(server.seen().requests.iter().all(|head| header(head, "referer").is_none()));

    assert!(matches!(open("/bare").await.unwrap_err().failure, Failure::Header { .. }));
    let error = open("/file").await.unwrap_err();
    assert!(matches!(error.failure, Failure::Location(_)), "{error}");
    let before = server.seen().requests.len();
    let error = open("/loop").await.unwrap_err();
    assert_eq!(error.failure, Failure::Redirects { limit: MAX_REDIRECTS });
    assert_eq!(server.seen().requests.len() - before, MAX_REDIRECTS + 1);
}

#[tokio::test]
async fn credentials_reach_their_host_only_and_no_message() {
    let other = Server::start(|_| Reply::answer("404 Not Found", "", "")).await;
    let elsewhere = other.url("/moved?token=hunter3").as_str().to_owned();
    let server = Server::start(move |_| Reply::redirect(&elsewhere)).await;
    let url = SourceUrl::parse(&format!("http://me:hunter2@{}/f?sig=hunter4", server.addr)).unwrap();
    let error = client().open(&url, RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert!(header(&server.seen().requests[0], "authorization").is_some());
    assert!(header(&other.seen().requests[0], "authorization").is_none());
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(!format!("{error} {error:?}").contains("hunter"));
}

#[tokio::test]
async fn errors_of_the_library_hold_no_secret() {
    let port = { Server::start(honest).await.addr.port() };
    let url = SourceUrl::parse(&format!("http://me:hunter2@127.0.0.1:{port}/f?sig=hunter3")).unwrap();
    let error = client().open(&url, RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
}

#[tokio::test]
async fn no_name_no_connection_no_http() {
    let lost = SourceUrl::parse("http://nowhere.example/").unwrap();
    let error = client().open(&lost, RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Dns, "{error}");
    assert!(matches!(&error.failure, Failure::Dns { host, cause }
        if host == "nowhere.example" && cause.contains("no such name")));

    // Bound, never listening: the kernel refuses.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let url = SourceUrl::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    let error = client().open(&url, RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");

    let server = Server::start(|_| Reply::Close("220 mail.example ESMTP\r\n".into())).await;
    let error = client().open(&server.url("/"), RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn names_go_through_the_configured_resolver() {
    let server = Server::start(honest).await;
    let resolver = Answers::new(&[&["127.0.0.1"]]);
    let client =
        OriginClient::new(OriginConfig { resolver: Arc::clone(&resolver) as _, ..config() }).unwrap();
    let mut body =
        client.open(&server.named("h.example", "/f"), range(0, 3), &Known::default()).await.unwrap();
    assert_eq!(read(&mut body).await.unwrap(), b"012");
    assert_eq!(*resolver.asked.lock(), ["h.example"]);
}

#[tokio::test]
async fn silence_is_not_waited_for() {
    let impatient = OriginConfig { read_timeout: Duration::from_millis(50), ..config() };
    let after = impatient.read_timeout;
    let client = OriginClient::new(impatient).unwrap();
    let server =
        Server::start(|_| Reply::Hang("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n012".into())).await;
    let mut body = client.open(&server.url("/f"), RangeRequest::ALL, &Known::default()).await.unwrap();
    assert_eq!(read(&mut body).await.unwrap_err().failure, Failure::NoProgress { after });
    // The failed body has let go of its connection, although it still stands here.
    server.until(|seen| seen.hung_up == 1).await;
    drop(body);

    let config = OriginConfig {
        read_timeout: Duration::from_millis(25),
        connect_timeout: Duration::from_millis(25),
        ..config()
    };
    let client = OriginClient::new(config).unwrap();
    let mute = Server::start(|_| Reply::Hang("HTTP/1.1 200 OK\r\n".into())).await;
    let error = client.open(&mute.url("/f"), RangeRequest::ALL, &Known::default()).await.unwrap_err();
    assert!(matches!(error.failure, Failure::NoProgress { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Later { delay: None });
}

#[tokio::test]
async fn a_host_that_does_not_answer_syn_is_given_up() {
    // A listener whose queue is full drops further SYNs.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let _fills_the_queue = tokio::net::TcpStream::connect(addr).await.unwrap();
    let config = OriginConfig { connect_timeout: Duration::from_millis(50), ..config() };
    let url = SourceUrl::parse(&format!("http://{addr}/")).unwrap();
    let error = OriginClient::new(config)
        .unwrap()
        .open(&url, RangeRequest::ALL, &Known::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
}

#[tokio::test]
async fn a_dropped_body_closes_its_connection() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
    let server = Server::start(move |_| Reply::Endless(head.into(), vec![b'x'; 64 << 10])).await;
    let mut body = client().open(&server.url("/f"), RangeRequest::ALL, &Known::default()).await.unwrap();
    body.chunk().await.unwrap().unwrap();
    drop(body);
    let seen = server.until(|seen| seen.hung_up == 1).await;
    // What fits into socket buffers, not what was announced.
    assert!(seen.endless < 64 << 20, "{}", seen.endless);
}

#[tokio::test]
async fn huge_heads_are_refused() {
    for line in ["X-Pad: padpadpadpadpadpadpadpadpadpadpadpad\r\n", "padpadpadpadpadpadpadpadpadpadpadpadpad"]
    {
        let server = Server::start(move |_| {
            Reply::Endless("HTTP/1.1 200 OK\r\nX-Start: ".into(), line.repeat(1000).into_bytes())
        })
        .await;
        let error = client().open(&server.url("/f"), RangeRequest::ALL, &Known::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        let seen = server.until(|seen| seen.hung_up == 1).await;
        assert!(seen.endless < 64 << 20, "{}", seen.endless);
    }
}

#[tokio::test]
async fn probe_by_head_and_by_the_first_byte() {
    let server = Server::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        match (path, head.starts_with("HEAD")) {
            ("/signed", true) => Reply::answer("403 Forbidden", "", ""),
            ("/simple", true) => Reply::answer("405 Method Not Allowed", "", ""),
            ("/mute", true) => Reply::Keep("HTTP/1.1 200 OK\r\n\r\n".into()),
            ("/empty", true) => Reply::answer("501 Not Implemented", "", ""),
            ("/empty", false) if header(head, "range").is_some() => {
                Reply::answer("416 No", "Content-Range: bytes */0\r\n", "")
            }
            ("/empty", false) => Reply::answer("200 OK", "ETag: \"e\"\r\n", ""),
            ("/gone", _) => Reply::answer("404 Not Found", "", ""),
            _ => honest(head),
        }
    })
    .await;
    let client = client();
    for path in ["/f", "/signed", "/simple", "/mute"] {
        let info = client.probe(&server.url(path)).await.unwrap();
        assert_eq!((info.size, info.supports_ranges), (Some(36), true), "{path}");
        assert_eq!(info.validators.etag, "\"v1\"");
        assert_eq!(info.validators.last_modified, "Sun, 22 Nov 2026 10:00:00 GMT");
    }
    let info = client.probe(&server.url("/empty")).await.unwrap();
    assert_eq!((info.size, info.validators.etag.as_str()), (Some(0), "\"e\""));
    let before = server.seen().requests.len();
    assert_eq!(client.probe(&server.url("/gone")).await.unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(server.seen().requests.len() - before, 1);
}

#[tokio::test]
async fn an_explicit_proxy_gets_the_request() {
    let proxy = Server::start(honest).await;
    let mode = ProxyMode::Url(format!("http://{}", proxy.addr));
    let client = OriginClient::new(OriginConfig { proxy: mode.into(), ..config() }).unwrap();
    let url = SourceUrl::parse("http://only-the-proxy-knows.example/f").unwrap();
    let mut body = client.open(&url, range(0, 3), &Known::default()).await.unwrap();
    assert_eq!(read(&mut body).await.unwrap(), b"012");
    assert!(proxy.seen().requests[0].starts_with("GET http://only-the-proxy-knows.example/f HTTP/1.1"));
    let bad = OriginConfig { proxy: ProxyMode::Url("http://me:hunter2@:80".into()).into(), ..config() };
    let error = OriginClient::new(bad).unwrap_err().to_string();
    assert!(!error.contains("hunter"), "{error}");
}
