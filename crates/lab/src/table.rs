//! The result as people read it: one row per device, then the totals in words.

use std::fmt::Write as _;

use crate::args::Start;
use crate::bound;
use crate::human::{link, plural, printable, size};
use crate::report::{DeviceReport, Report};
use crate::usage::Usage;

/// What the totals tell beside the report.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// What the file is called.
    pub(crate) name: String,
    pub(crate) uplink: Option<u64>,
    pub(crate) start: Start,
    /// Whether the coordinator had to read the file through the uplink itself.
    pub(crate) ingested: bool,
    pub(crate) coordinator: Usage,
    pub(crate) origin: Usage,
    /// Processors of this machine.
    pub(crate) processors: usize,
}

/// From this share of all processors on, it is no longer the links that a run measures.
const BUSY: f64 = 0.8;

/// A column: its head, whether it is aligned to the left, and a row's cell.
pub(crate) type Column<T> = (&'static str, bool, fn(&T) -> String);

const COLUMNS: [Column<DeviceReport>; 9] = [
    ("DEVICE", false, |device| device.device.to_string()),
    ("ADDRESS", true, |device| device.address.clone()),
    ("ORIGIN", false, |device| size(device.traffic.bytes_from_origin)),
    (CACHE, false, |device| size(device.traffic.bytes_from_cache_server)),
    ("PEERS", false, |device| size(device.traffic.bytes_from_peers)),
    ("% PEERS", false, |device| format!("{:.1}", device.traffic.percent_from_peers)),
    ("SECONDS", false, |device| format!("{:.1}", device.seconds)),
    ("UPLOADED", false, |device| size(device.traffic.bytes_uploaded)),
    ("CORRECT", true, |device| if device.correct { "yes" } else { "no" }.to_owned()),
];
/// Shown only when a connected cache had a part.
const CACHE: &str = "CACHE";

/// Renders both parts, for stdout.
pub(crate) fn render(report: &Report, context: &Context) -> String {
    format!("{}\n{}", devices(report), totals(report, context))
}

fn devices(report: &Report) -> String {
    let caches = report.per_device.iter().any(|device| device.traffic.bytes_from_cache_server > 0);
    let columns = COLUMNS.into_iter().filter(|(head, ..)| caches || *head != CACHE);
    rows(&columns.collect::<Vec<_>>(), &report.per_device)
}

/// A head and a line for each of `all`.
pub(crate) fn rows<T>(columns: &[Column<T>], all: &[T]) -> String {
    let mut lines = vec![String::new(); all.len() + 1];
    for (head, left, cell) in columns {
        let cells = || std::iter::once((*head).to_owned()).chain(all.iter().map(cell));
        let width = cells().map(|cell| cell.len()).max().unwrap_or(0);
        for (line, cell) in lines.iter_mut().zip(cells()) {
            let gap = if line.is_empty() { "" } else { "  " };
            // Writing to a string cannot fail.
            let _ = match left {
                true => write!(line, "{gap}{cell:<width$}"),
                false => write!(line, "{gap}{cell:>width$}"),
            };
        }
    }
    lines.iter().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

fn totals(report: &Report, context: &Context) -> String {
    let mut lines = vec![
        ("file", format!("{}, {}", printable(&context.name), size(report.totals.file_bytes))),
        ("fleet", fleet(report, context)),
        ("origin", origin(report, context)),
        ("from peers", from_peers(report)),
        ("time", report.totals.time()),
        ("bound", limit(report, context)),
        ("cpu", cpu(report, context)),
        ("memory", memory(report)),
    ];
    lines.extend(busy(report, context).map(|why| ("careful", why)));
    lines.extend(report.per_device.iter().filter_map(trouble).map(|why| ("failed", why)));
    if let Some(why) = no_peers(report) {
        lines.push(("no peers", why));
    }
    lines.push(("result", result(report)));
    let mut text = String::new();
    for (head, line) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{head:<11} {line}");
    }
    text
}

fn fleet(report: &Report, context: &Context) -> String {
    let uplink = context.uplink.map_or_else(|| "unlimited".to_owned(), link);
    let start = match context.start {
        _ if report.totals.devices == 1 => String::new(),
        Start::Together => ", all at once".to_owned(),
        Start::FirstAlone => ", the first alone".to_owned(),
        Start::Every(interval) => format!(", one every {} s", interval.as_secs_f64()),
    };
    format!("{}{start}; uplink {uplink}", plural(report.totals.devices, "device", "devices"))
}

fn origin(report: &Report, context: &Context) -> String {
    let mut text = report.totals.origin();
    if context.ingested {
        text.push_str(", the coordinator's own reading included");
    }
    text
}

fn from_peers(report: &Report) -> String {
    let peers: u64 = report.per_device.iter().map(|device| device.traffic.bytes_from_peers).sum();
    let wasted: u64 = report.per_device.iter().map(|device| device.traffic.bytes_wasted).sum();
    let mut text = format!("{}, {}", report.totals.peers(), size(peers));
    if wasted > 0 {
        let _ = write!(text, "; {} received in vain", size(wasted));
    }
    text
}

fn limit(report: &Report, context: &Context) -> String {
    let words = bound::in_words(context.start, context.uplink);
    report.totals.bound_seconds.map_or_else(|| words.to_owned(), |bound| format!("{bound:.1} s = {words}"))
}

fn cpu(report: &Report, context: &Context) -> String {
    let agents: f64 = report.per_device.iter().map(|device| device.cpu_seconds).sum();
    let delivered = report.per_device.iter().filter(|device| device.correct).count() as f64;
    let gib = delivered * report.totals.file_bytes as f64 / f64::from(1 << 30);
    let per_gib = if gib > 0.0 { format!(" ({:.1} s/GiB delivered)", agents / gib) } else { String::new() };
    let (coordinator, origin) = (context.coordinator.cpu_seconds, context.origin.cpu_seconds);
    format!("agents {agents:.1} s{per_gib}, coordinator {coordinator:.1} s, origin {origin:.1} s")
}

/// Says so when the machine held the fleet back: devices of a real one do not share processors.
fn busy(report: &Report, context: &Context) -> Option<String> {
    let agents: f64 = report.per_device.iter().map(|device| device.cpu_seconds).sum();
    let used = agents + context.coordinator.cpu_seconds + context.origin.cpu_seconds;
    let share = used / (report.totals.seconds * context.processors as f64);
    // Starting up is counted in the time used, so a very short run says nothing.
    (report.totals.seconds >= 1.0 && share >= BUSY).then(|| {
        let processors = context.processors as u64;
        let share = (share * 100.0).min(100.0);
        format!("{} busy {share:.0} %: a real fleet is faster", plural(processors, "processor", "processors"))
    })
}

fn memory(report: &Report) -> String {
    let largest = report.per_device.iter().map(|device| device.peak_rss_bytes).max().unwrap_or(0);
    format!("{} in the largest agent", size(largest))
}

fn trouble(device: &DeviceReport) -> Option<String> {
    device.error.as_ref().map(|why| format!("device {}: {}", device.device, printable(why)))
}

/// Why nothing came from peers, where something could have.
fn no_peers(report: &Report) -> Option<String> {
    if report.totals.devices < 2 || report.totals.percent_from_peers > 0.0 {
        return None;
    }
    let told = report.per_device.iter().find(|device| !device.reasons.is_empty())?;
    Some(format!("device {}: {}", told.device, printable(&told.reasons.join("; "))))
}

fn result(report: &Report) -> String {
    let right = report.per_device.iter().filter(|device| device.correct).count();
    match (report.totals.all_correct, report.totals.devices) {
        (true, 1) => "the device has the right file".to_owned(),
        (true, devices) => format!("all {devices} devices have the right file"),
        (false, devices) => {
            format!("only {right} of {} the right file", plural(devices, "device has", "devices have"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{device, measured};

    fn context() -> Context {
        Context {
            name: "update.bin".to_owned(),
            uplink: Some(25_000_000),
            start: Start::Together,
            ingested: false,
            coordinator: Usage { cpu_seconds: 0.25, peak_rss: 1 },
            origin: Usage { cpu_seconds: 1.0, peak_rss: 1 },
            processors: 4,
        }
    }

    #[test]
    fn reads_well_on_a_narrow_terminal() {
        let devices = vec![device(1, 700_000, 300_000, true), device(10, 323_456, 676_544, true)];
        let text = render(&Report::new(measured(devices)), &context());
        let expected = "\
DEVICE  ADDRESS         ORIGIN      PEERS  % PEERS  SECONDS   UPLOADED  CORRECT
     1  127.77.0.10  683.6 KiB  293.0 KiB     30.0      1.5  683.6 KiB  yes
    10  127.77.0.19  315.9 KiB  660.7 KiB     67.7     15.0  315.9 KiB  yes

file        update.bin, 976.6 KiB
fleet       2 devices, all at once; uplink 200 Mbit/s
origin      999.5 KiB sent = 1.02 copies of the file
from peers  48.8 % of what devices received, 953.7 KiB
time        1.1 s = 1.10 × the bound
bound       1.0 s = file / uplink (the devices' links are loopback: no limit)
cpu         agents 1.0 s (536.9 s/GiB delivered), coordinator 0.2 s, origin 1.0 s
memory      28.6 MiB in the largest agent
result      all 2 devices have the right file
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_machine_that_is_too_small_is_told() {
        let devices = (1..=4).map(|number| device(number, 250_000, 750_000, true)).collect();
        let report = Report::new(measured(devices));
        // 4 × 0.5 + 0.25 + 1 s of processor time in 1.1 s.
        let small = Context { processors: 3, ..context() };
        assert!(
            render(&report, &small).contains("careful     3 processors busy 98 %: a real fleet is faster\n")
        );
        assert!(!render(&report, &context()).contains("careful"));
    }

    #[test]
    fn says_what_went_wrong_and_why_no_peer_helped() {
        let mut failed = device(2, 0, 0, false);
        failed.outcome.file = Err("no bytes for 60 s".to_owned());
        let text = render(&Report::new(measured(vec![device(1, 1_000_000, 0, true), failed])), &context());
        assert!(text.contains("failed      device 2: no bytes for 60 s\n"), "{text}");
        assert!(text.contains("no peers    device 1: Peers are used (lan).\n"), "{text}");
        assert!(text.ends_with("result      only 1 of 2 devices have the right file\n"), "{text}");
    }

    #[test]
    fn the_coordinators_own_reading_is_told() {
        let mut measured = measured(vec![device(1, 1_000_000, 0, true)]);
        measured.origin_bytes = 2_000_000;
        let ingested = Context { ingested: true, ..context() };
        let text = render(&Report::new(measured), &ingested);
        assert!(
            text.contains("= 2.00 copies of the file, the coordinator's own reading included\n"),
            "{text}"
        );
        assert!(text.ends_with("result      the device has the right file\n"), "{text}");
    }
}
