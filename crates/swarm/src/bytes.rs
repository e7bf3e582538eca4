//! Bytes arrive, pieces turn out right or wrong, ranges end.

use peerage_content::{BlockSet, PieceIndex};

use crate::pieces::Active;
use crate::{Action, FetchError, FetchId, Offence, Outcome, SourceId, SourceKind, Time, Transfer};

impl Transfer {
    pub(crate) fn stored(
        &mut self,
        source: SourceId,
        piece: PieceIndex,
        offset: u32,
        len: u32,
        outcome: Outcome,
        now: Time,
    ) {
        let layout = self.pieces.layout();
        let blocks = BlockSet::covered(offset, len, layout.piece_len(piece));
        let bytes = u64::from(len);
        self.from_all.add(bytes, now);
        self.from_all_long.add(bytes, now);
        if self.peers.get(&source).is_some() || self.pieces.is_scarce(piece) {
            self.without_help.add(bytes, now);
        }
        let kind = if let Some(peer) = self.peers.get_mut(&source) {
            let was_silent = peer.is_silent();
            peer.delivered(piece, blocks, bytes, now);
            let (kind, believed) = (peer.kind, !peer.is_silent() && !peer.leaving);
            self.from_peers.add(bytes, now);
            self.from_peers_long.add(bytes, now);
            if !kind.is_near() {
                self.from_far.add(bytes, now);
            }
            self.ready.insert(source);
            self.late_due = true;
            if believed {
                self.believe(source, was_silent, now);
            }
            Some(kind)
        } else if let Some(http) = self.https.get_mut(&source) {
            if !http.ranges.is_empty() {
                self.rota.delivered(source);
            }
            http.delivered(layout.offset(piece) + u64::from(offset), bytes, now);
            self.http_due = true;
            Some(http.kind)
        } else {
            self.departed.kind(source)
        };
        if outcome == Outcome::Duplicate || self.pieces.have().contains(piece) {
            // They are in the store, whoever brought them: asking again would bring nothing new.
            self.pieces.stored(source, piece, blocks);
            self.pieces.unask(source, piece, blocks);
            self.stats.wasted += bytes;
            return;
        }
        if let Some(kind) = kind {
            *self.stats.received.get_mut(kind) += bytes;
        }
        self.pieces.stored(source, piece, blocks);
        match outcome {
            Outcome::Partial | Outcome::Duplicate => {}
            Outcome::Verified => self.verified(piece, now),
            Outcome::Corrupt => self.corrupt(piece),
        }
    }

    /// Bytes of an HTTP source that ignores ranges were dropped.
    pub(crate) fn passed(&mut self, source: SourceId, len: u64, now: Time) {
        self.stats.wasted += len;
        if let Some(http) = self.https.get_mut(&source) {
            http.passed(len, now);
        }
    }

    fn verified(&mut self, piece: PieceIndex, now: Time) {
        self.heard_at = now;
        let active = self.pieces.verified(piece);
        let sole = active.as_ref().and_then(Active::sole_contributor);
        if let Some(http) = sole.and_then(|source| self.https.get_mut(&source)) {
            http.judged(true);
        }
        self.claims.settle(piece);
        self.crossing.remove(&piece);
        self.take_back(piece);
        let from =
            active.and_then(|active| active.contributors().find(|from| self.peers.get(from).is_some()));
        self.note_news(piece, from, now);
    }

    fn corrupt(&mut self, piece: PieceIndex) {
        self.stats.wasted += u64::from(self.pieces.layout().piece_len(piece));
        let Some(active) = self.pieces.corrupt(piece) else { return };
        self.take_back(piece);
        // Only a piece that came wholly from one source proves anything against it.
        let Some(source) = active.sole_contributor() else { return };
        if self.https.get_mut(&source).is_some_and(|http| http.judged(false)) {
            self.http_left(source);
        }
        if let Some(peer) = self.peers.get(&source) {
            self.charge(peer.id, Offence::BadPiece(piece));
        } else if self.https.contains_key(&source) {
            self.actions.push_back(Action::HttpCorrupt { source, piece });
        }
    }

    /// Nothing more is wanted of `piece`.
    fn take_back(&mut self, piece: PieceIndex) {
        let asked = self.peers.iter().filter(|(_, peer)| peer.requests.iter().any(|one| one.piece == piece));
        for source in asked.map(|(source, _)| *source).collect::<Vec<_>>() {
            self.cancel_requests(source, |request| request.piece == piece);
        }
        let ranges: Vec<FetchId> = self.ranges_with(piece).map(|range| range.fetch).collect();
        ranges.into_iter().for_each(|fetch| self.give_up(fetch));
    }

    pub(crate) fn fetch_ended(&mut self, fetch: FetchId, error: Option<FetchError>, now: Time) {
        let Some(source) = self.range_ended(fetch) else { return };
        let Some(http) = self.https.get_mut(&source) else { return };
        match error {
            None => {}
            Some(FetchError::Whole) => http.whole = true,
            Some(_) if http.kind == SourceKind::CacheServer => {
                self.rota.failed(source, now);
                self.stop_fetching(source);
            }
            Some(FetchError::Retry(wish)) => http.back_off(wish, now),
            Some(FetchError::Unusable) => http.unusable = true,
        }
    }
}
