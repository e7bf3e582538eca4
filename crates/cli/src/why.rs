//! `peerage why`: in sentences, every decision that made the bytes of a file come from where they came.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use peerage_api::why::{Because, Decided, Sources, Why};
use peerage_content::Digester;

use crate::human::{percent, size};
use crate::output::{self, printable};
use crate::socket::{SocketArgs, reach};

const BUFFER: usize = 1 << 20;
/// In seconds; who waits longer for the first byte is to know what for.
const MOMENT: u64 = 5;

/// Say why the bytes of a file came from where they came, and what to change
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The file: its content id or the beginning of it, its URL or the last part of that, or the path of a copy
    #[arg(value_name = "FILE-ID|URL|NAME|PATH")]
    file: String,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(crate) async fn run(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let path = Path::new(&args.file).to_owned();
    let file = if path.is_file() {
        tokio::task::spawn_blocking(move || content_id(&path)).await??
    } else {
        args.file
    };
    let why = args.socket.client().why(&file).await.map_err(reach)?;
    if args.json {
        output::json(&why)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines(&why) {
        output::line(&printable(&line))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn content_id(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("could not read {}", path.display());
    let mut file = File::open(path).with_context(failed)?;
    let (mut digester, mut buffer) = (Digester::new(), vec![0; BUFFER]);
    loop {
        let read = file.read(&mut buffer).with_context(failed)?;
        if read == 0 {
            return Ok(digester.finish()?.id.to_string());
        }
        digester.update(buffer.get(..read).unwrap_or_default());
    }
}

fn lines(why: &Why) -> Vec<String> {
    let state = if why.complete { "complete" } else { "on its way" };
    let mut lines = vec![format!("{} ({}, {state})", why.file_id, size(why.file_size))];
    if !why.source_url.is_empty() {
        lines.push(format!("from {}", why.source_url));
    }
    lines.push(String::new());
    let total = why.sources.total();
    if total == 0 {
        lines.push("No byte of it was downloaded.".to_owned());
    }
    for (kind, bytes) in why.sources.kinds().into_iter().filter(|(_, bytes)| *bytes > 0) {
        lines.push(format!("{} ({} %) came from {kind}.", size(bytes), percent(bytes, total)));
    }
    for (at, decided) in why.decisions.iter().enumerate() {
        let next = why.decisions.get(at + 1);
        let until = next.map_or(why.sources, |next| next.before);
        if next.is_some_and(|next| passes_by(decided, next)) {
            continue;
        }
        lines.push(String::new());
        // What held to and fro has no bytes of its own.
        let until = why.decisions.iter().all(|decided| decided.again == 0).then_some(until);
        lines.push(head(decided, until.as_ref()));
        lines.extend(decided.because.iter().flat_map(told));
    }
    if !why.findings.is_empty() {
        lines.push(String::new());
        lines.extend(why.findings.iter().flat_map(told));
    }
    // As long as it is on its way, most of it has just been said.
    let said = why.decisions.last().filter(|_| !why.complete);
    let news = |one: &&Because| said.is_none_or(|said| !said.because.contains(one));
    let now: Vec<String> = why.now.iter().filter(news).flat_map(told).collect();
    if !now.is_empty() {
        lines.extend([String::new(), "Now, also for the peers that want it from here:".to_owned()]);
        lines.extend(now);
    }
    lines
}

/// Whether a decision held for a moment in which nothing came: it made no byte come from anywhere.
fn passes_by(decided: &Decided, next: &Decided) -> bool {
    let moment = next.at.saturating_sub(decided.at) < MOMENT;
    moment && decided.again == 0 && decided.before == next.before
}

/// When a decision was made, and how much came while it held.
fn head(decided: &Decided, until: Option<&Sources>) -> String {
    let at = i64::try_from(decided.at).ok().and_then(|unix| Timestamp::from_second(unix).ok());
    let at = at.map_or_else(String::new, |at| at.to_string());
    let again = match decided.again {
        0 => String::new(),
        1 => " and once again".to_owned(),
        times => format!(" and {times} times again"),
    };
    let came = until.map_or_else(String::new, |until| {
        format!(", {} came", size(until.total().saturating_sub(decided.before.total())))
    });
    format!("From {at}{again}, {} download{came}:", decided.class)
}

/// A reason in sentences: what, by which setting, what to change.
fn told(because: &Because) -> Vec<String> {
    let mut lines = vec![format!("- {}", because.sentence)];
    if let (Some(setting), Some(value), Some(provider)) =
        (&because.setting, &because.value, &because.provider)
    {
        let source = because.source.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
        lines.push(format!("  {setting} = {value}, from {provider}{source}"));
    }
    lines.extend(because.remedy.as_ref().map(|remedy| format!("  to change it: {remedy}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_setting_value_layer_file_and_remedy() {
        let because = Because {
            code: "too_small".into(),
            sentence: "the content has 1.5 MB, peers share from 50 MB".into(),
            setting: Some("min_file_size_to_cache".into()),
            value: Some("50 MB".into()),
            provider: Some("policy".into()),
            source: Some("/etc/peerage/policy.toml".into()),
            remedy: Some("lower it".into()),
        };
        let decided = |at, before| Decided {
            at,
            class: "background".into(),
            because: vec![because.clone()],
            before: Sources { bytes_from_cdn: before, ..Sources::default() },
            ..Decided::default()
        };
        let why = Why {
            file_id: "abcd".into(),
            file_size: 3 << 20,
            source_url: "http://o/f".into(),
            complete: true,
            sources: Sources { bytes_from_cdn: 2 << 20, bytes_from_lan_peers: 1 << 20, ..Sources::default() },
            decisions: vec![decided(0, 0), decided(60, 1 << 20)],
            ..Why::default()
        };
        let lines = lines(&why);
        assert_eq!(
            lines[..8],
            [
                "abcd (3.0 MiB, complete)",
                "from http://o/f",
                "",
                "1.0 MiB (33.3 %) came from LAN peers.",
                "2.0 MiB (66.6 %) came from the origin.",
                "",
                "From 1970-01-01T00:00:00Z, background download, 1.0 MiB came:",
                "- the content has 1.5 MB, peers share from 50 MB",
            ]
        );
        assert_eq!(lines[8], "  min_file_size_to_cache = 50 MB, from policy (/etc/peerage/policy.toml)");
        assert_eq!(lines[9], "  to change it: lower it");
        assert!(lines[11].contains("2.0 MiB came"), "{lines:?}");
    }
}
