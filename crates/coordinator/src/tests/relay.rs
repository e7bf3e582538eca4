//! The relay: who is brought together, who is not let in, and what is carried.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use peerage_api::client::DeviceClient;
use peerage_api::coordinator::{
    AnnounceEvent, AnnounceItem, AnnounceRequest, NoRelay, PolicyQuery, PolicyResponse, RelayCall,
    RelayCounts, RelayRequest, RelayResponse,
};
use peerage_content::{ContentId, RELAY_JOINED, RelayToken, Scope, ScopeSet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::announce::{announce, item, published};
use super::*;

/// Nothing here takes that long, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Devices 1 and 2 are of one site, 3 and 4 of another; all are in one swarm, the odd ones as seeds.
struct Scene {
    world: World,
    devices: Vec<DeviceClient>,
    content: ContentId,
}

impl Scene {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let site = |n: u8| (format!("site {n}"), vec![format!("127.0.{n}.0/24").parse().unwrap()]);
        let world = World::with(|config| {
            config.relay = true;
            config.sites = BTreeMap::from([site(1), site(2)]);
            change(config);
        })
        .await;
        let content = published(&world, ScopeSet::ALL).await;
        let mut devices = Vec::new();
        for n in 1..=4 {
            let ip = format!("127.0.{}.{n}", 1 + n / 3);
            let device = world.device_from(n, &ip).await;
            item(&device, &announce(content, u64::from(n % 2 == 0), &format!("{ip}:7680"))).await;
            devices.push(device);
        }
        Self { world, devices, content }
    }

    fn device(&self, n: u8) -> &DeviceClient {
        &self.devices[usize::from(n) - 1]
    }

    /// What comes of the device's question for its policy, which says that it may be called.
    async fn question(&self, n: u8, wait_ms: u64) -> PolicyResponse {
        let query = PolicyQuery { wait_ms, relay: true, ..PolicyQuery::default() };
        self.device(n).policy(&query).await.unwrap()
    }

    /// The device can be called from now on.
    async fn listens(&self, n: u8) {
        assert!(matches!(self.question(n, 0).await, PolicyResponse::Current));
    }

    async fn ask(&self, asker: u8, other: u8) -> RelayResponse {
        let request = RelayRequest { peer: key(other).public(), content: self.content };
        self.device(asker).relay(&request).await.unwrap()
    }

    async fn refused(&self, asker: u8, other: u8) -> NoRelay {
        match self.ask(asker, other).await {
            RelayResponse::Refused { why } => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    async fn asks(&self, asker: u8, other: u8) -> RelayToken {
        match self.ask(asker, other).await {
            RelayResponse::Calling { token } => token,
            other => panic!("refused: {other:?}"),
        }
    }

    async fn is_called(&self, n: u8) -> RelayCall {
        match self.question(n, 30_000).await {
            PolicyResponse::Called { calls } if calls.len() == 1 => calls[0],
            other => panic!("not called once: {other:?}"),
        }
    }

    async fn knock(&self, bytes: &[u8]) -> TcpStream {
        let address: SocketAddr = self.world.running.address();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Both ends of a connection through the relay: the asker's, the other's.
    async fn meet(&self, asker: u8, other: u8) -> (TcpStream, TcpStream) {
        self.listens(other).await;
        let token = self.asks(asker, other).await;
        let call = self.is_called(other).await;
        assert_eq!((call.peer, call.content), (key(asker).public(), self.content));
        let (one, two) = (self.knock(&token.greeting()).await, self.knock(&call.token.greeting()).await);
        (joined(one).await, joined(two).await)
    }

    async fn counts(&self) -> RelayCounts {
        self.world.counts().await.relay.unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn(RelayCounts) -> bool) {
        let seen = async {
            while !holds(self.counts().await) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

async fn joined(mut stream: TcpStream) -> TcpStream {
    let mut answer = [0];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(answer, [RELAY_JOINED]);
    stream
}

/// Whoever is not let in is told nothing.
async fn closed(mut stream: TcpStream) {
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
    // Where not all that was said has been read the end is a reset.
    assert!(answer.is_empty(), "{answer:?} {end:?}");
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    let mut heard = vec![0; bytes.len()];
    tokio::time::timeout(PATIENCE, to.read_exact(&mut heard)).await.expect("it arrives").unwrap();
    assert_eq!(heard, bytes);
}

#[tokio::test]
async fn two_of_different_sites_meet_are_carried_and_counted() {
    let scene = Scene::new(|_| {}).await;
    assert_eq!(scene.counts().await, RelayCounts::default());
    let (mut one, mut two) = scene.meet(2, 3).await;
    passes(&mut one, &mut two, b"from the one who asked").await;
    passes(&mut two, &mut one, b"and back").await;
    // The end that is told of it may be ahead of the count.
    scene.until("all bytes are counted", |counts| counts.bytes == 30).await;
    assert_eq!(
        scene.counts().await,
        RelayCounts { callable: 1, open: 1, connections: 1, bytes: 30, turned_away: 0 }
    );
    drop(one);
    assert_eq!(two.read(&mut [0]).await.unwrap(), 0, "the end is passed on");
    drop(two);
    scene.until("it is over", |counts| counts.open == 0).await;
    // A call that comes while the question is out.
    let (call, token) = tokio::join!(scene.is_called(3), async {
        loop {
            if let RelayResponse::Calling { token } = scene.ask(2, 3).await {
                break token;
            }
        }
    });
    let (one, two) = (scene.knock(&call.token.greeting()).await, scene.knock(&token.greeting()).await);
    drop((joined(one).await, joined(two).await));
}

#[tokio::test]
async fn nobody_is_let_in_without_a_token_of_his_own() {
    let scene = Scene::new(|_| {}).await;
    closed(scene.knock(b"GET /v1/health HTTP/1.1\r\nhost: coordinator\r\n\r\n").await).await;
    closed(scene.knock(&RelayToken::from_bytes([7; 32]).greeting()).await).await;
    let (mut one, mut two) = scene.meet(2, 3).await;
    scene.listens(1).await;
    let token = scene.asks(4, 1).await;
    let mut other_version = token.greeting();
    other_version[7] ^= 1;
    closed(scene.knock(&other_version).await).await;
    // Shown twice: the second time it is worth nothing, and the first goes on waiting.
    let first = scene.knock(&token.greeting()).await;
    let call = scene.is_called(1).await;
    let second = joined(scene.knock(&call.token.greeting()).await).await;
    let first = joined(first).await;
    closed(scene.knock(&token.greeting()).await).await;
    closed(scene.knock(&call.token.greeting()).await).await;
    assert_eq!(scene.counts().await.open, 2);
    passes(&mut one, &mut two, b"others go on").await;
    drop((first, second));
}

#[tokio::test]
async fn only_those_are_called_whom_the_coordinator_would_name() {
    let scene = Scene::new(|_| {}).await;
    assert_eq!(scene.refused(2, 3).await, NoRelay::NotCalled, "it has not said that it may be");
    for n in 1..=4 {
        scene.listens(n).await;
    }
    assert_eq!(scene.refused(2, 1).await, NoRelay::NotNamed, "of one site");
    assert_eq!(scene.refused(2, 2).await, NoRelay::NotNamed, "itself");
    assert_eq!(scene.refused(1, 3).await, NoRelay::NotNamed, "neither has what the other lacks");
    assert_eq!(scene.refused(2, 9).await, NoRelay::NotNamed, "nobody");
    let elsewhere = RelayRequest { peer: key(3).public(), content: ContentId::from_bytes([9; 32]) };
    let answer = scene.device(2).relay(&elsewhere).await.unwrap();
    assert_eq!(answer, RelayResponse::Refused { why: NoRelay::NotNamed }, "in no swarm of that");
    // One that shares with its site alone, and one that has left.
    let near = AnnounceRequest {
        scopes: ScopeSet::up_to(Scope::Lan),
        ..announce(scene.content, 1, "127.0.2.3:7680")
    };
    item(scene.device(3), &near).await;
    assert_eq!(scene.refused(2, 3).await, NoRelay::NotNamed);
    let stopped = AnnounceItem { content: scene.content, event: AnnounceEvent::Stopped, left: 0, want: 0 };
    let gone = AnnounceRequest { items: vec![stopped], ..near };
    scene.device(3).announce(&gone).await.unwrap();
    assert_eq!(scene.refused(2, 3).await, NoRelay::NotNamed);
    // It was willing, and is no longer.
    scene.asks(1, 4).await;
    let unwilling = PolicyQuery::default();
    scene.device(4).policy(&unwilling).await.unwrap();
    assert_eq!(scene.refused(1, 4).await, NoRelay::NotCalled);
}

#[tokio::test]
async fn no_more_are_carried_than_may_be() {
    let scene = Scene::new(|config| config.relay_connections = 1).await;
    let (one, two) = scene.meet(2, 3).await;
    scene.listens(1).await;
    assert_eq!(scene.refused(4, 1).await, NoRelay::Full);
    assert_eq!(scene.refused(3, 2).await, NoRelay::NotCalled);
    scene.listens(2).await;
    assert_eq!(scene.refused(3, 2).await, NoRelay::Connected, "it has been called by that one");
    assert_eq!(scene.counts().await.turned_away, 1);
    drop((one, two));
    scene.until("the place is free", |counts| counts.open == 0).await;
    scene.asks(4, 1).await;
}

#[tokio::test]
async fn a_device_asks_only_so_often() {
    let scene = Scene::new(|_| {}).await;
    let request = RelayRequest { peer: key(3).public(), content: scene.content };
    let mut answers = Vec::new();
    for _ in 0..110 {
        answers.push(scene.device(2).relay(&request).await.map_err(|error| error.code));
    }
    assert!(answers[..100].iter().all(Result::is_ok));
    assert!(answers.contains(&Err(peerage_api::Code::TooMany)));
    assert_eq!(scene.refused(4, 1).await, NoRelay::NotCalled, "others may still ask");
}

#[tokio::test]
async fn who_is_revoked_is_cut_off() {
    let scene = Scene::new(|_| {}).await;
    let (mut one, mut two) = scene.meet(2, 3).await;
    passes(&mut one, &mut two, b"so far").await;
    scene.world.admin().revoke(key(3).public()).await.unwrap();
    for end in [&mut one, &mut two] {
        let read = tokio::time::timeout(PATIENCE, end.read(&mut [0])).await.expect("an end");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert_eq!(scene.refused(2, 3).await, NoRelay::NotNamed);
    scene.until("it is over", |counts| counts.open == 0).await;
}

#[tokio::test]
async fn it_is_off_unless_somebody_has_switched_it_on() {
    let scene = Scene::new(|config| config.relay = false).await;
    scene.listens(3).await;
    assert_eq!(scene.refused(2, 3).await, NoRelay::Off);
    assert_eq!(scene.world.counts().await.relay, None);
}

#[tokio::test]
async fn draining_does_not_wait_for_what_is_carried() {
    let scene = Scene::new(|_| {}).await;
    let (mut one, two) = scene.meet(2, 3).await;
    let Scene { world, .. } = scene;
    tokio::time::timeout(PATIENCE, world.running.drain(PATIENCE * 10)).await.expect("drained");
    assert!(matches!(one.read(&mut [0]).await, Ok(0) | Err(_)));
    drop(two);
}
