//! `GET /v1/status` and `GET /v1/config`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use peerage_api::Code;
use peerage_api::agent::FileStatus;
use peerage_policy::{DhcpCacheHosts, GroupChoice, GroupIdSource, Key, Row};
use serde::Deserialize;

use super::Failure;
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
    Query(ask): Query<Ask>,
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
        let url = crate::notes::url(&handle.content.notes());
        rows.push(FileStatus { source_url: url, ..row });
    }
    for info in shared.store.contents() {
        if seen.contains(&info.id.to_string()) {
            continue;
        }
        let Ok(Some(content)) = shared.store.get(info.id) else { continue };
        let notes = content.notes();
        let share = if info.complete { shared.may_serve(&content) } else { Share::default() };
        let row = file_status::of_cached(&info, &crate::notes::counters(&notes), share);
        rows.push(FileStatus { source_url: crate::notes::url(&notes), ..row });
    }
    let mode = shared.policy().settings.download_mode.name();
    for row in rows.iter_mut().filter(|row| row.download_mode.is_empty()) {
        mode.clone_into(&mut row.download_mode);
    }
    rows
}

/// Every setting with its layers, and why the newest policy files are not in force if they are not.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    settings: Vec<Row>,
    do_config: serde_json::Map<String, serde_json::Value>,
    policy_error: Option<String>,
    group: Group,
    dhcp_cache_hosts: CacheHosts,
}

/// The group of the device and how it was found.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
    group_id: Option<String>,
    /// As reports show it (DO reference §1.3).
    hashed_group_id: Option<String>,
    /// `group_id`, or the source that named it.
    source: Option<&'static str>,
    failed: Vec<Silent>,
}

/// A source that names no group.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Silent {
    source: &'static str,
    why: String,
}

/// What DHCP option 235 says.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct CacheHosts {
    hosts: Vec<String>,
    why_none: Option<String>,
}

impl Group {
    fn of(choice: &GroupChoice) -> Self {
        let failed =
            choice.failed.iter().map(|(source, why)| Silent { source: source.name(), why: why.clone() });
        Self {
            group_id: choice.group.map(|group| group.to_string()),
            hashed_group_id: choice.group.map(|group| group.reported_hash()),
            source: choice.source.map(GroupIdSource::name).or(choice.group.map(|_| Key::GroupId.name())),
            failed: failed.collect(),
        }
    }
}

impl CacheHosts {
    fn of(found: &DhcpCacheHosts) -> Self {
        match &found.0 {
            Ok(hosts) => Self { hosts: hosts.iter().map(ToString::to_string).collect(), why_none: None },
            Err(why) => Self { hosts: Vec::new(), why_none: Some(why.clone()) },
        }
    }
}

pub(crate) async fn config(State(shared): State<Arc<Shared>>) -> Json<Config> {
    let policy = shared.policy();
    Json(Config {
        settings: policy.layers.rows(),
        do_config: policy.layers.to_do_json(),
        policy_error: policy.error.clone(),
        group: Group::of(&GroupChoice::of(&policy.settings, &policy.facts.group_sources)),
        dhcp_cache_hosts: CacheHosts::of(&policy.facts.dhcp_cache_hosts),
    })
}
