//! What a lab is asked for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use peerage_origin::{SourceUrl, UrlError};
use peerage_policy::units;

use crate::address::MAX_DEVICES;

/// DO's shortest time without progress (DO reference §2.4).
const MIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Arguments of `peerage lab`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabArgs {
    /// The file that every device downloads, or its http(s) URL
    #[arg(
        value_name = "FILE|URL",
        required_unless_present = "simulate",
        value_parser = OsStringValueParser::new().try_map(Source::parse)
    )]
    pub source: Option<Source>,

    /// Start nothing: run the scenario in FILE (TOML) in virtual time
    ///
    /// For what cannot be tried: thousands of devices, many sites with links of their own, late arrivals, faults. The
    /// engine is the one that real devices run; links, origin and coordinator are models. The same file and seed give
    /// the same result.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "source", "devices", "uplink", "stagger", "policy", "no_publish", "foreground", "dir", "keep", "timeout",
        ]
    )]
    pub simulate: Option<PathBuf>,

    /// Number of devices
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DEVICES))
    )]
    pub devices: u32,

    /// Rate of the site's Internet link, such as 200mbit or 5MB/s [default: unlimited]
    ///
    /// It is enforced for all connections to the origin together. The links between the devices are not limited: they
    /// are this machine's loopback.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub uplink: Option<u64>,

    /// Start the first device alone and the others when it is done, or one device every SECONDS
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, value_parser = seconds)]
    pub stagger: Option<Option<Duration>>,

    /// Policy of every device (a policy.toml)
    ///
    /// Without it, peers are used for files from 1 MB on. With it, min_file_size_to_cache is what the file says, or the
    /// usual default. In both cases what follows from this machine and not from the fleet is left out of account unless
    /// the file sets it: least RAM and disk (the lowest allowed values hold), the cache's size (no limit), battery, VPN
    /// and metered connections; and no device looks for others by DNS-SD.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Do not publish FILE first; let the coordinator read it when the first device asks
    ///
    /// That is what always happens with a URL. The coordinator's reading crosses the uplink too.
    #[arg(long)]
    pub no_publish: bool,

    /// Download in the foreground: as if a user waited
    #[arg(long)]
    pub foreground: bool,

    /// Directory for the devices' caches and logs [default: $TMPDIR or /tmp]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Leave caches and logs in place at the end
    #[arg(long)]
    pub keep: bool,

    /// Time without progress after which a download fails; at least 60s
    #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = patience)]
    pub timeout: Duration,

    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// When the devices start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// All at once.
    Together,
    /// The first alone, the others when it is done.
    FirstAlone,
    /// One after each interval.
    Every(Duration),
}

impl LabArgs {
    pub(crate) const fn start(&self) -> Start {
        match self.stagger {
            None => Start::Together,
            Some(None) => Start::FirstAlone,
            Some(Some(interval)) => Start::Every(interval),
        }
    }
}

/// What is downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file on this machine, which the lab serves.
    File(PathBuf),
    /// A file elsewhere, which the lab passes on through its uplink.
    Url(SourceUrl),
}

impl Source {
    /// Anything that begins with `http://` or `https://` is a URL.
    ///
    /// # Errors
    /// The URL cannot be fetched from.
    pub fn parse(text: OsString) -> Result<Self, UrlError> {
        let url = text.to_str().filter(|text| {
            let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
            matches!(scheme.as_deref(), Some("http" | "https"))
        });
        match url {
            Some(url) => SourceUrl::parse(url).map(Self::Url),
            None => Ok(Self::File(text.into())),
        }
    }
}

pub(crate) fn rate(text: &str) -> Result<u64, String> {
    match units::parse_rate(text) {
        Ok(0) => Err("found 0, an uplink carries at least 8bit/s".to_owned()),
        Ok(rate) => Ok(rate),
        Err(error) => Err(error.to_string()),
    }
}

/// Seconds as a plain number, or any duration.
fn seconds(text: &str) -> Result<Duration, String> {
    let plain = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration =
        plain.map_or_else(|| units::parse_duration(text).map_err(|error| error.to_string()), Ok)?;
    let allowed = Duration::from_millis(1)..=Duration::from_secs(86_400);
    if allowed.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("found {text:?}, allowed are 1ms to 1d"))
    }
}

fn patience(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text) {
        Ok(found) if found < MIN_TIMEOUT => Err(format!("found {text}, at least 60s is allowed")),
        other => other.map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    fn parse(args: &[&str]) -> Result<LabArgs, String> {
        let args = ["lab"].iter().chain(args);
        Cli::try_parse_from(args).map(|cli| cli.lab).map_err(|error| error.to_string())
    }

    #[test]
    fn stagger_never_eats_the_file() {
        let args = parse(&["--stagger", "a.bin"]).unwrap();
        assert_eq!((args.start(), args.source), (Start::FirstAlone, Some(Source::File("a.bin".into()))));
        assert_eq!(
            parse(&["--stagger=1.5", "a"]).unwrap().start(),
            Start::Every(Duration::from_millis(1500))
        );
        assert_eq!(parse(&["--stagger=2min", "a"]).unwrap().start(), Start::Every(Duration::from_secs(120)));
        assert_eq!(parse(&["a"]).unwrap().start(), Start::Together);
    }

    #[test]
    fn file_or_url() {
        let url = SourceUrl::parse("https://host.example/a.bin").unwrap();
        assert_eq!(parse(&["https://host.example/a.bin"]).unwrap().source, Some(Source::Url(url)));
        assert_eq!(parse(&["httpd.log"]).unwrap().source, Some(Source::File("httpd.log".into())));
        assert!(parse(&["http://"]).is_err());
    }

    #[test]
    fn a_simulation_starts_nothing() {
        let args = parse(&["--simulate", "world.toml", "--json"]).unwrap();
        assert!(args.simulate.is_some() && args.source.is_none() && args.json);
        assert!(parse(&["--simulate", "world.toml", "a.bin"]).is_err());
        assert!(parse(&["--simulate", "world.toml", "--devices", "4"]).is_err());
        assert!(parse(&["--json"]).is_err());
    }

    #[test]
    fn quantities_are_checked() {
        assert_eq!(parse(&["--uplink", "200mbit", "a"]).unwrap().uplink, Some(25_000_000));
        for bad in [
            ["--uplink", "200"],
            ["--uplink", "0mbit"],
            ["--devices", "0"],
            ["--devices", "1001"],
            ["--timeout", "5s"],
            ["--stagger=0", "--json"],
            ["--stagger=-1", "--json"],
            ["--stagger=x", "--json"],
        ] {
            assert!(parse(&[bad[0], bad[1], "a"]).is_err(), "{bad:?}");
        }
    }
}
