//! A swarm ticket: the envelope from anyone, in both forms, and the payload as a signer might write it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_content::{SecretKey, Signed, Statement, SwarmTicket};

fuzz_target!(|bytes: &[u8]| {
    let key = SecretKey::from_seed(&[7; 32]);
    assert!(Signed::<SwarmTicket>::from_bytes(bytes, &[key.public()]).is_err(), "a forged signature");
    if let Ok(text) = str::from_utf8(bytes) {
        assert!(Signed::<SwarmTicket>::from_text(text, &[key.public()]).is_err(), "a forged signature");
    }
    let Ok(ticket) = SwarmTicket::decode(bytes) else { return };
    assert_eq!(ticket.encode(), bytes, "one ticket, one form");
    assert!(
        !ticket.admits(ticket.peer, ticket.content, ticket.not_after.saturating_add(1))
            || ticket.not_after == u64::MAX
    );
    let signed = Signed::new(ticket.clone(), &key);
    let read =
        Signed::<SwarmTicket>::from_text(&signed.to_text(), &[key.public()]).expect("our own signature");
    assert_eq!(read.get(), &ticket);
});
