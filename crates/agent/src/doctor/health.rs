//! Checks of whether downloads work.

use std::path::PathBuf;

use peerage_api::doctor::ProxyBy;

use super::{Level, Sight, Verdict, checkup, reasons, size};

/// A volume with less free than this, in percent of its capacity, is nearly full: the cache is evicted there.
const LITTLE: u64 = 5;

pub(super) fn agent(sight: &Sight) -> Option<Verdict> {
    Some(match &sight.agent {
        Ok(checkup) => Verdict::pass(format!("version {} answers at {}", checkup.version, sight.socket)),
        Err(why) => Verdict::fail(
            format!("no agent answers at {}: {why}", sight.socket),
            "start it with `systemctl start peerage-agent` or `peerage agent`; if it runs elsewhere, name its socket with \
             --socket",
        ),
    })
}

pub(super) fn configuration(sight: &Sight) -> Option<Verdict> {
    Some(match &sight.local.as_ref()?.configuration {
        Ok(Some(path)) => Verdict::pass(format!("{} can be read", path.display())),
        Ok(None) => Verdict::pass("there is no configuration file; the defaults hold"),
        Err(why) => Verdict::fail(why.clone(), "correct the file: the agent does not start with it"),
    })
}

pub(super) fn policy(sight: &Sight) -> Option<Verdict> {
    const CORRECT: &str = "correct the file; `peerage policy check FILE` tells what is allowed";
    let Some(checkup) = checkup(sight) else {
        return Some(match &sight.local.as_ref()?.policy {
            Ok(()) => Verdict::pass("the device's policy files are valid"),
            Err(why) => Verdict::fail(why.clone(), CORRECT),
        });
    };
    let state = &checkup.policy;
    let wrong = [
        (&state.files, "the newest policy files are not in force, the previous ones are", CORRECT),
        (
            &state.admin,
            "what `peerage set` has set is not in force",
            "correct or remove that file, then restart the agent",
        ),
        (
            &state.fleet,
            "the fleet's newest policy is not in force",
            "correct it at the coordinator and push it again with `peerage policy push`, unless the cause is said there",
        ),
    ];
    let wrong = wrong.iter().filter_map(|(why, what, remedy)| Some((why.as_ref()?, what, remedy)));
    let mut found: Option<Verdict> = None;
    for (why, what, remedy) in wrong {
        let sentence = format!("{what}: {why}");
        found = Some(match found {
            None => Verdict::fail(sentence, *remedy),
            Some(verdict) => verdict.and(sentence).mended_by(*remedy),
        });
    }
    found.or_else(|| {
        let fleet =
            state.serial.map_or_else(String::new, |serial| format!("; the fleet's has serial {serial}"));
        Some(Verdict::pass(match state.set {
            0 => format!("every setting is at its default{fleet}"),
            1 => format!("valid, 1 setting differs from its default{fleet}"),
            set => format!("valid, {set} settings differ from their defaults{fleet}"),
        }))
    })
}

pub(super) fn coordinator(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    let state = &checkup.coordinator;
    Some(match (&state.url, &state.trouble) {
        _ if !state.used => Verdict::pass(format!("not used in the download mode {}", checkup.peering.mode)),
        (None, _) => Verdict::fail(
            "this device has joined no coordinator: files come from their origins alone",
            "join one with `peerage enroll URL --token T`",
        ),
        (Some(url), None) => Verdict::pass(format!("{url} answers")),
        (Some(url), Some(why)) => Verdict::fail(
            format!("{url} does not answer as it should: {why}"),
            "check that it runs and can be reached from here; if it no longer knows this device, enrol again with `peerage \
             enroll`",
        ),
    })
}

pub(super) fn directories(sight: &Sight) -> Option<Verdict> {
    let directories = &sight.local.as_ref()?.directories;
    let wrong = directories.iter().filter_map(|directory| {
        let why = directory.trouble.as_ref()?;
        Some((format!("{}: {why}", directory.path.display()), directory.what))
    });
    let mut found: Option<Verdict> = None;
    for (sentence, what) in wrong {
        let remedy = format!("let the agent's user write the {what}, or name another one in agent.toml");
        found = Some(match found {
            None => Verdict::fail(sentence, remedy),
            Some(verdict) => verdict.and(sentence).mended_by(remedy),
        });
    }
    let paths: Vec<String> = directories.iter().map(|each| each.path.display().to_string()).collect();
    found.or_else(|| Some(Verdict::pass(format!("{} can be used", paths.join(" and ")))))
}

pub(super) fn cache(sight: &Sight) -> Option<Verdict> {
    let cache = &checkup(sight)?.cache;
    Some(match &cache.trouble {
        None => match &cache.stays {
            None => Verdict::pass(format!("{} can be written", cache.directory)),
            Some(why) => Verdict::warn(
                format!("the cache is not where modify_cache_drive wants it: {why}"),
                "mend what is said there: it is tried again every 10 s; or choose another directory with modify_cache_drive",
            ),
        },
        Some(why) => Verdict::fail(
            format!("{} cannot be written: {why}", cache.directory),
            "let the agent's user write it (with systemd: CacheDirectory= or ReadWritePaths=), or choose another directory \
             with modify_cache_drive",
        ),
    })
}

pub(super) fn space(sight: &Sight) -> Option<Verdict> {
    let (directory, capacity, free) = match (checkup(sight), &sight.local) {
        (Some(checkup), _) => {
            (PathBuf::from(&checkup.cache.directory), checkup.cache.capacity?, checkup.cache.free?)
        }
        (None, Some(local)) => {
            let (capacity, free) = local.volume?;
            (local.cache_dir.clone(), capacity, free)
        }
        (None, None) => return None,
    };
    let sentence =
        format!("{} of {} are free on the volume of {}", size(free), size(capacity), directory.display());
    if free < capacity / 100 * LITTLE {
        let remedy = "make room there, or give the cache another volume with modify_cache_drive";
        return Some(Verdict::warn(sentence, remedy).and("downloads pause while a volume is full"));
    }
    Some(Verdict::pass(sentence))
}

pub(super) fn network(sight: &Sight) -> Option<Verdict> {
    let networks = &checkup(sight)?.device.networks;
    Some(if networks.is_empty() {
        Verdict::fail("no network interface has an address", "connect this device to a network")
    } else {
        Verdict::pass(format!("connected by {}", networks.join(", ")))
    })
}

pub(super) fn metered(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    let held = reasons(checkup, &["peers_metered", "download_metered"]);
    Verdict::because(Level::Warn, held).or_else(|| match checkup.device.metered {
        Some(true) => Some(Verdict::pass("the connection is metered, and policy lets it be used")),
        Some(false) => Some(Verdict::pass("the connection is not metered")),
        None => None,
    })
}

pub(super) fn proxy(sight: &Sight) -> Option<Verdict> {
    const STRAIGHT: &str = "origins are reached straight";
    let proxy = &checkup(sight)?.proxy;
    let named = proxy.proxies.join(", ");
    if !proxy.refused.is_empty() {
        let sentence = format!("{} answers 407: it does not know who asks", proxy.refused.join(", "));
        let remedy = "give the user name and the password that it wants with `proxy_credentials`, or in the URL of `proxy`, \
                      in agent.toml";
        return Some(
            Verdict::fail(sentence, remedy).and("origins are out of reach, peers and caches are not"),
        );
    }
    if !proxy.failed.is_empty() {
        let remedy = "check that the proxy runs and can be reached, or change `proxy` in agent.toml";
        let sentence =
            format!("no connection can be made to {}; it is tried last for 5 min", proxy.failed.join(", "));
        return Some(Verdict::warn(sentence, remedy));
    }
    let which = match proxy.by {
        ProxyBy::Discovery => "the network's script",
        _ => "the script",
    };
    Some(match (proxy.by, &proxy.script, &proxy.trouble) {
        (ProxyBy::Nothing, ..) => Verdict::pass(format!("none; {STRAIGHT}")),
        (ProxyBy::Environment, ..) => Verdict::pass(format!("{named}, from the environment")),
        (ProxyBy::Configuration, ..) => Verdict::pass(format!("{named}, from agent.toml")),
        (_, Some(script), None) => Verdict::pass(format!("{which} {script} names the proxy of each origin")),
        (_, Some(script), Some(why)) => Verdict::warn(
            format!("{which} {script} is in use, and something is wrong with it: {why}"),
            "have whoever runs the script look at it",
        ),
        (ProxyBy::Discovery, None, Some(why)) => Verdict::warn(
            format!("the network names no script that can be used, so {STRAIGHT}: {why}"),
            "give the script's URL in DHCP option 252 or at http://wpad.DOMAIN/wpad.dat, or name a proxy in agent.toml",
        ),
        (_, None, Some(why)) => Verdict::warn(
            format!("the script cannot be used, so {STRAIGHT}: {why}"),
            "correct `proxy` in agent.toml, or the script",
        ),
        (_, None, None) => Verdict::pass(format!("{which} has not been needed yet")),
    })
}

pub(super) fn ranges(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    let hosts: Vec<&str> = checkup.rangeless.iter().map(|seen| seen.host.as_str()).collect();
    if hosts.is_empty() {
        return Some(Verdict::pass("no origin was found that ignores Range"));
    }
    let who = match checkup.proxy.by {
        ProxyBy::Nothing => "the origin",
        _ => "the origin, or the proxy on the way to it,",
    };
    Some(Verdict::warn(
        format!(
            "{who} ignores Range at {}: downloads from there run in simple mode from byte 0, on one connection",
            hosts.join(", ")
        ),
        "let the server or the proxy pass the headers Range, If-Range and Content-Range",
    ))
}

pub(super) fn caches(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    let mut failing: Option<Verdict> = None;
    for cache in &checkup.caches {
        let (Some(seconds), Some(why)) = (cache.out_of_use, &cache.why) else { continue };
        let of = cache.origin.as_ref().map_or_else(String::new, |origin| format!(" for files of {origin}"));
        let sentence = format!("{} is left alone for {seconds} s{of}: {why}", cache.host);
        failing = Some(match failing {
            None => Verdict::warn(
                sentence,
                "look at that cache, or name another one; meanwhile the next one is asked, or the origin",
            ),
            Some(verdict) => verdict.and(sentence),
        });
    }
    let named = Verdict::because(Level::Pass, reasons(checkup, &["caches_named"]));
    failing.or_else(|| Verdict::because(Level::Warn, reasons(checkup, &["no_cache_from_dhcp"]))).or(named)
}
