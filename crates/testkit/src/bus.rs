//! A system D-Bus of a test's own, with stand-ins for the services of the system (python-dbusmock).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::poll;
use crate::{Process, tool};

/// Debian's Python, which has Debian's packages.
const PYTHON: &str = "/usr/bin/python3";
const LIMIT: Duration = Duration::from_secs(30);

/// A bus on a socket of its own.
#[derive(Debug)]
pub struct SystemBus {
    dir: PathBuf,
    address: String,
    /// Before the bus: they end with it, and noisily.
    mocks: Vec<Process>,
    _daemon: Process,
}

impl SystemBus {
    /// Starts a bus with its socket and logs in `dir`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let socket = dir.join("bus");
        let address = format!("unix:path={}", socket.display());
        let mut command = Command::new("dbus-daemon");
        // The session's configuration lets everybody own every name and starts no services of the machine.
        command.args(["--session", "--nofork", "--nopidfile", "--nosyslog", "--address", &address]);
        let daemon = Process::spawn("dbus-daemon", command, dir)?;
        poll(LIMIT, || socket.exists().then_some(())).context("the bus does not start")?;
        Ok(Self { dir: dir.to_owned(), address, mocks: Vec::new(), _daemon: daemon })
    }

    /// What `DBUS_SYSTEM_BUS_ADDRESS` is to be for those who shall use it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts the stand-in for `service` that the template (`upower`, `networkmanager`) of python-dbusmock is.
    ///
    /// # Errors
    /// It does not appear on the bus.
    pub fn mock(&mut self, template: &str, service: &str) -> Result<()> {
        let mut command = self.command(PYTHON);
        command.args(["-m", "dbusmock", "--system", "--template", template]);
        self.mocks.push(Process::spawn(template, command, &self.dir)?);
        poll(LIMIT, || {
            self.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetNameOwner", &[service]).ok()
        })
        .with_context(|| format!("{service} does not appear on the bus"))?;
        Ok(())
    }

    /// Ends all stand-ins.
    pub fn end_mocks(&mut self) {
        self.mocks.clear();
    }

    /// Calls a method with arguments in GVariant's text form.
    ///
    /// # Errors
    /// It fails.
    pub fn call(&self, service: &str, path: &str, method: &str, args: &[&str]) -> Result<String> {
        let mut command = self.command("gdbus");
        command.args(["call", "--system", "--dest", service, "--object-path", path, "--method", method]);
        tool::output(command.args(args), None)
    }

    /// Sets a property, which tells everybody who listens.
    ///
    /// # Errors
    /// There is none.
    pub fn set(&self, service: &str, path: &str, interface: &str, name: &str, value: &str) -> Result<()> {
        let value = format!("<{value}>");
        self.call(service, path, "org.freedesktop.DBus.Properties.Set", &[interface, name, &value]).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        command
    }
}
