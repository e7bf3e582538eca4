//! The live view, on stderr: redrawn in place on a terminal, a line now and then elsewhere.

mod lines;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::board::Snapshot;

/// Between two lines when stderr is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// Where the terminal does not tell its size.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Shows how a run goes. Dropping it removes what it drew.
#[derive(Debug)]
pub(crate) struct View(Kind);

#[derive(Debug)]
enum Kind {
    Terminal { multi: MultiProgress, rows: Vec<ProgressBar> },
    Plain { last: Option<Instant> },
}

impl View {
    pub(crate) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if std::io::stderr().is_terminal() && !dumb {
            return Self(Kind::Terminal { multi: MultiProgress::new(), rows: Vec::new() });
        }
        Self(Kind::Plain { last: None })
    }

    /// Says what is being done while there is nothing to count.
    pub(crate) fn phase(&mut self, text: &str) {
        match &mut self.0 {
            Kind::Terminal { multi, rows } => show(multi, rows, vec![format!("{text} ...")]),
            Kind::Plain { .. } => say(text),
        }
    }

    /// Shows how far everybody is.
    pub(crate) fn draw(&mut self, now: &Snapshot) {
        match &mut self.0 {
            Kind::Terminal { multi, rows } => {
                let (width, height) = size();
                show(multi, rows, lines::all(now, width, height));
            }
            Kind::Plain { last } => {
                if last.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
                    *last = Some(Instant::now());
                    say(&lines::totals(now));
                }
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Kind::Terminal { multi, .. } = &self.0 {
            // A terminal that is gone needs no cleaning.
            let _ = multi.clear();
        }
    }
}

fn show(multi: &MultiProgress, rows: &mut Vec<ProgressBar>, lines: Vec<String>) {
    while rows.len() > lines.len() {
        if let Some(row) = rows.pop() {
            multi.remove(&row);
        }
    }
    while rows.len() < lines.len() {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        rows.push(multi.add(ProgressBar::new_spinner().with_style(style)));
    }
    for (row, line) in rows.iter().zip(lines) {
        row.set_message(line);
    }
}

/// Columns and rows of the terminal, one less each than there are: some wrap or scroll when the last one is written.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let size = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let (columns, rows) =
        size.map_or(USUAL_SIZE, |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    (columns - 1, rows - 1)
}

fn say(line: &str) {
    // Nobody reads it: no reason to end a run.
    let _ = writeln!(std::io::stderr(), "peerage lab: {line}");
}
