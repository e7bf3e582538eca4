//! Tables of figures, printed and kept in `docs/performance.md`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// One bench's results.
#[derive(Debug)]
pub(crate) struct Section {
    /// Which part of the page it replaces.
    pub(crate) key: &'static str,
    pub(crate) title: String,
    pub(crate) command: String,
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
}

impl Section {
    /// The section as Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("## {}\n\n{}, {}.\n\n`{}`\n\n", self.title, today(), machine(), self.command);
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        text += &line(self.head.clone());
        text += &line(vec!["---"; self.head.len()]);
        for row in &self.rows {
            text += &line(row.iter().map(String::as_str).collect());
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text.push('\n');
        text
    }

    /// Puts the section into the page, in place of its former self.
    pub(crate) fn write(&self, page: &Path) -> io::Result<()> {
        let old = fs::read_to_string(page)?;
        let (begin, end) = (format!("<!-- bench {} -->\n", self.key), format!("<!-- end {} -->\n", self.key));
        let body = format!("{begin}{}{end}", self.text());
        let new = match (old.find(&begin), old.find(&end)) {
            (Some(from), Some(to)) if from < to => {
                format!("{}{body}{}", &old[..from], &old[to + end.len()..])
            }
            _ => format!("{}\n{body}", old.trim_end()),
        };
        fs::write(page, new)
    }
}

fn today() -> String {
    let date = Command::new("date").arg("+%Y-%m-%d").output().ok();
    date.and_then(|out| String::from_utf8(out.stdout).ok())
        .map_or_else(String::new, |text| text.trim().to_owned())
}

/// Processor, cores, memory, kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kib: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {model}, {} GiB, Linux {}", kib.div_ceil(1 << 20), kernel.trim())
}

/// The middle of some figures; of an even number the mean of the middle two.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// `median (least-greatest)`.
pub(crate) fn spread(figures: &[f64], digits: usize) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$}-{most:.digits$})", median(figures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert_eq!(spread(&[1.0, 3.0, 2.0], 1), "2.0 (1.0-3.0)");
    }

    #[test]
    fn a_section_replaces_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("p.md");
        fs::write(&page, "# Head\n").unwrap();
        let mut section = Section {
            key: "x",
            title: "One".into(),
            command: "c".into(),
            head: vec!["a"],
            rows: vec![vec!["1".into()]],
            notes: vec![],
        };
        section.write(&page).unwrap();
        section.title = "Two".into();
        section.write(&page).unwrap();
        let text = fs::read_to_string(&page).unwrap();
        assert!(
            text.starts_with("# Head\n") && text.contains("## Two") && !text.contains("## One"),
            "{text}"
        );
        assert_eq!(text.matches("<!-- bench x -->").count(), 1);
    }
}
