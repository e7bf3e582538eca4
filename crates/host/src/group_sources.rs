//! Where a device's group may be known from (DO reference §1.3): the files of sssd, Kerberos, the resolver, Himmelblau
//! and the Intune portal. DHCP option 234 is read elsewhere.
//!
//! | source | read from |
//! |---|---|
//! | AD site | `ad_site` of sssd's domain |
//! | domain SID | `ldap_idmap_default_domain_sid` of sssd's domain; where no file tells the SID, the name of the domain that the device is joined to stands for it |
//! | DNS suffix | the first search domain of `resolv.conf`, else the domain of the host's name |
//! | Entra tenant | `tenant_id` of Himmelblau, else the registration of the Intune portal |
//!
//! Files are what administrators and users write: limited, and what cannot be read or understood is a reason, no error.

use std::path::{Path, PathBuf};

use peerage_policy::{GroupId, GroupSources, SourceSays};
use rustix::io::Errno;

use crate::ini::{each_setting, setting};
use crate::small_file::read_text;

/// More is not read of any of these files.
const MAX_FILE: usize = 256 << 10;
/// Longest name of a site, domain or tenant: a name of the DNS.
const MAX_NAME: usize = 255;
/// Files of `conf.d` directories, and homes, that are looked at.
const MAX_ENTRIES: usize = 64;

/// What the files below `root` say (`/` on a device). Blocking.
pub fn read_group_sources(root: &Path) -> GroupSources {
    let sssd = Sssd::read(root);
    GroupSources {
        ad_site: sssd
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|sssd| named("ad_site in sssd.conf", sssd.site())),
        domain_sid: domain(root, sssd),
        dns_suffix: dns_suffix(root),
        entra_tenant: entra_tenant(root),
        ..GroupSources::default()
    }
}

/// A name that was found, if it is one.
fn named(what: &str, found: Option<&str>) -> SourceSays {
    let found = found.ok_or_else(|| format!("there is no {what}"))?;
    if found.len() > MAX_NAME || found.contains(char::is_control) {
        return Err(format!("{what} is not a name of at most {MAX_NAME} characters"));
    }
    Ok(found.to_owned())
}

fn why(path: &str, error: Errno) -> String {
    match error {
        Errno::NOENT => format!("there is no {path}"),
        Errno::ACCESS | Errno::PERM => format!("{path} may not be read by this user"),
        error => format!("{path} cannot be read: {error}"),
    }
}

fn read(root: &Path, path: &str) -> Result<String, String> {
    read_text(&root.join(path.trim_start_matches('/')), MAX_FILE).map_err(|error| why(path, error))
}

/// Names in a directory, sorted; none where it cannot be read.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).take(MAX_ENTRIES).collect();
    paths.sort();
    paths
}

// === sssd ===

/// sssd's configuration: `sssd.conf` and after it the files of `conf.d`.
struct Sssd(Vec<String>);

impl Sssd {
    fn read(root: &Path) -> Result<Self, String> {
        let mut texts = vec![read(root, "/etc/sssd/sssd.conf")?];
        let more = entries(&root.join("etc/sssd/conf.d"));
        let more = more.iter().filter(|path| path.extension().is_some_and(|name| name == "conf"));
        texts.extend(more.filter_map(|path| read_text(path, MAX_FILE).ok()));
        Ok(Self(texts))
    }

    /// The last value of a key.
    fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.0.iter().rev().find_map(|text| setting(text, section, key))
    }

    /// The domain of the device: the first that is enabled and has Active Directory behind it.
    fn domain(&self) -> Option<&str> {
        let listed = self.get("sssd", "domains").unwrap_or_default();
        let enabled = listed.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut all: Vec<&str> = enabled.collect();
        if all.is_empty() {
            for text in &self.0 {
                each_setting(text, |section, _, _| all.extend(section.strip_prefix("domain/")));
            }
        }
        all.into_iter().find(|name| {
            let provider = self.get(&format!("domain/{name}"), "id_provider");
            provider.is_some_and(|provider| provider.eq_ignore_ascii_case("ad"))
        })
    }

    fn site(&self) -> Option<&str> {
        self.get(&format!("domain/{}", self.domain()?), "ad_site")
    }

    fn sid(&self) -> Option<&str> {
        let sid = self.get(&format!("domain/{}", self.domain()?), "ldap_idmap_default_domain_sid")?;
        is_sid(sid).then_some(sid)
    }

    /// The domain's name in the DNS.
    fn name(&self) -> Option<&str> {
        let domain = self.domain()?;
        Some(self.get(&format!("domain/{domain}"), "ad_domain").unwrap_or(domain))
    }
}

/// Whether the text is the SID of a domain, such as `S-1-5-21-1-2-3`.
fn is_sid(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("S-1-5-21-") else { return false };
    let parts: Vec<_> = rest.split('-').collect();
    parts.len() == 3 && parts.iter().all(|part| part.len() <= 10 && part.parse::<u32>().is_ok())
}

fn domain(root: &Path, sssd: Result<Sssd, String>) -> SourceSays {
    let without = match &sssd {
        Ok(sssd) => match sssd.sid().or_else(|| sssd.name()) {
            Some(found) => return named("domain in sssd.conf", Some(found)),
            None => "sssd.conf has no Active Directory domain".to_owned(),
        },
        Err(why) => why.clone(),
    };
    // Joined without sssd: a keytab, and the realm that it is for. The keytab's content is nobody's business.
    if !root.join("etc/krb5.keytab").exists() {
        return Err(format!("{without}, and there is no /etc/krb5.keytab"));
    }
    let krb5 = read(root, "/etc/krb5.conf").map_err(|why| format!("{without}, and {why}"))?;
    let realm = setting(&krb5, "libdefaults", "default_realm");
    named("default_realm in krb5.conf", realm).map_err(|why| format!("{without}, and {why}"))
}

// === The resolver ===

/// The domain that the device is in, as its resolver or its name tell.
pub(crate) fn dns_suffix(root: &Path) -> SourceSays {
    let mut found = None;
    let resolver = read(root, "/etc/resolv.conf");
    for line in resolver.as_deref().unwrap_or_default().lines() {
        // The last of `domain` and `search` holds (resolv.conf(5)).
        let mut words = line.split_ascii_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            found = words.next();
        }
    }
    let suffix = |name: &str| name.trim_matches('.').to_owned();
    if let Some(name) = found.map(suffix).filter(|name| !name.is_empty()) {
        return named("search domain in resolv.conf", Some(&name));
    }
    let host = read(root, "/etc/hostname").unwrap_or_default();
    let domain = host.trim().split_once('.').map(|(_, domain)| suffix(domain));
    let domain = domain.filter(|domain| !domain.is_empty());
    named("search domain in resolv.conf, and no domain in the host's name", domain.as_deref())
}

// === Entra ===

fn entra_tenant(root: &Path) -> SourceSays {
    let himmelblau = match read(root, "/etc/himmelblau/himmelblau.conf") {
        Ok(text) => match tenant_of_himmelblau(&text) {
            Some(tenant) => return Ok(tenant),
            None => "himmelblau.conf has no tenant_id".to_owned(),
        },
        Err(why) => why,
    };
    let mut homes = vec![root.join("root")];
    homes.extend(entries(&root.join("home")));
    let registrations = homes.into_iter().map(|home| home.join(".config/intune/registration.toml"));
    let mut texts = registrations.filter_map(|path| read_text(&path, MAX_FILE).ok());
    texts.find_map(|text| tenant_of_intune(&text)).ok_or_else(|| {
        format!("{himmelblau}, and no registration of the Intune portal that names a tenant can be read")
    })
}

/// The tenant of Himmelblau's first domain, else the one for all.
fn tenant_of_himmelblau(text: &str) -> Option<String> {
    let domains = setting(text, "global", "domains").or_else(|| setting(text, "global", "domain"));
    let first = domains.and_then(|domains| domains.split(',').next()).unwrap_or_default().trim();
    let tenant = setting(text, first, "tenant_id").or_else(|| setting(text, "global", "tenant_id"))?;
    guid(tenant)
}

/// The tenant of the Intune portal's registration: named as such, or the second half of an account's id, which is
/// `object.tenant`.
fn tenant_of_intune(text: &str) -> Option<String> {
    let mut found = None;
    each_setting(text, |_, key, value| {
        let value = value.trim_matches(['"', '\'']);
        let tenant = match key {
            "tenant_id" | "aad_tenant_id" => guid(value),
            "account_hint" | "home_account_id" => value
                .split_once('.')
                .filter(|(object, _)| guid(object).is_some())
                .and_then(|(_, id)| guid(id)),
            _ => None,
        };
        found = found.take().or(tenant);
    });
    found
}

fn guid(text: &str) -> Option<String> {
    text.parse::<GroupId>().ok().map(|id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11";

    fn device(files: &[(&str, &str)]) -> GroupSources {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        read_group_sources(root.path())
    }

    #[test]
    fn sssd_tells_site_and_domain() {
        let conf = "[sssd]\ndomains = ldap, corp.example\n[domain/ldap]\nid_provider = ldap\nad_site = no\n\
                    [domain/corp.example]\nid_provider = ad\nad_domain = corp.example\nad_site = Paris\n";
        let sid =
            "[domain/corp.example]\nldap_idmap_default_domain_sid = S-1-5-21-1-22-333\nad_site = Lyon\n";
        let one = device(&[("etc/sssd/sssd.conf", conf)]);
        assert_eq!((one.ad_site, one.domain_sid), (Ok("Paris".into()), Ok("corp.example".into())));
        let two = device(&[("etc/sssd/sssd.conf", conf), ("etc/sssd/conf.d/10.conf", sid)]);
        assert_eq!((two.ad_site, two.domain_sid), (Ok("Lyon".into()), Ok("S-1-5-21-1-22-333".into())));
        let bad = conf.replace("ad_site = Paris", "ldap_idmap_default_domain_sid = S-1-5-21-x");
        let three = device(&[("etc/sssd/sssd.conf", &bad)]);
        assert_eq!(three.ad_site, Err("there is no ad_site in sssd.conf".into()));
        assert_eq!(three.domain_sid, Ok("corp.example".into()), "what is no SID is none");
        let long = conf.replace("Paris", &"p".repeat(300));
        assert!(device(&[("etc/sssd/sssd.conf", &long)]).ad_site.unwrap_err().contains("255"));
    }

    #[test]
    fn without_sssd_a_keytab_and_its_realm() {
        let krb5 = ("etc/krb5.conf", "[libdefaults]\n default_realm = CORP.EXAMPLE\n");
        let none = device(&[krb5]).domain_sid.unwrap_err();
        assert!(none.contains("sssd.conf") && none.contains("keytab"), "{none}");
        assert_eq!(device(&[krb5, ("etc/krb5.keytab", "")]).domain_sid, Ok("CORP.EXAMPLE".into()));
    }

    #[test]
    fn the_resolvers_suffix() {
        for (resolver, host, suffix) in [
            ("domain a.example\nsearch b.example c.example\n", "", Some("b.example")),
            ("search b.example.\noptions ndots:2\n", "pc.x.example", Some("b.example")),
            ("search .\n", "pc.x.example\n", Some("x.example")),
            ("nameserver 10.0.0.1\n", "pc\n", None),
        ] {
            let says = device(&[("etc/resolv.conf", resolver), ("etc/hostname", host)]).dns_suffix;
            assert_eq!(says.as_deref().ok(), suffix, "{says:?}");
        }
    }

    #[test]
    fn the_tenant_of_himmelblau_or_intune() {
        let upper = TENANT.to_uppercase();
        let global = format!("[global]\ndomains = contoso.com, x.com\ntenant_id = {upper}\n");
        let own = format!(
            "[global]\ndomain = contoso.com\ntenant_id = {}\n[contoso.com]\ntenant_id = {TENANT}\n",
            TENANT.replace('8', "9")
        );
        for text in [&global, &own] {
            assert_eq!(device(&[("etc/himmelblau/himmelblau.conf", text)]).entra_tenant, Ok(TENANT.into()));
        }
        let object = TENANT.replace('8', "7");
        for (text, tenant) in [
            (format!("device_hint = \"x\"\naccount_hint = \"{object}.{TENANT}\"\n"), Some(TENANT)),
            (format!("[a]\ntenant_id = \"{TENANT}\"\n"), Some(TENANT)),
            ("account_hint = \"user@contoso.com\"\n".to_owned(), None),
        ] {
            let says = device(&[("home/ann/.config/intune/registration.toml", &text)]).entra_tenant;
            assert_eq!(says.as_deref().ok(), tenant, "{says:?}");
        }
    }

    #[test]
    fn an_empty_device_says_why() {
        let none = device(&[]);
        for says in [none.ad_site, none.domain_sid, none.dns_suffix, none.entra_tenant] {
            assert!(says.unwrap_err().contains("no "));
        }
    }
}
