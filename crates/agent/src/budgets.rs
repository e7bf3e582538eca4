//! The device's budgets: every byte that comes or goes passes a [`Gate`] first.
//!
//! One tree of caps for the whole device: direction > class > scope > download. The percentage caps hold for what comes
//! over the downlink; peers of the LAN are exempt from them (product §5). Bytes to Internet peers count towards the
//! month's cap ([`Months`]); the count survives a crash but for its last minute.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_policy::{Class, Limits};
use peerage_swarm::budget::{Budget, Courtesy, Downlink, Node};
use peerage_swarm::{RateMeter, SourceKind, Time};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::months::Months;
use crate::state_dir::{StateDir, StateError};

const FILE: &str = "traffic.json";
/// How often caps follow policy, the foreground's traffic and the downlink.
const EVERY: Duration = Duration::from_millis(250);
/// How often the counts are written down.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Time's worth of bytes that pass a cap in one go …
const PORTION: Duration = Duration::from_millis(20);
/// … but at least so many.
const LEAST_PORTION: usize = 4 << 10;

/// What is remembered over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Remembered {
    /// Bytes sent to Internet peers.
    internet_sent: Months,
    /// The downlink's capacity in bytes a second, 0 if unknown.
    downlink: u64,
}

/// All budgets of the device.
#[derive(Debug)]
pub(crate) struct Budgets {
    clock: Arc<Clock>,
    state: StateDir,
    tree: Mutex<Tree>,
    changed: Notify,
}

#[derive(Debug)]
struct Tree {
    budget: Budget,
    foreground: ClassNodes,
    background: ClassNodes,
    upload: Node,
    internet: Node,
    downlink: Downlink,
    courtesy: Courtesy,
    /// The present one.
    month: u64,
    internet_sent: Months,
}

/// The nodes of one class of downloads.
#[derive(Debug)]
struct ClassNodes {
    all: Node,
    /// What comes over the downlink.
    wan: Node,
    meter: RateMeter,
}

impl ClassNodes {
    fn new(budget: &mut Budget, parent: Node) -> Self {
        let all = budget.add(parent);
        Self { all, wan: budget.add(all), meter: RateMeter::default() }
    }

    /// Whether a cap holds back what comes over the downlink.
    fn is_capped(&self, budget: &Budget) -> bool {
        [self.all, self.wan].into_iter().any(|node| budget.rate(node).is_some())
    }
}

impl Budgets {
    /// Takes up the counts where they were.
    pub(crate) fn open(clock: Arc<Clock>, state: StateDir) -> Arc<Self> {
        let text = state.read(FILE).unwrap_or_default();
        let remembered: Remembered = serde_json::from_slice(&text).unwrap_or_default();
        let mut budget = Budget::new();
        let down = budget.add(budget.root());
        let foreground = ClassNodes::new(&mut budget, down);
        let background = ClassNodes::new(&mut budget, down);
        let upload = budget.add(budget.root());
        let internet = budget.add(upload);
        let (month, internet_sent) = (clock.month(), remembered.internet_sent);
        let downlink = Downlink::remembered(remembered.downlink);
        let courtesy = Courtesy::default();
        let tree = Tree {
            budget,
            foreground,
            background,
            upload,
            internet,
            downlink,
            courtesy,
            month,
            internet_sent,
        };
        Arc::new(Self { clock, state, tree: Mutex::new(tree), changed: Notify::new() })
    }

    /// A download's own place in the tree.
    pub(crate) fn lane(self: &Arc<Self>, class: Class) -> Arc<Lane> {
        let mut tree = self.tree.lock();
        let (all, wan) = (tree.class(class).all, tree.class(class).wan);
        let (upload, internet) = (tree.upload, tree.internet);
        let nodes = [wan, all, internet, upload].map(|parent| tree.budget.add(parent));
        Arc::new(Lane { budgets: Arc::clone(self), class: Mutex::new(class), nodes })
    }

    /// Bytes sent to Internet peers in the present month.
    pub(crate) fn internet_sent(&self) -> u64 {
        let month = self.clock.month();
        self.tree.lock().internet_sent.sent(month)
    }

    /// What the downlink has been seen to carry, in bytes/s; `None`: nothing has been seen yet.
    pub(crate) fn downlink(&self) -> Option<u64> {
        self.tree.lock().downlink.rate()
    }

    /// Sets the caps that policy asks for. `foreground`: a foreground download runs.
    pub(crate) fn apply(&self, limits: &Limits, monthly_cap: Option<u64>, foreground: bool) {
        let (now, month) = (self.clock.now(), self.clock.month());
        let tree = &mut *self.tree.lock();
        tree.month = month;
        let link = tree.downlink.rate();
        let part = |percent: Option<u64>| Some(link?.saturating_mul(percent?.min(100)) / 100);
        let (front, back) = (&tree.foreground, &tree.background);
        let front_cap = limits.download(Class::Foreground);
        let front_part = part(limits.downlink_percent(Class::Foreground));
        let running = foreground.then(|| front.meter.rate(now));
        let capped = front_cap.is_some() || front_part.is_some();
        let yielding = tree.courtesy.allowance(running, back.meter.rate(now), capped, now);
        let back_cap = lower(limits.download(Class::Background), yielding);
        let back_part = part(limits.downlink_percent(Class::Background));
        let spent = monthly_cap.is_some_and(|cap| tree.internet_sent.sent(month) >= cap);
        let caps = [
            (front.all, front_cap),
            (front.wan, front_part),
            (back.all, back_cap),
            (back.wan, back_part),
            (tree.upload, limits.upload),
            (tree.internet, spent.then_some(0)),
        ];
        if caps.iter().any(|(node, rate)| tree.budget.rate(*node) != *rate) {
            self.changed.notify_one();
        }
        for (node, rate) in caps {
            tree.budget.set(node, rate, now);
        }
    }

    /// The lowest cap that holds for what a class of downloads fetches over the downlink, in bytes/s.
    pub(crate) fn cap(&self, class: Class) -> Option<u64> {
        let tree = &mut *self.tree.lock();
        let wan = tree.class(class).wan;
        tree.budget.tightest(wan)
    }

    /// Waits until a cap is another one. One waits at a time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Writes the counts down. Blocking.
    pub(crate) fn save(&self) -> Result<(), StateError> {
        let remembered = {
            let tree = self.tree.lock();
            let downlink = tree.downlink.rate().unwrap_or(0);
            Remembered { internet_sent: tree.internet_sent.clone(), downlink }
        };
        let bytes = serde_json::to_vec(&remembered).unwrap_or_default();
        if self.state.read(FILE).as_deref() == Some(&bytes) {
            return Ok(());
        }
        self.state.write(FILE, &bytes)
    }

    fn try_pass(&self, lane: &Lane, path: Path, bytes: u64) -> Result<(), Duration> {
        let now = self.clock.now();
        let carried = with_headers(bytes);
        let tree = &mut *self.tree.lock();
        tree.budget.pass(lane.nodes[path as usize], carried, now)?;
        match path {
            Path::FromLan | Path::FromWan => tree.count(*lane.class.lock(), path, carried, now),
            Path::ToInternet => tree.internet_sent.add(tree.month, bytes),
            Path::ToNear => {}
        }
        Ok(())
    }
}

impl Tree {
    fn class(&mut self, class: Class) -> &mut ClassNodes {
        match class {
            Class::Foreground => &mut self.foreground,
            Class::Background => &mut self.background,
        }
    }

    fn count(&mut self, class: Class, path: Path, bytes: u64, now: Time) {
        self.class(class).meter.add(bytes, now);
        if matches!(path, Path::FromWan) {
            // One capped class hides what the link can carry only if the other does not fill it.
            let capped = self.foreground.is_capped(&self.budget) || self.background.is_capped(&self.budget);
            self.downlink.add(bytes, capped, now);
        }
    }
}

/// What the link carries for so many bytes of a file: caps are promises about the link. Ethernet, IPv4 and TCP with
/// timestamps add 66 bytes to every 1448; IPv6 20 more.
const fn with_headers(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 1448 * 66)
}

const fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one < other { one } else { other }),
        (one, None) => one,
        (None, other) => other,
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// Over the downlink: origin, caches, peers of other sites.
    FromWan,
    FromLan,
    ToInternet,
    /// To peers of the site or the group.
    ToNear,
}

/// One content's place in the budgets: its downloads and uploads share with other contents as equals.
#[derive(Debug)]
pub(crate) struct Lane {
    budgets: Arc<Budgets>,
    class: Mutex<Class>,
    /// In the order of [`Path`].
    nodes: [Node; 4],
}

impl Lane {
    /// The download is of this class from now on.
    pub(crate) fn set_class(&self, class: Class) {
        let tree = &mut *self.budgets.tree.lock();
        let nodes = tree.class(class);
        let (wan, all) = (nodes.wan, nodes.all);
        tree.budget.place(self.nodes[Path::FromWan as usize], wan);
        tree.budget.place(self.nodes[Path::FromLan as usize], all);
        *self.class.lock() = class;
    }

    /// What comes from such a source passes here.
    pub(crate) fn from(self: &Arc<Self>, kind: SourceKind) -> Gate {
        let near = matches!(kind, SourceKind::Lan | SourceKind::LinkLocal);
        Gate { lane: Arc::clone(self), path: if near { Path::FromLan } else { Path::FromWan } }
    }

    /// What goes to such a peer passes here.
    pub(crate) fn to(self: &Arc<Self>, kind: SourceKind) -> Gate {
        let far = matches!(kind, SourceKind::Internet);
        Gate { lane: Arc::clone(self), path: if far { Path::ToInternet } else { Path::ToNear } }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut tree = self.budgets.tree.lock();
        for node in self.nodes {
            tree.budget.remove(node);
        }
    }
}

/// Where bytes of one content pass in one direction.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    lane: Arc<Lane>,
    path: Path,
}

impl Gate {
    /// The class of the download that passes.
    pub(crate) fn class(&self) -> Class {
        *self.lane.class.lock()
    }

    /// The lowest cap that holds here, in bytes/s.
    pub(crate) fn cap(&self) -> Option<u64> {
        self.lane.budgets.tree.lock().budget.tightest(self.lane.nodes[self.path as usize])
    }

    /// How many of `most` bytes are to pass in one go: what passes at once is waited off afterwards, and a cap that comes in
    /// meanwhile is not to stop everything for as long as it would take a megabyte.
    fn portion(&self, most: usize) -> usize {
        let Some(cap) = self.cap() else { return most };
        let bytes = u128::from(cap) * PORTION.as_micros() / 1_000_000;
        most.min(usize::try_from(bytes).unwrap_or(usize::MAX).max(LEAST_PORTION))
    }

    /// Waits until some of `most` bytes may pass, and says how many, in multiples of `unit`: what is to pass in one go by
    /// the caps of that moment, not of the one in which the wait began. Cancel-safe: nothing is counted before it is ready.
    pub(crate) async fn pass_some(&self, most: usize, unit: usize) -> usize {
        loop {
            let bytes = self.portion(most).next_multiple_of(unit).min(most);
            match self.lane.budgets.try_pass(&self.lane, self.path, bytes as u64) {
                Ok(()) => return bytes,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// Keeps the caps in step until the agent ends.
pub(crate) async fn run(shared: Arc<crate::shared::Shared>) {
    let mut every = tokio::time::interval(EVERY);
    let mut save = tokio::time::interval(SAVE_EVERY);
    let mut policy = shared.policy.clone();
    loop {
        let limits = shared.decide_device().limits;
        let cap = shared.policy().settings.monthly_upload_data_cap;
        let cap = (cap > 0).then_some(cap);
        shared.budgets.apply(&limits, cap, shared.downloads.is_anyone_waiting());
        tokio::select! {
            _ = every.tick() => {}
            changed = policy.changed() => if changed.is_err() { return },
            _ = save.tick() => {
                let budgets = Arc::clone(&shared.budgets);
                let saved = tokio::task::spawn_blocking(move || budgets.save()).await;
                if let Ok(Err(error)) = saved {
                    tracing::warn!(error = %crate::file_status::chain(&error), "traffic counts were not saved");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(settings: &peerage_policy::Settings) -> Limits {
        peerage_policy::decide_device(settings, &peerage_policy::Facts::default(), 0).limits
    }

    fn open(dir: &tempfile::TempDir) -> Arc<Budgets> {
        Budgets::open(Arc::new(Clock::new()), StateDir::open(dir.path()).unwrap())
    }

    #[tokio::test]
    async fn the_month_survives_a_restart_and_stops_the_internet_only() {
        let dir = tempfile::tempdir().unwrap();
        let budgets = open(&dir);
        let free = limits(&peerage_policy::Settings::default());
        budgets.apply(&free, Some(1000), false);
        let lane = budgets.lane(Class::Background);
        assert_eq!(lane.to(SourceKind::Internet).pass_some(1000, 1).await, 1000);
        assert_eq!(lane.to(SourceKind::Lan).pass_some(5000, 1).await, 5000);
        assert_eq!(budgets.internet_sent(), 1000);
        budgets.save().unwrap();
        drop((lane, budgets));
        let budgets = open(&dir);
        budgets.apply(&free, Some(1000), false);
        let lane = budgets.lane(Class::Background);
        assert!(budgets.try_pass(&lane, Path::ToInternet, 1).is_err());
        assert!(budgets.try_pass(&lane, Path::ToNear, 1).is_ok());
        budgets.apply(&free, Some(2000), false);
        assert!(budgets.try_pass(&lane, Path::ToInternet, 1).is_ok());
    }

    #[tokio::test]
    async fn a_clock_that_jumps_over_the_months_and_back_gives_no_second_allowance() {
        let dir = tempfile::tempdir().unwrap();
        let now = Clock::new().unix();
        let free = limits(&peerage_policy::Settings::default());
        let budgets = open(&dir);
        budgets.apply(&free, Some(1000), false);
        let lane = budgets.lane(Class::Background);
        assert_eq!(lane.to(SourceKind::Internet).pass_some(1000, 1).await, 1000);
        budgets.save().unwrap();
        drop((lane, budgets));
        // Without a clock of its own a device begins in 1970, until somebody tells it the time.
        let budgets = open(&dir);
        for (clock, sent) in [(0, 0), (now, 1000), (now + 40 * 86_400, 0), (now, 1000)] {
            budgets.clock.set_by_coordinator(clock);
            budgets.apply(&free, Some(1000), false);
            let lane = budgets.lane(Class::Background);
            assert_eq!(budgets.internet_sent(), sent, "{clock}");
            assert_eq!(budgets.try_pass(&lane, Path::ToInternet, 1).is_ok(), sent == 0, "{clock}");
            budgets.save().unwrap();
        }
    }

    #[tokio::test]
    async fn portions_follow_the_cap() {
        let dir = tempfile::tempdir().unwrap();
        let budgets = open(&dir);
        let lane = budgets.lane(Class::Background);
        let (down, up) = (lane.from(SourceKind::Lan), lane.to(SourceKind::Lan));
        assert_eq!(down.portion(1 << 20), 1 << 20);
        let mut settings = peerage_policy::Settings::default();
        settings.max_background_download_bandwidth = 1_000_000;
        budgets.apply(&limits(&settings), None, false);
        assert_eq!((down.portion(1 << 20), down.portion(100), up.portion(1 << 20)), (20_000, 100, 1 << 20));
        settings.max_background_download_bandwidth = 1000;
        budgets.apply(&limits(&settings), None, false);
        assert_eq!(down.portion(1 << 20), LEAST_PORTION);
    }

    #[tokio::test]
    async fn a_cap_that_comes_in_during_a_wait_holds_for_what_waited() {
        let dir = tempfile::tempdir().unwrap();
        let budgets = open(&dir);
        let down = budgets.lane(Class::Background).from(SourceKind::Lan);
        let mut settings = peerage_policy::Settings::default();
        settings.max_background_download_bandwidth = 20_000_000;
        budgets.apply(&limits(&settings), None, false);
        assert!(down.pass_some(100_000_000, 100_000_000).await == 100_000_000, "five seconds' worth");
        let mut waits = std::pin::pin!(down.pass_some(1 << 20, 1));
        assert!(futures_util::poll!(&mut waits).is_pending());
        settings.max_background_download_bandwidth = 100_000;
        budgets.apply(&limits(&settings), None, false);
        assert_eq!(waits.await, LEAST_PORTION);
    }

    #[tokio::test]
    async fn percentages_spare_the_lan_and_a_change_of_class_changes_the_cap() {
        let dir = tempfile::tempdir().unwrap();
        StateDir::open(dir.path()).unwrap().write(FILE, b"{\"downlink\": 1000000}").unwrap();
        let budgets = open(&dir);
        assert_eq!(budgets.tree.lock().downlink.rate(), Some(1_000_000));
        let mut settings = peerage_policy::Settings::default();
        settings.percentage_max_background_bandwidth = 1;
        budgets.apply(&limits(&settings), None, false);
        let lane = budgets.lane(Class::Background);
        assert_eq!(lane.from(SourceKind::Cdn).pass_some(1_000_000, 1).await, LEAST_PORTION);
        assert!(budgets.try_pass(&lane, Path::FromWan, 1).is_err());
        assert!(budgets.try_pass(&lane, Path::FromLan, 1).is_ok());
        lane.set_class(Class::Foreground);
        assert!(budgets.try_pass(&lane, Path::FromWan, 1).is_ok());
    }
}
