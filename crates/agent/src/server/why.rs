//! `GET /v1/why?file=`: by content id (its beginning is enough), by the staging name, the URL of a file, or its name there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use peerage_api::Code;
use peerage_api::why::Why;
use peerage_origin::SourceUrl;
use serde::Deserialize;

use super::{Asked, Failure};
use crate::shared::Shared;

/// The shortest beginning of an id that is looked for.
const MIN_PREFIX: usize = 4;

/// What is asked.
#[derive(Debug, Deserialize)]
pub(crate) struct Ask {
    file: String,
}

pub(crate) async fn why(
    State(shared): State<Arc<Shared>>,
    Asked(Ask { file }): Asked<Ask>,
) -> Result<Json<Why>, Failure> {
    let wanted = match SourceUrl::parse(&file) {
        // As it is written down: normalised, without a secret.
        Ok(url) => url.to_string(),
        Err(_) if file.len() < MIN_PREFIX => {
            let message =
                format!("{file:?}: give a URL, or at least {MIN_PREFIX} characters of a content id");
            return Err(Failure::new(Code::BadRequest, message));
        }
        Err(_) => file,
    };
    let found = tokio::task::spawn_blocking(move || {
        let is = |why: &Why| why.source_url == wanted || why.file_id.starts_with(&wanted);
        let all = known(&shared);
        let mut found: Vec<Why> = all.iter().filter(|why| is(why)).cloned().collect();
        found.dedup_by(|a, b| a.file_id == b.file_id);
        match found.len() {
            0 => by_name(all, &wanted),
            // Of one URL the newest counts; ids must be told apart.
            n if n > 1 && found.iter().all(|why| why.source_url != wanted) => {
                Err(Failure::new(Code::BadRequest, format!("{n} files have ids that begin with {wanted}")))
            }
            _ => {
                let mut one = found.swap_remove(0);
                crate::why::complete(&mut one.findings, &shared.policy().layers);
                Ok(one)
            }
        }
    });
    let found = found.await.map_err(|error| Failure::new(Code::Internal, error.to_string()))??;
    Ok(Json(found))
}

/// The newest download of the only URL that ends with this name.
fn by_name(mut all: Vec<Why>, name: &str) -> Result<Why, Failure> {
    all.retain(|why| file_name(&why.source_url) == Some(name));
    let mut urls: Vec<String> = all.iter().map(|why| why.source_url.clone()).collect();
    urls.sort_unstable();
    urls.dedup();
    if urls.len() > 1 {
        let message =
            format!("{} URLs end with {name}: give the whole one of {}", urls.len(), urls.join(", "));
        return Err(Failure::new(Code::BadRequest, message));
    }
    let newest = all.into_iter().next();
    newest.ok_or_else(|| Failure::new(Code::NotFound, format!("no download of {name} is remembered")))
}

/// The last part of a URL's path.
fn file_name(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?;
    path.rsplit_once('/').map(|(_, name)| name).filter(|name| !name.is_empty())
}

/// Every file of which something is remembered, running ones first. Blocking.
fn known(shared: &Arc<Shared>) -> Vec<Why> {
    let mut all = shared.downloads.accounts();
    let mut contents = Vec::new();
    for handle in shared.contents.all() {
        let status = Arc::clone(&handle.status.borrow());
        let url = crate::notes::url(&handle.content.notes());
        contents.push(Why {
            file_id: handle.id.to_string(),
            file_size: handle.content.layout().size(),
            source_url: url,
            complete: status.complete,
            now: status.reasons.clone(),
            ..status.account.tell(&status.received)
        });
    }
    for info in shared.store.contents() {
        let Ok(Some(content)) = shared.store.get(info.id) else { continue };
        contents.push(Why { now: shared.now_of(&content), ..crate::notes::why(&content) });
    }
    // A running actor knows more than its notes.
    for one in contents {
        match all.iter_mut().find(|known| known.file_id == one.file_id) {
            Some(known) if known.now.is_empty() => known.now = one.now,
            Some(_) => {}
            None => all.push(one),
        }
    }
    for one in shared.past.all() {
        if !all.iter().any(|known| known.file_id == one.file_id) {
            all.push(one);
        }
    }
    all
}
