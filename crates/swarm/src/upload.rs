//! The serving side: who is unchoked, and in which order requests are answered.
//!
//! A fleet has one owner, so there is no tit-for-tat: everyone who wants something is served. Only when more peers want
//! something than can be served well at once do they take turns; a piece that one of them has whole is worth more to
//! the swarm than a bit of a piece at each.

use std::time::Duration;

use peerage_content::PieceIndex;
use peerage_wire::{MAX_REQUESTS, Message, RejectCode};

use crate::peer::{UPLOAD_CHUNK, UPLOADS_UNDER_WAY};
use crate::{Action, Offence, SourceId, Time, Transfer};

/// Peers served at once.
pub(crate) const MAX_UNCHOKED: usize = 48;
/// How long a peer is served at least when others wait.
const TURN: Duration = Duration::from_secs(10);

impl Transfer {
    pub(crate) fn requested(&mut self, source: SourceId, piece: PieceIndex, offset: u32, len: u32) {
        let fits = self.pieces.layout().fits(piece, offset, len);
        let here = self.pieces.have().contains(piece);
        let Some(peer) = self.peers.get_mut(&source) else { return };
        let id = peer.id;
        if !fits {
            self.breach(source, id, "a request outside the content");
        } else if peer.wanted.len() >= MAX_REQUESTS * (peerage_wire::MAX_DATA / UPLOAD_CHUNK) as usize {
            self.breach(source, id, "more than 64 outstanding requests");
        } else if peer.choked || !self.limits.upload_to_peers {
            // It may have been sent before our `Choke` arrived; the `Choke` is the answer.
        } else if !here {
            self.send(source, Message::Reject { code: RejectCode::NotHere, piece, offset, len });
        } else {
            let mut at = offset;
            while at < offset + len {
                let chunk = UPLOAD_CHUNK.min(offset + len - at);
                peer.wanted.push_back((piece, at, chunk));
                at += chunk;
            }
        }
    }

    fn breach(&mut self, source: SourceId, peer: peerage_content::PeerId, what: &'static str) {
        self.actions.push_back(Action::Charge { peer, offence: Offence::Protocol(what) });
        self.dialer.banned(peer);
        self.disconnect(source, peerage_wire::ByeReason::Banned);
    }

    pub(crate) fn sent(&mut self, source: SourceId, len: u32, now: Time) {
        self.to_all.add(u64::from(len), now);
        let Some(peer) = self.peers.get_mut(&source) else { return };
        peer.up.add(u64::from(len), now);
        peer.sending = peer.sending.saturating_sub(1);
        let kind = peer.kind;
        self.count_sent(kind, u64::from(len));
    }

    /// Hands the next chunks to the driver.
    pub(crate) fn plan_uploads(&mut self) {
        for (source, peer) in &mut self.peers {
            while peer.sending < UPLOADS_UNDER_WAY && !peer.leaving && !peer.choked {
                let Some((piece, offset, len)) = peer.wanted.pop_front() else { break };
                peer.sending += 1;
                self.actions.push_back(Action::Upload { source: *source, piece, offset, len });
            }
        }
    }

    /// Decides who is served: all who want something, up to [`MAX_UNCHOKED`]; beyond that in turns.
    pub(crate) fn review_chokes(&mut self, now: Time) {
        self.chokes_reviewed = now;
        let allowed = self.limits.upload_to_peers;
        let have = self.pieces.have();
        // Whoever is not complete will want what is still on its way here.
        let mut wanting: Vec<(SourceId, bool, Time)> = self
            .peers
            .iter()
            .filter(|(_, peer)| allowed && !peer.leaving && !peer.have.is_full())
            .map(|(source, peer)| (*source, peer.choked, peer.choke_changed))
            .collect();
        if wanting.len() > MAX_UNCHOKED {
            wanting.retain(|(source, ..)| {
                self.peers.get(source).is_some_and(|peer| have.has_beyond(&peer.have))
            });
            // First those whose turn is not over, then those who have waited longest.
            wanting.sort_by_key(|(_, choked, since)| {
                let in_turn = !choked && now.since(*since) < TURN;
                (!in_turn, !choked, *since)
            });
            wanting.truncate(MAX_UNCHOKED);
        }
        let mut news = Vec::new();
        for (source, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.leaving) {
            let serve = wanting.iter().any(|(chosen, ..)| chosen == source);
            if peer.choked == serve {
                (peer.choked, peer.choke_changed) = (!serve, now);
                if !serve {
                    peer.wanted.clear();
                }
                news.push((*source, if serve { Message::Unchoke } else { Message::Choke }));
            }
        }
        news.into_iter().for_each(|(source, message)| self.send(source, message));
    }
}
