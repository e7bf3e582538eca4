//! Swarms as devices see them.

use peerage_api::Code;
use peerage_api::client::DeviceClient;
use peerage_api::coordinator::{
    AnnounceEvent, AnnounceItem, AnnounceRequest, AnnounceResponse, ResolveResponse, SwarmItem,
};
use peerage_content::{ContentId, Place, Scope, ScopeSet, SwarmTicket};

use super::{World, by_url, key, publication};

pub(super) fn announce(content: ContentId, left: u64, address: &str) -> AnnounceRequest {
    AnnounceRequest {
        addresses: vec![address.parse().unwrap()],
        group: None,
        scopes: ScopeSet::ALL,
        items: vec![AnnounceItem { content, event: AnnounceEvent::Alive, left, want: 50 }],
    }
}

pub(super) async fn item(device: &DeviceClient, request: &AnnounceRequest) -> SwarmItem {
    let AnnounceResponse { items, .. } = device.announce(request).await.unwrap();
    assert_eq!(items.len(), 1);
    items.into_iter().next().unwrap()
}

/// What the ticket says of where the device is.
fn place(world: &World, item: &SwarmItem) -> Place {
    item.ticket.check::<SwarmTicket>(&[world.key]).unwrap().get().place
}

pub(super) async fn published(world: &World, scopes: ScopeSet) -> ContentId {
    let mut request = publication(b"shared", "http://h.example/f");
    request.scopes = scopes;
    world.admin().publish(&request).await.unwrap().id
}

#[tokio::test]
async fn devices_find_each_other_and_get_tickets() {
    let world = World::new().await;
    let content = published(&world, ScopeSet::ALL).await;
    let (a, b) = (world.device_from(1, "127.0.1.1").await, world.device_from(2, "127.0.1.2").await);
    let first = item(&a, &announce(content, 6, "127.0.1.1:7001")).await;
    assert_eq!((first.ordinal, first.members, first.seeds, first.peers.len()), (0, 1, 0, 0));
    let second = item(&b, &announce(content, 0, "127.0.1.2:7002")).await;
    assert_eq!((second.ordinal, second.members, second.seeds), (1, 2, 1));
    assert_eq!(second.peers[0].peer, key(1).public());
    assert_eq!(second.peers[0].addresses, ["127.0.1.1:7001".parse().unwrap()]);
    assert_eq!((second.peers[0].scope, second.peers[0].seed), (Scope::Lan, false));

    let request = announce(content, 6, "127.0.1.1:7001");
    let response = a.announce(&request).await.unwrap();
    assert!((54..=66).contains(&response.interval_s), "{}", response.interval_s);
    let again = &response.items[0];
    assert!(again.peers[0].seed && again.ordinal == 0);
    assert_eq!(again.ticket, first.ticket, "remembered, not signed anew");
    for (item, device) in [(&first, 1), (&second, 2)] {
        let ticket = item.ticket.check::<SwarmTicket>(&[world.key]).unwrap();
        assert!(ticket.get().admits(key(device).public(), content, response.time));
        assert_eq!(ticket.get().scope, Scope::Internet);
    }
    assert_eq!(world.counts().await.members, 2);

    let narrow = AnnounceRequest { scopes: ScopeSet::up_to(Scope::Lan), ..request.clone() };
    let ticket = item(&a, &narrow).await.ticket.check::<SwarmTicket>(&[world.key]).unwrap();
    assert_eq!(ticket.get().scope, Scope::Lan, "the ticket follows the device's policy");

    let mut stopped = request.clone();
    stopped.items[0].event = AnnounceEvent::Stopped;
    assert!(a.announce(&stopped).await.unwrap().items.is_empty());
    assert_eq!(item(&b, &announce(content, 0, "127.0.1.2:7002")).await.members, 1);
    world.admin().revoke(key(2).public()).await.unwrap();
    assert_eq!(world.counts().await.members, 0, "a revoked device is in no swarm");
}

#[tokio::test]
async fn sites_groups_and_records_bound_who_is_found() {
    let world = World::with(|config| {
        let site = |net: &str| vec![net.parse().unwrap()];
        config.sites = [("paris".into(), site("127.0.1.0/24")), ("lyon".into(), site("127.0.2.0/24"))].into();
    })
    .await;
    let content = published(&world, ScopeSet::up_to(Scope::Group)).await;
    let (a, b) = (world.device_from(1, "127.0.1.1").await, world.device_from(2, "127.0.2.1").await);
    let c = world.device_from(3, "127.0.1.9").await;
    let with_group = |address: &str, group: &str| AnnounceRequest {
        group: Some(group.to_owned()),
        ..announce(content, 6, address)
    };
    let guid = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
    let paris = place(&world, &item(&a, &with_group("127.0.1.1:1", guid)).await);
    let other = item(&b, &with_group("127.0.2.1:1", "00000000-0000-0000-0000-000000000001")).await;
    assert!(other.peers.is_empty(), "neither site nor group in common, and the record forbids the Internet");
    let ticket = other.ticket.check::<SwarmTicket>(&[world.key]).unwrap();
    assert_eq!(ticket.get().scope, Scope::Group);

    assert_eq!(paris.meets(&place(&world, &other)), Scope::Internet);

    let same = item(&b, &with_group("127.0.2.1:1", "{6F9619FF-8B86-D011-B42D-00C04FC964FF}")).await;
    assert_eq!(
        paris.meets(&place(&world, &same)),
        Scope::Group,
        "a ticket of the former group is not shown again"
    );
    assert_eq!((same.peers.len(), same.peers[0].scope), (1, Scope::Group), "a GUID in another spelling");
    let near = item(&c, &announce(content, 6, "127.0.1.9:1")).await;
    assert_eq!((near.peers.len(), near.peers[0].peer, near.peers[0].scope), (1, key(1).public(), Scope::Lan));
    assert_eq!(near.members, 2);
    assert_eq!(paris.meets(&place(&world, &near)), Scope::Lan);
}

#[tokio::test]
async fn nothing_is_said_of_what_may_not_be_shared() {
    let world = World::new().await;
    let device = world.device(1).await;
    let private = published(&world, ScopeSet::NONE).await;
    let unknown = ContentId::from_bytes([7; 32]);
    for content in [private, unknown] {
        let answer = device.announce(&announce(content, 0, "127.0.0.1:1")).await.unwrap();
        assert!(answer.items.is_empty());
    }
    let unwilling = AnnounceRequest { scopes: ScopeSet::NONE, ..announce(private, 0, "127.0.0.1:1") };
    assert!(device.announce(&unwilling).await.unwrap().items.is_empty());
    assert_eq!(world.counts().await.members, 0);

    let mut long = announce(unknown, 0, "127.0.0.1:1");
    long.items = vec![long.items[0]; 1001];
    assert_eq!(device.announce(&long).await.unwrap_err().code, Code::BadRequest);
    long.items.truncate(1000);
    assert!(device.announce(&long).await.unwrap().items.is_empty());
    long.group = Some("x".repeat(256));
    assert_eq!(device.announce(&long).await.unwrap_err().code, Code::BadRequest);

    // Published after the device first asked: shared from then on.
    let mut request = publication(b"late", "http://h.example/late");
    let asked = device.announce(&announce(request.id, 0, "127.0.0.1:1")).await.unwrap();
    assert!(asked.items.is_empty());
    request.valid_s = Some(3600);
    world.admin().publish(&request).await.unwrap();
    item(&device, &announce(request.id, 0, "127.0.0.1:1")).await;
}

#[tokio::test]
async fn resolve_and_announce_in_one_round_trip() {
    let world = World::new().await;
    let content = published(&world, ScopeSet::ALL).await;
    let device = world.device(1).await;
    let mut ask = by_url("http://h.example/f");
    ask.announce = Some(announce(ContentId::from_bytes([0; 32]), 6, "127.0.0.1:1"));
    let ResolveResponse::Known { announce: Some(answer), .. } = device.resolve(&ask).await.unwrap() else {
        panic!("no announce in the answer")
    };
    assert_eq!(answer.items[0].content, content);
    ask.announce.as_mut().unwrap().items.clear();
    assert_eq!(device.resolve(&ask).await.unwrap_err().code, Code::BadRequest);
}
