//! `peerage status`: one row per file, with its peers and reasons if they are asked for.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use console::Term;
use peerage_api::agent::{FileState, FileStatus, PeerStatus, PeerType};
use peerage_api::client::AgentClient;

use crate::daemon::Signals;
use crate::human::{percent, rate, size, whole_percent};
use crate::output::{self, printable};
use crate::shares::Shares;
use crate::socket::{SocketArgs, reach};
use crate::table::{Align, Table};

/// Between two looks of --watch.
const EVERY: Duration = Duration::from_secs(1);
/// A terminal at least this wide shows bytes by source, a narrower one percents.
const WIDE: usize = 110;
/// How much of an id names it in a table.
pub(crate) const SHORT: usize = 10;

/// Show the files that are downloaded, held and shared
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One file: its content id or the beginning of it
    file_id: Option<String>,
    /// Show the peers of each file
    #[arg(long)]
    peers: bool,
    /// Show it again every second
    #[arg(long)]
    watch: bool,
    /// Print it as JSON; with --watch one line each time
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// The terminal's width; `None` when stdout is none.
pub(crate) fn width() -> Option<usize> {
    let term = Term::stdout();
    io::stdout().is_terminal().then(|| term.size_checked().map_or(80, |(_, columns)| usize::from(columns)))
}

pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let client = args.socket.client();
    if !args.watch {
        let rows = client.status(args.file_id.as_deref(), args.peers).await.map_err(reach)?;
        if args.json {
            output::json(&rows)?;
        } else {
            for line in shown(&rows, &args, &client).await {
                output::line(&line)?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (mut signals, mut every) = (Signals::new()?, tokio::time::interval(EVERY));
    let mut screen = Screen::default();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = signals.next() => return Ok(ExitCode::SUCCESS),
        }
        let rows = client.status(args.file_id.as_deref(), args.peers).await.map_err(reach)?;
        if args.json {
            output::json_line(&rows)?;
        } else {
            screen.show(&shown(&rows, &args, &client).await)?;
        }
    }
}

/// The files, and below them what concerns all of them.
async fn shown(rows: &[FileStatus], args: &StatusArgs, client: &AgentClient) -> Vec<String> {
    let mut lines = lines(rows, args, width());
    // The files have been told; whatever else cannot be is found by `doctor`.
    let troubles = crate::config::troubles(client).await.unwrap_or_default();
    if !troubles.is_empty() {
        lines.push(String::new());
        lines.extend(troubles);
    }
    lines
}

/// What was shown last, to be replaced in place.
#[derive(Debug, Default)]
struct Screen {
    lines: usize,
}

impl Screen {
    fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let term = Term::stdout();
        let mut text = String::new();
        let mut lines = lines;
        if term.is_term() {
            // What has scrolled off the screen cannot be replaced.
            let height = usize::from(term.size().0).saturating_sub(1).max(1);
            lines = lines.get(..height).unwrap_or(lines);
            if self.lines > 0 {
                text = format!("\x1b[{}A\r", self.lines);
            }
            text.push_str("\x1b[J");
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        if !term.is_term() {
            text.push('\n');
        }
        self.lines = lines.len();
        output::bytes(text.as_bytes())
    }
}

fn lines(rows: &[FileStatus], args: &StatusArgs, width: Option<usize>) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no files: nothing is being downloaded and the cache is empty".to_owned()];
    }
    let mut lines = files(rows, width);
    for row in rows {
        let reasons = args.file_id.is_some() && !row.reasons.is_empty();
        if !(args.peers || reasons) {
            continue;
        }
        lines.push(String::new());
        if args.peers {
            lines.extend(peers(row, width));
        }
        if reasons {
            if args.peers {
                lines.push(String::new());
            }
            lines.extend(row.reasons.iter().map(|reason| format!("- {}", printable(reason))));
        }
    }
    lines
}

fn files(rows: &[FileStatus], width: Option<usize>) -> Vec<String> {
    use Align::{Left, Right, Tail};
    let id = |row: &FileStatus| printable(row.file_id.get(..SHORT).unwrap_or(&row.file_id)).into_owned();
    let source = |row: &FileStatus| printable(&row.source_url).into_owned();
    if width.is_none_or(|width| width >= WIDE) {
        let mut table = Table::new(&[
            ("ID", Left),
            ("SIZE", Right),
            ("STATE", Left),
            ("PEERS", Right),
            ("CACHE", Right),
            ("ORIGIN", Right),
            ("DOWN", Right),
            ("UP", Right),
            ("CONN", Right),
            ("SOURCE", Tail),
        ]);
        for row in rows {
            let shares = Shares::of(row);
            table.row([
                id(row),
                size(row.file_size),
                state(row),
                some_size(shares.peers()),
                some_size(shares.cache_server),
                some_size(shares.origin),
                some_rate(down(row)),
                some_rate(row.upload_rate),
                connections(row),
                source(row),
            ]);
        }
        return table.lines(width);
    }
    let mut table = Table::new(&[
        ("ID", Left),
        ("SIZE", Right),
        ("STATE", Left),
        ("PEERS", Right),
        ("RATE", Right),
        ("CONN", Right),
        ("SOURCE", Tail),
    ]);
    for row in rows {
        let shares = Shares::of(row);
        let moving = match (down(row), row.upload_rate) {
            (0, 0) => String::new(),
            (0, up) => format!("↑{}", rate(up)),
            (down, _) => format!("↓{}", rate(down)),
        };
        let peers = match shares.total() {
            0 => String::new(),
            total => format!("{} %", percent(shares.peers(), total)),
        };
        table.row([id(row), size(row.file_size), state(row), peers, moving, connections(row), source(row)]);
    }
    table.lines(width)
}

fn state(row: &FileStatus) -> String {
    let percent = whole_percent(row.file_size_in_cache, row.file_size);
    let pinned = if row.is_pinned { ", pinned" } else { "" };
    match row.status {
        FileState::Downloading => format!("{percent} %"),
        FileState::Paused => format!("paused {percent} %"),
        FileState::Complete => format!("complete{pinned}"),
        FileState::Caching => format!("shared{pinned}"),
    }
}

/// The rate at which it comes in; what has been is nobody's concern any more.
fn down(row: &FileStatus) -> u64 {
    if row.status == FileState::Downloading { row.download_rate } else { 0 }
}

fn some_size(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { size(bytes) }
}

fn some_rate(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { rate(bytes) }
}

fn connections(row: &FileStatus) -> String {
    format!("{}/{}", row.connected_peers, row.num_peers)
}

fn peers(row: &FileStatus, width: Option<usize>) -> Vec<String> {
    use Align::{Left, Right};
    let id = printable(row.file_id.get(..SHORT).unwrap_or(&row.file_id)).into_owned();
    if row.peers.is_empty() {
        return vec![format!("{id}: no peers")];
    }
    let mut table = Table::new(&[
        ("PEER", Left),
        ("ADDRESS", Left),
        ("KIND", Left),
        ("FROM", Right),
        ("TO", Right),
        ("STATE", Left),
    ]);
    for peer in &row.peers {
        table.row([
            peer.peer_id.short(),
            peer.ip.to_string(),
            kind(peer.peer_type).to_owned(),
            some_size(peer.bytes_received),
            some_size(peer.bytes_sent),
            peer_state(peer),
        ]);
    }
    let mut lines = vec![format!("{id}:")];
    lines.extend(
        table.lines(width.map(|width| width.saturating_sub(2))).iter().map(|line| format!("  {line}")),
    );
    lines
}

fn peer_state(peer: &PeerStatus) -> String {
    let mut state = match (peer.connection_established, peer.download_rate_bytes, peer.upload_rate_bytes) {
        (false, ..) => "not connected".to_owned(),
        (true, 0, 0) => "connected".to_owned(),
        (true, down, 0) => format!("↓{}", rate(down)),
        (true, 0, up) => format!("↑{}", rate(up)),
        (true, down, up) => format!("↓{} ↑{}", rate(down), rate(up)),
    };
    if peer.relayed {
        state.push_str(" through the relay");
    }
    if let Some(note) = &peer.note {
        state.push_str(": ");
        state.push_str(&printable(note));
    }
    state
}

const fn kind(kind: PeerType) -> &'static str {
    match kind {
        PeerType::Lan => "LAN",
        PeerType::Cdn => "origin",
        PeerType::Internet => "Internet",
        PeerType::Group => "group",
        PeerType::CacheServer => "cache",
        PeerType::LinkLocal => "link-local",
    }
}

#[cfg(test)]
mod tests;
