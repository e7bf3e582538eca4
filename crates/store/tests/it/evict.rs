//! Who goes first: the rules as a table, and the store carrying them out.

use peerage_content::ContentId;
use peerage_store::{
    ContentInfo, EvictReason, Limits, StoreError, Usage, next_expiry, overdue, plan_eviction,
};

use crate::support::{MIB, NOW, Sample, open};

const GIB: u64 = 1 << 30;

/// Content `n`: complete, completed and last used at `at`, 1 GiB.
fn info(n: u8, at: u64) -> ContentInfo {
    ContentInfo {
        id: ContentId::from_bytes([n; 32]),
        size: GIB,
        verified: GIB,
        complete: true,
        doubtful: false,
        sealed: true,
        has_map: true,
        created: at,
        last_used: at,
        last_completed: Some(at),
        expire_on: None,
        pinned: false,
        busy: false,
        allocated: GIB,
        linked: false,
    }
}

#[test]
fn when_to_look_again() {
    let expires = |n, at, on| ContentInfo { expire_on: Some(on), ..info(n, at) };
    let busy = |content: ContentInfo| ContentInfo { busy: true, ..content };
    let all = [info(1, 900), busy(info(2, 950)), expires(3, 900, 1010), info(4, 960)];
    assert_eq!(next_expiry(&all, 100, 1000), Some(1010), "the first is due already");
    assert_eq!(next_expiry(&all, 100, 1010), Some(1050), "what is in use counts");
    assert_eq!(next_expiry(&all, 0, 1010), None, "age 0 keeps");
    assert_eq!(next_expiry(&[], 100, 0), None);
    let name = |n: u8| ContentId::from_bytes([n; 32]);
    let aged = |max_age_s| Limits { max_age_s, ..Limits::default() };
    assert_eq!(overdue(&all, aged(100), 1049), []);
    assert_eq!(overdue(&all, aged(100), 1050), [name(2)]);
    assert_eq!(overdue(&all, aged(0), 9999), []);
}

#[test]
fn what_is_too_much_and_in_use_is_to_be_let_go() {
    let busy = |content: ContentInfo| ContentInfo { busy: true, ..content };
    let pinned = |content: ContentInfo| ContentInfo { pinned: true, ..content };
    let quota = |gib: u64| Limits { max_bytes: Some(gib * GIB), ..Limits::default() };
    let name = |n: u8| ContentId::from_bytes([n; 32]);
    // The first is not in use and would have been evicted; the last is outside the quota.
    let all = [info(1, 900), busy(info(2, 950)), busy(info(3, 940)), busy(pinned(info(4, 930)))];
    for (gib, let_go) in
        [(3, vec![]), (2, vec![name(3)]), (1, vec![name(3), name(2)]), (0, vec![name(3), name(2)])]
    {
        assert_eq!(overdue(&all, quota(gib), 1000), let_go, "{gib}");
    }
    assert_eq!(overdue(&all, Limits { max_age_s: 55, ..quota(2) }, 1000), [name(3)], "what is old counts");
    assert_eq!(overdue(&all, Limits::default(), 1000), []);
}

#[test]
fn rules() {
    use EvictReason::{Aged, Expired, LowDisk, OverQuota};
    let none = Limits::default();
    let age = Limits { max_age_s: 100, ..none };
    let quota = |gib: u64| Limits { max_bytes: Some(gib * GIB), ..none };
    let low = |gib: u64| Limits { low_disk_needs_bytes: gib * GIB, ..none };
    let expires = |n, at, on| ContentInfo { expire_on: Some(on), ..info(n, at) };
    let pinned = |content: ContentInfo| ContentInfo { pinned: true, ..content };
    let busy = |content: ContentInfo| ContentInfo { busy: true, ..content };
    let running = |content: ContentInfo| ContentInfo { last_completed: None, complete: false, ..content };
    let used = |content: ContentInfo, at| ContentInfo { last_used: at, ..content };
    let linked = |content: ContentInfo| ContentInfo { linked: true, ..content };

    type Row = (&'static str, Vec<ContentInfo>, Limits, Vec<(u8, EvictReason)>);
    let table: Vec<Row> = vec![
        ("nothing to do", vec![info(1, 0), info(2, 999)], none, vec![]),
        ("age is inclusive", vec![info(1, 901), info(2, 900)], age, vec![(2, Aged)]),
        ("age 0 keeps", vec![info(1, 0)], none, vec![]),
        ("age counts from completion, not use", vec![used(info(1, 800), 999)], age, vec![(1, Aged)]),
        (
            "unfinished: from last use",
            vec![running(used(info(1, 0), 950)), running(info(2, 10))],
            age,
            vec![(2, Aged)],
        ),
        ("completed in the future", vec![info(1, 5000)], age, vec![]),
        (
            "own expiry overrides age",
            vec![expires(1, 0, 1001), expires(2, 999, 1000)],
            age,
            vec![(2, Expired)],
        ),
        ("expiry of a running download waits", vec![running(expires(1, 990, 500))], none, vec![]),
        ("pinned: not by age", vec![pinned(info(1, 0))], age, vec![]),
        (
            "pinned: by its expiry",
            vec![pinned(expires(1, 0, 1000)), pinned(expires(2, 0, 1001))],
            none,
            vec![(1, Expired)],
        ),
        (
            "quota: longest unused first",
            vec![info(1, 30), info(2, 10), info(3, 20)],
            quota(1),
            vec![(2, OverQuota), (3, OverQuota)],
        ),
        ("quota: exactly full", vec![info(1, 30), info(2, 10)], quota(2), vec![]),
        ("quota: equals by id", vec![info(2, 5), info(1, 5)], quota(1), vec![(1, OverQuota)]),
        (
            "quota: pinned are outside",
            vec![pinned(info(1, 1)), pinned(info(2, 1)), info(3, 1)],
            quota(1),
            vec![],
        ),
        ("quota: unexpired expiry is no pin", vec![expires(1, 0, 2000)], quota(0), vec![(1, OverQuota)]),
        ("quota: busy count but stay", vec![busy(info(1, 1)), info(2, 2)], quota(1), vec![(2, OverQuota)]),
        (
            "quota: after age",
            vec![info(1, 0), info(2, 950)],
            Limits { max_age_s: 100, ..quota(1) },
            vec![(1, Aged)],
        ),
        (
            "busy: never",
            vec![busy(info(1, 0)), busy(pinned(expires(2, 0, 1)))],
            Limits { max_age_s: 1, max_bytes: Some(0), low_disk_needs_bytes: GIB },
            vec![],
        ),
        (
            "low disk: as few as needed",
            vec![info(1, 1), info(2, 2), info(3, 3)],
            low(2),
            vec![(1, LowDisk), (2, LowDisk)],
        ),
        (
            "low disk: what goes anyway counts",
            vec![info(1, 0), info(2, 950)],
            Limits { max_age_s: 100, ..low(1) },
            vec![(1, Aged)],
        ),
        ("low disk: pinned stay", vec![pinned(info(1, 1))], low(1), vec![]),
        ("low disk: links free nothing", vec![linked(info(1, 1)), info(2, 2)], low(1), vec![(2, LowDisk)]),
        ("low disk evicts without limits", vec![info(1, 999)], low(1), vec![(1, LowDisk)]),
    ];
    for (name, contents, limits, expected) in table {
        let plan = plan_eviction(&contents, limits, 1000);
        let found: Vec<_> = plan.iter().map(|(id, reason)| (id.as_bytes()[0], *reason)).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn quota_of_a_volume() {
    let usage = Usage {
        content_bytes: 300,
        pinned_bytes: 50,
        staging_bytes: 50,
        away_bytes: 0,
        volume_total: 9999,
        volume_free: 600,
    };
    assert_eq!(Limits::quota(&usage, 20, None), Some(200));
    assert_eq!(Limits::quota(&usage, 20, Some(7)), Some(7));
    assert_eq!(Limits::quota(&usage, 20, Some(0)), None);
    let huge = Usage { volume_free: u64::MAX, ..usage };
    assert_eq!(Limits::quota(&huge, 255, None), Some(u64::MAX));
}

#[test]
fn the_store_carries_it_out() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let samples: Vec<Sample> = (0..4).map(|n| Sample::new(MIB + n, n as u32)).collect();
    for (sample, at) in samples.iter().zip(NOW..) {
        let content = sample.create(&store);
        sample.finish(&content);
        content.seal(at).unwrap();
    }
    let mut ids: Vec<ContentId> = samples.iter().map(Sample::id).collect();
    let begun = Sample::new(2 * MIB, 9);
    drop(begun.create(&store));
    let sorted = |mut ids: Vec<ContentId>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(store.complete_ids()), sorted(ids.clone()));
    ids.push(begun.id());
    assert_eq!(sorted(store.ids()), sorted(ids.clone()));
    store.remove(begun.id(), false).unwrap();
    store.pin(ids[0]).unwrap();
    assert!(matches!(store.remove(ids[0], false), Err(StoreError::Pinned { .. })));
    let usage = store.usage().unwrap();
    assert!(usage.content_bytes >= 3 * MIB as u64 && usage.pinned_bytes >= MIB as u64);
    assert!(usage.volume_total > usage.volume_free && usage.staging_bytes == 0);
    let reach = store.reach().unwrap();
    assert_eq!((reach.volume_total, reach.pinned_bytes), (usage.volume_total, usage.pinned_bytes));
    // Use moves a content back in the queue, also over a restart once it is an hour apart.
    store.get(ids[1]).unwrap().unwrap().touch(NOW + 7200).unwrap();
    drop(store);
    let store = open(temp.path());
    let limits = Limits { max_bytes: Some(2 * usage.content_bytes / 3), ..Limits::default() };
    let evicted = store.evict(limits, NOW).unwrap();
    assert_eq!(
        evicted.iter().map(|e| (e.id, e.reason)).collect::<Vec<_>>(),
        [(ids[2], EvictReason::OverQuota)]
    );
    assert!(evicted[0].freed >= MIB as u64 && store.get(ids[2]).unwrap().is_none());

    let year = peerage_store::MAX_EXPIRY_S;
    assert!(matches!(store.expire(ids[0], Some(NOW + year + 1), NOW), Err(StoreError::ExpiryTooFar { .. })));
    store.expire(ids[0], Some(NOW + year), NOW).unwrap();
    store.expire(ids[0], Some(NOW + 10), NOW).unwrap();
    assert!(store.evict(Limits::default(), NOW + 9).unwrap().is_empty());
    let busy = store.get(ids[0]).unwrap().unwrap().busy().unwrap();
    assert!(store.evict(Limits::default(), NOW + 10).unwrap().is_empty());
    drop(busy);
    assert_eq!(store.evict(Limits::default(), NOW + 10).unwrap()[0].reason, EvictReason::Expired);
    store.unpin(ids[1]).unwrap();
    store.expire(ids[1], None, NOW).unwrap();
    assert!(matches!(store.pin(ids[0]), Err(StoreError::Unknown { .. })));
}
