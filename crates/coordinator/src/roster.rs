//! The roster: the enrolled devices in memory, so that every request is checked against them and a revocation holds at
//! once. Follows the store: changed there first, here second.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use peerage_content::PeerId;
use peerage_policy::fleet::Tag;

use crate::session::Session;
use crate::store::{Applicant, Denied, Enrolled, Enrolments, StoreError, TokenTerms};

pub(crate) struct Roster {
    store: Arc<dyn Enrolments>,
    members: RwLock<HashMap<PeerId, Member>>,
}

/// What is asked of a device at every turn.
struct Member {
    epoch: u64,
    tags: Vec<Tag>,
}

impl From<Enrolled> for Member {
    fn from(device: Enrolled) -> Self {
        Self { epoch: device.epoch, tags: device.tags }
    }
}

impl Roster {
    pub(crate) async fn load(store: Arc<dyn Enrolments>) -> Result<Self, StoreError> {
        let devices = store.devices().await?.into_iter();
        let members = devices.map(|device| (device.peer, device.into())).collect();
        Ok(Self { store, members: RwLock::new(members) })
    }

    /// The enrolment of a device, if it stands.
    pub(crate) fn epoch(&self, peer: &PeerId) -> Option<u64> {
        self.members.read().get(peer).map(|member| member.epoch)
    }

    /// The tags of a device.
    pub(crate) fn tags(&self, peer: &PeerId) -> Vec<Tag> {
        self.members.read().get(peer).map(|member| member.tags.clone()).unwrap_or_default()
    }

    /// All devices and their tags.
    pub(crate) fn all(&self) -> Vec<(PeerId, Vec<Tag>)> {
        self.members.read().iter().map(|(peer, member)| (*peer, member.tags.clone())).collect()
    }

    /// Whether the enrolment that a session was opened under still stands.
    pub(crate) fn honours(&self, session: &Session) -> bool {
        self.epoch(&session.peer) == Some(session.epoch)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.read().len()
    }

    pub(crate) async fn enrol(
        &self,
        applicant: Applicant<'_>,
        now: u64,
    ) -> Result<Result<Enrolled, Denied>, StoreError> {
        let answer = self.store.enrol(applicant, now).await?;
        if let Ok(device) = &answer {
            self.members.write().insert(device.peer, device.clone().into());
        }
        Ok(answer)
    }

    pub(crate) async fn revoke(&self, peer: PeerId, now: u64) -> Result<bool, StoreError> {
        let was = self.store.revoke(peer, now).await?;
        self.members.write().remove(&peer);
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
