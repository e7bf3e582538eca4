//! The actor's peers: whom discovery names, who is connected, which of two connections to one peer is kept.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use peerage_api::coordinator::SwarmItem;
use peerage_content::{PeerId, Scope};
use peerage_host::is_on_link;
use peerage_policy::Class;
use peerage_swarm::{Candidate, Event, SourceId, SourceKind};
use peerage_transport as transport;
use peerage_wire::{ByeReason, Message};

use super::actions::CLOSE_TIME;
use super::{Actor, dial};
use crate::admission::{self, Admitted};
use crate::content::connection::{self, Control, Link, Parts};
use crate::content::expect::Expected;
use crate::neighbours::Neighbour;
use crate::relay::Unmet;

impl Actor {
    pub(super) fn discovered(&mut self, item: Option<Box<SwarmItem>>) {
        let Some(item) = item else {
            // Nobody names anyone: those that are known are all there are.
            for (peer, admitted) in self.judge_known() {
                self.feed(Event::Admits { peer, admitted });
            }
            self.feed(Event::Discovered { candidates: Vec::new(), ordinal: None, downloaders: 0 });
            self.meet_neighbours();
            return;
        };
        self.settle(&item);
        let own = self.shared.identity.peer();
        let mut candidates = Vec::new();
        for info in item.peers {
            if info.peer == own || self.shared.is_banned(&info.peer) || info.addresses.is_empty() {
                continue;
            }
            let kind = admission::kind_in(info.scope);
            let mut addresses = info.addresses;
            addresses.truncate(8);
            let before = self.known.insert(info.peer, (addresses.clone(), kind));
            if !addresses.iter().any(|address| self.admits(address.ip(), kind)) {
                continue;
            }
            let moved = before.is_some_and(|(before, _)| before != addresses);
            candidates.push(Candidate { peer: info.peer, kind, seed: info.seed, moved });
        }
        self.count_peers();
        let others = item.members.saturating_sub(item.seeds);
        let downloaders = others.saturating_sub(u32::from(!self.transfer.is_complete()));
        self.feed(Event::Discovered { candidates, ordinal: Some(item.ordinal), downloaders });
    }

    /// Notes in the account how many peers there are, as long as bytes are missing.
    fn count_peers(&mut self) {
        if !self.transfer.is_complete() {
            let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
            let (known, connected) = (count(self.known.len()), count(self.links.len()));
            Arc::make_mut(&mut self.account).peers(known, connected);
        }
    }

    /// Considers the neighbours that DNS-SD has found, where no coordinator names peers.
    pub(super) fn meet_neighbours(&mut self) {
        let link_local = self.allowed.link_local;
        let named = !self.allowed.fetch.is_empty() && self.shared.coordinator.is_reachable();
        if !link_local.fetch || named || self.wants.is_empty() || self.transfer.is_complete() {
            return;
        }
        let mut candidates = Vec::new();
        let policy = self.shared.policy();
        for neighbour in self.shared.neighbours.now().iter() {
            let Neighbour { peer, mut addresses, of_group } = neighbour.clone();
            // What was on a link of this device when it was heard of may be on none now.
            addresses.retain(|address| is_on_link(address.ip(), &policy.facts.interfaces));
            if addresses.is_empty() {
                continue;
            }
            let connected = self.links.values().any(|link| link.peer == peer);
            if connected || self.shared.is_banned(&peer) || (link_local.of_group && !of_group) {
                continue;
            }
            let before = self.known.insert(peer, (addresses.clone(), SourceKind::LinkLocal));
            let moved = before.is_some_and(|(before, _)| before != addresses);
            candidates.push(Candidate { peer, kind: SourceKind::LinkLocal, seed: false, moved });
        }
        self.count_peers();
        self.feed(Event::Discovered { candidates, ordinal: None, downloaders: 0 });
    }

    pub(super) fn dial(&mut self, peer: PeerId) {
        let Some((mut addresses, kind)) = self.known.get(&peer).cloned() else {
            self.feed(Event::DialFailed { peer });
            return;
        };
        addresses.retain(|address| self.admits(address.ip(), kind));
        let relay = dial::far_scope(kind).map(|scope| self.allowed.through_relay(scope));
        if !self.shared.places.is_free(self.shared.max_connections()) {
            self.feed(Event::DialFailed { peer });
            return;
        }
        let (shared, commands, content) =
            (Arc::clone(&self.shared), self.commands.clone(), self.content.clone());
        tokio::spawn(async move {
            let command = dial::reach(&shared, peer, &addresses, kind, relay, &content).await;
            let _ = commands.send(command).await;
        });
    }

    pub(super) fn connected(&mut self, admitted: Admitted) {
        let Admitted {
            peer,
            address,
            local,
            path,
            kind,
            place: seen_at,
            dialled,
            relayed,
            encrypted,
            have,
            told,
            reader,
            writer,
        } = admitted;
        let relayed = dial::far_scope(kind).filter(|_| relayed);
        // It is paid for as such, on both ends, whatever the two are to each other.
        let kind = if relayed.is_some() { SourceKind::Internet } else { kind };
        if self.shared.is_banned(&peer) {
            self.feed(Event::DialFailed { peer });
            return;
        }
        if !self.admits_link(relayed, address.ip(), kind) || (!encrypted && self.shared.must_encrypt()) {
            // Policy has changed since it was dialled or let in.
            tokio::spawn(say_bye(writer, ByeReason::Stopped));
            self.feed(Event::DialFailed { peer });
            return;
        }
        if let Some((source, old)) = self.links.iter().find(|(_, link)| link.peer == peer) {
            // Of two that cross, both sides keep the one that the lower key opened. Who opens another one has given the
            // first one up: its address may be gone, of which the other side hears nothing.
            let own_is_lower = self.shared.identity.peer() < peer;
            // One that needs no relay is kept before one that does.
            let keep_new = dialled == old.dialled
                || match (relayed, old.relayed) {
                    (None, Some(_)) => true,
                    (Some(_), None) => false,
                    _ => dialled == own_is_lower,
                };
            if !keep_new {
                tokio::spawn(say_bye(writer, ByeReason::AlreadyConnected));
                return;
            }
            let source = *source;
            if let Some(old) = self.links.get(&source) {
                let _ = old.control.send(Control::Close(ByeReason::AlreadyConnected));
            }
            self.peer_left(source);
        }
        let Some(place) = self.shared.places.take(self.shared.max_connections()) else {
            tokio::spawn(say_bye(writer, ByeReason::Stopped));
            self.feed(Event::DialFailed { peer });
            return;
        };
        let source = self.new_source();
        let down = self.lane.from(kind);
        if relayed.is_some() && down.class() == Class::Background {
            self.shared.governor.relayed(path.clone(), address);
        }
        self.shared.governor.bound(path, down.clone());
        let parts = Parts {
            source,
            peer,
            address,
            local,
            reached: self.shared.policy().facts.same_subnet(local.ip()),
            kind,
            relayed,
            seen_at,
            encrypted,
            content: self.content.clone(),
            map: self.map.clone(),
            commands: self.commands.clone(),
            expected: Arc::new(Mutex::new(Expected::default())),
            down,
            up: self.lane.to(kind),
        };
        self.unmet.remove(&peer);
        if relayed.is_some() {
            Arc::make_mut(&mut self.account).met();
        }
        // The relay's address is not the peer's.
        let addresses = if relayed.is_some() { Vec::new() } else { vec![address] };
        self.known.entry(peer).or_insert_with(|| (addresses, kind));
        let link = connection::start(parts, place, reader, writer, dialled);
        // What was verified between our hello and now.
        let news: Vec<_> = self.transfer.have().iter().filter(|piece| !told.contains(*piece)).collect();
        if !news.is_empty() {
            let _ = link.control.send(Control::Send(Message::Have(news)));
        }
        self.links.insert(source, link);
        self.tell_reason(source);
        self.count_peers();
        self.feed(Event::PeerJoined { source, peer, kind, have });
    }

    /// Tells the engine which of the known candidates policy admits no more: nobody waits for them. Those that it admits
    /// again are dialled when discovery names them again, for they may want a ticket that this device does not have yet.
    pub(super) fn dismiss_known(&mut self) {
        for (peer, admitted) in self.judge_known() {
            if !admitted {
                self.feed(Event::Admits { peer, admitted });
            }
        }
    }

    fn judge_known(&self) -> Vec<(PeerId, bool)> {
        let admits = |(addresses, kind): &(Vec<SocketAddr>, SourceKind)| {
            addresses.iter().any(|address| self.admits(address.ip(), *kind))
        };
        self.known.iter().map(|(peer, at)| (*peer, admits(at))).collect()
    }

    /// Whether policy lets a device at `ip` that would be such a source be connected to this content.
    pub(super) fn admits(&self, ip: IpAddr, kind: SourceKind) -> bool {
        let scope = match kind {
            // Whether they are on the link is seen when they are admitted.
            SourceKind::LinkLocal => return self.allowed.link_local.any(),
            SourceKind::Group => Scope::Group,
            SourceKind::Internet => Scope::Internet,
            _ => Scope::Lan,
        };
        let either = self.allowed.fetch.contains(scope) || self.allowed.serve.contains(scope);
        either && self.allowed.address(ip, &self.shared.policy().facts)
    }

    /// The same of a connection, which may go through the relay to a peer that was named in this scope.
    fn admits_link(&self, relayed: Option<Scope>, ip: IpAddr, kind: SourceKind) -> bool {
        relayed.map_or_else(|| self.admits(ip, kind), |scope| self.allowed.through_relay(scope))
    }

    /// A peer could not be reached, and was not met through the relay either.
    pub(super) fn unmet(&mut self, peer: PeerId, why: Unmet) {
        tracing::debug!(peer = %peer.short(), note = why.note(), "no connection");
        self.unmet.insert(peer, why);
        if !self.transfer.is_complete() {
            let because = why.because(&self.shared.policy());
            Arc::make_mut(&mut self.account).unmet(because);
        }
        self.feed(Event::DialFailed { peer });
    }

    /// Parts from the peers that may no longer be connected, from neighbours that are on no link of this device any more, from
    /// those whom it reached from an address that it no longer has, and from those that there are too many of, the newest
    /// first. Returns whether some were only to be connected otherwise.
    pub(super) fn part_from_strangers(&mut self) -> bool {
        let (policy, must_encrypt) = (self.shared.policy(), self.shared.must_encrypt());
        let facts = &policy.facts;
        let gone: Vec<SourceId> = self
            .links
            .iter()
            .filter(|(_, link)| {
                let lost = link.reached && !facts.same_subnet(link.local.ip());
                let ip = link.address.ip();
                let off_link = link.kind == SourceKind::LinkLocal && !is_on_link(ip, &facts.interfaces);
                lost || off_link || !self.admits_link(link.relayed, ip, link.kind)
            })
            .map(|(source, _)| *source)
            .collect();
        for source in gone {
            self.part(source, ByeReason::Stopped);
        }
        let clear = self.links.iter().filter(|(_, link)| must_encrypt && !link.encrypted);
        let clear: Vec<SourceId> = clear.map(|(source, _)| *source).collect();
        for source in &clear {
            self.part(*source, ByeReason::Stopped);
        }
        while let Some(source) = self.links.last_key_value().map(|(source, _)| *source)
            && self.shared.places.reclaim(self.shared.max_connections())
        {
            if let Some(place) = self.links.get_mut(&source).and_then(|link| link.place.take()) {
                place.forget();
            }
            self.part(source, ByeReason::Stopped);
        }
        !clear.is_empty()
    }

    /// The device is of another group, or neighbours must be of it now: whoever was a peer as a member of the former one
    /// is parted from and forgotten, until discovery names it again.
    pub(super) fn leave_group(&mut self) {
        let of_group = self.allowed.link_local.of_group;
        let leaves = |kind: SourceKind| match kind {
            SourceKind::Group => true,
            SourceKind::LinkLocal => of_group,
            _ => false,
        };
        let gone = self.known.extract_if(.., |_, (_, kind)| leaves(*kind));
        for peer in gone.map(|(peer, _)| peer).collect::<Vec<_>>() {
            self.feed(Event::Admits { peer, admitted: false });
        }
        let leaves = |link: &Link| leaves(link.kind) || link.relayed == Some(Scope::Group);
        self.part_from(leaves);
    }

    /// The coordinator has spoken, and may see this device elsewhere than before: on a VPN, or no longer on one. Peers that
    /// are something else to it now are parted from, and connected to anew with the new ticket, so that both ends count
    /// them as what they are; those that were named where it was, and are not here, are forgotten.
    fn settle(&mut self, item: &SwarmItem) {
        let Some(own) = self.shared.tickets.get(self.id()).map(|ticket| ticket.place) else { return };
        self.part_from(|link| {
            // Through the relay, it is what it is wherever the two are.
            let direct = link.relayed.is_none();
            direct && link.seen_at.is_some_and(|theirs| admission::kind_in(own.meets(&theirs)) != link.kind)
        });
        if self.seen_at.replace(own).is_none_or(|before| before == own) {
            return;
        }
        self.forget(|peer, (_, kind)| {
            *kind != SourceKind::LinkLocal && !item.peers.iter().any(|named| named.peer == *peer)
        });
        // Those that it parts from are not held to have failed.
        self.feed(Event::NetworkChanged);
    }

    /// Other interfaces have other neighbours: those that are on no link of this device any more are forgotten, until DNS-SD
    /// finds them again.
    pub(super) fn leave_links(&mut self) {
        let policy = self.shared.policy();
        self.forget(|_, (addresses, kind)| {
            let on_link = addresses.iter().any(|at| is_on_link(at.ip(), &policy.facts.interfaces));
            *kind == SourceKind::LinkLocal && !on_link
        });
    }

    /// Forgets peers that are known and not connected.
    fn forget(&mut self, which: impl Fn(&PeerId, &(Vec<SocketAddr>, SourceKind)) -> bool) {
        let links = &self.links;
        let connected = |peer: &PeerId| links.values().any(|link| link.peer == *peer);
        let gone = self.known.extract_if(.., |peer, at| !connected(peer) && which(peer, at));
        for peer in gone.map(|(peer, _)| peer).collect::<Vec<_>>() {
            self.feed(Event::Admits { peer, admitted: false });
        }
    }

    fn part_from(&mut self, whom: impl Fn(&Link) -> bool) {
        let gone = self.links.iter().filter(|(_, link)| whom(link));
        for source in gone.map(|(source, _)| *source).collect::<Vec<_>>() {
            self.part(source, ByeReason::Stopped);
        }
    }

    /// Ends a connection: the engine is told now, the peer by a goodbye that nobody waits for.
    fn part(&mut self, source: SourceId, reason: ByeReason) {
        self.remember(source);
        self.withholders.remove(&source);
        let Some(mut link) = self.links.remove(&source) else { return };
        drop(link.place.take());
        tracing::info!(peer = %link.peer.short(), address = %link.address, "parting from a peer");
        let _ = link.control.send(Control::Close(reason));
        self.feed(Event::PeerLeft { source });
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CLOSE_TIME, link.control.closed()).await;
        });
    }

    /// Keeps what a connection has carried, which the engine forgets with it.
    fn remember(&mut self, source: SourceId) {
        let ended = self.transfer.peer_stats(self.now()).find(|stats| stats.source == source);
        if let Some(stats) = ended {
            let parted = self.parted.entry(stats.peer).or_default();
            parted.received += stats.received;
            parted.sent += stats.sent;
        }
    }

    pub(super) fn peer_left(&mut self, source: SourceId) {
        self.remember(source);
        self.withholders.remove(&source);
        if self.links.remove(&source).is_some() {
            self.feed(Event::PeerLeft { source });
        }
    }
}

async fn say_bye(mut writer: transport::FrameWriter, reason: ByeReason) {
    let bye = async {
        writer.send(&Message::Bye(reason)).await?;
        writer.flush().await?;
        writer.close().await
    };
    let _ = tokio::time::timeout(CLOSE_TIME, bye).await;
}
