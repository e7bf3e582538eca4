//! Fleet policies: every revision that was ever published, and which of them may still hold on some device.

use peerage_policy::fleet::{Revision, Selector};

use super::Stored;

/// A policy to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewPolicy {
    pub(crate) selector: Selector,
    pub(crate) percent: u8,
    pub(crate) text: String,
    /// How it came about; empty for a push.
    pub(crate) note: String,
    /// The serial is at least this.
    pub(crate) min_serial: u64,
}

/// A policy that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) revision: Revision,
    /// Unix seconds.
    pub(crate) created: u64,
    pub(crate) note: String,
}

/// Keeps revisions; none is ever changed or dropped.
pub(crate) trait Policies: Send + Sync {
    /// Publishes a policy under a serial higher than all before, durably once this returns.
    fn publish(&self, new: NewPolicy, now: u64) -> Stored<'_, Published>;

    /// The revisions that may hold on some device: of each selector from the newest back to the newest that all devices
    /// got. Newest first.
    fn live(&self) -> Stored<'_, Vec<Published>>;

    /// The newest revisions, of one selector or of all, newest first.
    fn history<'a>(&'a self, selector: Option<&'a Selector>, limit: u32) -> Stored<'a, Vec<Published>>;
}

#[cfg(test)]
pub(crate) mod conformance {
    use super::*;

    /// What every [`Policies`] must do. `reopen` gives the same one after a restart.
    pub(crate) async fn run<P: Policies, F: Future<Output = P>>(reopen: impl Fn() -> F) {
        let store = reopen().await;
        let (all, lab) = (Selector::All, "tag:lab".parse::<Selector>().unwrap());
        let push = async |store: &P, selector: &Selector, percent: u8, text: &str, min_serial: u64| {
            let (selector, text, note) = (selector.clone(), text.to_owned(), "n".to_owned());
            let new = NewPolicy { selector, percent, text, note, min_serial };
            store.publish(new, 50).await.unwrap().revision.serial
        };
        let serials = |found: Vec<Published>| {
            found.into_iter().map(|published| published.revision.serial).collect::<Vec<_>>()
        };
        assert!(store.live().await.unwrap().is_empty() && store.history(None, 9).await.unwrap().is_empty());
        let one = push(&store, &all, 100, "a", 0).await;
        let two = push(&store, &lab, 10, "b", 0).await;
        let three = push(&store, &all, 100, "c", 0).await;
        let four = push(&store, &all, 20, "d", 0).await;
        let five = push(&store, &lab, 30, "b", 0).await;
        assert!(one < two && two < three && three < four && four < five);
        assert_eq!(serials(store.live().await.unwrap()), [five, four, three, two]);
        assert_eq!(serials(store.history(None, 9).await.unwrap()), [five, four, three, two, one]);
        assert_eq!(serials(store.history(Some(&all), 2).await.unwrap()), [four, three]);
        drop(store);
        let store = reopen().await;
        let six = push(&store, &all, 100, "", 0).await;
        assert!(six > five, "also after a restart");
        assert_eq!(serials(store.live().await.unwrap()), [six, five, two]);
        assert_eq!(push(&store, &lab, 100, "e", 70).await, 70);
        assert_eq!(push(&store, &lab, 100, "e", 3).await, 71, "never back");
        let kept = store.history(Some(&lab), 1).await.unwrap().remove(0);
        let revision = Revision { serial: 71, selector: lab, percent: 100, text: "e".into() };
        assert_eq!(kept, Published { revision, created: 50, note: "n".into() });
    }
}
