//! Announce: a device says what it holds or wants, and learns its peers (DO: Discovery and Array).

mod answer;

use std::net::IpAddr;
use std::num::NonZeroU64;

use answer::Answer;
use peerage_api::Code;
use peerage_api::coordinator::{AnnounceEvent, AnnounceItem, AnnounceRequest};
use peerage_content::{ContentId, PeerId, Place, ScopeSet};
use peerage_swarm::matching::{GroupKey, Site, is_private};

use crate::claims::reachable;
use crate::registry::{Announcer, Claim, Seat};
use crate::state::{Failure, Parts};
use crate::tickets::widest;

/// Contents in one announce.
pub(crate) const MAX_ITEMS: usize = 1000;
/// Peers for one content.
const MAX_PEERS: usize = 50;
/// Peers in one answer: about a megabyte.
const MAX_PEERS_IN_ALL: usize = 5000;
const MAX_GROUP: usize = 255;

impl Parts {
    /// Handles an announce of `peer`, seen at `seen`; returns an `AnnounceResponse` in JSON.
    pub(crate) async fn announce(
        &self,
        peer: PeerId,
        seen: IpAddr,
        request: &AnnounceRequest,
    ) -> Result<String, Failure> {
        if request.items.len() > MAX_ITEMS {
            return Err(Failure::bad(format!("{} items, allowed are {MAX_ITEMS}", request.items.len())));
        }
        let ids: Vec<ContentId> = request.items.iter().map(|item| item.content).collect();
        let scopes = self.records.scopes(&ids).await?;
        let (mut claims, mut left) = (Vec::with_capacity(ids.len()), Vec::new());
        let mut budget = MAX_PEERS_IN_ALL;
        for (item, allowed) in request.items.iter().zip(scopes) {
            let scopes = ScopeSet::from_bits(allowed.bits() & request.scopes.bits());
            if scopes.is_empty() || item.event == AnnounceEvent::Stopped {
                left.push(item.content);
            } else {
                let want = wanted(item).min(budget);
                budget -= want;
                claims.push(Claim { content: item.content, scopes, seed: item.left == 0, want });
            }
        }
        if !left.is_empty() {
            self.registry.leave(peer, &left).await;
        }
        let device = self.announcer(peer, seen, request)?;
        let seats = self.registry.announce(&device, &claims, self.clock.uptime()).await;
        let (now, place) = (self.clock.unix(), self.place(&device));
        let mut answer = Answer::new(self.interval(peer), now, &seats);
        for (claim, seat) in claims.iter().zip(&seats) {
            answer.item(claim.content, &self.ticket(peer, place, claim, seat, now).await?, seat);
        }
        Ok(answer.finish())
    }

    fn announcer(&self, peer: PeerId, seen: IpAddr, request: &AnnounceRequest) -> Result<Announcer, Failure> {
        let seen = seen.to_canonical();
        Ok(Announcer {
            peer,
            site: self.sites.site_of(seen),
            inside: is_private(seen),
            group: request.group.as_deref().map(|group| self.group(group)).transpose()?.flatten(),
            addresses: reachable(&request.addresses, seen, &self.sites),
        })
    }

    /// What stands for a group id: GUIDs are one whatever their case and braces.
    fn group(&self, id: &str) -> Result<Option<GroupKey>, Failure> {
        if id.len() > MAX_GROUP {
            return Err(Failure::bad(format!("group has {} bytes, allowed are {MAX_GROUP}", id.len())));
        }
        let id = id.trim().trim_start_matches('{').trim_end_matches('}').to_ascii_lowercase();
        if id.is_empty() {
            return Ok(None);
        }
        let hash = blake3::keyed_hash(&self.group_key, id.as_bytes());
        let (head, _) = hash.as_bytes().split_first_chunk::<8>().unwrap_or((&[1; 8], &[]));
        Ok(Some(GroupKey(NonZeroU64::new(u64::from_le_bytes(*head)).unwrap_or(NonZeroU64::MIN))))
    }

    /// What tickets say of where a device is. Sites go by their names: a configuration may be put in another order.
    fn place(&self, device: &Announcer) -> Place {
        let mut hash = blake3::Hasher::new_keyed(&self.site_tag_key);
        match device.site {
            Site::Named(_) => {
                let name = self.sites.name(device.site).unwrap_or_default();
                hash.update(b"named").update(name.as_bytes())
            }
            Site::Private => hash.update(b"private"),
            Site::V4(ip) => hash.update(b"v4").update(&ip.to_be_bytes()),
            Site::V6(prefix) => hash.update(b"v6").update(&prefix.to_be_bytes()),
        };
        let mut site = [0; 8];
        hash.finalize_xof().fill(&mut site);
        Place { site: u64::from_le_bytes(site), group: device.group.map(|group| group.0) }
    }

    async fn ticket(
        &self,
        peer: PeerId,
        place: Place,
        claim: &Claim,
        seat: &Seat,
        now: u64,
    ) -> Result<Vec<u8>, Failure> {
        let content = claim.content;
        let broken = || Failure::new(Code::Internal, "the coordinator could not make a ticket");
        let scope = widest(claim.scopes).ok_or_else(broken)?;
        let stub = match seat.ticket.filter(|stub| stub.serves(scope, place, now)) {
            Some(stub) => stub,
            None => {
                let stub = self.tickets.sign(peer, content, scope, place, now).map_err(|_| broken())?;
                self.registry.keep_ticket(peer, content, stub).await;
                stub
            }
        };
        Ok(self.tickets.bytes(&stub, peer, content, place))
    }

    /// The announce interval of a device, 10 % around the configured one: devices that started together drift apart.
    fn interval(&self, peer: PeerId) -> u64 {
        let (head, _) = peer.as_bytes().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let spread = self.announce_interval_s / 5;
        let least = self.announce_interval_s - self.announce_interval_s / 10;
        least + u64::from_le_bytes(*head) % (spread + 1)
    }

    /// Members not heard of since then are forgotten: three of the longest intervals ago.
    pub(crate) fn silent_since(&self) -> u32 {
        let longest = self.announce_interval_s + self.announce_interval_s / 10 + 1;
        self.clock.uptime().saturating_sub(u32::try_from(3 * longest).unwrap_or(u32::MAX))
    }
}

fn wanted(item: &AnnounceItem) -> usize {
    usize::from(item.want).min(MAX_PEERS)
}
