//! `GET /v1/config`, `PUT` and `DELETE /v1/settings/{name}`, `POST /v1/policy/diff`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use peerage_api::Code;
use peerage_api::agent::{DiffRequest, FleetState, PolicyLayer, SetRequest};
use peerage_policy::fleet::SelectorError;
use peerage_policy::{CacheChoice, Difference, GroupChoice, Key, Provider, Row, parse_layer};

use super::facts::DeviceFacts;
use super::naming::{CacheHosts, CachesInUse, Group};
use super::{Administrator, Failure, Input};
use crate::cache_place;
use crate::policy::Change;
use crate::shared::Shared;

/// The facts of the device, every setting with its layers, the group and how it was found, and why the newest policy files are not in force if they are not.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    facts: DeviceFacts,
    settings: Vec<Row>,
    do_config: serde_json::Map<String, serde_json::Value>,
    fleet: FleetState,
    group: Group,
    caches: CachesInUse,
    dhcp_cache_hosts: CacheHosts,
    policy_error: Option<String>,
    admin_error: Option<String>,
}

/// A setting after it was changed here.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Changed {
    #[serde(flatten)]
    row: Row,
    /// Why the value that holds has no effect yet; `null`: it has.
    trouble: Option<String>,
}

pub(crate) async fn config(State(shared): State<Arc<Shared>>) -> Json<Config> {
    let policy = shared.policy();
    let fleet = &policy.fleet;
    Json(Config {
        facts: DeviceFacts::of(&shared, &policy),
        settings: policy.layers.rows(),
        do_config: policy.layers.to_do_json(),
        fleet: FleetState { serial: fleet.serial, parts: fleet.policy.names(), error: fleet.error.clone() },
        group: Group::of(&GroupChoice::of(&policy.settings, &policy.facts.group_sources)),
        caches: CachesInUse::of(&shared, CacheChoice::of(&policy.settings, &policy.facts.dhcp_cache_hosts)),
        dhcp_cache_hosts: CacheHosts::of(&policy.facts.dhcp_cache_hosts),
        policy_error: policy.error.clone(),
        admin_error: policy.admin_error.clone(),
    })
}

pub(crate) async fn set(
    State(shared): State<Arc<Shared>>,
    _: Administrator,
    Path(name): Path<String>,
    Input(SetRequest { value }): Input<SetRequest>,
) -> Result<Json<Changed>, Failure> {
    changed(&shared, Change::Set { name, value }).await
}

pub(crate) async fn unset(
    State(shared): State<Arc<Shared>>,
    _: Administrator,
    Path(name): Path<String>,
) -> Result<Json<Changed>, Failure> {
    changed(&shared, Change::Unset { name }).await
}

async fn changed(shared: &Shared, change: Change) -> Result<Json<Changed>, Failure> {
    let row = shared.policies.change(change).await?;
    let row = row.ok_or_else(|| Failure::new(Code::Internal, "the change was about no setting"))?;
    let trouble = if row.name == Key::ModifyCacheDrive.name() {
        let wanted = shared.policy().settings.modify_cache_drive.clone();
        cache_place::trouble(shared.cache_place.clone(), &wanted).await
    } else {
        None
    };
    Ok(Json(Changed { row, trouble }))
}

/// What a policy would change, thought in place of one of the layers.
pub(crate) async fn diff(
    State(shared): State<Arc<Shared>>,
    Input(DiffRequest { name, text, layer, group }): Input<DiffRequest>,
) -> Result<Json<Vec<Difference>>, Failure> {
    let bad = |why: String| Failure::new(Code::BadRequest, why);
    let given = parse_layer(&name, &text).map_err(|errors| bad(errors.to_string()))?;
    let policy = shared.policy();
    let (mut then, mut thought) = (policy.layers.clone(), given.clone());
    let provider = match layer.unwrap_or_default() {
        PolicyLayer::Fleet => {
            // What is published for other devices of which this is one stays.
            let selector = group
                .as_deref()
                .unwrap_or("all")
                .parse()
                .map_err(|error: SelectorError| bad(format!("group: {error}")))?;
            let fleet = policy.fleet.policy.with(selector, text);
            thought = fleet.layer().map_err(|errors| bad(errors.to_string()))?;
            Provider::Fleet
        }
        PolicyLayer::Admin => Provider::Admin,
        PolicyLayer::Policy => {
            // The files of policy.d stay, and go over it.
            let main = shared.config.policy_dir.join("policy.toml").display().to_string();
            let mut rest = policy.layers.layer(Provider::Policy).cloned().unwrap_or_default();
            rest.retain(|_, file| file != main);
            thought.overlay(rest);
            Provider::Policy
        }
    };
    then.replace(provider, thought);
    Ok(Json(peerage_policy::diff(&policy.layers, &then, &given)))
}
