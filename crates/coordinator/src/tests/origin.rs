//! A fake origin on loopback that counts what it is asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What a path answers.
#[derive(Debug, Clone)]
pub(super) enum Page {
    /// A file with an ETag (none when empty).
    File {
        body: Vec<u8>,
        etag: &'static str,
    },
    /// A file that is sent once the gate is open.
    Gated {
        body: Vec<u8>,
    },
    /// HEAD tells an ETag, GET fails.
    Broken {
        etag: &'static str,
    },
    Redirect {
        to: String,
    },
    /// Bytes without end.
    Endless,
    /// Ranges of a file with an ETag. What is announced beyond the byte `at` does not come, unless it is asked for from
    /// there on.
    Cut {
        full: Vec<u8>,
        at: usize,
    },
    /// Ranges of a file with an ETag, and of each range only so many bytes.
    Drip {
        size: usize,
        len: usize,
    },
}

#[derive(Debug, Default)]
struct Inner {
    pages: HashMap<String, Page>,
    gets: usize,
    heads: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Origin {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    gate: watch::Sender<bool>,
}

impl Origin {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Self { address, inner: Arc::default(), gate: watch::Sender::new(false) };
        let this = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let this = this.clone();
                        async move { Ok::<_, Infallible>(this.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        origin
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn put(&self, path: &str, page: Page) {
        self.inner.lock().pages.insert(path.to_owned(), page);
    }

    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// How often a file was asked for (GET) and about (HEAD).
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.gets, inner.heads)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        let page = {
            let mut inner = self.inner.lock();
            if head {
                inner.heads += 1
            } else {
                inner.gets += 1
            }
            inner.pages.get(request.uri().path()).cloned()
        };
        let range = request.headers().get("range").and_then(|range| {
            let (from, to) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
            Some((from.parse().ok()?, to.parse::<usize>().ok()))
        });
        let file = |body: Vec<u8>, etag: &str| {
            let mut answer = Response::builder().header("content-length", body.len());
            if !etag.is_empty() {
                answer = answer.header("etag", etag);
            }
            answer.body(if head { Body::empty() } else { Body::from(body) }).unwrap()
        };
        let status = |status: StatusCode| Response::builder().status(status).body(Body::empty()).unwrap();
        match page {
            Some(Page::File { body, etag }) => file(body, etag),
            Some(Page::Gated { body }) => {
                let mut gate = self.gate.subscribe();
                let _ = gate.wait_for(|open| *open).await;
                file(body, "\"gated\"")
            }
            Some(Page::Broken { etag }) if head => file(vec![0; 10], etag),
            Some(Page::Broken { .. }) => status(StatusCode::INTERNAL_SERVER_ERROR),
            Some(Page::Redirect { to }) => {
                Response::builder().status(302).header("location", to).body(Body::empty()).unwrap()
            }
            Some(Page::Endless) => {
                let chunk = Bytes::from(vec![1; 64 << 10]);
                let endless = futures_util::stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone()));
                Response::new(Body::from_stream(endless))
            }
            Some(Page::Cut { full, at }) => cut(&full, at, range),
            Some(Page::Drip { size, len }) => drip(size, len, range),
            None => status(StatusCode::NOT_FOUND),
        }
    }
}

fn drip(size: usize, len: usize, range: Option<(usize, Option<usize>)>) -> Response<Body> {
    let (from, last) = range.unwrap_or_default();
    let end = last.map_or(size, |last| size.min(last + 1)).min(from + len);
    Response::builder()
        .status(206)
        .header("etag", "\"drip\"")
        .header("content-range", format!("bytes {from}-{}/{size}", end - 1))
        .header("content-length", end - from)
        .body(Body::from(vec![7; end - from]))
        .unwrap()
}

fn cut(full: &[u8], at: usize, range: Option<(usize, Option<usize>)>) -> Response<Body> {
    let mut answer = Response::builder().header("etag", "\"cut\"").header("accept-ranges", "bytes");
    let (from, last) = range.unwrap_or_default();
    let end = last.map_or(full.len(), |last| full.len().min(last + 1));
    if range.is_some() {
        let range = format!("bytes {from}-{}/{}", end - 1, full.len());
        answer = answer.status(206).header("content-range", range);
    }
    answer = answer.header("content-length", end - from);
    if !(from + 1..end).contains(&at) {
        return answer.body(Body::from(full[from..end].to_vec())).unwrap();
    }
    let head = Bytes::copy_from_slice(&full[from..at]);
    let parts =
        futures_util::stream::once(async move { Ok(head) }).chain(futures_util::stream::once(async {
            // Lets the server send what it has before the connection breaks.
            tokio::task::yield_now().await;
            Err(std::io::Error::other("cut"))
        }));
    answer.body(Body::from_stream(parts)).unwrap()
}
