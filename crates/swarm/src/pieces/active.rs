//! A piece on its way: which of its blocks are stored, and who has been asked for the others.
//!
//! Invariant: a source that owes nothing is not among those that were asked, and what anybody owes is the union of what each
//! does.

use peerage_content::BlockSet;

use crate::SourceId;

/// A piece on its way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Active {
    /// Blocks in the store, not verified.
    got: BlockSet,
    /// Blocks asked for and not arrived, by source …
    asked: Vec<(SourceId, BlockSet)>,
    /// … and of anybody.
    asked_of_any: BlockSet,
    /// Sources whose blocks are in it.
    contributors: Vec<SourceId>,
    /// Blocks of unknown origin are in it: they were in the store when the transfer began.
    inherited: bool,
}

impl Active {
    /// One of which `got` was in the store when the transfer began.
    pub(crate) fn inherited(got: BlockSet) -> Self {
        Self { got, inherited: true, ..Self::default() }
    }

    /// Blocks in the store.
    pub(crate) const fn got(&self) -> BlockSet {
        self.got
    }

    /// Blocks that somebody has been asked for.
    pub(crate) const fn asked(&self) -> BlockSet {
        self.asked_of_any
    }

    /// Of `all` blocks, those neither stored nor asked for.
    pub(crate) const fn open(&self, all: BlockSet) -> BlockSet {
        all.minus(self.got).minus(self.asked_of_any)
    }

    /// Blocks that `source` has been asked for.
    pub(crate) fn asked_of(&self, source: SourceId) -> BlockSet {
        self.asked.iter().find(|(of, _)| *of == source).map_or(BlockSet::default(), |(_, blocks)| *blocks)
    }

    /// Who has been asked for any of `blocks`.
    pub(crate) fn askers(&self, blocks: BlockSet) -> impl Iterator<Item = SourceId> + '_ {
        self.asked.iter().filter(move |(_, asked)| asked.0 & blocks.0 != 0).map(|(source, _)| *source)
    }

    /// Blocks that more than one source has been asked for.
    pub(crate) fn asked_twice(&self) -> BlockSet {
        let both = |(once, twice): (BlockSet, BlockSet), (_, asked): &(SourceId, BlockSet)| {
            (once.union(*asked), BlockSet(twice.0 | (once.0 & asked.0)))
        };
        self.asked.iter().fold(Default::default(), both).1
    }

    /// Whether anybody but `source` has been asked for a part of it.
    pub(crate) fn is_asked_of_others(&self, source: SourceId) -> bool {
        self.asked.iter().any(|(other, _)| *other != source)
    }

    /// The only source that this piece's blocks came from, if there is just one.
    pub(crate) fn sole_contributor(&self) -> Option<SourceId> {
        match *self.contributors {
            [source] if !self.inherited => Some(source),
            _ => None,
        }
    }

    /// The sources that its blocks came from, in the order in which they began.
    pub(crate) fn contributors(&self) -> impl Iterator<Item = SourceId> {
        self.contributors.iter().copied()
    }

    /// Whether nothing of it is stored or asked for.
    pub(crate) fn is_idle(&self) -> bool {
        self.got.is_empty() && self.asked.is_empty()
    }

    /// Whether `source` has to do with it already.
    pub(crate) fn is_of(&self, source: SourceId) -> bool {
        self.contributors.contains(&source) || self.asked.iter().any(|(of, _)| *of == source)
    }

    /// `source` is asked for `blocks`.
    pub(crate) fn ask(&mut self, source: SourceId, blocks: BlockSet) {
        self.asked_of_any = self.asked_of_any.union(blocks);
        match self.asked.iter_mut().find(|(of, _)| *of == source) {
            Some((_, asked)) => *asked = asked.union(blocks),
            None => self.asked.push((source, blocks)),
        }
    }

    /// `source` does not owe `blocks` any more.
    pub(crate) fn unask(&mut self, source: SourceId, blocks: BlockSet) {
        for (of, asked) in &mut self.asked {
            if *of == source {
                *asked = asked.minus(blocks);
            }
        }
        self.asked.retain(|(_, asked)| !asked.is_empty());
        let any = |all: BlockSet, (_, asked): &(SourceId, BlockSet)| all.union(*asked);
        self.asked_of_any = self.asked.iter().fold(BlockSet::default(), any);
    }

    /// `blocks` came from `source` and are stored.
    pub(crate) fn stored(&mut self, source: SourceId, blocks: BlockSet) {
        self.got = self.got.union(blocks);
        if !self.contributors.contains(&source) {
            self.contributors.push(source);
        }
        self.unask(source, blocks);
    }
}
