//! One content on one device: the transfer engine.
//!
//! A `Transfer` is driven like this, in any order and as often as wanted: [`Transfer::handle`] an event, then
//! [`Transfer::poll_action`] until it returns `None`, then wait for the next event or for [`Transfer::poll_timeout`],
//! whichever is first, and call [`Transfer::handle_timeout`]. `now` must not run backwards.
//!
//! Invariants: a piece is offered only after it was verified; nothing is asked for that is had; nothing is asked of a
//! source beyond its limits; every source that leaves takes its requests, claims and availability with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerage_content::{Bitmap, BlockSet, Layout, PeerId, PieceIndex};
use peerage_wire::ByeReason;

use crate::claims::Claims;
use crate::departed::Departed;
use crate::dial::Dialer;
use crate::far::FAR_WINDOW;
use crate::http::Http;
use crate::news::News;
use crate::pace::Pace;
use crate::peers::Peers;
use crate::pieces::Pieces;
use crate::plan::FIRST_NEED;
use crate::ready::Ready;
use crate::trust::{Backlog, QOS_WINDOW};
use crate::{Action, Event, Limits, RateMeter, Rng, Rota, SourceId, SourceKind, Stats, Time};

/// How often time-outs are looked at while something is missing …
const TICK: Duration = Duration::from_millis(100);
/// … while it is open whether peers will deliver at all …
const FIRST_TICK: Duration = Duration::from_millis(10);
/// … and while only seeding to connected peers.
const SEED_TICK: Duration = Duration::from_secs(1);

/// How a transfer begins.
#[derive(Debug, Clone)]
pub struct Start {
    /// This device's key: of two neighbours that fetch the same piece from the origin, the one with the lower key goes on.
    pub me: PeerId,
    /// How the content is cut.
    pub layout: Layout,
    /// Pieces that are verified in the store.
    pub have: Bitmap,
    /// Blocks that are in the store and not verified.
    pub partial: Vec<(PieceIndex, BlockSet)>,
    /// What policy allows.
    pub limits: Limits,
    /// Seed of all random choices.
    pub seed: u64,
}

/// The engine of one content.
#[derive(Debug, Clone)]
pub struct Transfer {
    pub(crate) me: PeerId,
    pub(crate) pieces: Pieces,
    pub(crate) peers: Peers,
    pub(crate) https: BTreeMap<SourceId, Http>,
    /// Those of them that are caches.
    pub(crate) rota: Rota,
    pub(crate) claims: Claims,
    /// Pieces that far peers have been asked for, claimed among the near ones, and since when.
    pub(crate) crossing: BTreeMap<PieceIndex, Time>,
    /// Far pieces that fall to neighbours are not left to them.
    pub(crate) crosses_all: bool,
    /// Since when a far peer has had something that nobody gets.
    pub(crate) spare_since: Option<Time>,
    /// Peers of other sites have been named or have come. What is asked of them crosses a link that the site shares, and
    /// claims keep it to one copy: whatever delays a word among neighbours, or leaves blocks open, would cost that.
    pub(crate) knows_far_peers: bool,
    pub(crate) departed: Departed,
    pub(crate) dialer: Dialer,
    pub(crate) limits: Limits,
    pub(crate) rng: Rng,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) started: Option<Time>,
    pub(crate) discovered: bool,
    pub(crate) ordinal: Option<u32>,
    /// Other devices that download the same content, by the last answer of discovery.
    pub(crate) downloaders: u32,
    /// Nobody else was downloading when that was last looked at.
    pub(crate) was_alone: bool,
    /// When discovery first named a near peer that has everything.
    pub(crate) hope_since: Option<Time>,
    /// This device has begun to download alone from the origin: newcomers are on trial as long as it is alone.
    pub(crate) on_trial: bool,
    pub(crate) paused: bool,
    pub(crate) next_fetch: u64,
    pub(crate) from_peers: RateMeter,
    /// The same bytes, over the time that `min_background_qos` is an average of.
    pub(crate) from_peers_long: RateMeter,
    pub(crate) from_far: RateMeter,
    pub(crate) from_all: RateMeter,
    /// The same, over the time that `min_background_qos` is an average of.
    pub(crate) from_all_long: RateMeter,
    /// The same without what HTTP sources brought of pieces that peers have.
    pub(crate) without_help: RateMeter,
    pub(crate) to_all: RateMeter,
    /// How fast neighbours get what they have asked for.
    pub(crate) serving_pace: Pace,
    pub(crate) backlog: Option<Backlog>,
    /// What peers have would come sooner from the origin.
    pub(crate) peers_slow: bool,
    /// When a missing piece was last verified, here or at a neighbour.
    pub(crate) heard_at: Time,
    pub(crate) chokes_reviewed: Time,
    /// When one that is to be served and was told the opposite can be told so.
    pub(crate) chokes_due: Option<Time>,
    pub(crate) need_peers_at: Time,
    pub(crate) need_peers_wait: Duration,
    tick: Option<Time>,
    dirty: bool,
    /// Peers of whom something may be asked now.
    pub(crate) ready: Ready,
    /// HTTP sources may have something to do.
    pub(crate) http_due: bool,
    /// An idle peer may take over what another is late with.
    pub(crate) late_due: bool,
    /// Somebody may have to be dialled.
    pub(crate) dial_due: bool,
    /// Pieces verified and not yet told of.
    pub(crate) news: Vec<News>,
    /// When an heir was last told.
    pub(crate) heir_said: Time,
    /// Chunks handed to the driver for neighbours and not yet sent.
    pub(crate) uploads: usize,
    /// All that neighbours had asked for has just been sent.
    pub(crate) served: bool,
    /// A neighbour has told of something that is news here too.
    pub(crate) news_met: bool,
    pub(crate) complete_said: bool,
    pub(crate) stats: Stats,
}

impl Transfer {
    /// A transfer without sources.
    pub fn new(start: Start) -> Self {
        Self {
            me: start.me,
            pieces: Pieces::new(start.layout, start.have, start.partial.into_iter()),
            peers: Peers::default(),
            https: BTreeMap::new(),
            rota: Rota::default(),
            claims: Claims::default(),
            crossing: BTreeMap::new(),
            crosses_all: false,
            spare_since: None,
            knows_far_peers: false,
            departed: Departed::default(),
            dialer: Dialer::default(),
            limits: start.limits,
            rng: Rng::new(start.seed),
            actions: VecDeque::new(),
            started: None,
            discovered: false,
            ordinal: None,
            downloaders: 0,
            was_alone: false,
            hope_since: None,
            on_trial: false,
            paused: false,
            next_fetch: 0,
            from_peers: RateMeter::default(),
            from_peers_long: RateMeter::over(QOS_WINDOW),
            from_far: RateMeter::over(FAR_WINDOW),
            from_all: RateMeter::default(),
            from_all_long: RateMeter::over(QOS_WINDOW),
            without_help: RateMeter::default(),
            to_all: RateMeter::default(),
            serving_pace: Pace::default(),
            backlog: None,
            peers_slow: false,
            heard_at: Time::ZERO,
            chokes_reviewed: Time::ZERO,
            chokes_due: None,
            need_peers_at: Time::ZERO,
            need_peers_wait: FIRST_NEED * 2,
            tick: None,
            dirty: true,
            ready: Ready::default(),
            http_due: true,
            late_due: false,
            dial_due: true,
            news: Vec::new(),
            heir_said: Time::ZERO,
            uploads: 0,
            served: false,
            news_met: false,
            complete_said: false,
            stats: Stats::default(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Time) {
        self.begin(now);
        self.dirty = true;
        match event {
            Event::Discovered { candidates, ordinal, downloaders } => {
                self.discovered = true;
                self.downloaders = downloaders;
                if candidates.iter().any(|one| one.seed && one.kind.is_near()) {
                    self.hope_since.get_or_insert(now);
                }
                self.knows_far_peers |= candidates.iter().any(|one| !one.kind.is_near());
                self.ordinal = self.ordinal.or(ordinal);
                self.dialer.learn(candidates);
                (self.http_due, self.dial_due) = (true, true);
            }
            Event::PeerJoined { source, peer, kind, have } => self.peer_joined(source, peer, kind, have, now),
            Event::DialFailed { peer } => {
                self.dialer.gone(peer, &mut self.rng, now);
                self.dial_due = true;
            }
            Event::PeerLeft { source } => self.peer_left(source, now),
            Event::Message { source, message } => self.message(source, message, now),
            Event::HttpJoined { source, kind, known_rate } => {
                self.https.insert(source, Http::new(kind, known_rate));
                if kind == SourceKind::CacheServer {
                    self.rota.join(source);
                }
                self.http_due = true;
            }
            Event::HttpLeft { source } => self.http_left(source),
            Event::HttpRests { source, left } => self.rota.rests(source, left, now),
            Event::Stored { source, piece, offset, len, outcome } => {
                self.stored(source, piece, offset, len, outcome, now);
            }
            Event::Passed { source, len } => self.passed(source, len, now),
            Event::FetchDone { fetch } => self.fetch_ended(fetch, None, now),
            Event::FetchFailed { fetch, error } => self.fetch_ended(fetch, Some(error), now),
            Event::Sent { source, len } => self.sent(source, len, now),
            Event::Lost { piece } => {
                if self.pieces.lost(piece) {
                    self.news.retain(|news| news.piece != piece);
                    self.complete_said = false;
                    self.stop_serving(piece);
                }
            }
            Event::Banned { peer } => {
                self.dialer.banned(peer);
                let sources = self.peers.iter().filter(|(_, known)| known.id == peer);
                let sources: Vec<_> = sources.map(|(source, _)| *source).collect();
                sources.into_iter().for_each(|source| self.disconnect(source, ByeReason::Banned));
            }
            Event::Admits { peer, admitted } => {
                self.dialer.admit(peer, admitted);
                (self.http_due, self.dial_due) = (true, true);
            }
            Event::NetworkChanged => {
                self.dialer.forgive();
                self.https.values_mut().for_each(Http::forgive);
                self.rota.forgive();
                (self.http_due, self.dial_due) = (true, true);
            }
            Event::Limits(limits) => self.set_limits(limits, now),
            Event::Pause(paused) => self.pause(paused),
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        self.begin(now);
        if self.tick.is_some_and(|tick| tick <= now) {
            self.tick = None;
            self.dirty = true;
            self.time_passes(now);
        }
    }

    /// What to do next; `None`: nothing until the next event or time-out.
    pub fn poll_action(&mut self, now: Time) -> Option<Action> {
        if self.actions.is_empty() && self.dirty {
            self.dirty = false;
            self.plan(now);
            let busy = (!self.is_complete() && !self.paused) || !self.news.is_empty();
            let urgent = self.is_undecided(now) || self.has_urgent_news();
            let often = if busy && urgent { FIRST_TICK } else { TICK };
            let period = if busy { Some(often) } else { (!self.peers.is_empty()).then_some(SEED_TICK) };
            self.tick = period.map(|period| {
                let hope_ends = self.hope_ends().filter(|ends| *ends > now);
                [self.tick, hope_ends].into_iter().flatten().fold(now + period, Time::min)
            });
            if let Some(due) = self.chokes_due {
                self.tick = Some(self.tick.map_or(due, |tick| tick.min(due)));
            }
        }
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] is due; `None`: never, until something happens.
    pub const fn poll_timeout(&self) -> Option<Time> {
        self.tick
    }

    /// Whether every piece is verified.
    pub fn is_complete(&self) -> bool {
        self.pieces.is_complete()
    }

    /// The pieces that are verified.
    pub const fn have(&self) -> &Bitmap {
        self.pieces.have()
    }

    /// Whether a peer lacks something that is here.
    pub fn is_wanted(&self) -> bool {
        self.peers.values().any(|peer| !peer.leaving && self.have().has_beyond(&peer.have))
    }

    fn begin(&mut self, now: Time) {
        if self.started.is_none() {
            (self.started, self.heard_at, self.need_peers_at) = (Some(now), now, now + FIRST_NEED);
        }
    }

    // === Policy ===

    fn set_limits(&mut self, limits: Limits, now: Time) {
        self.limits = limits;
        (self.http_due, self.dial_due) = (true, true);
        self.wake_peers();
        let sources: Vec<_> = self.peers.keys().copied().collect();
        if !limits.download_from_peers && !limits.upload_to_peers {
            sources.into_iter().for_each(|source| self.disconnect(source, ByeReason::Stopped));
        } else {
            if !limits.download_from_peers {
                sources.into_iter().for_each(|source| self.cancel_requests(source, |_| true));
            }
            self.review_chokes(now);
        }
    }

    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        if !paused {
            self.wake_peers();
            (self.http_due, self.dial_due) = (true, true);
            return;
        }
        let sources: Vec<_> = self.peers.keys().copied().collect();
        sources.into_iter().for_each(|source| self.cancel_requests(source, |_| true));
        let ranges: Vec<_> =
            self.https.values().flat_map(|http| http.ranges.iter().map(|range| range.fetch)).collect();
        ranges.into_iter().for_each(|fetch| self.give_up(fetch));
    }
}
