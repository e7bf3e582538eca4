//! What the tables look like.

use console::measure_text_width;

use super::*;

const MIB: u64 = 1 << 20;

fn args(file_id: Option<&str>, peers: bool) -> StatusArgs {
    #[derive(Debug, clap::Parser)]
    struct Only {
        #[command(flatten)]
        args: StatusArgs,
    }
    let mut words = vec!["status"];
    words.extend(file_id);
    words.extend(peers.then_some("--peers"));
    <Only as clap::Parser>::try_parse_from(words).unwrap().args
}

fn downloading() -> FileStatus {
    FileStatus {
        file_id: "1f".repeat(32),
        file_size: 100 * MIB,
        file_size_in_cache: 45 * MIB,
        bytes_from_lan_peers: 30 * MIB,
        bytes_from_cdn: 15 * MIB,
        download_rate: 5 * MIB,
        upload_rate: MIB,
        connected_peers: 1,
        num_peers: 2,
        source_url: "http://mirror.example.org/images/distribution-12.iso".into(),
        reasons: vec!["peers of the same site may be used\x07".into()],
        peers: vec![
            PeerStatus {
                ip: "10.0.0.7:7680".parse().unwrap(),
                peer_id: peerage_content::PeerId::from_bytes([0xab; 32]),
                peer_type: PeerType::Lan,
                connection_established: true,
                relayed: false,
                bytes_sent: MIB,
                bytes_received: 30 * MIB,
                upload_rate_bytes: MIB,
                download_rate_bytes: 4 * MIB,
                note: None,
            },
            PeerStatus {
                ip: "[fd00::1]:7680".parse().unwrap(),
                peer_id: peerage_content::PeerId::from_bytes([0xcd; 32]),
                peer_type: PeerType::Group,
                connection_established: false,
                relayed: false,
                bytes_sent: 0,
                bytes_received: 0,
                upload_rate_bytes: 0,
                download_rate_bytes: 0,
                note: Some("refused".into()),
            },
        ],
        ..FileStatus::default()
    }
}

fn seeding() -> FileStatus {
    FileStatus {
        file_id: "url-0123456789abcdef".into(),
        file_size: 3 * MIB,
        file_size_in_cache: 3 * MIB,
        status: FileState::Caching,
        is_pinned: true,
        download_rate: 77,
        source_url: "http://h/b".into(),
        ..FileStatus::default()
    }
}

#[test]
fn wide_terminals_see_bytes_by_source() {
    let rows = [downloading(), seeding()];
    let expected = [
        "ID               SIZE  STATE              PEERS  CACHE    ORIGIN       DOWN         UP  CONN  SOURCE",
        "1f1f1f1f1f  100.0 MiB  45 %            30.0 MiB      -  15.0 MiB  5.0 MiB/s  1.0 MiB/s   1/2  \
         http://mirror.example.org/images/distribution-12.iso",
        "url-012345    3.0 MiB  shared, pinned         -      -         -          -          -   0/0  http://h/b",
    ];
    assert_eq!(lines(&rows, &args(None, false), None), expected);
}

#[test]
fn narrow_terminals_see_percents() {
    let rows = [downloading(), seeding()];
    let expected = [
        "ID               SIZE  STATE            PEERS        RATE  CONN  SOURCE",
        "1f1f1f1f1f  100.0 MiB  45 %            66.6 %  ↓5.0 MiB/s   1/2  …ibution-12.iso",
        "url-012345    3.0 MiB  shared, pinned                       0/0  http://h/b",
    ];
    let lines = lines(&rows, &args(None, false), Some(80));
    assert_eq!(lines, expected);
    assert!(lines.iter().all(|line| measure_text_width(line) <= 80));
}

#[test]
fn peers_and_reasons_when_they_are_asked_for() {
    let expected = [
        "",
        "1f1f1f1f1f:",
        "  PEER        ADDRESS         KIND       FROM       TO  STATE",
        "  ababababab  10.0.0.7:7680   LAN    30.0 MiB  1.0 MiB  ↓4.0 MiB/s ↑1.0 MiB/s",
        "  cdcdcdcdcd  [fd00::1]:7680  group         -        -  not connected: refused",
        "",
        "- peers of the same site may be used\\u{7}",
    ];
    assert_eq!(lines(&[downloading()], &args(Some("1f"), true), None)[2..], expected);
    assert_eq!(lines(&[seeding()], &args(None, true), None)[2..], ["", "url-012345: no peers"]);
    let relayed = PeerStatus { relayed: true, ..downloading().peers[0].clone() };
    assert_eq!(peer_state(&relayed), "↓4.0 MiB/s ↑1.0 MiB/s through the relay");
    assert_eq!(lines(&[], &args(None, true), None).len(), 1);
}
