//! Ways out: proxies by rule and by script, and what happens when one is down.

use peerage_origin::{Known, OriginClient, OriginConfig, ProxyConfig, ProxyMode, RangeRequest, SourceUrl};

use crate::ranges::honest;
use crate::support::{Reply, Server, config, read};

const RANGE: RangeRequest = RangeRequest { from: 0, to: Some(3) };

fn client(
    script: &str,
    bypass: &[&str],
    credentials: Option<&str>,
) -> (OriginClient, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("function FindProxyForURL(url, host) {{ {script} }}")).unwrap();
    let proxy = ProxyConfig {
        mode: format!("pac+file://{}", file.path().display()).parse().unwrap(),
        bypass: bypass.iter().map(|&host| host.to_owned()).collect(),
        credentials: credentials.map(str::to_owned),
    };
    (OriginClient::new(OriginConfig { proxy, ..config() }).unwrap(), file)
}

async fn fetch(client: &OriginClient, url: &str) -> Result<Vec<u8>, String> {
    let url = SourceUrl::parse(url).unwrap();
    let mut body = client.open(&url, RANGE, &Known::default()).await.map_err(|error| error.to_string())?;
    read(&mut body).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_script_chooses_and_the_next_way_is_gone_when_one_is_down() {
    let proxy = Server::start(honest).await;
    // Port 1 of the loopback: nobody listens there.
    let script = format!("return host == 'a.example' ? 'PROXY 127.0.0.1:1; PROXY {}' : 'DIRECT'", proxy.addr);
    let (client, _file) = client(&script, &[], Some("me:hunter2"));
    assert_eq!(fetch(&client, "http://a.example/f?secret=1").await.unwrap(), b"012");
    assert_eq!(fetch(&client, "http://a.example/f").await.unwrap(), b"012");
    let seen = proxy.seen();
    assert!(seen.requests[0].starts_with("GET http://a.example/f?secret=1 HTTP/1.1"));
    // me:hunter2
    assert!(seen.requests.iter().all(|head| head.contains("Basic bWU6aHVudGVyMg==")), "{seen:?}");
    // Straight, where the script says so: with no word of the proxy's password.
    let origin = Server::start(honest).await;
    assert_eq!(fetch(&client, &origin.url("/f").to_string()).await.unwrap(), b"012");
    assert!(!origin.seen().requests[0].contains("Basic"));
}

#[tokio::test]
async fn the_script_is_told_no_path_and_no_query_and_the_bypass_goes_before_it() {
    let proxy = Server::start(honest).await;
    let script =
        format!("if (url != 'http://a.example/') throw new Error(url); return 'PROXY {}'", proxy.addr);
    let origin = Server::start(honest).await;
    let (client, _file) = client(&script, &["127.0.0.0/8", "b.example"], None);
    assert_eq!(fetch(&client, "http://a.example/path?query=1").await.unwrap(), b"012");
    assert_eq!(fetch(&client, &origin.url("/f").to_string()).await.unwrap(), b"012");
    assert_eq!((proxy.seen().requests.len(), origin.seen().requests.len()), (1, 1));
}

#[tokio::test]
async fn without_a_usable_script_there_is_no_proxy() {
    let origin = Server::start(honest).await;
    for script in ["for (;;) {}", "return 'SOCKS a:1'", "syntax error"] {
        let (client, _file) = client(script, &[], None);
        assert_eq!(fetch(&client, &origin.url("/f").to_string()).await.unwrap(), b"012", "{script}");
    }
    let (client, file) = client("return 'DIRECT'", &[], None);
    drop(file);
    assert_eq!(fetch(&client, &origin.url("/f").to_string()).await.unwrap(), b"012");
}

#[tokio::test]
async fn a_script_from_a_server_is_fetched_once() {
    let proxy = Server::start(honest).await;
    let script = format!("function FindProxyForURL() {{ return 'PROXY {}' }}", proxy.addr);
    let server = Server::start(move |_: &str| Reply::answer("200 OK", "", &script)).await;
    let mode: ProxyMode = format!("pac+http://{}/proxy.pac", server.addr).parse().unwrap();
    let client = OriginClient::new(OriginConfig { proxy: mode.into(), ..config() }).unwrap();
    for host in ["a.example", "b.example"] {
        assert_eq!(fetch(&client, &format!("http://{host}/f")).await.unwrap(), b"012");
    }
    assert_eq!((server.seen().requests.len(), proxy.seen().requests.len()), (1, 2));
}

#[test]
fn what_may_be_written_and_what_not() {
    let good =
        ["environment", "direct", "http://p:3128", "https://me:pw@p", "pac+https://p/x.pac", "pac+file:///a"];
    assert!(good.iter().all(|text| text.parse::<ProxyMode>().is_ok()));
    for text in ["", "none", "p:3128", "socks5://p", "file:///a", "pac+ftp://p", "http://me:hunter2@:80"] {
        let error = text.parse::<ProxyMode>().unwrap_err().to_string();
        assert!(error.contains("allowed are") && !error.contains("hunter"), "{error}");
    }
    let odd = ProxyConfig {
        mode: "pac+file:///a".parse().unwrap(),
        credentials: Some("no colon".into()),
        ..Default::default()
    };
    assert!(OriginClient::new(OriginConfig { proxy: odd, ..config() }).is_err());
}
