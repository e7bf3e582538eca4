//! The result as people read it: a row per device, or per site where there are many, then the totals in words.

use std::fmt::Write as _;

use super::report::{DeviceReport, Report, SiteReport};
use crate::human::{printable, size};
use crate::table::{Column, rows};

/// More devices than this are shown by site.
const MAX_ROWS: usize = 100;
/// Sites shown: those whose last device took longest.
const MAX_SITES: usize = 20;

const DEVICE: [Column<DeviceReport>; 8] = [
    ("DEVICE", false, |device| device.device.to_string()),
    ("SITE", false, |device| device.site.to_string()),
    ("ORIGIN", false, |device| size(device.traffic.bytes_from_origin)),
    ("PEERS", false, |device| size(device.traffic.bytes_from_peers)),
    ("% PEERS", false, |device| format!("{:.1}", device.traffic.percent_from_peers)),
    ("SECONDS", false, |device| {
        device.seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"))
    }),
    ("UPLOADED", false, |device| size(device.traffic.bytes_uploaded)),
    ("CORRECT", true, |device| if device.correct { "yes" } else { "no" }.to_owned()),
];

const SITE: [Column<SiteReport>; 8] = [
    ("SITE", false, |site| site.site.to_string()),
    ("NAME", true, |site| printable(&site.name)),
    ("DEVICES", false, |site| site.devices.to_string()),
    ("INTERNET IN", false, |site| size(site.bytes_in)),
    ("COPIES", false, |site| format!("{:.2}", site.copies_in)),
    ("INTERNET OUT", false, |site| size(site.bytes_out)),
    ("HALF, S", false, |site| format!("{:.1}", site.percentiles.p50)),
    ("LAST, S", false, |site| format!("{:.1}", site.percentiles.p100)),
];

/// Renders all of it, for stdout.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    if report.per_device.len() <= MAX_ROWS {
        text += &rows(&DEVICE, &report.per_device);
        text.push('\n');
    }
    if report.per_site.len() > 1 || text.is_empty() {
        text += &sites(report);
        text.push('\n');
    }
    text + &totals(report)
}

fn sites(report: &Report) -> String {
    let mut slowest: Vec<SiteReport> = report.per_site.clone();
    slowest.sort_by(|a, b| b.percentiles.p100.total_cmp(&a.percentiles.p100).then(a.site.cmp(&b.site)));
    slowest.truncate(MAX_SITES);
    let mut text = rows(&SITE, &slowest);
    if let more @ 1.. = report.per_site.len() - slowest.len() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "and {more} sites that were faster");
    }
    text
}

fn totals(report: &Report) -> String {
    let (sites, all) = (report.per_site.len() as f64, &report.percentiles);
    let copies: f64 = report.per_site.iter().map(|site| site.copies_in).sum();
    let most = report.per_site.iter().map(|site| site.copies_in).fold(0.0, f64::max);
    let right = report.per_device.iter().filter(|device| device.correct).count();
    let lines = [
        ("file", size(report.totals.file_bytes)),
        (
            "fleet",
            format!(
                "{} devices in {} sites, simulated with seed {}",
                report.totals.devices, sites, report.seed
            ),
        ),
        ("origin", report.totals.origin()),
        ("sites", format!("{:.2} copies into a site on average, {most:.2} at most", copies / sites)),
        ("from peers", report.totals.peers()),
        ("time", report.totals.time()),
        (
            "devices",
            format!(
                "half within {:.1} s, 90 % {:.1} s, 99 % {:.1} s, all {:.1} s",
                all.p50, all.p90, all.p99, all.p100
            ),
        ),
        (
            "bound",
            report.totals.bound_seconds.map_or_else(
                || "none (devices start one after the other)".to_owned(),
                |bound| format!("{bound:.1} s, the narrowest of all links"),
            ),
        ),
        ("result", format!("{right} of {} devices have the file", report.totals.devices)),
    ];
    lines.iter().fold(String::new(), |mut text, (head, line)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{head:<11} {line}");
        text
    })
}
