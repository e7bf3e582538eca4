//! The agent's client, over its unix socket: HTTP/1.1, one connection a request. The agent takes the end of a
//! download's connection as the caller's leaving, so connections are not shared.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use peerage_content::ContentId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::http_json::{chain, failure, read, too_long, unreachable};
use crate::agent::{
    CachedFile, DiffRequest, DownloadEvent, DownloadRequest, EnrollRequest, ExpireRequest, FileStatus,
    Health, SetRequest, VerifyResult,
};
use crate::doctor::Checkup;
use crate::why::Why;
use crate::{ApiError, Code};

const WHO: &str = "agent";
/// Longest answer, and longest line of a stream. A status with all peers of all files stays below it.
const MAX_ANSWER: usize = 64 << 20;
const MAX_LINE: usize = 1 << 20;
/// Time until the head of an answer; verifying a large cached file takes minutes.
const PATIENCE: Duration = Duration::from_secs(900);

/// The agent's API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentClient {
    socket: PathBuf,
}

impl AgentClient {
    /// A client of the agent that listens on `socket`. Connects nowhere yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket it asks.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/health`.
    ///
    /// # Errors
    /// Unreachable, or what the agent says; the same for all below.
    pub async fn health(&self) -> Result<Health, ApiError> {
        self.get("/v1/health").await
    }

    /// `GET /v1/doctor`.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn doctor(&self) -> Result<Checkup, ApiError> {
        self.get("/v1/doctor").await
    }

    /// `GET /v1/status`: of one file or all, with peers if asked for.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn status(&self, file_id: Option<&str>, peers: bool) -> Result<Vec<FileStatus>, ApiError> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(file_id) = file_id {
            query.append_pair("file_id", file_id);
        }
        query.append_pair("peers", if peers { "true" } else { "false" });
        self.get(&format!("/v1/status?{}", query.finish())).await
    }

    /// `GET /v1/files`.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn files(&self) -> Result<Vec<CachedFile>, ApiError> {
        self.get("/v1/files").await
    }

    /// `POST /v1/files/{id}/pin` or `/unpin`.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn pin(&self, id: ContentId, pinned: bool) -> Result<(), ApiError> {
        let verb = if pinned { "pin" } else { "unpin" };
        self.send(Method::POST, &format!("/v1/files/{id}/{verb}"), None::<&()>).await.map(drop)
    }

    /// `POST /v1/files/{id}/verify`.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn verify(&self, id: ContentId) -> Result<VerifyResult, ApiError> {
        self.post(&format!("/v1/files/{id}/verify"), &()).await
    }

    /// `POST /v1/files/{id}/expire`.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn expire(&self, id: ContentId, request: &ExpireRequest) -> Result<(), ApiError> {
        self.send(Method::POST, &format!("/v1/files/{id}/expire"), Some(request)).await.map(drop)
    }

    /// `DELETE /v1/files/{id}`, of a content or of what simple mode has left under a name that begins with `url-`; `force`:
    /// also while it is pinned.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn remove(&self, id: &str, force: bool) -> Result<(), ApiError> {
        let segment: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        self.send(Method::DELETE, &format!("/v1/files/{segment}?force={force}"), None::<&()>).await.map(drop)
    }

    /// `POST /v1/enroll`.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn enroll(&self, request: &EnrollRequest) -> Result<(), ApiError> {
        self.send(Method::POST, "/v1/enroll", Some(request)).await.map(drop)
    }

    /// `PUT /v1/settings/{name}`, or `DELETE` without a value: the setting as it is now.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn set<T: DeserializeOwned>(&self, name: &str, value: Option<&str>) -> Result<T, ApiError> {
        let segment: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let path = format!("/v1/settings/{segment}");
        let body = value.map(|value| SetRequest { value: value.to_owned() });
        let method = if body.is_some() { Method::PUT } else { Method::DELETE };
        read(WHO, &self.send(method, &path, body.as_ref()).await?)
    }

    /// `GET /v1/why`: of a content id, its beginning, or a URL.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn why(&self, file: &str) -> Result<Why, ApiError> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("file", file);
        self.get(&format!("/v1/why?{}", query.finish())).await
    }

    /// `POST /v1/policy/diff`.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn diff<T: DeserializeOwned>(&self, request: &DiffRequest) -> Result<T, ApiError> {
        self.post("/v1/policy/diff", request).await
    }

    /// `POST /v1/downloads`: the stream of what happens to it. Dropping it leaves the download.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn download(&self, request: &DownloadRequest) -> Result<Download, ApiError> {
        let (response, connection) = self.open(Method::POST, "/v1/downloads", Some(request)).await?;
        Ok(Download {
            body: response.into_body(),
            buffer: BytesMut::new(),
            scanned: 0,
            _connection: connection,
        })
    }

    /// A file that a download has delivered: [`super::fetch_file`].
    ///
    /// # Errors
    /// As [`super::fetch_file`].
    pub async fn fetch_file(&self, word: &str) -> Result<std::fs::File, ApiError> {
        super::fetch_file(&self.socket, word).await
    }

    /// Any `GET` with a JSON answer.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        read(WHO, &self.send(Method::GET, path, None::<&()>).await?)
    }

    /// Any `POST` with JSON both ways.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, ApiError> {
        read(WHO, &self.send(Method::POST, path, Some(body)).await?)
    }

    /// Any `DELETE`; its answer is dropped.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn delete(&self, path: &str) -> Result<(), ApiError> {
        self.send(Method::DELETE, path, None::<&()>).await.map(drop)
    }

    async fn send<T: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&T>,
    ) -> Result<Vec<u8>, ApiError> {
        let (response, _connection) = self.open(method, path, body).await?;
        collect(response.into_body()).await
    }

    /// Sends a request and returns once the head of a successful answer is there.
    async fn open<T: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&T>,
    ) -> Result<(Response<Incoming>, Connection), ApiError> {
        let lost = |error: hyper::Error| unreachable(WHO, chain(&error));
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?
            .unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "agent")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?;
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| unreachable(WHO, format_args!("{}: {error}", self.socket.display())))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let connection = Connection(tokio::spawn(async move {
            // A broken connection shows in the request or its body.
            let _ = connection.await;
        }));
        let response = tokio::time::timeout(PATIENCE, sender.send_request(request))
            .await
            .map_err(|_| unreachable(WHO, "no answer within 15 minutes"))?
            .map_err(lost)?;
        let status = response.status();
        if status.is_success() {
            return Ok((response, connection));
        }
        let body = collect(response.into_body()).await?;
        Err(failure(WHO, status, &body))
    }
}

async fn collect(mut body: Incoming) -> Result<Vec<u8>, ApiError> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreachable(WHO, chain(&error)))?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > MAX_ANSWER {
                return Err(too_long(WHO, MAX_ANSWER));
            }
            all.extend_from_slice(data);
        }
    }
    Ok(all)
}

/// The task that moves one connection's bytes; it ends with its owner.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A download as its caller sees it. Dropping it closes the connection: the caller has left.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no line end.
    scanned: usize,
    _connection: Connection,
}

impl Download {
    /// The next event; `None` after the last. Cancel safe.
    ///
    /// # Errors
    /// The agent is gone, or sent what is not an event.
    pub async fn next(&mut self) -> Result<Option<DownloadEvent>, ApiError> {
        loop {
            while let Some(line) = self.line() {
                if !line.iter().all(u8::is_ascii_whitespace) {
                    return read(WHO, &line).map(Some);
                }
            }
            if self.buffer.len() > MAX_LINE {
                return Err(too_long(WHO, MAX_LINE));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                // On a socket of this host a stream breaks only when the other end does.
                Some(Err(_)) => return Err(ended()),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ended()),
            }
        }
    }

    fn line(&mut self) -> Option<Bytes> {
        let fresh = self.buffer.get(self.scanned..)?;
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + end + 1).freeze();
        self.scanned = 0;
        Some(line)
    }
}

/// On a socket of this host an answer breaks off only when the agent does.
fn ended() -> ApiError {
    ApiError::new(Code::Unreachable, "the agent ended; what it has is kept, so ask again when it runs")
}
