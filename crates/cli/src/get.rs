//! `peerage get`: downloads a file, shows where it comes from, and puts it where it is wanted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use peerage_api::agent::{DownloadEvent, DownloadRequest, FileStatus};
use peerage_api::client::AgentClient;
use peerage_api::{ApiError, Code};
use peerage_content::{ContentId, Sha256};
use serde_json::Value;

use crate::daemon::Signals;
use crate::destination::{Destination, name_of};
use crate::engine::{Engine, EngineArgs};
use crate::human::{duration, rate, size};
use crate::output;
use crate::progress::Progress;
use crate::shares::Shares;
use crate::socket::reach;

/// Download a file through the running agent; with none running, the same engine runs inside this command
///
/// The last line says where the bytes came from.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Where the origin has the file. May be left out when --id or --sha256 names it
    #[arg(required_unless_present_any = ["id", "sha256"])]
    url: Option<String>,
    /// Where to put it [default: the last part of the URL's path, in this directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Someone waits for it: take the bandwidth of the foreground
    #[arg(long)]
    foreground: bool,
    /// The SHA-256 that it must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<Sha256>,
    /// The content id (BLAKE3) that it must have
    #[arg(long, value_name = "CONTENT-ID")]
    id: Option<ContentId>,
    /// Print the final status as JSON
    #[arg(long)]
    json: bool,
    /// Make a copy of your own, never a hard link: that is one file with the cache's and read-only
    #[arg(long)]
    copy: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

impl GetArgs {
    fn request(&self) -> DownloadRequest {
        DownloadRequest {
            url: self.url.clone(),
            id: self.id,
            sha256: self.sha256,
            foreground: self.foreground,
            caller: "peerage get".to_owned(),
            no_progress_timeout_s: None,
        }
    }

    fn destination(&self) -> anyhow::Result<Destination> {
        let name = match (&self.output, &self.url) {
            (Some(path), _) => path.clone(),
            (None, Some(url)) => name_of(url)?.into(),
            (None, None) => {
                let hash = self.id.map(|id| id.to_string()).or(self.sha256.map(|hash| hash.to_string()));
                hash.unwrap_or_default().into()
            }
        };
        Destination::new(&name)
    }
}

pub(crate) async fn run(args: GetArgs) -> anyhow::Result<ExitCode> {
    let destination = Arc::new(args.destination()?);
    let (request, hard_link, json) = (args.request(), !args.copy, args.json);
    let mut signals = Signals::new()?;
    let engine = tokio::select! {
        engine = Engine::reach(args.engine) => engine?,
        () = signals.next() => return Err(cancelled().into()),
    };
    let got = tokio::select! {
        got = get(engine.client(), &request, &destination, hard_link) => got,
        () = signals.next() => {
            destination.clean();
            Err(cancelled().into())
        }
    };
    tokio::select! {
        () = engine.end() => {}
        () = signals.next() => {}
    }
    let got = got?;
    if json {
        output::json(&got.json(destination.path())?)?
    } else {
        output::line(&got.summary(destination.path()))?
    }
    Ok(ExitCode::SUCCESS)
}

fn cancelled() -> ApiError {
    ApiError::new(Code::Cancelled, "cancelled")
}

/// A file that has been downloaded.
#[derive(Debug)]
struct Got {
    name: String,
    /// Its counters are of this download alone.
    status: FileStatus,
    took: Duration,
}

async fn get(
    client: &AgentClient,
    request: &DownloadRequest,
    destination: &Arc<Destination>,
    hard_link: bool,
) -> anyhow::Result<Got> {
    let name = destination.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut progress = Progress::new(&name);
    let mut download = client.download(request).await.map_err(reach)?;
    let (status, word) = loop {
        match download.next().await? {
            Some(DownloadEvent::Progress { status }) => progress.download(&status),
            Some(DownloadEvent::Done { status, delivery }) => break (status, delivery),
            Some(DownloadEvent::Failed { error, .. }) => return Err(error.into()),
            None => {
                let message = "the agent ended the download without a word; its log says why";
                return Err(ApiError::new(Code::Internal, message).into());
            }
        }
    };
    let file = client.fetch_file(&word).await?;
    let to = Arc::clone(destination);
    tokio::task::spawn_blocking(move || to.put(file, hard_link)).await.context("the delivery failed")??;
    Ok(Got { name, status: *status, took: progress.elapsed() })
}

impl Got {
    /// The agent's last word on the file, and where it is.
    fn json(&self, path: &Path) -> anyhow::Result<Value> {
        let mut value = serde_json::to_value(&self.status)?;
        if let Value::Object(fields) = &mut value {
            fields.insert("Path".to_owned(), path.to_string_lossy().into());
        }
        Ok(value)
    }

    /// One line: how much, how fast, from where, to where.
    fn summary(&self, path: &Path) -> String {
        let shares = Shares::of(&self.status);
        let bytes = self.status.file_size.max(shares.total());
        let held = bytes.saturating_sub(shares.total());
        let shown = path.display().to_string();
        let shown = if path.parent().is_some_and(|parent| parent.as_os_str().is_empty()) {
            format!("./{shown}")
        } else {
            shown
        };
        let mut from = Vec::new();
        if shares.total() > 0 {
            from.push(shares.sentence());
        }
        if bytes > 0 && held == bytes {
            from.push("all of it was in the cache".to_owned());
        } else if held > 0 {
            let were = if held == 1 { "was" } else { "were" };
            from.push(format!("{} {were} in the cache", size(held)));
        }
        if self.status.wasted_bytes > 0 {
            from.push(format!("{} were fetched in vain", size(self.status.wasted_bytes)));
        }
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX).max(1);
        let speed = match shares.total() {
            0 => String::new(),
            total => format!(" ({})", rate(total.saturating_mul(1000) / millis)),
        };
        let from = if from.is_empty() { String::new() } else { format!(": {}", from.join(", ")) };
        let line = format!(
            "{}  {} in {}{speed}{from}  -> {shown}",
            self.name,
            size(self.status.file_size),
            duration(self.took)
        );
        output::printable(&line).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn got(size: u64, status: FileStatus) -> Got {
        let status = FileStatus { file_size: size, ..status };
        Got { name: "a.iso".into(), status, took: Duration::from_millis(4_200) }
    }

    #[test]
    fn the_summary_says_where_the_bytes_came_from() {
        let none = FileStatus::default;
        for (got, line) in [
            (
                got(
                    100 * MIB,
                    FileStatus { bytes_from_lan_peers: 98 * MIB, bytes_from_cdn: 2 * MIB, ..none() },
                ),
                "a.iso  100.0 MiB in 4.2 s (23.8 MiB/s): 98.0 % from peers (LAN 98.0 MiB), 2.0 MiB from the origin  \
                 -> ./a.iso",
            ),
            (got(5 * MIB, none()), "a.iso  5.0 MiB in 4.2 s: all of it was in the cache  -> ./a.iso"),
            (
                got(6 * MIB, FileStatus { bytes_from_cdn: 2 * MIB, ..none() }),
                "a.iso  6.0 MiB in 4.2 s (487.6 KiB/s): all from the origin, 4.0 MiB were in the cache  -> ./a.iso",
            ),
            (
                got(5 * MIB, FileStatus { wasted_bytes: 3 * MIB, ..none() }),
                "a.iso  5.0 MiB in 4.2 s: all of it was in the cache, 3.0 MiB were fetched in vain  -> ./a.iso",
            ),
            (got(0, none()), "a.iso  0 B in 4.2 s  -> ./a.iso"),
        ] {
            assert_eq!(got.summary(Path::new("a.iso")), line);
        }
        let elsewhere = got(0, none()).summary(Path::new("/tmp/x\x1b[2J"));
        assert!(elsewhere.ends_with("-> /tmp/x\\u{1b}[2J"), "{elsewhere}");
    }

    #[test]
    fn json_has_the_path() {
        let json = got(MIB, FileStatus::default()).json(Path::new("/tmp/a")).unwrap();
        assert_eq!((&json["FileSize"], &json["Path"]), (&MIB.into(), &"/tmp/a".into()));
    }
}
