//! The policy in force: the layers of settings, and the facts of the device, each as soon as it changes.
//!
//! A policy file that is wrong leaves the previous policy in force; the error is kept to be shown. What the administrator
//! sets and what the coordinator gives comes as a [`Change`] and holds at once; the layers' files outlive the process.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use peerage_api::{ApiError, Code};
use peerage_content::{PublicKey, Signed};
use peerage_host::{Look, Monitor, PolicyFiles};
use peerage_policy::fleet::FleetPolicy;
use peerage_policy::{Decision, Facts, Layers, Provider, Row, Settings, Volume, decide_device};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::AdminFile;
use crate::budgets::Budgets;
use crate::cache_place::CachePlace;
use crate::clock::Clock;
use crate::fleet::{FleetFile, FleetView};
use crate::kept_policy::KeptPolicy;
use crate::naming::Naming;
use crate::state_dir::StateDir;

const POLL: Duration = Duration::from_secs(1);
/// Two clocks are read in whole seconds: smaller differences are none.
const CLOCKS_AGREE: u64 = 1;

/// Settings and facts at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyView {
    pub(crate) layers: Layers,
    pub(crate) settings: Settings,
    pub(crate) facts: Facts,
    /// How often the network has become another one: whoever sees another number has connections that lead nowhere.
    pub(crate) network: u64,
    /// Why the newest policy files are not in force.
    pub(crate) error: Option<String>,
    /// Why what was set with `peerage set` is not in force.
    pub(crate) admin_error: Option<String>,
    /// What is known of the fleet's policy.
    pub(crate) fleet: FleetView,
}

/// A change of a layer.
#[derive(Debug)]
pub(crate) enum Change {
    /// The administrator sets a value.
    Set {
        /// The setting, in either spelling.
        name: String,
        /// The value as text.
        value: String,
    },
    /// The administrator takes a value back.
    Unset {
        /// The setting, in either spelling.
        name: String,
    },
    /// The coordinator gave a document.
    Fleet(Box<Signed<FleetPolicy>>),
    /// The coordinator gave a document that does not hold.
    FleetRefused(String),
    /// The device has enrolled; these keys may speak for the fleet.
    Trust(Vec<PublicKey>),
}

/// The setting that a [`Change`] was about, as it is now.
type Changed = Result<Option<Row>, ApiError>;

/// The watcher's handle.
#[derive(Debug, Clone)]
pub(crate) struct Policies(mpsc::Sender<(Change, oneshot::Sender<Changed>)>);

/// The watcher's inbox.
pub(crate) type Changes = mpsc::Receiver<(Change, oneshot::Sender<Changed>)>;

impl Policies {
    pub(crate) fn new() -> (Self, Changes) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    /// Makes a change; it is in force when this returns.
    pub(crate) async fn change(&self, change: Change) -> Changed {
        let ended = || ApiError::new(Code::Internal, "the agent is ending");
        let (reply, answer) = oneshot::channel();
        self.0.send((change, reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// What other parts of the agent find out of the device.
pub(crate) struct Told {
    pub(crate) naming: watch::Receiver<Naming>,
    pub(crate) place: watch::Receiver<CachePlace>,
    /// Where the cache is without a setting.
    pub(crate) own_cache: PathBuf,
}

/// Reads policy and facts.
pub(crate) struct Watcher {
    files: PolicyFiles,
    /// What to go back to when they are wrong from the start.
    kept: KeptPolicy,
    /// Whether they have been right in this run.
    files_held: bool,
    admin: AdminFile,
    fleet: FleetFile,
    view: PolicyView,
    /// What was decided of the device last: the hour alone can change it.
    decision: Option<Decision>,
    budgets: Arc<Budgets>,
    clock: Arc<Clock>,
    naming: watch::Receiver<Naming>,
    place: watch::Receiver<CachePlace>,
}

impl Watcher {
    /// Reads every layer, the fleet's only if one of `keys` signed it, and the facts. Blocking.
    pub(crate) fn new(
        configuration: &Path,
        look: Look,
        told: Told,
        budgets: Arc<Budgets>,
        clock: Arc<Clock>,
        state: StateDir,
        keys: &[PublicKey],
    ) -> Self {
        let mut watcher = Self {
            files: PolicyFiles::new(configuration),
            kept: KeptPolicy::new(state.clone()),
            files_held: false,
            admin: AdminFile::open(state.clone()),
            fleet: FleetFile::open(state, keys),
            view: PolicyView::default(),
            decision: None,
            budgets,
            clock,
            naming: told.naming,
            place: told.place,
        };
        watcher.view.layers.set_own_cache(told.own_cache);
        watcher.resettle();
        watcher.begin(look);
        watcher
    }

    /// Reads files and facts as if for the first time: there is no change yet. Blocking.
    pub(crate) fn begin(&mut self, look: Look) {
        self.poll(Some(look));
        self.view.network = 0;
    }

    /// Works out anew what holds, from the layers that this owns.
    fn resettle(&mut self) {
        self.view.layers.replace(Provider::Admin, self.admin.layer().clone());
        self.view.layers.replace(Provider::Fleet, self.fleet.layer().clone());
        self.view.admin_error = self.admin.error().map(str::to_owned);
        self.view.fleet = self.fleet.view();
        self.view.settings = self.view.layers.settings();
    }

    fn change(&mut self, change: Change) -> Changed {
        let key = match change {
            Change::Set { name, value } => Some(self.admin.set(&name, &value)?),
            Change::Unset { name } => Some(self.admin.unset(&name)?.0),
            Change::Fleet(signed) => {
                if let Err(why) = self.fleet.take(*signed) {
                    self.fleet.refuse(why);
                }
                None
            }
            Change::FleetRefused(why) => {
                self.fleet.refuse(why);
                None
            }
            Change::Trust(keys) => {
                self.fleet.trust(&keys);
                None
            }
        };
        self.resettle();
        Ok(key.map(|key| self.view.layers.row_of(key)))
    }

    pub(crate) fn view(&self) -> Arc<PolicyView> {
        Arc::new(self.view.clone())
    }

    /// Looks for changes; returns whether there are any. Blocking.
    fn poll(&mut self, look: Option<Look>) -> bool {
        let mut changed = look.is_some_and(|look| self.observe(look));
        changed |= self.take_names();
        changed |= self.take_place();
        let ahead = self.clock.own_ahead();
        if self.view.facts.clock_ahead.abs_diff(ahead) > CLOCKS_AGREE {
            self.view.facts.clock_ahead = ahead;
            changed = true;
        }
        // The count itself changes all the time; policy only asks on which side of the cap it is.
        let (sent, cap) = (self.budgets.internet_sent(), self.view.settings.monthly_upload_data_cap);
        if (sent >= cap) != (self.view.facts.internet_uploaded >= cap) {
            self.view.facts.internet_uploaded = sent;
            changed = true;
        }
        match self.files.poll() {
            None => {}
            Some(Ok(layer)) => {
                self.kept.keep(&layer);
                self.files_held = true;
                self.view.layers.replace(Provider::Policy, layer);
                self.view.settings = self.view.layers.settings();
                self.view.error = None;
                changed = true;
            }
            Some(Err(error)) => {
                tracing::error!(%error, "policy files are wrong; the previous policy stays in force");
                if !self.files_held
                    && let Some(kept) = self.kept.last()
                {
                    self.view.layers.replace(Provider::Policy, kept);
                    self.view.settings = self.view.layers.settings();
                }
                self.view.error = Some(error.to_string());
                changed = true;
            }
        }
        let decision = decide_device(&self.view.settings, &self.view.facts, self.clock.unix());
        changed |= self.decision.as_ref() != Some(&decision);
        self.decision = Some(decision);
        changed
    }

    /// Takes in what could name the group, and the caches that DHCP names; returns whether it is news.
    fn take_names(&mut self) -> bool {
        let Naming { group_sources, dhcp_cache_hosts } = self.naming.borrow_and_update().clone();
        let facts = &mut self.view.facts;
        let news = facts.group_sources != group_sources || facts.dhcp_cache_hosts != dhcp_cache_hosts;
        (facts.group_sources, facts.dhcp_cache_hosts) = (group_sources, dhcp_cache_hosts);
        news
    }

    /// Takes in where the cache is; returns whether it is news.
    fn take_place(&mut self) -> bool {
        let trouble = self.place.borrow_and_update().trouble.clone();
        let news = self.view.facts.cache_stays != trouble;
        self.view.facts.cache_stays = trouble;
        news
    }

    /// Takes in what is to be seen of the device; returns whether it is news.
    fn observe(&mut self, look: Look) -> bool {
        let peerage_host::Observed { mut facts, unknown } = look.take();
        for error in unknown {
            tracing::debug!(error = %crate::file_status::chain(&error), "a fact of the device is not known");
        }
        let held = &self.view.facts;
        (facts.internet_uploaded, facts.clock_ahead) = (held.internet_uploaded, held.clock_ahead);
        facts.group_sources = held.group_sources.clone();
        facts.cache_stays = held.cache_stays.clone();
        facts.dhcp_cache_hosts = held.dhcp_cache_hosts.clone();
        // Space comes and goes all the time, and is asked of the disk itself by whoever needs some.
        let steady =
            |facts: &Facts| Facts { cache_volume: facts.cache_volume.map(without_free), ..facts.clone() };
        let news = steady(&facts) != steady(held);
        if lost_way(held, &facts) {
            self.view.network += 1;
        }
        // The first look changes nothing.
        if news && self.decision.is_some() {
            tracing::debug!(
                interfaces = ?facts.interfaces.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(),
                metered = ?facts.metered,
                power = ?facts.power,
                "the device's conditions have changed"
            );
        }
        self.view.facts = facts;
        news
    }

    /// Watches until nobody listens.
    pub(crate) async fn run(
        mut self,
        mut monitor: Monitor,
        views: watch::Sender<Arc<PolicyView>>,
        mut changes: Changes,
    ) {
        let mut every = tokio::time::interval(POLL);
        loop {
            let (look, asked) = tokio::select! {
                _ = every.tick() => (None, None),
                () = monitor.changed() => (Some(monitor.look()), None),
                Ok(()) = self.naming.changed() => (None, None),
                Ok(()) = self.place.changed() => {
                    monitor.set_cache(&self.place.borrow().home);
                    (Some(monitor.look()), None)
                }
                asked = changes.recv() => match asked {
                    None => return,
                    asked => (None, asked),
                },
            };
            let worked = tokio::task::spawn_blocking(move || match asked {
                None => {
                    let changed = self.poll(look);
                    (self, changed, None)
                }
                Some((change, reply)) => {
                    let answer = self.change(change);
                    (self, true, Some((reply, answer)))
                }
            });
            let Ok((watcher, changed, answer)) = worked.await else { return };
            self = watcher;
            if changed && views.send(self.view()).is_err() {
                return;
            }
            // Told only now: whoever set something finds it in force.
            if let Some((reply, answer)) = answer {
                let _ = reply.send(answer);
            }
        }
    }
}

const fn without_free(volume: Volume) -> Volume {
    Volume { free: 0, ..volume }
}

/// Whether connections that there were may lead nowhere now: an address is gone, or default routes lead elsewhere.
fn lost_way(before: &Facts, now: &Facts) -> bool {
    let routes = |facts: &Facts| {
        let through = facts.interfaces.iter().filter(|interface| interface.default_route);
        through.map(|interface| interface.name.clone()).collect::<Vec<_>>()
    };
    let holds = |facts: &Facts, ip| {
        facts.interfaces.iter().flat_map(|interface| &interface.addresses).any(|address| address.ip == ip)
    };
    // Those of containers come and go; a neighbour reached over one is parted from with its address.
    let lasts = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let own = before.interfaces.iter().flat_map(|interface| &interface.addresses);
    let mut own = own.map(|address| address.ip).filter(lasts);
    routes(before) != routes(now) || own.any(|ip| !holds(now, ip))
}

#[cfg(test)]
mod tests {
    use peerage_policy::{Interface, InterfaceAddress};

    use super::*;

    fn facts(links: &[(&str, &str, bool)]) -> Facts {
        let interfaces = links.iter().map(|(name, ip, default_route)| Interface {
            name: (*name).to_owned(),
            default_route: *default_route,
            addresses: vec![InterfaceAddress { ip: ip.parse().unwrap(), prefix: 24 }],
            ..Interface::default()
        });
        Facts { interfaces: interfaces.collect(), ..Facts::default() }
    }

    #[test]
    fn ways_are_lost_with_an_address_or_another_default_route() {
        let home = facts(&[("eth0", "10.0.0.2", true)]);
        for (now, lost) in [
            (facts(&[("eth0", "10.0.0.2", true)]), false),
            (facts(&[("eth0", "10.0.0.2", true), ("docker0", "172.17.0.1", false)]), false),
            (facts(&[("eth0", "10.0.0.3", true)]), true),
            (facts(&[("eth0", "10.0.0.2", false)]), true),
            (facts(&[("eth0", "10.0.0.2", true), ("tun0", "10.8.0.2", true)]), true),
            (facts(&[]), true),
        ] {
            assert_eq!(lost_way(&home, &now), lost, "{now:?}");
        }
        let container = facts(&[("eth0", "10.0.0.2", true), ("veth1", "fe80::1", false)]);
        assert!(!lost_way(&container, &home));
    }
}
