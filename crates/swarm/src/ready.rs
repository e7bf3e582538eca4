//! Peers of whom something may be asked now: few, in the order of their names, each once.

use crate::SourceId;

#[derive(Debug, Clone, Default)]
pub(crate) struct Ready(Vec<SourceId>);

impl Ready {
    pub(crate) fn insert(&mut self, source: SourceId) {
        if let Err(place) = self.0.binary_search(&source) {
            self.0.insert(place, source);
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes all of them.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = SourceId> + '_ {
        self.0.drain(..)
    }

    /// Takes the last.
    pub(crate) fn pop(&mut self) -> Option<SourceId> {
        self.0.pop()
    }
}
