//! `peerage doctor`: what works, what does not, and what to do about it.
//!
//! The agent tells facts; what they mean is decided in `peerage_agent::doctor`. Without an agent, what can be seen from
//! here is looked at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use console::{Style, style};
use peerage_agent::doctor::{Finding, Level, Local, Section, Sight, examine};
use peerage_agent::{Config, ConfigFile};
use peerage_api::Code;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::output::{self, printable};
use crate::socket::SocketArgs;
use crate::wrap::wrap;

/// A port on this device answers at once, or a firewall swallows it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Lines are no longer than this, however wide the terminal is: they are sentences.
const WIDEST: usize = 100;
/// Exit code where no agent answers (product §3).
const UNREACHABLE: u8 = 4;

/// Check this device: what works, what does not, and what to do about it
///
/// Each line is pass, warn or fail. The exit code is 0 if nothing fails, 1 if something does, and 4 if no agent answers; then
/// what can be seen without it is checked.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Only whether downloads work
    #[arg(long)]
    health: bool,
    /// Only whether this device gets files from others, and gives them
    #[arg(long)]
    p2p: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// The agent's configuration file, for when it does not run [default: /etc/peerage/agent.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArgs,
}

impl DoctorArgs {
    fn sections(&self) -> Vec<Section> {
        let asked = |section: &Section| match section {
            Section::Health => self.health,
            Section::Peers => self.p2p,
        };
        let some = Section::ALL.iter().any(asked);
        Section::ALL.into_iter().filter(|section| !some || asked(section)).collect()
    }
}

pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let (sight, unreachable) = look(&args).await?;
    let findings = examine(&sight, &args.sections());
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Pass);
    if args.json {
        output::json(&json!({
            "Result": worst,
            "Findings": findings,
            "Facts": sight.agent.as_ref().ok(),
        }))?;
    } else {
        let width = crate::status::width().unwrap_or(usize::MAX).min(WIDEST);
        for line in lines(&findings, width) {
            output::line(&line)?;
        }
    }
    Ok(match worst {
        _ if unreachable => UNREACHABLE.into(),
        Level::Fail => ExitCode::FAILURE,
        Level::Pass | Level::Warn => ExitCode::SUCCESS,
    })
}

/// Gathers what there is to see, and whether the agent could not be asked.
async fn look(args: &DoctorArgs) -> anyhow::Result<(Sight, bool)> {
    let client = args.socket.client();
    let socket = client.socket().display().to_string();
    Ok(match client.doctor().await {
        Ok(checkup) => {
            let port = match checkup.port.listening {
                Some(at) => Some(connect(at).await),
                None => None,
            };
            (Sight { socket, agent: Ok(checkup), port, local: None }, false)
        }
        Err(error) => {
            let (path, socket_is) = (args.config.clone(), client.socket().to_owned());
            let local = tokio::task::spawn_blocking(move || local(path, &socket_is)).await?;
            let unreachable = error.code == Code::Unreachable;
            let why = without_path(&error.message, &socket);
            (Sight { socket, agent: Err(why), port: None, local: Some(local) }, unreachable)
        }
    })
}

/// The client's message begins with what the finding says itself.
fn without_path(message: &str, socket: &str) -> String {
    message.rsplit_once(socket).map_or(message, |(_, rest)| rest.trim_start_matches([':', ' '])).to_owned()
}

/// Whether the peer port takes a connection from here.
async fn connect(at: SocketAddr) -> Result<(), String> {
    // `[::]` is every address, IPv4 too.
    let ip = if at.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { at.ip() };
    match timeout(PATIENCE, TcpStream::connect((ip, at.port()))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// What can be seen without the agent. Blocking.
fn local(path: Option<PathBuf>, socket: &Path) -> Local {
    let path = path.or_else(|| Some(PathBuf::from(crate::agent::CONFIG)).filter(|path| path.exists()));
    let read = path.as_deref().map(ConfigFile::read).transpose();
    let (file, config) = match read {
        Ok(config) => (Ok(path), config.unwrap_or_default()),
        Err(error) => (Err(error), ConfigFile::default()),
    };
    let asked = ConfigFile { socket: Some(socket.to_owned()), ..ConfigFile::default() };
    Local::look(&Config::from(config.overridden_by(asked)), file)
}

/// The findings as a terminal of that width shows them.
fn lines(findings: &[Finding], width: usize) -> Vec<String> {
    let name = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    // Two blanks, the level, two blanks, the name, two blanks.
    let indent = 2 + 4 + 2 + name + 2;
    let room = width.saturating_sub(indent).max(20);
    let mut lines = Vec::new();
    let mut section = None;
    for finding in findings {
        if section.replace(finding.section) != Some(finding.section) {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(style(finding.section.title()).bold().to_string());
        }
        let level = style_of(finding.level).apply_to(finding.level.name());
        let mut head = format!("  {level}  {:name$}  ", finding.check);
        let told = finding.sentences.iter().map(|text| ("", text));
        let told = told.chain(finding.remedies.iter().map(|text| ("→ ", text)));
        for (mark, text) in told {
            let room = room.saturating_sub(console::measure_text_width(mark));
            // An error of several files has a line for each.
            let parts = text.lines().flat_map(|line| wrap(&printable(line), room));
            for (at, part) in parts.enumerate() {
                let mark = if at == 0 {
                    mark
                } else {
                    "  ".get(..2 * usize::from(!mark.is_empty())).unwrap_or_default()
                };
                lines.push(format!("{head}{mark}{part}"));
                head = " ".repeat(indent);
            }
        }
    }
    lines.push(String::new());
    lines.push(summary(findings));
    lines
}

fn style_of(level: Level) -> Style {
    match level {
        Level::Pass => Style::new().green(),
        Level::Warn => Style::new().yellow(),
        Level::Fail => Style::new().red().bold(),
    }
}

/// One line for all.
fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (warns, fails) = (count(Level::Warn), count(Level::Fail));
    let all = findings.len();
    if warns + fails == 0 {
        return format!("All {all} checks pass.");
    }
    let part = |n: usize, what: &str| match n {
        0 => String::new(),
        1 => format!(", 1 {what}s"),
        n => format!(", {n} {what}"),
    };
    format!("{} of {all} checks pass{}{}.", all - warns - fails, part(warns, "warn"), part(fails, "fail"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &'static str, level: Level, sentence: &str, remedy: &[&str]) -> Finding {
        let section = if check == "port" { Section::Peers } else { Section::Health };
        let remedies = remedy.iter().map(|&text| text.to_owned()).collect();
        Finding { section, check, level, sentences: vec![sentence.to_owned()], remedies }
    }

    #[test]
    fn lines_are_wrapped_under_their_sentence() {
        let findings = [
            finding("agent", Level::Pass, "version 0.1.0 answers", &[]),
            finding(
                "coordinator",
                Level::Fail,
                "it does not answer: \x1b[31m connection refused",
                &["check that it runs there"],
            ),
            finding("port", Level::Warn, "closed", &[]),
        ];
        let expected = [
            "Health",
            "  pass  agent        version 0.1.0",
            "                     answers",
            "  fail  coordinator  it does not answer:",
            "                     \\u{1b}[31m",
            "                     connection refused",
            "                     → check that it runs",
            "                       there",
            "",
            "Peers",
            "  warn  port         closed",
            "",
            "1 of 3 checks pass, 1 warns, 1 fails.",
        ];
        assert_eq!(lines(&findings, 40), expected);
        assert_eq!(summary(&[findings[0].clone(), findings[0].clone()]), "All 2 checks pass.");
    }

    #[test]
    fn sections_are_chosen() {
        let args = |health, p2p| DoctorArgs {
            health,
            p2p,
            json: false,
            config: None,
            socket: SocketArgs::default(),
        };
        assert_eq!(args(false, false).sections(), Section::ALL);
        assert_eq!(args(true, true).sections(), Section::ALL);
        assert_eq!(args(false, true).sections(), [Section::Peers]);
    }

    #[test]
    fn the_socket_is_named_once() {
        let message = "the agent at /run/p.sock cannot be reached: /run/p.sock: no such file";
        assert_eq!(without_path(message, "/run/p.sock"), "no such file");
        assert_eq!(without_path("odd", "/run/p.sock"), "odd");
    }
}
