//! The policy in force: the layers of settings, and the facts of the device, each as soon as it changes.
//!
//! A policy file that is wrong leaves the previous policy in force; the error is kept to be shown.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use peerage_host::{Look, Monitor, PolicyFiles};
use peerage_policy::{Decision, Facts, Layers, Provider, Settings, Volume, decide_device};
use tokio::sync::watch;

use crate::budgets::Budgets;
use crate::clock::Clock;

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
}

/// Reads policy and facts.
pub(crate) struct Watcher {
    files: PolicyFiles,
    view: PolicyView,
    /// What was decided of the device last: the hour alone can change it.
    decision: Option<Decision>,
    budgets: Arc<Budgets>,
    clock: Arc<Clock>,
}

impl Watcher {
    /// Reads both for the first time. Blocking.
    pub(crate) fn new(configuration: &Path, look: Look, budgets: Arc<Budgets>, clock: Arc<Clock>) -> Self {
        let files = PolicyFiles::new(configuration);
        let mut watcher = Self { files, view: PolicyView::default(), decision: None, budgets, clock };
        watcher.begin(look);
        watcher
    }

    /// Reads both as if for the first time: there is no change yet. Blocking.
    pub(crate) fn begin(&mut self, look: Look) {
        self.poll(Some(look));
        self.view.network = 0;
    }

    pub(crate) fn view(&self) -> Arc<PolicyView> {
        Arc::new(self.view.clone())
    }

    /// Looks for changes; returns whether there are any. Blocking.
    fn poll(&mut self, look: Option<Look>) -> bool {
        let mut changed = look.is_some_and(|look| self.observe(look));
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
                self.view.layers.replace(Provider::Policy, layer);
                self.view.settings = self.view.layers.settings();
                self.view.error = None;
                changed = true;
            }
            Some(Err(error)) => {
                tracing::error!(%error, "policy files are wrong; the previous policy stays in force");
                self.view.error = Some(error.to_string());
                changed = true;
            }
        }
        let decision = decide_device(&self.view.settings, &self.view.facts, self.clock.unix());
        changed |= self.decision.as_ref() != Some(&decision);
        self.decision = Some(decision);
        changed
    }

    /// Takes in what is to be seen of the device; returns whether it is news.
    fn observe(&mut self, look: Look) -> bool {
        let peerage_host::Observed { mut facts, unknown } = look.take();
        for error in unknown {
            tracing::debug!(error = %crate::file_status::chain(&error), "a fact of the device is not known");
        }
        let held = &self.view.facts;
        (facts.internet_uploaded, facts.clock_ahead) = (held.internet_uploaded, held.clock_ahead);
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
    pub(crate) async fn run(mut self, mut monitor: Monitor, views: watch::Sender<Arc<PolicyView>>) {
        let mut every = tokio::time::interval(POLL);
        loop {
            let look = tokio::select! {
                _ = every.tick() => None,
                () = monitor.changed() => Some(monitor.look()),
            };
            let (watcher, changed) = match tokio::task::spawn_blocking(move || {
                let changed = self.poll(look);
                (self, changed)
            })
            .await
            {
                Ok(done) => done,
                Err(_) => return,
            };
            self = watcher;
            if changed && views.send(self.view()).is_err() {
                return;
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
    // Nobody is connected over link-local addresses, and those of containers come and go.
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
