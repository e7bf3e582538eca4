//! Tables: columns as wide as what is in them, the last one cut to what the terminal has left.

use console::{measure_text_width, truncate_str};

/// Space between two columns.
const GAP: usize = 2;
/// The last column is never cut below this.
const MIN_LAST: usize = 12;

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
    /// To the left, and what is too long loses its beginning: the end of a URL says more than its scheme.
    Tail,
}

/// A table without lines.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    /// A line that belongs to the row above.
    Note(String),
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; one cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "as many cells as columns");
        self.rows.push(Row::Cells(cells.into()));
    }

    /// Adds a line below the last row, across all columns.
    pub(crate) fn note(&mut self, text: String) {
        self.rows.push(Row::Note(text));
    }

    /// The lines, head first. `width`: of the terminal; `None`: nothing is cut.
    pub(crate) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| measure_text_width(name)).collect();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(measure_text_width(cell));
            }
        }
        if let (Some(width), Some((last, others))) = (width, widths.split_last_mut()) {
            let taken = others.iter().map(|width| width + GAP).sum::<usize>();
            *last = (*last).min(width.saturating_sub(taken).max(MIN_LAST));
        }
        let head = self.columns.iter().map(|(name, _)| *name);
        let mut lines = vec![self.line(head, &widths)];
        for row in &self.rows {
            lines.push(match row {
                Row::Cells(cells) => self.line(cells.iter().map(String::as_str), &widths),
                Row::Note(text) => width.map_or_else(|| text.clone(), |width| cut(text, width)),
            });
        }
        lines
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), (_, align)) in cells.zip(widths).zip(&self.columns) {
            let cell = if *align == Align::Tail { cut_front(cell, *width) } else { cut(cell, *width) };
            let pad = " ".repeat(width.saturating_sub(measure_text_width(&cell)));
            match align {
                Align::Left | Align::Tail => line.extend([cell.as_str(), &pad]),
                Align::Right => line.extend([pad.as_str(), &cell]),
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Cuts a text to `width` columns of a terminal, with an ellipsis.
pub(crate) fn cut(text: &str, width: usize) -> String {
    // The ellipsis itself needs a column.
    if width == 0 { String::new() } else { truncate_str(text, width, "…").into_owned() }
}

/// Cuts a text to `width` columns from its beginning.
fn cut_front(text: &str, width: usize) -> String {
    if measure_text_width(text) <= width {
        return text.to_owned();
    }
    let mut from = text.len();
    for (at, _) in text.char_indices().rev() {
        if measure_text_width(&text[at..]) + 1 > width {
            break;
        }
        from = at;
    }
    format!("…{}", &text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("ID", Align::Left), ("SIZE", Align::Right), ("SOURCE", Align::Tail)]);
        table.row(["1f".into(), "146.5 MiB".into(), "http://example.org/é/文/file.iso".into()]);
        table.row(["2".into(), "1 B".into(), String::new()]);
        table.note("  because".into());
        table
    }

    #[test]
    fn columns_are_as_wide_as_needed() {
        let expected = [
            "ID       SIZE  SOURCE",
            "1f  146.5 MiB  http://example.org/é/文/file.iso",
            "2         1 B",
            "  because",
        ];
        assert_eq!(table().lines(None), expected);
    }

    #[test]
    fn the_last_column_is_cut_to_the_terminal() {
        let lines = table().lines(Some(35));
        assert_eq!(lines[1], "1f  146.5 MiB  …e.org/é/文/file.iso");
        assert!(lines.iter().all(|line| measure_text_width(line) <= 35), "{lines:?}");
        assert_eq!(table().lines(Some(3))[1], "1f  146.5 MiB  …文/file.iso");
    }

    #[test]
    fn the_end_of_a_url_is_kept() {
        assert_eq!(cut_front("http://a/file.iso", 10), "…/file.iso");
        assert_eq!(cut_front("file.iso", 8), "file.iso");
        assert_eq!(cut_front("文文文", 5), "…文文");
    }
}
