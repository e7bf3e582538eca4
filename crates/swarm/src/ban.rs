//! Bans: what peers did, and who is shut out (product §6.6; DO reference §5.4, 80D06805 to 80D0680D).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerage_content::PeerId;

use crate::{Offence, Time};

/// Wrong pieces after which a peer is banned.
pub const BAD_PIECES: usize = 3;
/// How long a ban holds.
pub const BAN_TIME: Duration = Duration::from_secs(3600);
/// Peers remembered at most; the oldest is forgotten first.
const MAX_PEERS: usize = 4096;
/// Offences remembered of one peer.
const MAX_EVIDENCE: usize = 16;

#[derive(Debug, Clone, Default)]
struct Sheet {
    evidence: VecDeque<(Time, Offence)>,
    bad_pieces: usize,
    banned_at: Option<Time>,
}

/// The list of a device, over all its transfers.
#[derive(Debug, Clone, Default)]
pub struct Bans {
    sheets: BTreeMap<PeerId, Sheet>,
    order: VecDeque<PeerId>,
}

impl Bans {
    /// Holds `offence` against `peer`; returns whether it is banned from now on. One breach of the protocol is enough;
    /// wrong pieces may be an accident of memory or disk until there are [`BAD_PIECES`] of them.
    pub fn charge(&mut self, peer: PeerId, offence: Offence, now: Time) -> bool {
        if !self.sheets.contains_key(&peer) {
            if self.order.len() >= MAX_PEERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.sheets.remove(&oldest);
            }
            self.order.push_back(peer);
        }
        let sheet = self.sheets.entry(peer).or_default();
        if sheet.evidence.len() == MAX_EVIDENCE {
            sheet.evidence.pop_front();
        }
        sheet.evidence.push_back((now, offence));
        let ban = match offence {
            Offence::Protocol(_) => true,
            Offence::BadPiece(_) => {
                sheet.bad_pieces += 1;
                sheet.bad_pieces >= BAD_PIECES
            }
        };
        if ban {
            sheet.banned_at = Some(now);
        }
        ban
    }

    /// Whether `peer` is banned at `now`.
    pub fn is_banned(&self, peer: &PeerId, now: Time) -> bool {
        let banned_at = self.sheets.get(peer).and_then(|sheet| sheet.banned_at);
        banned_at.is_some_and(|at| now.since(at) < BAN_TIME)
    }

    /// What is held against `peer`, oldest first.
    pub fn evidence(&self, peer: &PeerId) -> impl Iterator<Item = (Time, Offence)> + '_ {
        self.sheets.get(peer).into_iter().flat_map(|sheet| sheet.evidence.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::PieceIndex;

    use super::*;

    #[test]
    fn three_bad_pieces_or_one_breach() {
        let (a, b) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
        let mut bans = Bans::default();
        assert!(!bans.charge(a, Offence::BadPiece(PieceIndex(1)), Time::ZERO));
        assert!(!bans.charge(a, Offence::BadPiece(PieceIndex(2)), Time::ZERO));
        assert!(!bans.is_banned(&a, Time::ZERO));
        assert!(bans.charge(a, Offence::BadPiece(PieceIndex(3)), Time::ZERO));
        assert!(bans.is_banned(&a, Time::ZERO) && !bans.is_banned(&b, Time::ZERO));
        assert_eq!(bans.evidence(&a).count(), 3);
        assert!(bans.charge(b, Offence::Protocol("x"), Time::ZERO));
        assert!(!bans.is_banned(&a, Time::ZERO + BAN_TIME));
    }

    #[test]
    fn memory_is_bounded() {
        let mut bans = Bans::default();
        for i in 0..3 * MAX_PEERS as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&i.to_be_bytes());
            for _ in 0..3 {
                bans.charge(PeerId::from_bytes(key), Offence::Protocol("x"), Time::ZERO);
            }
        }
        assert_eq!((bans.sheets.len(), bans.order.len()), (MAX_PEERS, MAX_PEERS));
    }
}
