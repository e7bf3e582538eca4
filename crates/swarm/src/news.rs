//! Telling neighbours of pieces.
//!
//! Whoever hears of a new piece asks for it at once, and a piece can be passed on only when it is complete. If all
//! neighbours heard of it together, all would get it from here at the same slow pace and be of no use to each other. So
//! a piece that few have is told of to a few, to the next few when these have been served, and to all when the link
//! turns out to be idle or some time has passed. One that many have is no news: such are gathered, since a word to each of
//! fifty neighbours about every piece would be most of what a device says.

use std::collections::BTreeSet;
use std::time::Duration;

use peerage_content::PieceIndex;
use peerage_wire::{MAX_LISTED, Message};

use crate::{SourceId, Time, Transfer};

/// Neighbours told of a new piece at a time.
const FEW: usize = 8;
/// Believable peers that have a piece which is no news: whoever wants it has others to ask.
const COMMON: u16 = 8;
/// After this everybody is told …
const SOON: Duration = Duration::from_millis(100);
/// … or after this, if so long something waits to be sent.
const LATEST: Duration = Duration::from_millis(300);
/// What is no news is gathered for this long …
const GATHER: Duration = Duration::from_millis(500);
/// … of a content of more pieces than this. A smaller one may be all through by then.
const WORTH_GATHERING: u32 = 64;

/// A piece that was verified and of which not everybody has been told.
#[derive(Debug, Clone)]
pub(crate) struct News {
    pub(crate) piece: PieceIndex,
    verified: Time,
    told: BTreeSet<SourceId>,
}

impl News {
    pub(crate) const fn new(piece: PieceIndex, now: Time) -> Self {
        Self { piece, verified: now, told: BTreeSet::new() }
    }
}

impl Transfer {
    /// Tells a few of what is new, and the next few if the last ones have been served.
    pub(crate) fn tell_news(&mut self) {
        let served = std::mem::take(&mut self.served);
        if !served && self.news.last().is_none_or(|news| !news.told.is_empty()) {
            return;
        }
        let mut all = std::mem::take(&mut self.news);
        for news in &mut all {
            if (served || news.told.is_empty()) && self.pieces.availability(news.piece) < COMMON {
                self.tell_few(news);
            }
        }
        self.news = all;
    }

    fn tell_few(&mut self, news: &mut News) {
        let waiting: Vec<SourceId> = self.lack(news.piece).filter(|peer| !news.told.contains(peer)).collect();
        let first = self.rng.below(waiting.len() as u32) as usize;
        let few: Vec<SourceId> =
            waiting.iter().cycle().skip(first).take(FEW.min(waiting.len())).copied().collect();
        for source in few {
            news.told.insert(source);
            self.send(source, Message::Have(vec![news.piece]));
        }
    }

    /// Tells everybody else. Called once a tick.
    pub(crate) fn tell_the_rest(&mut self, now: Time) {
        if self.news.is_empty() {
            return;
        }
        let patience = if self.is_serving() { LATEST } else { SOON };
        let common = |news: &News| self.pieces.availability(news.piece) >= COMMON;
        let waits = |news: &News| now.since(news.verified) < if common(news) { GATHER } else { patience };
        // Whoever is told of anything is told of all.
        let gathered = self.news.iter().any(|news| common(news) && !waits(news));
        let at_once = self.is_complete() || self.pieces.layout().pieces() <= WORTH_GATHERING;
        let due = |news: &mut News| !waits(news) || ((gathered || at_once) && common(news));
        let due: Vec<News> = self.news.extract_if(.., due).collect();
        if due.is_empty() {
            return;
        }
        let sources: Vec<SourceId> = self.peers.keys().copied().collect();
        for source in sources {
            let Some(peer) = self.peers.get(&source).filter(|peer| !peer.leaving) else { continue };
            let untold =
                due.iter().filter(|news| !news.told.contains(&source) && !peer.have.contains(news.piece));
            let pieces: Vec<PieceIndex> = untold.map(|news| news.piece).collect();
            pieces.chunks(MAX_LISTED).for_each(|chunk| self.send(source, Message::Have(chunk.to_vec())));
        }
    }

    fn lack(&self, piece: PieceIndex) -> impl Iterator<Item = SourceId> + '_ {
        let lack = self.peers.iter().filter(move |(_, peer)| !peer.leaving && !peer.have.contains(piece));
        lack.map(|(source, _)| *source)
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_serving(&self) -> bool {
        self.peers.values().any(|peer| peer.serving.is_busy())
    }
}
