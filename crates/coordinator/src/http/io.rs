//! Bodies in and out: JSON with limits, errors in one shape, nothing cached anywhere.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use peerage_api::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::Failure;

/// A JSON body. The content type is not asked for: there are no cookies that a foreign page could ride on.
pub(super) struct Input<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| Failure::bad(format!("body cannot be read: {}", error.body_text())))?;
        serde_json::from_slice(&body).map(Self).map_err(|error| Failure::bad(format!("body: {error}")))
    }
}

/// A JSON answer.
pub(super) struct Output<T>(pub(super) StatusCode, pub(super) T);

impl<T: Serialize> IntoResponse for Output<T> {
    fn into_response(self) -> Response {
        let Self(status, value) = self;
        // Most answers fit; a growing buffer is copied again and again.
        let mut body = Vec::with_capacity(1024);
        match serde_json::to_writer(&mut body, &value) {
            Ok(()) => (status, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body)
                .into_response(),
            Err(error) => {
                tracing::error!(%error, "answer cannot be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let slow_down = self.0.code == Code::TooMany;
        let mut response = Output(status, self.0).into_response();
        if slow_down {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}
