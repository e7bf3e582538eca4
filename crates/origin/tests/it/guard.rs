//! Every way round the guard that we know of, tried.

use std::sync::Arc;
use std::time::Duration;

use peerage_origin::{
    ErrorKind, Failure, Guard, HostRule, Known, OriginClient, OriginConfig, OriginError, ProxyMode,
    RangeBody, RangeRequest, Refusal, SourceUrl,
};

use crate::support::{Answers, Reply, Server, config, read};

fn allow(rules: &[&str]) -> Guard {
    let parse = |text: &&str| text.parse::<HostRule>().unwrap();
    Guard { allow: rules.iter().map(parse).collect(), ..Guard::default() }
}

fn client(guard: Guard, resolver: Arc<Answers>) -> OriginClient {
    OriginClient::new(OriginConfig { guard: Some(guard), resolver, ..config() }).unwrap()
}

async fn open(client: &OriginClient, url: &SourceUrl) -> Result<RangeBody, OriginError> {
    client.open(url, RangeRequest::ALL, &Known::default()).await
}

fn refusal(result: Result<RangeBody, OriginError>) -> Refusal {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    match error.failure {
        Failure::Refused(why) => why,
        other => panic!("not a refusal: {other}"),
    }
}

fn hello(_: &str) -> Reply {
    Reply::answer("200 OK", "", "hello")
}

#[tokio::test]
async fn literal_addresses_are_refused_before_any_connection() {
    let server = Server::start(hello).await;
    let client = client(Guard::default(), Answers::new(&[&["127.0.0.1"]]));
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "①②⑦.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
    ] {
        let why = refusal(open(&client, &server.named(host, "/")).await);
        assert!(matches!(why, Refusal::Address { .. }), "{host}: {why}");
        assert!(matches!(client.vet(&server.named(host, "/")).await.unwrap_err().kind(), ErrorKind::Refused));
    }
    assert_eq!(server.seen().connections, 0);
    for text in ["file:///etc/passwd", "unix:///run/x", "ftp://127.0.0.1/", "gopher://127.0.0.1:25/x"] {
        assert!(SourceUrl::parse(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn names_that_lead_to_private_addresses_are_refused() {
    let server = Server::start(hello).await;
    for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
    {
        let client = client(Guard::default(), Answers::new(&[&[address]]));
        let why = refusal(open(&client, &server.named("innocent.example", "/")).await);
        let Refusal::Address { host, address: found, .. } = why else { panic!("{why}") };
        assert_eq!((host.as_str(), found.to_string().as_str()), ("innocent.example", address));
    }
    assert_eq!(server.seen().connections, 0);
}

#[tokio::test]
async fn a_listed_name_or_network_is_let_through() {
    let server = Server::start(hello).await;
    let port = server.addr.port();
    let url = server.named("mirror.example", "/");
    for rule in ["mirror.example".to_owned(), format!("*.example:{port}"), "127.0.0.0/8".into()] {
        let client = client(allow(&[&rule]), Answers::new(&[&["127.0.0.1"]]));
        client.vet(&url).await.unwrap();
        assert_eq!(read(&mut open(&client, &url).await.unwrap()).await.unwrap(), b"hello", "{rule}");
    }
    let other_port = client(allow(&["mirror.example:1"]), Answers::new(&[&["127.0.0.1"]]));
    assert!(matches!(refusal(open(&other_port, &url).await), Refusal::Address { .. }));
}

#[tokio::test]
async fn only_addresses_that_passed_are_connected_to() {
    // Same port on two addresses: the trap stands first in the answer, but only the second is listed.
    let good = Server::start_at([127, 0, 0, 2].into(), 0, hello).await;
    let trap = Server::start_at([127, 0, 0, 1].into(), good.addr.port(), hello).await;
    let client = client(allow(&["127.0.0.2"]), Answers::new(&[&["127.0.0.1", "127.0.0.2"]]));
    let url = good.named("two.example", "/");
    assert_eq!(read(&mut open(&client, &url).await.unwrap()).await.unwrap(), b"hello");
    assert_eq!((good.seen().connections, trap.seen().connections), (1, 0));
}

#[tokio::test]
async fn a_second_dns_answer_changes_nothing() {
    let good = Server::start_at([127, 0, 0, 2].into(), 0, |head| {
        if head.starts_with("GET /again") { Reply::redirect("/next") } else { hello(head) }
    })
    .await;
    let trap = Server::start_at([127, 0, 0, 1].into(), good.addr.port(), hello).await;
    let resolver = Answers::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let client = client(allow(&["127.0.0.2"]), Arc::clone(&resolver));
    // One look-up a hop: what was judged is what is connected to.
    let url = good.named("rebind.example", "/");
    assert_eq!(read(&mut open(&client, &url).await.unwrap()).await.unwrap(), b"hello");
    assert_eq!(resolver.asked.lock().len(), 1);
    // The next fetch gets the second answer, and is refused for it.
    assert!(matches!(refusal(open(&client, &url).await), Refusal::Address { .. }));
    assert_eq!(trap.seen().connections, 0);

    // The same between two hops of one fetch.
    let resolver = Answers::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let client = crate::guard::client(allow(&["127.0.0.2"]), resolver);
    let why = refusal(open(&client, &good.named("rebind.example", "/again")).await);
    assert!(matches!(why, Refusal::Address { .. }), "{why}");
    assert_eq!(trap.seen().connections, 0);
}

#[tokio::test]
async fn redirects_are_judged_like_the_first_url() {
    let inside = Server::start(hello).await;
    let port = inside.addr.port();
    for (target, expected) in [
        (format!("http://127.0.0.1:{port}/admin"), "address"),
        (format!("//2130706433:{port}/"), "address"),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), "address"),
        (format!("http://inside.example:{port}/"), "address"),
        ("http://169.254.169.254/latest/meta-data/".into(), "address"),
        (format!("http://u:p@127.0.0.2:{port}/"), "credentials"),
        ("file:///etc/passwd".into(), "location"),
    ] {
        let outside = Server::start_at([127, 0, 0, 2].into(), 0, move |_| Reply::redirect(&target)).await;
        let resolver = Answers::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
        let client = client(allow(&["127.0.0.2"]), resolver);
        let error = open(&client, &outside.named("outside.example", "/")).await.unwrap_err();
        let found = match error.failure {
            Failure::Refused(Refusal::Address { .. }) => "address",
            Failure::Refused(Refusal::Credentials) => "credentials",
            Failure::Location(_) => "location",
            ref other => panic!("{other}"),
        };
        assert_eq!(found, expected, "{error}");
        assert_eq!(outside.seen().requests.len(), 1);
    }
    assert_eq!(inside.seen().connections, 0);
}

#[tokio::test]
async fn credentials_and_denied_hosts_are_refused() {
    let server = Server::start(hello).await;
    let guard = Guard { deny: vec!["bad.example".parse().unwrap()], ..allow(&["127.0.0.0/8"]) };
    let client = client(guard, Answers::new(&[&["127.0.0.1"]]));
    let private = SourceUrl::parse(&format!("http://u:p@{}/", server.addr)).unwrap();
    assert_eq!(refusal(open(&client, &private).await), Refusal::Credentials);
    let denied = refusal(open(&client, &server.named("BAD.example.", "/")).await);
    assert_eq!(denied.setting(), Some("ingest_deny"));
    assert_eq!(server.seen().connections, 0);
}

#[tokio::test]
async fn size_is_capped_announced_or_not() {
    let small = || Guard { max_size: 1 << 20, ..allow(&["127.0.0.1"]) };
    let cap = |found| Refusal::Size { found, max: 1 << 20 };
    let client = client(small(), Answers::new(&[]));

    let announced = "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n";
    let server = Server::start(move |_| Reply::Endless(announced.into(), vec![0; 1024])).await;
    assert_eq!(refusal(open(&client, &server.url("/")).await), cap((1 << 20) + 1));
    server.until(|seen| seen.hung_up == 1).await;
    let error = client.probe(&server.url("/")).await.unwrap_err();
    assert_eq!(error.failure, Failure::Refused(cap((1 << 20) + 1)));

    // A small range of a large file is part of a large file.
    let part = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/1048577\r\n\r\n0123456789";
    let server = Server::start(move |_| Reply::Close(part.into())).await;
    let range = RangeRequest { from: 0, to: Some(10) };
    let error = client.open(&server.url("/"), range, &Known::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::Refused(cap((1 << 20) + 1)));

    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    let server = Server::start(move |_| Reply::Endless(endless.into(), vec![0; 1024])).await;
    let mut body = open(&client, &server.url("/")).await.unwrap();
    let error = read(&mut body).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(body.position() <= 1 << 20);
    assert!(error.to_string().contains("ingest_max_size"), "{error}");
    server.until(|seen| seen.hung_up == 1).await;
}

#[tokio::test]
async fn time_is_capped_however_steadily_the_bytes_drip() {
    // Bytes never stop, so only the time for the whole fetch can end this.
    let max = Duration::from_millis(100);
    let guard = Guard { max_time: max, max_size: u64::MAX, ..allow(&["127.0.0.1"]) };
    let client = client(guard, Answers::new(&[]));
    let server = Server::start(|_| Reply::Endless("HTTP/1.1 200 OK\r\n\r\n".into(), vec![b'x'; 16])).await;
    let mut body = open(&client, &server.url("/")).await.unwrap();
    let error = read(&mut body).await.unwrap_err();
    assert_eq!(error.failure, Failure::Refused(Refusal::Time { max }));

    let mute = Server::start(|_| Reply::Hang("HTTP/1.1 200 OK\r\n".into())).await;
    assert_eq!(refusal(open(&client, &mute.url("/")).await), Refusal::Time { max });
}

#[tokio::test]
async fn an_explicit_proxy_is_asked_by_name_and_literals_stay_refused() {
    let proxy = Server::start(hello).await;
    let config = OriginConfig {
        proxy: ProxyMode::Url(format!("http://{}", proxy.addr)).into(),
        guard: Some(Guard::default()),
        ..config()
    };
    let client = OriginClient::new(config).unwrap();
    let url = SourceUrl::parse("http://public.example/f").unwrap();
    assert_eq!(read(&mut open(&client, &url).await.unwrap()).await.unwrap(), b"hello");
    let literal = SourceUrl::parse("http://10.0.0.1/f").unwrap();
    assert!(matches!(refusal(open(&client, &literal).await), Refusal::Address { .. }));
    assert_eq!(proxy.seen().requests.len(), 1);
}

/// Runs itself as a child whose environment names a proxy: a process's own environment is not to be changed.
#[tokio::test]
async fn proxies_of_the_environment_count_only_without_a_guard() {
    let test = "guard::proxies_of_the_environment_count_only_without_a_guard";
    if let Ok(url) = std::env::var("PEERAGE_TEST_URL") {
        let guard = std::env::var_os("PEERAGE_TEST_GUARD").map(|_| allow(&["127.0.0.1"]));
        let config = OriginConfig { proxy: ProxyMode::Environment.into(), guard, ..config() };
        let url = SourceUrl::parse(&url).unwrap();
        let mut body = open(&OriginClient::new(config).unwrap(), &url).await.unwrap();
        assert_eq!(read(&mut body).await.unwrap(), b"hello");
        return;
    }
    let (origin, proxy) = (Server::start(hello).await, Server::start(hello).await);
    for (guard, expected) in [(None, (0, 1)), (Some(("PEERAGE_TEST_GUARD", "1")), (1, 1))] {
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env("http_proxy", format!("http://{}", proxy.addr))
            .env_remove("no_proxy")
            .env_remove("NO_PROXY")
            .env_remove("REQUEST_METHOD")
            .env("PEERAGE_TEST_URL", origin.url("/f").as_str())
            .envs(guard)
            .output()
            .await
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        assert_eq!((origin.seen().connections, proxy.seen().connections), expected);
    }
}
