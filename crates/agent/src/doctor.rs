//! The check-up behind `peerage doctor`: what is seen goes in, findings come out, each with what to do about it.
//!
//! `CHECKS` is all of it: one row for each check, in the order in which they are told. A check is a pure function of a
//! [`Sight`] and says nothing where there is nothing to judge. Why a device may not share is what policy's own reasons
//! say; nothing of that is decided here.

mod health;
mod look;
mod peers;

use peerage_api::doctor::Checkup;
use peerage_api::why::Because;
use peerage_policy::units::about_size;
use serde::Serialize;

pub use look::{Directory, Local};

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Pass,
    /// Works, though not as well as it could, or not now.
    Warn,
    /// Does not work.
    Fail,
}

impl Level {
    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Whether downloads work.
    Health,
    /// Whether this device gets files from others, and gives them.
    Peers,
}

impl Section {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 2] = [Self::Health, Self::Peers];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Health => "Health",
            Self::Peers => "Peers",
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    /// What it is about.
    pub section: Section,
    /// What was checked.
    pub check: &'static str,
    /// How it stands.
    pub level: Level,
    /// What was found, in sentences, the main one first; never empty.
    pub sentences: Vec<String>,
    /// What to do about it.
    pub remedies: Vec<String>,
}

/// All that is seen. Whoever runs the check-up gathers it.
#[derive(Debug)]
pub struct Sight {
    /// The agent's socket.
    pub socket: String,
    /// What the agent says, or why it does not answer.
    pub agent: Result<Checkup, String>,
    /// Whether the peer port takes connections from this device, if it is open.
    pub port: Option<Result<(), String>>,
    /// What can be seen without the agent; looked for where it does not answer.
    pub local: Option<Local>,
}

/// What a check says.
struct Verdict {
    level: Level,
    sentences: Vec<String>,
    remedies: Vec<String>,
}

impl Verdict {
    fn new(level: Level, sentence: impl Into<String>) -> Self {
        Self { level, sentences: vec![sentence.into()], remedies: Vec::new() }
    }

    fn pass(sentence: impl Into<String>) -> Self {
        Self::new(Level::Pass, sentence)
    }

    fn warn(sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Warn, sentence).mended_by(remedy)
    }

    fn fail(sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Fail, sentence).mended_by(remedy)
    }

    fn mended_by(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }

    fn and(mut self, sentence: impl Into<String>) -> Self {
        self.sentences.push(sentence.into());
        self
    }

    /// What policy's reasons say, if it gives any.
    fn because<'a>(level: Level, reasons: impl IntoIterator<Item = &'a Because>) -> Option<Self> {
        let mut verdict = Self { level, sentences: Vec::new(), remedies: Vec::new() };
        for reason in reasons {
            verdict.sentences.push(reason.sentence.clone());
            verdict.remedies.extend(reason.remedy.clone());
        }
        (!verdict.sentences.is_empty()).then_some(verdict)
    }
}

/// Judges one thing; `None`: there is nothing to judge.
type Check = fn(&Sight) -> Option<Verdict>;

/// All checks, in the order in which their findings are told.
const CHECKS: &[(Section, &str, Check)] = &[
    (Section::Health, "agent", health::agent),
    (Section::Health, "configuration", health::configuration),
    (Section::Health, "policy", health::policy),
    (Section::Health, "coordinator", health::coordinator),
    (Section::Health, "directories", health::directories),
    (Section::Health, "cache", health::cache),
    (Section::Health, "disk space", health::space),
    (Section::Health, "network", health::network),
    (Section::Health, "metered", health::metered),
    (Section::Health, "proxy", health::proxy),
    (Section::Health, "ranges", health::ranges),
    (Section::Health, "connected caches", health::caches),
    (Section::Peers, "download mode", peers::mode),
    (Section::Peers, "memory", peers::memory),
    (Section::Peers, "disk size", peers::volume),
    (Section::Peers, "VPN", peers::vpn),
    (Section::Peers, "power", peers::power),
    (Section::Peers, "port", peers::port),
    (Section::Peers, "local discovery", peers::discovery),
    (Section::Peers, "group", peers::group),
    (Section::Peers, "peering", peers::peering),
];

/// What is to be said of these sections.
pub fn examine(sight: &Sight, sections: &[Section]) -> Vec<Finding> {
    let asked = CHECKS.iter().filter(|(section, ..)| sections.contains(section));
    let found = asked.filter_map(|(section, check, judge)| {
        let Verdict { level, sentences, remedies } = judge(sight)?;
        Some(Finding { section: *section, check, level, sentences, remedies })
    });
    found.collect()
}

/// What the agent says, if it answers.
const fn checkup(sight: &Sight) -> Option<&Checkup> {
    match &sight.agent {
        Ok(checkup) => Some(checkup),
        Err(_) => None,
    }
}

/// The reasons of the decision with one of these codes.
fn reasons<'a>(checkup: &'a Checkup, codes: &[&str]) -> Vec<&'a Because> {
    checkup.peering.because.iter().filter(|because| codes.contains(&because.code.as_str())).collect()
}

fn size(bytes: u64) -> String {
    about_size(bytes)
}

#[cfg(test)]
mod tests;
