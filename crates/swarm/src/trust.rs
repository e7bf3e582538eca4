//! Whether peers deliver what they have. As long as they do, the origin is left alone (product §6.1, §6.5).
//!
//! Two doubts call it in, both measured, neither final:
//!
//! - *A peer is silent*: it owes bytes or chokes us, and none come. Its pieces no longer count as available, and what it
//!   owes is asked of others, until it delivers again. While nobody delivers, that takes [`PATIENCE`]; while others do,
//!   [`LONG_PATIENCE`] (less than product §8 grants: it costs a silent peer nothing that it could have had).
//! - *All peers together are slow*: what they have would take them a while, at a rate below what the origin would give;
//!   or, if nobody waits for the file, on average below `min_background_qos`. The origin lets go again when they are not.
//!   Beside other downloaders whoever waits goes by what the origin has given on average: were all of them to turn to it
//!   because their uplinks are slow, it would give none of them more. In the background it tops up to the rate, no further.
//!
//! A device that downloads alone has no swarm to spare the origin for, and the doubt itself may cost it only a small
//! part of what plain HTTP would take: it loses its first patience (`trial.rs`), and judges, by that measure.

use std::time::Duration;

use peerage_content::PIECE_SIZE;

use crate::http::Http;
use crate::pace::EVIDENCE;
use crate::peer::Peer;
use crate::{RateMeter, SourceId, SourceKind, Time, Transfer};

/// Peers that do not deliver for this long are not waited for (product §6.1).
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);
/// … if only some of them do not.
const LONG_PATIENCE: Duration = Duration::from_secs(2);
/// A device that downloads alone waits for its first bytes from peers for this share of the time that the origin would
/// need, but [`PATIENCE`] at most …
const STAKE: f64 = 0.0075;
/// … or, if nobody waits for the file, for this share …
const BACKGROUND_STAKE: f64 = 0.015;
/// … and as long as a neighbour may need for a handshake and its first bytes.
const LEAST_BACKGROUND_STAKE: Duration = Duration::from_millis(20);
/// What an origin gives of which nothing is known, in bytes a second.
const GUESSED_ORIGIN: f64 = 62.5e6;
/// The rate of all peers is judged after this much time with work at hand …
const JUDGE_TIME: Duration = Duration::from_millis(500);
/// … or, alone, after this share of the time that the origin would need …
const JUDGE_SHARE: f64 = 0.03;
/// … but not sooner than this.
const LEAST_JUDGE_TIME: Duration = Duration::from_millis(50);
/// Peers who would be done within this time are not slow, whatever their rate: work at hand comes and goes. Alone, it is
/// the origin's time if that is less …
const SOON: Duration = Duration::from_secs(1);
/// … but at least this.
const VERY_SOON: Duration = Duration::from_millis(100);
/// Beside other downloaders somebody who waits is content with this share of what the origin usually gives: were it all of it,
/// half of them would find the others slow by chance.
const FAIR_SHARE: f64 = 0.8;
/// `min_background_qos` is an average over this time (product §5).
pub(crate) const QOS_WINDOW: Duration = Duration::from_secs(20);
/// A link of just that speed carries so much less of files: headers, what a low-priority transfer leaves to others, and what
/// the average is off by. Without it HTTP would top up beside peers that fill such a link, and take it from them.
const QOS_MET: f64 = 0.9;
/// What a piece takes over HTTP if nobody else asks, where nothing is known: as at 11 Mbit/s. Of a small content most devices
/// never ask for one, and whoever guesses too little fetches what a neighbour is still getting over a slow link …
const GUESSED_PIECE_TIME: Duration = Duration::from_millis(750);
/// … and at most, where something is.
const LONGEST_PIECE_TIME: Duration = Duration::from_secs(120);
/// A foreground transfer that peers will keep busy for longer than this finds out what the origin would give.
const WORTH_A_PROBE: Duration = Duration::from_secs(3);

/// Since when peers have had something for us without pause, and what they had delivered by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlog {
    pub(crate) since: Time,
    delivered: u64,
}

impl Transfer {
    /// Looks at all peers; called once a tick.
    pub(crate) fn judge_peers(&mut self, now: Time) {
        let quiet = self.from_peers.last().is_none_or(|last| now.since(last) >= PATIENCE);
        // When the origin stands still at the same time, it is this device or its link that does, and no peer's fault.
        let hiccup = self.https.values().any(|http| http.stands_still(now));
        let patience = match self.from_peers.last() {
            _ if !quiet || hiccup => LONG_PATIENCE,
            None => self.first_patience(),
            Some(_) => PATIENCE,
        };
        let silent: Vec<SourceId> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.is_silent() && !peer.leaving)
            .filter(|(_, peer)| peer.at_fault_since.is_some_and(|since| now.since(since) >= patience))
            .filter(|(_, peer)| peer.have.has_beyond(self.pieces.have()))
            .map(|(source, _)| *source)
            .collect();
        for source in silent {
            self.set_counted(source, false);
            // Its requests stand: what it still delivers is welcome, unless it is to be seen whose bytes are wrong.
            self.pieces.unask_all(source);
            self.cancel_solo_requests(source);
            if let Some(peer) = self.peers.get_mut(&source) {
                peer.fall_silent();
            }
        }
        self.peers_slow = self.are_peers_slow(now);
    }

    /// How long peers are waited for of which nothing has come yet.
    pub(crate) fn first_patience(&self) -> Duration {
        if !self.is_alone() {
            return PATIENCE;
        }
        let (stake, least) = match self.limits.foreground {
            true => (STAKE, Duration::ZERO),
            false => (BACKGROUND_STAKE, LEAST_BACKGROUND_STAKE),
        };
        Duration::from_secs_f64(self.origin_time() * stake).clamp(least, PATIENCE)
    }

    /// Whether peers have been named that hold everything, and may still have to be found useless.
    pub(crate) fn is_undecided(&self, now: Time) -> bool {
        self.hope_since.is_some_and(|since| now.since(since) < SOON) && self.is_alone()
    }

    /// Seconds that the origin would need for what is missing, as far as is known.
    fn origin_time(&self) -> f64 {
        let rates = self.https.values().filter(|http| !http.unusable).filter_map(Http::best_rate);
        let rate = rates.max().map_or(GUESSED_ORIGIN, |rate| rate as f64);
        f64::from(self.pieces.missing()) * f64::from(PIECE_SIZE) / rate.max(1.0)
    }

    /// Whether pieces at such a peer count as available. Bytes from strangers on the Internet save nothing (product §7),
    /// so the origin need not wait for them.
    pub(crate) fn may_count(&self, kind: SourceKind) -> bool {
        kind != SourceKind::Internet
    }

    /// Whether a newcomer's pieces count as available at once: not if somebody has already disappointed us, for then
    /// every newcomer could hold the origin back a little longer.
    pub(crate) fn trusts_newcomers(&self) -> bool {
        !self.peers.values().any(Peer::is_silent)
    }

    /// A peer has delivered, and made up for its silence, if it was silent.
    pub(crate) fn believe(&mut self, source: SourceId, was_silent: bool, now: Time) {
        let Some(peer) = self.peers.get(&source) else { return };
        if was_silent {
            // What it owed was nobody's; it is this peer's again.
            for request in &peer.requests {
                self.pieces.ask(source, request.piece, request.left);
            }
        }
        self.set_counted(source, self.may_count(peer.kind));
        if was_silent {
            // What they have shown meanwhile says whether the origin may go.
            self.peers_slow |= self.is_alone() && !self.are_fair(now);
        }
    }

    /// Counts the pieces of a peer as available, or no longer.
    pub(crate) fn set_counted(&mut self, source: SourceId, counted: bool) {
        let Some(peer) = self.peers.get_mut(&source).filter(|peer| peer.counted != counted) else { return };
        peer.counted = counted;
        for piece in peer.have.iter() {
            if counted {
                self.pieces.peer_has(piece, peer.kind);
            } else {
                self.pieces.peer_lost(piece, peer.kind);
            }
        }
        self.http_due = true;
    }

    fn are_peers_slow(&mut self, now: Time) -> bool {
        let waiting = self.pieces.missing() - self.pieces.scarce();
        if waiting == 0 {
            self.backlog = None;
            return false;
        }
        let delivered = self.from_peers.total();
        let backlog = *self.backlog.get_or_insert(Backlog { since: now, delivered });
        let span = now.since(backlog.since);
        let (judge_time, soon, worth_a_probe) = self.judging_times();
        if span < judge_time {
            return self.peers_slow;
        }
        let average = |window: Duration, meter: &RateMeter| match span < window {
            true => (delivered - backlog.delivered) as f64 / span.as_secs_f64(),
            false => meter.rate(now) as f64,
        };
        let (rate, share) = match self.limits.foreground {
            // What it fetches for the others is its own gain as well. With what the origin brings in place of slow peers they
            // would not be slow, the origin would let go, and they would be.
            true if !self.is_alone() => (self.without_help.rate(now) as f64, FAIR_SHARE),
            true => (average(crate::rate::WINDOW, &self.from_peers), 1.0),
            false => (average(QOS_WINDOW, &self.from_peers_long), 1.0),
        };
        let left = f64::from(waiting) * f64::from(PIECE_SIZE);
        // How soon peers would be done is a matter of what they give.
        let beside_others = self.limits.foreground && !self.is_alone();
        let by_peers = if beside_others { self.from_peers.rate(now) as f64 } else { rate };
        let lasts = |span: Duration| left > by_peers * span.as_secs_f64();
        let unknown = || match self.limits.foreground && lasts(worth_a_probe) {
            true => f64::INFINITY,
            false => self.least_rate(),
        };
        lasts(soon) && rate < self.wanted_rate(now).unwrap_or_else(unknown) * share
    }

    /// Whether the origin is to bring what slow peers have, now. Beside other downloaders of which nobody waits, only what is
    /// missing to the rate that is wanted: if uplinks are what all wait for, all find their peers slow, and the origin would
    /// be asked for as many copies as there are devices.
    pub(crate) fn is_to_top_up(&self, now: Time) -> bool {
        if !self.peers_slow || self.limits.foreground || self.is_alone() {
            return self.peers_slow;
        }
        // Or what the origin would give, where that is less.
        let origin = self.wanted_rate(now).filter(|rate| *rate < self.least_rate());
        let wanted = origin.unwrap_or(self.limits.min_rate as f64);
        (self.from_all_long.rate(now) as f64) < wanted
    }

    /// How long peers are watched before they are judged, how soon they must be done not to be, and how long they must
    /// last for it to be worth while to find out what the origin would give.
    fn judging_times(&self) -> (Duration, Duration, Duration) {
        if !self.is_alone() {
            return (JUDGE_TIME, SOON, WORTH_A_PROBE);
        }
        let origin = Duration::from_secs_f64(self.origin_time().min(60.0));
        (
            origin.mul_f64(JUDGE_SHARE).clamp(LEAST_JUDGE_TIME, JUDGE_TIME),
            origin.clamp(VERY_SOON, SOON),
            (origin * 3 / 2).clamp(VERY_SOON, WORTH_A_PROBE),
        )
    }

    /// The rate below which peers are slow, if enough is known: what the origin would give, beside other downloaders what it
    /// usually gives; in the background only `min_background_qos`, and beside other downloaders not more of that than the origin
    /// would give.
    pub(crate) fn wanted_rate(&self, now: Time) -> Option<f64> {
        let (evidence, alone) = (self.probe_size(), self.is_alone());
        let usually = self.limits.foreground && !alone;
        let usable = self.https.values().filter(|http| !http.unusable);
        let rate = |http: &Http| match usually {
            true => http.usual_rate(evidence),
            false => http.proven_rate(evidence, now),
        };
        let origin = usable.filter_map(rate).reduce(f64::max);
        let least = self.least_rate();
        match self.limits.foreground {
            true => origin,
            false if alone => Some(least),
            false => origin.map(|origin| origin.min(least)),
        }
    }

    /// The rate of files at which `min_background_qos` is met, in bytes a second.
    fn least_rate(&self) -> f64 {
        self.limits.min_rate as f64 * QOS_MET
    }

    /// Whether the origin is asked for a little only to learn what it would give.
    pub(crate) fn is_probing(&self, now: Time) -> bool {
        let delivers = self.pieces.missing() > self.pieces.scarce();
        self.limits.foreground && self.peers_slow && delivers && self.wanted_rate(now).is_none()
    }

    /// What one piece takes over HTTP here, by experience, now or as a rule, whichever is longer: whoever is the last to ask the
    /// origin has it for itself, and the others' claims are of a time when all shared it. Without experience, a guess.
    pub(crate) fn piece_time(&self, now: Time) -> Duration {
        let origin = self.https.values().filter(|http| http.kind == SourceKind::Cdn);
        let both = |http: &Http| Some(http.rate(now)?.min(http.usual_rate(EVIDENCE)?));
        let rate = origin.filter_map(both).reduce(f64::max);
        let span = match rate {
            Some(rate) => f64::from(PIECE_SIZE) / rate.max(1.0),
            None => GUESSED_PIECE_TIME.as_secs_f64() * self.claims.claimants(|_| true).max(1) as f64,
        };
        Duration::from_secs_f64(span.min(LONGEST_PIECE_TIME.as_secs_f64()))
    }
}
