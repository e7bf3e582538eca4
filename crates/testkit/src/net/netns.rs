//! One named network namespace: made, entered, emptied of processes and removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::tool;

/// Where `ip netns` keeps its names (ip-netns(8)).
const NETNS_DIR: &str = "/run/netns";

/// Makes the namespace `name` with its loopback up.
pub(super) fn add(name: &str) -> Result<()> {
    tool::run("ip", ["netns", "add", name])?;
    tool::run("ip", ["-n", name, "link", "set", "lo", "up"]).map(drop)
}

/// Kills what runs inside the namespace and removes it. Interfaces and rules go with it.
pub(super) fn remove(name: &str) -> Result<()> {
    for pid in tool::run("ip", ["netns", "pids", name])?.split_ascii_whitespace() {
        // Whatever is in there was started for this world; one that has just ended is as good as killed.
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
    tool::run("ip", ["netns", "del", name]).map(drop)
}

/// The names of all namespaces of the machine that begin with `prefix`.
pub(super) fn list(prefix: &str) -> Vec<String> {
    // No directory: no namespace has ever been made.
    let entries = fs::read_dir(NETNS_DIR).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// A command that will run inside the namespace, with the pid that it is spawned with.
pub(super) fn command(name: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]).arg(program);
    command
}

/// Runs `work` on a thread of its own inside the namespace: its sockets are made there.
pub(super) fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = Path::new(NETNS_DIR).join(name);
    let netns = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let inside = || -> Result<T> {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the namespace {name}"))?;
        Ok(work())
    };
    thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Sets a kernel parameter of the namespace, such as `net/ipv4/ip_forward`.
pub(super) fn sysctl(name: &str, key: &str, value: &str) -> Result<()> {
    within(name, || fs::write(Path::new("/proc/sys").join(key), value))?
        .with_context(|| format!("cannot set {key} to {value} in {name}"))
}
