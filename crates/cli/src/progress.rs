//! Progress on stderr: a live display on a terminal, a plain line every few seconds elsewhere.
//!
//! A download's bar is split by where its bytes came from, with a character and a colour for each source.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use console::{Style, Term, measure_text_width};
use indicatif::{ProgressBar, ProgressStyle};
use peerage_api::agent::{FileState, FileStatus};

use crate::human::{clock, rate, size, whole_percent};
use crate::output::{self, BARS};
use crate::shares::Shares;
use crate::table::cut;

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Columns assumed when the terminal does not tell.
const WIDTH: usize = 80;

/// Progress of one piece of work.
#[derive(Debug)]
pub(crate) struct Progress {
    name: String,
    began: Instant,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Live(ProgressBar),
    Plain { last: Instant },
}

impl Progress {
    /// Begins to show the progress of the file `name`.
    pub(crate) fn new(name: &str) -> Self {
        let began = Instant::now();
        let shown = if io::stderr().is_terminal() {
            let bar = BARS.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{prefix}\n{msg}") {
                bar.set_style(style);
            }
            Shown::Live(bar)
        } else {
            Shown::Plain { last: began }
        };
        Self { name: output::printable(name).into_owned(), began, shown }
    }

    /// Shows how far a download is.
    pub(crate) fn download(&mut self, status: &FileStatus) {
        let view = View::of(&self.name, status);
        self.shown.show(|width, paint| (view.bar(width, paint), view.legend(width, paint)), || view.plain());
    }

    /// Shows how far other work is: `done` of `total` bytes, which may be unknown; `what` says what is done to them.
    pub(crate) fn bytes(&mut self, what: &str, done: u64, total: Option<u64>) {
        let elapsed = self.began.elapsed().as_secs_f64().max(0.001);
        let work = Work { name: &self.name, what, done, total, rate: (done as f64 / elapsed) as u64 };
        let bar = work.bar();
        self.shown.show(|width, paint| (bar.line(width, paint), String::new()), || work.plain());
    }

    /// How long it has been shown.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Shown {
    fn show(&mut self, live: impl FnOnce(usize, Paint) -> (String, String), plain: impl FnOnce() -> String) {
        match self {
            Self::Live(bar) => {
                let (first, second) = live(width(), Paint { colours: console::colors_enabled_stderr() });
                bar.set_prefix(first);
                bar.set_message(second);
                bar.tick();
            }
            Self::Plain { last } if last.elapsed() >= PLAIN_EVERY => {
                *last = Instant::now();
                output::note(&plain());
            }
            Self::Plain { .. } => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Live(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn width() -> usize {
    // The last column stays free: some terminals wrap when it is written.
    Term::stderr().size_checked().map_or(WIDTH, |(_, columns)| usize::from(columns)).saturating_sub(1)
}

/// Whether colours are wanted.
#[derive(Debug, Clone, Copy)]
struct Paint {
    colours: bool,
}

impl Paint {
    fn paint(self, style: Style, text: &str) -> String {
        if self.colours { style.force_styling(true).apply_to(text).to_string() } else { text.to_owned() }
    }
}

/// A part of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Peers,
    Cache,
    Origin,
    /// Was there before.
    Held,
}

impl Part {
    const fn character(self) -> char {
        match self {
            Self::Peers => '█',
            Self::Cache => '▓',
            Self::Origin => '▒',
            Self::Held => '░',
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Peers => Style::new().green(),
            Self::Cache => Style::new().cyan(),
            Self::Origin => Style::new().yellow(),
            Self::Held => Style::new().blue(),
        }
    }
}

/// A name, a bar and what is said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bar {
    name: String,
    /// `None`: the size is not known, there is nothing to draw.
    parts: Option<(u64, Vec<(Part, u64)>)>,
    right: String,
}

impl Bar {
    /// The bar in one line of `width` columns. The name gives way first.
    fn line(&self, width: usize, paint: Paint) -> String {
        const MIN_BAR: usize = 10;
        const MAX_NAME: usize = 32;
        let right = measure_text_width(&self.right);
        let left = width.saturating_sub(right + 2);
        let Some((size, parts)) = &self.parts else {
            return format!("{}  {}", cut(&self.name, left), self.right);
        };
        let room = left.saturating_sub(MIN_BAR + 2).min(MAX_NAME);
        let name = if room < 4 { String::new() } else { cut(&self.name, room) + "  " };
        let bar = segments(*size, parts, left.saturating_sub(measure_text_width(&name)), paint);
        cut(&format!("{name}{bar}  {}", self.right), width)
    }
}

/// Draws the parts of `size` in `width` columns. Each part has its columns to within one; together they fill what is
/// there, and never more than that.
fn segments(size: u64, parts: &[(Part, u64)], width: usize, paint: Paint) -> String {
    let mut line = String::new();
    let (mut sum, mut drawn) = (0u64, 0usize);
    for (part, bytes) in parts {
        sum = sum.saturating_add(*bytes).min(size);
        let end = if size == 0 { 0 } else { (u128::from(sum) * width as u128 / u128::from(size)) as usize };
        if end > drawn {
            let text: String = std::iter::repeat_n(part.character(), end - drawn).collect();
            line.push_str(&paint.paint(part.style(), &text));
            drawn = end;
        }
    }
    let rest: String = std::iter::repeat_n('·', width - drawn).collect();
    line.push_str(&paint.paint(Style::new().dim(), &rest));
    line
}

/// A download as it is shown.
#[derive(Debug)]
struct View<'a> {
    name: &'a str,
    status: &'a FileStatus,
    now: Shares,
}

impl<'a> View<'a> {
    fn of(name: &'a str, status: &'a FileStatus) -> Self {
        Self { name, status, now: Shares::of(status) }
    }

    fn bar(&self, width: usize, paint: Paint) -> String {
        let FileStatus { file_size, file_size_in_cache: held, .. } = *self.status;
        let right = if file_size == 0 {
            format!("{}  {}", size(held), self.speed())
        } else {
            let percent = whole_percent(held, file_size);
            // Fixed widths: a bar that grows and shrinks with the numbers beside it is hard to read.
            format!("{percent:>3} %  {:>11}  {:>7}", self.speed(), self.remaining())
        };
        let parts = (file_size > 0).then(|| (file_size, self.parts(held)));
        Bar { name: self.name.to_owned(), parts, right }.line(width, paint)
    }

    /// What is held, by source. Counters also count bytes thrown away, so they are scaled to what is held.
    fn parts(&self, held: u64) -> Vec<(Part, u64)> {
        let total = self.now.total();
        let scale = |bytes: u64| match total > held {
            true => (u128::from(bytes) * u128::from(held) / u128::from(total)) as u64,
            false => bytes,
        };
        vec![
            (Part::Held, held.saturating_sub(total)),
            (Part::Peers, scale(self.now.peers())),
            (Part::Cache, scale(self.now.cache_server)),
            (Part::Origin, scale(self.now.origin)),
        ]
    }

    fn speed(&self) -> String {
        match self.status.status {
            FileState::Paused => "paused".to_owned(),
            _ => rate(self.status.download_rate),
        }
    }

    /// Why nothing comes: the newest reason, if the download is paused or nobody is being asked.
    fn standstill(&self) -> Option<&str> {
        let FileStatus { connected_peers, http_connection_count, cache_server_connection_count, .. } =
            *self.status;
        let asked = connected_peers > 0 || http_connection_count > 0 || cache_server_connection_count > 0;
        let stands = match self.status.status {
            FileState::Paused => true,
            FileState::Downloading => self.status.download_rate == 0 && !asked,
            _ => false,
        };
        self.status.reasons.last().filter(|_| stands).map(String::as_str)
    }

    fn remaining(&self) -> String {
        let left = self.status.file_size.saturating_sub(self.status.file_size_in_cache);
        match self.status.download_rate {
            0 => String::new(),
            rate => clock(Duration::from_secs(left.div_ceil(rate))),
        }
    }

    /// Which part is which: `█ peers 143.7 MiB (3 of 4 connected)  ▒ origin 2.8 MiB`.
    fn legend(&self, width: usize, paint: Paint) -> String {
        if let Some(why) = self.standstill() {
            return cut(why, width);
        }
        let mut parts = Vec::new();
        let held = self.status.file_size_in_cache.saturating_sub(self.now.total());
        let connected = match (self.status.connected_peers, self.status.num_peers) {
            (0, 0) => String::new(),
            (connected, known) => format!(" ({connected} of {} connected)", known.max(connected)),
        };
        let peers = self.now.peers();
        for (part, bytes, name, more) in [
            (Part::Held, held, "held before", ""),
            (Part::Peers, peers, "peers", connected.as_str()),
            (Part::Cache, self.now.cache_server, "cache server", ""),
            (Part::Origin, self.now.origin, "origin", ""),
        ] {
            if bytes > 0 || !more.is_empty() {
                let mark = paint.paint(part.style(), &part.character().to_string());
                parts.push(format!("{mark} {name} {}{more}", size(bytes)));
            }
        }
        cut(&parts.join("   "), width)
    }

    /// For logs: `librustc.so: 45 % of 146.5 MiB, 12.3 MiB/s, 98.1 % from peers (LAN 64.0 MiB)`.
    fn plain(&self) -> String {
        let FileStatus { file_size, file_size_in_cache: held, .. } = *self.status;
        let mut line = match file_size {
            0 => format!("{}: {}", self.name, size(held)),
            _ => format!("{}: {} % of {}", self.name, whole_percent(held, file_size), size(file_size)),
        };
        let _ = write!(line, ", {}", self.speed());
        let sources = self.now.sentence();
        if !sources.is_empty() {
            let _ = write!(line, ", {sources}");
        }
        if let Some(why) = self.standstill() {
            let _ = write!(line, ". {why}");
        }
        line
    }
}

/// Other work than a download.
#[derive(Debug)]
struct Work<'a> {
    name: &'a str,
    what: &'a str,
    done: u64,
    total: Option<u64>,
    rate: u64,
}

impl Work<'_> {
    fn bar(&self) -> Bar {
        let right = match self.total.filter(|total| *total > 0) {
            None => format!("{} {}  {}", self.what, size(self.done), rate(self.rate)),
            Some(total) => {
                format!("{}  {:>3} %  {:>11}", self.what, whole_percent(self.done, total), rate(self.rate))
            }
        };
        let parts =
            self.total.filter(|total| *total > 0).map(|total| (total, vec![(Part::Peers, self.done)]));
        Bar { name: self.name.to_owned(), parts, right }
    }

    fn plain(&self) -> String {
        let done = match self.total.filter(|total| *total > 0) {
            None => size(self.done),
            Some(total) => format!("{} % of {}", whole_percent(self.done, total), size(total)),
        };
        format!("{}: {} {done}, {}", self.name, self.what, rate(self.rate))
    }
}

#[cfg(test)]
mod tests;
