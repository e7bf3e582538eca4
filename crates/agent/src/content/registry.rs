//! The running content actors of the agent.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use peerage_content::{ContentId, PeerId, PieceMap};
use peerage_store::{Content, StoreError};
use peerage_swarm::Event;

use super::{Command, ContentHandle, actor};
use crate::shared::Shared;

/// Who is running.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<ContentId, ContentHandle>>);

impl Registry {
    /// The actor of `id`, if it runs.
    pub(crate) fn get(&self, id: ContentId) -> Option<ContentHandle> {
        self.0.lock().get(&id).filter(|handle| !handle.is_closed()).cloned()
    }

    /// Waits until an actor of `id` that is ending is gone: one content has one actor at a time. One whose content was
    /// removed is told to end.
    pub(crate) async fn settled(&self, id: ContentId) {
        let Some(handle) = self.0.lock().get(&id).cloned() else { return };
        if handle.content.is_removed() {
            handle.tell(Command::Stop).await;
        }
        if handle.is_closed() || handle.content.is_removed() {
            handle.ended().await;
        }
    }

    /// The actor of a content, started if it does not run. To be called when [`Self::settled`].
    pub(crate) fn start(
        &self,
        shared: &Arc<Shared>,
        content: Content,
        map: PieceMap,
    ) -> Result<ContentHandle, StoreError> {
        let mut running = self.0.lock();
        if let Some(handle) = running.get(&content.id()).filter(|handle| !handle.is_closed()) {
            return Ok(handle.clone());
        }
        let handle = actor::spawn(Arc::clone(shared), content, map)?;
        running.insert(handle.id, handle.clone());
        running.retain(|_, handle| !handle.has_ended());
        Ok(handle)
    }

    /// All that run.
    pub(crate) fn all(&self) -> Vec<ContentHandle> {
        let running = self.0.lock();
        running.values().filter(|handle| !handle.is_closed()).cloned().collect()
    }

    /// A peer was banned: every content parts from it.
    pub(crate) fn banned(&self, peer: PeerId) {
        for handle in self.all() {
            // A full queue means that the actor is busy; the ban list keeps the peer out of it anyway.
            let _ = handle.commands.try_send(Command::Event(Event::Banned { peer }));
        }
    }
}
