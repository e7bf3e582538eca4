//! What can be seen of the agent's place while it does not run: its configuration, policy files, directories and port.
//!
//! Seen with the rights of whoever looks, which may be others than the agent's: root sees most.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use peerage_host::{PolicyFiles, volume_of};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::{Config, ConfigError};

/// What can be seen without the agent.
#[derive(Debug)]
pub struct Local {
    /// The configuration file, if there is one, or what is wrong with it.
    pub configuration: Result<Option<PathBuf>, String>,
    /// Whether the policy files are valid, or what is wrong with them.
    pub policy: Result<(), String>,
    /// The directories that the agent writes.
    pub directories: Vec<Directory>,
    /// Where files are kept.
    pub cache_dir: PathBuf,
    /// Capacity and free bytes of the cache's volume.
    pub volume: Option<(u64, u64)>,
    /// Where peers would connect.
    pub listen: SocketAddr,
    /// Whether that can be opened, or why not.
    pub port: Result<(), String>,
}

/// A directory that the agent writes.
#[derive(Debug)]
pub struct Directory {
    /// What it is for.
    pub what: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Why it cannot be used; one that is not made yet can.
    pub trouble: Option<String>,
}

impl Local {
    /// Looks. `file` is the configuration file that was read for `config`, or what was wrong with it. Blocking.
    pub fn look(config: &Config, file: Result<Option<PathBuf>, ConfigError>) -> Self {
        let directory =
            |what, path: &Path| Directory { what, path: path.to_owned(), trouble: trouble_of(path) };
        let policy = match PolicyFiles::new(&config.policy_dir).poll() {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
        };
        Self {
            configuration: file.map_err(|error| match &error {
                ConfigError::Read { source, .. } => format!("{error}: {source}"),
                ConfigError::Parse { .. } => error.to_string(),
            }),
            policy,
            directories: vec![
                directory("data directory", &config.data_dir),
                directory("cache directory", &config.cache_dir),
            ],
            cache_dir: config.cache_dir.clone(),
            volume: volume_of(&config.cache_dir).ok().map(|volume| (volume.capacity, volume.free)),
            listen: config.listen,
            port: TcpListener::bind(config.listen).map(drop).map_err(|error| error.to_string()),
        }
    }
}

/// Why a directory cannot be used: it, or the nearest one above it that there is, cannot be written.
fn trouble_of(path: &Path) -> Option<String> {
    let mut at = path;
    loop {
        if at.is_dir() {
            let allowed = access(at, Access::WRITE_OK | Access::EXEC_OK);
            return allowed.err().map(|error| match error {
                Errno::ACCESS => format!("may not be written by this user{}", above(at, path)),
                Errno::ROFS => format!("is on a file system that is mounted read-only{}", above(at, path)),
                error => format!("cannot be written{}: {error}", above(at, path)),
            });
        }
        if at.exists() {
            return Some(format!("is no directory{}", above(at, path)));
        }
        at = at.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    }
}

fn above(at: &Path, path: &Path) -> String {
    if at == path { String::new() } else { format!(" ({})", at.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigFile;

    #[test]
    fn what_is_wrong_without_an_agent() {
        let dir = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        std::fs::write(dir.path().join("policy.toml"), "download_mode = \"nonsense\"\n").unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let config = Config::from(ConfigFile {
            data_dir: Some(dir.path().join("not/made/yet")),
            cache_dir: Some(dir.path().join("file/cache")),
            policy_dir: Some(dir.path().to_owned()),
            listen: Some(taken.local_addr().unwrap()),
            ..ConfigFile::default()
        });
        let local = Local::look(&config, Ok(None));
        assert!(local.policy.unwrap_err().contains("download_mode"));
        assert_eq!(local.directories[0].trouble, None);
        assert!(local.directories[1].trouble.as_ref().unwrap().contains("is no directory"));
        assert!(local.port.unwrap_err().contains("in use"));
        let missing = ConfigFile::read(Path::new("/nonexistent/agent.toml")).unwrap_err();
        let local = Local::look(&config, Err(missing));
        assert!(local.configuration.unwrap_err().contains("No such file"));
    }
}
