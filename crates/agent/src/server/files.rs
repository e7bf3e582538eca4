//! The local cache: `GET /v1/files`, `POST /v1/files/{id}/…`, `DELETE /v1/files/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use peerage_api::Code;
use peerage_api::agent::{CachedFile, ExpireRequest, VerifyResult};
use peerage_content::ContentId;
use serde::Deserialize;
use serde_json::Value;

use super::{Administrator, Asked, Failure};
use crate::content::Command;
use crate::shared::Shared;

/// Runs blocking work of the store.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(Code::Internal, error.to_string()))?
}

fn parse(id: &str) -> Result<ContentId, Failure> {
    id.parse().map_err(|error| Failure::new(Code::BadRequest, format!("file id: {error}")))
}

pub(crate) async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<Vec<CachedFile>>, Failure> {
    let files = blocking(move || {
        let age = shared.decide_device().limits.cache_age.unwrap_or(0);
        let file = |info: peerage_store::ContentInfo| {
            // Somebody may have deleted it since the housekeeper looked.
            let notes = shared.store.get(info.id).ok().flatten()?.notes();
            Some(CachedFile {
                file_id: info.id,
                file_size: info.size,
                file_size_in_cache: info.verified,
                source_url: crate::notes::url(&notes),
                completed: info.last_completed,
                expire_on: info.expires(age),
                is_pinned: info.pinned,
            })
        };
        Ok(shared.store.contents().into_iter().filter_map(file).collect())
    });
    files.await.map(Json)
}

pub(crate) async fn change(
    State(shared): State<Arc<Shared>>,
    _: Administrator,
    Path((id, what)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    let id = parse(&id)?;
    let done = blocking(move || {
        let store = &shared.store;
        match what.as_str() {
            "pin" => store.pin(id)?,
            "unpin" => {
                store.unpin(id)?;
                shared.cache_news.notify_one();
            }
            "expire" => {
                let request: ExpireRequest = serde_json::from_slice(&body)
                    .map_err(|error| Failure::new(Code::BadRequest, format!("body: {error}")))?;
                store.expire(id, request.expire_on, shared.clock.unix())?;
                shared.cache_news.notify_one();
            }
            "verify" => {
                let content = store.get(id)?.ok_or_else(|| Failure::new(Code::NotFound, "no such file"))?;
                let report = content.verify()?;
                let dropped = report.bad.len() as u32;
                let result = VerifyResult { good: report.checked - dropped, dropped };
                // A running actor would go on offering what was dropped: it begins anew.
                if let Some(handle) = shared.contents.get(id).filter(|_| dropped > 0) {
                    let _ = handle.commands.try_send(Command::Stop);
                }
                return serde_json::to_value(result).map_err(|e| Failure::new(Code::Internal, e.to_string()));
            }
            _ => return Err(Failure::new(Code::NotFound, format!("unknown action {what:?}"))),
        }
        Ok(Value::Null)
    });
    done.await.map(Json)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Remove {
    /// Remove it even when it is pinned.
    force: bool,
}

pub(crate) async fn remove(
    State(shared): State<Arc<Shared>>,
    _: Administrator,
    Path(id): Path<String>,
    Asked(remove): Asked<Remove>,
) -> Result<Json<Value>, Failure> {
    if id.starts_with("url-") {
        // What simple mode has left of a file, under the name that `status` and `why` give it.
        let running = shared.downloads.states().iter().any(|row| row.file_id == id);
        return blocking(move || match crate::adopt::forget(&shared, &id)? {
            true => Ok(Json(Value::Null)),
            false if running => Err(Failure::new(Code::Conflict, "a download of this file is running")),
            false => Err(Failure::new(Code::NotFound, format!("nothing is left of {id}"))),
        })
        .await;
    }
    let id = parse(&id)?;
    if let Some(handle) = shared.contents.get(id) {
        if shared.downloads.is_running(id) {
            return Err(Failure::new(Code::Conflict, "a download of this file is running"));
        }
        handle.tell(Command::Stop).await;
        handle.ended().await;
    }
    let common = Arc::clone(&shared);
    blocking(move || Ok(common.store.remove(id, remove.force)?)).await?;
    shared.announcer.poke(id);
    Ok(Json(Value::Null))
}
