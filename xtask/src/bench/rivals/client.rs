//! How the BitTorrent clients are told what to do, wherever they run.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use peerage_testkit::Process;
use serde_json::json;

/// Written by a client's "completed" hook.
const DONE: &str = "done";
/// One of these is what rqbit says when it has a whole file.
pub(super) const RQBIT_HAS_ALL: [&str; 3] = ["finished", "seeding", "100.00%"];

/// One client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'a> {
    /// Where other peers find it.
    pub(super) at: SocketAddr,
    /// Where the file is, or comes to.
    pub(super) root: &'a Path,
    /// Where its completion is noted.
    pub(super) out: &'a Path,
}

impl Client<'_> {
    /// The daemon of transmission, at work on one torrent; what it keeps is in `home`, which is new.
    pub(super) fn transmission(self, mut command: Command, torrent: &Path, home: &Path) -> Result<Command> {
        let inbox = home.join("inbox");
        let _ = fs::remove_dir_all(home);
        fs::create_dir_all(&inbox)?;
        let settings = json!({
            "bind-address-ipv4": self.at.ip().to_string(),
            "peer-port": self.at.port(),
            "rpc-enabled": false,
            "dht-enabled": false,
            "lpd-enabled": true,
            "pex-enabled": true,
            "utp-enabled": true,
            "port-forwarding-enabled": false,
            "preallocation": 0,
            "encryption": 0,
            "ratio-limit-enabled": false,
            "script-torrent-done-enabled": true,
            "script-torrent-done-filename": hook(self.out)?.display().to_string(),
        });
        fs::write(home.join("settings.json"), settings.to_string())?;
        fs::copy(torrent, inbox.join("f.torrent"))?;
        command.arg("--foreground").arg("--config-dir").arg(home).arg("--download-dir").arg(self.root);
        command.arg("--watch-dir").arg(inbox);
        Ok(command)
    }
}

/// rqbit, up to its subcommand.
pub(super) fn rqbit(mut command: Command, at: SocketAddr) -> Command {
    command.args([
        "--disable-dht",
        "--disable-dht-persistence",
        "--disable-upnp-port-forward",
        "--ipv4-only",
    ]);
    command.args(["--listen-ip", &at.ip().to_string(), "--listen-port", &at.port().to_string()]);
    command.args(["--http-api-listen-addr", &SocketAddr::new(at.ip(), 3031).to_string()]);
    command
}

/// A script that says that everything is there: then [`is_done`].
pub(super) fn hook(out: &Path) -> Result<PathBuf> {
    let path = out.join("completed.sh");
    fs::write(&path, format!("#!/bin/sh\ntouch '{}'\n", done(out).display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The file that a completed client leaves in `out`.
pub(super) fn done(out: &Path) -> PathBuf {
    out.join(DONE)
}

/// Whether the client with its hook in `out` has completed.
pub(super) fn is_done(out: &Path) -> bool {
    done(out).exists()
}

/// Starts opentracker (`command`, wherever that shall run), which leaves root for a user that may read only what all may.
pub(super) fn tracker(
    mut command: Command,
    at: SocketAddr,
    info_hash: &str,
    dir: &Path,
) -> Result<(Process, tempfile::TempDir)> {
    let home = tempfile::Builder::new().prefix("peerage-tracker-").tempdir()?;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
    fs::write(home.path().join("allowed"), format!("{info_hash}\n"))?;
    command
        .args(["-i", &at.ip().to_string(), "-p", &at.port().to_string(), "-w", "allowed", "-d"])
        .arg(home.path());
    Ok((Process::spawn("tracker", command, dir)?, home))
}
