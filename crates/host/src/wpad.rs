//! Where the DNS would name a proxy auto-configuration script (WPAD): `http://wpad.DOMAIN/wpad.dat`.
//!
//! Only in the device's own domain. Others have looked for it in each domain above, and so asked strangers: whoever
//! registers `wpad` next to a public suffix gets the traffic of everybody below. Here nothing above the own domain is ever
//! asked, and nothing at all where that is a public suffix or a single label. The name is absolute (it ends with a dot), so
//! that no resolver tries it in other domains either.

use std::path::Path;

use peerage_policy::SourceSays;

use crate::group_sources::dns_suffix;

/// Longest name of the DNS in its usual form (RFC 1035 §2.3.4), less `wpad.` and the final dot.
const MAX_DOMAIN: usize = 253 - 5;
const MAX_LABEL: usize = 63;

/// The URL to try, of the domain that the files below `root` tell (`/` on a device), or why there is none. Blocking.
///
/// # Errors
/// For people.
pub fn wpad_url(root: &Path) -> SourceSays {
    url_in(&dns_suffix(root)?)
}

/// The URL to try in a domain.
///
/// # Errors
/// It is not a domain that somebody could have for himself.
pub fn url_in(domain: &str) -> SourceSays {
    let domain = domain.trim_matches('.').to_ascii_lowercase();
    let shown: String = domain.chars().take(80).collect();
    let label = |label: &str| {
        let fits = (1..=MAX_LABEL).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        fits && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if domain.len() > MAX_DOMAIN || !domain.split('.').all(label) {
        return Err(format!("{shown:?} is not a name of the DNS"));
    }
    let last = domain.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{shown:?} is not a domain"));
    }
    // Of a suffix that is not listed (`corp`, `internal`) the last label is taken for one.
    if psl::domain_str(&domain).is_none() {
        return Err(format!("the domain {shown} is a public suffix: what it holds is not this network's"));
    }
    Ok(format!("http://wpad.{domain}./wpad.dat"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_in_a_domain_of_ones_own() {
        for (domain, found) in [
            ("corp.example", "http://wpad.corp.example./wpad.dat"),
            ("Paris.Corp.Example.", "http://wpad.paris.corp.example./wpad.dat"),
            ("office.internal", "http://wpad.office.internal./wpad.dat"),
            ("example.co.uk", "http://wpad.example.co.uk./wpad.dat"),
        ] {
            assert_eq!(url_in(domain).as_deref(), Ok(found));
        }
        for domain in [
            "",
            ".",
            "com",
            "lan",
            "local",
            "co.uk",
            "com.au",
            "github.io",
            "10.0.0.1",
            "a b.example",
            "a..b",
            "-a.example",
            "a/b.example",
            "x.example:80",
            "é.example",
        ] {
            assert!(url_in(domain).is_err(), "{domain}");
        }
        assert!(url_in(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(url_in(&["a.".repeat(130), "example".into()].concat()).is_err());
    }

    #[test]
    fn the_resolver_tells_the_domain() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        assert!(wpad_url(root.path()).unwrap_err().contains("resolv.conf"));
        std::fs::write(root.path().join("etc/resolv.conf"), "search corp.example other.example\n").unwrap();
        assert_eq!(wpad_url(root.path()).as_deref(), Ok("http://wpad.corp.example./wpad.dat"));
    }

    proptest! {
        #[test]
        fn whatever_the_domain_the_name_is_below_it(domain in "[a-zA-Z0-9.é -]{0,60}|[a-z]{1,3}(\\.[a-z]{1,3}){0,3}") {
            if let Ok(url) = url_in(&domain) {
                let own = domain.trim_matches('.').to_ascii_lowercase();
                prop_assert_eq!(url, format!("http://wpad.{own}./wpad.dat"));
                prop_assert!(own.contains('.'));
            }
        }
    }
}
