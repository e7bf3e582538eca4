//! What one device calls the other ends of its connections.
//!
//! Names are given once and never again, so a list by name stays as long as the device has had connections.

use peerage_swarm::SourceId;

use crate::conn::Socket;

/// The first name; those below are HTTP sources.
const FIRST: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Its own ends of the connections that are open.
    ends: Vec<Option<Socket>>,
    open: usize,
}

impl Sources {
    /// A name for a new connection of which this device has the end `socket`.
    pub(crate) fn insert(&mut self, socket: Socket) -> SourceId {
        self.ends.push(Some(socket));
        self.open += 1;
        SourceId(FIRST + self.ends.len() as u32 - 1)
    }

    pub(crate) fn get(&self, source: SourceId) -> Option<Socket> {
        let place = source.0.checked_sub(FIRST)?;
        self.ends.get(place as usize).copied().flatten()
    }

    pub(crate) fn remove(&mut self, source: SourceId) {
        let place = source.0.checked_sub(FIRST).map_or(usize::MAX, |place| place as usize);
        if self.ends.get_mut(place).and_then(Option::take).is_some() {
            self.open -= 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ends.fill(None);
        self.open = 0;
    }

    /// Connections that are open.
    pub(crate) const fn len(&self) -> usize {
        self.open
    }

    /// Their ends, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Socket> + '_ {
        self.ends.iter().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_given_twice() {
        let mut sources = Sources::default();
        let [a, b] = Socket::both(7);
        let first = sources.insert(a);
        sources.remove(first);
        sources.remove(first);
        let second = sources.insert(b);
        assert!(first != second && first.0 >= FIRST && sources.get(first).is_none());
        assert_eq!((sources.get(second), sources.len()), (Some(b), 1));
        assert_eq!(sources.get(SourceId(0)), None);
        sources.clear();
        assert_eq!((sources.iter().count(), sources.len()), (0, 0));
    }
}
