//! A scripted HTTP server, and resolvers that answer what a test wants.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use peerage_origin::{
    Lookup, OriginClient, OriginConfig, OriginError, ProxyMode, RangeBody, Resolver, SourceUrl,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the server does with one request.
pub(crate) enum Reply {
    /// Sends this and goes on.
    Keep(String),
    /// Sends this and closes the connection.
    Close(String),
    /// Sends this, then nothing, until the client goes away.
    Hang(String),
    /// Sends the first, then the second for as long as the client listens.
    Endless(String, Vec<u8>),
}

impl Reply {
    /// A whole answer with a body.
    pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Self {
        Self::Keep(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()))
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::answer("302 Found", &format!("Location: {to}\r\n"), "")
    }
}

/// What the server has seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    /// Heads of requests.
    pub(crate) requests: Vec<String>,
    /// Connections that the client closed while the server still wanted to send.
    pub(crate) hung_up: usize,
    /// Bytes written by endless replies.
    pub(crate) endless: usize,
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves on 127.0.0.1; `script` gets each request's head.
    pub(crate) async fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at([127, 0, 0, 1].into(), 0, script).await
    }

    pub(crate) async fn start_at(
        ip: IpAddr,
        port: u16,
        script: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, port)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tx, seen) = watch::channel(Seen::default());
        let (tx, script) = (Arc::new(tx), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tx.send_modify(|seen| seen.connections += 1);
                let (tx, script) = (Arc::clone(&tx), Arc::clone(&script));
                tokio::spawn(async move { connection(stream, &*script, &tx).await });
            }
        });
        Self { addr, seen, task }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what the server has seen fits.
    pub(crate) async fn until(&self, fits: impl FnMut(&Seen) -> bool) -> Seen {
        self.seen.clone().wait_for(fits).await.unwrap().clone()
    }

    pub(crate) fn url(&self, path: &str) -> SourceUrl {
        SourceUrl::parse(&format!("http://{}{path}", self.addr)).unwrap()
    }

    pub(crate) fn named(&self, host: &str, path: &str) -> SourceUrl {
        SourceUrl::parse(&format!("http://{host}:{}{path}", self.addr.port())).unwrap()
    }
}

async fn connection(
    mut stream: TcpStream,
    script: &(impl Fn(&str) -> Reply + ?Sized),
    seen: &watch::Sender<Seen>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        seen.send_modify(|seen| seen.requests.push(head.clone()));
        match script(&head) {
            Reply::Keep(text) => stream.write_all(text.as_bytes()).await.ok()?,
            Reply::Close(text) => {
                stream.write_all(text.as_bytes()).await.ok()?;
                return None;
            }
            Reply::Hang(text) => {
                stream.write_all(text.as_bytes()).await.ok()?;
                while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {}
                seen.send_modify(|seen| seen.hung_up += 1);
                return None;
            }
            Reply::Endless(text, body) => {
                let mut sent = stream.write_all(text.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(&body).await;
                    seen.send_modify(|seen| seen.endless += body.len());
                }
                seen.send_modify(|seen| seen.hung_up += 1);
                return None;
            }
        }
    }
}

/// Answers a name with each list in turn, the last one for ever, and keeps the names asked for.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    lists: Mutex<Vec<Vec<IpAddr>>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Answers {
    pub(crate) fn new(lists: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self { lists: Mutex::new(lists.iter().rev().map(parse).collect()), asked: Mutex::default() })
    }
}

impl Resolver for Answers {
    fn lookup(&self, host: &str) -> Lookup {
        self.asked.lock().push(host.to_owned());
        let mut lists = self.lists.lock();
        let answer = if lists.len() > 1 { lists.pop() } else { lists.first().cloned() };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// A configuration that depends on nothing around the test.
pub(crate) fn config() -> OriginConfig {
    OriginConfig {
        proxy: ProxyMode::Direct.into(),
        system_roots: false,
        resolver: Answers::new(&[]),
        ..OriginConfig::default()
    }
}

pub(crate) fn client() -> OriginClient {
    OriginClient::new(config()).unwrap()
}

/// All that is left of a body.
pub(crate) async fn read(body: &mut RangeBody) -> Result<Vec<u8>, OriginError> {
    let mut all = Vec::new();
    while let Some(bytes) = body.chunk().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}
