//! What a process and its children have cost so far, read from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// CPU time and memory of a process with all its descendants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// User and system time, of living processes and of those already waited for. Counted in clock ticks (10 ms).
    pub cpu: Duration,
    /// Sum of the living processes' peak resident sets (`VmHWM`), in bytes. Shared pages count once per process.
    pub peak_rss: u64,
    /// Sum of the living processes' resident sets now (`VmRSS`), in bytes.
    pub rss: u64,
}

impl Usage {
    /// Reads what the process `pid` and its living descendants have used. A process that is over but not yet waited
    /// for still has its CPU time, no longer its memory.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut usage =
            Self { cpu: cpu_time(pid)?, peak_rss: memory(pid, "VmHWM:"), rss: memory(pid, "VmRSS:") };
        for child in children(pid) {
            // A child may end between the listing and here; then it is in the parent's count at the next look.
            if let Ok(more) = Self::of(child) {
                usage.cpu += more.cpu;
                usage.peak_rss += more.peak_rss;
                usage.rss += more.rss;
            }
        }
        Ok(usage)
    }
}

/// proc(5): fields 14 to 17 of `stat` are utime, stime, cutime, cstime. The second field, the program's name in
/// parentheses, may hold spaces and parentheses itself.
fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_ascii_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// proc(5): a line of `status` in kB; 0 for a process that is over.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0) * 1024
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_and_no_such_process() {
        let me = Usage::of(std::process::id()).unwrap();
        // The kernel counts in batches: the one may lag behind the other.
        assert!(me.peak_rss > 100 * 1024 && me.rss > 100 * 1024, "{me:?}");
        // Above the largest pid that Linux can hand out (PID_MAX_LIMIT, 2^22).
        assert!(Usage::of(1 << 23).is_err());
    }
}
