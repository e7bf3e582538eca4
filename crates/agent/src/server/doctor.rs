//! `GET /v1/doctor`: the agent's own state, looked at now.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use peerage_api::doctor::{
    CacheState, Checkup, ConnectedCache, CoordinatorState, DeviceState, DiscoveryState, GroupState, Peering,
    PolicyState, PortState, ProxyBy, ProxyState, Rangeless,
};
use peerage_host::volume_of;
use peerage_origin::{ChosenBy, ScriptState, WayOut};
use peerage_policy::{
    CacheChoice, CacheHost, Class, ContentFacts, Decision, Facts, GroupChoice, GroupIdSource, Key, Power,
    Provider, RecordState,
};
use peerage_swarm::ByKind;
use rustix::fs::{Access, CWD, Mode, OFlags, access, openat};

use super::Failure;
use crate::cache_place::CachePlace;
use crate::caches::{Rest, origin_url};
use crate::listener;
use crate::neighbours::Neighbours;
use crate::policy::PolicyView;
use crate::shared::Shared;

/// How long the coordinator is waited for, and a proxy script.
const PATIENCE: Duration = Duration::from_secs(5);
/// The reason that downloads of a class wait.
const WAITS: &str = "download_metered";

pub(crate) async fn doctor(State(shared): State<Arc<Shared>>) -> Result<Json<Checkup>, Failure> {
    let used = shared.decide_device().allowed.coordinator;
    let check = async { if used { shared.coordinator.check(PATIENCE).await } else { None } };
    let read = tokio::time::timeout(PATIENCE, shared.origin.read_script());
    let (trouble, _) = tokio::join!(check, read);
    let coordinator = CoordinatorState { url: shared.coordinator.url(), used, trouble };
    let looked = Arc::clone(&shared);
    let cache = tokio::task::spawn_blocking(move || cache(&looked.cache_place.borrow().clone())).await;
    let cache =
        cache.map_err(|error| Failure::new(peerage_api::Code::Internal, format!("the cache: {error}")))?;
    let view = shared.policy();
    let group = GroupChoice::of(&view.settings, &view.facts.group_sources);
    Ok(Json(Checkup {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policy: policy(&view),
        coordinator,
        peering: peering(&shared, &view),
        installed_ram: view.facts.installed_ram,
        cache,
        port: PortState {
            configured: shared.config.listen,
            listening: *shared.listening.borrow(),
            wanted: listener::may_listen(&shared),
            trouble: shared.port_trouble.lock().clone(),
        },
        discovery: discovery(&shared.neighbours),
        group: GroupState {
            id: group.group.map(|id| id.to_string()),
            source: group
                .group
                .map(|_| group.source.map_or(Key::GroupId.name(), GroupIdSource::name).to_owned()),
        },
        proxy: proxy(&shared),
        rangeless: shared.rangeless.all().into_iter().map(|(host, seen)| Rangeless { host, seen }).collect(),
        caches: caches(&shared, &view),
        device: device(&view.facts, &view.settings.vpn_keywords),
    }))
}

fn policy(view: &PolicyView) -> PolicyState {
    let set = view.layers.rows().iter().filter(|row| row.effective.provider != Provider::Default).count();
    PolicyState {
        files: view.error.clone(),
        admin: view.admin_error.clone(),
        fleet: view.fleet.error.clone(),
        serial: view.fleet.serial,
        set,
    }
}

fn peering(shared: &Shared, view: &PolicyView) -> Peering {
    let decision = shared.decide_device();
    let now = shared.clock.unix();
    let tell = |decision: &Decision| {
        crate::why::decided(decision, Class::Background, &view.layers, [], &ByKind::default(), now).because
    };
    let mut because = tell(&decision);
    // The device may do what its most urgent download may: that others wait is to be told all the same.
    if decision.allowed.download {
        let content = ContentFacts {
            class: Class::Background,
            record: RecordState::Missing,
            size: None,
            origin: origin_url(None),
        };
        because.extend(tell(&shared.decide(&content)).into_iter().filter(|one| one.code == WAITS));
    }
    Peering {
        mode: view.settings.download_mode.name().to_owned(),
        fetch: decision.allowed.fetch_any(),
        serve: decision.allowed.serve_any(),
        needed_ram: view.settings.min_ram_allowed_to_peer,
        needed_volume: view.settings.min_disk_size_allowed_to_peer,
        because,
    }
}

/// The connected caches that policy names, and which of them are left alone.
fn caches(shared: &Shared, view: &PolicyView) -> Vec<ConnectedCache> {
    let now = shared.clock.now();
    let hosts = CacheChoice::of(&view.settings, &view.facts.dhcp_cache_hosts).hosts;
    let state = |host: &CacheHost| match shared.caches.out_of_use(host, now) {
        None => ConnectedCache { host: host.to_string(), ..ConnectedCache::default() },
        Some(Rest { left, why, origin }) => ConnectedCache {
            host: host.to_string(),
            out_of_use: Some(left.as_secs()),
            origin,
            why: Some(why),
        },
    };
    hosts.iter().map(state).collect()
}

fn discovery(neighbours: &Neighbours) -> DiscoveryState {
    let closed = neighbours.closed();
    DiscoveryState {
        running: closed.is_none(),
        neighbours: neighbours.now().len(),
        remedy: closed.as_ref().and_then(|closed| closed.remedy).map(str::to_owned),
        trouble: closed.map(|closed| closed.why),
    }
}

fn cache(place: &CachePlace) -> CacheState {
    let directory = place.home.as_path();
    let volume = volume_of(directory).ok();
    CacheState {
        directory: std::path::absolute(directory)
            .unwrap_or_else(|_| directory.to_owned())
            .display()
            .to_string(),
        capacity: volume.map(|volume| volume.capacity),
        free: volume.map(|volume| volume.free),
        trouble: write_a_byte(directory).err().map(|error| error.to_string()),
        stays: place.trouble.clone(),
    }
}

/// Writes to a file without a name, which is gone when it is closed.
fn write_a_byte(directory: &Path) -> std::io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(CWD, directory, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => std::fs::File::from(file).write_all(b"x"),
        // Not every file system knows such files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn proxy(shared: &Shared) -> ProxyState {
    let WayOut { by, proxies, failed, refused } = shared.origin.way_out();
    let (by, script) = match by {
        ChosenBy::Nothing => (ProxyBy::Nothing, None),
        ChosenBy::Environment => (ProxyBy::Environment, None),
        ChosenBy::Configuration => (ProxyBy::Configuration, None),
        ChosenBy::Script(state) => (ProxyBy::Script, Some(state)),
        ChosenBy::Discovery(state) => (ProxyBy::Discovery, Some(state)),
    };
    let ScriptState { from, trouble } = script.unwrap_or_default();
    ProxyState { by, proxies, script: from, trouble, failed, refused }
}

fn device(facts: &Facts, vpn_keywords: &[String]) -> DeviceState {
    let (on_battery, battery_charge) = match facts.power {
        None => (None, None),
        Some(Power::Mains) => (Some(false), None),
        Some(Power::Battery { charge }) => (Some(true), charge),
    };
    let with_address = facts.interfaces.iter().filter(|link| !link.loopback && !link.addresses.is_empty());
    DeviceState {
        networks: with_address.map(|link| link.name.clone()).collect(),
        vpn: facts.vpn(vpn_keywords).map(|sign| sign.to_string()),
        metered: facts.metered,
        on_battery,
        battery_charge,
    }
}
