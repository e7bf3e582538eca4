//! Connected caches as the agent meets them: the HTTP clients that ask them, and the memory of those that failed.
//!
//! Which caches there are, and for which contents, is for policy to say; whose turn it is, for [`peerage_swarm::Rota`]. What
//! is kept here spares the next download a failure that this device has just seen. Nothing of it outlives the process.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_origin::{
    ConfigError, ErrorKind, OriginClient, OriginConfig, OriginError, ProxyConfig, ProxyMode, SourceUrl,
};
use peerage_policy::{CacheHost, Class, OriginUrl};
use peerage_swarm::{OUT_OF_USE, Time};

use crate::governor::Governor;

/// Time to reach a cache: it is near, or of no use (product §8).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A cache that has to get the bytes first must begin to pass them on within this time.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures that are remembered at once.
const MAX_FAILED: usize = 1024;

/// A file at a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedAt {
    pub(crate) host: CacheHost,
    /// What is asked of it.
    pub(crate) url: SourceUrl,
    /// Whose file it is.
    origin: String,
}

/// What is out of use: a cache for all contents, or for those of one origin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Scheme, host and port: a cache without a certificate may be a good one for clear text.
    cache: String,
    origin: Option<String>,
}

#[derive(Debug, Clone)]
struct Failed {
    until: Time,
    why: String,
}

/// A cache is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rest {
    /// For how long still.
    pub(crate) left: Duration,
    /// What it did.
    pub(crate) why: String,
    /// Whose files it is not asked for; `None`: anybody's.
    pub(crate) origin: Option<String>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Caches {
    foreground: OriginClient,
    background: OriginClient,
    failed: Mutex<BTreeMap<Place, Failed>>,
}

impl Caches {
    /// `extra_roots` are trusted as for origins.
    ///
    /// # Errors
    /// As [`OriginClient::new`].
    pub(crate) fn new(extra_roots: &[Vec<u8>], governor: &Governor) -> Result<Self, ConfigError> {
        let client = |class| {
            OriginClient::new(OriginConfig {
                connect_timeout: CONNECT_TIMEOUT,
                read_timeout: READ_TIMEOUT,
                extra_roots: extra_roots.to_vec(),
                // DO reference §7.6: caches are reached past proxies. Whoever redirects has not got the bytes.
                proxy: ProxyConfig::from(ProxyMode::Direct),
                redirects: 0,
                intake: Some(governor.intake(class)),
                ..OriginConfig::default()
            })
        };
        let (foreground, background) = (client(Class::Foreground)?, client(Class::Background)?);
        Ok(Self { foreground, background, failed: Mutex::default() })
    }

    /// The client for downloads of a class.
    pub(crate) const fn client(&self, class: Class) -> &OriginClient {
        match class {
            Class::Foreground => &self.foreground,
            Class::Background => &self.background,
        }
    }

    /// Where `hosts` have the file of `url`.
    pub(crate) fn places(url: &SourceUrl, hosts: &[CacheHost]) -> Vec<CachedAt> {
        let origin = format!("{}:{}", url.host(), url.port());
        let at = |host: &CacheHost| {
            let there = url.at_cache(host.host(), host.port())?;
            Some(CachedAt { host: host.clone(), url: there, origin: origin.clone() })
        };
        hosts.iter().filter_map(at).collect()
    }

    /// It failed: it is out of use, for all contents if it could not be talked to, else for those of that origin.
    pub(crate) fn failed(&self, at: &CachedAt, error: &OriginError, now: Time) {
        let all = match error.kind() {
            ErrorKind::Connect | ErrorKind::Dns | ErrorKind::Tls | ErrorKind::Later { .. } => true,
            ErrorKind::Gone
            | ErrorKind::Denied
            | ErrorKind::Proxy
            | ErrorKind::Stale
            | ErrorKind::Refused
            | ErrorKind::Protocol => false,
        };
        tracing::info!(cache = %at.host, %error, all, "a connected cache failed");
        self.put(at.place(all), crate::file_status::cache_did(&error.failure), now);
    }

    /// It sent wrong bytes.
    pub(crate) fn lied(&self, at: &CachedAt, now: Time) {
        tracing::warn!(cache = %at.host, "a connected cache sent wrong bytes");
        self.put(at.place(true), "it sent wrong bytes".to_owned(), now);
    }

    /// It works again.
    pub(crate) fn delivered(&self, at: &CachedAt) {
        let mut failed = self.failed.lock();
        failed.remove(&at.place(true));
        failed.remove(&at.place(false));
    }

    /// Whether it is out of use.
    pub(crate) fn rest(&self, at: &CachedAt, now: Time) -> Option<Rest> {
        let failed = self.failed.lock();
        let rests = [true, false].into_iter().filter_map(|all| {
            let place = at.place(all);
            Some(failed.get(&place)?.rest(&place, now))
        });
        rests.max_by_key(|rest| rest.left).filter(|rest| !rest.left.is_zero())
    }

    /// Whether a host is out of use: for every content, else for those of one origin. For `peerage config` and `doctor`.
    pub(crate) fn out_of_use(&self, host: &CacheHost, now: Time) -> Option<Rest> {
        let failed = self.failed.lock();
        let of_host = |place: &Place| ["http", "https"].iter().any(|by| place.cache == scheme(by, host));
        // Those for every content come first.
        let rests = failed.iter().filter(|(place, _)| of_host(place));
        let mut rests = rests.map(|(place, failed)| failed.rest(place, now));
        rests.find(|rest| !rest.left.is_zero())
    }

    /// The network is another one: who failed there may be here, and connections lead nowhere.
    pub(crate) fn begin_anew(&self) {
        self.failed.lock().clear();
        self.foreground.reconnect();
        self.background.reconnect();
    }

    fn put(&self, place: Place, why: String, now: Time) {
        let mut failed = self.failed.lock();
        failed.retain(|_, one| one.until > now);
        while failed.len() >= MAX_FAILED {
            failed.pop_first();
        }
        failed.insert(place, Failed { until: now + OUT_OF_USE, why });
    }
}

impl Failed {
    fn rest(&self, place: &Place, now: Time) -> Rest {
        Rest { left: self.until.since(now), why: self.why.clone(), origin: place.origin.clone() }
    }
}

impl CachedAt {
    fn place(&self, all: bool) -> Place {
        let cache = scheme(if self.url.is_https() { "https" } else { "http" }, &self.host);
        Place { cache, origin: (!all).then(|| self.origin.clone()) }
    }
}

fn scheme(scheme: &str, host: &CacheHost) -> String {
    format!("{scheme} {host}")
}

/// What policy is to know of a URL.
pub(crate) fn origin_url(url: Option<&SourceUrl>) -> OriginUrl {
    match url {
        Some(url) if url.secret().is_some() || url.names_cache_origin() => OriginUrl::Private,
        Some(url) if url.is_https() => OriginUrl::Secure,
        Some(_) | None => OriginUrl::Clear,
    }
}

#[cfg(test)]
mod tests {
    use peerage_origin::Failure;

    use super::*;

    fn at(url: &str, host: &str) -> CachedAt {
        let url = SourceUrl::parse(url).unwrap();
        Caches::places(&url, &[host.parse().unwrap()]).pop().unwrap()
    }

    fn left(caches: &Caches, at: &CachedAt, now: Time) -> Option<Duration> {
        caches.rest(at, now).map(|rest| rest.left)
    }

    #[test]
    fn a_failure_concerns_all_contents_or_one_origin_and_ends() {
        let caches = Caches::new(&[], &Governor::new().0).unwrap();
        let now = Time::from_micros(1_000_000);
        let (one, same, other) = (at("http://o/f", "c"), at("http://o/g", "c"), at("http://p/f", "c"));
        let secure = at("https://o/f", "c");
        let error = |failure| OriginError { url: "http://c/f".into(), failure };
        caches.failed(&one, &error(Failure::Gone { status: 404 }), now);
        assert_eq!((left(&caches, &one, now), left(&caches, &other, now)), (Some(OUT_OF_USE), None));
        let rest = caches.out_of_use(&one.host, now).unwrap();
        assert_eq!((rest.origin.as_deref(), rest.why.as_str()), (Some("o:80"), "it answers 404"));
        caches.delivered(&same);
        assert_eq!(left(&caches, &one, now), None);
        let refused = Failure::Connect { cause: "refused".into() };
        caches.failed(&secure, &error(refused.clone()), now);
        assert_eq!((left(&caches, &secure, now), left(&caches, &one, now)), (Some(OUT_OF_USE), None));
        caches.failed(&one, &error(refused), now);
        for at in [&one, &same, &other] {
            assert_eq!(left(&caches, at, now), Some(OUT_OF_USE));
        }
        let rest = caches.out_of_use(&one.host, now + Duration::from_secs(60)).unwrap();
        assert!(
            rest.left == OUT_OF_USE - Duration::from_secs(60) && rest.why.contains("refused"),
            "{rest:?}"
        );
        assert_eq!(rest.origin, None);
        assert_eq!(left(&caches, &one, now + OUT_OF_USE), None);
        caches.lied(&other, now);
        caches.begin_anew();
        assert_eq!(left(&caches, &one, now), None);
    }

    #[test]
    fn memory_is_bounded() {
        let caches = Caches::new(&[], &Governor::new().0).unwrap();
        for n in 0..2 * MAX_FAILED {
            caches.lied(&at("http://o/f", &format!("c{n}")), Time::from_micros(1));
        }
        assert_eq!(caches.failed.lock().len(), MAX_FAILED);
    }

    #[test]
    fn urls_are_told_apart_for_policy() {
        for (url, what) in [
            ("http://o/f", OriginUrl::Clear),
            ("https://o/f?v=1", OriginUrl::Secure),
            ("https://u:p@o/f", OriginUrl::Private),
            ("http://o/f?token=1", OriginUrl::Private),
            ("http://o/f?cacheHostOrigin=p", OriginUrl::Private),
        ] {
            assert_eq!(origin_url(SourceUrl::parse(url).ok().as_ref()), what, "{url}");
        }
        assert_eq!(origin_url(None), OriginUrl::Clear);
    }
}
