//! Requests in, bodies out: JSON with limits, errors in one shape, nothing cached anywhere.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts as Head;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use peerage_api::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::Failure;

/// A request whose body has not been read.
pub(super) struct Ask {
    pub(super) head: Head,
    pub(super) body: Incoming,
    /// Most bytes that the body may have.
    pub(super) limit: usize,
}

impl Ask {
    /// The JSON body. The content type is not asked for: there are no cookies that a foreign page could ride on.
    pub(super) async fn body<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let read = Limited::new(self.body, self.limit).collect().await;
        let body = read.map_err(|error| Failure::bad(format!("body cannot be read: {error}")))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| Failure::bad(format!("body: {error}")))
    }

    pub(super) fn query<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let query = self.head.uri.query().unwrap_or_default();
        serde_urlencoded::from_str(query).map_err(|error| Failure::bad(format!("query: {error}")))
    }

    /// What the last part of the path names.
    pub(super) fn name(&self) -> &str {
        self.head.uri.path().rsplit('/').next().unwrap_or_default()
    }
}

/// An answer.
pub(super) type Reply = Response<Full<Bytes>>;

/// An answer in JSON.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(text) => reply(status, "application/json", text),
        Err(error) => {
            tracing::error!(%error, "answer cannot be written");
            reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "")
        }
    }
}

pub(super) fn ok<T: Serialize>(value: &T) -> Result<Reply, Failure> {
    Ok(json(StatusCode::OK, value))
}

pub(super) fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

impl From<Failure> for Reply {
    fn from(Failure(error): Failure) -> Self {
        let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut reply = json(status, &error);
        if error.code == Code::TooMany {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
        }
        reply
    }
}
