//! What could name the device's group, and the connected caches and proxy scripts that the network names: read at the
//! start, when the network or the policy changes, and now and then.
//!
//! DHCP servers are asked only where policy or the configuration wants to know and nobody who holds the device's lease does:
//! each time the device gets other addresses, else seldom. What is found becomes a fact; policy chooses. Proxy scripts are
//! looked for only where the configuration says `proxy = "wpad"`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use peerage_host::{DhcpSays, Wanted, ask_servers, read_group_sources, read_leases, wpad_url};
use peerage_origin::{ChosenBy, Scripts, SourceUrl};
use peerage_policy::{CacheHostSource, DhcpCacheHosts, GroupIdSource, GroupSources, Interface, Settings};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::shared::Shared;

/// How often files and leases are looked at.
const EVERY: Duration = Duration::from_secs(30);
/// How often servers are asked again.
const ASK_EVERY: Duration = Duration::from_secs(600);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Naming {
    pub(crate) group_sources: GroupSources,
    pub(crate) dhcp_cache_hosts: DhcpCacheHosts,
}

impl Naming {
    /// What the files say. Blocking.
    pub(crate) fn of_files() -> Self {
        Self { group_sources: read_group_sources(Path::new("/")), ..Self::default() }
    }
}

/// What the servers said last, and when and where they were asked.
struct Asked {
    says: DhcpSays,
    at: Instant,
    interfaces: Vec<Interface>,
    wanted: Wanted,
}

/// Whether policy wants to know what DHCP says.
fn wants_dhcp(settings: &Settings) -> bool {
    let group = settings.group_id.is_none() && settings.group_id_source == GroupIdSource::DhcpOption;
    let caches = matches!(
        settings.cache_host_source,
        Some(CacheHostSource::DhcpOption | CacheHostSource::DhcpOptionForce)
    );
    group || caches
}

/// Where this network has proxy scripts: DHCP's word goes first, as browsers do it.
async fn scripts(says: &DhcpSays) -> Scripts {
    let by_dns = tokio::task::spawn_blocking(|| wpad_url(Path::new("/"))).await;
    let by_dns = by_dns.map_err(|error| error.to_string()).flatten();
    let mut scripts = Scripts::default();
    for url in [says.script(), by_dns] {
        match url.and_then(|url| SourceUrl::parse(&url).map_err(|error| format!("{url:?}: {error}"))) {
            Ok(url) => scripts.urls.push(url),
            Err(why) => scripts.silent.push(why),
        }
    }
    scripts
}

/// Reads and tells until the agent ends.
pub(crate) async fn run(shared: Arc<Shared>, found: watch::Sender<Naming>) {
    let discover = matches!(shared.origin.way_out().by, ChosenBy::Discovery(_));
    let wants = |settings: &Settings| Wanted { names: wants_dhcp(settings), script: discover };
    let mut policy = shared.policy.clone();
    let mut asked: Option<Asked> = None;
    let mut group = shared.decide_device().allowed.group;
    loop {
        let view = Arc::clone(&policy.borrow_and_update());
        let (wanted, interfaces) = (wants(&view.settings), view.facts.interfaces.clone());
        let mut says = read_leases(Path::new("/"), shared.clock.unix()).await;
        if says.lacks(wanted) {
            let old = asked.take().filter(|old| old.wanted == wanted);
            let fresh = old.filter(|old| old.interfaces == interfaces && old.at.elapsed() < ASK_EVERY);
            let kept = match fresh {
                Some(asked) => asked,
                None => {
                    let says = ask_servers(says, &interfaces, wanted).await;
                    Asked { says, at: Instant::now(), interfaces: interfaces.clone(), wanted }
                }
            };
            says = kept.says.clone();
            asked = Some(kept);
        }
        if discover {
            shared.origin.scripts(Some(scripts(&says).await));
        }
        let Ok(mut naming) = tokio::task::spawn_blocking(Naming::of_files).await else { return };
        naming.group_sources.dhcp_option = says.group();
        naming.dhcp_cache_hosts = says.cache_hosts();
        found.send_if_modified(|now| {
            let changed = *now != naming;
            *now = naming;
            changed
        });
        let next = sleep(EVERY);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                changed = policy.changed() => if changed.is_err() { return },
            }
            let view = Arc::clone(&policy.borrow_and_update());
            let now = shared.decide_device().allowed.group;
            if now != group {
                group = now;
                // Peers of the new group are to be met at once.
                shared.announcer.announce_all();
            }
            if view.facts.interfaces != interfaces {
                // Another network may have another script, or none: downloads that begin wait for the answer.
                shared.origin.scripts(None);
                break;
            }
            if wants(&view.settings) != wanted {
                break;
            }
        }
    }
}
