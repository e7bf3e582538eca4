//! The policy in force: the layers of settings, and the facts of the device, read anew every second.
//!
//! A policy file that is wrong leaves the previous policy in force; the error is kept to be shown. What the administrator
//! sets and what the coordinator gives comes as a [`Change`] and holds at once; the layers' files outlive the process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use peerage_api::{ApiError, Code};
use peerage_content::{PublicKey, Signed};
use peerage_host::PolicyFiles;
use peerage_policy::fleet::FleetPolicy;
use peerage_policy::{Facts, Layers, Provider, Row, Settings};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::AdminFile;
use crate::budgets::Budgets;
use crate::fleet::{FleetFile, FleetView};
use crate::state_dir::StateDir;

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

/// Reads policy and facts. Blocking.
pub(crate) struct Watcher {
    files: PolicyFiles,
    admin: AdminFile,
    fleet: FleetFile,
    cache: PathBuf,
    view: PolicyView,
    polls: u32,
    budgets: Arc<Budgets>,
}

impl Watcher {
    /// Reads every layer: the fleet's only if one of `keys` signed it.
    pub(crate) fn new(
        configuration: &std::path::Path,
        cache: PathBuf,
        budgets: Arc<Budgets>,
        state: StateDir,
        keys: &[PublicKey],
    ) -> Self {
        let mut watcher = Self {
            files: PolicyFiles::new(configuration),
            admin: AdminFile::open(state.clone()),
            fleet: FleetFile::open(state, keys),
            cache,
            view: PolicyView::default(),
            polls: 0,
            budgets,
        };
        watcher.resettle();
        watcher.poll();
        watcher
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

    /// Looks for changes; returns whether there are any.
    fn poll(&mut self) -> bool {
        let mut changed = false;
        if self.polls.is_multiple_of(FACTS_EVERY) {
            let internet_uploaded = self.view.facts.internet_uploaded;
            let facts = Facts { internet_uploaded, ..peerage_host::observe(&self.cache).facts };
            changed |= facts != self.view.facts;
            self.view.facts = facts;
        }
        self.polls = self.polls.wrapping_add(1);
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
    pub(crate) async fn run(mut self, views: watch::Sender<Arc<PolicyView>>, mut changes: Changes) {
        let mut every = tokio::time::interval(POLL);
        loop {
            let asked = tokio::select! {
                _ = every.tick() => None,
                asked = changes.recv() => match asked {
                    None => return,
                    asked => asked,
                },
            };
            let worked = tokio::task::spawn_blocking(move || match asked {
                None => {
                    let changed = self.poll();
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
