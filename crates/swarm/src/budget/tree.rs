//! A tree of caps. A passage at a leaf is charged to the leaf and to everything above it.
//!
//! Invariants: over any span, what passed a node is at most its rate times the span, plus [`BURST`]'s worth and one
//! passage; leaves that wait beside each other pass in about equal shares, however often each of them asks; and a cap is
//! used up as long as any leaf wants to.

use std::time::Duration;

use crate::Time;

/// A node saves up at most this much time's worth of bytes: 1 % of the 5 s over which caps are to hold within 2 %.
const BURST: Duration = Duration::from_millis(50);
/// A leaf that has not asked for this long has lost interest.
const PATIENCE: Duration = Duration::from_millis(500);
/// A leaf that does not take its share can be behind the others by this much time's worth of bytes.
const LAG: Duration = Duration::from_millis(250);
/// Longest wait before a leaf should ask again: a cap that was lifted is noticed within that time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Shortest wait, so that nobody asks in circles.
const MIN_WAIT: Duration = Duration::from_micros(500);

/// A node of one [`Budget`]. Of another budget it means nothing, or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(usize);

#[derive(Debug, Clone)]
struct Cap {
    parent: Option<usize>,
    /// Bytes a second; `None`: no cap.
    rate: Option<u64>,
    /// Bytes that may pass now; negative: a debt to be waited off.
    credit: f64,
    filled: Time,
    /// Bytes charged to it since others wait beside it, from the level of the one that had least.
    share: f64,
    /// When something last asked here, and whether it was told to wait.
    asked: Option<Time>,
    waiting: bool,
    alive: bool,
}

/// Caps on rates, each on all that is below it.
#[derive(Debug, Clone)]
pub struct Budget {
    caps: Vec<Cap>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Budget {
    /// A tree of one node without a cap.
    pub fn new() -> Self {
        Self { caps: vec![Cap::below(None)] }
    }

    /// The node above all others.
    pub const fn root(&self) -> Node {
        Node(0)
    }

    /// Adds a node without a cap.
    pub fn add(&mut self, parent: Node) -> Node {
        let cap = Cap::below(Some(parent.0));
        match self.caps.iter().position(|cap| !cap.alive) {
            Some(free) => {
                self.caps[free] = cap;
                Node(free)
            }
            None => {
                self.caps.push(cap);
                Node(self.caps.len() - 1)
            }
        }
    }

    /// Removes a leaf.
    pub fn remove(&mut self, leaf: Node) {
        if leaf.0 != 0
            && let Some(cap) = self.caps.get_mut(leaf.0)
        {
            cap.alive = false;
            cap.waiting = false;
        }
    }

    /// Puts a leaf below another node.
    pub fn place(&mut self, leaf: Node, parent: Node) {
        if leaf.0 != 0
            && let Some(cap) = self.caps.get_mut(leaf.0)
        {
            cap.parent = Some(parent.0);
        }
    }

    /// Sets a node's cap in bytes a second; `None`: none. 0 stops everything below it.
    pub fn set(&mut self, node: Node, rate: Option<u64>, now: Time) {
        if let Some(cap) = self.caps.get_mut(node.0)
            && cap.rate != rate
        {
            *cap = Cap { rate, credit: 0.0, filled: now, ..cap.clone() };
        }
    }

    /// A node's cap.
    pub fn rate(&self, node: Node) -> Option<u64> {
        self.caps.get(node.0).and_then(|cap| cap.rate)
    }

    /// The lowest cap that holds for a node: its own, or one above it, in bytes a second.
    pub fn tightest(&self, node: Node) -> Option<u64> {
        let (mut least, mut next) = (None::<u64>, Some(node.0));
        while let Some(cap) = next.and_then(|at| self.caps.get(at)) {
            least = cap.rate.map_or(least, |rate| Some(least.map_or(rate, |least| least.min(rate))));
            next = cap.parent;
        }
        least
    }

    /// Lets `bytes` pass at `leaf` and charges them, or says how long to wait before asking again. A passage may run
    /// into debt, so that no passage is too large for a rate.
    ///
    /// # Errors
    /// The wait; never zero.
    pub fn pass(&mut self, leaf: Node, bytes: u64, now: Time) -> Result<(), Duration> {
        let mut wait = None::<Duration>;
        // The tightest cap on the way, and whether it has saved up so much that somebody does not keep up.
        let (mut tightest, mut plenty) = (u64::MAX, true);
        let mut next = Some(leaf.0);
        while let Some(at) = next {
            let Some(cap) = self.caps.get_mut(at) else { return Ok(()) };
            next = cap.parent;
            if let Some(needed) = cap.wait(now) {
                wait = Some(wait.map_or(needed, |wait| wait.max(needed)));
            }
            if let Some(rate) = cap.rate {
                tightest = tightest.min(rate);
                plenty &= cap.credit >= rate as f64 * BURST.as_secs_f64() / 2.0;
            }
        }
        if wait.is_none() && !plenty && self.is_ahead(leaf, now) {
            wait = Some(MIN_WAIT);
        }
        if let Some(wait) = wait {
            let cap = &mut self.caps[leaf.0];
            (cap.asked, cap.waiting) = (Some(now), true);
            return Err(wait.clamp(MIN_WAIT, LOOK_AGAIN));
        }
        self.charge(leaf, bytes, tightest, now);
        Ok(())
    }

    fn charge(&mut self, leaf: Node, bytes: u64, tightest: u64, now: Time) {
        let level = self.level(leaf, tightest, now);
        let mut next = Some(leaf.0);
        while let Some(at) = next {
            let cap = &mut self.caps[at];
            next = cap.parent;
            if cap.rate.is_some() {
                cap.credit -= bytes as f64;
            }
        }
        let cap = &mut self.caps[leaf.0];
        (cap.asked, cap.waiting) = (Some(now), false);
        cap.share = level.map_or(0.0, |level| cap.share.max(level) + bytes as f64);
    }

    /// The least that a leaf counts as having had: whoever comes back after a pause, or cannot take its share, starts
    /// about level with the others. `None`: nobody else waits.
    fn level(&self, leaf: Node, tightest: u64, now: Time) -> Option<f64> {
        let shares = self.rivals(leaf, now).map(|rival| rival.share);
        let (least, most) = shares.fold(None, |range: Option<(f64, f64)>, share| {
            let (least, most) = range.unwrap_or((share, share));
            Some((least.min(share), most.max(share)))
        })?;
        let bound = most - tightest as f64 * LAG.as_secs_f64();
        Some(if self.caps[leaf.0].is_active(now) { bound } else { bound.max(least) })
    }

    /// Whether a leaf that waits beside this one has had less.
    fn is_ahead(&self, leaf: Node, now: Time) -> bool {
        let own = self.caps[leaf.0].share;
        self.rivals(leaf, now).any(|rival| rival.share < own)
    }

    /// The leaves that wait for the same parent's cap, or one above it.
    fn rivals(&self, leaf: Node, now: Time) -> impl Iterator<Item = &Cap> {
        let parent = self.caps.get(leaf.0).and_then(|cap| cap.parent);
        self.caps.iter().enumerate().filter_map(move |(at, cap)| {
            let rival = cap.alive && at != leaf.0 && cap.parent == parent && cap.waiting;
            (rival && cap.is_active(now)).then_some(cap)
        })
    }
}

impl Cap {
    fn below(parent: Option<usize>) -> Self {
        Self {
            parent,
            rate: None,
            credit: 0.0,
            filled: Time::ZERO,
            share: 0.0,
            asked: None,
            waiting: false,
            alive: true,
        }
    }

    fn is_active(&self, now: Time) -> bool {
        self.asked.is_some_and(|asked| now.since(asked) < PATIENCE)
    }

    /// How long until something may pass here; `None`: now.
    fn wait(&mut self, now: Time) -> Option<Duration> {
        let rate = self.rate? as f64;
        let earned = now.since(self.filled).as_secs_f64() * rate;
        self.credit = (self.credit + earned).min(rate * BURST.as_secs_f64());
        self.filled = self.filled.max(now);
        if rate == 0.0 {
            return Some(LOOK_AGAIN);
        }
        (self.credit < 0.0).then(|| Duration::from_secs_f64((-self.credit / rate).min(60.0)) + MIN_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KB: u64 = 1000;

    fn at(micros: u64) -> Time {
        Time::from_micros(1_000_000 + micros)
    }

    /// Runs leaves that always want to pass `size` bytes, for `seconds`; what each passed, and when.
    fn run(budget: &mut Budget, leaves: &[(Node, u64)], seconds: u64) -> Vec<Vec<(u64, u64)>> {
        let mut passed = vec![Vec::new(); leaves.len()];
        let mut asks = vec![0u64; leaves.len()];
        loop {
            let (who, &now) = asks.iter().enumerate().min_by_key(|(_, at)| **at).unwrap();
            if now >= seconds * 1_000_000 {
                return passed;
            }
            let (leaf, size) = leaves[who];
            match budget.pass(leaf, size, at(now)) {
                // A sender of 1 GB/s.
                Ok(()) => {
                    passed[who].push((now, size));
                    asks[who] = now + 1 + size / 1000;
                }
                Err(wait) => asks[who] = now + wait.as_micros() as u64,
            }
        }
    }

    fn sum(passed: &[(u64, u64)]) -> u64 {
        passed.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The most bytes in any 5 s.
    fn worst(mut passed: Vec<(u64, u64)>) -> u64 {
        passed.sort_unstable();
        let (mut first, mut inside, mut worst) = (0, 0, 0);
        for at in 0..passed.len() {
            inside += passed[at].1;
            while passed[at].0 - passed[first].0 > 5_000_000 {
                inside -= passed[first].1;
                first += 1;
            }
            worst = worst.max(inside);
        }
        worst
    }

    #[test]
    fn no_cap_no_wait() {
        let mut budget = Budget::new();
        let leaf = budget.add(budget.root());
        assert_eq!(budget.pass(leaf, u64::MAX, at(0)), Ok(()));
        assert_eq!(budget.pass(leaf, u64::MAX, at(0)), Ok(()));
    }

    #[test]
    fn zero_stops_and_a_lifted_cap_lets_go_at_once() {
        let mut budget = Budget::new();
        let leaf = budget.add(budget.root());
        budget.set(budget.root(), Some(0), at(0));
        assert_eq!(budget.pass(leaf, 1, at(9_000_000)), Err(LOOK_AGAIN));
        budget.set(budget.root(), None, at(9_000_000));
        assert_eq!(budget.pass(leaf, 1, at(9_000_000)), Ok(()));
    }

    #[test]
    fn a_cap_holds_for_all_below_it_together_and_shares_are_equal() {
        let mut budget = Budget::new();
        let class = budget.add(budget.root());
        budget.set(class, Some(1000 * KB), at(0));
        // One asks with large passages, one with small ones, the third is two connections of one download.
        let one = [budget.add(class), budget.add(class), budget.add(class)];
        let leaves = [(one[0], 16_384), (one[1], 1_000), (one[2], 4_096), (one[2], 4_096)];
        let passed = run(&mut budget, &leaves, 30);
        let each: Vec<u64> = passed.iter().map(|passed| sum(passed)).collect();
        let shares = [each[0], each[1], each[2] + each[3]];
        for share in shares {
            assert!((9_500 * KB..10_500 * KB).contains(&share), "{shares:?}");
        }
    }

    #[test]
    fn an_idle_leaf_leaves_its_share_to_others_and_saves_nothing_up() {
        let mut budget = Budget::new();
        budget.set(budget.root(), Some(1000 * KB), at(0));
        let (a, b) = (budget.add(budget.root()), budget.add(budget.root()));
        let alone = run(&mut budget, &[(a, 8_192)], 20);
        assert!(sum(&alone[0]) >= 19_600 * KB, "{}", sum(&alone[0]));
        let mut later = budget.clone();
        // From now on both want: b does not get the past 20 s first.
        let mut passed = [0u64; 2];
        let mut now = [20_000_000u64; 2];
        while now.iter().min() < Some(&22_000_000) {
            let who = usize::from(now[1] < now[0]);
            match later.pass([a, b][who], 8_192, at(now[who])) {
                Ok(()) => {
                    passed[who] += 8_192;
                    now[who] += 8;
                }
                Err(wait) => now[who] += wait.as_micros() as u64,
            }
        }
        let ratio = passed[0] as f64 / passed[1] as f64;
        assert!((0.9..1.1).contains(&ratio), "{passed:?}");
    }

    #[test]
    fn the_lowest_cap_on_the_way_holds() {
        let mut budget = Budget::new();
        let (class, scope) = {
            let class = budget.add(budget.root());
            (class, budget.add(class))
        };
        let (wan, lan) = (budget.add(scope), budget.add(class));
        budget.set(scope, Some(100 * KB), at(0));
        budget.set(class, Some(1000 * KB), at(0));
        assert_eq!((budget.tightest(wan), budget.tightest(lan)), (Some(100 * KB), Some(1000 * KB)));
        assert_eq!(budget.tightest(budget.root()), None);
        let passed = run(&mut budget, &[(wan, 5_000), (lan, 5_000)], 20);
        let (wan, lan) = (sum(&passed[0]), sum(&passed[1]));
        assert!((1_900 * KB..2_100 * KB).contains(&wan), "{wan}");
        assert!((17_400 * KB..18_300 * KB).contains(&lan), "{lan}");
    }

    #[test]
    fn removed_leaves_are_reused_and_do_not_count() {
        let mut budget = Budget::new();
        budget.set(budget.root(), Some(KB), at(0));
        let gone = budget.add(budget.root());
        let _ = budget.pass(gone, 5 * KB, at(0));
        assert!(budget.pass(gone, 1, at(1)).is_err());
        budget.remove(gone);
        let new = budget.add(budget.root());
        assert_eq!(new, gone);
        assert!(budget.pass(new, 1, at(60_000_000)).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn within_two_percent_over_any_five_seconds(
            rate in 50_000u64..20_000_000,
            sizes in proptest::collection::vec(500u64..17_000, 1..6),
        ) {
            let mut budget = Budget::new();
            let class = budget.add(budget.root());
            budget.set(class, Some(rate), at(0));
            let leaves: Vec<_> = sizes.iter().map(|size| (budget.add(class), *size)).collect();
            let passed = run(&mut budget, &leaves, 11);
            let all: Vec<_> = passed.into_iter().flatten().collect();
            let (total, most) = (sum(&all), worst(all));
            let passage = 17_000.0;
            prop_assert!(most as f64 <= rate as f64 * 5.0 * 1.02 + passage, "{most} in 5 s at {rate}");
            prop_assert!(total as f64 >= rate as f64 * 11.0 * 0.98 - passage, "{total} in 11 s at {rate}");
        }
    }
}
