//! The connected peers, by source.
//!
//! A device has fifty of them, looks one up with every event, and all of them ten times a second. So they lie side by side
//! in memory, in the order of their names, and the names lie apart. Invariant: both lists are as long, and the names ascend.

use crate::SourceId;
use crate::peer::Peer;

#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    sources: Vec<SourceId>,
    peers: Vec<Peer>,
}

impl Peers {
    fn place(&self, source: SourceId) -> Option<usize> {
        self.sources.binary_search(&source).ok()
    }

    pub(crate) fn get(&self, source: &SourceId) -> Option<&Peer> {
        self.peers.get(self.place(*source)?)
    }

    pub(crate) fn get_mut(&mut self, source: &SourceId) -> Option<&mut Peer> {
        let place = self.place(*source)?;
        self.peers.get_mut(place)
    }

    /// Adds a peer, in place of a former one of that name.
    pub(crate) fn insert(&mut self, source: SourceId, peer: Peer) {
        self.remove(&source);
        let place = self.sources.partition_point(|other| *other < source);
        self.sources.insert(place, source);
        self.peers.insert(place, peer);
    }

    pub(crate) fn remove(&mut self, source: &SourceId) -> Option<Peer> {
        let place = self.place(*source)?;
        self.sources.remove(place);
        Some(self.peers.remove(place))
    }

    pub(crate) const fn len(&self) -> usize {
        self.sources.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &SourceId> {
        self.sources.iter()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SourceId, &Peer)> {
        self.sources.iter().zip(&self.peers)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&SourceId, &mut Peer)> {
        self.sources.iter().zip(&mut self.peers)
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::{Bitmap, PeerId};

    use super::*;
    use crate::{SourceKind, Time};

    #[test]
    fn in_the_order_of_their_names() {
        let mut peers = Peers::default();
        for name in [3, 1, 7, 3] {
            let id = PeerId::from_bytes([name as u8; 32]);
            peers.insert(SourceId(name), Peer::new(id, SourceKind::Lan, Bitmap::new(1), true, Time::ZERO));
        }
        let names = |peers: &Peers| {
            assert!(peers.iter().all(|(source, peer)| peer.id.as_bytes()[0] == source.0 as u8));
            peers.keys().map(|source| source.0).collect::<Vec<_>>()
        };
        assert_eq!((names(&peers), peers.len()), (vec![1, 3, 7], 3));
        assert!(peers.remove(&SourceId(3)).is_some() && peers.remove(&SourceId(3)).is_none());
        assert!(peers.get(&SourceId(3)).is_none() && peers.get_mut(&SourceId(7)).is_some());
        assert_eq!(names(&peers), [1, 7]);
    }
}
