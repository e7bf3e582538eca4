//! What an origin and a user's URL can say: URLs, redirects, and the values of headers. A URL that is accepted reads as
//! itself, and is never shown with its secrets.
#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use peerage_origin::headers::{ContentRange, digits, is_strong_etag, retry_after};
use peerage_origin::{HostRule, ProxyMode, SourceUrl, pac};

fuzz_target!(|text: &str| {
    let _ = ContentRange::parse(text);
    let _ = retry_after(text, SystemTime::UNIX_EPOCH);
    let _ = is_strong_etag(text);
    if let Some(number) = digits(text) {
        assert_eq!(text.parse(), Ok(number));
    }
    let _ = text.parse::<HostRule>();
    let _ = text.parse::<ProxyMode>();
    let _ = pac::hops(text);
    let base = SourceUrl::parse("https://user:secret@host.example/a/b?c").expect("a good url");
    let _ = base.join(text);
    if let Ok(url) = SourceUrl::parse(text) {
        assert_eq!(SourceUrl::parse(url.as_str()).as_ref(), Ok(&url));
        assert!(!url.to_string().contains('@') || url.as_url().path().contains('@'));
        let _ = url.secret();
        if let Some(there) = url.at_cache("cache.example", None) {
            assert_eq!((there.is_https(), there.as_url().path()), (url.is_https(), url.as_url().path()));
            assert!(there.names_cache_origin() && there.as_url().host_str() == Some("cache.example"));
        }
        let _ = base.at_cache(text, None);
        let _ = SourceUrl::parse("http://host.example/a?b").expect("a good url").at_cache(text, Some(80));
    }
});
