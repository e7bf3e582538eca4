//! Lease files: what systemd-networkd and dhclient have kept of the server's answer.

use std::path::{Path, PathBuf};

use super::{CACHE_HOST_OPTION, GROUP_OPTION, MAX_VALUE, Offered, SCRIPT_OPTION};
use crate::small_file::read_text;

/// More is not read of a lease file.
const MAX_FILE: usize = 1 << 20;
/// Lease files that are looked at in one directory.
const MAX_FILES: usize = 64;
/// systemd-networkd's leases, one file an interface, gone with the lease.
const NETWORKD: &str = "run/systemd/netif/leases";
/// Where dhclient keeps its own on Debian, Red Hat, and under NetworkManager.
const DHCLIENT: [&str; 3] = ["var/lib/dhcp", "var/lib/dhclient", "var/lib/NetworkManager"];

/// What the lease files below `root` hold at `now` (Unix seconds), or why nothing. Blocking.
pub(super) fn offered(root: &Path, now: u64) -> Result<Offered, String> {
    let mut seen = 0;
    let mut look = |directory: &str, parse: &dyn Fn(&str) -> Offered| {
        let texts =
            files(&root.join(directory)).into_iter().filter_map(|path| read_text(&path, MAX_FILE).ok());
        let mut found = Offered::default();
        for offered in texts.inspect(|_| seen += 1).map(|text| parse(&text)) {
            found.fill(offered);
        }
        found
    };
    let mut found = look(NETWORKD, &parse_networkd);
    for directory in DHCLIENT {
        found.fill(look(directory, &|text| parse_dhclient(text, now)));
    }
    match seen {
        _ if !found.is_empty() => Ok(found),
        0 => Err("no lease file of networkd or dhclient can be read".to_owned()),
        _ => Err("the lease files hold none of the options".to_owned()),
    }
}

/// Lease files in a directory, sorted; none where it cannot be read.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let dhclient =
            name.starts_with("dhclient") && (name.ends_with(".leases") || name.ends_with(".lease"));
        dhclient || name.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut paths: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(named).take(MAX_FILES).collect();
    paths.sort();
    paths
}

/// Reads a lease of systemd-networkd: `OPTION_234=<hex>` lines, or JSON with `Private_Options`.
pub fn parse_networkd(text: &str) -> Offered {
    let mut offered = Offered::default();
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
        let options = json.get("Private_Options").or_else(|| json.get("PrivateOptions"));
        for option in options.and_then(|options| options.as_array()).into_iter().flatten() {
            let code =
                option.get("Option").and_then(|code| code.as_u64()).and_then(|code| u8::try_from(code).ok());
            let data = option.get("Data").and_then(|data| data.as_str()).and_then(|data| hex(data, None));
            if let (Some(code), Some(data)) = (code, data) {
                offered.take(code, data);
            }
        }
        return offered;
    }
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let code = key.strip_prefix("OPTION_").and_then(|code| code.parse().ok());
        if let (Some(code), Some(data)) = (code, hex(value.trim(), None)) {
            offered.take(code, data);
        }
    }
    offered
}

/// Reads the leases of dhclient (dhclient.leases(5)): the last one, unless it has expired at `now` (Unix seconds).
pub fn parse_dhclient(text: &str, now: u64) -> Offered {
    let Some(lease) = text.rsplit("lease {").next().filter(|lease| lease.len() < text.len()) else {
        return Offered::default();
    };
    let mut offered = Offered::default();
    for line in lease.lines() {
        let line = line.trim().trim_end_matches(';');
        if let Some(expire) = line.strip_prefix("expire ") {
            if expired(expire, now) {
                return Offered::default();
            }
        } else if let Some((code, value)) = option(line)
            && let Some(value) = value_of(value)
        {
            offered.take(code, value);
        }
    }
    offered
}

/// `option unknown-234 VALUE`, also under the names that administrators give it by a number at the end; 252 also as
/// `wpad`, which is what everybody calls it.
fn option(line: &str) -> Option<(u8, &str)> {
    let (name, value) = line.strip_prefix("option ")?.trim_start().split_once(' ')?;
    let code = match name.rsplit_once(['-', '_', '.']) {
        Some((_, number)) if number != "wpad" => number.parse().ok()?,
        _ if name.ends_with("wpad") => SCRIPT_OPTION,
        _ => return None,
    };
    matches!(code, GROUP_OPTION | CACHE_HOST_OPTION | SCRIPT_OPTION).then_some((code, value.trim()))
}

/// Quoted text, or bytes in hex with colons.
fn value_of(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix('"') {
        Some(rest) => {
            let inner = rest.strip_suffix('"')?;
            // Octal escapes stand for what is no text, which no value of ours has but for the final NUL.
            let inner = inner.strip_suffix("\\000").unwrap_or(inner);
            (inner.len() <= MAX_VALUE && !inner.contains('\\')).then(|| inner.as_bytes().to_vec())
        }
        None => hex(text, Some(':')),
    }
}

/// Pairs of hex digits, parted by `between` if given, where a leading zero may be missing.
pub(super) fn hex(text: &str, between: Option<char>) -> Option<Vec<u8>> {
    let byte = |digits: &str| {
        let fits = (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        fits.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
    };
    let bytes: Option<Vec<u8>> = match between {
        Some(between) => text.split(between).take(MAX_VALUE + 1).map(byte).collect(),
        None => {
            let (pairs, rest) = text.as_bytes().as_chunks::<2>();
            let pairs = pairs.iter().take(MAX_VALUE + 1);
            let bytes = pairs.map(|pair| std::str::from_utf8(pair).ok().and_then(byte)).collect();
            if rest.is_empty() { bytes } else { None }
        }
    };
    bytes.filter(|bytes| (1..=MAX_VALUE).contains(&bytes.len()))
}

/// Whether `never`, or `W YYYY/MM/DD HH:MM:SS` in UTC, is over.
fn expired(text: &str, now: u64) -> bool {
    let mut words = text.split_ascii_whitespace().skip(1);
    let mut numbers = |parting: char| -> Option<[i64; 3]> {
        let parts: Vec<i64> =
            words.next()?.split(parting).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let (Some([year, month, day]), Some([hour, minute, second])) = (numbers('/'), numbers(':')) else {
        return false;
    };
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return false;
    }
    // Days since 1970 by the civil calendar, the year begun in March so that leap days come last.
    let (shifted, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = shifted / 4 - shifted / 100 + shifted / 400;
    let days = 365 * shifted + leaps + (153 * from_march + 2) / 5 + day - 1 - 719_468;
    let seconds = |part: i64, most: i64| part.clamp(0, most);
    let end = days * 86_400 + seconds(hour, 23) * 3600 + seconds(minute, 59) * 60 + seconds(second, 60);
    u64::try_from(end).is_ok_and(|end| end <= now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn offers(group: &str, hosts: &str) -> Offered {
        let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        Offered { group: some(group), cache_hosts: some(hosts), script: None }
    }

    #[test]
    fn networkd_in_both_forms() {
        let lines = "# private\nADDRESS=10.0.0.2\nOPTION_234=5061726973\nOPTION_235=6831\nOPTION_236=00\n";
        assert_eq!(parse_networkd(lines), offers("Paris", "h1"));
        let json = r#"{"Address":[10],"Private_Options":[{"Option":234,"Data":"5061726973"},{"Option":235,"Data":"6831"}]}"#;
        assert_eq!(parse_networkd(json), offers("Paris", "h1"));
        for bad in
            ["", "{}", "[]", "OPTION_234=", "OPTION_234=5", "OPTION_234=zz", "OPTION_999=00", "OPTION_234"]
        {
            assert!(parse_networkd(bad).is_empty(), "{bad}");
        }
    }

    #[test]
    fn dhclients_last_lease_until_it_expires() {
        let lease = |group: &str, expire: &str| {
            format!(
                "lease {{\n  interface \"eth0\";\n  option unknown-234 {group};\n  expire {expire};\n}}\n"
            )
        };
        let later = "5 2027/01/15 08:00:01";
        for (text, group) in [
            (lease("\"Old\"", later) + &lease("\"Paris\\000\"", later), "Paris"),
            (lease("50:61:72:69:73", "never"), "Paris"),
            (lease("50:61:72:69:73:0", later), "Paris\0"),
            (lease("\"Old\"", later) + &lease("\"Paris\"", "5 2027/01/15 08:00:00"), ""),
            (lease("\"Pa\\011ris\"", later), ""),
            (lease("Paris", later), ""),
            ("option unknown-234 \"no lease\";\n".to_owned(), ""),
        ] {
            assert_eq!(parse_dhclient(&text, NOW), offers(group, ""), "{text}");
        }
        for name in ["wpad", "local-wpad", "unknown-252", "proxy-252"] {
            let lease = format!("lease {{\n option {name} \"http://p/wpad.dat\\000\";\n}}\n");
            assert_eq!(
                parse_dhclient(&lease, NOW).script.as_deref(),
                Some(&b"http://p/wpad.dat"[..]),
                "{name}"
            );
        }
        let named = "lease {\n option do-group-234 \"Paris\";\n option custom-235 \"h1\";\n}\n";
        assert_eq!(parse_dhclient(named, NOW), offers("Paris", "h1"));
    }

    #[test]
    fn files_are_found_where_they_are_kept() {
        let root = tempfile::tempdir().unwrap();
        assert!(offered(root.path(), NOW).unwrap_err().contains("no lease file"));
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("var/lib/dhcp/dhclient.eth0.leases", "lease {\n  option unknown-234 \"Lyon\";\n}\n");
        put("var/lib/dhcp/README", "lease {\n  option unknown-234 \"no\";\n}\n");
        assert_eq!(offered(root.path(), NOW), Ok(offers("Lyon", "")));
        put("run/systemd/netif/leases/2", "ADDRESS=10.0.0.2\n");
        put("run/systemd/netif/leases/3", "OPTION_234=5061726973\nOPTION_252=687474703a2f2f70\n");
        let both = Offered { script: Some(b"http://p".to_vec()), ..offers("Paris", "") };
        assert_eq!(offered(root.path(), NOW), Ok(both));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_passed_over(text in ".{0,400}", now in any::<u64>()) {
            let _ = parse_networkd(&text);
            let _ = parse_dhclient(&text, now);
            let _ = parse_dhclient(&format!("lease {{\noption unknown-234 {text};\nexpire {text};\n"), now);
        }
    }
}
