//! `POST /v1/downloads`: a stream of events, one JSON object a line. The connection is the caller.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use peerage_api::agent::{DownloadEvent, DownloadRequest};
use peerage_api::{ApiError, Code};
use tokio::time::{Instant, sleep_until};

use super::{Failure, Input};
use crate::downloads::{Caller, DownloadState};
use crate::shared::Shared;

/// Events follow each other at least this far apart.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn download(
    State(shared): State<Arc<Shared>>,
    Input(request): Input<DownloadRequest>,
) -> Result<Response, Failure> {
    let caller = shared.downloads.join(&shared, request)?;
    let events = stream::unfold(Some((shared, caller)), |place| async move {
        let (shared, mut caller) = place?;
        let event = next_event(&shared, &mut caller).await;
        let over = !matches!(event, DownloadEvent::Progress { .. });
        Some((Ok::<_, std::convert::Infallible>(line(&event)), (!over).then_some((shared, caller))))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(events)).into_response())
}

async fn next_event(shared: &Arc<Shared>, caller: &mut Caller) -> DownloadEvent {
    let due = Instant::now() + EVERY;
    loop {
        let state = Arc::clone(&caller.state.borrow_and_update());
        if let Some(end) = &state.end {
            return last_event(shared, caller, &state, end.clone()).await;
        }
        let earlier = caller.earlier(&state);
        let status = || Box::new(earlier.since(&state.status));
        if let Some(Err(error)) = state.found.map(|found| caller.wish.check(&found)) {
            return DownloadEvent::Failed { error, status: status() };
        }
        if Instant::now() >= due && !state.status.file_id.is_empty() {
            return DownloadEvent::Progress { status: status() };
        }
        // The end is told at once, progress when it is due.
        tokio::select! {
            changed = caller.state.changed() => if changed.is_err() {
                let error = ApiError::new(Code::Internal, "the download ended unexpectedly");
                return DownloadEvent::Failed { error, status: status() };
            },
            () = sleep_until(due), if Instant::now() < due => {}
        }
    }
}

async fn last_event(
    shared: &Arc<Shared>,
    caller: &Caller,
    state: &DownloadState,
    end: Result<crate::download::Finished, ApiError>,
) -> DownloadEvent {
    let (wish, status) = (caller.wish, Box::new(caller.earlier(state).since(&state.status)));
    let finished = match end {
        Ok(finished) => finished,
        Err(error) => return DownloadEvent::Failed { error, status },
    };
    let opened = tokio::task::spawn_blocking(move || finished.open_for(wish)).await;
    let file = opened.map_err(|error| ApiError::new(Code::Internal, error.to_string())).and_then(|file| file);
    match file.map(|file| shared.deliveries.offer(file)) {
        Ok(Some(delivery)) => DownloadEvent::Done { status, delivery },
        Ok(None) => {
            let error = ApiError::new(Code::TooMany, "too many finished files wait to be fetched");
            DownloadEvent::Failed { error, status }
        }
        Err(error) => DownloadEvent::Failed { error, status },
    }
}

fn line(event: &DownloadEvent) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
