//! `peerage config`: every setting, what holds, who says so, and what it overrides.

use std::process::ExitCode;

use clap::Args;
use console::measure_text_width;
use peerage_api::ApiError;
use peerage_api::agent::FleetState;
use peerage_api::client::AgentClient;
use serde::Deserialize;
use serde_json::Value;

use crate::output::{self, printable};
use crate::socket::{SocketArgs, reach};
use crate::table::{Align, Table};

/// Show every setting: what holds, which layer set it, what each lower layer says
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// What `GET /v1/config` answers, as far as it is shown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    settings: Vec<Setting>,
    #[serde(default)]
    fleet: FleetState,
    policy_error: Option<String>,
    #[serde(default)]
    admin_error: Option<String>,
    group: Option<Group>,
    caches: Option<Caches>,
    dhcp_cache_hosts: Option<CacheHosts>,
    facts: Option<Facts>,
}

/// Where the cache is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Facts {
    cache_directory: String,
    cache_moves_to: Option<String>,
    cache_moves_from: Vec<String>,
    cache_move_trouble: Option<String>,
}

/// The device's group, and which source named it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
    group_id: Option<String>,
    hashed_group_id: Option<String>,
    source: Option<String>,
    failed: Vec<Silent>,
}

/// A source that named no group.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Silent {
    source: String,
    why: String,
}

/// Connected caches in use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Caches {
    hosts: Vec<Cache>,
    source: Option<String>,
    why_none: Option<String>,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Cache {
    host: String,
    out_of_use: Option<u64>,
    why: Option<String>,
    origin: Option<String>,
}

/// Connected caches that DHCP names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CacheHosts {
    hosts: Vec<String>,
}

/// One setting, as the agent tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) effective: Said,
    pub(crate) lower: Vec<Said>,
    pub(crate) note: Option<String>,
}

/// What one layer says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Said {
    pub(crate) provider: String,
    pub(crate) source: Option<String>,
    pub(crate) text: String,
}

pub(crate) async fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let answer: Value = args.socket.client().get("/v1/config").await.map_err(reach)?;
    if args.json {
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines(&serde_json::from_value(answer)?, crate::status::width()) {
        output::line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is set and has no effect, for those who look at something else.
pub(crate) async fn troubles(client: &AgentClient) -> Result<Vec<String>, ApiError> {
    let answer: Answer = client.get("/v1/config").await?;
    let mut lines = answer.refused();
    let cache = answer.facts.filter(|facts| facts.cache_move_trouble.is_some());
    lines.extend(cache.iter().flat_map(Facts::lines));
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Ok(lines)
}

impl Answer {
    /// Policies that are not in force, each followed by an empty line.
    fn refused(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (error, said) in [
            (&self.fleet.error, "The newest policy of the fleet is not in force:"),
            (&self.policy_error, "The newest policy files are not in force, the previous ones are:"),
            (&self.admin_error, "What was set with `peerage set` is not in force:"),
        ] {
            let Some(error) = error else { continue };
            lines.push(said.to_owned());
            lines.extend(output::printable_lines(error).lines().map(|line| format!("  {line}")));
            lines.push(String::new());
        }
        lines
    }
}

fn lines(answer: &Answer, width: Option<usize>) -> Vec<String> {
    let mut lines = answer.refused();
    if let Some(serial) = answer.fleet.serial {
        let parts = match answer.fleet.parts.as_slice() {
            [] => "none is for this device".to_owned(),
            parts => printable(&parts.join(", ")).into_owned(),
        };
        lines.push(format!("The coordinator's policy, up to serial {serial}: {parts}"));
        lines.push(String::new());
    }
    let full = full(&answer.settings);
    let fits = |line: &String| width.is_none_or(|width| measure_text_width(line) <= width);
    lines.extend(if full.iter().all(fits) { full } else { narrow(&answer.settings, width) });
    if let Some(facts) = &answer.facts {
        lines.push(String::new());
        lines.extend(facts.lines());
    }
    if let Some(group) = &answer.group {
        lines.push(String::new());
        lines.extend(group.lines());
    }
    if let Some(caches) = &answer.caches {
        lines.extend(caches.lines());
    }
    // Those that are in use stand there already.
    let unused = answer.caches.as_ref().is_none_or(|caches| caches.source.as_deref() != Some("dhcp_option"));
    if let Some(caches) = answer.dhcp_cache_hosts.as_ref().filter(|caches| unused && !caches.hosts.is_empty())
    {
        lines.push(format!("DHCP names these caches, unused: {}", printable(&caches.hosts.join(", "))));
    }
    lines
}

impl Facts {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("Cache: {}", printable(&self.cache_directory))];
        if !self.cache_moves_from.is_empty() {
            lines.push(format!(
                "  not all has come yet from {}",
                printable(&self.cache_moves_from.join(", "))
            ));
        }
        if let Some(why) = &self.cache_move_trouble {
            let to = self.cache_moves_to.as_deref().unwrap_or("elsewhere");
            lines.push(format!(
                "  to be moved to {} (modify_cache_drive), but {}",
                printable(to),
                printable(why)
            ));
        }
        lines
    }
}

impl Group {
    fn lines(&self) -> Vec<String> {
        let mut lines = match (&self.group_id, &self.source) {
            (Some(id), Some(source)) => {
                let hashed = self.hashed_group_id.as_deref().unwrap_or_default();
                vec![
                    format!("Group: {} (from {})", printable(id), printable(source)),
                    format!("  in reports: {}", printable(hashed)),
                ]
            }
            _ => vec!["Group: none".to_owned()],
        };
        let silent = |silent: &Silent| format!("  {}: {}", printable(&silent.source), printable(&silent.why));
        lines.extend(self.failed.iter().map(silent));
        lines
    }
}

impl Caches {
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(source) = &self.source {
            lines.push(format!("Connected caches (from {}):", printable(source)));
        }
        for cache in &self.hosts {
            let state = match (cache.out_of_use, &cache.why) {
                (Some(seconds), Some(why)) => {
                    let of = cache.origin.as_ref();
                    let of = of.map_or_else(String::new, |origin| format!(" for files of {origin}"));
                    format!(", out of use for {seconds} s{of}: {why}")
                }
                _ => String::new(),
            };
            lines.push(format!("  {}", printable(&format!("{}{state}", cache.host))));
        }
        if let Some(why) = &self.why_none {
            lines.push(format!("DHCP names no connected cache: {}", printable(why)));
        }
        lines
    }
}

impl Setting {
    fn value(&self) -> String {
        printable(&self.effective.text).into_owned()
    }

    /// The layer in force, and the file it stands in.
    pub(crate) fn set_by(&self) -> String {
        let said = &self.effective;
        match &said.source {
            Some(source) => printable(&format!("{} ({source})", said.provider)).into_owned(),
            None => printable(&said.provider).into_owned(),
        }
    }

    fn instead_of(&self) -> String {
        let lower = self.lower.iter().map(|said| format!("{} ({})", said.text, said.provider));
        printable(&lower.collect::<Vec<_>>().join(", ")).into_owned()
    }
}

/// All in one row.
fn full(settings: &[Setting]) -> Vec<String> {
    let columns = ["SETTING", "VALUE", "SET BY", "INSTEAD OF"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for setting in settings {
        let name = printable(&setting.name).into_owned();
        table.row([name, setting.value(), setting.set_by(), setting.instead_of()]);
        if let Some(note) = &setting.note {
            table.note(format!("  {}", printable(note)));
        }
    }
    table.lines(None)
}

/// The value in a row; who set it below, unless it is a default.
fn narrow(settings: &[Setting], width: Option<usize>) -> Vec<String> {
    let mut table = Table::new(&[("SETTING", Align::Left), ("VALUE", Align::Left)]);
    for setting in settings {
        table.row([printable(&setting.name).into_owned(), setting.value()]);
        if !setting.lower.is_empty() {
            table.note(format!("  set by {}, instead of {}", setting.set_by(), setting.instead_of()));
        }
        if let Some(note) = &setting.note {
            table.note(format!("  {}", printable(note)));
        }
    }
    table.lines(width)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::config::lines;

    #[test]
    fn says_who_set_what_and_what_it_overrides() {
        let said = |provider, text| json!({"Provider": provider, "Source": null, "Text": text, "Value": 1});
        let answer = json!({
            "Settings": [
                {
                    "Name": "download_mode", "Note": "deprecated",
                    "Effective": {"Provider": "policy", "Source": "p.toml", "Text": "bypass", "Value": 100},
                    "Lower": [said("admin", "group"), said("default", "lan")],
                },
                {"Name": "max_cache_age", "Note": null, "Effective": said("default", "3d"), "Lower": []},
            ],
            "DoConfig": {},
            "PolicyError": "p.toml: line 1\x1b[0m\nunknown key",
            "Group": {
                "GroupId": "8a1c", "HashedGroupId": "aM9Z=", "Source": "domain_sid",
                "Failed": [{"Source": "ad_site", "Why": "there is no sssd.conf"}],
            },
            "Caches": {
                "Hosts": [
                    {"Host": "c1", "OutOfUse": null, "Why": null},
                    {"Host": "c2:80", "OutOfUse": 290, "Why": "could not connect"},
                ],
                "Source": "dhcp_option", "WhyNone": null,
            },
            "DhcpCacheHosts": {"Hosts": ["c1", "c2:80"], "WhyNone": null},
        });
        let answer = serde_json::from_value(answer).unwrap();
        let expected = [
            "The newest policy files are not in force, the previous ones are:",
            "  p.toml: line 1\\u{1b}[0m",
            "  unknown key",
            "",
            "SETTING        VALUE   SET BY           INSTEAD OF",
            "download_mode  bypass  policy (p.toml)  group (admin), lan (default)",
            "  deprecated",
            "max_cache_age  3d      default",
            "",
            "Group: 8a1c (from domain_sid)",
            "  in reports: aM9Z=",
            "  ad_site: there is no sssd.conf",
            "Connected caches (from dhcp_option):",
            "  c1",
            "  c2:80, out of use for 290 s: could not connect",
        ];
        assert_eq!(lines(&answer, None), expected);
        let narrow = [
            "SETTING        VALUE",
            "download_mode  bypass",
            "  set by policy (p.toml), instead of group (ad…",
            "  deprecated",
            "max_cache_age  3d",
        ];
        assert_eq!(lines(&answer, Some(47))[4..9], narrow);
    }
}
