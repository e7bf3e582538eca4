//! Enrolments: which devices belong to the fleet, and which tokens let more in.

use peerage_content::PeerId;
use peerage_policy::fleet::Tag;

use super::Stored;

/// A token, known by the hash of its secret only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenTerms {
    /// BLAKE3 of the secret.
    pub(crate) hash: [u8; 32],
    /// Unix seconds of its making.
    pub(crate) created: u64,
    /// Unix seconds after which it is void; `None`: never.
    pub(crate) expires: Option<u64>,
    /// Devices it may still let in; `None`: any number.
    pub(crate) uses: Option<u32>,
    /// Tags of the devices that it lets in.
    pub(crate) tags: Vec<Tag>,
}

/// A device that asks to be let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applicant<'a> {
    pub(crate) peer: PeerId,
    pub(crate) name: &'a str,
    /// BLAKE3 of the secret that it shows.
    pub(crate) token: [u8; 32],
}

/// A device of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enrolled {
    pub(crate) peer: PeerId,
    pub(crate) name: String,
    /// Unix seconds.
    pub(crate) enrolled: u64,
    /// Names this enrolment; never used again.
    pub(crate) epoch: u64,
    /// The tags of the token that it came in with.
    pub(crate) tags: Vec<Tag>,
}

/// Why a device was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No such token, or expired, or used up.
    Token,
    /// The device was revoked after the token was made.
    Revoked,
}

/// Keeps devices and tokens.
pub(crate) trait Enrolments: Send + Sync {
    /// Adds a token.
    fn add_token(&self, token: TokenTerms) -> Stored<'_, ()>;

    /// Makes this the one standing token (the one in the file); a standing token of another hash is void from now on.
    fn set_standing(&self, hash: [u8; 32], now: u64) -> Stored<'_, ()>;

    /// Lets a device in and counts the use. A device that asks again with the token it came in with (its answer may
    /// have been lost) keeps its enrolment and costs no use. A revoked device needs a token made after that.
    fn enrol<'a>(&'a self, applicant: Applicant<'a>, now: u64) -> Stored<'a, Result<Enrolled, Denied>>;

    /// All devices that are not revoked, oldest first.
    fn devices(&self) -> Stored<'_, Vec<Enrolled>>;

    /// Revokes a device; whether there was one.
    fn revoke(&self, peer: PeerId, now: u64) -> Stored<'_, bool>;
}

#[cfg(test)]
pub(crate) mod conformance {
    use super::*;

    fn terms(n: u8, uses: Option<u32>, expires: Option<u64>, created: u64) -> TokenTerms {
        let tags = if n == 5 { vec!["lab".parse().unwrap(), "paris".parse().unwrap()] } else { Vec::new() };
        TokenTerms { hash: [n; 32], created, expires, uses, tags }
    }

    /// What every [`Enrolments`] must do. `reopen` gives the same one after a restart.
    pub(crate) async fn run<E: Enrolments, F: Future<Output = E>>(reopen: impl Fn() -> F) {
        let store = reopen().await;
        let peer = |n| PeerId::from_bytes([n; 32]);
        let ask = async |store: &E, n: u8, token: u8, now: u64| {
            store.enrol(Applicant { peer: peer(n), name: "box", token: [token; 32] }, now).await.unwrap()
        };
        assert_eq!(ask(&store, 1, 1, 50).await, Err(Denied::Token), "no such token");
        store.set_standing([1; 32], 10).await.unwrap();
        store.add_token(terms(2, Some(1), None, 10)).await.unwrap();
        store.add_token(terms(3, None, Some(99), 10)).await.unwrap();
        store.add_token(terms(8, Some(0), None, 10)).await.unwrap();

        let one = ask(&store, 1, 1, 50).await.unwrap();
        assert_eq!((one.peer, one.enrolled, one.name.as_str()), (peer(1), 50, "box"));
        assert_eq!(ask(&store, 1, 1, 60).await, Ok(one.clone()), "asked again: the same enrolment");
        let two = ask(&store, 2, 2, 51).await.unwrap();
        assert_ne!(two.epoch, one.epoch);
        assert_eq!(ask(&store, 2, 2, 52).await, Ok(two.clone()), "asked again: no second use");
        assert_eq!(ask(&store, 3, 2, 53).await, Err(Denied::Token), "used up");
        assert_eq!(ask(&store, 3, 8, 53).await, Err(Denied::Token), "of no use from the start");
        assert!(ask(&store, 3, 3, 99).await.is_ok());
        assert_eq!(ask(&store, 4, 3, 100).await, Err(Denied::Token), "expired");

        assert!(store.revoke(peer(1), 70).await.unwrap());
        assert!(!store.revoke(peer(1), 71).await.unwrap() && !store.revoke(peer(9), 71).await.unwrap());
        assert_eq!(ask(&store, 1, 1, 72).await, Err(Denied::Revoked));
        store.add_token(terms(4, None, None, 70)).await.unwrap();
        assert_eq!(ask(&store, 1, 4, 73).await, Err(Denied::Revoked), "made in the very second");
        store.add_token(terms(5, None, None, 80)).await.unwrap();
        let back = ask(&store, 1, 5, 81).await.unwrap();
        assert!(back.epoch > one.epoch, "a new enrolment: sessions of the old one stay void");
        assert!(one.tags.is_empty());
        assert_eq!(back.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["lab", "paris"]);
        assert_eq!(ask(&store, 1, 5, 82).await, Ok(back.clone()), "asked again: the same tags");

        drop(store);
        let store = reopen().await;
        let devices = store.devices().await.unwrap();
        assert!(devices.iter().any(|device| device.peer == peer(1) && device.tags == back.tags));
        let peers: Vec<_> = devices.into_iter().map(|d| (d.peer, d.epoch)).collect();
        assert_eq!(peers.len(), 3);
        assert!(peers.contains(&(peer(2), two.epoch)) && peers.contains(&(peer(1), back.epoch)));

        store.set_standing([1; 32], 90).await.unwrap();
        assert!(ask(&store, 5, 1, 91).await.is_ok(), "the same standing token still stands");
        store.set_standing([6; 32], 92).await.unwrap();
        assert_eq!(ask(&store, 6, 1, 93).await, Err(Denied::Token), "the standing token was replaced");
        assert!(ask(&store, 6, 6, 93).await.is_ok());
        assert!(ask(&store, 7, 5, 93).await.is_ok(), "others are not touched");
    }
}
