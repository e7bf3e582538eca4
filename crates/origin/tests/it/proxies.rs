//! Ways out: proxies by rule and by script, and what happens when one is down.

use std::sync::Arc;

use peerage_origin::{
    ChosenBy, Known, OriginClient, OriginConfig, ProxyConfig, ProxyMode, RangeRequest, Scripts, SourceUrl,
};

use crate::ranges::honest;
use crate::support::{Answers, Reply, Server, config, read};

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
    for script in ["for (;;) {}", "return 'SOCKS4 a:1'", "syntax error"] {
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

/// A SOCKS5 server without authentication that connects everybody to `to`, and tells what it was asked for.
async fn socks(to: std::net::SocketAddr) -> (std::net::SocketAddr, tokio::sync::mpsc::Receiver<Vec<u8>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (asked, log) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut hello = [0; 3];
                client.read_exact(&mut hello).await.unwrap();
                client.write_all(&[5, 0]).await.unwrap();
                let mut head = [0; 5];
                client.read_exact(&mut head).await.unwrap();
                let rest = if head[3] == 1 { 5 } else { usize::from(head[4]) + 2 };
                let mut place = vec![0; rest];
                client.read_exact(&mut place).await.unwrap();
                asked.send([&head[3..], &place].concat()).await.unwrap();
                client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (at, log)
}

#[tokio::test]
async fn who_resolves_the_name_is_told_by_the_scheme() {
    let origin = Server::start(honest).await;
    let (at, mut asked) = socks(origin.addr).await;
    // The name as it is; or its address, version 4, by this device's resolver. Port 8080 both times.
    let name = [&[3, 9][..], b"a.example", &[31, 144]].concat();
    for (scheme, place) in [("socks5h", name), ("socks5", vec![1, 10, 1, 2, 3, 31, 144])] {
        let mode: ProxyMode = format!("{scheme}://{at}").parse().unwrap();
        let resolver = Answers::new(&[&["10.1.2.3"]]);
        let client = OriginClient::new(OriginConfig { proxy: mode.into(), resolver, ..config() }).unwrap();
        assert_eq!(fetch(&client, "http://a.example:8080/f").await.unwrap(), b"012");
        assert_eq!(asked.recv().await.unwrap(), place);
        assert_eq!(client.way_out().proxies, [format!("{scheme}://{at}")]);
    }
    // Requests are those for the host itself, not for a proxy.
    assert!(origin.seen().requests.iter().all(|head| head.starts_with("GET /f HTTP/1.1")));
}

#[tokio::test]
async fn a_script_of_the_network_is_waited_for_and_fetched_from_no_address_of_this_device() {
    let (origin, server) = (Server::start(honest).await, Server::start(honest).await);
    let resolver = Answers::new(&[&["127.0.0.1"]]);
    let config =
        OriginConfig { proxy: ProxyMode::Discover.into(), resolver: Arc::clone(&resolver) as _, ..config() };
    let client = OriginClient::new(config).unwrap();
    let waiting = tokio::spawn({
        let (client, url) = (client.clone(), origin.url("/f").to_string());
        async move { fetch(&client, &url).await }
    });
    let urls = vec![server.url("/wpad.dat"), server.named("wpad.corp.example.", "/wpad.dat")];
    let scripts = Scripts { urls, silent: vec!["DHCP is silent".into()] };
    client.scripts(Some(scripts));
    assert_eq!(waiting.await.unwrap().unwrap(), b"012");
    assert_eq!(server.seen().connections, 0);
    let ChosenBy::Discovery(state) = client.way_out().by else { panic!("{:?}", client.way_out()) };
    let trouble = state.trouble.unwrap();
    assert!(trouble.contains("DHCP is silent") && trouble.contains("a loopback address"), "{trouble}");
    assert_eq!(state.from, None);
    // Absolute, so that no resolver tries it in other domains.
    assert_eq!(*resolver.asked.lock(), ["wpad.corp.example."]);
}

#[test]
fn what_may_be_written_and_what_not() {
    let good = [
        "environment",
        "direct",
        "wpad",
        "http://p:3128",
        "https://me:pw@p",
        "socks5://me:pw@p",
        "socks5h://p:1",
        "pac+https://p/x.pac",
        "pac+file:///a",
    ];
    assert!(good.iter().all(|text| text.parse::<ProxyMode>().is_ok()));
    for text in [
        "",
        "none",
        "p:3128",
        "socks4://p",
        "socks5://",
        "pac+socks5://p",
        "file:///a",
        "pac+ftp://p",
        "http://me:hunter2@:80",
    ] {
        let error = text.parse::<ProxyMode>().unwrap_err().to_string();
        assert!(error.contains("allowed are") && !error.contains("hunter"), "{error}");
    }
    let long = ProxyMode::Url(format!("socks5://me:{}@p", "x".repeat(256)));
    assert!(OriginClient::new(OriginConfig { proxy: long.into(), ..config() }).is_err());
    // Whoever controls the network could ask for a password.
    let told =
        ProxyConfig { mode: ProxyMode::Discover, credentials: Some("a:b".into()), ..Default::default() };
    let error = OriginClient::new(OriginConfig { proxy: told, ..config() }).unwrap_err().to_string();
    assert!(error.contains("wpad"), "{error}");
    let odd = ProxyConfig {
        mode: "pac+file:///a".parse().unwrap(),
        credentials: Some("no colon".into()),
        ..Default::default()
    };
    assert!(OriginClient::new(OriginConfig { proxy: odd, ..config() }).is_err());
}
