//! How an agent is set up: `/etc/peerage/agent.toml`, overridden by flags.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Port that peers connect to (product §4; DO reference §3).
pub const PEER_PORT: u16 = 7680;
const MAX_CONFIG: u64 = 1 << 20;

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("could not read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {message}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, key, what was found, what is allowed.
        message: String,
    },
}

/// The keys of the configuration file; the flags have the same names (product §4). All are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Directory of the device's key, enrolment and state.
    pub data_dir: Option<PathBuf>,
    /// Directory of the verified files.
    pub cache_dir: Option<PathBuf>,
    /// Where peers connect: address and port; port 0 takes any free one, `[::]` is every address, IPv4 too.
    pub listen: Option<SocketAddr>,
    /// The unix socket of the local API. `<socket>.files` beside it hands out files.
    pub socket: Option<PathBuf>,
    /// The coordinator's URL.
    pub coordinator: Option<String>,
    /// Enrolment token, or `@FILE` that holds it; used when the device is not enrolled yet.
    pub token: Option<String>,
    /// Directory of `policy.toml` and `policy.d`.
    pub policy_dir: Option<PathBuf>,
    /// PEM files of certificates that origins may use beside the system's.
    pub origin_ca: Option<Vec<PathBuf>>,
    /// The way to origins: `environment`, `direct`, a proxy's URL (`http`, `https`, `socks5`, `socks5h`), `pac+URL` of an
    /// auto-configuration file, or `wpad` for the one that the network names. Peers and the coordinator are always reached
    /// without a proxy.
    pub proxy: Option<String>,
    /// Hosts that are reached without the proxy: names with their subdomains, addresses, networks in CIDR form.
    pub no_proxy: Option<Vec<String>>,
    /// `user:password` for the proxies of an auto-configuration file, or `@FILE` that holds it. Not with `wpad`.
    pub proxy_credentials: Option<String>,
}

impl ConfigFile {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// It cannot be read, is longer than 1 MiB, or has an unknown key or a wrong value.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let len = std::fs::metadata(path).map_err(read)?.len();
        if len > MAX_CONFIG {
            let message = format!("{len} bytes, allowed are {MAX_CONFIG}");
            return Err(ConfigError::Parse { path: path.to_owned(), message });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })
    }

    /// What `over` says goes before what `self` says.
    pub fn overridden_by(self, over: Self) -> Self {
        Self {
            data_dir: over.data_dir.or(self.data_dir),
            cache_dir: over.cache_dir.or(self.cache_dir),
            listen: over.listen.or(self.listen),
            socket: over.socket.or(self.socket),
            coordinator: over.coordinator.or(self.coordinator),
            token: over.token.or(self.token),
            policy_dir: over.policy_dir.or(self.policy_dir),
            origin_ca: over.origin_ca.or(self.origin_ca),
            proxy: over.proxy.or(self.proxy),
            no_proxy: over.no_proxy.or(self.no_proxy),
            proxy_credentials: over.proxy_credentials.or(self.proxy_credentials),
        }
    }
}

/// A complete configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory of the device's key, enrolment and state.
    pub data_dir: PathBuf,
    /// Directory of the verified files.
    pub cache_dir: PathBuf,
    /// Where peers connect.
    pub listen: SocketAddr,
    /// The unix socket of the local API.
    pub socket: PathBuf,
    /// The coordinator's URL.
    pub coordinator: Option<String>,
    /// Enrolment token or `@FILE`.
    pub token: Option<String>,
    /// Directory of `policy.toml` and `policy.d`.
    pub policy_dir: PathBuf,
    /// PEM files of further certificates for origins.
    pub origin_ca: Vec<PathBuf>,
    /// The way to origins, as [`ConfigFile::proxy`].
    pub proxy: Option<String>,
    /// Hosts that are reached without the proxy.
    pub no_proxy: Vec<String>,
    /// `user:password` or `@FILE`.
    pub proxy_credentials: Option<String>,
}

impl From<ConfigFile> for Config {
    /// Fills in the defaults (product §4). A data directory that was given holds the cache and the socket too, so that
    /// several agents on one host need only differ in it.
    fn from(file: ConfigFile) -> Self {
        let beside = |default: &str, name: &str| {
            file.data_dir.as_ref().map_or_else(|| PathBuf::from(default), |dir| dir.join(name))
        };
        Self {
            cache_dir: file.cache_dir.clone().unwrap_or_else(|| beside("/var/cache/peerage", "cache")),
            socket: file.socket.clone().unwrap_or_else(|| beside("/run/peerage/agent.sock", "agent.sock")),
            data_dir: file.data_dir.clone().unwrap_or_else(|| PathBuf::from("/var/lib/peerage")),
            listen: file.listen.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PEER_PORT)),
            coordinator: file.coordinator,
            token: file.token,
            policy_dir: file.policy_dir.unwrap_or_else(|| PathBuf::from("/etc/peerage")),
            origin_ca: file.origin_ca.unwrap_or_default(),
            proxy: file.proxy,
            no_proxy: file.no_proxy.unwrap_or_default(),
            proxy_credentials: file.proxy_credentials,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_then_flags_then_defaults() {
        let file: ConfigFile = toml::from_str("listen = '127.0.0.1:0'\ncoordinator = 'https://a'\n").unwrap();
        let flags = ConfigFile { coordinator: Some("https://b".into()), ..ConfigFile::default() };
        let config = Config::from(file.overridden_by(flags));
        assert_eq!(config.coordinator.as_deref(), Some("https://b"));
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.socket, Path::new("/run/peerage/agent.sock"));
        assert_eq!(config.cache_dir, Path::new("/var/cache/peerage"));
        let own = Config::from(ConfigFile { data_dir: Some("/x".into()), ..ConfigFile::default() });
        assert_eq!((own.cache_dir, own.socket), ("/x/cache".into(), "/x/agent.sock".into()));
        assert!(toml::from_str::<ConfigFile>("listne = 'x'").is_err());
    }
}
