//! A fleet of real processes: one coordinator and as many agents as a test wants, on this machine or in namespaces.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Daemon, Host, Process, Usage, peerage_bin};

/// A command may take this long; a healthy one takes far less.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);
/// Lets peers share whatever machine the test runs on, and whatever size the test's files have.
pub const OPEN_POLICY: &str = "min_ram_allowed_to_peer = 1\nmin_disk_size_allowed_to_peer = 1\nmin_file_size_to_cache = 1\n\
     min_battery_percentage_allowed_to_upload = 1\nallow_vpn_peer_caching = true\n";

/// A running coordinator and what is needed to join and to publish.
#[derive(Debug)]
pub struct Fleet {
    dir: PathBuf,
    bin: PathBuf,
    host: Option<Host>,
    config: PathBuf,
    /// The coordinator's process.
    pub coordinator: Daemon,
    /// Its URL.
    pub url: String,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Its name, and that of its directory.
    pub name: String,
    /// Its state, cache and logs.
    pub dir: PathBuf,
    /// Its process.
    pub daemon: Daemon,
    bin: PathBuf,
    host: Option<Host>,
    listen: SocketAddr,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

fn command(bin: &Path, host: Option<&Host>) -> Command {
    let mut command = host.map_or_else(|| Command::new(bin), |host| host.command(bin));
    // What this machine's services say is no part of a test.
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
    command
}

impl Fleet {
    /// Starts a coordinator at `listen` (port 0: any) with its state in `dir`, in the namespace of `host` if given.
    /// `config` is further TOML for it, such as `ingest_allow = ["127.0.0.0/8"]`.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start(dir: &Path, listen: SocketAddr, host: Option<&Host>, config: &str) -> Result<Self> {
        Self::start_bin(&peerage_bin()?, dir, listen, host, config)
    }

    /// As [`Self::start`], with a `peerage` binary of the caller's choice, which its agents use too.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_bin(
        bin: &Path,
        dir: &Path,
        listen: SocketAddr,
        host: Option<&Host>,
        config: &str,
    ) -> Result<Self> {
        let (dir, bin) = (dir.to_owned(), bin.to_owned());
        fs::create_dir_all(&dir)?;
        let file = dir.join("coordinator.toml");
        let data = dir.join("coordinator");
        let head = format!("data_dir = {data:?}\nlisten = \"{listen}\"\n");
        fs::write(&file, head + config)?;
        let (coordinator, url) = Self::run(&dir, &bin, host, &file)?;
        Ok(Self { dir, bin, host: host.cloned(), config: file, coordinator, url })
    }

    fn run(dir: &Path, bin: &Path, host: Option<&Host>, config: &Path) -> Result<(Daemon, String)> {
        let mut command = command(bin, host);
        command.args(["coordinator", "--config"]).arg(config);
        let coordinator = Daemon::spawn("coordinator", command, dir)?;
        let url = coordinator.ready()["url"].as_str().context("no url in the ready line")?.to_owned();
        Ok((coordinator, url))
    }

    /// Kills the coordinator (`kill -9`).
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        self.coordinator.kill().map(drop)
    }

    /// Starts it again with the same state, at the same address.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn restart_coordinator(&mut self) -> Result<()> {
        let listen = self.url.trim_start_matches("https://").to_owned();
        let text = fs::read_to_string(&self.config)?;
        let lines = text.lines().map(|line| match line.starts_with("listen = ") {
            true => format!("listen = \"{listen}\""),
            false => line.to_owned(),
        });
        fs::write(&self.config, lines.collect::<Vec<_>>().join("\n"))?;
        (self.coordinator, self.url) = Self::run(&self.dir, &self.bin, self.host.as_ref(), &self.config)?;
        Ok(())
    }

    /// The enrolment token, as text.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn enroll_token(&self) -> Result<String> {
        self.token("enroll_token_file")
    }

    /// The publisher's token, as text.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn admin_token(&self) -> Result<String> {
        self.token("admin_token_file")
    }

    fn token(&self, key: &str) -> Result<String> {
        let path =
            self.coordinator.ready()[key].as_str().with_context(|| format!("no {key} in the ready line"))?;
        Ok(fs::read_to_string(path)?.trim().to_owned())
    }

    /// `peerage publish FILE --url URL`.
    ///
    /// # Errors
    /// The command fails.
    pub fn publish(&self, file: &Path, url: &str) -> Result<Value> {
        let mut command = command(&self.bin, self.host.as_ref());
        command.arg("publish").arg(file).args(["--url", url, "--json"]);
        command.args(["--coordinator", &self.url, "--token", &self.admin_token()?]);
        Job::start("publish", command, &self.dir)?.json()
    }

    /// A `peerage` command of an administrator of this coordinator.
    ///
    /// # Errors
    /// The token's file cannot be read.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = command(&self.bin, self.host.as_ref());
        command.args(args).env("PEERAGE_COORDINATOR", &self.url);
        command.env("PEERAGE_ADMIN_TOKEN", self.admin_token()?);
        Ok(command)
    }

    /// Starts an agent named `name` whose peers connect to `listen` (port 0: any), with `policy` as its policy file.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn agent(&self, name: &str, listen: SocketAddr, host: Option<&Host>, policy: &str) -> Result<Agent> {
        self.agent_in(name, listen, host, policy, Vec::new())
    }

    /// The same with environment variables of its own. Its state is in `NAME/data` below the fleet's directory.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn agent_in(
        &self,
        name: &str,
        listen: SocketAddr,
        host: Option<&Host>,
        policy: &str,
        env: Vec<(String, String)>,
    ) -> Result<Agent> {
        let token = self.enroll_token()?;
        let args = ["--coordinator", &self.url, "--token", &token].map(str::to_owned).to_vec();
        Agent::start_bin(&self.bin, &self.dir.join(name), name, listen, host, policy, args, env)
    }
}

impl Agent {
    /// Starts an agent with its state in `dir` and further `args`.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start(
        dir: &Path,
        name: &str,
        listen: SocketAddr,
        host: Option<&Host>,
        policy: &str,
        args: Vec<String>,
    ) -> Result<Self> {
        Self::start_bin(&peerage_bin()?, dir, name, listen, host, policy, args, Vec::new())
    }

    /// The same with further environment variables.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_in(
        dir: &Path,
        name: &str,
        listen: SocketAddr,
        policy: &str,
        args: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Result<Self> {
        Self::start_bin(&peerage_bin()?, dir, name, listen, None, policy, args, env)
    }

    #[expect(clippy::too_many_arguments, reason = "what two constructors have in common")]
    fn start_bin(
        bin: &Path,
        dir: &Path,
        name: &str,
        listen: SocketAddr,
        host: Option<&Host>,
        policy: &str,
        args: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Result<Self> {
        let (dir, bin, host) = (dir.to_owned(), bin.to_owned(), host.cloned());
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("policy.toml"), policy)?;
        let daemon = Self::run(&bin, host.as_ref(), &dir, name, listen, &args, &env)?;
        Ok(Self { name: name.to_owned(), dir, daemon, bin, host, listen, args, env })
    }

    fn run(
        bin: &Path,
        host: Option<&Host>,
        dir: &Path,
        name: &str,
        listen: SocketAddr,
        args: &[String],
        env: &[(String, String)],
    ) -> Result<Daemon> {
        let mut command = command(bin, host);
        command.arg("agent").arg("--data-dir").arg(dir.join("data")).arg("--policy-dir").arg(dir);
        command.args(["--listen", &listen.to_string()]).args(args);
        command.env("PEERAGE_LOG", std::env::var("PEERAGE_TEST_LOG").unwrap_or_else(|_| "info".into()));
        command.envs(env.iter().map(|(key, value)| (key, value)));
        Daemon::spawn(name, command, dir)
    }

    /// Starts it again after it was killed or terminated, with the same state.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn restart(&mut self) -> Result<()> {
        let _ = self.daemon.kill();
        self.daemon = Self::run(
            &self.bin,
            self.host.as_ref(),
            &self.dir,
            &self.name,
            self.listen,
            &self.args,
            &self.env,
        )?;
        Ok(())
    }

    /// The socket of its API.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("data/agent.sock")
    }

    /// Where its cache is.
    pub fn cache(&self) -> PathBuf {
        self.dir.join("data/cache")
    }

    /// Replaces its policy file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_policy(&self, policy: &str) -> Result<()> {
        let new = self.dir.join("policy.toml.new");
        fs::write(&new, policy)?;
        Ok(fs::rename(new, self.dir.join("policy.toml"))?)
    }

    /// A `peerage` command that talks to this agent.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command(&self.bin, self.host.as_ref());
        command.args(args).env("PEERAGE_SOCKET", self.socket());
        command
    }

    /// Starts `peerage get URL -o OUT --json` with further `args`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin_get(&self, url: &str, out: &Path, args: &[&str]) -> Result<Job> {
        let mut command = self.command(&["get", url, "--json", "-o"]);
        command.arg(out).args(args);
        Job::start("get", command, &self.dir)
    }

    /// `peerage get URL -o OUT --json`: the final status.
    ///
    /// # Errors
    /// The command fails.
    pub fn get(&self, url: &str, out: &Path) -> Result<Value> {
        self.begin_get(url, out, &[])?.json()
    }

    /// `peerage status --json`, with peers.
    ///
    /// # Errors
    /// The command fails.
    pub fn status(&self) -> Result<Vec<Value>> {
        let status =
            Job::start("status", self.command(&["status", "--peers", "--json"]), &self.dir)?.json()?;
        Ok(status.as_array().cloned().unwrap_or_default())
    }

    /// `peerage config --json`.
    ///
    /// # Errors
    /// The command fails.
    pub fn config(&self) -> Result<Value> {
        Job::start("config", self.command(&["config", "--json"]), &self.dir)?.json()
    }

    /// The status row of the file with `id`.
    ///
    /// # Errors
    /// The command fails.
    pub fn file(&self, id: &str) -> Result<Option<Value>> {
        Ok(self.status()?.into_iter().find(|row| row["FileId"] == id))
    }
}

/// A `peerage` command on its way.
#[derive(Debug)]
pub struct Job {
    /// Its process.
    pub process: Process,
    log: PathBuf,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// From start to end.
    pub wall: Duration,
    /// CPU time and memory.
    pub usage: Usage,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl Job {
    /// Starts `command`; its output goes to files of their own in `dir`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: Command, dir: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let process = Process::spawn(&name, command, dir)?;
        Ok(Self { process, log: dir.join(format!("{name}.stdout")) })
    }

    /// Waits for its end, whatever that is.
    ///
    /// # Errors
    /// It does not end in five minutes.
    pub fn output(mut self) -> Result<Output> {
        let finished = self.process.wait(COMMAND_LIMIT)?;
        let stdout = fs::read_to_string(&self.log)?;
        let stderr = self.process.stderr();
        let (status, wall, usage) = (finished.status, finished.wall, finished.usage);
        Ok(Output { status, wall, usage, stdout, stderr })
    }

    /// Waits for its success and reads the JSON that it printed.
    ///
    /// # Errors
    /// It failed, or printed no JSON.
    pub fn json(self) -> Result<Value> {
        let output = self.output()?;
        ensure!(output.status.success(), "{}: {}{}", output.status, output.stdout, output.stderr);
        serde_json::from_str(output.stdout.trim()).with_context(|| format!("not JSON: {:?}", output.stdout))
    }
}
