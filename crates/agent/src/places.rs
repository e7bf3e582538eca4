//! Places for connected peers, those of all contents together: as many as `max_peer_connections` allows.
//!
//! Invariant: what is counted is exactly the connections that some content keeps. A cap that is lowered makes contents
//! give places up one by one, however many of them look at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The count. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<AtomicUsize>);

/// One connection's place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Option<Places>);

impl Places {
    /// A place among `most`; `None`: all are taken.
    pub(crate) fn take(&self, most: usize) -> Option<Place> {
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_| Place(Some(self.clone())))
    }

    /// Whether one is free among `most`.
    pub(crate) fn is_free(&self, most: usize) -> bool {
        self.0.load(Ordering::Acquire) < most
    }

    /// Takes a place back if more than `most` are taken: whoever is told `true` must part from a peer and
    /// [`Place::forget`] its place.
    pub(crate) fn reclaim(&self, most: usize) -> bool {
        let fewer = |taken: usize| (taken > most).then(|| taken - 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok()
    }
}

impl Place {
    /// It is counted no longer: it was taken back.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = &self.0 {
            places.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_are_and_no_fewer_after_a_cap_was_lowered() {
        let places = Places::default();
        let mut held: Vec<Place> = (0..3).filter_map(|_| places.take(3)).collect();
        assert!(held.len() == 3 && places.take(3).is_none() && !places.is_free(3));
        let mut given_up = 0;
        while places.reclaim(1) {
            held.pop().unwrap().forget();
            given_up += 1;
        }
        assert_eq!((given_up, held.len()), (2, 1));
        assert!(!places.is_free(1) && places.is_free(2));
        drop(held);
        assert!(places.is_free(1) && places.take(1).is_some());
    }
}
