//! Fleet policy: who is given what, how soon, and what a rollback leaves behind.

use peerage_api::Code;
use peerage_api::client::DeviceCredentials;
use peerage_api::coordinator::{
    HistoryQuery, NewTokenRequest, PolicyQuery, PolicyResponse, PushPolicyRequest, RollbackRequest,
};
use peerage_content::{PublicKey, Sha256};
use peerage_policy::fleet::FleetPolicy;

use super::*;

fn push(selector: &str, text: &str, percent: u8) -> PushPolicyRequest {
    PushPolicyRequest { selector: selector.into(), text: text.into(), percent, min_serial: None }
}

fn have(policy: &FleetPolicy) -> PolicyQuery {
    PolicyQuery { have: Some(policy.digest()), wait_ms: 30_000, ..PolicyQuery::default() }
}

#[track_caller]
fn new(answer: PolicyResponse, key: PublicKey) -> FleetPolicy {
    match answer {
        PolicyResponse::New { document } => document.check::<FleetPolicy>(&[key]).unwrap().get().clone(),
        PolicyResponse::Current | PolicyResponse::Called { .. } => panic!("nothing new"),
    }
}

fn texts(policy: &FleetPolicy) -> Vec<&str> {
    policy.parts.iter().map(|part| part.text.as_str()).collect()
}

impl World {
    async fn tagged(&self, n: u8, local: &str, tags: &[&str]) -> DeviceClient {
        let tags = tags.iter().map(ToString::to_string).collect();
        let request = NewTokenRequest { tags, ..NewTokenRequest::default() };
        let token = self.admin().new_token(&request).await.unwrap().token.parse().unwrap();
        let client = self.client_from(local);
        client.enroll(&token, &key(n), "box").await.unwrap();
        client.device(DeviceCredentials { key: key(n) })
    }
}

#[tokio::test]
async fn a_push_reaches_those_it_is_for_while_they_wait() {
    let world = World::new().await;
    let (admin, lab) = (world.admin(), world.tagged(1, "127.0.0.5", &["Lab"]).await);
    let other = world.device_from(2, "127.9.0.5").await;
    let nothing = PolicyQuery { wait_ms: 0, ..PolicyQuery::default() };
    assert!(matches!(lab.policy(&nothing).await.unwrap(), PolicyResponse::Current));

    let waits = have(&FleetPolicy::default());
    let (told, pushed) = tokio::join!(lab.policy(&waits), async {
        // The poll is parked or will see this at once: both must answer.
        admin.push_policy(&push("tag:lab", "download_mode = 'group'", 100)).await.unwrap()
    });
    let first = new(told.unwrap(), world.key);
    assert_eq!((first.serial, texts(&first)), (pushed.serial, vec!["download_mode = 'group'"]));
    assert!(matches!(other.policy(&nothing).await.unwrap(), PolicyResponse::Current));

    admin.push_policy(&push("subnet:127.0.0.0/16", "max_cache_age = 7", 100)).await.unwrap();
    admin.push_policy(&push("all", "max_cache_age = 9", 100)).await.unwrap();
    let second = new(lab.policy(&have(&first)).await.unwrap(), world.key);
    assert_eq!(texts(&second), ["max_cache_age = 9", "max_cache_age = 7", "download_mode = 'group'"]);
    assert_eq!(texts(&new(other.policy(&nothing).await.unwrap(), world.key)), ["max_cache_age = 9"]);
    let says = PolicyQuery { at: "10.0.0.1,127.0.3.3".into(), ..PolicyQuery::default() };
    assert_eq!(new(other.policy(&says).await.unwrap(), world.key).parts.len(), 2, "by its own word");

    let id = "6f1c2a34-8d2e-4d0e-9d0b-0f3f6f1c2d11";
    admin.push_policy(&push(&format!("group:{id}"), "min_background_qos = 7", 100)).await.unwrap();
    let grouped = PolicyQuery { group: Some(id.to_uppercase()), ..PolicyQuery::default() };
    assert_eq!(new(other.policy(&grouped).await.unwrap(), world.key).parts.len(), 2);
    let devices = admin.devices().await.unwrap();
    assert!(devices.iter().any(|device| device.tags == ["lab"]), "{devices:?}");
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let admin = world.admin();
    for (bad, named) in [
        (push("all", "max_cache_age = 'soon'", 100), "max_cache_age"),
        (push("all", "download_mod = 1", 100), "perhaps download_mode"),
        (push("site:paris", "", 100), "tag:NAME"),
        (push("all", "", 101), "0 to 100"),
        (push("all", &"#".repeat(40_000), 100), "32768"),
    ] {
        let error = admin.push_policy(&bad).await.unwrap_err();
        assert!(error.code == Code::BadRequest && error.message.contains(named), "{error:?}");
    }
    let back = RollbackRequest { selector: "all".into(), to: None };
    assert_eq!(admin.roll_back_policy(&back).await.unwrap_err().code, Code::NotFound);
    assert!(admin.policies(&HistoryQuery { all: true, ..HistoryQuery::default() }).await.unwrap().is_empty());
    let device = world.device(1).await;
    for query in [
        PolicyQuery { at: "here".into(), ..PolicyQuery::default() },
        PolicyQuery { group: Some("corp".into()), ..PolicyQuery::default() },
    ] {
        assert_eq!(device.policy(&query).await.unwrap_err().code, Code::BadRequest);
    }
}

#[tokio::test]
async fn a_rollback_publishes_the_older_text_under_a_higher_serial_and_a_restart_keeps_all() {
    let mut world = World::new().await;
    let admin = world.admin();
    let one = admin.push_policy(&push("all", "max_cache_age = 1", 100)).await.unwrap();
    let two = admin.push_policy(&push("all", "max_cache_age = 2", 30)).await.unwrap();
    let three = admin.push_policy(&push("all", "max_cache_age = 2", 100)).await.unwrap();
    let back = RollbackRequest { selector: "all".into(), to: None };
    let four = admin.roll_back_policy(&back).await.unwrap();
    assert_eq!((four.text.as_str(), four.note.as_str()), ("max_cache_age = 1", "rolled back to 1"));
    assert!(one.serial < two.serial && two.serial < three.serial && three.serial < four.serial);
    let again = admin.roll_back_policy(&back).await.unwrap();
    assert_eq!(again.text, "max_cache_age = 2", "a rollback can be rolled back");
    let named = RollbackRequest { selector: "all".into(), to: Some(one.serial) };
    let last = admin.roll_back_policy(&named).await.unwrap();
    world = world.restart().await;
    let history = HistoryQuery { selector: Some("all".into()), all: true };
    let history = world.admin().policies(&history).await.unwrap();
    let serials: Vec<u64> = history.iter().map(|one| one.serial).collect();
    assert_eq!(serials, [6, 5, 4, 3, 2, 1]);
    assert_eq!(history.iter().filter(|one| one.live).count(), 1);
    let held = new(world.device(1).await.policy(&PolicyQuery::default()).await.unwrap(), world.key);
    assert_eq!((held.serial, texts(&held)), (last.serial, vec!["max_cache_age = 1"]));
    let skip = PushPolicyRequest { min_serial: Some(100), ..push("all", "", 100) };
    assert_eq!(world.admin().push_policy(&skip).await.unwrap().serial, 100);
}

#[tokio::test]
async fn a_stage_reaches_some_and_a_wider_one_them_too() {
    let world = World::new().await;
    let admin = world.admin();
    admin.push_policy(&push("all", "max_cache_age = 1", 100)).await.unwrap();
    let mut devices = Vec::new();
    for n in 0..24 {
        devices.push(world.device(n).await);
    }
    let mut before = 0;
    for percent in [0, 40, 100] {
        admin.push_policy(&push("all", "max_cache_age = 2", percent)).await.unwrap();
        let mut have_new = Vec::new();
        for device in &devices {
            let policy = new(device.policy(&PolicyQuery::default()).await.unwrap(), world.key);
            have_new.push(texts(&policy) == ["max_cache_age = 2"]);
        }
        let now = have_new.iter().filter(|new| **new).count();
        assert!(now >= before, "{percent} %: {now} after {before}");
        assert!(
            match percent {
                0 => now == 0,
                40 => (1..24).contains(&now),
                _ => now == 24,
            },
            "{percent} %: {now}"
        );
        before = now;
    }
    let again = admin.push_policy(&push("all", "max_cache_age = 2", 10)).await.unwrap_err();
    assert!(again.code == Code::Conflict && again.message.contains("has reached all"), "{again:?}");
}

#[tokio::test]
async fn parked_polls_answer_when_the_coordinator_ends() {
    let world = World::new().await;
    let device = world.device(1).await;
    let unknown = PolicyQuery { have: Some(Sha256::from_bytes([1; 32])), ..PolicyQuery::default() };
    let policy = new(device.policy(&unknown).await.unwrap(), world.key);
    assert_eq!(policy, FleetPolicy::default(), "whoever has something else is told that nothing is set");
    let query = have(&policy);
    let (answer, ()) = tokio::join!(device.policy(&query), async { world.running.shutdown() });
    // Too late to be asked is as well; what must not be is that it waits for its 30 s.
    assert!(matches!(answer, Ok(PolicyResponse::Current) | Err(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_wakes_every_device_that_waits() {
    const DEVICES: u8 = 60;
    const WAITS: usize = 10;
    let world = World::new().await;
    let query = have(&FleetPolicy::default());
    let mut waits = Vec::new();
    for n in 0..DEVICES {
        let device = world.device(n).await;
        // One connection carries several questions, so this is as many as six hundred devices.
        for _ in 0..WAITS {
            let (device, query, key) = (device.clone(), query.clone(), world.key);
            waits.push(tokio::spawn(async move { new(device.policy(&query).await.unwrap(), key).serial }));
        }
    }
    let pushed = world.admin().push_policy(&push("all", "max_cache_age = 1", 100)).await.unwrap();
    for wait in waits {
        assert_eq!(wait.await.unwrap(), pushed.serial);
    }
}
