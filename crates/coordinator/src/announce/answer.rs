//! The answer to an announce: `peerage_api::coordinator::AnnounceResponse` in JSON.
//!
//! Written by hand, straight from what the registry knows: it is the coordinator's commonest answer by far, and may name
//! thousands of peers. Invariant: what is written is, byte for byte, what serde would write of the same values.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerage_content::{ContentId, Scope};

use crate::registry::Seat;

/// What most answers stay below: the whole, one of its items, and one peer in it.
const HEAD: usize = 64;
const ITEM: usize = 448;
const PEER: usize = 176;

/// An answer that is being written.
#[derive(Debug)]
pub(super) struct Answer(String);

impl Answer {
    /// The beginning of one that is to tell of `seats`.
    pub(super) fn new(interval_s: u64, time: u64, seats: &[Seat]) -> Self {
        let peers: usize = seats.iter().map(|seat| seat.peers.len()).sum();
        let mut text = String::with_capacity(HEAD + ITEM * seats.len() + PEER * peers);
        put(&mut text, format_args!("{{\"interval_s\":{interval_s},\"time\":{time},\"items\":["));
        Self(text)
    }

    /// The device's place in the swarm of `content`.
    pub(super) fn item(&mut self, content: ContentId, ticket: &[u8], seat: &Seat) {
        let text = &mut self.0;
        separate(text);
        put(text, format_args!("{{\"content\":\"{content}\",\"ticket\":\""));
        URL_SAFE_NO_PAD.encode_string(ticket, text);
        let Seat { ordinal, members, seeds, .. } = seat;
        put(
            text,
            format_args!("\",\"ordinal\":{ordinal},\"members\":{members},\"seeds\":{seeds},\"peers\":["),
        );
        for peer in &seat.peers {
            separate(text);
            text.push_str(&peer.entry);
            text.push_str(match peer.scope {
                Scope::Lan => ",\"scope\":\"lan\",\"seed\":",
                Scope::Group => ",\"scope\":\"group\",\"seed\":",
                Scope::Internet => ",\"scope\":\"internet\",\"seed\":",
            });
            text.push_str(if peer.seed { "true}" } else { "false}" });
        }
        text.push_str("]}");
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push_str("]}");
        self.0
    }
}

/// A comma, but before the first of a list.
fn separate(text: &mut String) {
    if !text.ends_with('[') {
        text.push(',');
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // A string takes whatever it is given.
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use peerage_api::coordinator::AnnounceResponse;

    use super::*;
    use crate::registry::Neighbour;

    #[test]
    fn it_is_what_serde_would_write() {
        let peer = |scope, seed, addresses: &str| {
            let entry = format!("{{\"peer\":\"{}\",\"addresses\":[{addresses}]", "5c".repeat(32));
            Neighbour { entry: entry.into(), scope, seed }
        };
        let seat = |peers| Seat { ordinal: 0, members: u32::MAX, seeds: 17, ticket: None, peers };
        let seats = [
            seat(Vec::new()),
            seat(vec![
                peer(Scope::Lan, true, ""),
                peer(Scope::Group, false, "\"10.0.0.1:1\",\"[2001:db8::1]:65535\""),
                peer(Scope::Internet, true, "\"192.0.2.1:7680\""),
            ]),
        ];
        for seats in [&seats[..0], &seats[..1], &seats] {
            let mut answer = Answer::new(300, u64::MAX, seats);
            for (n, seat) in (1..).zip(seats) {
                answer.item(ContentId::from_bytes([n; 32]), &[n; 186], seat);
            }
            let text = answer.finish();
            let read: AnnounceResponse = serde_json::from_str(&text).unwrap();
            assert_eq!((read.interval_s, read.time, read.items.len()), (300, u64::MAX, seats.len()));
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
            for (item, seat) in read.items.iter().zip(seats) {
                let found: Vec<_> = item.peers.iter().map(|peer| (peer.scope, peer.seed)).collect();
                let told: Vec<_> = seat.peers.iter().map(|peer| (peer.scope, peer.seed)).collect();
                assert_eq!((found, item.seeds, item.members), (told, seat.seeds, seat.members));
            }
        }
    }
}
