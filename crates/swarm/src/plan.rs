//! The plan: what to tell and ask peers now. Peers are asked for whatever they have, rarest first.
//!
//! An event changes what can be asked of one peer, seldom of all; only those in `ready` are looked at.

use std::time::Duration;

use peerage_content::{BlockSet, PieceIndex};
use peerage_wire::{ByeReason, MAX_REQUESTS, Message};

use crate::peer::REQUEST_BLOCKS;
use crate::{Action, SourceId, Time, Transfer};

/// Idle peers that may look in vain for something late to take over, at one moment. The fastest look first.
const TAKE_OVERS: u32 = 8;
const CHOKE_REVIEW: Duration = Duration::from_secs(1);
/// Ask for more peers when fewer than this are connected, or when nothing has come from anywhere for [`FIRST_NEED`].
const FEW_PEERS: usize = 4;
/// How long a transfer waits before it asks for more peers; then twice as long each time …
pub(crate) const FIRST_NEED: Duration = Duration::from_secs(2);
/// … up to this.
const LAST_NEED: Duration = Duration::from_secs(30);

impl Transfer {
    /// Decides what to do now.
    pub(crate) fn plan(&mut self, now: Time) {
        self.tell_news(now);
        if !self.is_complete() && !self.paused {
            if self.pieces.take_reopened() {
                self.wake_peers();
                self.withdraw_crossings();
                self.http_due = true;
            }
            if self.limits.download_from_peers {
                if std::mem::take(&mut self.dial_due) {
                    self.plan_dials(now);
                }
                self.plan_peers(now);
            }
            if std::mem::take(&mut self.http_due) {
                self.plan_http(now);
            }
        }
        self.say_complete();
    }

    /// Time-outs.
    pub(crate) fn time_passes(&mut self, now: Time) {
        if now.since(self.chokes_reviewed) >= CHOKE_REVIEW || self.chokes_due.is_some_and(|due| due <= now) {
            self.review_chokes(now);
        }
        self.tell_the_rest(now);
        if self.is_complete() {
            return;
        }
        let evidence = self.probe_size();
        self.https.values_mut().for_each(|http| http.learn_rate(evidence, now));
        self.review_trials(now);
        self.judge_peers(now);
        self.review_crossings(now);
        self.stop_waiting_for_http(now);
        self.claims.expire(self.piece_time(now), now);
        (self.http_due, self.dial_due, self.late_due) = (true, true, true);
        self.wake_idle_peers(now);
        if now >= self.need_peers_at && self.limits.download_from_peers {
            let stuck = self.from_all.last().is_none_or(|last| now.since(last) >= FIRST_NEED);
            if stuck || self.peers.len() < FEW_PEERS {
                self.need_peers_at = now + self.need_peers_wait;
                self.need_peers_wait = (self.need_peers_wait * 2).min(LAST_NEED);
                self.actions.push_back(Action::NeedPeers);
            }
        }
    }

    // === Telling ===

    /// Sends to everyone who still downloads.
    pub(crate) fn tell_downloaders(&mut self, message: &Message) {
        let downloaders = self.peers.iter().filter(|(_, peer)| peer.downloads());
        let downloaders: Vec<_> = downloaders.map(|(source, _)| *source).collect();
        downloaders.into_iter().for_each(|source| self.send(source, message.clone()));
    }

    fn say_complete(&mut self) {
        if self.is_complete() && !self.complete_said {
            self.complete_said = true;
            // What an HTTP source that ignores ranges still sends, peers have brought.
            self.https
                .keys()
                .copied()
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|source| self.stop_fetching(source));
            self.actions.push_back(Action::Complete);
            let full = self.peers.iter().filter(|(_, peer)| peer.have.is_full());
            let full: Vec<_> = full.map(|(source, _)| *source).collect();
            full.into_iter().for_each(|source| self.disconnect(source, ByeReason::Complete));
        }
    }

    // === Asking ===

    fn plan_dials(&mut self, now: Time) {
        while let Some(peer) = self.dialer.next(self.peers.len(), self.limits.max_peers, now) {
            self.actions.push_back(Action::Dial { peer });
        }
    }

    /// Blocks have become open: everybody may have something to do.
    pub(crate) fn wake_peers(&mut self) {
        for (source, peer) in self.peers.iter_mut() {
            peer.dry = false;
            self.ready.insert(*source);
        }
    }

    /// Whoever is idle may have something to do by now.
    fn wake_idle_peers(&mut self, now: Time) {
        // Where nothing may be asked, or everybody is woken at once, it is no use to tell them apart.
        let all = self.paused || !self.limits.download_from_peers || self.pieces.has_reopened();
        let mut dry = Vec::new();
        for (source, peer) in
            self.peers.iter_mut().filter(|(_, peer)| peer.usable() && peer.requests.is_empty())
        {
            // What a far peer may be asked for depends on what time does to claims.
            peer.dry &= peer.kind.is_near();
            if peer.dry && !all {
                dry.push(*source);
            } else {
                self.ready.insert(*source);
            }
        }
        // Those that have nothing new can only take over from somebody: seldom, so most of the time nobody is woken. Chance
        // goes on as if they had been, one number each.
        if !self.ready.is_empty() || self.is_anybody_late(now) {
            dry.into_iter().for_each(|source| self.ready.insert(source));
        } else {
            self.rng.skip(dry.len() as u64);
        }
    }

    fn plan_peers(&mut self, now: Time) {
        let mut attempts = if std::mem::take(&mut self.late_due) { TAKE_OVERS } else { 0 };
        if self.ready.len() < 2 {
            // So it is after most events: there is nothing to put in order.
            if let Some(source) = self.ready.pop() {
                self.plan_peer(source, &mut attempts, now);
            }
            return;
        }
        let mut order: Vec<(u64, SourceId)> = self
            .ready
            .drain()
            .filter_map(|source| {
                let peer = self.peers.get(&source).filter(|peer| peer.usable())?;
                let pace = peer.pace.rate(now).filter(|_| !peer.is_silent());
                Some((pace.unwrap_or_default() as u64, source))
            })
            .collect();
        // The fastest first: near the end it should get the work.
        order.sort_unstable_by(|a, b| b.cmp(a));
        for (_, source) in order {
            self.plan_peer(source, &mut attempts, now);
        }
    }

    /// Asks of `source` what there is to ask; `attempts` are those that are left to take something over.
    fn plan_peer(&mut self, source: SourceId, attempts: &mut u32, now: Time) {
        while let Some(peer) = self.peers.get(&source) {
            let near = peer.kind.is_near();
            let room = if near { peer.room(now) } else { peer.room(now).min(self.far_room(now)) };
            if room == 0 {
                return;
            }
            let idle = peer.requests.is_empty() && !peer.is_silent();
            let picked = self.pick(source).map(|piece| (piece, self.pieces.open_blocks(piece)));
            let Some((piece, open)) = picked.or_else(|| self.far_end(source)) else {
                if let Some(peer) = self.peers.get_mut(&source) {
                    peer.dry = true;
                }
                if idle && *attempts > 0 {
                    if *attempts == TAKE_OVERS && !self.is_anybody_late(now) {
                        *attempts = 0;
                    } else if !self.take_over(source, now) {
                        *attempts -= 1;
                    }
                }
                return;
            };
            let room = self.share(source, piece, room, now);
            if !self.ask_peer(source, piece, open, room, now) {
                return;
            }
            if !near {
                self.claim_crossing(piece, now);
            }
        }
    }

    /// What to ask of `source` next.
    fn pick(&mut self, source: SourceId) -> Option<PieceIndex> {
        let start = self.rng.below(self.pieces.layout().pieces());
        let peer = self.peers.get(&source).filter(|peer| !peer.dry)?;
        // A probe may be answered late, beside others: not where it is to be seen whose bytes are wrong.
        let probe = peer.is_silent();
        let may_ask = self.may_ask(peer.kind);
        let may = |piece| may_ask(piece) && !(probe && self.pieces.is_solo(piece));
        self.pieces.pick_for_peer(source, &peer.have, may, start)
    }

    /// Asks `source` for up to `most` of `blocks`; returns whether anything was asked.
    pub(crate) fn ask_peer(
        &mut self,
        source: SourceId,
        piece: PieceIndex,
        blocks: BlockSet,
        most: u32,
        now: Time,
    ) -> bool {
        let piece_len = self.pieces.layout().piece_len(piece);
        let Some(peer) = self.peers.get_mut(&source) else { return false };
        let mut left = most;
        for (first, count) in blocks.runs() {
            let mut at = first;
            while at < first + count && left > 0 && peer.requests.len() < MAX_REQUESTS {
                let take = REQUEST_BLOCKS.min(first + count - at).min(left);
                let request = peer.ask(piece, at, take, piece_len, now);
                if !peer.is_silent() {
                    self.pieces.ask(source, piece, request.left);
                }
                let (offset, len) = (request.offset, request.len);
                self.actions
                    .push_back(Action::Send { source, message: Message::Request { piece, offset, len } });
                at += take;
                left -= take;
            }
        }
        left < most
    }

    /// Takes back the requests to `source` for pieces that are to come from one source at a time.
    pub(crate) fn cancel_solo_requests(&mut self, source: SourceId) {
        let Some(peer) = self.peers.get(&source) else { return };
        let pieces = peer.requests.iter().map(|request| request.piece);
        for piece in pieces.filter(|piece| self.pieces.is_solo(*piece)).collect::<Vec<_>>() {
            self.cancel_requests(source, |request| request.piece == piece);
        }
    }

    /// Takes back the requests to `source` that `which` names.
    pub(crate) fn cancel_requests(
        &mut self,
        source: SourceId,
        which: impl FnMut(&crate::peer::Request) -> bool,
    ) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        for request in peer.drop_requests(which) {
            self.pieces.unask(source, request.piece, request.left);
            let (piece, offset, len) = (request.piece, request.offset, request.len);
            self.actions.push_back(Action::Send { source, message: Message::Cancel { piece, offset, len } });
        }
    }
}
