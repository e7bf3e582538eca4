//! The same file at a cache host: scheme, path and query of its URL stay, the host is the cache's, and
//! `cacheHostOrigin=HOST[:PORT]` at the end of the query names the origin (DO reference §7.1).
//!
//! The scheme stays, so that what is asked for over TLS is never asked for in clear text. A URL with a password is none
//! that a cache may see, and one that names a cache's origin already would mean another file there.

use std::net::IpAddr;

use crate::SourceUrl;

/// The query parameter that names the origin.
const PARAMETER: &str = "cacheHostOrigin";

impl SourceUrl {
    /// Whether its query names an origin to a cache: it speaks to a cache itself.
    pub fn names_cache_origin(&self) -> bool {
        self.as_url().query_pairs().any(|(name, _)| name.eq_ignore_ascii_case(PARAMETER))
    }

    /// Where a cache host has the file; `port` where it is not the scheme's. `None`: it is not for caches, or `host` is
    /// no host.
    pub fn at_cache(&self, host: &str, port: Option<u16>) -> Option<Self> {
        if self.has_credentials() || self.names_cache_origin() {
            return None;
        }
        let mut url = self.as_url().clone();
        let origin = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str()?),
            None => url.host_str()?.to_owned(),
        };
        let query = match url.query().filter(|query| !query.is_empty()) {
            Some(query) => format!("{query}&{PARAMETER}={origin}"),
            None => format!("{PARAMETER}={origin}"),
        };
        url.set_query(Some(&query));
        match host.parse::<IpAddr>() {
            Ok(ip) => url.set_ip_host(ip).ok()?,
            Err(_) => url.set_host(Some(host)).ok()?,
        }
        url.set_port(port).ok()?;
        // Again through the limits.
        Self::parse(url.as_str()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(url: &str, host: &str, port: Option<u16>) -> Option<String> {
        Some(SourceUrl::parse(url).unwrap().at_cache(host, port)?.as_str().to_owned())
    }

    #[test]
    fn path_and_query_stay_and_the_origin_is_named() {
        for (url, host, port, expected) in [
            (
                "http://o.example/a/b%20c",
                "c.example",
                None,
                "http://c.example/a/b%20c?cacheHostOrigin=o.example",
            ),
            (
                "http://o.example:8080/f",
                "10.0.0.2",
                Some(81),
                "http://10.0.0.2:81/f?cacheHostOrigin=o.example:8080",
            ),
            ("http://o.example/f?v=1&w=%26", "c", None, "http://c/f?v=1&w=%26&cacheHostOrigin=o.example"),
            ("http://o.example/f?", "c", None, "http://c/f?cacheHostOrigin=o.example"),
            ("http://[fd00::1]:81/f", "fd00::2", Some(80), "http://[fd00::2]/f?cacheHostOrigin=[fd00::1]:81"),
            ("https://o.example/f", "c", None, "https://c/f?cacheHostOrigin=o.example"),
            ("https://o.example:444/f", "c", Some(8443), "https://c:8443/f?cacheHostOrigin=o.example:444"),
        ] {
            assert_eq!(at(url, host, port).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn some_urls_are_not_for_caches() {
        for (url, host) in [
            ("http://user:pw@o.example/f", "c"),
            ("http://user@o.example/f", "c"),
            ("http://o.example/f?cacheHostOrigin=evil.example", "c"),
            ("http://o.example/f?a=1&CACHEHOSTORIGIN=evil.example", "c"),
            ("http://o.example/f?cacheHost%4frigin=evil.example", "c"),
            ("http://o.example/f", ""),
            ("http://o.example/f", "a b"),
        ] {
            assert_eq!(at(url, host, None), None, "{url} at {host:?}");
        }
        let long = format!("http://o.example/{}", "x".repeat(crate::MAX_URL - 20));
        assert_eq!(at(&long, "c", None), None);
    }

    proptest! {
        #[test]
        fn nothing_but_the_host_changes(
            scheme in "https?", path in "(/[a-z%A-F0-9]{0,6}){0,4}", query in "(\\?[a-z0-9=&%]{0,20})?",
            host in "\\PC{0,12}|[a-z0-9.:-]{1,20}", port in any::<Option<u16>>(),
        ) {
            let Ok(url) = SourceUrl::parse(&format!("{scheme}://o.example{path}{query}")) else { return Ok(()) };
            if let Some(there) = url.at_cache(&host, port.filter(|port| *port > 0)) {
                prop_assert_eq!(there.is_https(), url.is_https());
                prop_assert_eq!(there.as_url().path(), url.as_url().path());
                let own = url.as_url().query().unwrap_or_default();
                prop_assert!(there.as_url().query().unwrap_or_default().starts_with(own));
                prop_assert!(there.as_str().ends_with("cacheHostOrigin=o.example"));
                prop_assert!(there.names_cache_origin() && !there.has_credentials());
            }
        }
    }
}
