//! What a process has cost, read from `/proc`.

use std::fs;
use std::io;

/// CPU time and memory of one process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Usage {
    /// User and system time in seconds, counted in clock ticks (10 ms).
    pub(crate) cpu_seconds: f64,
    /// Largest resident set so far (`VmHWM`), in bytes.
    pub(crate) peak_rss: u64,
}

impl Usage {
    /// Reads what the process has used so far.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        Ok(Self { cpu_seconds: cpu_ticks(&stat) as f64 / ticks as f64, peak_rss: peak_rss(&status) })
    }
}

/// proc(5): fields 14 and 15 of `stat` are utime and stime. The second field, the program's name in parentheses, may hold
/// spaces and parentheses itself.
fn cpu_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn peak_rss(status: &str) -> u64 {
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_shows() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 5 0 0";
        assert_eq!(cpu_ticks(stat), 300);
        assert_eq!(peak_rss("Name:\tx\nVmHWM:\t    2048 kB\n"), 2 << 20);
        let me = Usage::of(std::process::id()).unwrap();
        assert!(me.peak_rss > 100 << 10, "{me:?}");
        // Above the largest pid that Linux can hand out (PID_MAX_LIMIT, 2^22).
        assert!(Usage::of(1 << 23).is_err());
    }
}
