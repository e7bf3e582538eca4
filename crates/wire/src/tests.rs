//! Round trips of every message, and 10,000 random, truncated and mutated frames.

use peerage_content::{Bitmap, ContentId, Layout, PIECE_SIZE, PieceIndex, SiteProof};
use proptest::prelude::*;

use super::*;

fn pieces() -> impl Strategy<Value = Vec<PieceIndex>> {
    prop::collection::vec(any::<u32>().prop_map(PieceIndex), 1..20)
}

fn hello() -> impl Strategy<Value = Message> {
    (
        0u64..300 * u64::from(PIECE_SIZE),
        any::<[u8; 32]>(),
        any::<u32>(),
        prop::collection::vec(any::<u8>(), 0..200),
        prop::option::of(any::<([u8; 32], [u8; 32])>()),
    )
        .prop_map(|(size, id, features, ticket, site)| {
            let site = site.map(|(member, group)| SiteProof { member, group });
            // The bit says what follows.
            let features = features & !1 | u32::from(site.is_some());
            let layout = Layout::new(size).unwrap();
            let mut have = Bitmap::for_layout(layout);
            ticket.iter().for_each(|at| {
                have.insert(PieceIndex(u32::from(*at)));
            });
            Message::Hello(Box::new(Hello {
                version: VERSION,
                features: Features(features),
                content: ContentId::from_bytes(id),
                layout,
                ticket,
                have,
                site,
            }))
        })
}

fn message() -> impl Strategy<Value = Message> {
    let span = (any::<u32>(), any::<u32>(), any::<u32>());
    prop_oneof![
        hello(),
        pieces().prop_map(Message::Have),
        (any::<bool>(), pieces()).prop_map(|(active, pieces)| Message::Fetching { active, pieces }),
        span.prop_map(|(p, offset, len)| Message::Request { piece: PieceIndex(p), offset, len }),
        span.prop_map(|(p, offset, len)| Message::Cancel { piece: PieceIndex(p), offset, len }),
        Just(Message::Choke),
        Just(Message::Unchoke),
        Just(Message::Ping),
        any::<(u32, u32)>().prop_map(|(offset, len)| Message::GetMap { offset, len }),
        (any::<u32>(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(offset, bytes)| Message::Map { offset, bytes }),
        span.prop_map(|(p, offset, len)| Message::Reject {
            code: RejectCode::NotHere,
            piece: PieceIndex(p),
            offset,
            len
        }),
        Just(Message::Bye(ByeReason::Complete)),
        prop::sample::select(&WITHHELD[..]).prop_map(Message::Withheld),
    ]
}

const WITHHELD: [Withheld; 8] = [
    Withheld::Nothing,
    Withheld::Battery,
    Withheld::Metered,
    Withheld::Vpn,
    Withheld::MonthlyCap,
    Withheld::Slots,
    Withheld::Policy,
    Withheld::Other,
];

#[test]
fn a_reason_of_a_later_version_is_taken_as_another_one() {
    for (body, reason) in
        [(&[1u8][..], Withheld::Battery), (&[7], Withheld::Other), (&[2, 9, 9], Withheld::Metered)]
    {
        let head = [&(body.len() as u32 + 1).to_be_bytes()[..], &[0x80], body].concat();
        let taken = Frame::decode(&head).unwrap();
        assert_eq!(taken, Some((Frame::Message(Message::Withheld(reason)), head.len())));
    }
    assert!(Frame::decode(&[0, 0, 0, 1, 0x80]).is_err(), "no reason at all");
    // Whoever does not know the kind skips it.
    assert!(Kind::Withheld as u8 >= FIRST_SKIPPABLE);
}

proptest! {
    #[test]
    fn round_trip(message in message()) {
        let bytes = message.encode();
        let (frame, used) = Frame::decode(&bytes).unwrap().unwrap();
        prop_assert_eq!(used, bytes.len());
        prop_assert_eq!(frame, Frame::Message(message));
        for cut in 0..bytes.len() {
            prop_assert_eq!(Frame::decode(&bytes[..cut]).unwrap(), None);
        }
    }

    #[test]
    fn data_round_trip(piece in any::<u32>(), offset in any::<u32>(), payload in prop::collection::vec(any::<u8>(), 1..100)) {
        let head = DataHead { piece: PieceIndex(piece), offset, len: payload.len() as u32 };
        let bytes = [&head.encode()[..], &payload].concat();
        prop_assert_eq!(Frame::decode(&bytes).unwrap(), Some((Frame::Data(head, &payload), bytes.len())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn hostile_frames_never_panic(
        message in message(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        random in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = Frame::decode(&random);
        let mut bytes = message.encode();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let mut rest = &bytes[..];
        // Whatever is accepted takes at least a head and can be sent on.
        while let Ok(Some((frame, used))) = Frame::decode(rest) {
            prop_assert!(used >= HEAD_LEN);
            if let Frame::Message(message) = frame {
                prop_assert!(Frame::decode(&message.encode()).is_ok());
            }
            rest = &rest[used..];
        }
    }
}

#[test]
fn limits_hold_before_a_body_is_read() {
    for kind in Kind::ALL {
        let over = kind.max_len() + 1;
        let head = [&over.to_be_bytes()[..], &[kind as u8]].concat();
        assert!(matches!(Frame::decode(&head), Err(WireError::Length { .. })), "{kind:?}");
    }
    let head = [0, 0, 0, 1, 0x7f];
    assert_eq!(Frame::decode(&head), Err(WireError::UnknownKind(0x7f)));
    assert_eq!(Frame::decode(&[0, 0, 0, 3, 0xff, 9, 9]), Ok(Some((Frame::Skipped, 7))));
    assert!(Frame::decode(&[0, 0, 0, 0, 13]).is_err());
}

#[test]
fn largest_hello_fits() {
    let layout = Layout::new(peerage_content::MAX_CONTENT_SIZE).unwrap();
    let have = Bitmap::full(layout.pieces());
    let content = ContentId::from_bytes([1; 32]);
    let site = Some(SiteProof { member: [1; 32], group: [2; 32] });
    let hello =
        Hello { version: 1, features: Features(0), content, layout, ticket: vec![0; 512], have, site };
    let bytes = Message::Hello(Box::new(hello)).encode();
    assert!(Frame::decode(&bytes).unwrap().is_some());
}
