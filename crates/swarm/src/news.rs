//! Telling neighbours of pieces.
//!
//! Whoever hears of a new piece asks for it at once, and a piece can be passed on only when it is complete. If all
//! neighbours heard of it together, all would get it from here at the same slow pace and be of no use to each other. So
//! a piece that few have is told of to a few, to the next few when these have been served, and to all when the link
//! turns out to be idle or some time has passed. One that many have is no news: such are gathered, since a word to each of
//! fifty neighbours about every piece would be most of what a device says.
//!
//! Of a small content the last piece's way through the swarm is most of the time that it takes, and it is shortest from
//! one to one (`heirs.rs`) or, where nobody is connected to all, from few to few: two at a time, as long as these are served
//! quickly. A neighbour that is told of what it has itself says so at once, so that another one is told instead.

use std::time::Duration;

use peerage_content::{PIECE_SIZE, PieceIndex};
use peerage_wire::{MAX_LISTED, Message};

use crate::{Action, SourceId, Time, Transfer};

/// Neighbours told of a new piece at a time.
const FEW: usize = 8;
/// … by a device that has few pieces itself …
const FEW_AT_FIRST: usize = 3;
/// … which are so many: it has nothing else to send, and none of the eight could pass it on before all of them have it.
const FIRST_PIECES: u32 = 8;
/// … and of a piece of a small content: there is nothing else to do meanwhile, and whoever gets it from few gets it soon,
/// and passes it on.
const VERY_FEW: usize = 2;
/// Believable peers that have a piece which is no news: whoever wants it has others to ask.
const COMMON: u16 = 8;
/// After this everybody is told …
const SOON: Duration = Duration::from_millis(100);
/// … of a small content after this …
pub(crate) const VERY_SOON: Duration = Duration::from_millis(20);
/// … or after this, if so long something waits to be sent: where uplinks are the bottleneck, whoever is told asks here, and
/// the uplinks of those who could pass it on are idle.
const LATEST: Duration = Duration::from_millis(1500);
/// A neighbour is served within this time, or it is no use to have the others wait: they would take it that a claim was not
/// made good.
const QUICK: Duration = Duration::from_millis(800);
/// What is no news is gathered for this long …
const GATHER: Duration = Duration::from_millis(500);
/// … of a content of more pieces than this. A smaller one may be all through by then.
const SMALL: u32 = 64;

/// A piece that was verified and of which not everybody has been told.
#[derive(Debug, Clone)]
pub(crate) struct News {
    pub(crate) piece: PieceIndex,
    verified: Time,
    /// When somebody was last told.
    said: Time,
    pub(crate) told: Vec<SourceId>,
    /// Nobody has been looked for who could be told.
    fresh: bool,
    /// It goes from one to one …
    of_heirs: bool,
    /// … and these are those whom this device is still to supply, by itself or through each other.
    pub(crate) heirs: Vec<SourceId>,
}

impl Transfer {
    /// A piece has been verified; `from` is the neighbour that it came from, if it came from one.
    pub(crate) fn note_news(&mut self, piece: PieceIndex, from: Option<SourceId>, now: Time) {
        let of_heirs = self.has_only_heirs();
        let heirs = if of_heirs { self.heirs(piece, from) } else { Vec::new() };
        self.news.push(News {
            piece,
            verified: now,
            said: now,
            told: Vec::new(),
            fresh: true,
            of_heirs,
            heirs,
        });
    }

    /// Tells a few of what is new, and the next few if the last ones have been served.
    pub(crate) fn tell_news(&mut self, now: Time) {
        let (served, met) = (std::mem::take(&mut self.served), std::mem::take(&mut self.news_met));
        if !served && !met && self.news.last().is_none_or(|news| !news.fresh) {
            return;
        }
        let quick = self.is_quick(now);
        if quick && self.news.iter().any(|news| news.of_heirs) {
            self.news.iter_mut().for_each(|news| news.fresh = false);
            match self.has_heirs() {
                _ if self.is_serving() => {}
                true => self.tell_next_heir(now),
                false => self.help(now),
            }
            return;
        }
        let met = met && !self.is_serving();
        let begins = self.pieces.have().count() <= FIRST_PIECES;
        let few = match (quick, begins) {
            (true, _) => VERY_FEW,
            (false, true) => FEW_AT_FIRST,
            (false, false) => FEW,
        };
        let mut all = std::mem::take(&mut self.news);
        for news in &mut all {
            // Nobody was told, or whoever was has it.
            let over = (met || std::mem::take(&mut news.fresh))
                && news.told.iter().all(|source| !self.lacks(*source, news.piece));
            if (served || over) && self.pieces.availability(news.piece) < COMMON {
                self.tell_few(news, few, now);
            }
        }
        self.news = all;
    }

    /// Whoever has supplied its own heirs supplies others': of the rarest piece, somebody who lacks it as far as is known. On
    /// links no faster than the origin whoever fetched the pieces would need ten times as long for all of its own.
    fn help(&mut self, now: Time) {
        let mut all = std::mem::take(&mut self.news);
        all.sort_by_key(|news| self.pieces.availability(news.piece));
        let rare = all.partition_point(|news| self.pieces.availability(news.piece) < COMMON);
        for news in all.iter_mut().take(rare) {
            let told = news.told.len();
            self.tell_few(news, 1, now);
            if news.told.len() > told {
                break;
            }
        }
        self.news = all;
    }

    fn tell_few(&mut self, news: &mut News, few: usize, now: Time) {
        let waiting: Vec<SourceId> = self.lack(news.piece).filter(|peer| !news.told.contains(peer)).collect();
        let first = self.rng.below(waiting.len() as u32) as usize;
        let few = waiting.iter().cycle().skip(first).take(few.min(waiting.len()));
        few.for_each(|source| self.tell_one(news, *source, now));
    }

    pub(crate) fn tell_one(&mut self, news: &mut News, source: SourceId, now: Time) {
        news.told.push(source);
        news.said = now;
        self.send(source, Message::Have(vec![news.piece]));
    }

    /// `source` tells of `pieces`. Of a small content it hears at once of those that are here as well, for it may have chosen
    /// this device as one of the few; and if all that this device chose turn out to have them, others are told.
    pub(crate) fn answer_news(&mut self, source: SourceId, pieces: &[PieceIndex]) {
        if !self.is_small() {
            return;
        }
        let mut untold = Vec::new();
        for news in self.news.iter_mut().filter(|news| pieces.contains(&news.piece)) {
            self.news_met = true;
            if !news.told.contains(&source) {
                news.told.push(source);
                untold.push(news.piece);
            }
        }
        if !untold.is_empty() {
            self.send(source, Message::Have(untold));
        }
    }

    /// Tells everybody else. Called once a tick.
    pub(crate) fn tell_the_rest(&mut self, now: Time) {
        if self.news.is_empty() {
            return;
        }
        let quick = self.is_quick(now);
        if quick {
            self.hurry_heirs(now);
        }
        let soon = if self.is_small() { VERY_SOON } else { SOON };
        let patience = if self.is_serving() { LATEST } else { soon };
        let common = |news: &News| self.pieces.availability(news.piece) >= COMMON;
        let since = |news: &News| now.since(if quick { news.said } else { news.verified });
        let waits = |news: &News| match common(news) {
            true => since(news) < GATHER,
            false => since(news) < patience || (quick && !news.heirs.is_empty()),
        };
        // Whoever is told of anything is told of all.
        let gathered = self.news.iter().any(|news| common(news) && !waits(news));
        let at_once = self.is_complete() || self.pieces.layout().pieces() <= SMALL;
        let due = |news: &mut News| !waits(news) || ((gathered || at_once) && common(news));
        let due: Vec<News> = self.news.extract_if(.., due).collect();
        if due.is_empty() {
            return;
        }
        for (source, peer) in self.peers.iter().filter(|(_, peer)| !peer.leaving) {
            let untold =
                due.iter().filter(|news| !news.told.contains(source) && !peer.have.contains(news.piece));
            let pieces: Vec<PieceIndex> = untold.map(|news| news.piece).collect();
            for chunk in pieces.chunks(MAX_LISTED) {
                let message = Message::Have(chunk.to_vec());
                self.actions.push_back(Action::Send { source: *source, message });
            }
        }
    }

    fn lack(&self, piece: PieceIndex) -> impl Iterator<Item = SourceId> + '_ {
        let lack = self.peers.iter().filter(move |(_, peer)| !peer.leaving && !peer.have.contains(piece));
        lack.map(|(source, _)| *source)
    }

    pub(crate) fn lacks(&self, source: SourceId, piece: PieceIndex) -> bool {
        self.peers.get(&source).is_some_and(|peer| !peer.leaving && !peer.have.contains(piece))
    }

    /// Whether the content may be all through before a word that waits a little is said.
    pub(crate) fn is_small(&self) -> bool {
        self.pieces.layout().pieces() <= SMALL && !self.knows_far_peers
    }

    /// Whether pieces spread fastest if each device that has one passes it on to very few at a time.
    fn is_quick(&self, now: Time) -> bool {
        let few = if self.has_only_heirs() { 1 } else { VERY_FEW };
        let bytes = few as f64 * f64::from(PIECE_SIZE);
        let quick = |rate: f64| bytes <= rate * QUICK.as_secs_f64();
        self.is_small() && self.serving_pace.rate(now).is_none_or(quick)
    }

    /// Whether somebody may soon have to be told of something, for nobody wants it of those who have been.
    pub(crate) fn has_urgent_news(&self) -> bool {
        !self.news.is_empty() && self.is_small()
    }

    /// Whether something waits to be sent.
    pub(crate) const fn is_serving(&self) -> bool {
        self.uploads > 0
    }
}
