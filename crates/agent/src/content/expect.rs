//! What data a connection may bring: only what was asked for.
//!
//! Shared between the actor, which asks, and the reader, which must refuse unrequested bytes before they reach the store.

use std::collections::VecDeque;

use peerage_content::PieceIndex;
use peerage_wire::DataHead;

/// Requests taken back whose data may still be on its way.
const MAX_CANCELLED: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Entry {
    piece: PieceIndex,
    /// Next byte to arrive.
    at: u32,
    end: u32,
    cancelled: bool,
}

/// What to do with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Store it; `last`: nothing more is outstanding after it.
    Take {
        /// Whether nothing is outstanding after it.
        last: bool,
    },
    /// It was asked for and then taken back: read it and forget it.
    Skip,
    /// Nobody asked for it.
    Refuse,
}

/// The requests outstanding on one connection.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    entries: VecDeque<Entry>,
}

impl Expected {
    pub(crate) fn ask(&mut self, piece: PieceIndex, offset: u32, len: u32) {
        self.entries.push_back(Entry {
            piece,
            at: offset,
            end: offset.saturating_add(len),
            cancelled: false,
        });
    }

    pub(crate) fn cancel(&mut self, piece: PieceIndex, offset: u32, len: u32) {
        let end = offset.saturating_add(len);
        for entry in &mut self.entries {
            if entry.piece == piece && entry.end == end && entry.at >= offset {
                entry.cancelled = true;
            }
        }
        self.forget_oldest();
    }

    /// The peer choked us: what was asked and not sent should not come (wire §4). What comes nevertheless crossed the
    /// word on its way through the peer, and is no reason to part.
    pub(crate) fn choked(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.cancelled = true);
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        while self.entries.iter().filter(|entry| entry.cancelled).count() > MAX_CANCELLED {
            let oldest = self.entries.iter().position(|entry| entry.cancelled);
            oldest.map(|at| self.entries.remove(at));
        }
    }

    /// A request was refused.
    pub(crate) fn rejected(&mut self, piece: PieceIndex, offset: u32, len: u32) {
        self.cancel(piece, offset, len);
    }

    /// Judges data by its head. Answers ascend within a request (wire §4). What was taken back and then asked for again is
    /// the answer to the second request, since the first need not be answered.
    pub(crate) fn judge(&mut self, head: &DataHead) -> Verdict {
        let end = head.offset.saturating_add(head.len);
        let fits = |entry: &Entry| entry.piece == head.piece && entry.at == head.offset && end <= entry.end;
        let taken = self.entries.iter().position(|entry| fits(entry) && !entry.cancelled);
        let Some(at) = taken.or_else(|| self.entries.iter().position(fits)) else { return Verdict::Refuse };
        let entry = &mut self.entries[at];
        let cancelled = entry.cancelled;
        entry.at = end;
        if entry.at == entry.end {
            self.entries.remove(at);
        }
        if cancelled && !self.catch_up(head.piece, head.offset, end) {
            Verdict::Skip
        } else {
            Verdict::Take { last: self.entries.iter().all(|e| e.cancelled) }
        }
    }

    /// The first answer to a range that was taken back and asked for again may have counted for the second request, and
    /// then have been cut short as was asked. The second answer begins before what is still expected of it, and brings it.
    fn catch_up(&mut self, piece: PieceIndex, from: u32, end: u32) -> bool {
        let reached =
            |e: &Entry| !e.cancelled && e.piece == piece && from < e.at && e.at < end && end <= e.end;
        let Some(at) = self.entries.iter().position(reached) else { return false };
        let entry = &mut self.entries[at];
        entry.at = end;
        if entry.at == entry.end {
            self.entries.remove(at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(piece: u32, offset: u32, len: u32) -> DataHead {
        DataHead { piece: PieceIndex(piece), offset, len }
    }

    #[test]
    fn only_what_was_asked_in_order_once() {
        let mut expected = Expected::default();
        expected.ask(PieceIndex(1), 0, 100);
        expected.ask(PieceIndex(1), 100, 100);
        assert_eq!(expected.judge(&head(1, 50, 50)), Verdict::Refuse);
        assert_eq!(expected.judge(&head(2, 0, 100)), Verdict::Refuse);
        assert_eq!(expected.judge(&head(1, 0, 101)), Verdict::Refuse);
        assert_eq!(expected.judge(&head(1, 0, 60)), Verdict::Take { last: false });
        assert_eq!(expected.judge(&head(1, 60, 40)), Verdict::Take { last: false });
        assert_eq!(expected.judge(&head(1, 60, 40)), Verdict::Refuse);
        expected.cancel(PieceIndex(1), 100, 100);
        assert_eq!(expected.judge(&head(1, 100, 100)), Verdict::Skip);
        expected.ask(PieceIndex(0), 0, 5);
        assert_eq!(expected.judge(&head(0, 0, 5)), Verdict::Take { last: true });
    }

    #[test]
    fn what_a_choke_crossed_is_skipped_and_what_is_asked_again_is_taken() {
        let mut expected = Expected::default();
        expected.ask(PieceIndex(0), 0, 5);
        expected.ask(PieceIndex(0), 5, 5);
        expected.choked();
        assert_eq!(expected.judge(&head(0, 0, 5)), Verdict::Skip);
        expected.ask(PieceIndex(0), 5, 5);
        assert_eq!(expected.judge(&head(0, 5, 5)), Verdict::Take { last: true });
        assert_eq!(expected.judge(&head(0, 5, 5)), Verdict::Skip);
        assert_eq!(expected.judge(&head(0, 5, 5)), Verdict::Refuse);
    }

    #[test]
    fn a_second_answer_is_taken_though_the_first_one_began_it() {
        let mut expected = Expected::default();
        expected.ask(PieceIndex(0), 0, 100);
        expected.cancel(PieceIndex(0), 0, 100);
        expected.ask(PieceIndex(0), 0, 100);
        // What had left before the peer heard of it, then the answer to the second request, in one go.
        assert_eq!(expected.judge(&head(0, 0, 60)), Verdict::Take { last: false });
        assert_eq!(expected.judge(&head(0, 0, 100)), Verdict::Take { last: true });
        assert_eq!(expected.judge(&head(0, 0, 100)), Verdict::Refuse);
    }

    #[test]
    fn memory_is_bounded() {
        let mut expected = Expected::default();
        for i in 0..10_000 {
            expected.ask(PieceIndex(i), 0, 10);
            expected.cancel(PieceIndex(i), 0, 10);
        }
        assert_eq!(expected.entries.len(), MAX_CANCELLED);
    }
}
