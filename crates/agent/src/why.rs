//! The account of a download: which decisions held while its bytes came, for `peerage why`.
//!
//! It is written with the content's notes, so it outlives the download and the process. A file that simple mode delivered,
//! that nobody waited for any more or that was evicted leaves no content behind; the last [`MAX_KEPT`] of those are in
//! `why.json` in the state directory.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use peerage_api::why::{Because, Decided, Sources, Why};
use peerage_content::PeerId;
use peerage_policy::{Class, Decision, Key, Layers, Reason, Setting};
use peerage_swarm::{ByKind, Offence};
use serde::{Deserialize, Serialize};

use crate::state_dir::StateDir;

const FILE: &str = "why.json";
/// Files without a content that are remembered.
const MAX_KEPT: usize = 128;
/// Decisions that are remembered of a file: the first and the last ones.
const MAX_DECISIONS: usize = 16;
const MAX_TROUBLES: usize = 8;
const MAX_WITHHELD: usize = 16;

/// What is remembered of one download.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) decisions: Vec<Decided>,
    /// Which of them holds, if not the last one: conditions that come and go are told once.
    #[serde(default)]
    holds: Option<usize>,
    /// The most peers that discovery has named, and that were connected at once.
    pub(crate) known_peers: u32,
    pub(crate) connected_peers: u32,
    /// Peers that said why they did not share, and had not said that they did again: each with its reason.
    #[serde(default)]
    withheld: BTreeMap<String, String>,
    /// What went wrong on the way, in sentences.
    #[serde(default)]
    pub(crate) troubles: Vec<String>,
    /// Why peers that could not be reached were not met through the relay, as of the last one.
    #[serde(default)]
    unmet: Option<Because>,
}

impl Account {
    /// Notes the decision that holds from now on, unless it is the one that held. Returns whether it is another one.
    pub(crate) fn decided(&mut self, next: Decided) -> bool {
        let holds = self.holds.unwrap_or(self.decisions.len().saturating_sub(1));
        let known = self.decisions.iter().position(|known| is_same(known, &next));
        if let Some(at) = known
            && let Some(known) = self.decisions.get_mut(at)
        {
            // Figures in it may have moved on.
            known.because = next.because;
            known.again += u32::from(at != holds);
            self.holds = Some(at);
            return at != holds;
        }
        self.decisions.push(next);
        self.shorten();
        self.holds = None;
        true
    }

    /// Notes how many peers there are.
    pub(crate) fn peers(&mut self, known: u32, connected: u32) {
        self.known_peers = self.known_peers.max(known);
        self.connected_peers = self.connected_peers.max(connected);
    }

    /// Notes why a peer that could not be reached was not met through the relay.
    pub(crate) fn unmet(&mut self, because: Because) {
        self.unmet = Some(because);
    }

    /// Notes that one was met there: what was in the way before is of no interest any more.
    pub(crate) fn met(&mut self) {
        self.unmet = None;
    }

    /// Notes something that went wrong and moved bytes to other sources; each kind of it once.
    pub(crate) fn trouble(&mut self, sentence: String) {
        let kind = |text: &str| text.chars().take(30).collect::<String>();
        if self.troubles.len() < MAX_TROUBLES
            && self.troubles.iter().all(|known| kind(known) != kind(&sentence))
        {
            self.troubles.push(sentence);
        }
    }

    /// Notes why a peer does not share; `None`: it does again.
    pub(crate) fn withheld(&mut self, name: String, why: Option<String>) {
        match why {
            None => drop(self.withheld.remove(&name)),
            Some(why) if self.withheld.len() < MAX_WITHHELD || self.withheld.contains_key(&name) => {
                self.withheld.insert(name, why);
            }
            Some(_) => {}
        }
    }

    /// Notes what a neighbour did wrong.
    pub(crate) fn offence(&mut self, peer: PeerId, offence: &Offence) {
        let did = match offence {
            Offence::BadPiece(_) => "sent wrong bytes, which were thrown away",
            Offence::Protocol(what) => what,
        };
        self.trouble(format!("The neighbour {} is charged: {did}.", peer.short()));
    }

    /// Puts what held in an earlier phase before what is here.
    pub(crate) fn after(&mut self, mut earlier: Self) {
        self.peers(earlier.known_peers, earlier.connected_peers);
        self.holds = earlier.holds;
        self.unmet = self.unmet.take().or(earlier.unmet.take());
        for (name, why) in std::mem::take(&mut earlier.withheld) {
            self.withheld(name, Some(why));
        }
        for sentence in std::mem::take(&mut earlier.troubles) {
            self.trouble(sentence);
        }
        let since = earlier.decisions.last().map_or(0, |last| last.at);
        for mut one in std::mem::replace(&mut self.decisions, earlier.decisions) {
            // Both may have been noted meanwhile; what is told is one after the other.
            one.at = one.at.max(since);
            self.decided(one);
        }
    }

    /// Keeps the first decision and the last ones.
    fn shorten(&mut self) {
        while self.decisions.len() > MAX_DECISIONS {
            self.decisions.remove(1);
        }
    }

    /// The answer to `why`, without what names the file.
    pub(crate) fn tell(&self, received: &ByKind) -> Why {
        let sources = sources(received);
        Why {
            sources,
            num_peers: self.known_peers,
            connected_peers: self.connected_peers,
            decisions: self.decisions.clone(),
            findings: self.findings(received),
            ..Why::default()
        }
    }

    /// What the figures say beside the decisions.
    fn findings(&self, received: &ByKind) -> Vec<Because> {
        let allowed = self.decisions.iter().any(|decided| decided.peers);
        let (known, connected) = (self.known_peers, self.connected_peers);
        let finding = |code: &str, sentence: String, remedy: Option<&str>| Because {
            code: code.to_owned(),
            sentence,
            remedy: remedy.map(str::to_owned),
            ..Because::default()
        };
        let unmet = self.unmet.clone().filter(|_| allowed && (connected == 0 || received.cdn > 0));
        let mut found: Vec<Because> =
            self.troubles.iter().map(|trouble| finding("trouble", trouble.clone(), None)).collect();
        found.extend(
            self.withheld.iter().map(|(name, why)| {
                finding("peer_withholds", format!("{name} does not share now: {why}"), None)
            }),
        );
        if allowed && known == 0 {
            found.push(finding(
                "no_peer_known",
                "peers were allowed and nobody named one: no other device of the site or group was known to hold the file \
                 while it was downloaded here"
                    .to_owned(),
                Some("none if this was the first device; else check that the devices are enrolled with one coordinator, and are in one site or group"),
            ));
        } else if allowed && connected == 0 {
            found.push(finding(
                "no_peer_connected",
                format!("{known} devices were named and none of them could be connected to"),
                Some("let the devices reach each other's TCP port 7680; `peerage status --peers` says what is wrong with each"),
            ));
        } else if allowed && received.cdn > 0 {
            // Of several decisions some may have kept the peers out.
            let kept_out = match self.decisions.len() {
                ..2 => "",
                _ => ", or what came while a decision above kept them out",
            };
            found.push(finding(
                "origin_beside_peers",
                format!(
                    "{connected} of {known} named devices were connected; the origin gave what they did not have yet, or \
                     gave more slowly than min_background_qos and the origin's own rate{kept_out}"
                ),
                Some("lower min_background_qos, or set delay_background_download_from_http, to leave more to peers"),
            ));
            if let Some(last) = found.last_mut() {
                last.setting = Some(Key::MinBackgroundQos.name().to_owned());
            }
        }
        found.extend(unmet);
        found
    }
}

/// Whether two decisions have the same reasons, whatever figures stand in their sentences.
fn is_same(one: &Decided, other: &Decided) -> bool {
    let plain = |because: &Because| {
        let sentence: String =
            because.sentence.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect();
        // A size that grows in a note moves its unit too.
        let most = if because.code == NOTE { 40 } else { usize::MAX };
        let sentence: String = sentence.chars().take(most).collect();
        (because.code.clone(), sentence, because.value.clone(), because.provider.clone())
    };
    one.class == other.class
        && one.peers == other.peers
        && one.because.iter().map(plain).eq(other.because.iter().map(plain))
}

/// What is no decision of policy.
const NOTE: &str = "note";

/// A decision of policy with the values that made it, and what else is to be said.
pub(crate) fn decided(
    decision: &Decision,
    class: Class,
    layers: &Layers,
    notes: impl IntoIterator<Item = String>,
    received: &ByKind,
    now: u64,
) -> Decided {
    let reason = |reason: &Reason| because(reason, layers);
    Decided {
        at: now,
        class: class.name().to_owned(),
        peers: decision.allowed.fetch_any(),
        because: decision.reasons.iter().map(reason).chain(notes.into_iter().map(note)).collect(),
        before: sources(received),
        again: 0,
    }
}

/// A reason of policy with the value that gave it, and the file in which that stands.
pub(crate) fn because(reason: &Reason, layers: &Layers) -> Because {
    let told = Because {
        code: reason.code.name().to_owned(),
        sentence: reason.sentence(),
        remedy: reason.remedy(),
        ..Because::default()
    };
    reason.setting.map_or(told.clone(), |key| by_setting(told, key, layers))
}

/// Names the setting, its value and who gives it.
fn by_setting(told: Because, key: Key, layers: &Layers) -> Because {
    let row = layers.row_of(key);
    Because {
        setting: Some(row.name.to_owned()),
        value: Some(row.effective.text),
        provider: Some(row.effective.provider.to_string()),
        source: row.effective.source,
        ..told
    }
}

/// Says of the findings that name a setting which value it has now, and who gives it.
pub(crate) fn complete(findings: &mut [Because], layers: &Layers) {
    for finding in findings.iter_mut().filter(|finding| finding.value.is_none()) {
        if let Some(setting) = finding.setting.as_deref().and_then(Setting::find) {
            *finding = by_setting(std::mem::take(finding), setting.key, layers);
        }
    }
}

/// A sentence that no setting stands behind.
pub(crate) fn note(sentence: String) -> Because {
    Because { code: NOTE.to_owned(), sentence, ..Because::default() }
}

fn sources(received: &ByKind) -> Sources {
    Sources {
        bytes_from_cdn: received.cdn,
        bytes_from_cache_server: received.cache_server,
        bytes_from_lan_peers: received.lan,
        bytes_from_link_local_peers: received.link_local,
        bytes_from_group_peers: received.group,
        bytes_from_internet_peers: received.internet,
    }
}

/// What has become of a file, beside why its bytes came from where they came.
pub(crate) fn fate(code: &str, sentence: String) -> Because {
    Because { code: code.to_owned(), sentence, ..Because::default() }
}

/// Files that left nothing in the cache, or no longer do: of simple mode, cancelled, evicted. The newest last.
#[derive(Debug)]
pub(crate) struct Past {
    state: StateDir,
    files: Mutex<VecDeque<Why>>,
}

impl Past {
    /// Reads what is remembered. Blocking.
    pub(crate) fn open(state: StateDir) -> Self {
        let read = state.read(FILE).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { state, files: Mutex::new(read.unwrap_or_default()) }
    }

    /// Remembers a file; an earlier download of the same URL is forgotten. Blocking.
    pub(crate) fn put(&self, why: Why) {
        let mut files = self.files.lock();
        let same = |known: &Why| {
            known.file_id == why.file_id || (!why.source_url.is_empty() && known.source_url == why.source_url)
        };
        files.retain(|known| !same(known));
        files.push_back(why);
        while files.len() > MAX_KEPT {
            files.pop_front();
        }
        let written = serde_json::to_vec(&*files).map(|bytes| self.state.write(FILE, &bytes));
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "why a file came from where it came is not kept over a restart");
        }
    }

    /// All of them, the newest first.
    pub(crate) fn all(&self) -> Vec<Why> {
        self.files.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(code: &str, sentence: &str) -> Decided {
        let because = Because { code: code.into(), sentence: sentence.into(), ..Because::default() };
        Decided { because: vec![because], peers: true, ..Decided::default() }
    }

    #[test]
    fn a_decision_is_noted_once_and_the_first_stays() {
        let mut account = Account::default();
        assert!(account.decided(with("month_spent", "1.2 GB of the 20 GB")));
        assert!(!account.decided(with("month_spent", "1.3 GB of the 20 GB")));
        assert_eq!(account.decisions[0].because[0].sentence, "1.3 GB of the 20 GB");
        for n in 0..40u8 {
            account.decided(with(&format!("c{n}"), "x"));
        }
        assert_eq!(account.decisions.len(), MAX_DECISIONS);
        assert_eq!(account.decisions[0].because[0].code, "month_spent");
        assert_eq!(account.decisions[MAX_DECISIONS - 1].because[0].code, "c39");
    }

    #[test]
    fn what_comes_and_goes_is_told_once() {
        let mut account = Account::default();
        let (up, down) = (|| with("mode_admits", "up"), || with("note", "the coordinator cannot be reached"));
        assert!(account.decided(up()) && account.decided(down()));
        for _ in 0..5 {
            assert!(account.decided(up()) && !account.decided(up()) && account.decided(down()));
        }
        let again: Vec<u32> = account.decisions.iter().map(|decided| decided.again).collect();
        assert_eq!(again, [5, 5]);
        let mut later = Account::default();
        later.decided(up());
        later.after(account);
        assert_eq!(later.decisions.len(), 2);
    }

    #[test]
    fn figures_become_findings() {
        let mut account = Account::default();
        account.decided(with("mode_admits", "x"));
        let origin = ByKind { cdn: 5, ..ByKind::default() };
        let code = |account: &Account| account.tell(&origin).findings[0].code.clone();
        assert_eq!(code(&account), "no_peer_known");
        account.peers(3, 0);
        assert_eq!(code(&account), "no_peer_connected");
        account.peers(2, 1);
        assert_eq!(code(&account), "origin_beside_peers");
        assert_eq!(account.known_peers, 3);
        let from_peers = ByKind { lan: 5, ..ByKind::default() };
        assert!(account.tell(&from_peers).findings.is_empty());
        let unmet = || Because { code: "relay_off".into(), ..Because::default() };
        account.unmet(unmet());
        assert_eq!(account.tell(&origin).findings[1].code, "relay_off");
        assert!(account.tell(&from_peers).findings.is_empty(), "nobody was missed");
        let mut later = Account::default();
        later.after(account.clone());
        assert!(later.tell(&origin).findings.contains(&unmet()));
        account.met();
        assert_eq!(account.tell(&origin).findings.len(), 1);
        account.trouble("The last request to the origin failed: 503.".into());
        account.trouble("The last request to the origin failed: 504.".into());
        assert_eq!(account.tell(&from_peers).findings.len(), 1);
    }

    #[test]
    fn the_past_is_bounded_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let past = Past::open(state.clone());
        for n in 0..MAX_KEPT + 5 {
            past.put(Why { file_id: n.to_string(), source_url: format!("http://o/{n}"), ..Why::default() });
        }
        past.put(Why {
            source_url: "http://o/20".into(),
            file_id: "x".into(),
            file_size: 7,
            ..Why::default()
        });
        let past = Past::open(state);
        assert_eq!(past.all().len(), MAX_KEPT);
        assert_eq!((past.all()[0].source_url.as_str(), past.all()[0].file_size), ("http://o/20", 7));
    }
}
