//! A daemon of the project under test: started, awaited until it says that it is ready, stopped on drop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::Process;
use crate::process::append;

/// Generous: two slow cores may be building and testing at once, and a healthy daemon takes milliseconds.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Longest ready line that is read.
const READY_LINE: u64 = 64 * 1024;

/// A running daemon that has printed its ready line.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    ready: Value,
}

impl Daemon {
    /// Starts `command` and waits for its ready line: one JSON object with the key `ready` on stdout (product §4).
    /// Logs go to `dir/NAME.stdout` and `dir/NAME.stderr`.
    ///
    /// # Errors
    /// It cannot be started, ends, prints something else, or is silent for 30 s; with the end of its log.
    pub fn spawn(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        command.stdout(Stdio::piped());
        let mut process = Process::spawn_keeping_stdout(name, command, dir)?;
        let stdout = process.take_stdout().context("stdout was piped")?;
        let first_line = drain(stdout, append(&dir.join(format!("{name}.stdout")))?);
        let line = match first_line.recv_timeout(READY_LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!("{name} is not ready after {READY_LIMIT:?}: {}", process.stderr_tail())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let end = process.wait(Duration::from_secs(5)).map(|end| end.status.to_string());
                let end = end.unwrap_or_else(|_| "still running, stdout closed".into());
                bail!("{name} ended before it was ready ({end}): {}", process.stderr_tail());
            }
        };
        match serde_json::from_str::<Value>(&line) {
            Ok(ready) if ready.get("ready").is_some() => Ok(Self { process, ready }),
            _ => bail!("{name} printed no ready line but {line:?}: {}", process.stderr_tail()),
        }
    }

    /// What its ready line said.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// An address that its ready line named, such as `peers` or `gateway`.
    ///
    /// # Errors
    /// There is no such key, or it holds no `IP:PORT`.
    pub fn address(&self, key: &str) -> Result<SocketAddr> {
        let text = self.ready.get(key).and_then(Value::as_str);
        let text = text.with_context(|| format!("no text {key:?} in the ready line {}", self.ready))?;
        text.parse().with_context(|| format!("{key:?} in the ready line is {text:?}, no IP:PORT"))
    }
}

impl Deref for Daemon {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Hands over the first line of `stdout` and copies all of it to `log` for as long as the daemon runs, so that it never
/// blocks on a full pipe.
fn drain(stdout: ChildStdout, mut log: std::fs::File) -> Receiver<String> {
    let (first, receiver) = channel();
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        if stdout.by_ref().take(READY_LINE).read_line(&mut line).is_ok_and(|read| read > 0) {
            // The receiver may have given up, or the disk may be full: the test has failed for a better reason then.
            log.write_all(line.as_bytes()).ok();
            first.send(line).ok();
        }
        drop(first);
        std::io::copy(&mut stdout, &mut log).ok();
    });
    receiver
}
