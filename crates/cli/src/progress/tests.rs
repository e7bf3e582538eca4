//! What the progress looks like, character by character.

use super::*;

const MIB: u64 = 1 << 20;
const PLAIN: Paint = Paint { colours: false };

/// 45 of 100 MiB: 10 held before, 20 from peers, 5 from the cache server, 10 from the origin.
fn mixed() -> FileStatus {
    FileStatus {
        file_size: 100 * MIB,
        file_size_in_cache: 45 * MIB,
        bytes_from_lan_peers: 15 * MIB,
        bytes_from_group_peers: 5 * MIB,
        bytes_from_cache_server: 5 * MIB,
        bytes_from_cdn: 10 * MIB,
        download_rate: 5 * MIB,
        num_peers: 4,
        connected_peers: 3,
        ..FileStatus::default()
    }
}

fn view(status: &FileStatus) -> View<'_> {
    View::of("librustc.so", status)
}

#[test]
fn a_bar_is_split_by_source() {
    let status = mixed();
    let line = view(&status).bar(80, PLAIN);
    assert_eq!(line, "librustc.so  ░░░████████▓▓▒▒▒▒·····················   45 %    5.0 MiB/s     0:11");
    assert_eq!(measure_text_width(&line), 80);
    let legend = "░ held before 10.0 MiB   █ peers 20.0 MiB (3 of 4 connected)   ▓ cache server 5.0 MiB   ▒ origin 10.0 MiB";
    assert_eq!(view(&status).legend(120, PLAIN), legend);
    assert_eq!(measure_text_width(&view(&status).legend(60, PLAIN)), 60);
}

#[test]
fn every_width_is_kept_and_the_name_gives_way() {
    let status = mixed();
    for width in 0..200 {
        for paint in [PLAIN, Paint { colours: true }] {
            let bar = View::of("a very long name of a file, longer than any bar.iso", &status);
            assert!(measure_text_width(&bar.bar(width, paint)) <= width, "{width}");
            assert!(measure_text_width(&bar.legend(width, paint)) <= width, "{width}");
        }
    }
    assert!(view(&status).bar(50, PLAIN).starts_with("librustc…  ░"), "{}", view(&status).bar(50, PLAIN));
}

#[test]
fn colours_only_when_wanted() {
    let status = mixed();
    assert!(view(&status).bar(80, Paint { colours: true }).contains("\x1b[32m████████\x1b[0m"));
    assert!(!view(&status).bar(80, PLAIN).contains('\x1b'));
}

#[test]
fn without_a_size_there_is_no_bar() {
    let status = FileStatus { file_size_in_cache: 3 * MIB, bytes_from_cdn: 3 * MIB, ..FileStatus::default() };
    assert_eq!(view(&status).bar(80, PLAIN), "librustc.so  3.0 MiB  0 B/s");
    assert_eq!(view(&status).plain(), "librustc.so: 3.0 MiB, 0 B/s, all from the origin");
}

#[test]
fn waste_never_fills_more_than_is_held() {
    let status = FileStatus {
        file_size: 10 * MIB,
        file_size_in_cache: 5 * MIB,
        bytes_from_lan_peers: 10 * MIB,
        bytes_from_cdn: 10 * MIB,
        ..FileStatus::default()
    };
    let line = view(&status).bar(80, PLAIN);
    assert_eq!(line.matches('█').count() + line.matches('▒').count(), line.matches('·').count(), "{line}");
    assert_eq!(line.matches('░').count(), 0);
}

#[test]
fn plain_lines_say_the_same() {
    let status = mixed();
    let view = View::of("a.iso", &status);
    assert_eq!(
        view.plain(),
        "a.iso: 45 % of 100.0 MiB, 5.0 MiB/s, 57.1 % from peers (LAN 15.0 MiB, group 5.0 MiB), 5.0 MiB from the cache \
         server, 10.0 MiB from the origin"
    );
    let paused = FileStatus { status: FileState::Paused, ..mixed() };
    assert!(View::of("a", &paused).plain().starts_with("a: 45 % of 100.0 MiB, paused, "));
    let reasons = vec!["The mode admits peers.".to_owned(), "The disk is full.".to_owned()];
    let paused = FileStatus { reasons: reasons.clone(), ..paused };
    assert!(View::of("a", &paused).plain().ends_with(". The disk is full."));
    let alone = FileStatus { reasons, status: FileState::Downloading, ..FileStatus::default() };
    assert_eq!(View::of("a", &alone).plain(), "a: 0 B, 0 B/s. The disk is full.");
    let asked = FileStatus { http_connection_count: 1, ..alone };
    assert_eq!(View::of("a", &asked).plain(), "a: 0 B, 0 B/s");
}

#[test]
fn other_work_has_a_bar_of_one_part() {
    let work = |total| Work { name: "a.iso", what: "hashing", done: 25 * MIB, total, rate: MIB };
    assert_eq!(
        work(Some(100 * MIB)).bar().line(60, PLAIN),
        "a.iso  ██████··················  hashing   25 %    1.0 MiB/s"
    );
    assert_eq!(work(None).bar().line(60, PLAIN), "a.iso  hashing 25.0 MiB  1.0 MiB/s");
    assert_eq!(work(Some(100 * MIB)).plain(), "a.iso: hashing 25 % of 100.0 MiB, 1.0 MiB/s");
    assert_eq!(work(Some(0)).plain(), "a.iso: hashing 25.0 MiB, 1.0 MiB/s");
}
