//! One request, one answer: GET and HEAD of one path, with ranges and their conditions (RFC 9110 §13.1.5, §14).

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::header::{ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::header::{HeaderName, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;

use super::meter::Meter;
use super::range::Wanted;
use super::source::{About, Source};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Answers `request`, and tells the meter how long the body will be.
pub(super) async fn answer<B>(source: &Source, meter: &Meter, request: &Request<B>) -> Response<Body> {
    let mut response = judge(source, request).await;
    let length = match request.method() {
        // Its length is announced to the client, its bytes are not sent (RFC 9110 §9.3.2).
        &Method::HEAD => {
            *response.body_mut() = nothing();
            0
        }
        _ => *response.extensions().get::<u64>().unwrap_or(&0),
    };
    meter.announce(length);
    response
}

async fn judge<B>(source: &Source, request: &Request<B>) -> Response<Body> {
    if request.uri().path() != source.path() {
        return bare(StatusCode::NOT_FOUND);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let about = match source.about() {
        Ok(about) => about,
        Err(error) => {
            tracing::error!(%error, "could not examine the origin's file");
            return bare(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let size = about.size;
    let (status, range) = match wanted(request, &about) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let mut response = bare(StatusCode::RANGE_NOT_SATISFIABLE);
            set(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{size}"));
            return response;
        }
    };
    let length = range.end - range.start;
    let content_range = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
    let body = if request.method() == Method::HEAD || length == 0 {
        nothing()
    } else {
        match source.read(range).await {
            Ok(stream) => StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync(),
            Err(error) => {
                tracing::warn!(%error, "could not read from the origin's source");
                return bare(StatusCode::BAD_GATEWAY);
            }
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.extensions_mut().insert(length);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set(headers, ETAG, &about.etag);
    set(headers, LAST_MODIFIED, &about.last_modified);
    if status == StatusCode::PARTIAL_CONTENT {
        set(headers, CONTENT_RANGE, &content_range);
    }
    response
}

fn wanted<B>(request: &Request<B>, about: &About) -> Wanted {
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    // Range means something for GET only (RFC 9110 §14.2).
    let Some(range) = text(RANGE).filter(|_| request.method() == Method::GET) else { return Wanted::Whole };
    match text(IF_RANGE) {
        Some(condition) if condition != about.etag && condition != about.last_modified => Wanted::Whole,
        // A weak tag never matches (RFC 9110 §13.1.5).
        Some(condition) if condition.starts_with("W/") => Wanted::Whole,
        _ => Wanted::parse(range, about.size),
    }
}

/// An answer without a body.
fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(nothing());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    response
}

fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Sets a header, unless there is nothing to say.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Some(value) =
        Some(value).filter(|value| !value.is_empty()).and_then(|v| HeaderValue::from_str(v).ok())
    {
        headers.insert(name, value);
    }
}
