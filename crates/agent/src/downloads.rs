//! The downloads that callers wait for. Several callers asking for one file share one download.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use peerage_api::agent::{DownloadRequest, FileStatus, Priority};
use peerage_api::why::Why;
use peerage_api::{ApiError, Code};
use peerage_swarm::ByKind;
use tokio::sync::{mpsc, watch};

use crate::download::{self, Finished};
use crate::file_status::Counts;
use crate::shared::Shared;
use crate::why::Account;
use crate::wish::{Found, Wish};

/// What a download is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A URL, normalised.
    Url(String),
    /// A content id or SHA-256.
    Name(String),
}

impl Key {
    fn of(request: &DownloadRequest) -> Result<Self, ApiError> {
        if let Some(url) = &request.url {
            let url = peerage_origin::SourceUrl::parse(url)
                .map_err(|error| ApiError::new(Code::BadRequest, format!("url: {error}")))?;
            return Ok(Self::Url(url.as_str().to_owned()));
        }
        let name =
            request.id.map(|id| id.to_string()).or(request.sha256.map(|sha256| format!("sha256:{sha256}")));
        name.map(Self::Name).ok_or_else(|| {
            ApiError::new(Code::BadRequest, "nothing to download: give a URL, a content id or a SHA-256")
        })
    }
}

/// How a download stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct DownloadState {
    pub(crate) status: FileStatus,
    /// What of that had come before it began.
    pub(crate) earlier: Counts,
    /// Which decisions held in simple mode; the content's own are its actor's.
    pub(crate) account: Arc<Account>,
    /// What the file will be, once the origin has not objected to its record.
    pub(crate) found: Option<Found>,
    pub(crate) end: Option<Result<Finished, ApiError>>,
}

/// What a running download is told.
#[derive(Debug)]
pub(crate) enum Tell {
    Joined { caller: u64, request: DownloadRequest },
    Left { caller: u64 },
}

#[derive(Debug, Clone)]
struct Running {
    tell: mpsc::UnboundedSender<Tell>,
    state: watch::Receiver<Arc<DownloadState>>,
}

/// The running downloads.
#[derive(Debug, Default)]
pub(crate) struct Downloads(Mutex<HashMap<Key, Running>>);

/// A caller's place in a download; dropping it takes the request back.
#[derive(Debug)]
pub(crate) struct Caller {
    id: u64,
    tell: mpsc::UnboundedSender<Tell>,
    pub(crate) wish: Wish,
    /// What had come when it joined a download that ran.
    joined: Option<Counts>,
    pub(crate) state: watch::Receiver<Arc<DownloadState>>,
}

impl Caller {
    /// What had come for the file before this caller wanted it.
    pub(crate) fn earlier(&self, state: &DownloadState) -> Counts {
        self.joined.unwrap_or(state.earlier)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.tell.send(Tell::Left { caller: self.id });
    }
}

impl Downloads {
    /// Joins the download of a file, begun if it does not run.
    pub(crate) fn join(&self, shared: &Arc<Shared>, request: DownloadRequest) -> Result<Caller, ApiError> {
        let key = Key::of(&request)?;
        let (caller, wish) = (shared.next_number(), Wish::of(&request));
        let mut running = self.0.lock();
        running.retain(|_, one| !one.tell.is_closed());
        // One that has ended or waits for its end takes no more callers; the closed channel tells.
        if let Some(one) = running.get(&key) {
            let joined = Tell::Joined { caller, request: request.clone() };
            let now = Arc::clone(&one.state.borrow());
            if now.end.is_none() && one.tell.send(joined).is_ok() {
                let joined = (!now.status.file_id.is_empty()).then(|| Counts::of(&now.status));
                return Ok(Caller {
                    id: caller,
                    tell: one.tell.clone(),
                    wish,
                    joined,
                    state: one.state.clone(),
                });
            }
        }
        let (tell, inbox) = mpsc::unbounded_channel();
        let (state_in, state) = watch::channel(Arc::new(DownloadState::default()));
        let _ = tell.send(Tell::Joined { caller, request });
        tokio::spawn(download::run(Arc::clone(shared), key.clone(), inbox, state_in));
        running.insert(key, Running { tell: tell.clone(), state: state.clone() });
        Ok(Caller { id: caller, tell, wish, joined: None, state })
    }

    /// The state of every running download.
    pub(crate) fn states(&self) -> Vec<FileStatus> {
        let running = self.0.lock();
        let states = running.values().map(|one| Arc::clone(&one.state.borrow()));
        let live = states.filter(|state| state.end.is_none() && !state.status.file_id.is_empty());
        live.map(|state| state.status.clone()).collect()
    }

    /// Why the bytes of every download that runs in simple mode come from where they come.
    pub(crate) fn accounts(&self) -> Vec<Why> {
        let running = self.0.lock();
        let states = running.values().map(|one| Arc::clone(&one.state.borrow()));
        let simple = states.filter(|state| state.end.is_none() && state.status.file_id.starts_with("url-"));
        let tell = |state: Arc<DownloadState>| Why {
            file_id: state.status.file_id.clone(),
            file_size: state.status.file_size,
            source_url: state.status.source_url.clone(),
            ..state.account.tell(&ByKind { cdn: state.status.bytes_from_cdn, ..ByKind::default() })
        };
        simple.map(tell).collect()
    }

    /// Whether a foreground download runs.
    pub(crate) fn is_anyone_waiting(&self) -> bool {
        self.0.lock().values().any(|one| {
            let state = one.state.borrow();
            state.end.is_none() && state.status.priority == Priority::Foreground
        })
    }

    /// Whether a download of this content runs.
    pub(crate) fn is_running(&self, id: peerage_content::ContentId) -> bool {
        let name = id.to_string();
        let running = self.0.lock();
        running.values().any(|one| {
            let state = one.state.borrow();
            state.end.is_none() && state.status.file_id == name
        })
    }
}
