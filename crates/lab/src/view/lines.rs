//! What the view shows, as text: pure functions of a snapshot and a width.

use crate::board::{Seen, Snapshot, State};
use crate::human::{rate, size};

/// More devices than this are shown as a grid.
const MAX_BARS: usize = 20;
/// Cells of one row of the grid, at most.
const MAX_CELLS: usize = 100;
const MIN_BAR: usize = 4;
/// From empty to full.
const LEVELS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const FAILED: char = '✗';

/// All lines, at most `height`, each at most `width` characters: the devices, then the totals.
pub(super) fn all(now: &Snapshot, width: usize, height: usize) -> Vec<String> {
    let room = height.saturating_sub(1);
    let mut lines = if now.devices.len() <= room.min(MAX_BARS) { bars(now, width) } else { grid(now, width) };
    lines.truncate(room);
    lines.push(totals(now));
    lines.iter().map(|line| line.chars().take(width).collect()).collect()
}

/// The whole fleet in one line.
pub(super) fn totals(now: &Snapshot) -> String {
    let (from_http, from_peers) = now.received();
    let copies = if now.size == 0 { 0.0 } else { now.origin_bytes as f64 / now.size as f64 };
    format!(
        "{:.1} s  {}/{} done  {}  origin {} ({copies:.2} copies)  peers {:.1} %",
        now.elapsed.as_secs_f64(),
        now.ended(),
        now.devices.len(),
        rate(now.rate()),
        size(now.origin_bytes),
        percent(from_peers, from_http + from_peers),
    )
}

fn bars(now: &Snapshot, width: usize) -> Vec<String> {
    let digits = now.devices.len().to_string().len();
    let line = |(number, seen): (usize, &Seen)| {
        let tail = tail(seen, now.size);
        let bar = width.saturating_sub(digits + tail.chars().count() + 2).max(MIN_BAR);
        format!("{number:>digits$} {} {tail}", bar_of(seen, now.size, bar))
    };
    (1..).zip(&now.devices).map(line).collect()
}

/// Bytes from peers dark, bytes from HTTP lighter, missing ones dotted.
fn bar_of(seen: &Seen, whole: u64, width: usize) -> String {
    let filled = (fraction(seen, whole) * width as f64) as usize;
    let peers = percent(seen.from_peers, seen.from_http + seen.from_peers) / 100.0;
    let dark = (peers * filled as f64).round() as usize;
    let parts = [("█", dark), ("▒", filled.saturating_sub(dark)), ("·", width.saturating_sub(filled))];
    parts.iter().map(|(cell, count)| cell.repeat(*count)).collect()
}

fn tail(seen: &Seen, whole: u64) -> String {
    let end = match seen.state {
        State::Waiting => "waiting".to_owned(),
        State::Running => rate(seen.rate),
        State::Done(took) => format!("in {:.1} s", took.as_secs_f64()),
        State::Failed => "failed".to_owned(),
    };
    let percent = (fraction(seen, whole) * 100.0) as u64;
    let (origin, peers) = (size(seen.from_http), size(seen.from_peers));
    format!("{percent:>3}%  origin {origin:>10}  peers {peers:>10}  {end:>12}")
}

fn grid(now: &Snapshot, width: usize) -> Vec<String> {
    let digits = now.devices.len().to_string().len();
    let room = width.saturating_sub(digits + 1).clamp(10, MAX_CELLS);
    // Whole tens, so that a device is found by counting.
    let cells = room - room % 10;
    let row = |(index, row): (usize, &[Seen])| {
        let row: String = row.iter().map(|seen| cell(seen, now.size)).collect();
        format!("{:>digits$} {row}", index * cells + 1)
    };
    now.devices.chunks(cells).enumerate().map(row).collect()
}

fn cell(seen: &Seen, whole: u64) -> char {
    let full = LEVELS.len() - 1;
    let level = match seen.state {
        State::Failed => return FAILED,
        State::Waiting => 0,
        State::Done(_) => full,
        // Neither empty nor full while it runs.
        State::Running => ((fraction(seen, whole) * full as f64) as usize).clamp(1, full - 1),
    };
    LEVELS.get(level).copied().unwrap_or(FAILED)
}

fn fraction(seen: &Seen, whole: u64) -> f64 {
    match (seen.state, whole) {
        (State::Done(_), _) => 1.0,
        (_, 0) => 0.0,
        _ => (seen.held as f64 / whole as f64).min(1.0),
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn snapshot(devices: Vec<Seen>) -> Snapshot {
        let elapsed = Duration::from_millis(3210);
        Snapshot { size: 1_000_000_000, elapsed, origin_bytes: 250_000_000, devices }
    }

    fn running(held: u64) -> Seen {
        Seen { state: State::Running, held, from_http: held / 4, from_peers: held / 4 * 3, rate: 12_340_000 }
    }

    #[test]
    fn a_line_per_device_fits_whatever_the_width() {
        let done = Seen { state: State::Done(Duration::from_millis(2500)), ..running(1_000_000_000) };
        let failed = Seen { state: State::Failed, ..Seen::default() };
        let now = snapshot(vec![running(500_000_000), done, Seen::default(), failed]);
        let lines = all(&now, 79, 24);
        let bar = "█".repeat(8) + &"▒".repeat(2) + &"·".repeat(11);
        let first = format!("1 {bar}  50%  origin  119.2 MiB  peers  357.6 MiB    11.8 MiB/s");
        assert_eq!(lines[0], first);
        assert!(
            lines[1].ends_with("100%  origin  238.4 MiB  peers  715.3 MiB      in 2.5 s"),
            "{}",
            lines[1]
        );
        assert!(lines[2].ends_with("waiting") && lines[3].ends_with("failed"), "{lines:?}");
        assert_eq!(lines[4], "3.2 s  2/4 done  11.8 MiB/s  origin 238.4 MiB (0.25 copies)  peers 75.0 %");
        for width in [0, 10, 40, 79, 119, 500] {
            for line in all(&now, width, 24) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn many_devices_become_a_grid() {
        let devices = (0..250).map(|index| running(index * 4_000_000));
        let mut devices: Vec<_> = devices.collect();
        devices[0] = Seen::default();
        devices[1] = Seen { state: State::Failed, ..Seen::default() };
        devices[249].state = State::Done(Duration::ZERO);
        let lines = all(&snapshot(devices), 79, 24);
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("  1 ·✗▁▁") && lines[3].ends_with('█'), "{lines:?}");
        assert_eq!(lines[1].chars().take(4).collect::<String>(), " 71 ");
        assert_eq!(lines[3].chars().count(), 4 + 40);
    }

    #[test]
    fn a_low_terminal_still_shows_the_totals() {
        let now = snapshot(vec![running(500_000_000); 12]);
        assert_eq!(all(&now, 79, 13).len(), 13);
        let low = all(&now, 79, 12);
        assert_eq!(low[0], format!(" 1 {}", "▄".repeat(12)));
        assert_eq!(low[1], totals(&now));
        assert_eq!(all(&now, 79, 1), [totals(&now)]);
    }

    #[test]
    fn an_empty_file_is_shown() {
        let now = Snapshot { size: 0, devices: vec![running(0)], ..Snapshot::default() };
        assert!(all(&now, 79, 24)[0].contains("  0%"));
    }
}
