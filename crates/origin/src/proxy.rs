//! The way out: which proxy, if any, a request goes through. Several ways are tried in order; one that cannot be
//! connected to stands back for a while.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::auto::Auto;
use crate::pac::Hop;
use crate::{ConfigError, OriginConfig, ProxyMode, SourceUrl};

/// A proxy that could not be connected to is tried last for so long.
const STAND_BACK: Duration = Duration::from_secs(300);
const MAX_FAILED: usize = 64;

/// One way out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Direct,
    Proxy(Arc<Proxy>),
}

#[derive(PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) uri: Uri,
    /// `Basic …` (RFC 7617).
    pub(crate) authorization: Option<HeaderValue>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            // The URI of a proxy has no user and password: they are in the header.
            Self::Proxy(proxy) => write!(f, "{}", proxy.uri),
        }
    }
}

impl Route {
    fn proxy(uri: Uri, authorization: Option<HeaderValue>) -> Self {
        Self::Proxy(Arc::new(Proxy { uri, authorization }))
    }

    /// The authorization that a proxy wants with a request for `to`; for `https` it goes with the CONNECT.
    pub(crate) fn authorization(&self, to: &Uri) -> Option<HeaderValue> {
        match self {
            Self::Proxy(proxy) if to.scheme() != Some(&Scheme::HTTPS) => proxy.authorization.clone(),
            _ => None,
        }
    }
}

/// Knows the ways out.
#[derive(Debug)]
pub(crate) struct Routes {
    chooser: Chooser,
    failed: Mutex<Vec<(Route, Instant)>>,
}

enum Chooser {
    Direct,
    Rules(Matcher),
    Auto { auto: Box<Auto>, bypass: Matcher, authorization: Option<HeaderValue> },
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "Direct",
            Self::Rules(_) => "Rules",
            Self::Auto { .. } => "Auto",
        })
    }
}

impl Routes {
    /// The ways of a configuration.
    ///
    /// # Errors
    /// [`ConfigError::Proxy`].
    pub(crate) fn new(config: &OriginConfig) -> Result<Self, ConfigError> {
        let bad = |why: String| ConfigError::Proxy { why };
        let proxy = &config.proxy;
        let no = proxy.bypass.join(",");
        let chooser = match &proxy.mode {
            ProxyMode::Environment if config.guard.is_none() => Chooser::Rules(Matcher::from_env()),
            ProxyMode::Environment | ProxyMode::Direct => Chooser::Direct,
            ProxyMode::Url(url) => {
                let parsed = url::Url::parse(url).map_err(|error| bad(error.to_string()))?;
                if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
                    return Err(bad("neither http://HOST nor https://HOST".to_owned()));
                }
                Chooser::Rules(Matcher::builder().all(url.clone()).no(no).build())
            }
            ProxyMode::Auto(_) if config.guard.is_some() => {
                return Err(bad("proxy auto-configuration cannot be guarded".to_owned()));
            }
            ProxyMode::Auto(url) => {
                let authorization = proxy.credentials.as_deref().map(basic).transpose()?;
                let auto = Box::new(Auto::new(url, config)?);
                // A name that this leads nowhere is one that needs no proxy.
                let bypass = Matcher::builder().all("http://bypass.invalid").no(no).build();
                Chooser::Auto { auto, bypass, authorization }
            }
        };
        Ok(Self { chooser, failed: Mutex::default() })
    }

    /// The ways to `url`, best first; at least one.
    pub(crate) async fn to(&self, url: &SourceUrl) -> Vec<Route> {
        let Ok(uri) = url.as_url().as_str().parse::<Uri>() else { return vec![Route::Direct] };
        let mut routes = match &self.chooser {
            Chooser::Direct => return vec![Route::Direct],
            Chooser::Rules(matcher) => vec![matcher.intercept(&uri).map_or(Route::Direct, |found| {
                Route::proxy(found.uri().clone(), found.basic_auth().cloned())
            })],
            Chooser::Auto { bypass, .. } if bypass.intercept(&uri).is_none() => return vec![Route::Direct],
            Chooser::Auto { auto, authorization, .. } => {
                let hops = auto.find(url).await;
                let route = |hop: &Hop| match hop {
                    Hop::Direct => Some(Route::Direct),
                    Hop::Proxy(url) => Some(Route::proxy(url.parse().ok()?, authorization.clone())),
                };
                hops.iter().filter_map(route).collect()
            }
        };
        if routes.is_empty() {
            routes.push(Route::Direct);
        }
        let mut failed = self.failed.lock();
        failed.retain(|(_, when)| when.elapsed() < STAND_BACK);
        // A stable sort: those that stand back keep their order, too.
        routes.sort_by_key(|route| failed.iter().any(|(one, _)| one == route));
        routes
    }

    /// No connection could be made this way.
    pub(crate) fn failed(&self, route: &Route) {
        let mut failed = self.failed.lock();
        failed.retain(|(one, _)| one != route);
        if failed.len() < MAX_FAILED {
            failed.push((route.clone(), Instant::now()));
        }
    }
}

/// `user:password` as a header (RFC 7617 §2).
fn basic(credentials: &str) -> Result<HeaderValue, ConfigError> {
    let bad = |why: &str| ConfigError::Proxy { why: why.to_owned() };
    if !credentials.contains(':') || credentials.chars().any(char::is_control) {
        return Err(bad("credentials: allowed is user:password on one line"));
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).map_err(|_| bad("credentials"))?;
    value.set_sensitive(true);
    Ok(value)
}
