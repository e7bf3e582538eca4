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
    /// More is announced than sent, with an ETag: `full` comes when it is asked for from the middle.
    Cut {
        full: Vec<u8>,
        at: usize,
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
        let from = request
            .headers()
            .get("range")
            .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok());
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
            Some(Page::Cut { full, at }) => cut(&full, at, from),
            None => status(StatusCode::NOT_FOUND),
        }
    }
}

fn cut(full: &[u8], at: usize, from: Option<usize>) -> Response<Body> {
    let answer = Response::builder().header("etag", "\"cut\"").header("accept-ranges", "bytes");
    match from {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", full.len() - 1, full.len());
            answer.status(206).header("content-range", range).body(Body::from(full[from..].to_vec())).unwrap()
        }
        None => {
            let head = Bytes::copy_from_slice(&full[..at]);
            let parts = futures_util::stream::once(async move { Ok(head) }).chain(
                futures_util::stream::once(async {
                    // Lets the server send what it has before the connection breaks.
                    tokio::task::yield_now().await;
                    Err(std::io::Error::other("cut"))
                }),
            );
            answer.header("content-length", full.len()).body(Body::from_stream(parts)).unwrap()
        }
    }
}
