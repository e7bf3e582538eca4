//! How origins are reached.

use std::sync::Arc;
use std::time::Duration;

use crate::{Guard, Intake, MAX_REDIRECTS, Resolver, SystemResolver};

/// Which proxy requests go through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ProxyMode {
    /// As `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say. With a [`Guard`] these count for nothing: a
    /// proxy resolves names itself, which only whoever set up the guard may decide.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one (`http`, `https`, `socks5` or `socks5h`), for every request, also with a [`Guard`], which then judges names and literal addresses only.
    Url(String),
    /// As a proxy auto-configuration file says, which is at this `http`, `https` or `file` URL. It is read again when it
    /// changes, at the latest after an hour; as long as it cannot be had, there is no proxy. Not with a [`Guard`].
    Auto(String),
    /// As the proxy auto-configuration file says that the network names (WPAD): [`OriginClient::scripts`] tells where to
    /// look. Whoever controls the network then chooses the way, so this is never a default. Not with a [`Guard`].
    ///
    /// [`OriginClient::scripts`]: crate::OriginClient::scripts
    Discover,
}

/// A proxy, as people write it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyConfig {
    /// Which.
    pub mode: ProxyMode,
    /// Hosts that are reached without it: names with all their subdomains, addresses, networks in CIDR form, `*` for all.
    /// For [`ProxyMode::Environment`], `no_proxy` says it.
    pub bypass: Vec<String>,
    /// User and password for proxies that [`ProxyMode::Auto`] names, as `user:password`. Not with
    /// [`ProxyMode::Discover`]: anybody on the network could ask for them.
    pub credentials: Option<String>,
}

impl From<ProxyMode> for ProxyConfig {
    fn from(mode: ProxyMode) -> Self {
        Self { mode, ..Self::default() }
    }
}

impl std::str::FromStr for ProxyMode {
    type Err = ConfigError;

    /// `environment`, `direct`, `wpad`, `http://…`, `https://…`, `socks5://…`, `socks5h://…`, `pac+http://…`,
    /// `pac+https://…` or `pac+file:///…`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refused = || ConfigError::Proxy {
            // Not the text itself: it may hold a password.
            why: "allowed are environment, direct, wpad, [http|https|socks5|socks5h]://HOST:PORT and \
                  pac+[http|https|file]://…"
                .to_owned(),
        };
        match text {
            "environment" => return Ok(Self::Environment),
            "direct" => return Ok(Self::Direct),
            "wpad" => return Ok(Self::Discover),
            _ => {}
        }
        let (auto, url) = text.strip_prefix("pac+").map_or((false, text), |url| (true, url));
        let parsed = url::Url::parse(url).map_err(|_| refused())?;
        match parsed.scheme() {
            "http" | "https" if parsed.has_host() => {}
            "socks5" | "socks5h" if !auto && parsed.has_host() => {}
            "file" if auto && parsed.to_file_path().is_ok() => {}
            _ => return Err(refused()),
        }
        Ok(if auto { Self::Auto(url.to_owned()) } else { Self::Url(url.to_owned()) })
    }
}

/// How origins are reached. The default: as a device does, without a guard.
#[derive(Debug, Clone)]
pub struct OriginConfig {
    /// Time to resolve, connect and agree on TLS; 15 s (DO reference §7.2; for a cache host 3 s).
    pub connect_timeout: Duration,
    /// Time without any progress, in the head or the body of an answer, after which a request fails; 30 s.
    pub read_timeout: Duration,
    /// Certificates trusted beside the system's, each entry PEM text with one or more of them.
    pub extra_roots: Vec<Vec<u8>>,
    /// Whether the system's certificates are trusted.
    pub system_roots: bool,
    /// Which proxy requests go through.
    pub proxy: ProxyConfig,
    /// Redirects followed by one request; 0 for a cache host, which is to have the bytes itself.
    pub redirects: usize,
    /// What may be fetched; `None`: everything, as for a user's own download.
    pub guard: Option<Guard>,
    /// Who answers names.
    pub resolver: Arc<dyn Resolver>,
    /// Who is told of every connection, and may slow it down.
    pub intake: Option<Arc<dyn Intake>>,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(30),
            extra_roots: Vec::new(),
            system_roots: true,
            proxy: ProxyConfig::default(),
            redirects: MAX_REDIRECTS,
            guard: None,
            resolver: Arc::new(SystemResolver),
            intake: None,
        }
    }
}

/// No client can be made of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An entry of [`OriginConfig::extra_roots`] is unusable.
    #[error("extra root certificate {index}: {why}")]
    Certificate {
        /// Which entry, from 0.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The proxy is unusable. Does not repeat its URL, which may hold a password.
    #[error("proxy url: {why}")]
    Proxy {
        /// What is wrong with it.
        why: String,
    },
    /// The TLS or HTTP library refused.
    #[error("could not set up the http client: {why}")]
    Client {
        /// Why.
        why: String,
    },
}
