//! Why the bytes of a file came from where they came (`GET /v1/why`).

use serde::{Deserialize, Serialize};

/// Bytes by kind of source, under the names of `Get-DeliveryOptimizationStatus` (DO reference §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Sources {
    /// From the origin.
    pub bytes_from_cdn: u64,
    /// From connected caches.
    pub bytes_from_cache_server: u64,
    /// From LAN peers.
    pub bytes_from_lan_peers: u64,
    /// From peers found by DNS-SD.
    pub bytes_from_link_local_peers: u64,
    /// From group peers.
    pub bytes_from_group_peers: u64,
    /// From Internet peers.
    pub bytes_from_internet_peers: u64,
}

impl Sources {
    /// Each kind with its name for people, in the order in which they are told.
    pub const fn kinds(&self) -> [(&'static str, u64); 6] {
        [
            ("LAN peers", self.bytes_from_lan_peers),
            ("peers found by local discovery", self.bytes_from_link_local_peers),
            ("group peers", self.bytes_from_group_peers),
            ("Internet peers", self.bytes_from_internet_peers),
            ("a connected cache", self.bytes_from_cache_server),
            ("the origin", self.bytes_from_cdn),
        ]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.kinds().iter().map(|(_, bytes)| bytes).sum()
    }
}

/// One reason of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Because {
    /// Its stable name, for programs.
    pub code: String,
    /// What was decided and why.
    pub sentence: String,
    /// The setting that decided it; none: not a setting.
    pub setting: Option<String>,
    /// Its value.
    pub value: Option<String>,
    /// The layer that gives it.
    pub provider: Option<String>,
    /// The file that it stands in.
    pub source: Option<String>,
    /// What to change for another decision; none: nothing is amiss.
    pub remedy: Option<String>,
}

impl Because {
    /// All of it on one line, for a table: what, by which setting, what to change.
    pub fn line(&self) -> String {
        let mut line = self.sentence.clone();
        if let Some(source) = &self.source {
            line.push_str(&format!(", {source}"));
        }
        if let Some(remedy) = &self.remedy {
            line.push_str(&format!("; to change it: {remedy}"));
        }
        line
    }
}

/// A decision, as long as it held.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Decided {
    /// Unix seconds from which it held.
    pub at: u64,
    /// `foreground` or `background`.
    pub class: String,
    /// Whether peers could be fetched from.
    pub peers: bool,
    /// The reasons, the mode's first.
    pub because: Vec<Because>,
    /// What had come before.
    pub before: Sources,
    /// How often it held again after another one.
    pub again: u32,
}

/// What is known of where the bytes of a file came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Why {
    /// The content id, or a name that begins with `url-`.
    pub file_id: String,
    /// Bytes of the whole file; 0 while unknown.
    pub file_size: u64,
    /// Where it comes from.
    #[serde(rename = "SourceURL")]
    pub source_url: String,
    /// Whether the download is over.
    pub complete: bool,
    /// Where the bytes came from.
    #[serde(flatten)]
    pub sources: Sources,
    /// The most peers that discovery has named.
    pub num_peers: u32,
    /// The most that were connected at once.
    pub connected_peers: u32,
    /// The decisions, the first first.
    pub decisions: Vec<Decided>,
    /// What follows, in sentences.
    pub findings: Vec<Because>,
    /// What holds now, also for the peers that want it from here; empty: it is not here.
    pub now: Vec<Because>,
}
