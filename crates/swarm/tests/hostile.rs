//! Whatever peers say and whenever things happen, the engine does not panic, comes to rest, and keeps its invariants.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerage_content::{BLOCK_SIZE, Bitmap, BlockSet, Layout, PIECE_SIZE, PeerId, PieceIndex};
use peerage_swarm::{
    Action, Candidate, Event, FetchError, FetchId, Limits, Outcome, SourceId, SourceKind, Start, Time,
    Transfer,
};
use peerage_wire::{MAX_REQUESTS, Message, RejectCode};
use proptest::prelude::*;

/// Pieces of the content; the last is short.
const PIECES: u32 = 12;
const SIZE: u64 = (PIECES as u64 - 1) * PIECE_SIZE as u64 + 70_000;
/// More than the engine may ever do about one event here.
const MAX_ACTIONS: usize = 20_000;

/// One thing that happens; numbers are reduced to what exists, or deliberately not.
#[derive(Debug, Clone)]
enum Step {
    Joined { peer: u8, kind: u8, have: u64, wrong_len: bool },
    Left { pick: u8 },
    Said { pick: u8, what: u8, piece: u32, offset: u32, len: u32 },
    Stored { pick: u8, piece: u32, block: u32, blocks: u32, outcome: u8 },
    Http { cache: bool },
    HttpGoes { pick: u8, rests: bool },
    Fetched { pick: u8, result: u8 },
    Sent { pick: u8 },
    Lost { piece: u32 },
    Banned { peer: u8 },
    DialFailed { peer: u8 },
    Discovered { peers: Vec<u8>, ordinal: Option<u32>, downloaders: u32 },
    Limits { bits: u8 },
    Pause { paused: bool },
    Wait { ms: u32 },
}

fn number() -> impl Strategy<Value = u32> {
    // Mostly within the content, sometimes at its edges, sometimes nowhere near it.
    prop_oneof![6 => 0..PIECES, 1 => PIECES..PIECES + 2, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![4 => (0u32..66).prop_map(|block| block * BLOCK_SIZE), 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<u8>(), 0u8..4, any::<u64>(), prop::bool::weighted(0.03))
            .prop_map(|(peer, kind, have, wrong_len)| Step::Joined { peer, kind, have, wrong_len }),
        1 => any::<u8>().prop_map(|pick| Step::Left { pick }),
        12 => (any::<u8>(), 0u8..12, number(), offset(), offset())
            .prop_map(|(pick, what, piece, offset, len)| Step::Said { pick, what, piece, offset, len }),
        12 => (any::<u8>(), number(), 0u32..64, 1u32..64, 0u8..6)
            .prop_map(|(pick, piece, block, blocks, outcome)| Step::Stored { pick, piece, block, blocks, outcome }),
        1 => any::<bool>().prop_map(|cache| Step::Http { cache }),
        1 => any::<(u8, bool)>().prop_map(|(pick, rests)| Step::HttpGoes { pick, rests }),
        3 => (any::<u8>(), 0u8..5).prop_map(|(pick, result)| Step::Fetched { pick, result }),
        3 => any::<u8>().prop_map(|pick| Step::Sent { pick }),
        1 => number().prop_map(|piece| Step::Lost { piece }),
        1 => any::<u8>().prop_map(|peer| Step::Banned { peer }),
        1 => any::<u8>().prop_map(|peer| Step::DialFailed { peer }),
        1 => (prop::collection::vec(any::<u8>(), 0..9), any::<Option<u32>>(), prop_oneof![0u32..40, Just(u32::MAX - 1)])
            .prop_map(|(peers, ordinal, downloaders)| Step::Discovered { peers, ordinal, downloaders }),
        1 => any::<u8>().prop_map(|bits| Step::Limits { bits }),
        1 => any::<bool>().prop_map(|paused| Step::Pause { paused }),
        6 => prop_oneof![0u32..5, 90..120u32, 0..20_000u32].prop_map(|ms| Step::Wait { ms }),
    ]
}

fn key(peer: u8) -> PeerId {
    PeerId::from_bytes([peer; 32])
}

/// What one connection has been told and has asked, as the engine must see it.
#[derive(Debug, Default)]
struct Link {
    choked: bool,
    leaving: bool,
    has: BTreeSet<u32>,
    /// Requests by piece, offset and length: blocks that have not come.
    asked: BTreeMap<(u32, u32, u32), BlockSet>,
    uploads: Vec<u32>,
}

/// A driver that only keeps books.
struct Books {
    engine: Transfer,
    layout: Layout,
    now: Time,
    next_source: u32,
    links: BTreeMap<SourceId, Link>,
    https: BTreeSet<SourceId>,
    /// Those of them that ignore ranges.
    whole: BTreeSet<SourceId>,
    fetches: BTreeMap<FetchId, (SourceId, u64, u64)>,
    have: Bitmap,
    paused: bool,
    complete: bool,
}

impl Books {
    fn new() -> Self {
        let layout = Layout::new(SIZE).unwrap();
        let have = Bitmap::for_layout(layout);
        let engine = Transfer::new(Start {
            me: key(100),
            layout,
            have: have.clone(),
            partial: vec![(PieceIndex(3), BlockSet::first(9)), (PieceIndex(99), BlockSet::first(9))],
            limits: Limits::default(),
            seed: 1,
        });
        let (links, https, fetches) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let now = Time::from_micros(1_000_000);
        Self {
            engine,
            layout,
            now,
            next_source: 0,
            links,
            https,
            whole: BTreeSet::new(),
            fetches,
            have,
            paused: false,
            complete: false,
        }
    }

    fn pick<K: Copy>(all: impl ExactSizeIterator<Item = K>, pick: u8) -> Option<K> {
        let len = all.len();
        if len == 0 { None } else { all.into_iter().nth(pick as usize % len) }
    }

    fn source(&mut self) -> SourceId {
        self.next_source += 1;
        SourceId(self.next_source)
    }

    /// The event of a step, if it can happen now.
    fn event(&mut self, step: Step) -> Option<Event> {
        let link = |books: &Self, pick| Self::pick(books.links.keys().copied(), pick);
        Some(match step {
            Step::Joined { peer, kind, have, wrong_len } => {
                let source = self.source();
                let kind = [SourceKind::LinkLocal, SourceKind::Lan, SourceKind::Group, SourceKind::Internet]
                    [kind as usize];
                let mut bitmap = Bitmap::new(if wrong_len { PIECES + 7 } else { PIECES });
                (0..PIECES).filter(|i| have >> i & 1 == 1).for_each(|i| {
                    bitmap.insert(PieceIndex(i));
                });
                let has = bitmap.iter().map(|piece| piece.0).collect();
                self.links.insert(source, Link { choked: true, has, ..Link::default() });
                Event::PeerJoined { source, peer: key(peer), kind, have: bitmap }
            }
            Step::Left { pick } => {
                let source = link(self, pick)?;
                self.links.remove(&source);
                Event::PeerLeft { source }
            }
            Step::Said { pick, what, piece, offset, len } => {
                let source = link(self, pick)?;
                let message = message(what, piece, offset, len);
                self.hear(source, &message);
                Event::Message { source, message }
            }
            Step::Stored { pick, piece, block, blocks, outcome } => {
                let piece = PieceIndex(piece % PIECES);
                let sources: Vec<SourceId> = self.links.keys().chain(&self.https).copied().collect();
                let source = Self::pick(sources.into_iter(), pick)?;
                let (block, len) = (block % self.layout.blocks(piece), self.layout.piece_len(piece));
                let offset = block * BLOCK_SIZE;
                let len = (blocks * BLOCK_SIZE).min(len - offset);
                let outcome = match outcome {
                    _ if self.have.contains(piece) => Outcome::Duplicate,
                    0 => Outcome::Verified,
                    1 => Outcome::Corrupt,
                    2 => Outcome::Duplicate,
                    _ => Outcome::Partial,
                };
                if outcome == Outcome::Verified {
                    self.have.insert(piece);
                }
                // Bytes of a range arrive in order: what lies before them has come.
                let at = self.layout.offset(piece) + u64::from(offset);
                for (of, from, to) in self.fetches.values_mut() {
                    if *of == source && (*from..*to).contains(&at) {
                        *from = (at + u64::from(len)).min(*to);
                    }
                }
                let covered = BlockSet::covered(offset, len, self.layout.piece_len(piece));
                if let Some(link) = self.links.get_mut(&source) {
                    link.asked.retain(|(asked, ..), left| {
                        if *asked == piece.0 {
                            *left = left.minus(covered);
                        }
                        !left.is_empty()
                    });
                }
                Event::Stored { source, piece, offset, len, outcome }
            }
            Step::Http { cache } => {
                let source = self.source();
                self.https.insert(source);
                let kind = if cache { SourceKind::CacheServer } else { SourceKind::Cdn };
                Event::HttpJoined { source, kind, known_rate: cache.then_some(1 << 20) }
            }
            Step::HttpGoes { pick, rests } => {
                let source = Self::pick(self.https.iter().copied(), pick)?;
                let left = Duration::from_secs(u64::from(pick));
                if rests {
                    Event::HttpRests { source, left }
                } else {
                    // Whatever is asked of it from now on is asked of nobody.
                    self.https.remove(&source);
                    Event::HttpLeft { source }
                }
            }
            Step::Fetched { pick, result } => {
                let fetch = Self::pick(self.fetches.keys().copied(), pick)?;
                let (source, ..) = self.fetches.remove(&fetch)?;
                let retry = |after: Option<u64>| FetchError::Retry(after.map(Duration::from_secs));
                match result {
                    0 => Event::FetchDone { fetch },
                    1 => Event::FetchFailed { fetch, error: retry(None) },
                    2 => Event::FetchFailed { fetch, error: retry(Some(u64::MAX)) },
                    3 => {
                        self.whole.insert(source);
                        Event::FetchFailed { fetch, error: FetchError::Whole }
                    }
                    _ => Event::FetchFailed { fetch, error: FetchError::Unusable },
                }
            }
            Step::Sent { pick } => {
                let source = link(self, pick)?;
                let len = self.links.get_mut(&source)?.uploads.pop()?;
                Event::Sent { source, len }
            }
            Step::Lost { piece } => {
                let piece = PieceIndex(piece);
                if self.have.remove(piece) {
                    self.complete = false;
                }
                Event::Lost { piece }
            }
            Step::Banned { peer } => Event::Banned { peer: key(peer) },
            Step::DialFailed { peer } => Event::DialFailed { peer: key(peer) },
            Step::Discovered { peers, ordinal, downloaders } => {
                let candidates = peers.into_iter().map(|peer| Candidate {
                    peer: key(peer),
                    kind: SourceKind::Lan,
                    seed: peer % 2 == 0,
                    moved: peer % 3 == 0,
                });
                Event::Discovered { candidates: candidates.collect(), ordinal, downloaders }
            }
            Step::Limits { bits } => Event::Limits(Limits {
                max_peers: (bits & 3) as usize * 10,
                download_from_peers: bits & 4 == 0,
                upload_to_peers: bits & 8 == 0,
                origin_delay: Duration::from_secs(u64::from(bits & 16)),
                cache_delay: Duration::from_secs(u64::from(bits & 128)),
                min_rate: if bits & 32 == 0 { 2_500_000 } else { u64::MAX },
                foreground: bits & 64 == 0,
            }),
            Step::Pause { paused } => {
                self.paused = paused;
                Event::Pause(paused)
            }
            Step::Wait { ms } => {
                self.now = self.now + Duration::from_millis(u64::from(ms));
                if self.engine.poll_timeout().is_some_and(|due| due <= self.now) {
                    self.engine.handle_timeout(self.now);
                }
                return None;
            }
        })
    }

    /// What a message changes in the books.
    fn hear(&mut self, source: SourceId, message: &Message) {
        let Some(link) = self.links.get_mut(&source).filter(|link| !link.leaving) else { return };
        match message {
            Message::Choke => {
                link.choked = true;
                link.asked.clear();
            }
            Message::Unchoke => link.choked = false,
            Message::Have(pieces) => link.has.extend(pieces.iter().map(|piece| piece.0)),
            Message::Reject { code: RejectCode::NotHere, piece, .. } => {
                link.has.remove(&piece.0);
                link.asked.retain(|(asked, ..), _| *asked != piece.0);
            }
            // Whatever else it means, it answers no requests until it unchokes again.
            Message::Reject { .. } => {
                link.choked = true;
                link.asked.clear();
            }
            _ => {}
        }
    }

    fn live(&mut self, source: SourceId) -> &mut Link {
        let link = self.links.get_mut(&source).filter(|link| !link.leaving);
        link.unwrap_or_else(|| panic!("uses {source:?}, which has left"))
    }

    /// Does what the engine wants, and holds it to the rules.
    fn drain(&mut self) {
        for _ in 0..MAX_ACTIONS {
            let Some(action) = self.engine.poll_action(self.now) else {
                assert_eq!(self.engine.have(), &self.have);
                assert_eq!(self.engine.is_complete(), self.have.is_full());
                let _ = (self.engine.stats(self.now), self.engine.peer_stats(self.now).count());
                return;
            };
            self.perform(action);
        }
        panic!("the engine does not come to rest");
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { source, message } => self.say(source, message),
            Action::Upload { source, piece, offset, len } => {
                assert!(self.have.contains(piece), "uploads {piece}, which it lacks");
                assert!(self.layout.fits(piece, offset, len));
                self.live(source).uploads.push(len);
            }
            Action::Fetch { source, fetch, start, end } => {
                assert!(!self.paused && self.https.contains(&source) && start < end && end <= SIZE);
                let size = u64::from(PIECE_SIZE);
                // A source that ignores ranges is asked for all from the first missing piece on.
                let whole = self.whole.contains(&source);
                assert!(!whole || end == SIZE, "asks for a part of what comes whole");
                let checked = if whole { start + 1 } else { end };
                for piece in start / size..checked.div_ceil(size) {
                    assert!(!self.have.contains(PieceIndex(piece as u32)), "fetches {piece}, which it has");
                }
                let mut others = self.fetches.values().filter(|(of, from, to)| *of == source && from < to);
                assert!(others.all(|(_, from, to)| end <= *from || *to <= start), "fetches bytes twice");
                assert!(
                    self.fetches.insert(fetch, (source, start, end)).is_none(),
                    "{fetch:?} is used twice"
                );
            }
            Action::CancelFetch { fetch } => {
                assert!(self.fetches.remove(&fetch).is_some(), "cancels {fetch:?}, which is not under way");
            }
            Action::Disconnect { source, .. } => self.live(source).leaving = true,
            Action::Complete => {
                assert!(self.have.is_full() && !std::mem::replace(&mut self.complete, true));
            }
            Action::Dial { .. } | Action::Charge { .. } | Action::HttpCorrupt { .. } | Action::NeedPeers => {}
        }
    }

    fn say(&mut self, source: SourceId, message: Message) {
        let (have, paused, layout) = (self.have.clone(), self.paused, self.layout);
        let link = self.live(source);
        match message {
            Message::Have(pieces) => assert!(pieces.iter().all(|piece| have.contains(*piece))),
            Message::Fetching { active: true, pieces } => {
                assert!(!pieces.is_empty() && pieces.iter().all(|piece| !have.contains(*piece)));
            }
            Message::Request { piece, offset, len } => {
                assert!(!paused && !link.choked && !have.contains(piece), "asks for {piece}");
                assert!(link.has.contains(&piece.0), "asks for {piece}, which that peer lacks");
                let wanted = BlockSet::covered(offset, len, layout.piece_len(piece));
                assert!(layout.fits(piece, offset, len) && !wanted.is_empty());
                let mut same = link.asked.iter().filter(|((asked, ..), _)| *asked == piece.0);
                assert!(
                    same.all(|(_, left)| left.minus(wanted) == *left),
                    "asks twice for a part of {piece}"
                );
                link.asked.insert((piece.0, offset, len), wanted);
                assert!(link.asked.len() <= MAX_REQUESTS, "{} requests", link.asked.len());
            }
            Message::Cancel { piece, offset, len } => {
                link.asked.remove(&(piece.0, offset, len));
            }
            _ => {}
        }
    }
}

fn message(what: u8, piece: u32, offset: u32, len: u32) -> Message {
    let piece = PieceIndex(piece);
    match what {
        0 => Message::Have(vec![piece, PieceIndex(piece.0.wrapping_add(1))]),
        1 => Message::Fetching { active: true, pieces: (0..PIECES).map(PieceIndex).collect() },
        2 => Message::Fetching { active: true, pieces: vec![piece] },
        3 => Message::Fetching { active: false, pieces: vec![piece] },
        4 => Message::Request { piece, offset, len },
        5 => Message::Cancel { piece, offset, len },
        6 => Message::Choke,
        7 | 8 => Message::Unchoke,
        9 => Message::Reject { code: RejectCode::NotHere, piece, offset, len },
        10 => Message::Reject { code: RejectCode::TooMany, piece, offset, len },
        _ => Message::GetMap { offset, len },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn keeps_its_invariants_whatever_happens(steps in prop::collection::vec(step(), 1..220)) {
        let mut books = Books::new();
        books.drain();
        for step in steps {
            if let Some(event) = books.event(step) {
                books.engine.handle(event, books.now);
            }
            books.drain();
        }
    }
}
