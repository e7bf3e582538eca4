//! One content on this device, downloading or seeding: an actor that drives the engine of `peerage-swarm` with real
//! connections, real HTTP and the real store.
//!
//! The actor owns all state of its content and has one loop ([`actor`]); everyone else holds a [`ContentHandle`].
//! Tasks of connections ([`connection`]) and HTTP ranges ([`fetch`]) report to it and see nothing of its state.

pub(crate) mod actor;
pub(crate) mod buffers;
pub(crate) mod connection;
pub(crate) mod expect;
pub(crate) mod fetch;
pub(crate) mod outbox;
pub(crate) mod registry;
pub(crate) mod sink;
pub(crate) mod status;

use std::sync::Arc;

use peerage_api::coordinator::SwarmItem;
use peerage_content::{ContentId, ContentRecord, PeerId, Signed};
use peerage_origin::{Known, OriginError, SourceUrl};
use peerage_store::{Content, StoreError};
use peerage_swarm::{Event, SourceId};
use peerage_wire::Withheld;
use tokio::sync::{mpsc, watch};

use crate::admission::Admitted;
use crate::relay::Unmet;
pub(crate) use status::{ContentStatus, Trouble};

/// What the actor is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A download wants the content.
    Join(Box<Want>),
    /// A download no longer wants it.
    Leave {
        /// As given in [`Want::id`].
        want: u64,
    },
    /// An answer of the coordinator about this swarm; `None`: it could not be asked.
    Swarm(Option<Box<SwarmItem>>),
    /// A peer was connected to, or connected, and both hellos were exchanged.
    Connected(Box<Admitted>),
    /// A peer could not be reached, and was not met through the relay either.
    Unmet {
        /// Its key.
        peer: PeerId,
        /// Why.
        why: Unmet,
    },
    /// Something for the engine.
    Event(Event),
    /// An HTTP range failed; told before the engine hears of it.
    HttpFailed {
        /// The origin, or a cache.
        source: SourceId,
        /// Why.
        error: OriginError,
    },
    /// A peer says why it does not serve this device, or that it does again.
    Withheld {
        /// Its connection.
        source: SourceId,
        /// Its key.
        peer: PeerId,
        /// What it says.
        reason: Withheld,
    },
    /// The origin could not be asked for what it has.
    OriginFailed(OriginError),
    /// The disk failed under a write.
    Trouble(Arc<StoreError>),
    /// A peer broke the protocol.
    Breach {
        /// Its connection.
        source: SourceId,
        /// Its key.
        peer: PeerId,
        /// What it did.
        what: &'static str,
    },
    /// Its time in the cache is over: end as soon as nobody uses it.
    Retire,
    /// End, say goodbye.
    Stop,
}

/// A download's interest in a content.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// Names the interest.
    pub(crate) id: u64,
    /// Someone waits.
    pub(crate) foreground: bool,
    /// The origin, if it may be used for this content.
    pub(crate) origin: Option<(SourceUrl, Known)>,
    /// The record that binds URL and content; none for a download by id alone.
    pub(crate) record: Option<Signed<ContentRecord>>,
    /// What the download has brought along, to be counted once.
    pub(crate) brought: Brought,
}

/// Bytes that came over HTTP before the content was known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Brought {
    /// Taken over.
    pub(crate) kept: u64,
    /// … of these, from connected caches.
    pub(crate) cached: u64,
    /// Of no use: wrong, or here already.
    pub(crate) vain: u64,
}

/// A cheap handle of a running actor.
#[derive(Debug, Clone)]
pub(crate) struct ContentHandle {
    pub(crate) id: ContentId,
    pub(crate) content: Content,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) status: watch::Receiver<Arc<ContentStatus>>,
}

impl ContentHandle {
    /// Tells the actor something; `false`: it has ended.
    pub(crate) async fn tell(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Whether it takes no more commands. It may still be saying goodbye.
    pub(crate) fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Whether it is gone, and has let go of the content.
    pub(crate) fn has_ended(&self) -> bool {
        self.status.has_changed().is_err()
    }

    /// Waits until it is gone, and has let go of the content.
    pub(crate) async fn ended(&self) {
        let mut status = self.status.clone();
        while status.changed().await.is_ok() {}
    }
}
