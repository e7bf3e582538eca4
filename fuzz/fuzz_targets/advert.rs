//! What a neighbour says of itself by DNS-SD: never a panic, never more addresses than are allowed, and an advert opens
//! only under the key that made it.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use peerage_content::{Advert, PeerId, SiteKey};
use peerage_host::{MAX_ADDRESSES, Sight, read_sight};

fuzz_target!(|data: (&str, u16, &[u8], Vec<([u8; 16], bool, u32)>, [u8; 16], [u8; 32])| {
    let (name, port, advert, addresses, nonce, peer) = data;
    let key = SiteKey::from_bytes([9; 32]);
    let ips = addresses.into_iter().map(|(raw, v4, zone)| match raw {
        [a, b, c, d, ..] if v4 => (IpAddr::from([a, b, c, d]), zone),
        raw => (IpAddr::from(raw), zone),
    });
    if let Some(Sight::Seen { advert, addresses, .. }) = read_sight(name, port, advert, ips) {
        assert!((1..=MAX_ADDRESSES).contains(&addresses.len()));
        // Nobody makes one up.
        assert_eq!(Advert::open(&key, &advert), None);
    }
    let peer = PeerId::from_bytes(peer);
    let sealed = Advert::seal(&key, nonce, &peer, Some(&nonce));
    assert!(
        Advert::open(&key, &sealed).is_some_and(|open| open.peer == peer && open.is_of_group(&key, &nonce))
    );
    assert_eq!(Advert::open(&SiteKey::from_bytes([8; 32]), &sealed), None);
});
