//! The world: owner of a set of namespaces, and the sweeper of worlds whose test was killed.

use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;

use super::neighbours::{MANY, Room};
use super::{Bridge, Router, netns};

/// What every name begins with; the pid of the owner and a count follow: `pg-4711-0-`.
const PREFIX: &str = "pg-";

/// An interface's name has at most 15 bytes (IFNAMSIZ), and the kit puts up to 3 before a name.
const MAX_NAME: usize = 12;

/// A network of namespaces that exists for one test. Cheap to clone; removed with the last handle to any part of it.
#[derive(Debug, Clone)]
pub struct World(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    prefix: String,
    /// For the neighbours of many namespaces.
    room: Mutex<Option<Room>>,
}

impl World {
    /// An empty world. Removes what killed tests have left behind.
    ///
    /// # Errors
    /// Not run as root.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ensure!(
            rustix::process::geteuid().is_root(),
            "the network lab needs root: it makes network namespaces"
        );
        let prefix = format!("{PREFIX}{}-{}-", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        for name in netns::list(PREFIX) {
            // A name that this new world is about to use was left by an earlier process with the same pid.
            if name.starts_with(&prefix) || owner_is_gone(&name) {
                // Two tests may sweep at once; the other one was faster then.
                netns::remove(&name).ok();
            }
        }
        Ok(Self(Arc::new(Owner { prefix, room: Mutex::default() })))
    }

    /// A LAN without hosts.
    ///
    /// # Errors
    /// The name is taken, or not 1 to 12 letters and digits.
    pub fn bridge(&self, name: &str) -> Result<Bridge> {
        Bridge::new(self, name)
    }

    /// A router without ports.
    ///
    /// # Errors
    /// The name is taken, or not 1 to 12 letters and digits.
    pub fn router(&self, name: &str) -> Result<Router> {
        Router::new(self, name)
    }

    /// The namespaces of this world that exist now.
    pub fn namespaces(&self) -> Vec<String> {
        netns::list(&self.0.prefix)
    }

    /// Makes a namespace of this world and returns its full name.
    pub(super) fn add(&self, name: &str) -> Result<String> {
        let good =
            (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        ensure!(good, "{name:?} is no name for a part of a world: 1 to {MAX_NAME} letters and digits are");
        let full = format!("{}{name}", self.0.prefix);
        netns::add(&full).with_context(|| format!("cannot make {name:?}"))?;
        let mut room = self.0.room.lock();
        if room.is_none() && self.namespaces().len() >= MANY {
            *room = Room::make()?;
        }
        Ok(full)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for name in netns::list(&self.prefix) {
            if let Err(error) = netns::remove(&name) {
                #[expect(
                    clippy::print_stderr,
                    reason = "drop cannot fail, but must not hide what it left behind"
                )]
                {
                    eprintln!("network lab: {error:#}");
                }
            }
        }
    }
}

/// Whether the process that made the namespace `name` no longer runs.
fn owner_is_gone(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    // Not one of ours in spite of the prefix: leave it alone.
    let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { return false };
    !Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_worlds_of_dead_processes_are_swept() {
        // Above the largest pid that Linux can hand out (PID_MAX_LIMIT, 2^22).
        assert!(owner_is_gone("pg-8388608-0-lan"));
        assert!(!owner_is_gone(&format!("pg-{}-0-lan", process::id())));
        assert!(!owner_is_gone("pg-lab-0-lan") && !owner_is_gone("lan"));
    }
}
