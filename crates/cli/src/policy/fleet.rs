//! `peerage policy push|show|history|rollback|remove`: the fleet's policies, at the coordinator.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use peerage_api::coordinator::{
    HistoryQuery, PolicyRevision, PushPolicyRequest, Reach, RemovePolicyRequest, RollbackRequest,
};
use peerage_policy::fleet::{MAX_FLEET_TEXT, Selector};
use peerage_policy::{Level, check, parse_layer};

use super::read_text;
use crate::admin::AdminArgs;
use crate::exit::usage;
use crate::output::{self, printable, printable_lines};
use crate::table::{Align, Table};

/// Publish a policy for some or all devices of the fleet
///
/// It holds on devices that reach the coordinator within 2 s, and goes over their policy files. Pushing the same file again
/// with a higher --rollout adds devices and loses none. An empty file sets nothing any more.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The policy file; - reads stdin
    file: PathBuf,
    /// The devices it is for: all, tag:NAME, subnet:CIDR or group:GUID
    #[arg(long, value_name = "SELECTOR", default_value = "all")]
    group: Selector,
    /// How many of them get it; the others keep what they had
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    rollout: u8,
    /// The least serial: for a coordinator restored from a backup, whose devices hold higher ones
    #[arg(long, value_name = "N")]
    serial: Option<u64>,
    /// Print the published policy as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Show the policies that hold in the fleet
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Those for these devices only: all, tag:NAME, subnet:CIDR or group:GUID
    #[arg(long, value_name = "SELECTOR")]
    group: Option<Selector>,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// List every policy that was published, newest first
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Those for these devices only: all, tag:NAME, subnet:CIDR or group:GUID
    #[arg(long, value_name = "SELECTOR")]
    group: Option<Selector>,
    /// Print them as JSON, with their texts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Publish again what held before the newest policy
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The devices: all, tag:NAME, subnet:CIDR or group:GUID
    #[arg(long, value_name = "SELECTOR", default_value = "all")]
    group: Selector,
    /// Go back to this serial [default: what the newest policy replaced]
    #[arg(long, value_name = "SERIAL")]
    to: Option<u64>,
    /// Print the published policy as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Take away what is published for some devices
///
/// They fall back to what other policies of the fleet, their own files and `peerage set` say, within 2 s of reaching the
/// coordinator. The history keeps it; `peerage policy rollback` brings it back.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The devices whose policy goes: all, tag:NAME, subnet:CIDR or group:GUID
    #[arg(value_name = "SELECTOR")]
    group: Selector,
    /// Print the published removal as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) async fn push(args: PushArgs) -> anyhow::Result<ExitCode> {
    let text = read_text(&args.file, MAX_FLEET_TEXT)?;
    // Here the message names the file and costs no connection; the coordinator checks it too.
    parse_layer(&args.file.display().to_string(), &text).map_err(|errors| usage(errors.to_string()))?;
    for advice in check(&[(args.file.display().to_string(), text.clone())]) {
        if advice.level <= Level::Deprecated {
            output::note(&format!("{}: {}", advice.level.name(), advice.sentence));
        }
    }
    let (selector, percent) = (args.group.to_string(), args.rollout);
    let request = PushPolicyRequest { selector, text, percent, min_serial: args.serial };
    published(&args.admin.client()?.push_policy(&request).await?, args.json)
}

pub(crate) async fn rollback(args: RollbackArgs) -> anyhow::Result<ExitCode> {
    let request = RollbackRequest { selector: args.group.to_string(), to: args.to };
    published(&args.admin.client()?.roll_back_policy(&request).await?, args.json)
}

pub(crate) async fn remove(args: RemoveArgs) -> anyhow::Result<ExitCode> {
    let request = RemovePolicyRequest { selector: args.group.to_string() };
    published(&args.admin.client()?.remove_policy(&request).await?, args.json)
}

fn published(revision: &PolicyRevision, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::json(revision)?;
    } else {
        let PolicyRevision { serial, selector, percent, note, .. } = revision;
        let note = if note.is_empty() { String::new() } else { format!(", {note}") };
        output::line(&printable(&format!("policy {serial} for {percent} % of {selector}{note}")))?;
        if let Some(reach) = &revision.reach {
            output::line(&reached(reach, *percent))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How many devices a policy is for, in a sentence.
fn reached(reach: &Reach, percent: u8) -> String {
    let Reach { devices, taken, unheard } = reach;
    let mut told = match devices {
        0 => "no enrolled device is meant".to_owned(),
        1 if percent == 100 => "1 enrolled device is meant".to_owned(),
        1 => format!("1 enrolled device is meant; the {percent} % take {taken} of it"),
        devices if percent == 100 => format!("{devices} enrolled devices are meant"),
        devices => format!("{devices} enrolled devices are meant; the {percent} % take {taken} of them"),
    };
    if *unheard > 0 {
        told += &format!("; of {unheard} more nothing has been heard since the coordinator started");
    }
    told
}

pub(crate) async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let query = HistoryQuery { selector: args.group.map(|group| group.to_string()), all: false };
    let mut found = args.admin.client()?.policies(&query).await?;
    found.sort_by(|a, b| a.selector.cmp(&b.selector).then(b.serial.cmp(&a.serial)));
    if args.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        output::line("no policy is published")?;
    }
    for revision in &found {
        let PolicyRevision { serial, selector, percent, note, .. } = revision;
        let note = if note.is_empty() { String::new() } else { format!(", {note}") };
        let when = when(revision.created);
        output::line(&printable(&format!("# policy {serial} for {percent} % of {selector}, {when}{note}")))?;
        let text = revision.text.trim_end();
        output::line(&printable_lines(if text.is_empty() { "# (sets nothing)" } else { text }))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn history(args: HistoryArgs) -> anyhow::Result<ExitCode> {
    let query = HistoryQuery { selector: args.group.map(|group| group.to_string()), all: true };
    let found = args.admin.client()?.policies(&query).await?;
    if args.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("SERIAL", Right),
        ("FOR", Left),
        ("ROLLOUT", Right),
        ("PUBLISHED", Left),
        ("STATE", Left),
        ("NOTE", Left),
    ]);
    for revision in &found {
        table.row([
            revision.serial.to_string(),
            printable(&revision.selector).into_owned(),
            format!("{} %", revision.percent),
            when(revision.created),
            state(revision).to_owned(),
            printable(&revision.note).into_owned(),
        ]);
    }
    for line in table.lines(crate::status::width()) {
        output::line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What has become of a revision.
fn state(revision: &PolicyRevision) -> &'static str {
    match revision {
        PolicyRevision { live: false, .. } => "replaced",
        PolicyRevision { percent: 100, text, .. } if text.is_empty() => "sets nothing",
        _ => "in force",
    }
}

fn when(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok());
    time.map_or_else(|| unix.to_string(), |time| time.to_string())
}
