//! Watches the device's facts: says when some may have changed, and reads them.
//!
//! Links, addresses and routes, and what D-Bus knows, are told by whoever changes them; the rest is looked at now and then.
//! A source that is not there is done without.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use peerage_policy::{Facts, Power};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::bus::{self, BusFacts};
use crate::error::HostError;
use crate::{installed_ram, interfaces, power, volume_of, zone};

/// The multicast groups of rtnetlink for links, addresses and routes, IPv4 and IPv6 (`RTNLGRP_…` of linux/rtnetlink.h).
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// Changes of links that come close together are one.
const GATHER: Duration = Duration::from_millis(50);
/// How often facts that nobody tells of are looked at …
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// … and those of them that must hold at once: the battery, where only the kernel knows it, and the time zone.
const QUICK_EVERY: Duration = Duration::from_secs(1);
/// How long the start waits for the first answer of the bus. One that is there answers in milliseconds.
const FIRST: Duration = Duration::from_secs(1);

/// What could be read of the device, and what could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The facts; what could not be read is left unknown. What has been uploaded, how clocks differ and what names the
    /// group is known to others and left at its default.
    pub facts: Facts,
    /// Why something is unknown; empty when all is known.
    pub unknown: Vec<HostError>,
}

/// What is looked at every second: two or three small files, and the state of one.
#[derive(Debug, Clone, PartialEq)]
struct Quick {
    /// The power that `/sys` shows, where it is asked.
    power: Option<Power>,
    zone: Option<zone::Stamp>,
}

/// Watches the device. Ends its tasks when dropped.
#[derive(Debug)]
pub struct Monitor {
    cache: PathBuf,
    bus: watch::Receiver<Option<BusFacts>>,
    changed: Arc<Notify>,
    next_look: Instant,
    /// When the quick ones are looked at. Kept here and not in [`Monitor::changed`]: whoever waits there may also wait for
    /// something that comes more often than every second.
    next_quick: Instant,
    /// As it was last.
    quick: Quick,
    _tasks: JoinSet<()>,
}

impl Monitor {
    /// Begins to watch. `cache` is the directory whose volume is a fact; it need not be made yet.
    pub async fn start(cache: &Path) -> Self {
        let (facts, mut bus) = watch::channel(None);
        let changed = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(bus::watch(facts));
        tasks.spawn(watch_links(Arc::clone(&changed)));
        let _ = timeout(FIRST, bus.changed()).await;
        bus.mark_unchanged();
        let (next_look, next_quick) = (Instant::now() + LOOK_EVERY, Instant::now() + QUICK_EVERY);
        let quick = quick(&bus);
        Self { cache: cache.to_owned(), bus, changed, next_look, next_quick, quick, _tasks: tasks }
    }

    /// The directory whose volume is a fact is another one.
    pub fn set_cache(&mut self, cache: &Path) {
        cache.clone_into(&mut self.cache);
    }

    /// Waits until facts may have changed. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let next = self.next_look.min(self.next_quick);
            tokio::select! {
                () = self.changed.notified() => return,
                changed = self.bus.changed() => match changed {
                    Ok(()) => {
                        self.quick = quick(&self.bus);
                        return;
                    }
                    // The task is gone, which only the end of the runtime does to it.
                    Err(_) => std::future::pending().await,
                },
                () = sleep_until(next) => {
                    let (now, quick) = (Instant::now(), quick(&self.bus));
                    self.next_quick = now + QUICK_EVERY;
                    let due = now >= self.next_look;
                    if due {
                        self.next_look = now + LOOK_EVERY;
                    }
                    if due || quick != self.quick {
                        self.quick = quick;
                        return;
                    }
                }
            }
        }
    }

    /// What to read, to be done where waiting is allowed.
    pub fn look(&self) -> Look {
        Look { cache: self.cache.clone(), bus: self.bus.borrow().clone().unwrap_or_default() }
    }
}

/// The kernel is asked for the power only where the bus does not know.
fn quick(bus: &watch::Receiver<Option<BusFacts>>) -> Quick {
    let known = bus.borrow().as_ref().is_some_and(|bus| bus.power.is_some());
    Quick { power: if known { None } else { power::power() }, zone: zone::stamp() }
}

/// A look at the device, not yet taken.
#[derive(Debug, Clone)]
pub struct Look {
    cache: PathBuf,
    bus: BusFacts,
}

impl Look {
    /// Reads all facts. Blocking.
    pub fn take(self) -> Observed {
        let mut unknown = Vec::new();
        let facts = Facts {
            installed_ram: known(installed_ram(), &mut unknown),
            cache_volume: known(volume_of(&self.cache), &mut unknown),
            interfaces: known(interfaces(), &mut unknown).unwrap_or_default(),
            connections: self.bus.connections,
            metered: self.bus.metered,
            power: self.bus.power.or_else(power::power),
            zone: zone::zone(),
            ..Facts::default()
        };
        Observed { facts, unknown }
    }
}

fn known<T>(read: Result<T, HostError>, unknown: &mut Vec<HostError>) -> Option<T> {
    read.map_err(|error| unknown.push(error)).ok()
}

/// Tells of every change of links, addresses and routes, as long as the kernel tells of them.
async fn watch_links(changed: Arc<Notify>) {
    let socket = match open() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "changes of the network are noticed late: the kernel does not tell of them");
            return;
        }
    };
    loop {
        // What it says is of no account: all is read anew. Even an error (a queue that ran over) is news.
        if let Err(error) = socket.recv_from_full().await {
            tracing::debug!(%error, "news of the network were lost");
        }
        changed.notify_one();
        sleep(GATHER).await;
    }
}

fn open() -> std::io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.socket_ref().add_membership(group)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_read_is_unknown_and_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let monitor = Monitor::start(&file.path().join("cache")).await;
        let observed = monitor.look().take();
        assert_eq!(observed.facts.cache_volume, None);
        assert!(matches!(observed.unknown[..], [HostError::Volume { .. }]), "{observed:?}");
        assert!(observed.facts.installed_ram.is_some() && !observed.facts.interfaces.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_looked_at_every_second_is_so_though_the_caller_never_waits_for_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let mut monitor = Monitor::start(directory.path()).await;
        // As it would be if the zone had changed since.
        monitor.quick.zone = Some(zone::Stamp::of(0));
        let mut noticed = false;
        for _ in 0..12 {
            noticed |= timeout(QUICK_EVERY / 10, monitor.changed()).await.is_ok();
        }
        assert!(noticed && monitor.quick.zone == zone::stamp());
    }
}
