//! The roster: the enrolled devices in memory, so that every request is checked against them and a revocation holds at
//! once. Follows the store: changed there first, here second.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use peerage_content::PeerId;

use crate::session::Session;
use crate::store::{Applicant, Denied, Enrolled, Enrolments, StoreError, TokenTerms};

pub(crate) struct Roster {
    store: Arc<dyn Enrolments>,
    epochs: RwLock<HashMap<PeerId, u64>>,
}

impl Roster {
    pub(crate) async fn load(store: Arc<dyn Enrolments>) -> Result<Self, StoreError> {
        let epochs = store.devices().await?.into_iter().map(|device| (device.peer, device.epoch)).collect();
        Ok(Self { store, epochs: RwLock::new(epochs) })
    }

    /// The enrolment of a device, if it stands.
    pub(crate) fn epoch(&self, peer: &PeerId) -> Option<u64> {
        self.epochs.read().get(peer).copied()
    }

    /// Whether the enrolment that a session was opened under still stands.
    pub(crate) fn honours(&self, session: &Session) -> bool {
        self.epoch(&session.peer) == Some(session.epoch)
    }

    pub(crate) fn len(&self) -> usize {
        self.epochs.read().len()
    }

    pub(crate) async fn enrol(
        &self,
        applicant: Applicant<'_>,
        now: u64,
    ) -> Result<Result<Enrolled, Denied>, StoreError> {
        let answer = self.store.enrol(applicant, now).await?;
        if let Ok(device) = &answer {
            self.epochs.write().insert(device.peer, device.epoch);
        }
        Ok(answer)
    }

    pub(crate) async fn revoke(&self, peer: PeerId, now: u64) -> Result<bool, StoreError> {
        let was = self.store.revoke(peer, now).await?;
        self.epochs.write().remove(&peer);
        Ok(was)
    }

    pub(crate) async fn devices(&self) -> Result<Vec<Enrolled>, StoreError> {
        self.store.devices().await
    }

    pub(crate) async fn add_token(&self, token: TokenTerms) -> Result<(), StoreError> {
        self.store.add_token(token).await
    }
}

/// What is kept of a token's secret.
pub(crate) fn token_hash(secret: &[u8]) -> [u8; 32] {
    blake3::derive_key("peerage coordinator enrolment token v1", secret)
}
