//! The fleet layer: asked of the coordinator, kept in the state directory, in force while the coordinator is away.
//!
//! The device always has one question out, which the coordinator answers when it has something new ([`run`]), also to say
//! that a peer waits at the relay ([`crate::relay`]). What comes
//! must be signed by a catalog key, and never have a lower serial than what is held: whoever replays an old document, or
//! restores an old coordinator, is refused and named. The held document is `fleet.policy`; it is checked again whenever
//! it is read.

use std::sync::Arc;
use std::time::Duration;

use peerage_api::coordinator::{PolicyQuery, PolicyResponse};
use peerage_api::{ApiError, Code};
use peerage_content::{PublicKey, Sha256, Signed, Unchecked};
use peerage_policy::Layer;
use peerage_policy::fleet::FleetPolicy;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::coordinator::back_off;
use crate::policy::{Change, PolicyView};
use crate::relay;
use crate::shared::Shared;
use crate::state_dir::StateDir;

const FILE: &str = "fleet.policy";
/// How long an answer may be held back. Shorter than proxies and NATs let a quiet connection live.
const WAIT_MS: u64 = 55_000;
/// Between two answers: policies that move a device to and fro between groups cost no more than this.
const GAP: Duration = Duration::from_millis(500);
/// After an answer that will not be another one soon.
const REFUSED_GAP: Duration = Duration::from_secs(60);
/// Addresses told to the coordinator.
const MAX_ADDRESSES: usize = 16;

/// The held document.
#[derive(Debug)]
pub(crate) struct FleetFile {
    state: StateDir,
    held: Option<Signed<FleetPolicy>>,
    layer: Layer,
    error: Option<String>,
}

impl FleetFile {
    /// Takes up the document of an earlier run, if one of `keys` signed it. Blocking.
    pub(crate) fn open(state: StateDir, keys: &[PublicKey]) -> Self {
        let mut file = Self { state, held: None, layer: Layer::default(), error: None };
        let Some(bytes) = file.state.read(FILE) else { return file };
        let text = String::from_utf8_lossy(&bytes);
        match Signed::<FleetPolicy>::from_text(text.trim(), keys) {
            Ok(signed) => {
                match signed.get().layer() {
                    Ok(layer) => file.layer = layer,
                    // Of a newer version: it cannot hold, but nothing older may hold either.
                    Err(errors) => file.refuse(errors.to_string()),
                }
                file.held = Some(signed);
            }
            Err(error) => file.refuse(format!(
                "{} is no policy that the coordinator signed ({error}): what the fleet sets does not hold until the \
                 coordinator is reached",
                file.state.path(FILE).display()
            )),
        }
        file
    }

    /// What it sets.
    pub(crate) const fn layer(&self) -> &Layer {
        &self.layer
    }

    /// What is shown of it.
    pub(crate) fn view(&self) -> FleetView {
        let policy = self.held.as_ref().map(Signed::get);
        FleetView {
            serial: policy.map(|policy| policy.serial),
            digest: policy.map(FleetPolicy::digest),
            policy: policy.cloned().map(Arc::new).unwrap_or_default(),
            error: self.error.clone(),
        }
    }

    /// Takes in a document that the coordinator gave. Blocking.
    ///
    /// # Errors
    /// It is older than the held one, or says something that this version does not understand; the held one stays.
    pub(crate) fn take(&mut self, signed: Signed<FleetPolicy>) -> Result<(), String> {
        let held = self.held.as_ref().filter(|held| held.signer() == signed.signer());
        let (serial, kept) = (signed.get().serial, held.map_or(0, |held| held.get().serial));
        if serial < kept {
            return Err(format!(
                "the coordinator gives fleet policy {serial}, older than {kept} which is held here: refused, {kept} stays \
                 in force; if the coordinator was restored from a backup, push with --serial {}",
                kept.saturating_add(1)
            ));
        }
        let text = signed.to_text();
        self.hold(signed)?;
        if let Err(error) = self.state.write(FILE, text.as_bytes()) {
            tracing::error!(%error, "the fleet policy holds, but not over a restart");
        }
        tracing::info!(serial, "fleet policy taken in");
        Ok(())
    }

    fn hold(&mut self, signed: Signed<FleetPolicy>) -> Result<(), String> {
        self.layer = signed.get().layer().map_err(|errors| errors.to_string())?;
        self.held = Some(signed);
        self.error = None;
        Ok(())
    }

    /// Remembers why the newest document is not in force.
    pub(crate) fn refuse(&mut self, why: String) {
        tracing::error!(error = why, "fleet policy refused");
        self.error = Some(why);
    }

    /// The device has enrolled anew: a policy of somebody else no longer holds. Blocking.
    pub(crate) fn trust(&mut self, keys: &[PublicKey]) {
        if self.held.as_ref().is_some_and(|held| !keys.contains(&held.signer())) {
            self.held = None;
            self.layer = Layer::default();
            if let Err(error) = self.state.remove(FILE) {
                tracing::warn!(%error, "the former coordinator's policy was not removed");
            }
        }
        self.error = None;
    }
}

/// What is known of the fleet's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FleetView {
    pub(crate) serial: Option<u64>,
    digest: Option<Sha256>,
    /// The policies, the weakest first.
    pub(crate) policy: Arc<FleetPolicy>,
    /// Why the newest one is not in force.
    pub(crate) error: Option<String>,
}

/// Asks until the agent ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let (mut enrolments, mut policy) = (shared.coordinator.enrolments(), shared.policy.clone());
    let (mut seen, mut failures) = (shared.policy().fleet.digest, 0);
    loop {
        let pause = if shared.coordinator.is_enrolled() {
            let query = query(&shared, seen);
            tokio::select! {
                answer = shared.coordinator.policy(&query) => match answer {
                    Err(error) if error.code == Code::Unreachable => {
                        failures += 1;
                        back_off(failures - 1)
                    }
                    answer => {
                        failures = 0;
                        take_in(&shared, answer, &mut seen).await
                    }
                },
                () = changed_from(&shared, &query, &mut policy) => GAP,
                () = enrolled(&mut enrolments) => trust(&shared, &mut seen).await,
            }
        } else {
            REFUSED_GAP
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = enrolled(&mut enrolments) => drop(trust(&shared, &mut seen).await),
        }
    }
}

/// What the device says of itself. Its group may itself come from the fleet's policy.
fn query(shared: &Shared, have: Option<Sha256>) -> PolicyQuery {
    let allowed = shared.decide_device().allowed;
    let (group, relay) = (allowed.group.map(|group| group.to_string()), allowed.relay.any());
    let listen = shared.config.listen.ip();
    let found = peerage_host::announce_addresses(listen, &shared.policy().facts.interfaces);
    let at = found.iter().take(MAX_ADDRESSES).map(ToString::to_string).collect::<Vec<_>>().join(",");
    let fleet = &shared.policy().fleet;
    let (applied, refused) = (fleet.serial, fleet.error.is_some());
    PolicyQuery { have, group, at, wait_ms: WAIT_MS, applied, refused, relay }
}

/// Waits until the device would ask otherwise.
async fn changed_from(shared: &Shared, asked: &PolicyQuery, policy: &mut watch::Receiver<Arc<PolicyView>>) {
    loop {
        if policy.changed().await.is_err() {
            return std::future::pending().await;
        }
        if query(shared, asked.have) != *asked {
            return;
        }
    }
}

/// Waits until the device has enrolled anew.
async fn enrolled(enrolments: &mut watch::Receiver<u64>) {
    if enrolments.changed().await.is_err() {
        std::future::pending().await
    }
}

/// From now on the keys of the new enrolment count, and nothing has been seen yet.
async fn trust(shared: &Shared, seen: &mut Option<Sha256>) -> Duration {
    *seen = None;
    let _ = shared.policies.change(Change::Trust(shared.coordinator.catalog_keys())).await;
    Duration::ZERO
}

/// Takes in an answer; returns how long to wait before the next question.
async fn take_in(
    shared: &Arc<Shared>,
    answer: Result<PolicyResponse, ApiError>,
    seen: &mut Option<Sha256>,
) -> Duration {
    match answer {
        Ok(PolicyResponse::Current) => GAP,
        Ok(PolicyResponse::Called { calls }) => {
            for call in calls {
                relay::answer(shared, call);
            }
            // The next call may come at any moment; the coordinator bounds how many there are.
            Duration::ZERO
        }
        Ok(PolicyResponse::New { document }) => match check(shared, &document) {
            Ok(signed) => {
                // Seen, even if it is refused: the next answer comes when there is another one.
                *seen = Some(signed.get().digest());
                let _ = shared.policies.change(Change::Fleet(Box::new(signed))).await;
                GAP
            }
            Err(why) => {
                let _ = shared.policies.change(Change::FleetRefused(why)).await;
                REFUSED_GAP
            }
        },
        Err(error) => {
            tracing::warn!(%error, "the coordinator did not give the fleet's policy");
            REFUSED_GAP
        }
    }
}

fn check(shared: &Shared, document: &Unchecked) -> Result<Signed<FleetPolicy>, String> {
    let checked = document.check::<FleetPolicy>(&shared.coordinator.catalog_keys());
    checked.map_err(|error| format!("the coordinator gives a fleet policy that does not hold: {error}"))
}

#[cfg(test)]
mod tests {
    use peerage_content::SecretKey;
    use peerage_policy::fleet::{FleetPart, Selector};

    use super::*;

    fn signed(key: &SecretKey, serial: u64, text: &str) -> Signed<FleetPolicy> {
        let part = FleetPart { selector: Selector::All, revision: serial, text: text.into() };
        Signed::new(FleetPolicy { serial, parts: vec![part] }, key)
    }

    #[test]
    fn never_back_and_kept_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (key, other) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let open = || FleetFile::open(state.clone(), &[key.public()]);
        let mut file = open();
        file.take(signed(&key, 7, "max_cache_age = 7")).unwrap();
        file.take(signed(&key, 7, "max_cache_age = 8")).unwrap();
        let refused = file.take(signed(&key, 6, "max_cache_age = 6")).unwrap_err();
        assert!(refused.contains("fleet policy 6, older than 7"), "{refused}");
        assert!(file.take(signed(&key, 8, "max_cache_age = 'soon'")).unwrap_err().contains("max_cache_age"));
        drop(file);
        let mut file = open();
        assert_eq!(file.layer().keys().count(), 1);
        assert_eq!(file.view().policy.names(), ["fleet policy 7 for all"]);
        assert!(file.take(signed(&key, 6, "")).is_err(), "after a restart too");
        let anothers = FleetFile::open(state.clone(), &[other.public()]);
        assert!(anothers.layer().is_empty(), "not of another's");
        let told = anothers.view().error.unwrap();
        assert!(told.contains("fleet.policy is no policy that the coordinator signed"), "{told}");
        let newer = signed(&key, 9, "a_setting_of_tomorrow = 1");
        state.write(FILE, newer.to_text().as_bytes()).unwrap();
        let mut after_a_downgrade = open();
        assert!(after_a_downgrade.layer().is_empty() && after_a_downgrade.view().error.is_some());
        assert!(after_a_downgrade.take(signed(&key, 8, "")).is_err(), "the serial is remembered");
        file.trust(&[other.public()]);
        assert!(file.layer().is_empty() && state.read(FILE).is_none());
        file.take(signed(&other, 1, "")).unwrap();
    }
}
