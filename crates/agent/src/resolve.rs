//! Finding out what a URL is: the record, its piece map, and the first view of the swarm.
//!
//! Order: what this device remembers, then the coordinator (one request that also announces), then for the piece map
//! alone any peer. [`crate::search::Search`] does the asking in a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerage_api::agent::DownloadRequest;
use peerage_api::coordinator::{AnnounceEvent, AnnounceItem, ResolveRequest, ResolveResponse, SwarmItem};
use peerage_api::{ApiError, Code};
use peerage_content::{ContentId, ContentRecord, PeerId, PieceMap, Signed};
use peerage_origin::SourceUrl;
use peerage_store::Content;
use peerage_swarm::SourceKind;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::downloads::Key;
use crate::neighbours::Neighbour;
use crate::shared::Shared;
use crate::{admission, announcer};

/// How long the coordinator may hold an answer back while it reads the file itself.
const WAIT_MS: u64 = 25_000;
const RETRY: Duration = Duration::from_secs(5);
/// Neighbours that are asked for a piece map in one go.
const MAX_ASKED: usize = 16;

/// What a download needs to join a swarm.
#[derive(Debug)]
pub(crate) struct Resolution {
    pub(crate) record: Signed<ContentRecord>,
    /// `None`: the store has it.
    pub(crate) map: Option<PieceMap>,
    pub(crate) announce: Option<SwarmItem>,
    /// The content, when staged bytes were made into it.
    pub(crate) staged: Option<Content>,
}

/// Why there is no record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// Why there will be none.
    hopeless: Option<String>,
    /// Why there is none yet.
    pending: Option<String>,
}

impl Said {
    /// The sentence, if there is one.
    pub(crate) fn why(&self) -> Option<String> {
        self.hopeless.clone().or_else(|| self.pending.clone())
    }
}

/// Asks until there is an answer.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) shared: Arc<Shared>,
    url: Option<SourceUrl>,
    id: Option<ContentId>,
    sha256: Option<peerage_content::Sha256>,
    /// Serial of a record that turned out stale.
    stale: Option<u64>,
    /// Whether what this device remembers has been looked at.
    looked: bool,
    /// Whether the coordinator has been asked: the first question is not to be held back.
    asked: bool,
    not_before: Option<Instant>,
    /// It is policy alone that makes asking pointless.
    forbidden: bool,
    /// Common to all clones.
    said: watch::Sender<Said>,
}

impl Resolver {
    pub(crate) fn new(shared: Arc<Shared>, key: Key, request: DownloadRequest) -> Result<Self, ApiError> {
        let url = match key {
            Key::Url(url) => Some(
                SourceUrl::parse(&url)
                    .map_err(|error| ApiError::new(Code::BadRequest, format!("url: {error}")))?,
            ),
            Key::Name(_) => None,
        };
        let mut resolver = Self {
            url,
            id: request.id,
            sha256: request.sha256,
            stale: None,
            looked: false,
            asked: false,
            not_before: None,
            forbidden: false,
            said: watch::Sender::default(),
            shared,
        };
        resolver.judge();
        Ok(resolver)
    }

    /// What makes asking pointless from the start.
    fn judge(&mut self) {
        if !self.shared.decide_device().allowed.coordinator {
            self.give_up("the download mode does not use a coordinator");
            self.forbidden = true;
        } else if !self.shared.coordinator.is_enrolled() {
            self.give_up("this device is not enrolled with a coordinator");
        } else if let Some(secret) = self.url.as_ref().and_then(SourceUrl::secret) {
            // Architecture §3: never ingested, never shared; the coordinator does not even learn of it.
            self.give_up(&format!("the URL {secret}, so it is never shared"));
        }
    }

    /// Policy may have changed: what was not to be asked may be.
    pub(crate) fn reconsider(&mut self) {
        if self.forbidden && self.shared.decide_device().allowed.coordinator {
            self.forbidden = false;
            self.said.send_modify(|said| said.hopeless = None);
            self.judge();
        }
    }

    pub(crate) const fn url(&self) -> Option<&SourceUrl> {
        self.url.as_ref()
    }

    /// Whether asking may still lead to a record.
    pub(crate) fn may_hope(&self) -> bool {
        self.said.borrow().hopeless.is_none()
    }

    /// No record is wanted any more.
    pub(crate) fn give_up(&mut self, why: &str) {
        let why = if self.url.is_some() { format!("Simple mode: {why}.") } else { why.to_owned() };
        self.said.send_modify(|said| said.hopeless = Some(why));
    }

    /// Why it still has to be waited for.
    fn pending(&self, why: &str) {
        let why = if self.url.is_some() {
            format!("Simple mode for now: {why}.")
        } else {
            format!("Waiting: {why}.")
        };
        self.said.send_modify(|said| said.pending = Some(why));
    }

    /// What was said to an earlier question does not hold for the next one.
    pub(crate) fn begin(&self) {
        self.said.send_modify(|said| said.pending = None);
    }

    /// What is said while it asks.
    pub(crate) fn said(&self) -> watch::Receiver<Said> {
        self.said.subscribe()
    }

    /// The record of this serial does not fit what the origin serves.
    pub(crate) fn stale(&mut self, serial: u64) {
        self.stale = Some(serial);
        if let Some(url) = &self.url {
            let shared = Arc::clone(&self.shared);
            tokio::task::block_in_place(|| shared.catalog.forget(url.as_str()));
        }
    }

    /// Why there is no record, if there is none.
    pub(crate) fn why(&self) -> Option<String> {
        self.said.borrow().why()
    }

    /// Asks until there is a record (or none is to be had: the sentence says why).
    pub(crate) async fn resolve(&mut self) -> Result<Resolution, String> {
        loop {
            if let Some(at) = self.not_before {
                sleep_until(at).await;
                self.not_before = None;
            }
            let hopeless = self.said.borrow().hopeless.clone();
            if let Some(why) = hopeless {
                return Err(why);
            }
            match self.try_once().await {
                Ok(Some(resolution)) => return Ok(resolution),
                Ok(None) => {}
                Err(error) if error.code == Code::Unreachable && self.url.is_none() => {
                    return Err(error.message);
                }
                Err(_) => {}
            }
        }
    }

    async fn try_once(&mut self) -> Result<Option<Resolution>, ApiError> {
        if !self.looked {
            let remembered = self.remembered().await;
            // Not before: it may be cut short, and is then to be looked at again.
            self.looked = true;
            if remembered.is_some() {
                return Ok(remembered);
            }
        }
        let answer = self.ask().await;
        if let Err(error) = &answer {
            if error.code == Code::Unreachable
                && let Some(resolution) = self.by_neighbours().await
            {
                return Ok(Some(resolution));
            }
            self.pending(&error.to_string());
            if error.code != Code::Unreachable {
                self.give_up(&error.message);
            }
            self.not_before = Some(Instant::now() + RETRY);
        }
        answer
    }

    /// A record that this device has been given before, and whose map it has. Saves the question, not the check that
    /// the origin still serves it.
    async fn remembered(&mut self) -> Option<Resolution> {
        let record = self.remembered_record()?;
        let (shared, id) = (Arc::clone(&self.shared), record.get().id);
        let map =
            tokio::task::spawn_blocking(move || shared.store.get(id).ok()??.map().ok()?).await.ok()??;
        if map.layout().size() != record.get().size {
            return None;
        }
        Some(Resolution { record, map: None, announce: None, staged: None })
    }

    fn remembered_record(&self) -> Option<Signed<ContentRecord>> {
        let url = self.url.as_ref()?;
        let (keys, now) = (self.shared.record_keys(), self.shared.clock.unix());
        let record = self.shared.catalog.get(url.as_str(), &keys, now)?;
        (self.stale != Some(record.get().serial)).then_some(record)
    }

    /// A record that this device has been given before, with the map from a neighbour, for when no coordinator answers.
    async fn by_neighbours(&self) -> Option<Resolution> {
        let record = self.remembered_record()?;
        let allowed = self.shared.decide_device().allowed.link_local;
        let neighbours = self.shared.neighbours.now();
        let fitting = |one: &&Neighbour| allowed.fetch && (one.of_group || !allowed.of_group);
        let asked = neighbours.iter().filter(fitting).take(MAX_ASKED);
        let near = asked.map(|one| (one.peer, &one.addresses[..]));
        let map = self.map_of_peers(record.get(), SourceKind::LinkLocal, near).await?;
        Some(Resolution { record, map: Some(map), announce: None, staged: None })
    }

    async fn ask(&mut self) -> Result<Option<Resolution>, ApiError> {
        // Bytes are to flow at once if there is no record yet.
        let at_once = !std::mem::replace(&mut self.asked, true) && self.url.is_some();
        let item = AnnounceItem {
            content: ContentId::from_bytes([0; 32]),
            event: AnnounceEvent::Alive,
            left: u64::MAX,
            want: 50,
        };
        let request = ResolveRequest {
            url: self.url.as_ref().map(|url| url.as_str().to_owned()),
            id: self.id.filter(|_| self.url.is_none()),
            sha256: self.sha256.filter(|_| self.url.is_none() && self.id.is_none()),
            wait_ms: if at_once { 0 } else { WAIT_MS },
            stale_serial: self.stale,
            announce: Some(announcer::request(&self.shared, vec![item])),
        };
        match self.shared.coordinator.resolve(&request).await? {
            ResolveResponse::Known { record, map, announce } => {
                let keys = self.shared.record_keys();
                let record = record.check::<ContentRecord>(&keys).map_err(|error| {
                    ApiError::new(Code::Integrity, format!("the coordinator's record is not usable: {error}"))
                })?;
                self.known(record, map, announce).await
            }
            ResolveResponse::Pending { fetched, size } => {
                let of = size.map_or_else(String::new, |size| {
                    format!(" of {}", peerage_policy::units::about_size(size))
                });
                let so_far = peerage_policy::units::about_size(fetched);
                self.pending(&format!("the coordinator is reading the file ({so_far}{of})"));
                // A coordinator that does not hold answers back must not be asked without pause.
                self.not_before = (!at_once).then(|| Instant::now() + Duration::from_millis(200));
                Ok(None)
            }
            ResolveResponse::Refused { reason, retry_after_s } => {
                match retry_after_s {
                    // A name that nobody knows: whoever asked is told, and may ask again.
                    _ if self.url.is_none() => self.give_up(&reason),
                    Some(seconds) => {
                        self.pending(&reason);
                        self.not_before = Some(Instant::now() + Duration::from_secs(seconds.clamp(1, 600)));
                    }
                    None => self.give_up(&reason),
                }
                Ok(None)
            }
        }
    }

    async fn known(
        &mut self,
        record: Signed<ContentRecord>,
        map: Option<String>,
        announce: Option<peerage_api::coordinator::AnnounceResponse>,
    ) -> Result<Option<Resolution>, ApiError> {
        let unusable = |why: String| ApiError::new(Code::Integrity, why);
        let value = record.get();
        // The record is judged by the coordinator's clock: this device's may be behind.
        if let Some(answer) = &announce {
            self.shared.clock.set_by_coordinator(answer.time);
        }
        if let Err(error) = value.check_time(self.shared.clock.unix()) {
            return Err(unusable(format!("the coordinator's record is not usable: {error}")));
        }
        if self.stale == Some(value.serial) {
            self.pending("the coordinator has no newer record yet");
            self.not_before = Some(Instant::now() + RETRY);
            return Ok(None);
        }
        let mut item = None;
        if let Some(answer) = announce {
            item = answer.items.into_iter().find(|item| item.content == value.id);
        }
        if let Some(item) = &item {
            announcer::keep_ticket(&self.shared, item);
        }
        let map = self.map(value, map, item.as_ref()).await?;
        // Nobody waits for the disk to have it: bytes can flow meanwhile.
        let (shared, kept) = (Arc::clone(&self.shared), record.clone());
        drop(tokio::task::spawn_blocking(move || shared.catalog.put(&kept)));
        Ok(Some(Resolution { record, map: Some(map), announce: item, staged: None }))
    }

    /// The piece map: from the answer itself, the store, the coordinator, or any peer.
    async fn map(
        &self,
        record: &ContentRecord,
        inline: Option<String>,
        swarm: Option<&SwarmItem>,
    ) -> Result<PieceMap, ApiError> {
        let fits = |map: &PieceMap| map.layout().size() == record.size;
        let inline = inline.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        if let Some(map) = inline.and_then(|bytes| PieceMap::from_bytes(&bytes, record.id).ok()).filter(fits)
        {
            return Ok(map);
        }
        let (shared, id) = (Arc::clone(&self.shared), record.id);
        let held = tokio::task::spawn_blocking(move || shared.store.get(id).ok()??.map().ok()?).await;
        if let Some(map) = held.ok().flatten().filter(fits) {
            return Ok(map);
        }
        let error = match self.shared.coordinator.map(record.id).await {
            Ok(map) if fits(&map) => return Ok(map),
            Ok(_) => {
                ApiError::new(Code::Integrity, "the coordinator's piece map has another size than its record")
            }
            Err(error) => error,
        };
        let named =
            swarm.into_iter().flat_map(|item| &item.peers).map(|info| (info.peer, &info.addresses[..]));
        self.map_of_peers(record, SourceKind::Lan, named).await.ok_or(error)
    }

    /// The piece map from the first of these peers that has it.
    async fn map_of_peers(
        &self,
        record: &ContentRecord,
        kind: SourceKind,
        peers: impl Iterator<Item = (PeerId, &[SocketAddr])>,
    ) -> Option<PieceMap> {
        for (peer, addresses) in peers {
            for address in addresses {
                let options = self.shared.options_towards(*address);
                let connected =
                    peerage_transport::connect(*address, peer, &self.shared.identity, &options).await;
                let Ok(connection) = connected else { continue };
                let (id, layout) = (record.id, record.layout());
                if let Ok(map) = admission::fetch_map(&self.shared, connection, kind, id, layout).await {
                    return Some(map);
                }
            }
        }
        None
    }
}
