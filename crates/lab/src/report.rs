//! What a run has shown. Its JSON form is what `peerage lab --json` prints; keys are only ever added.

use std::time::Duration;

use serde::Serialize;

use crate::address;
use crate::args::Start;
use crate::bound::{Links, bound_seconds};
use crate::downloads::Outcome;
use crate::totals::{Totals, Traffic, copies, percent, rounded, seconds};
use crate::usage::Usage;

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) file_bytes: u64,
    pub(crate) uplink: Option<u64>,
    pub(crate) start: Start,
    /// Body bytes that the origin has sent.
    pub(crate) origin_bytes: u64,
    /// From the first start to the last end.
    pub(crate) took: Duration,
    pub(crate) devices: Vec<MeasuredDevice>,
}

/// One device's part.
#[derive(Debug)]
pub(crate) struct MeasuredDevice {
    pub(crate) outcome: Outcome,
    pub(crate) correct: bool,
    pub(crate) uploaded: u64,
    pub(crate) usage: Usage,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) totals: Totals,
    pub(crate) per_device: Vec<DeviceReport>,
}

/// One device's result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DeviceReport {
    pub(crate) device: u32,
    pub(crate) address: String,
    #[serde(flatten)]
    pub(crate) traffic: Traffic,
    /// From its own start to its end.
    pub(crate) seconds: f64,
    pub(crate) correct: bool,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_rss_bytes: u64,
    /// Why the download failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Why it ran as it did, when no byte came from peers.
    #[serde(skip)]
    pub(crate) reasons: Vec<String>,
}

impl Report {
    /// Adds up what was measured.
    pub(crate) fn new(measured: Measured) -> Self {
        let Measured { file_bytes, uplink, start, origin_bytes, took, devices } = measured;
        let count = u32::try_from(devices.len()).unwrap_or(u32::MAX);
        let sum = |part: fn(&Outcome) -> u64| devices.iter().map(|device| part(&device.outcome)).sum::<u64>();
        let received = sum(|outcome| outcome.status.total_bytes_downloaded);
        let from_peers = sum(|outcome| outcome.status.bytes_from_peers);
        let bound = bound_seconds(file_bytes, count, Links::of_lab(uplink), start);
        Self {
            totals: Totals {
                devices: count.into(),
                file_bytes,
                origin_bytes,
                origin_copies: copies(origin_bytes, file_bytes),
                percent_from_peers: percent(from_peers, received),
                seconds: seconds(took),
                bound_seconds: bound.map(|bound| rounded(bound, 3)),
                all_correct: devices.iter().all(|device| device.correct),
            },
            per_device: devices.into_iter().map(DeviceReport::new).collect(),
        }
    }
}

impl DeviceReport {
    fn new(device: MeasuredDevice) -> Self {
        let MeasuredDevice { outcome, correct, uploaded, usage } = device;
        let Outcome { number, took, status, file, .. } = outcome;
        let error = match file {
            Err(why) => Some(why),
            Ok(_) if !correct => Some("the delivered bytes are not the file's".to_owned()),
            Ok(_) => None,
        };
        Self {
            device: number,
            address: address::device(number).ip().to_string(),
            traffic: Traffic {
                bytes_from_origin: status.bytes_from_cdn,
                bytes_from_cache_server: status.bytes_from_cache_server,
                bytes_from_peers: status.bytes_from_peers,
                percent_from_peers: percent(status.bytes_from_peers, status.total_bytes_downloaded),
                bytes_wasted: status.wasted_bytes,
                bytes_uploaded: uploaded,
            },
            seconds: seconds(took),
            correct,
            cpu_seconds: usage.cpu_seconds,
            peak_rss_bytes: usage.peak_rss,
            error,
            reasons: if status.bytes_from_peers == 0 { status.reasons } else { Vec::new() },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use peerage_api::agent::FileStatus;

    use super::*;

    /// A device that received `from_cdn` and `from_peers` bytes.
    pub(crate) fn device(number: u32, from_cdn: u64, from_peers: u64, correct: bool) -> MeasuredDevice {
        let status = FileStatus {
            bytes_from_cdn: from_cdn,
            bytes_from_http: from_cdn,
            bytes_from_peers: from_peers,
            total_bytes_downloaded: from_cdn + from_peers,
            reasons: vec!["Peers are used (lan).".to_owned()],
            ..FileStatus::default()
        };
        let took = Duration::from_millis(1500 * u64::from(number));
        let file = tempfile::tempfile().map_err(|error| error.to_string());
        let outcome = Outcome { number, took, ended: took, status, file };
        let usage = Usage { cpu_seconds: 0.5, peak_rss: 30_000_000 };
        MeasuredDevice { outcome, correct, uploaded: from_cdn, usage }
    }

    pub(crate) fn measured(devices: Vec<MeasuredDevice>) -> Measured {
        Measured {
            file_bytes: 1_000_000,
            uplink: Some(1_000_000),
            start: Start::Together,
            origin_bytes: 1_023_456,
            took: Duration::from_micros(1_100_400),
            devices,
        }
    }

    #[test]
    fn the_json_object_has_exactly_the_promised_keys() {
        let report =
            Report::new(measured(vec![device(1, 700_000, 300_000, true), device(2, 300_000, 700_000, true)]));
        let json = serde_json::to_value(&report).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut promised = [
            "devices",
            "file_bytes",
            "origin_bytes",
            "origin_copies",
            "percent_from_peers",
            "seconds",
            "bound_seconds",
            "all_correct",
            "per_device",
        ];
        promised.sort_unstable();
        assert_eq!(keys, promised);
        assert_eq!(json["origin_copies"], 1.0235);
        assert_eq!(json["percent_from_peers"], 50.0);
        assert_eq!((json["seconds"].as_f64(), json["bound_seconds"].as_f64()), (Some(1.1), Some(1.0)));
        let first = &json["per_device"][0];
        assert_eq!((first["device"].as_u64(), first["address"].as_str()), (Some(1), Some("127.77.0.10")));
        assert_eq!(
            (first["percent_from_peers"].as_f64(), first["correct"].as_bool()),
            (Some(30.0), Some(true))
        );
        assert!(first.get("error").is_none());
        assert_eq!((report.totals.all_correct, report.totals.exit_code()), (true, 0));
    }

    #[test]
    fn one_wrong_or_missing_file_is_a_failure() {
        let mut failed = device(2, 0, 0, false);
        failed.outcome.file = Err("no bytes for 60 s".to_owned());
        let report =
            Report::new(measured(vec![device(1, 1_000_000, 0, true), failed, device(3, 1, 2, false)]));
        assert_eq!((report.totals.all_correct, report.totals.exit_code()), (false, 1));
        assert_eq!(report.per_device[1].error.as_deref(), Some("no bytes for 60 s"));
        assert_eq!(report.per_device[2].error.as_deref(), Some("the delivered bytes are not the file's"));
        assert_eq!((report.per_device[0].reasons.len(), report.per_device[2].reasons.len()), (1, 0));
    }

    #[test]
    fn an_empty_file_divides_by_nothing() {
        let empty = Measured {
            file_bytes: 0,
            origin_bytes: 0,
            uplink: None,
            ..measured(vec![device(1, 0, 0, true)])
        };
        let report = Report::new(empty);
        let totals = &report.totals;
        assert_eq!((totals.origin_copies, totals.percent_from_peers, totals.bound_seconds), (0.0, 0.0, None));
    }
}
