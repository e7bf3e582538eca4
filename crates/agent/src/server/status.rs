//! `GET /v1/status`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use peerage_api::Code;
use peerage_api::agent::FileStatus;
use peerage_api::why::Because;
use serde::Deserialize;

use super::{Asked, Failure};
use crate::file_status;
use crate::shared::{Share, Shared};

/// What is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ask {
    /// One file; the beginning of an id is enough when it is the only one.
    file_id: Option<String>,
    peers: bool,
}

pub(crate) async fn status(
    State(shared): State<Arc<Shared>>,
    Asked(ask): Asked<Ask>,
) -> Result<Json<Vec<FileStatus>>, Failure> {
    let common = Arc::clone(&shared);
    let mut rows = tokio::task::spawn_blocking(move || rows(&common, ask.peers))
        .await
        .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    if let Some(wanted) = &ask.file_id {
        rows.retain(|row| row.file_id.starts_with(wanted.as_str()));
        match rows.len() {
            0 => return Err(Failure::new(Code::NotFound, format!("no file whose id begins with {wanted}"))),
            1 => {}
            n => {
                return Err(Failure::new(
                    Code::BadRequest,
                    format!("{n} files have ids that begin with {wanted}"),
                ));
            }
        }
    }
    Ok(Json(rows))
}

/// One row for each file: downloads that run, contents that are served, contents in the cache. Blocking.
fn rows(shared: &Arc<Shared>, peers: bool) -> Vec<FileStatus> {
    let mut rows = shared.downloads.states();
    let mut seen: BTreeSet<String> = rows.iter().map(|row| row.file_id.clone()).collect();
    for handle in shared.contents.all() {
        let status = Arc::clone(&handle.status.borrow());
        let row = file_status::of_content(handle.id, &handle.content.info(), &status, peers);
        if let Some(known) = rows.iter_mut().find(|known| known.file_id == row.file_id) {
            known.peers = row.peers;
            continue;
        }
        seen.insert(row.file_id.clone());
        let notes = handle.content.notes();
        let (source_url, download_duration) = (crate::notes::url(&notes), crate::notes::duration(&notes));
        rows.push(FileStatus { source_url, download_duration, ..row });
    }
    for info in shared.store.contents() {
        if seen.contains(&info.id.to_string()) {
            continue;
        }
        let Ok(Some(content)) = shared.store.get(info.id) else { continue };
        let notes = content.notes();
        let share = if info.complete { shared.may_serve(&content) } else { Share::default() };
        let mut row = file_status::of_cached(&info, &crate::notes::counters(&notes), share);
        row.reasons = shared.now_of(&content).iter().map(Because::line).collect();
        let (source_url, download_duration) = (crate::notes::url(&notes), crate::notes::duration(&notes));
        rows.push(FileStatus { source_url, download_duration, ..row });
    }
    let mode = shared.policy().settings.download_mode.name();
    for row in rows.iter_mut().filter(|row| row.download_mode.is_empty()) {
        mode.clone_into(&mut row.download_mode);
    }
    rows
}
