//! The lab's child processes: started, awaited until they are ready, watched, stopped.
//!
//! Invariant: no child outlives the nursery. Each is tied to the thread that started it (`child`), gets SIGTERM and then
//! SIGKILL from [`Nursery::close`], and SIGKILL when its handle is dropped. Signals go through a pidfd, so never to a
//! stranger that inherited the number.

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as thread_mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::future::join_all;
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::child::tied;
use crate::usage::Usage;

/// How long a child may take to become ready; hundreds may be starting at once.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);
/// A request that fails because its child has just died is reported as that death.
const DEATH_NOTICE: Duration = Duration::from_millis(300);
/// How much of a log is shown.
const TAIL_BYTES: u64 = 4 << 10;
const TAIL_LINES: usize = 12;
/// What daemons would read and labs must not obey: everything they ask for is on this machine.
const FOREIGN_ENVIRONMENT: &[&str] =
    &["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "PEERAGE_SOCKET", "all_proxy", "http_proxy", "https_proxy"];

/// What to start.
#[derive(Debug)]
pub(crate) struct Order {
    /// What it is called in messages: `device 3`.
    pub(crate) name: String,
    /// Subcommand and arguments.
    pub(crate) args: Vec<OsString>,
    /// Where its log goes.
    pub(crate) log: PathBuf,
    /// Whether it may use the user's HTTP proxy.
    pub(crate) proxy: bool,
}

/// A child that has said that it is ready.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The process.
    pub(crate) child: Arc<Child>,
    /// Its ready line.
    pub(crate) line: Value,
    /// Further lines that it prints. May be dropped.
    pub(crate) lines: mpsc::UnboundedReceiver<String>,
}

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    pid: u32,
    pidfd: OwnedFd,
    log: PathBuf,
    stopping: AtomicBool,
    ended: watch::Receiver<Option<ExitStatus>>,
}

/// All children.
#[derive(Debug)]
pub(crate) struct Nursery {
    program: PathBuf,
    births: thread_mpsc::Sender<Birth>,
    children: Mutex<Vec<Arc<Child>>>,
    /// The first child that ended unasked, and how.
    death: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct Birth {
    command: Command,
    born: oneshot::Sender<std::io::Result<tokio::process::Child>>,
}

impl Nursery {
    /// An empty one. The children will run the program that is running now.
    ///
    /// # Errors
    /// The program's file cannot be found, or no thread can be started.
    pub(crate) fn new() -> Result<Self> {
        let program = std::env::current_exe().context("could not find this program")?;
        let (births, orders) = thread_mpsc::channel::<Birth>();
        let runtime = Handle::current();
        // The kernel takes the end of the thread that started a child for the end of its parent (prctl(2),
        // PR_SET_PDEATHSIG), and threads of the runtime come and go: so one thread starts all and stays to the end.
        let midwife = move || {
            let _entered = runtime.enter();
            for Birth { mut command, born } in orders {
                // Nobody waits any more when the lab is being stopped; the child is killed as its handle is dropped.
                let _ = born.send(command.spawn());
            }
        };
        std::thread::Builder::new()
            .name("lab-nursery".into())
            .spawn(midwife)
            .context("could not start a thread")?;
        Ok(Self { program, births, children: Mutex::default(), death: watch::Sender::new(None) })
    }

    /// Starts a child and waits for its ready line (product §4).
    ///
    /// # Errors
    /// It cannot be started, ends, says something else, or is silent for a minute; with the end of its log.
    pub(crate) async fn start(&self, order: Order) -> Result<Ready> {
        let Order { name, args, log, proxy } = order;
        let file = File::create(&log).with_context(|| format!("could not make {}", log.display()))?;
        let mut command = Command::new(&self.program);
        command.args(tied(args)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        // Its own group: Ctrl-C is for the lab, which then stops its children in good order.
        command.process_group(0).kill_on_drop(true);
        for key in FOREIGN_ENVIRONMENT.iter().filter(|key| !proxy || **key == "PEERAGE_SOCKET") {
            command.env_remove(key);
        }
        let (born, birth) = oneshot::channel();
        let lost = || anyhow!("could not start {name}: no thread starts processes");
        self.births.send(Birth { command, born }).map_err(|_| lost())?;
        let process = birth.await.map_err(|_| lost())?.with_context(|| format!("could not start {name}"))?;
        let (child, mut lines) = self.adopt(name, log, process)?;
        match timeout(READY_LIMIT, lines.recv()).await {
            Err(_) => bail!("{} is not ready after {READY_LIMIT:?}{}", child.name, child.tail()),
            Ok(None) => {
                bail!("{} ended before it was ready ({}){}", child.name, child.end().await, child.tail())
            }
            Ok(Some(line)) => match serde_json::from_str::<Value>(&line) {
                Ok(value) if value.get("ready").is_some() => Ok(Ready { child, line: value, lines }),
                _ => bail!("{} printed no ready line but {line:?}{}", child.name, child.tail()),
            },
        }
    }

    /// Takes note of a new child and watches it.
    fn adopt(
        &self,
        name: String,
        log: PathBuf,
        mut process: tokio::process::Child,
    ) -> Result<(Arc<Child>, mpsc::UnboundedReceiver<String>)> {
        let pid = process.id().with_context(|| format!("{name} has no process id"))?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("process id out of range")?;
        let pidfd =
            pidfd_open(raw, PidfdFlags::empty()).with_context(|| format!("could not watch {name}"))?;
        let lines = read_lines(process.stdout.take().with_context(|| format!("{name} has no stdout"))?);
        let (tell, ended) = watch::channel(None);
        let child = Arc::new(Child { name, pid, pidfd, log, stopping: AtomicBool::new(false), ended });
        let (watched, death) = (Arc::clone(&child), self.death.clone());
        tokio::spawn(async move {
            let status = process.wait().await.unwrap_or_default();
            if !watched.stopping.load(Ordering::Relaxed) {
                let Child { name, pid, .. } = &*watched;
                let message = format!("{name} (process {pid}) ended: {status}{}", watched.tail());
                death.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(message);
                    is_first
                });
            }
            tell.send_replace(Some(status));
        });
        self.children.lock().push(Arc::clone(&child));
        Ok((child, lines))
    }

    /// Does `work`, unless a child ends meanwhile.
    ///
    /// # Errors
    /// Those of `work`, or which child ended and the end of its log.
    pub(crate) async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut death = self.death.subscribe();
        let died = async {
            // The sender is `self`'s, so this cannot fail.
            death.wait_for(Option::is_some).await.ok().and_then(|death| death.clone()).unwrap_or_default()
        };
        tokio::pin!(died);
        let error = tokio::select! {
            biased;
            message = &mut died => bail!(message),
            result = work => match result {
                Ok(value) => return Ok(value),
                Err(error) => error,
            },
        };
        match timeout(DEATH_NOTICE, died).await {
            Ok(message) => bail!(message),
            Err(_) => Err(error),
        }
    }

    /// Stops some children: SIGTERM, and SIGKILL to those that run on for 3 s.
    pub(crate) async fn stop(&self, which: &[Arc<Child>]) {
        which.iter().for_each(|child| child.signal(Signal::TERM));
        if timeout(GRACE, join_all(which.iter().map(|child| child.end()))).await.is_err() {
            self.kill(which).await;
        }
    }

    /// Stops all children.
    pub(crate) async fn close(&self) {
        let all = self.children.lock().clone();
        self.stop(&all).await;
    }

    /// Stops all children at once.
    pub(crate) async fn close_now(&self) {
        let all = self.children.lock().clone();
        self.kill(&all).await;
    }

    async fn kill(&self, which: &[Arc<Child>]) {
        which.iter().for_each(|child| child.signal(Signal::KILL));
        // SIGKILL cannot be held back; only a process stuck in the kernel does not end.
        let _ = timeout(GRACE, join_all(which.iter().map(|child| child.end()))).await;
    }
}

impl Child {
    /// What it has cost so far; nothing when it has ended.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.pid).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        self.stopping.store(true, Ordering::Relaxed);
        // The only failure is that it has ended, which is what every signal sent here is for.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its end.
    async fn end(&self) -> ExitStatus {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        status.unwrap_or_default()
    }

    /// The end of its log, for messages.
    pub(crate) fn tail(&self) -> String {
        match tail(&self.log) {
            Some(text) if !text.is_empty() => format!("; its log ends:\n{text}"),
            _ => "; its log is empty".to_owned(),
        }
    }
}

/// Reads lines for as long as the child prints, whether or not anybody listens, so that it never blocks on a full pipe.
fn read_lines(stdout: ChildStdout) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The last lines of a file, indented.
fn tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    Some(lines.get(from..)?.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (0..1000).map(|i| format!("line {i}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let tail = tail(&path).unwrap();
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.starts_with("  line 988\n") && tail.ends_with("  line 999"), "{tail}");
    }
}
