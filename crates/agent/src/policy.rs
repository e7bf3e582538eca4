//! The policy in force: the layers of settings, and the facts of the device, read anew every second.
//!
//! A policy file that is wrong leaves the previous policy in force; the error is kept to be shown.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use peerage_host::PolicyFiles;
use peerage_policy::{Facts, Layers, Provider, Settings};
use tokio::sync::watch;

use crate::budgets::Budgets;
use crate::naming::Naming;

const POLL: Duration = Duration::from_secs(1);
/// Facts of the device change seldom and cost more to read.
const FACTS_EVERY: u32 = 10;

/// Settings and facts at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyView {
    pub(crate) layers: Layers,
    pub(crate) settings: Settings,
    pub(crate) facts: Facts,
    /// Why the newest policy files are not in force.
    pub(crate) error: Option<String>,
}

/// Reads policy and facts. Blocking.
pub(crate) struct Watcher {
    files: PolicyFiles,
    cache: PathBuf,
    view: PolicyView,
    polls: u32,
    budgets: Arc<Budgets>,
    naming: watch::Receiver<Naming>,
}

impl Watcher {
    pub(crate) fn new(
        configuration: &std::path::Path,
        cache: PathBuf,
        budgets: Arc<Budgets>,
        mut naming: watch::Receiver<Naming>,
    ) -> Self {
        naming.mark_changed();
        let mut watcher = Self {
            files: PolicyFiles::new(configuration),
            cache,
            view: PolicyView::default(),
            polls: 0,
            budgets,
            naming,
        };
        watcher.poll();
        watcher
    }

    pub(crate) fn view(&self) -> Arc<PolicyView> {
        Arc::new(self.view.clone())
    }

    /// Looks for changes; returns whether there are any.
    fn poll(&mut self) -> bool {
        let mut changed = false;
        if self.polls.is_multiple_of(FACTS_EVERY) {
            let Facts { internet_uploaded, group_sources, dhcp_cache_hosts, .. } = self.view.facts.clone();
            let others = peerage_host::observe(&self.cache).facts;
            let facts = Facts { internet_uploaded, group_sources, dhcp_cache_hosts, ..others };
            changed |= facts != self.view.facts;
            self.view.facts = facts;
        }
        self.polls = self.polls.wrapping_add(1);
        if self.naming.has_changed().unwrap_or(false) {
            let Naming { group_sources, dhcp_cache_hosts } = self.naming.borrow_and_update().clone();
            (self.view.facts.group_sources, self.view.facts.dhcp_cache_hosts) =
                (group_sources, dhcp_cache_hosts);
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
        changed
    }

    /// Watches until nobody listens.
    pub(crate) async fn run(mut self, views: watch::Sender<Arc<PolicyView>>) {
        let mut every = tokio::time::interval(POLL);
        loop {
            every.tick().await;
            let (watcher, changed) = match tokio::task::spawn_blocking(move || {
                let changed = self.poll();
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
