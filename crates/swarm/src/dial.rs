//! Whom to connect to: known candidates, their state, and back-off.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage_content::PeerId;

use crate::{Candidate, Rng, SourceKind, Time};

const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// Dials under way at once.
const MAX_DIALS: usize = 16;
/// Candidates remembered.
const MAX_KNOWN: usize = 1000;
/// Failures of somebody whom the coordinator has named after which nothing is hoped of it.
const NAMED_PATIENCE: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Dialling,
    Connected,
    Banned,
}

#[derive(Debug, Clone)]
struct Known {
    /// A near peer that is said to hold everything.
    holder: bool,
    /// Policy lets it be connected to.
    admitted: bool,
    /// Failures after which nothing is hoped of it: somebody who is said to have the content may be busy, a neighbour that
    /// nobody has said it of does not have it.
    patience: u32,
    state: State,
    rank: u32,
    failures: u32,
    not_before: Time,
}

/// The candidates of one transfer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dialer {
    known: BTreeMap<PeerId, Known>,
}

impl Dialer {
    /// Takes in the answer of a discovery, best first.
    pub(crate) fn learn(&mut self, candidates: Vec<Candidate>) {
        for (rank, candidate) in candidates.into_iter().enumerate() {
            if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&candidate.peer) {
                continue;
            }
            let fresh = Known {
                holder: false,
                admitted: true,
                patience: 1,
                state: State::Idle,
                rank: 0,
                failures: 0,
                not_before: Time::ZERO,
            };
            let known = self.known.entry(candidate.peer).or_insert(fresh);
            known.holder = candidate.seed && candidate.kind.is_near();
            (known.rank, known.admitted) = (rank as u32, true);
            if candidate.kind != SourceKind::LinkLocal {
                known.patience = NAMED_PATIENCE;
            }
            if candidate.moved {
                (known.failures, known.not_before) = (0, Time::ZERO);
            }
        }
    }

    /// How many peers discovery has returned (`NumPeers`).
    pub(crate) fn known(&self) -> usize {
        self.known.len()
    }

    /// Whether somebody may still turn out to be useful: connected, being dialled, or worth another try soon.
    pub(crate) fn has_hope(&self) -> bool {
        self.known
            .values()
            .any(|known| known.admitted && known.state != State::Banned && known.failures < known.patience)
    }

    /// Policy says anew whether a candidate may be connected to.
    pub(crate) fn admit(&mut self, peer: PeerId, admitted: bool) {
        if let Some(known) = self.known.get_mut(&peer) {
            known.admitted = admitted;
        }
    }

    /// Whether a near holder of everything has been named that has not been tried in vain.
    pub(crate) fn awaits_holder(&self) -> bool {
        self.known.values().any(|known| {
            known.admitted
                && known.holder
                && known.failures == 0
                && matches!(known.state, State::Idle | State::Dialling)
        })
    }

    /// The next peer to dial, if `connected` leaves room below `max`.
    pub(crate) fn next(&mut self, connected: usize, max: usize, now: Time) -> Option<PeerId> {
        let dialling = self.known.values().filter(|known| known.state == State::Dialling).count();
        if dialling >= MAX_DIALS || connected + dialling >= max {
            return None;
        }
        let (peer, known) = self
            .known
            .iter_mut()
            .filter(|(_, known)| known.admitted && known.state == State::Idle && known.not_before <= now)
            .min_by_key(|(_, known)| (known.failures, known.rank))?;
        known.state = State::Dialling;
        Some(*peer)
    }

    pub(crate) fn connected(&mut self, peer: PeerId) {
        if let Some(known) = self.known.get_mut(&peer) {
            (known.state, known.failures) = (State::Connected, 0);
        }
    }

    /// A dial failed or a connection ended: wait longer each time, with jitter so that a site does not dial in step.
    pub(crate) fn gone(&mut self, peer: PeerId, rng: &mut Rng, now: Time) {
        let Some(known) = self.known.get_mut(&peer).filter(|known| known.state != State::Banned) else {
            return;
        };
        let wait = (FIRST_BACK_OFF * 2u32.pow(known.failures.min(6))).min(MAX_BACK_OFF);
        known.failures += 1;
        known.state = State::Idle;
        known.not_before = now + wait.mul_f64(0.75 + f64::from(rng.below(500)) / 1000.0);
    }

    /// Past failures count no longer.
    pub(crate) fn forgive(&mut self) {
        for known in self.known.values_mut() {
            (known.failures, known.not_before) = (0, Time::ZERO);
        }
    }

    pub(crate) fn banned(&mut self, peer: PeerId) {
        if let Some(known) = self.known.get_mut(&peer) {
            known.state = State::Banned;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceKind;

    #[test]
    fn ranked_limited_and_patient() {
        let peer = |i: u8| PeerId::from_bytes([i; 32]);
        let mut dialer = Dialer::default();
        let candidate = |i| Candidate { peer: peer(i), kind: SourceKind::Lan, seed: false, moved: false };
        dialer.learn(vec![candidate(3), candidate(1), candidate(2)]);
        let now = Time::from_micros(1);
        assert_eq!(dialer.next(0, 2, now), Some(peer(3)));
        assert_eq!(dialer.next(0, 2, now), Some(peer(1)));
        assert_eq!(dialer.next(0, 2, now), None);
        let mut rng = Rng::new(1);
        dialer.gone(peer(3), &mut rng, now);
        assert_eq!(dialer.next(0, 2, now), Some(peer(2)));
        dialer.connected(peer(1));
        dialer.gone(peer(2), &mut rng, now);
        assert_eq!(dialer.next(1, 9, now), None);
        assert!(dialer.next(1, 9, now + Duration::from_secs(2)).is_some());
        dialer.banned(peer(3));
        dialer.banned(peer(2));
        dialer.gone(peer(2), &mut rng, now);
        assert_eq!(dialer.next(0, 9, now + Duration::from_secs(100)), None);
        dialer.gone(peer(1), &mut rng, now);
        assert_eq!(dialer.next(0, 9, now), None);
        dialer.forgive();
        assert_eq!(dialer.next(0, 9, now), Some(peer(1)));
    }

    #[test]
    fn a_holder_is_awaited_until_it_fails() {
        let near =
            Candidate { peer: PeerId::from_bytes([1; 32]), kind: SourceKind::Lan, seed: true, moved: false };
        let far = Candidate {
            peer: PeerId::from_bytes([2; 32]),
            kind: SourceKind::Group,
            seed: true,
            moved: false,
        };
        let mut dialer = Dialer::default();
        dialer.learn(vec![far]);
        assert!(!dialer.awaits_holder());
        dialer.learn(vec![near.clone()]);
        assert!(dialer.awaits_holder());
        dialer.gone(near.peer, &mut Rng::new(1), Time::ZERO);
        assert!(!dialer.awaits_holder());
        // It has come back, with another port.
        dialer.learn(vec![Candidate { moved: true, ..near }]);
        assert!(dialer.awaits_holder() && dialer.next(0, 9, Time::ZERO).is_some());
    }
}
