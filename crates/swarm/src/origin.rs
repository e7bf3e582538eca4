//! The origin and the caches: when they are asked, and for what.
//!
//! They are asked for what no believable peer has and no credible neighbour is fetching, so that a site takes each
//! piece over the Internet link once (product §6.5); for anything that is missing when peers are slow; and for pieces
//! that came out wrong when several peers had sent parts of them, since HTTP sources do not lie. Of two devices
//! that find each other fetching the same piece, the one with the lower key goes on.

use std::time::Duration;

use peerage_content::{BLOCK_SIZE, BlockSet, PIECE_SIZE, PieceIndex};
use peerage_wire::{MAX_LISTED, Message};

use crate::http::{Company, Http, Range};
use crate::peer::Peer;
use crate::{Action, FetchId, SourceId, SourceKind, Time, Transfer, Turn};

/// Bytes of a range that are not worth giving it up for.
pub(crate) const NEARLY_DONE: u64 = 256 << 10;
/// Devices of a swarm that feed it from the origin. More would make every piece slower and none sooner; in a swarm of
/// more than a connection each, they would also not hear of each other's claims.
const FEEDERS: u32 = 16;
/// … of a content of few pieces: half as many as pieces, but at least so many …
const FEW_FEEDERS: u32 = 4;
/// … of which one feeds it at a time, and one more when no new piece has been heard of for this long. Were it more, their pieces
/// would all be complete at the same moment, at the end, and all would still have their way through the swarm before them.
const NEXT_AT_A_TIME: Duration = Duration::from_millis(250);
/// How long a device is a newcomer …
const NEWCOMER: Duration = Duration::from_secs(1);
/// … and waits for the first word of a neighbour.
const LISTEN: Duration = Duration::from_millis(50);
/// The next [`FEEDERS`] devices join in when no new piece has been heard of for this long.
const NEXT_FEEDERS: Duration = Duration::from_secs(4);
/// A probe of the origin asks for the content's size divided by this …
const PROBE_SHARE: u64 = 256;
/// … and for at least so many blocks.
const LEAST_PROBE: u64 = 8;
/// A device whose neighbours wait this long for what they asked of it leaves the origin to others, if there are others:
/// it would not pass on what it gets.
const MAX_DEBT: Duration = Duration::from_secs(2);

impl Transfer {
    pub(crate) fn plan_http(&mut self, now: Time) {
        if self.waits_for_holders(now) {
            return;
        }
        let best = self.best_http(now);
        let alone = self.is_alone();
        if std::mem::replace(&mut self.was_alone, alone) && !alone {
            self.shorten_ranges(now);
        }
        self.drop_needless_ranges(best, now);
        let Some(source) = best else { return };
        if self.listens(now) {
            self.http_due = true;
            return;
        }
        let probing = self.is_probing(now);
        let company = match alone && !probing {
            true => Company::Nobody,
            false => self.company(),
        };
        while let Some(http) = self.https.get(&source).filter(|http| http.has_lane(company, now)) {
            let (most, whole) = (http.range_pieces(company, now), http.whole);
            let turn = http.kind == SourceKind::CacheServer || probing || self.is_my_turn(now);
            let crossing = if whole { None } else { self.late_crossing(source, now) };
            let range = crossing.or_else(|| turn.then(|| self.pick_range(source, most, now)).flatten());
            let late = || if whole { None } else { self.late_range(source, now) };
            let Some((start, mut end)) = range.or_else(late) else { break };
            if probing && !whole {
                end = end.min(start + self.probe_size());
            }
            self.fetch(source, start, end, now);
        }
    }

    /// The cache whose turn it is; the origin if it is nobody's and the origin need not wait.
    fn best_http(&mut self, now: Time) -> Option<SourceId> {
        if self.waits_for_peers(now) {
            return self.rota.turn_without_origin(now);
        }
        match self.rota.turn(self.limits.cache_delay, now) {
            Turn::Cache(source) => Some(source),
            Turn::Nobody => None,
            Turn::Origin => {
                let mut origins = self.https.iter().filter(|(_, http)| http.kind == SourceKind::Cdn);
                origins.find(|(_, http)| http.is_ready(now)).map(|(source, _)| *source)
            }
        }
    }

    /// Whether the origin is held back in favour of peers. Caches are not: both are used side by side (DO reference §1.6).
    fn waits_for_peers(&self, now: Time) -> bool {
        let known = !self.discovered || self.dialer.has_hope() || !self.peers.is_empty();
        let in_time = self.started.is_some_and(|started| now.since(started) < self.limits.origin_delay);
        self.limits.download_from_peers && in_time && (known || self.rota.is_in_use(now))
    }

    /// Whether near peers that hold everything get a moment to answer (product §6.1).
    fn waits_for_holders(&self, now: Time) -> bool {
        self.started.is_none() || (self.hopes(now) && self.peers.is_empty() && self.dialer.awaits_holder())
    }

    /// Nobody else is downloading, as far as is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.discovered && self.downloaders == 0 && self.peers.values().all(|peer| peer.have.is_full())
    }

    fn company(&self) -> Company {
        let spreads = self.limits.download_from_peers && !self.knows_far_peers;
        if spreads && self.has_few_pieces() { Company::OfFewPieces } else { Company::Others }
    }

    /// Whether this device is to feed the swarm now.
    fn is_my_turn(&self, now: Time) -> bool {
        let owes = self.is_in_debt(now) && self.claims.any();
        self.is_feeder(now) && (!owes || self.is_left_alone(now))
    }

    /// Whether peers are slow by what the origin is known to give.
    fn is_left_alone(&self, now: Time) -> bool {
        self.peers_slow && self.https.values().any(|http| http.rate(now).is_some())
    }

    /// Whether this device is among those that feed the swarm, by its place in the order of arrival.
    fn is_feeder(&self, now: Time) -> bool {
        // What only peers have that do not deliver nobody else will fetch.
        if !self.peers.values().any(|peer| peer.counted) || !self.limits.download_from_peers {
            return true;
        }
        if self.is_left_alone(now) {
            return true;
        }
        let quiet = now.since(self.heard_at);
        if !self.limits.upload_to_peers && quiet < NEXT_FEEDERS {
            return false;
        }
        let swarm = self.downloaders + 1;
        let feeders = (self.pieces.layout().pieces() / 2).clamp(FEW_FEEDERS, FEEDERS);
        let place = self.ordinal.map_or(0, |ordinal| ordinal % swarm / feeders);
        let waited = if self.peers_slow {
            self.backlog.map_or(quiet, |backlog| now.since(backlog.since))
        } else {
            quiet
        };
        if self.company() == Company::OfFewPieces {
            // Whoever has begun goes on if it precedes the others, who go on as long as they do not know that.
            let others = match self.https.values().any(|http| http.owed() > 0) {
                true => self.claims.claimants(|peer| peer < self.me),
                false => self.claims.claimants(|_| true),
            };
            let quiet = now.since(self.heard_at).as_millis() / NEXT_AT_A_TIME.as_millis();
            if others as u128 > quiet {
                return false;
            }
        }
        waited >= NEXT_FEEDERS * place
    }

    /// Whether neighbours wait long for what they have asked of this device.
    fn is_in_debt(&self, now: Time) -> bool {
        if !self.is_serving() {
            return false;
        }
        let debt: u64 = self.peers.values().map(|peer| peer.serving.backlog()).sum();
        let rate = self.to_all.rate(now).max(1) as f64;
        debt as f64 > rate * MAX_DEBT.as_secs_f64()
    }

    /// Somebody else downloads too from now on: what this device has claimed beyond its next few pieces is free for them.
    fn shorten_ranges(&mut self, now: Time) {
        let mut long = Vec::new();
        for http in self.https.values().filter(|http| !http.whole) {
            let most = u64::from(http.range_pieces(Company::Others, now)) * u64::from(PIECE_SIZE);
            let too_much =
                |(at, range): &(usize, &Range)| range.left() > most || (*at > 0 && range.is_untouched());
            long.extend(http.ranges.iter().enumerate().filter(too_much).map(|(_, range)| range.fetch));
        }
        long.into_iter().for_each(|fetch| self.give_up(fetch));
    }

    fn is_new(&self, now: Time) -> bool {
        self.started.is_some_and(|started| now.since(started) < NEWCOMER)
    }

    /// A newcomer listens before it speaks: neighbours who have just joined may be about to say what they are fetching.
    fn listens(&self, now: Time) -> bool {
        let may_speak = |peer: &Peer| !peer.has_spoken && peer.downloads() && now.since(peer.joined) < LISTEN;
        self.is_new(now) && self.peers.values().any(may_speak)
    }

    /// Gives up ranges whose next piece a peer turns out to have, those that are others' to fetch, and those of the origin
    /// when there is a cache.
    fn drop_needless_ranges(&mut self, best: Option<SourceId>, now: Time) {
        let by_peers = !self.peers_slow && self.limits.download_from_peers;
        // A newcomer began before it knew that others come before it. Later it would only begin and give up, by turns.
        // Nor is a debt a reason: were the first of them to leave because of it what the others leave to it, all would begin anew
        // at once, over and over.
        let leaves = self.is_new(now) && !self.is_feeder(now);
        // One that has failed shows first that it is back.
        let by_cache = best.is_some_and(|source| self.rota.is_sound(source));
        let needless = |http: &Http, range: &Range| {
            if http.kind == SourceKind::Cdn && by_cache && range.left() > NEARLY_DONE {
                return true;
            }
            // One that ignores ranges would begin again at the first byte.
            if !by_peers || http.whole {
                return false;
            }
            let piece = range.pieces().next().filter(|piece| self.pieces.missing_blocks(*piece).count() > 0);
            // A far peer's copy would have to come through the site's link as well: nothing is saved there, and what is
            // under way would be lost.
            let had_by_peers =
                piece.is_some_and(|piece| self.pieces.is_near(piece) && !self.pieces.is_solo(piece));
            let barely_begun = range.left() + NEARLY_DONE >= u64::from(PIECE_SIZE);
            let others = leaves && barely_begun && http.kind == SourceKind::Cdn;
            range.left() > NEARLY_DONE && (had_by_peers || others)
        };
        let ranges = self.https.values().flat_map(|http| http.ranges.iter().map(move |range| (http, range)));
        let gone: Vec<FetchId> =
            ranges.filter(|(http, range)| needless(http, range)).map(|(_, range)| range.fetch).collect();
        gone.into_iter().for_each(|fetch| self.give_up(fetch));
    }

    // === Picking ===

    /// A run of bytes to ask an HTTP source for.
    fn pick_range(&mut self, source: SourceId, most: u32, now: Time) -> Option<(u64, u64)> {
        let together = self.limits.download_from_peers;
        let anything = self.is_to_top_up(now) || !together;
        if !anything && self.pieces.scarce() == 0 && !self.pieces.has_solo() {
            return None;
        }
        let http = self.https.get(&source)?;
        let under_way =
            http.ranges.last().map(|range| PieceIndex((range.end / u64::from(PIECE_SIZE)) as u32));
        let start = match under_way.or(http.cursor) {
            Some(next) => next.0,
            None => self.first_place(),
        };
        let wanted = |piece: &PieceIndex| {
            (anything || self.pieces.is_scarce(*piece) || self.pieces.is_solo(*piece))
                && !(together && self.leaves_to_others(*piece))
                && self.pieces.may_mix(source, *piece)
                && !self.pieces.open_blocks(*piece).is_empty()
        };
        let http = self.https.get(&source)?;
        let layout = self.pieces.layout();
        let block = u64::from(BLOCK_SIZE);
        if http.whole {
            let first = (0..layout.pieces()).map(PieceIndex).find(wanted)?;
            let (run_at, _) = self.pieces.open_blocks(first).runs().next()?;
            return Some((layout.offset(first) + u64::from(run_at) * block, layout.size()));
        }
        let under_way =
            http.ranges.last().map(|range| PieceIndex((range.end / u64::from(PIECE_SIZE)) as u32));
        let begun = || self.pieces.active_pieces().map(|(piece, _)| piece).find(wanted);
        let first = under_way
            .or(http.cursor)
            .filter(wanted)
            .or_else(begun)
            .or_else(|| self.pieces.idle_from(start).find(wanted))?;
        let (run_at, run_len) = self.pieces.open_blocks(first).runs().next()?;
        let start = layout.offset(first) + u64::from(run_at) * block;
        let mut end = layout.offset(first) + u64::from(run_at + run_len) * block;
        let mut next = PieceIndex(first.0 + 1);
        while end >= layout.offset(next)
            && next.0 - first.0 < most
            && wanted(&next)
            && self.pieces.open_blocks(next).contains(0)
        {
            let (_, run) = self.pieces.open_blocks(next).runs().next()?;
            end = layout.offset(next) + u64::from(run) * block;
            next = PieceIndex(next.0 + 1);
        }
        Some((start, end.min(layout.size())))
    }

    /// Whether `piece` is left to a neighbour that is fetching it: not by whoever waits for the file and finds its neighbours slow,
    /// for it would wait for them twice, until they have the piece and until they have passed it on.
    pub(crate) fn leaves_to_others(&self, piece: PieceIndex) -> bool {
        self.claims.is_claimed(piece) && !(self.limits.foreground && self.peers_slow)
    }

    /// Bytes that are enough to learn the origin's rate from, and next to nothing beside the content: whole blocks.
    pub(crate) fn probe_size(&self) -> u64 {
        let blocks = self.pieces.layout().size() / PROBE_SHARE / u64::from(BLOCK_SIZE);
        blocks.clamp(LEAST_PROBE, u64::from(PIECE_SIZE / BLOCK_SIZE)) * u64::from(BLOCK_SIZE)
    }

    /// Where the first range begins. It follows the order of arrival, if that is known: multiples of the golden ratio
    /// spread any number of devices evenly.
    fn first_place(&mut self) -> u32 {
        let pieces = self.pieces.layout().pieces();
        match self.ordinal {
            Some(ordinal) => {
                let turn = u64::from(ordinal.wrapping_mul(0x9e37_79b9));
                ((turn * u64::from(pieces)) >> 32) as u32
            }
            None => self.rng.below(pieces),
        }
    }

    // === Ranges begin and end ===

    fn fetch(&mut self, source: SourceId, start: u64, end: u64, now: Time) {
        let fetch = FetchId(self.next_fetch);
        self.next_fetch += 1;
        let range = Range { fetch, start, end, at: start, asked: now };
        let pieces: Vec<PieceIndex> = range.pieces().collect();
        for piece in &pieces {
            let blocks = self.blocks_between(*piece, start, end).minus(self.had_blocks(*piece));
            if !blocks.is_empty() {
                self.pieces.ask(source, *piece, blocks);
            }
        }
        if let Some(http) = self.https.get_mut(&source) {
            http.begin(range, now);
        }
        if self.limits.upload_to_peers {
            let pieces = pieces.into_iter().filter(|piece| !self.pieces.have().contains(*piece));
            let pieces = pieces.take(MAX_LISTED).collect();
            self.tell_downloaders(&Message::Fetching { active: true, pieces });
        }
        self.actions.push_back(Action::Fetch { source, fetch, start, end });
    }

    /// Pieces that this device is fetching over HTTP and will share.
    pub(crate) fn own_claims(&self) -> Vec<PieceIndex> {
        if !self.limits.upload_to_peers {
            return Vec::new();
        }
        let ranges = self.https.values().flat_map(|http| http.ranges.iter());
        let pieces = ranges.flat_map(Range::pieces).filter(|piece| !self.pieces.have().contains(*piece));
        pieces.take(MAX_LISTED).collect()
    }

    /// The ranges that are to bring `piece` and not much else.
    pub(crate) fn ranges_with(&self, piece: PieceIndex) -> impl Iterator<Item = &Range> {
        let ranges = self.https.values().filter(|http| !http.whole).flat_map(|http| http.ranges.iter());
        ranges.filter(move |range| range.pieces().any(|one| one == piece))
    }

    /// Stops a range.
    pub(crate) fn give_up(&mut self, fetch: FetchId) {
        self.actions.push_back(Action::CancelFetch { fetch });
        self.range_ended(fetch);
    }

    /// A range brings nothing more: what it owed is free, and the others are told.
    pub(crate) fn range_ended(&mut self, fetch: FetchId) -> Option<SourceId> {
        let mut https = self.https.iter_mut();
        let (source, range) = https.find_map(|(source, http)| Some((*source, http.end(fetch)?)))?;
        let mut given_up = Vec::new();
        for piece in range.pieces().filter(|_| range.left() > 0) {
            self.pieces.unask(source, piece, self.blocks_between(piece, range.at, range.end));
            if !self.pieces.have().contains(piece) {
                given_up.push(piece);
            }
        }
        if !given_up.is_empty() {
            self.tell_downloaders(&Message::Fetching { active: false, pieces: given_up });
        }
        self.http_due = true;
        Some(source)
    }

    /// An HTTP source is not to be used any more.
    pub(crate) fn http_left(&mut self, source: SourceId) {
        self.rota.leave(source);
        if let Some(http) = self.https.get_mut(&source) {
            http.unusable = true;
        }
        self.stop_fetching(source);
        self.http_due = true;
    }

    /// An HTTP source turned out to be useless: nothing more of it is waited for.
    pub(crate) fn stop_fetching(&mut self, source: SourceId) {
        let Some(http) = self.https.get(&source) else { return };
        let under_way = http.ranges.iter().filter(|range| range.left() > 0).map(|range| range.fetch);
        under_way.collect::<Vec<FetchId>>().into_iter().for_each(|fetch| self.give_up(fetch));
    }

    /// Asks anew for what an HTTP source owes and does not bring.
    pub(crate) fn stop_waiting_for_http(&mut self, now: Time) {
        let silent = self.https.iter_mut().filter(|(_, http)| http.is_silent(now));
        let ranges: Vec<FetchId> = silent
            .flat_map(|(source, http)| {
                match http.kind {
                    SourceKind::CacheServer => self.rota.failed(*source, now),
                    _ => http.back_off(None, now),
                }
                http.ranges.iter().map(|range| range.fetch).collect::<Vec<_>>()
            })
            .collect();
        ranges.into_iter().for_each(|fetch| self.give_up(fetch));
    }

    fn had_blocks(&self, piece: PieceIndex) -> BlockSet {
        BlockSet(u64::MAX).minus(self.pieces.missing_blocks(piece))
    }

    /// The blocks of `piece` that lie in content bytes `[from, to)`, wholly or in part.
    pub(crate) fn blocks_between(&self, piece: PieceIndex, from: u64, to: u64) -> BlockSet {
        let layout = self.pieces.layout();
        let (start, len) = (layout.offset(piece), u64::from(layout.piece_len(piece)));
        let from = (from.saturating_sub(start)).min(len) / u64::from(BLOCK_SIZE);
        let to = (to.saturating_sub(start)).min(len).div_ceil(u64::from(BLOCK_SIZE));
        BlockSet::first(to as u32).minus(BlockSet::first(from as u32))
    }
}
