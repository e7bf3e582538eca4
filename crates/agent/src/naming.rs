//! What could name the device's group, and the connected caches that DHCP names: read at the start, when the network or
//! the policy changes, and now and then.
//!
//! DHCP servers are asked only where policy wants to know and nobody who holds the device's lease does: each time the
//! device gets other addresses, else seldom. What is found becomes a fact; policy chooses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use peerage_host::{DhcpSays, ask_servers, read_group_sources, read_leases};
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

/// Reads and tells until the agent ends.
pub(crate) async fn run(shared: Arc<Shared>, found: watch::Sender<Naming>) {
    let mut policy = shared.policy.clone();
    let mut asked: Option<Asked> = None;
    let mut group = shared.decide_device().allowed.group;
    loop {
        let view = Arc::clone(&policy.borrow_and_update());
        let (wanted, interfaces) = (wants_dhcp(&view.settings), view.facts.interfaces.clone());
        let mut says = read_leases(Path::new("/"), shared.clock.unix()).await;
        if wanted && !says.answers() {
            let old = asked.take();
            let fresh = old.filter(|old| old.interfaces == interfaces && old.at.elapsed() < ASK_EVERY);
            let kept = match fresh {
                Some(asked) => asked,
                None => {
                    let says = ask_servers(says, &interfaces).await;
                    Asked { says, at: Instant::now(), interfaces: interfaces.clone() }
                }
            };
            says = kept.says.clone();
            asked = Some(kept);
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
            if wants_dhcp(&view.settings) != wanted || view.facts.interfaces != interfaces {
                break;
            }
        }
    }
}
