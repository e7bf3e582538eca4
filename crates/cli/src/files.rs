//! `peerage files`: the local cache.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use peerage_api::agent::{CachedFile, ExpireRequest};
use peerage_api::client::AgentClient;
use peerage_api::{ApiError, Code};
use peerage_content::ContentId;
use peerage_policy::units::parse_duration;
use serde_json::json;

use crate::human::{duration, size, whole_percent};
use crate::output::{self, printable};
use crate::socket::{SocketArgs, reach};
use crate::status::SHORT;
use crate::table::{Align, Table};

/// List and manage the files in the cache
#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    #[command(subcommand)]
    command: FilesCommand,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Subcommand)]
enum FilesCommand {
    /// List the files
    List,
    /// Keep a file whatever its age
    Pin(FileArgs),
    /// Treat a file as all others again
    Unpin(FileArgs),
    /// Set when a file expires; without WHEN as the policy says
    Expire {
        #[command(flatten)]
        file: FileArgs,
        /// From now on, such as 3d, or a time such as 2026-08-01T12:00:00Z; at most a year ahead
        #[arg(value_parser = parse_when)]
        when: Option<When>,
    },
    /// Remove a file from the cache, or what a download without a content id has left (url-…)
    Remove {
        #[command(flatten)]
        file: FileArgs,
        /// Also when it is pinned
        #[arg(long)]
        force: bool,
    },
    /// Hash a file anew; pieces that are wrong are dropped
    Verify(FileArgs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// Content id, or the beginning of it if only one file has that
    id: String,
}

/// A time, as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    In(Duration),
    At(Timestamp),
}

impl When {
    fn unix(self, now: Timestamp) -> u64 {
        let seconds = match self {
            Self::In(time) => now.as_second().saturating_add_unsigned(time.as_secs()),
            Self::At(time) => time.as_second(),
        };
        u64::try_from(seconds).unwrap_or(0)
    }
}

fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(time) = parse_duration(text) {
        return Ok(When::In(time));
    }
    text.parse().map(When::At).map_err(|_| {
        format!("found {text:?}, allowed is a duration such as 3d or a time such as 2026-08-01T12:00:00Z")
    })
}

pub(crate) async fn run(args: FilesArgs) -> anyhow::Result<ExitCode> {
    let client = args.socket.client();
    let now = Timestamp::now();
    let all = client.files().await.map_err(reach)?;
    match args.command {
        FilesCommand::List if args.json => output::json(&all)?,
        FilesCommand::List => {
            for line in lines(&all, now, crate::status::width()) {
                output::line(&line)?;
            }
        }
        FilesCommand::Pin(file) => pin(&client, &all, &file, true, args.json).await?,
        FilesCommand::Unpin(file) => pin(&client, &all, &file, false, args.json).await?,
        FilesCommand::Expire { file, when } => {
            let id = find(&all, &file.id)?;
            let expire_on = when.map(|when| when.unix(now));
            client.expire(id, &ExpireRequest { expire_on }).await?;
            let said = match expire_on {
                None => "expires as the policy says".to_owned(),
                Some(at) => format!("expires {}", expiry(at, now)),
            };
            tell(args.json, id, &said, &json!({"FileId": id, "ExpireOn": expire_on}))?;
        }
        FilesCommand::Remove { file, force } => {
            let left = file.id.starts_with("url-");
            let id = if left { file.id } else { find(&all, &file.id)?.to_string() };
            client.remove(&id, force).await?;
            tell(args.json, &id, "removed", &json!({"FileId": id, "Removed": true}))?;
        }
        FilesCommand::Verify(file) => {
            let id = find(&all, &file.id)?;
            let result = client.verify(id).await?;
            let said = verified(result.good, result.dropped);
            let fields = json!({"FileId": id, "Good": result.good, "Dropped": result.dropped});
            tell(args.json, id, &said, &fields)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verified(good: u32, dropped: u32) -> String {
    let are = |count: u32| if count == 1 { "piece is" } else { "pieces are" };
    match dropped {
        0 if good == 1 => "its one piece is right".to_owned(),
        0 => format!("all {good} pieces are right"),
        1 => format!("{good} {} right, 1 was wrong and has been dropped", are(good)),
        _ => format!("{good} {} right, {dropped} were wrong and have been dropped", are(good)),
    }
}

async fn pin(
    client: &AgentClient,
    all: &[CachedFile],
    file: &FileArgs,
    pinned: bool,
    json: bool,
) -> anyhow::Result<()> {
    let id = find(all, &file.id)?;
    client.pin(id, pinned).await?;
    let said = if pinned { "pinned" } else { "no longer pinned" };
    tell(json, id, said, &json!({"FileId": id, "IsPinned": pinned}))
}

fn tell(json: bool, id: impl Display, said: &str, fields: &serde_json::Value) -> anyhow::Result<()> {
    let id = id.to_string();
    let short = printable(id.get(..SHORT).unwrap_or(&id)).into_owned();
    if json { output::json(fields) } else { output::line(&format!("{short}: {said}")) }
        .context("could not write to stdout")
}

/// The one file whose id begins with `prefix`.
fn find(all: &[CachedFile], prefix: &str) -> Result<ContentId, ApiError> {
    let prefix = prefix.to_ascii_lowercase();
    let shown = printable(&prefix).into_owned();
    let mut fits = all.iter().map(|file| file.file_id).filter(|id| id.to_string().starts_with(&prefix));
    match (fits.next(), fits.count()) {
        (Some(id), 0) if !prefix.is_empty() => Ok(id),
        (None, _) => Err(ApiError::new(
            Code::NotFound,
            format!("no file in the cache has an id that begins with {shown}"),
        )),
        (Some(_), more) => {
            let message = format!("{} files have ids that begin with {shown:?}; give more of it", more + 1);
            Err(ApiError::new(Code::BadRequest, message))
        }
    }
}

fn lines(all: &[CachedFile], now: Timestamp, width: Option<usize>) -> Vec<String> {
    use Align::{Left, Right, Tail};
    if all.is_empty() {
        return vec!["the cache is empty".to_owned()];
    }
    let mut table =
        Table::new(&[("ID", Left), ("SIZE", Right), ("HELD", Right), ("EXPIRES", Left), ("SOURCE", Tail)]);
    for file in all {
        let id = file.file_id.to_string();
        let expires = match (file.is_pinned, file.expire_on) {
            (true, _) => "never (pinned)".to_owned(),
            (false, None) => "when space is needed".to_owned(),
            (false, Some(at)) => expiry(at, now),
        };
        table.row([
            id.get(..SHORT).unwrap_or(&id).to_owned(),
            size(file.file_size),
            match file.file_size {
                0 => "100 %".to_owned(),
                whole => format!("{} %", whole_percent(file.file_size_in_cache, whole)),
            },
            expires,
            printable(&file.source_url).into_owned(),
        ]);
    }
    let held: u64 = all.iter().map(|file| file.file_size_in_cache).sum();
    let mut lines = table.lines(width);
    let plural = if all.len() == 1 { "file" } else { "files" };
    lines.push(format!("{} {plural}, {} held", all.len(), size(held)));
    lines
}

fn expiry(at: u64, now: Timestamp) -> String {
    let left = i64::try_from(at).unwrap_or(i64::MAX).saturating_sub(now.as_second());
    match u64::try_from(left) {
        Ok(left) if left > 0 => format!("in {}", duration(Duration::from_secs(left))),
        _ => "now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(byte: u8, pinned: bool, expire_on: Option<u64>) -> CachedFile {
        CachedFile {
            file_id: ContentId::from_bytes([byte; 32]),
            file_size: 10 << 20,
            file_size_in_cache: 5 << 20,
            source_url: "http://h/a\x07".into(),
            completed: None,
            expire_on,
            is_pinned: pinned,
        }
    }

    #[test]
    fn ids_may_be_abbreviated_while_they_are_one() {
        let all = [file(0x1a, false, None), file(0x1b, false, None)];
        assert_eq!(find(&all, "1A1").unwrap(), all[0].file_id);
        assert_eq!(find(&all, "1").unwrap_err().code, Code::BadRequest);
        assert_eq!(find(&all, "").unwrap_err().code, Code::BadRequest);
        assert_eq!(find(&all[..1], "").unwrap_err().code, Code::BadRequest);
        assert_eq!(find(&all, "2").unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn times_are_read_as_people_say_them() {
        assert_eq!(parse_when("3d"), Ok(When::In(Duration::from_secs(259_200))));
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(parse_when("90s").unwrap().unix(now), 1090);
        assert_eq!(parse_when("1970-01-01T01:00:00Z").unwrap().unix(now), 3600);
        assert!(parse_when("soon").unwrap_err().contains("3d"));
    }

    #[test]
    fn one_is_one() {
        assert_eq!(verified(1, 1), "1 piece is right, 1 was wrong and has been dropped");
        assert_eq!(verified(0, 2), "0 pieces are right, 2 were wrong and have been dropped");
        let empty = CachedFile { file_size: 0, file_size_in_cache: 0, ..file(1, false, None) };
        assert!(lines(&[empty], Timestamp::from_second(1_000).unwrap(), None)[1].contains("100 %"));
    }

    #[test]
    fn the_list_says_until_when() {
        let now = Timestamp::from_second(1_000).unwrap();
        let all = [
            file(1, true, None),
            file(2, false, Some(260_200)),
            file(3, false, Some(999)),
            file(4, false, None),
        ];
        let expected = [
            "ID              SIZE  HELD  EXPIRES               SOURCE",
            "0101010101  10.0 MiB  50 %  never (pinned)        http://h/a\\u{7}",
            "0202020202  10.0 MiB  50 %  in 3 d                http://h/a\\u{7}",
            "0303030303  10.0 MiB  50 %  now                   http://h/a\\u{7}",
            "0404040404  10.0 MiB  50 %  when space is needed  http://h/a\\u{7}",
            "4 files, 20.0 MiB held",
        ];
        assert_eq!(lines(&all, now, None), expected);
        assert_eq!(lines(&[], now, None), ["the cache is empty"]);
    }
}
