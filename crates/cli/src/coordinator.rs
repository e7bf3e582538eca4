//! `peerage coordinator`: the coordinator in the foreground; `token`: a new enrolment token; `devices`: who is enrolled;
//! `revoke`: who no longer is.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use peerage_api::coordinator::{Device, DevicePolicy, NewTokenRequest};
use peerage_coordinator::{BuildError, Config};
use peerage_policy::units::parse_duration;
use serde::Serialize;

use crate::admin::AdminArgs;
use crate::daemon::{DRAIN, Signals};
use crate::exit::{chain, usage};
use crate::human::duration;
use crate::output;
use crate::table::{Align, Table};

/// Digits of a whole key, and how many of it are shown at least.
const KEY: usize = 64;
const LEAST_KEY: usize = 8;
/// Devices that an error names.
const MAX_NAMED: usize = 8;
/// Read when there is one (product §4).
const CONFIG: &str = "/etc/peerage/coordinator.toml";

/// Run the coordinator in the foreground, make an enrolment token, list the devices or revoke one
///
/// One JSON line on stdout says when it is ready, and where the tokens are. It ends on SIGTERM or SIGINT after at most
/// 5 s, on a second one at once.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CoordinatorArgs {
    #[command(subcommand)]
    command: Option<CoordinatorCommand>,
    /// Configuration file [default: /etc/peerage/coordinator.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of keys, tokens, catalog and piece maps [default: /var/lib/peerage/coordinator]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where devices connect; port 0 takes a free one [default: port 7690 of all addresses]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Certificate chain (PEM) of your own [default: self-signed, pinned by the tokens]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A host or network that files may be ingested from though it is not public: host, host:port, *.domain or CIDR;
    /// may be repeated
    #[arg(long, value_name = "RULE")]
    ingest_allow: Vec<String>,
    /// Certificates (PEM) that origins may use beside the system's; may be repeated
    #[arg(long, value_name = "FILE")]
    ingest_ca: Vec<PathBuf>,
}

/// The ready line.
#[derive(Debug, Serialize)]
struct Ready {
    ready: &'static str,
    url: String,
    enroll_token_file: PathBuf,
    admin_token_file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum CoordinatorCommand {
    Token(TokenArgs),
    Devices(DevicesArgs),
    Revoke(RevokeArgs),
}

/// List the enrolled devices: their tags, when they were last heard of, and which policy they have
#[derive(Debug, Args)]
struct DevicesArgs {
    /// Show the devices' keys whole, not as much of each as tells it from the others
    #[arg(long)]
    full: bool,
    /// Print them as JSON, with whole keys
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Take a device's enrolment back: it gets no record, ticket or policy any more, and the fleet a new site key
#[derive(Debug, Args)]
struct RevokeArgs {
    /// Its key as `devices` shows it, or a beginning that no other device has
    device: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Make an enrolment token and print it
#[derive(Debug, Args)]
struct TokenArgs {
    /// How many devices may use it [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    /// How long it is good for, such as 7d [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    valid: Option<Duration>,
    /// A tag that devices carry which enrol with it, for policies by tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl CoordinatorArgs {
    pub(crate) const fn is_daemon(&self) -> bool {
        self.command.is_none()
    }

    fn config(self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => read(path)?,
            None => default_config()?,
        };
        config.data_dir = self.data_dir.unwrap_or(config.data_dir);
        config.listen = self.listen.unwrap_or(config.listen);
        config.tls_cert = self.tls_cert.or(config.tls_cert);
        config.tls_key = self.tls_key.or(config.tls_key);
        config.ingest_allow.extend(self.ingest_allow);
        config.ingest_ca.extend(self.ingest_ca);
        Ok(config)
    }
}

fn read(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()));
    let text = text.map_err(|error| usage(chain(&error)))?;
    Config::from_toml(&text).map_err(|error| usage(format!("{}: {error}", path.display())))
}

/// The host's configuration; the defaults when there is none.
///
/// # Errors
/// It is there and cannot be used.
pub(crate) fn default_config() -> anyhow::Result<Config> {
    let path = Path::new(CONFIG);
    if path.exists() { read(path) } else { Ok(Config::default()) }
}

/// How a program on this host reaches a coordinator that listens on `address`.
///
/// `[::]` is every address, IPv4 too, and on a host where IPv6 is off `::1` is none.
pub(crate) fn local_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    format!("https://{address}")
}

pub(crate) async fn run(mut args: CoordinatorArgs) -> anyhow::Result<ExitCode> {
    match args.command.take() {
        None => serve(args.config()?).await,
        Some(CoordinatorCommand::Token(args)) => token(args).await,
        Some(CoordinatorCommand::Devices(args)) => devices(args).await,
        Some(CoordinatorCommand::Revoke(args)) => revoke(args).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let coordinator = tokio::select! {
        built = config.build() => built.map_err(|error| match error {
            BuildError::Config(error) => usage(error.to_string()),
            error => error.into(),
        })?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let ready = Ready {
        ready: "coordinator",
        url: local_url(coordinator.address()),
        enroll_token_file: std::path::absolute(coordinator.enroll_token_path())?,
        admin_token_file: std::path::absolute(coordinator.admin_token_path())?,
    };
    let running = coordinator.spawn();
    output::json_line(&ready)?;
    signals.next().await;
    // What is still under way is dropped a little before the limit, so that the database is closed within it.
    signals.drain(running.drain(DRAIN.saturating_sub(Duration::from_secs(1)))).await;
    Ok(ExitCode::SUCCESS)
}

async fn token(args: TokenArgs) -> anyhow::Result<ExitCode> {
    let valid_s = args.valid.map(|valid| valid.as_secs());
    let request = NewTokenRequest { uses: args.uses, valid_s, tags: args.tags };
    let made = args.admin.client()?.new_token(&request).await?;
    if args.json {
        output::json(&made)?
    } else {
        output::line(&made.token)?
    }
    Ok(ExitCode::SUCCESS)
}

async fn devices(args: DevicesArgs) -> anyhow::Result<ExitCode> {
    let devices = args.admin.client()?.devices().await?;
    if args.json {
        output::json(&devices)?;
        return Ok(ExitCode::SUCCESS);
    }
    let titles = ["DEVICE", "NAME", "TAGS", "SEEN AT", "LAST CONTACT", "POLICY"];
    let mut table = Table::new(&titles.map(|name| (name, Align::Left)));
    let now = Timestamp::now().as_second();
    let keys: Vec<String> = devices.iter().map(|device| device.peer.to_string()).collect();
    let shown = if args.full { KEY } else { telling(&keys) };
    for (device, key) in devices.iter().zip(&keys) {
        let cell = |text: &str| output::printable(text).into_owned();
        table.row([
            key.chars().take(shown).collect(),
            cell(&device.name),
            cell(&device.tags.join(", ")),
            device.seen_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            device.last_contact.map_or_else(|| "not since the start".to_owned(), |at| ago(at, now)),
            device.policy.as_ref().map_or_else(|| "-".to_owned(), standing),
        ]);
    }
    for line in table.lines(crate::status::width()) {
        output::line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How long ago something was.
fn ago(at: u64, now: i64) -> String {
    let seconds = now.saturating_sub(i64::try_from(at).unwrap_or(i64::MAX)).max(0).unsigned_abs();
    match seconds {
        // A device always has a question out, for as long as a minute.
        0..=75 => "now".to_owned(),
        seconds => format!("{} ago", duration(Duration::from_secs(seconds))),
    }
}

/// How many digits tell each of these keys from the others, and from most that are to come.
fn telling(keys: &[String]) -> usize {
    let mut sorted: Vec<&String> = keys.iter().collect();
    sorted.sort();
    let alike = |pair: &[&String]| match pair {
        [one, other] => one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    let most = sorted.windows(2).map(alike).max().unwrap_or(0);
    (most + 1).max(LEAST_KEY)
}

/// Which of the published policies a device has: those for itself, the strongest first.
fn standing(policy: &DevicePolicy) -> String {
    let due: Vec<String> =
        policy.due.iter().map(|one| format!("{} ({})", one.serial, one.selector)).collect();
    let due = output::printable(&due.join(", ")).into_owned();
    match policy {
        DevicePolicy { refused: true, .. } => format!("refuses {due}"),
        DevicePolicy { current: true, due, .. } if due.is_empty() => "none".to_owned(),
        DevicePolicy { current: true, .. } => due,
        DevicePolicy { due, .. } if due.is_empty() => "an older one, not yet none".to_owned(),
        DevicePolicy { serial: None, .. } => format!("none, not yet {due}"),
        DevicePolicy { .. } => format!("an older one, not yet {due}"),
    }
}

/// The device that `given` names: its key, or a beginning that no other device has.
///
/// # Errors
/// None, or several: they are named.
fn named<'a>(devices: &'a [Device], given: &str) -> anyhow::Result<&'a Device> {
    if given.is_empty() {
        bail!("no device is named; allowed is a key as `peerage coordinator devices` shows it");
    }
    let given = given.to_ascii_lowercase();
    let fitting: Vec<&Device> =
        devices.iter().filter(|device| device.peer.to_string().starts_with(&given)).collect();
    match fitting.as_slice() {
        [device] => Ok(device),
        [] => {
            bail!("no device has a key that begins with {given:?}; `peerage coordinator devices` lists them")
        }
        several => {
            let keys: Vec<String> = several.iter().map(|device| device.peer.to_string()).collect();
            let shown = telling(&keys);
            let all = several.iter().zip(&keys).take(MAX_NAMED).map(|(device, key)| {
                format!(
                    "{} ({})",
                    key.chars().take(shown).collect::<String>(),
                    output::printable(&device.name)
                )
            });
            let (all, count) = (all.collect::<Vec<_>>().join(", "), several.len());
            let more = if count > MAX_NAMED { ", and others" } else { "" };
            bail!(
                "{count} devices have keys that begin with {given:?}: {all}{more}; give more of the one that is meant"
            );
        }
    }
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<ExitCode> {
    let client = args.admin.client()?;
    let devices = client.devices().await?;
    let device = named(&devices, &args.device)?;
    client.revoke(device.peer).await?;
    output::line(&output::printable(&format!("{} ({}) is revoked", device.peer, device.name)))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(first: u8, second: u8, name: &str) -> Device {
        let mut key = [7; 32];
        (key[0], key[5]) = (first, second);
        Device {
            peer: peerage_content::PeerId::from_bytes(key),
            name: name.to_owned(),
            enrolled: 0,
            tags: Vec::new(),
            last_contact: None,
            seen_at: None,
            group: None,
            policy: None,
        }
    }

    #[test]
    fn a_beginning_names_a_device_if_no_other_has_it() {
        let all = [device(0xab, 1, "one"), device(0xab, 2, "two"), device(0xac, 1, "three")];
        let keys: Vec<String> = all.iter().map(|device| device.peer.to_string()).collect();
        // The first two differ in the twelfth digit.
        assert_eq!((telling(&keys), telling(&keys[1..]), telling(&[])), (12, LEAST_KEY, LEAST_KEY));
        assert_eq!(named(&all, "AC").unwrap().name, "three");
        assert_eq!(named(&all, &keys[0]).unwrap().name, "one");
        assert_eq!(named(&all, &keys[1][..12]).unwrap().name, "two");
        let several = named(&all, "ab").unwrap_err().to_string();
        assert!(several.starts_with("2 devices have keys that begin with \"ab\": "), "{several}");
        for (key, name) in keys[..2].iter().zip(["one", "two"]) {
            assert!(several.contains(&format!("{} ({name})", &key[..12])), "{several}");
        }
        assert!(named(&all, "zz").unwrap_err().to_string().starts_with("no device has a key"));
        assert!(named(&all, "").is_err() && named(&[], "ab").is_err());
    }

    #[test]
    fn a_device_has_the_policies_for_itself() {
        use peerage_api::coordinator::DuePolicy;
        let due = |serial, selector: &str| DuePolicy { serial, selector: selector.to_owned() };
        let mut policy = DevicePolicy {
            serial: Some(9),
            due: vec![due(3, "tag:lab"), due(7, "all")],
            current: true,
            refused: false,
        };
        assert_eq!(standing(&policy), "3 (tag:lab), 7 (all)");
        policy.current = false;
        assert_eq!(standing(&policy), "an older one, not yet 3 (tag:lab), 7 (all)");
        policy.refused = true;
        assert_eq!(standing(&policy), "refuses 3 (tag:lab), 7 (all)");
        let none = DevicePolicy { serial: None, due: Vec::new(), current: true, refused: false };
        assert_eq!(standing(&none), "none");
    }

    #[test]
    fn an_address_for_all_is_reached_at_this_host() {
        for (listen, url) in [
            ("0.0.0.0:7690", "https://127.0.0.1:7690"),
            ("[::]:1", "https://127.0.0.1:1"),
            ("[fd00::7]:1", "https://[fd00::7]:1"),
            ("10.0.0.1:5", "https://10.0.0.1:5"),
        ] {
            assert_eq!(local_url(listen.parse().unwrap()), url);
        }
    }
}
