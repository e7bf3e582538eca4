//! The agent's side of the coordinator: enrolment, and requests that fail fast while it is away.
//!
//! When the coordinator cannot be reached, requests are held back for 2 s, then longer each time up to 5 min, with
//! jitter (product §8), so that a fleet does not fall over it when it returns. Whoever asks meanwhile is told at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use peerage_api::client::{ClientOptions, CoordinatorClient, DeviceClient, DeviceCredentials, TlsTrust};
use peerage_api::coordinator::{
    AnnounceRequest, AnnounceResponse, PolicyQuery, PolicyResponse, RelayRequest, RelayResponse,
    ResolveRequest, ResolveResponse,
};
use peerage_api::{ApiError, Code};
use peerage_content::{ContentId, EnrolToken, PieceMap, PublicKey, SecretKey, SiteKey};
use tokio::sync::watch;

use crate::state_dir::{Enrolment, StateDir};

const FIRST_BACK_OFF: Duration = Duration::from_secs(2);
const MAX_BACK_OFF: Duration = Duration::from_secs(300);

#[derive(Debug, Clone)]
struct Enrolled {
    url: String,
    client: DeviceClient,
    keys: Vec<PublicKey>,
    tls_pin: peerage_content::Sha256,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    not_before: Option<Instant>,
}

/// How long to wait after so many failures before: 2 s, longer each time up to 5 min, with jitter (product §8).
pub(crate) fn back_off(failures: u32) -> Duration {
    let wait = (FIRST_BACK_OFF * 2u32.pow(failures.min(8))).min(MAX_BACK_OFF);
    let mut noise = [0u8; 1];
    // Without randomness a fleet that starts together asks together.
    let _ = getrandom::fill(&mut noise);
    wait.mul_f64(0.75 + f64::from(noise[0]) / 512.0)
}

/// The coordinator, if the device is enrolled.
#[derive(Debug)]
pub(crate) struct Coordinator {
    key: SecretKey,
    state: StateDir,
    /// Held by whoever writes an enrolment: what an older one brings must not overwrite a newer one.
    writing: tokio::sync::Mutex<()>,
    local: Option<IpAddr>,
    enrolled: RwLock<Option<Arc<Enrolled>>>,
    /// Counts enrolments of this run.
    enrolments: watch::Sender<u64>,
    breaker: Mutex<Breaker>,
    /// Counts the changes of the network.
    moved: watch::Sender<u64>,
    /// The fleet's site key, as of the last word of the coordinator.
    site_key: watch::Sender<Option<SiteKey>>,
}

impl Coordinator {
    /// Takes up an earlier enrolment if there is one. `local`: the address to connect from.
    pub(crate) fn new(key: SecretKey, state: StateDir, local: Option<IpAddr>) -> Self {
        let coordinator = Self {
            key,
            state,
            writing: tokio::sync::Mutex::new(()),
            local,
            enrolled: RwLock::new(None),
            enrolments: watch::Sender::new(0),
            breaker: Mutex::new(Breaker::default()),
            moved: watch::Sender::new(0),
            site_key: watch::Sender::new(None),
        };
        match coordinator.state.enrolment() {
            Ok(Some(enrolment)) => {
                if let Err(error) = coordinator.take_up(&enrolment) {
                    tracing::error!(%error, "the enrolment cannot be used");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the enrolment cannot be read"),
        }
        coordinator
    }

    fn client(&self, url: &str, pin: peerage_content::Sha256) -> Result<CoordinatorClient, ApiError> {
        let options = ClientOptions { local_address: self.local, ..ClientOptions::default() };
        CoordinatorClient::with_options(url, TlsTrust::Pin(pin), options)
    }

    fn take_up(&self, enrolment: &Enrolment) -> Result<(), ApiError> {
        let client = self.client(&enrolment.coordinator, enrolment.tls_pin)?;
        let client = client.device(DeviceCredentials { key: self.key.clone() });
        let (url, keys) = (enrolment.coordinator.clone(), enrolment.catalog_keys.clone());
        let tls_pin = enrolment.tls_pin;
        *self.enrolled.write() = Some(Arc::new(Enrolled { url, client, keys, tls_pin }));
        self.site_key.send_replace(enrolment.site_key.clone());
        *self.breaker.lock() = Breaker::default();
        self.enrolments.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Tells of every new enrolment.
    pub(crate) fn enrolments(&self) -> watch::Receiver<u64> {
        self.enrolments.subscribe()
    }

    /// Joins the coordinator at `url`.
    pub(crate) async fn enrol(&self, url: &str, token: &EnrolToken) -> Result<(), ApiError> {
        let client = self.client(url, token.tls_pin)?;
        let answer = client.enroll(token, &self.key, &peerage_host::host_name()).await?;
        // The token vouches for its key; the answer may name further ones (a key being replaced).
        let mut catalog_keys = vec![token.catalog_key];
        catalog_keys.extend(answer.catalog_keys.into_iter().filter(|key| *key != token.catalog_key));
        let enrolment = Enrolment {
            coordinator: url.to_owned(),
            tls_pin: token.tls_pin,
            catalog_keys,
            site_key: answer.site_key,
        };
        let _writing = self.writing.lock().await;
        self.state
            .set_enrolment(&enrolment)
            .map_err(|error| ApiError::new(Code::Disk, format!("{error}: {}", error.source)))?;
        self.take_up(&enrolment)
    }

    /// Keeps the site key that came with the session in use, if it is a new one.
    async fn learn_site_key(&self, enrolled: &Arc<Enrolled>) {
        // The session is open: the request that went before has used it.
        let Ok(session) = enrolled.client.session(false).await else { return };
        if session.site_key.is_none() || session.site_key == *self.site_key.borrow() {
            return;
        }
        let _writing = self.writing.lock().await;
        if !self.enrolled.read().as_ref().is_some_and(|now| Arc::ptr_eq(now, enrolled)) {
            // Enrolled anew meanwhile: this key is of another time, perhaps of another fleet.
            return;
        }
        let enrolment = Enrolment {
            coordinator: enrolled.url.clone(),
            tls_pin: enrolled.tls_pin,
            catalog_keys: enrolled.keys.clone(),
            site_key: session.site_key.clone(),
        };
        let state = self.state.clone();
        let kept = tokio::task::spawn_blocking(move || state.set_enrolment(&enrolment)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "the new site key was not saved");
        }
        tracing::info!("the fleet has a new site key");
        self.site_key.send_replace(session.site_key);
    }

    /// The fleet's site key, if it was told.
    pub(crate) fn site_key(&self) -> Option<SiteKey> {
        self.site_key.borrow().clone()
    }

    /// Wakes whenever the site key changes.
    pub(crate) fn site_keys(&self) -> watch::Receiver<Option<SiteKey>> {
        self.site_key.subscribe()
    }

    pub(crate) fn is_enrolled(&self) -> bool {
        self.enrolled.read().is_some()
    }

    /// Its URL.
    pub(crate) fn url(&self) -> Option<String> {
        self.enrolled.read().as_ref().map(|enrolled| enrolled.url.clone())
    }

    /// Whether it answered the last request, or has not been asked yet.
    pub(crate) fn is_reachable(&self) -> bool {
        self.is_enrolled() && self.breaker.lock().failures == 0
    }

    /// Keys whose records and tickets are trusted.
    pub(crate) fn catalog_keys(&self) -> Vec<PublicKey> {
        self.enrolled.read().as_ref().map(|enrolled| enrolled.keys.clone()).unwrap_or_default()
    }

    /// Opens the session, so that the first download need not wait for it.
    pub(crate) async fn warm(&self) {
        if let Ok(enrolled) = self.open()
            && self.answer(enrolled.client.session(false)).await.is_ok()
        {
            self.learn_site_key(&enrolled).await;
        }
    }

    /// Asks it for a new session, whether it is held back or not; `None`: it answers as it should.
    pub(crate) async fn check(&self, patience: Duration) -> Option<String> {
        let enrolled = self.enrolled.read().clone()?;
        match tokio::time::timeout(patience, enrolled.client.session(true)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.message),
            Err(_) => Some(format!("no answer within {} s", patience.as_secs())),
        }
    }

    pub(crate) async fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ApiError> {
        let client = self.open()?;
        self.answer(client.client.resolve(request)).await
    }

    pub(crate) async fn announce(&self, request: &AnnounceRequest) -> Result<AnnounceResponse, ApiError> {
        let client = self.open()?;
        let answer = self.answer(client.client.announce(request)).await?;
        self.learn_site_key(&client).await;
        Ok(answer)
    }

    /// The fleet's policy for this device, once it is another than what the device has seen. A question that is held
    /// back for a minute may break for reasons of its own (a NAT, a proxy): that says nothing about the coordinator.
    pub(crate) async fn policy(&self, query: &PolicyQuery) -> Result<PolicyResponse, ApiError> {
        let client = self.open()?;
        client.client.policy(query).await
    }

    /// Asks for a way to a peer through the relay.
    pub(crate) async fn relay(&self, request: &RelayRequest) -> Result<RelayResponse, ApiError> {
        let client = self.open()?;
        self.answer(client.client.relay(request)).await
    }

    /// Its host and port, which are the relay's too.
    pub(crate) fn host_and_port(&self) -> Option<(String, u16)> {
        self.enrolled.read().as_ref()?.client.host_and_port()
    }

    pub(crate) async fn map(&self, id: ContentId) -> Result<PieceMap, ApiError> {
        let client = self.open()?;
        self.answer(client.client.map(id)).await
    }

    /// The network is another one: asks anew, over a new connection, what is being asked, and ends the back-off. Blocking.
    pub(crate) fn reconnect(&self) {
        match self.state.enrolment() {
            Ok(Some(enrolment)) => {
                if let Err(error) = self.take_up(&enrolment) {
                    tracing::error!(%error, "the enrolment cannot be used");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the enrolment cannot be read"),
        }
        self.moved.send_modify(|count| *count += 1);
    }

    /// Waits for an answer, unless the network changes: the question may have gone nowhere.
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        let mut moved = self.moved.subscribe();
        tokio::select! {
            answer = asked => self.judge(answer),
            _ = moved.changed() => {
                Err(ApiError::new(Code::Unreachable, "the network changed while the coordinator was asked"))
            }
        }
    }

    fn open(&self) -> Result<Arc<Enrolled>, ApiError> {
        let enrolled = self.enrolled.read().clone();
        let enrolled = enrolled.ok_or_else(|| {
            ApiError::new(
                Code::Unreachable,
                "this device is not enrolled: run `peerage enroll URL --token T`",
            )
        })?;
        let held_back = self.breaker.lock().not_before.is_some_and(|at| Instant::now() < at);
        if held_back {
            let message = format!("the coordinator {} did not answer; it is asked again soon", enrolled.url);
            return Err(ApiError::new(Code::Unreachable, message));
        }
        Ok(enrolled)
    }

    fn judge<T>(&self, result: Result<T, ApiError>) -> Result<T, ApiError> {
        let mut breaker = self.breaker.lock();
        match &result {
            Err(error) if error.code == Code::Unreachable => {
                let wait = back_off(breaker.failures);
                breaker.failures += 1;
                breaker.not_before = Some(Instant::now() + wait);
                tracing::info!(%error, ?wait, "coordinator unreachable");
            }
            _ => *breaker = Breaker::default(),
        }
        result
    }
}
