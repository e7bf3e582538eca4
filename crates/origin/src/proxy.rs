//! The way out: which proxy, if any, a request goes through. Several ways are tried in order; one that cannot be
//! connected to stands back for a while.
//!
//! What a script answers chooses among ways, and is given no secret that was not meant for its proxies: a script that the
//! network names gets none at all.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::auto::Auto;
use crate::pac::Hop;
use crate::way_out::{ChosenBy, WayOut};
use crate::{ConfigError, Failure, OriginConfig, ProxyMode, SourceUrl, socks};

/// A proxy that could not be connected to is tried last for so long.
const STAND_BACK: Duration = Duration::from_secs(300);
const MAX_FAILED: usize = 64;
/// Longest user name, and longest password, of a SOCKS proxy, in bytes (RFC 1929 §2).
const MAX_LOGIN: usize = 255;

/// One way out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Direct,
    Proxy(Arc<Proxy>),
}

#[derive(PartialEq, Eq)]
pub(crate) struct Proxy {
    /// `http`, `https`, `socks5` or `socks5h`, with a port; of any other scheme no connection is made.
    pub(crate) uri: Uri,
    login: Option<Login>,
}

/// What a proxy is told of who asks.
#[derive(Clone, PartialEq, Eq)]
enum Login {
    /// `Basic …` (RFC 7617), for HTTP proxies.
    Header(HeaderValue),
    /// User and password (RFC 1929), for SOCKS proxies.
    Password(String, String),
}

impl Proxy {
    pub(crate) fn is_socks(&self) -> bool {
        is_socks(&self.uri)
    }

    /// Whether it speaks HTTP.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self.uri.scheme_str(), Some("http" | "https"))
    }

    /// What an HTTP proxy is told with a request or a CONNECT.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        match &self.login {
            Some(Login::Header(value)) => Some(value.clone()),
            _ => None,
        }
    }

    /// User and password for a SOCKS proxy.
    pub(crate) fn password(&self) -> Option<(&str, &str)> {
        match &self.login {
            Some(Login::Password(user, password)) => Some((user, password)),
            _ => None,
        }
    }
}

fn is_socks(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("socks5" | "socks5h"))
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
    /// The way that a rule has found.
    fn of_rule(found: &Intercept) -> Self {
        let uri = found.uri().clone();
        let header = || found.basic_auth().cloned().map(Login::Header);
        let password = || found.raw_auth().map(|(user, word)| Login::Password(user.into(), word.into()));
        let login = if is_socks(&uri) { password() } else { header() };
        let uri = if is_socks(&uri) && uri.port().is_none() { with_port(&uri).unwrap_or(uri) } else { uri };
        Self::Proxy(Arc::new(Proxy { uri, login }))
    }

    /// The way that a script names.
    fn of_script(hop: &Hop, credentials: Option<&Credentials>) -> Option<Self> {
        let Hop::Proxy(url) = hop else { return Some(Self::Direct) };
        let uri: Uri = url.parse().ok()?;
        let login = credentials.map(|known| known.for_proxy(&uri));
        Some(Self::Proxy(Arc::new(Proxy { uri, login })))
    }

    /// The proxy as people write it, without its password; `None`: there is none.
    pub(crate) fn name(&self) -> Option<String> {
        (*self != Self::Direct).then(|| shown(self))
    }

    /// The authorization that a proxy wants with a request for `to`; for `https` it goes with the CONNECT.
    pub(crate) fn authorization(&self, to: &Uri) -> Option<HeaderValue> {
        match self {
            Self::Proxy(proxy) if to.scheme() != Some(&Scheme::HTTPS) => proxy.header(),
            _ => None,
        }
    }
}

/// The same proxy with the port that it has when none is named.
fn with_port(uri: &Uri) -> Option<Uri> {
    let authority = format!("{}:{}", uri.host()?, socks::PORT);
    Uri::builder().scheme(uri.scheme_str()?).authority(authority).path_and_query("/").build().ok()
}

/// Knows the ways out.
#[derive(Debug)]
pub(crate) struct Routes {
    chooser: Chooser,
    failed: Mutex<Vec<(Route, Instant)>>,
    /// Proxies that have answered 407 since they last let a request through.
    refused: Mutex<Vec<Route>>,
}

enum Chooser {
    Direct,
    Environment(Matcher),
    Rule(Matcher),
    Auto { auto: Box<Auto>, bypass: Matcher, credentials: Option<Credentials> },
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "Direct",
            Self::Environment(_) => "Environment",
            Self::Rule(_) => "Rule",
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
            ProxyMode::Environment if config.guard.is_none() => Chooser::Environment(Matcher::from_env()),
            ProxyMode::Environment | ProxyMode::Direct => Chooser::Direct,
            ProxyMode::Url(url) => {
                let rule = Matcher::builder().all(url.clone()).no(no).build();
                check(url).map_err(|why| bad(why.to_owned()))?;
                Chooser::Rule(rule)
            }
            ProxyMode::Auto(_) | ProxyMode::Discover if config.guard.is_some() => {
                return Err(bad("proxy auto-configuration cannot be guarded".to_owned()));
            }
            // Anybody on the link can name a script, and that script a proxy: it would be given the password.
            ProxyMode::Discover if proxy.credentials.is_some() => {
                return Err(bad("credentials are not for proxies that the network names (wpad)".to_owned()));
            }
            ProxyMode::Auto(_) | ProxyMode::Discover => {
                let credentials = proxy.credentials.as_deref().map(Credentials::parse).transpose()?;
                let auto = Box::new(Auto::new(config)?);
                // A name that this leads nowhere is one that needs no proxy.
                let bypass = Matcher::builder().all("http://bypass.invalid").no(no).build();
                Chooser::Auto { auto, bypass, credentials }
            }
        };
        Ok(Self { chooser, failed: Mutex::default(), refused: Mutex::default() })
    }

    /// The script that is asked, if one is.
    pub(crate) fn auto(&self) -> Option<&Auto> {
        match &self.chooser {
            Chooser::Auto { auto, .. } => Some(auto),
            _ => None,
        }
    }

    /// What is known of the ways out.
    pub(crate) fn way_out(&self) -> WayOut {
        let named = |matcher: &Matcher| {
            let asked = ["http://name.invalid/", "https://name.invalid/"].map(Uri::from_static);
            let found = asked.iter().filter_map(|uri| matcher.intercept(uri));
            let mut proxies: Vec<String> = found.map(|found| shown(&Route::of_rule(&found))).collect();
            proxies.dedup();
            proxies
        };
        let (by, proxies) = match &self.chooser {
            Chooser::Direct => (ChosenBy::Nothing, Vec::new()),
            Chooser::Environment(matcher) => match named(matcher) {
                proxies if proxies.is_empty() => (ChosenBy::Nothing, proxies),
                proxies => (ChosenBy::Environment, proxies),
            },
            Chooser::Rule(matcher) => (ChosenBy::Configuration, named(matcher)),
            Chooser::Auto { auto, .. } => (auto.standing(), Vec::new()),
        };
        let mut failed = self.failed.lock();
        failed.retain(|(_, when)| when.elapsed() < STAND_BACK);
        let refused = self.refused.lock().iter().map(shown).collect();
        WayOut { by, proxies, failed: failed.iter().map(|(route, _)| shown(route)).collect(), refused }
    }

    /// The ways to `url`, best first; at least one.
    pub(crate) async fn to(&self, url: &SourceUrl) -> Vec<Route> {
        let Ok(uri) = url.as_url().as_str().parse::<Uri>() else { return vec![Route::Direct] };
        let mut routes = match &self.chooser {
            Chooser::Direct => return vec![Route::Direct],
            Chooser::Environment(matcher) | Chooser::Rule(matcher) => {
                vec![matcher.intercept(&uri).map_or(Route::Direct, |found| Route::of_rule(&found))]
            }
            Chooser::Auto { bypass, .. } if bypass.intercept(&uri).is_none() => return vec![Route::Direct],
            Chooser::Auto { auto, credentials, .. } => {
                let hops = auto.find(url).await;
                hops.iter().filter_map(|hop| Route::of_script(hop, credentials.as_ref())).collect()
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

    /// The network is another one: what could not be reached may be reached now, and scripts may be others.
    pub(crate) fn moved(&self) {
        self.failed.lock().clear();
        self.refused.lock().clear();
        if let Some(auto) = self.auto() {
            auto.moved();
        }
    }

    /// The proxy of this way wants to know who asks.
    pub(crate) fn refused(&self, route: &Route) -> Failure {
        let mut refused = self.refused.lock();
        if *route != Route::Direct && !refused.contains(route) && refused.len() < MAX_FAILED {
            refused.push(route.clone());
        }
        Failure::ProxyLogin { proxy: route.name() }
    }

    /// A request was let through.
    pub(crate) fn works(&self, route: &Route) {
        self.refused.lock().retain(|one| one != route);
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

/// A proxy as people write it, without its password.
fn shown(route: &Route) -> String {
    format!("{route:?}").trim_end_matches('/').to_owned()
}

/// Whether a URL names a proxy that can be used.
fn check(url: &str) -> Result<(), &'static str> {
    let any = Uri::from_static("http://name.invalid/");
    let found = Matcher::builder().all(url.to_owned()).build().intercept(&any);
    let route = found.as_ref().map(Route::of_rule);
    match route {
        Some(Route::Proxy(proxy)) if proxy.uri.host().is_some_and(|host| !host.is_empty()) => {
            if !proxy.is_http() && !proxy.is_socks() {
                return Err("allowed are http, https, socks5 and socks5h");
            }
            let too_long = |(user, word): (&str, &str)| user.len().max(word.len()) > MAX_LOGIN;
            if proxy.password().is_some_and(too_long) {
                return Err("user or password longer than the 255 bytes that SOCKS allows");
            }
            Ok(())
        }
        _ => Err("neither http://HOST nor https://HOST nor socks5://HOST nor socks5h://HOST"),
    }
}

/// User and password for the proxies that a script names.
struct Credentials {
    user: String,
    password: String,
    /// Both as a header (RFC 7617 §2).
    header: HeaderValue,
}

impl Credentials {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let bad = |why: &str| ConfigError::Proxy { why: why.to_owned() };
        let parts = text.split_once(':').filter(|_| !text.chars().any(char::is_control));
        let (user, password) =
            parts.ok_or_else(|| bad("credentials: allowed is user:password on one line"))?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        let mut header = HeaderValue::try_from(format!("Basic {encoded}")).map_err(|_| bad("credentials"))?;
        header.set_sensitive(true);
        Ok(Self { user: user.to_owned(), password: password.to_owned(), header })
    }

    fn for_proxy(&self, uri: &Uri) -> Login {
        if is_socks(uri) {
            Login::Password(self.user.clone(), self.password.clone())
        } else {
            Login::Header(self.header.clone())
        }
    }
}
