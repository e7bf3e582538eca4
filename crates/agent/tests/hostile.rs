//! Hostile neighbours against the real binary: each gets nothing it should not, harms no download, and is banned.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use peerage_api::client::{CoordinatorClient, DeviceClient, DeviceCredentials, TlsTrust};
use peerage_api::coordinator::{
    AnnounceEvent, AnnounceItem, AnnounceRequest, AnnounceResponse, ResolveRequest, ResolveResponse,
};
use peerage_content::{
    Bitmap, ContentId, EnrolToken, Layout, PeerId, PieceIndex, Place, ScopeSet, SecretKey, Side, Signed,
    SiteClaim, SiteKey, SwarmTicket,
};
use peerage_testkit::{Agent, Fleet, Nginx, OPEN_POLICY, random_file, same_file, wait_until};
use peerage_transport::{
    Connection, FrameReader, FrameWriter, Identity, Incoming, Listener, Options, accept, connect,
};
use peerage_wire::{DataHead, Features, Hello, Message, RejectCode, VERSION};
use tokio::time::timeout;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(10);

struct Office {
    dir: tempfile::TempDir,
    _origin: Nginx,
    fleet: Fleet,
    file: PathBuf,
    url: String,
    id: ContentId,
    layout: Layout,
}

fn any(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 32, 0, last], 0))
}

impl Office {
    fn new(size: u64, directive: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("www");
        fs::create_dir_all(&root).unwrap();
        let file = root.join("f.bin");
        random_file(&file, 9, size).unwrap();
        let origin = Nginx::serve(&root).directive(directive).start(dir.path()).unwrap();
        let config = "ingest_allow = [\"127.0.0.0/8\"]\n";
        let fleet = Fleet::start(&dir.path().join("fleet"), any(1), None, config).unwrap();
        let url = origin.url("f.bin");
        let record = fleet.publish(&file, &url).unwrap();
        let id = record["FileId"].as_str().unwrap().parse().unwrap();
        Self { dir, _origin: origin, fleet, file, url, id, layout: Layout::new(size).unwrap() }
    }

    fn agent(&self, name: &str, last: u8) -> Agent {
        self.fleet.agent(name, any(last), None, OPEN_POLICY).unwrap()
    }

    /// An agent that holds the file.
    fn seed(&self) -> (Agent, SocketAddr) {
        let seed = self.agent("seed", 11);
        seed.get(&self.url, &self.dir.path().join("seeded")).unwrap();
        let address = seed.daemon.address("peers").unwrap();
        (seed, address)
    }
}

/// An enrolled device that does not play by the rules.
struct Rogue {
    key: SecretKey,
    identity: Identity,
    device: DeviceClient,
}

impl Rogue {
    async fn enrol(office: &Office, seed: u8) -> Self {
        let key = SecretKey::from_seed(&[seed; 32]);
        let token: EnrolToken = office.fleet.enroll_token().unwrap().parse().unwrap();
        let client = CoordinatorClient::new(&office.fleet.url, TlsTrust::Pin(token.tls_pin)).unwrap();
        client.enroll(&token, &key, "rogue").await.unwrap();
        let device = client.device(DeviceCredentials { key: key.clone() });
        Self { identity: Identity::new(&key).unwrap(), key, device }
    }

    /// Announces itself at `addresses`, as a seed if `left` is 0, and returns its ticket.
    async fn announce(
        &self,
        office: &Office,
        addresses: Vec<SocketAddr>,
        left: u64,
    ) -> (Vec<u8>, AnnounceResponse) {
        let item = AnnounceItem { content: office.id, event: AnnounceEvent::Alive, left, want: 50 };
        let announce = AnnounceRequest { addresses, group: None, scopes: ScopeSet::ALL, items: vec![item] };
        let request = ResolveRequest {
            url: Some(office.url.clone()),
            announce: Some(announce),
            ..ResolveRequest::default()
        };
        let ResolveResponse::Known { announce: Some(answer), .. } =
            self.device.resolve(&request).await.unwrap()
        else {
            panic!("the content is known")
        };
        let token: EnrolToken = office.fleet.enroll_token().unwrap().parse().unwrap();
        let ticket: Signed<SwarmTicket> = answer.items[0].ticket.check(&[token.catalog_key]).unwrap();
        (ticket.as_bytes().to_vec(), answer)
    }

    async fn dial(&self, office: &Office, to: SocketAddr, agent: &Agent) -> Connection {
        let _ = office;
        let peer = agent.daemon.ready()["peer_id"].as_str().unwrap().parse().unwrap();
        connect(to, peer, &self.identity, &Options::default()).await.unwrap()
    }
}

fn hello(office: &Office, content: ContentId, ticket: &[u8], have: Bitmap) -> Message {
    Message::Hello(Box::new(Hello {
        version: VERSION,
        features: Features::default(),
        content,
        layout: office.layout,
        ticket: ticket.to_vec(),
        have,
        site: None,
    }))
}

async fn say(writer: &mut FrameWriter, message: &Message) {
    writer.send(message).await.unwrap();
    writer.flush().await.unwrap();
}

/// The next message; `None`: the connection has ended.
async fn hear(reader: &mut FrameReader) -> Option<Message> {
    match timeout(SHORT, reader.next()).await.expect("an answer or the end") {
        Ok(Incoming::Message(message)) => Some(message),
        Ok(Incoming::Data(_)) => panic!("data without a request"),
        Err(_) => None,
    }
}

fn nothing(office: &Office) -> Bitmap {
    Bitmap::for_layout(office.layout)
}

/// What a connection gets for its hello: the first message and whether anything follows.
async fn answer_to(connection: Connection, hello: &Message) -> (Option<Message>, bool) {
    let (mut reader, mut writer) = connection.split();
    say(&mut writer, hello).await;
    let first = hear(&mut reader).await;
    let more = !matches!(first, Some(Message::Hello(_)) | None) && hear(&mut reader).await.is_some();
    (first, more)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ticket_of_its_own_a_device_learns_nothing() {
    let office = Office::new(3 * MIB, "");
    let (seed, address) = office.seed();
    let rogue = Rogue::enrol(&office, 41).await;
    let (ticket, _) = rogue.announce(&office, vec![], office.layout.size()).await;
    let stranger = Rogue::enrol(&office, 42).await;
    let unknown = ContentId::from_bytes([7; 32]);
    let refusal = (Some(Message::NOT_ADMITTED), false);

    // No ticket, for a content that is here and for one that is not: the same word.
    for content in [office.id, unknown] {
        let connection = stranger.dial(&office, address, &seed).await;
        assert_eq!(answer_to(connection, &hello(&office, content, &[], nothing(&office))).await, refusal);
    }
    // A ticket that some other key signed.
    let forged = SwarmTicket {
        content: office.id,
        scope: peerage_content::Scope::Lan,
        peer: stranger.key.public(),
        not_after: u64::MAX / 2,
        place: Place { site: 1, group: None },
    };
    let forged = Signed::new(forged, &stranger.key);
    let connection = stranger.dial(&office, address, &seed).await;
    assert_eq!(
        answer_to(connection, &hello(&office, office.id, forged.as_bytes(), nothing(&office))).await,
        refusal
    );
    // Another device's ticket; from then on the thief is shut out even with a ticket of its own.
    let thief = Rogue::enrol(&office, 43).await;
    let connection = thief.dial(&office, address, &seed).await;
    assert_eq!(answer_to(connection, &hello(&office, office.id, &ticket, nothing(&office))).await, refusal);
    let (own, _) = thief.announce(&office, vec![], office.layout.size()).await;
    let connection = thief.dial(&office, address, &seed).await;
    assert_eq!(answer_to(connection, &hello(&office, office.id, &own, nothing(&office))).await, refusal);
    // The owner of the ticket is admitted.
    let connection = rogue.dial(&office, address, &seed).await;
    let (first, _) = answer_to(connection, &hello(&office, office.id, &ticket, nothing(&office))).await;
    assert!(matches!(first, Some(Message::Hello(_))), "{first:?}");
}

/// What a device that connected to `verifier` has to prove.
fn claim_of<'a>(office: &Office, prover: PeerId, verifier: PeerId, binding: &'a [u8; 32]) -> SiteClaim<'a> {
    SiteClaim { binding, side: Side::Dialled, content: office.id, prover, verifier }
}

/// A hello with a proof of `key` for `claim`, instead of a ticket.
fn site_hello(office: &Office, key: &SiteKey, claim: &SiteClaim<'_>, content: ContentId) -> Message {
    let Message::Hello(hello) = hello(office, content, &[], nothing(office)) else { unreachable!() };
    Message::Hello(Box::new(Hello { site: Some(key.prove(claim, None)), ..*hello }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_without_the_site_key_learns_nothing() {
    let mut office = Office::new(3 * MIB, "");
    let (seed, address) = office.seed();
    let rogue = Rogue::enrol(&office, 44).await;
    let key = rogue.device.session(false).await.unwrap().site_key.expect("an enrolled device gets the key");
    let served: PeerId = seed.daemon.ready()["peer_id"].as_str().unwrap().parse().unwrap();
    office.fleet.kill_coordinator().unwrap();
    let refusal = (Some(Message::NOT_ADMITTED), false);
    let unknown = ContentId::from_bytes([7; 32]);
    let wrong = SiteKey::from_bytes([1; 32]);
    let own = rogue.key.public();
    // Another key, for a content that is here and for one that is not: the same word as for a member that asks for what
    // is not here.
    for (key, content) in [(&wrong, office.id), (&wrong, unknown), (&key, unknown)] {
        let connection = rogue.dial(&office, address, &seed).await;
        let binding = *connection.binding();
        let hello = site_hello(
            &office,
            key,
            &SiteClaim { content, ..claim_of(&office, own, served, &binding) },
            content,
        );
        assert_eq!(answer_to(connection, &hello).await, refusal);
    }
    // A good proof: of another connection, for another content, for the other side, to another device.
    let first = rogue.dial(&office, address, &seed).await;
    let old = *first.binding();
    for (content, side, prover, verifier) in [
        (unknown, Side::Dialled, own, served),
        (office.id, Side::Listened, own, served),
        (office.id, Side::Dialled, served, own),
        (office.id, Side::Dialled, own, own),
    ] {
        let connection = rogue.dial(&office, address, &seed).await;
        let binding = *connection.binding();
        let spoilt = SiteClaim { binding: &binding, side, content, prover, verifier };
        assert_eq!(
            answer_to(connection, &site_hello(&office, &key, &spoilt, office.id)).await,
            refusal,
            "{spoilt:?}"
        );
    }
    let connection = rogue.dial(&office, address, &seed).await;
    assert_ne!(*connection.binding(), old);
    assert_eq!(
        answer_to(connection, &site_hello(&office, &key, &claim_of(&office, own, served, &old), office.id))
            .await,
        refusal
    );
    // The right one is answered with the other side's own proof, and nothing was held against the device.
    let (mut reader, mut writer) = first.split();
    say(&mut writer, &site_hello(&office, &key, &claim_of(&office, own, served, &old), office.id)).await;
    let Some(Message::Hello(theirs)) = hear(&mut reader).await else { panic!("a hello") };
    let mutual = SiteClaim {
        side: Side::Listened,
        prover: served,
        verifier: own,
        ..claim_of(&office, own, served, &old)
    };
    assert!(key.admits(&mutual, &theirs.site.unwrap()) && theirs.ticket.is_empty());
    assert_eq!(theirs.have.count(), 3);
    // Where local discovery is off, the same proof opens nothing.
    seed.set_policy(&format!("{OPEN_POLICY}local_discovery = false\n")).unwrap();
    wait_until("local discovery is off", PATIENCE, || {
        let config = seed.command(&["config", "--json"]).output().unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config.stdout).unwrap();
        let mut rows = config["Settings"].as_array().unwrap().iter();
        rows.any(|row| row["Name"] == "local_discovery" && row["Effective"]["Text"] == "false")
    });
    let connection = rogue.dial(&office, address, &seed).await;
    let binding = *connection.binding();
    let hello = site_hello(&office, &key, &claim_of(&office, own, served, &binding), office.id);
    assert_eq!(answer_to(connection, &hello).await, refusal);
}

/// Sends `word` far more often than it may be outstanding and reads not one byte of the answers.
async fn flood(word: Message, seed: u8) {
    let office = Office::new(3 * MIB, "");
    let (victim, address) = office.seed();
    let rogue = Rogue::enrol(&office, seed).await;
    let (ticket, _) = rogue.announce(&office, vec![], office.layout.size()).await;
    let (mut reader, mut writer) = rogue.dial(&office, address, &victim).await.split();
    say(&mut writer, &hello(&office, office.id, &ticket, nothing(&office))).await;
    assert!(matches!(hear(&mut reader).await, Some(Message::Hello(_))));
    assert_eq!(hear(&mut reader).await, Some(Message::Unchoke));
    // However much the kernel holds of the answers that nobody reads.
    let flood = async { while writer.send(&word).await.is_ok() {} };
    timeout(PATIENCE, flood).await.expect("the flood is cut off");
    // Banned: not even a valid ticket opens the door.
    let connection = rogue.dial(&office, address, &victim).await;
    let answer = answer_to(connection, &hello(&office, office.id, &ticket, nothing(&office))).await;
    assert_eq!(answer, (Some(Message::NOT_ADMITTED), false));
    let other = office.agent("other", 12);
    let out = office.dir.path().join("other");
    let status = other.get(&office.url, &out).unwrap();
    assert!(same_file(&office.file, &out).unwrap());
    assert!(status["BytesFromLanPeers"].as_u64().unwrap() > 2 * MIB, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_cut_off_and_others_are_served() {
    flood(Message::Request { piece: PieceIndex(0), offset: 0, len: 1 << 20 }, 44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_questions_for_the_map_is_cut_off_and_others_are_served() {
    flood(Message::GetMap { offset: 0, len: 1 << 18 }, 45).await;
}

/// How a rogue seed treats requests.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    WrongBytes,
    Silent,
    StopsInTheMiddle,
    RejectsAll,
    ClaimsAll,
    SendsUnasked,
}

/// Serves like a seed of the whole file, in its manner, until the test ends.
async fn rogue_seed(office: &Office, rogue: Rogue, manner: Manner, last: u8) -> tokio::task::JoinHandle<()> {
    let listener = Listener::bind(any(last)).unwrap();
    let (ticket, _) = rogue.announce(office, vec![listener.local_addr().unwrap()], 0).await;
    let have =
        if manner == Manner::ClaimsAll { nothing(office) } else { Bitmap::full(office.layout.pieces()) };
    let hello = hello(office, office.id, &ticket, have);
    let all: Vec<PieceIndex> = office.layout.indexes().collect();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.next().await.unwrap();
            let Ok(connection) = accept(tcp, &rogue.identity, &Options::default()).await else { continue };
            let (hello, all) = (hello.clone(), all.clone());
            tokio::spawn(async move { serve(connection, hello, all, manner).await });
        }
    })
}

async fn serve(connection: Connection, hello: Message, all: Vec<PieceIndex>, manner: Manner) -> Option<()> {
    let (mut reader, mut writer) = connection.split();
    reader.next().await.ok()?;
    writer.send(&hello).await.ok()?;
    writer.send(&Message::Unchoke).await.ok()?;
    if manner == Manner::ClaimsAll {
        writer.send(&Message::Fetching { active: true, pieces: all.clone() }).await.ok()?;
    }
    writer.flush().await.ok()?;
    let junk = vec![0xEE; 1 << 20];
    let mut answered = 0;
    loop {
        let Ok(Incoming::Message(message)) = reader.next().await else { return None };
        let Message::Request { piece, offset, len } = message else { continue };
        match manner {
            Manner::WrongBytes => {
                writer.send_data(DataHead { piece, offset, len }, &junk[..len as usize]).await.ok()?;
            }
            Manner::StopsInTheMiddle if answered < 2 => {
                let len = len / 2;
                writer.send_data(DataHead { piece, offset, len }, &junk[..len as usize]).await.ok()?;
            }
            Manner::RejectsAll => {
                let code = RejectCode::NotHere;
                writer.send(&Message::Reject { code, piece, offset, len }).await.ok()?;
            }
            Manner::SendsUnasked => {
                let elsewhere = PieceIndex((piece.0 + 1) % all.len() as u32);
                let head = DataHead { piece: elsewhere, offset: 16_384, len: 16_384 };
                writer.send_data(head, &junk[..16_384]).await.ok()?;
            }
            Manner::Silent | Manner::StopsInTheMiddle | Manner::ClaimsAll => {}
        }
        answered += 1;
        writer.flush().await.ok()?;
    }
}

async fn victim_of(manner: Manner, banned: bool) {
    // Whoever is to be found out must be asked more than once before the origin has sent everything.
    let office = Office::new(8 * MIB, if banned { "limit_rate 1m;" } else { "limit_rate 8m;" });
    let rogue = Rogue::enrol(&office, 51).await;
    let rogue_id = rogue.key.public().to_string();
    let task = rogue_seed(&office, rogue, manner, 77).await;
    let victim = office.agent("victim", 12);
    let out = office.dir.path().join("out");
    let (url, to) = (office.url.clone(), out.clone());
    let (victim, status) = tokio::task::spawn_blocking(move || {
        let status = victim.get(&url, &to);
        (victim, status)
    })
    .await
    .unwrap();
    let status = status.unwrap();
    assert!(same_file(&office.file, &out).unwrap(), "{manner:?}");
    // What wrong bytes there were are counted as received, and as thrown away.
    let (lan, wasted) =
        (status["BytesFromLanPeers"].as_u64().unwrap(), status["WastedBytes"].as_u64().unwrap());
    assert!(lan <= wasted, "{manner:?}: {status}");
    if banned {
        wait_until("the rogue is banned", PATIENCE, || {
            let row = victim.file(&office.id.to_string()).unwrap().unwrap();
            let peers = row["Peers"].as_array().cloned().unwrap_or_default();
            peers.iter().any(|peer| {
                let note = peer["Note"].as_str().unwrap_or_default();
                peer["PeerId"] == rogue_id.as_str() && note.starts_with("banned")
            })
        });
    }
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_thrown_away_and_their_sender_is_banned() {
    victim_of(Manner::WrongBytes, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_not_waited_for() {
    victim_of(Manner::Silent, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stops_in_the_middle_is_not_waited_for() {
    victim_of(Manner::StopsInTheMiddle, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lacks_what_it_claims_is_banned() {
    victim_of(Manner::RejectsAll, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn false_claims_do_not_keep_a_device_from_the_origin() {
    victim_of(Manner::ClaimsAll, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unrequested_data_never_reaches_the_store() {
    victim_of(Manner::SendsUnasked, true).await;
}
