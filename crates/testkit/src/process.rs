//! One real program that a test started: its log, its end, what it cost.
//!
//! It stays in the test's process group, so that what stops the test (a terminal, nextest's time limit) stops it too.
//! Dropping it stops it: SIGTERM, and SIGKILL when that does not help. Signals go through a pidfd, so never to a
//! stranger that inherited the number.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Usage;

/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks at the memory of a program that is being measured.
const SAMPLE: Duration = Duration::from_millis(20);
/// How much of a log is worth showing when a test fails.
const TAIL: usize = 8 * 1024;

/// A program started by a test.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pidfd: OwnedFd,
    log: PathBuf,
    started: Instant,
    usage: Usage,
    status: Option<ExitStatus>,
}

/// How a program ended, and what it cost.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// From the start to the end.
    pub wall: Duration,
    /// CPU time exactly; the peak of memory as last sampled (every 20 ms).
    pub usage: Usage,
}

impl Process {
    /// Starts `command`. Its stdout and stderr are added to `dir/NAME.stdout` and `dir/NAME.stderr`; it has no stdin.
    ///
    /// # Errors
    /// It cannot be started, or the log files cannot be made.
    pub fn spawn(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        command.stdout(append(&dir.join(format!("{name}.stdout")))?);
        Self::spawn_keeping_stdout(name, command, dir)
    }

    /// Starts `command` with its stdout where the caller has sent it.
    pub(crate) fn spawn_keeping_stdout(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.stderr"));
        command.stdin(Stdio::null()).stderr(append(&log)?);
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        let pidfd = match pidfd_open(pid_of(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                child.kill().and_then(|()| child.wait()).ok();
                return Err(error).with_context(|| format!("cannot open a pidfd of {name}"));
            }
        };
        let (usage, status) = (Usage::default(), None);
        Ok(Self { name: name.to_owned(), child, pidfd, log, started, usage, status })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of [`Self::stderr`], for messages.
    pub(crate) fn stderr_tail(&self) -> String {
        let log = self.stderr();
        let cut = log.ceil_char_boundary(log.len().saturating_sub(TAIL));
        log[cut..].trim_end().to_owned()
    }

    /// What it and its descendants have cost so far; after its end, what they have cost in all.
    pub fn usage(&mut self) -> Usage {
        if self.status.is_none()
            && let Ok(now) = Usage::of(self.pid())
        {
            self.usage = Usage { peak_rss: self.usage.peak_rss.max(now.peak_rss), ..now };
        }
        self.usage
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        self.ended(Duration::ZERO)
    }

    /// Waits for its end, sampling its memory.
    ///
    /// # Errors
    /// It does not end within `limit` (it goes on running).
    pub fn wait(&mut self, limit: Duration) -> Result<Finished> {
        let end = Instant::now() + limit;
        loop {
            self.usage();
            let left = end.saturating_duration_since(Instant::now());
            if let Some(status) = self.ended(left.min(SAMPLE))? {
                return Ok(Finished { status, wall: self.started.elapsed(), usage: self.usage });
            }
            if left.is_zero() {
                bail!("{} still runs after {limit:?}; its log ends: {}", self.name, self.stderr_tail());
            }
        }
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<Finished> {
        self.usage();
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Kills it (SIGKILL): what a crash test wants.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<Finished> {
        self.usage();
        self.signal(Signal::KILL)?;
        self.wait(GRACE)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            // It has ended already, which is what every signal sent here is for.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal {}", self.name)),
        }
    }

    /// Waits up to `limit` for its end. A pidfd becomes readable when the process ends; before it is waited for, `/proc`
    /// still has its CPU time.
    fn ended(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match poll(&mut watched, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot poll {}", self.name)),
        }
        self.usage();
        self.status = Some(self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?);
        Ok(self.status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(
                clippy::print_stderr,
                reason = "the log of a failed test's program belongs to its output"
            )]
            {
                eprintln!(
                    "--- stderr of {} (pid {}) ends:\n{}\n---",
                    self.name,
                    self.pid(),
                    self.stderr_tail()
                );
            }
        }
        if self.status.is_none() && self.terminate(GRACE).is_err() {
            self.kill().ok();
        }
    }
}

/// Opens a log for adding to it: a restarted daemon goes on in the same file.
pub(crate) fn append(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path);
    file.with_context(|| format!("cannot open the log {}", path.display()))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}
