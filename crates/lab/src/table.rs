//! The result as people read it: one row per device, then the totals in words.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use peerage_policy::units::{about_rate, about_size};

use crate::args::Start;
use crate::bound;
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
}

/// Renders both parts, for stdout.
pub(crate) fn render(report: &Report, context: &Context) -> String {
    format!("{}\n\n{}", devices(report), totals(report, context))
}

fn devices(report: &Report) -> String {
    let caches = report.per_device.iter().any(|device| device.bytes_from_cache_server > 0);
    let mut head = vec!["device", "address", "origin", "peers", "% peers", "seconds", "uploaded", "correct"];
    if caches {
        head.insert(3, "cache");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    for device in &report.per_device {
        let mut row = vec![
            device.device.to_string(),
            device.address.clone(),
            about_size(device.bytes_from_origin),
            about_size(device.bytes_from_peers),
            format!("{:.1}", device.percent_from_peers),
            format!("{:.1}", device.seconds),
            about_size(device.bytes_uploaded),
            if device.correct { "yes" } else { "no" }.to_owned(),
        ];
        if caches {
            row.insert(3, about_size(device.bytes_from_cache_server));
        }
        table.add_row(row);
    }
    let columns = table.column_iter().count();
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index + 1 == columns { 0 } else { 2 }));
        let words = index == 1 || index + 1 == columns;
        column.set_cell_alignment(if words { CellAlignment::Left } else { CellAlignment::Right });
    }
    table.trim_fmt()
}

fn totals(report: &Report, context: &Context) -> String {
    let mut lines = vec![
        ("file", file(report, context)),
        ("origin", origin(report, context)),
        ("from peers", from_peers(report)),
        ("time", time(report, context)),
        ("cost", cost(report, context)),
    ];
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

fn file(report: &Report, context: &Context) -> String {
    let uplink = context.uplink.map_or_else(|| "unlimited".to_owned(), about_rate);
    let start = match context.start {
        _ if report.devices == 1 => String::new(),
        Start::Together => ", all at once".to_owned(),
        Start::FirstAlone => ", the first alone".to_owned(),
        Start::Every(interval) => format!(", one every {} s", interval.as_secs_f64()),
    };
    let devices = plural(u64::from(report.devices), "device", "devices");
    format!("{}, {}; {devices}{start}; uplink {uplink}", context.name, about_size(report.file_bytes))
}

fn origin(report: &Report, context: &Context) -> String {
    let copies = report.origin_copies;
    let mut text = format!("{} sent = {copies:.2} copies of the file", about_size(report.origin_bytes));
    if context.ingested && report.file_bytes > 0 {
        let to_devices: u64 = report.per_device.iter().map(|device| device.bytes_from_origin).sum();
        let rest = report.origin_bytes.saturating_sub(to_devices) as f64 / report.file_bytes as f64;
        // Besides the coordinator: what was on its way when a device no longer wanted it.
        let _ = write!(text, ", {rest:.2} of them to the coordinator, which had to read it too");
    }
    text
}

fn from_peers(report: &Report) -> String {
    let peers: u64 = report.per_device.iter().map(|device| device.bytes_from_peers).sum();
    let wasted: u64 = report.per_device.iter().map(|device| device.bytes_wasted).sum();
    let mut text =
        format!("{:.1} % of what devices received, {}", report.percent_from_peers, about_size(peers));
    if wasted > 0 {
        let _ = write!(text, "; {} received in vain", about_size(wasted));
    }
    text
}

fn time(report: &Report, context: &Context) -> String {
    let words = bound::in_words(context.start, context.uplink);
    let Some(bound) = report.bound_seconds else { return format!("{:.1} s; {words}", report.seconds) };
    let factor = bound::factor(Duration::from_secs_f64(report.seconds.max(0.0)), report.bound_seconds);
    let factor = factor.map(|factor| format!(" = {factor:.2} × the bound")).unwrap_or_default();
    format!("{:.1} s{factor} of {bound:.1} s ({words})", report.seconds)
}

fn cost(report: &Report, context: &Context) -> String {
    let cpu: f64 = report.per_device.iter().map(|device| device.cpu_seconds).sum();
    let delivered = report.per_device.iter().filter(|device| device.correct).count() as f64;
    let gib = delivered * report.file_bytes as f64 / f64::from(1 << 30);
    let per_gib = if gib > 0.0 { format!(" ({:.1} s/GiB delivered)", cpu / gib) } else { String::new() };
    let memory = report.per_device.iter().map(|device| device.peak_rss_bytes).max().unwrap_or(0);
    format!(
        "CPU: agents {cpu:.1} s{per_gib}, coordinator {:.1} s, origin {:.1} s; largest agent {}",
        context.coordinator.cpu_seconds,
        context.origin.cpu_seconds,
        about_size(memory)
    )
}

fn trouble(device: &DeviceReport) -> Option<String> {
    device.error.as_ref().map(|why| format!("device {}: {why}", device.device))
}

/// Why nothing came from peers, where something could have.
fn no_peers(report: &Report) -> Option<String> {
    if report.devices < 2 || report.percent_from_peers > 0.0 {
        return None;
    }
    report.per_device.iter().find_map(|device| {
        (!device.reasons.is_empty())
            .then(|| format!("device {}: {}", device.device, device.reasons.join(" ")))
    })
}

fn result(report: &Report) -> String {
    let right = report.per_device.iter().filter(|device| device.correct).count();
    match (report.all_correct, report.devices) {
        (true, 1) => "the device has the right file".to_owned(),
        (true, devices) => format!("all {devices} devices have the right file"),
        (false, devices) => format!("only {right} of {} right file", plural_have(devices)),
    }
}

fn plural_have(devices: u32) -> String {
    if devices == 1 { "1 device has the".to_owned() } else { format!("{devices} devices have the") }
}

pub(crate) fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
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
        }
    }

    #[test]
    fn reads_well_on_a_narrow_terminal() {
        let devices = vec![device(1, 700_000, 300_000, true), device(10, 323_456, 676_544, true)];
        let text = render(&Report::new(measured(devices)), &context());
        let expected = "\
device  address      origin    peers     % peers  seconds  uploaded  correct
     1  127.77.0.10  700 KB    300 KB       30.0      1.5    700 KB  yes
    10  127.77.0.19  323.4 KB  676.5 KB     67.7     15.0  323.4 KB  yes
";
        // Alignment aside, which the table does by itself.
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(words(&text).starts_with(&words(expected)), "{text}");
        assert!(text.contains("origin      1 MB sent = 1.02 copies of the file\n"), "{text}");
        assert!(text.contains("from peers  48.8 % of what devices received, 976.5 KB\n"), "{text}");
        assert!(text.contains("time        1.1 s = 1.10 × the bound of 1.0 s (file / uplink; "), "{text}");
        assert!(text.ends_with("result      all 2 devices have the right file\n"), "{text}");
        let widest = devices_of(&text).map(|line| line.chars().count()).max();
        assert!(widest <= Some(79), "{text}");
    }

    fn devices_of(text: &str) -> impl Iterator<Item = &str> {
        text.lines().take_while(|line| !line.is_empty())
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
    fn the_coordinators_own_reading_is_told_apart() {
        let mut measured = measured(vec![device(1, 1_000_000, 0, true)]);
        measured.origin_bytes = 2_000_000;
        let ingested = Context { ingested: true, ..context() };
        let text = render(&Report::new(measured), &ingested);
        assert!(text.contains("= 2.00 copies of the file, 1.00 of them to the coordinator"), "{text}");
        assert!(text.ends_with("result      the device has the right file\n"), "{text}");
    }
}
