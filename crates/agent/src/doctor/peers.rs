//! Checks of whether this device gets files from others, and gives them.

use super::{Level, Sight, Verdict, checkup, reasons, size};

/// Reasons that checks of their own tell.
const TOLD: &[&str] = &[
    "mode_admits",
    "http_only",
    "simple",
    "bypass_refused",
    "ram_below_minimum",
    "disk_below_minimum",
    "on_vpn",
    "caches_on_vpn",
    "caches_named",
    "no_cache_from_dhcp",
    "on_battery",
    "peers_metered",
    "download_metered",
    "no_local_discovery",
    "no_group",
    "group_from",
];

pub(super) fn mode(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    let without = reasons(checkup, &["http_only", "simple", "bypass_refused"]);
    Verdict::because(Level::Fail, without).or_else(|| {
        let admits = reasons(checkup, &["mode_admits"]);
        let what = admits.first().map_or("peers may be used", |because| &because.sentence);
        // The setting is named already.
        let what = what.split(" (download_mode").next().unwrap_or(what);
        Some(Verdict::pass(format!("{}: {what}", checkup.peering.mode)))
    })
}

pub(super) fn memory(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    Verdict::because(Level::Fail, reasons(checkup, &["ram_below_minimum"])).or_else(|| {
        let needed = size(checkup.peering.needed_ram);
        let installed = size(checkup.installed_ram?);
        Some(Verdict::pass(format!("{installed} installed, peers need {needed}")))
    })
}

pub(super) fn volume(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    Verdict::because(Level::Fail, reasons(checkup, &["disk_below_minimum"])).or_else(|| {
        let (capacity, needed) = (size(checkup.cache.capacity?), size(checkup.peering.needed_volume));
        Some(Verdict::pass(format!("the cache's volume has {capacity}, peers need {needed}")))
    })
}

pub(super) fn vpn(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    Verdict::because(Level::Warn, reasons(checkup, &["on_vpn", "caches_on_vpn"])).or_else(|| {
        Some(match &checkup.device.vpn {
            None => Verdict::pass("this device is on none"),
            Some(sign) => {
                Verdict::pass(format!("this device is on one, where policy lets peers be used: {sign}"))
            }
        })
    })
}

pub(super) fn power(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    Verdict::because(Level::Warn, reasons(checkup, &["on_battery"])).or_else(|| {
        let charge =
            checkup.device.battery_charge.map_or_else(String::new, |charge| format!(" ({charge} %)"));
        Some(match checkup.device.on_battery? {
            true => Verdict::pass(format!("on battery{charge}, enough to serve peers")),
            false => Verdict::pass("on mains"),
        })
    })
}

pub(super) fn port(sight: &Sight) -> Option<Verdict> {
    let Some(checkup) = checkup(sight) else {
        let local = sight.local.as_ref()?;
        return Some(match &local.port {
            Ok(()) => Verdict::pass(format!("{} is free for the agent", local.listen)),
            Err(why) => Verdict::warn(
                format!("{} cannot be opened: {why}", local.listen),
                "end the program that holds it (`ss -ltnp` names it), or change `listen` in agent.toml",
            ),
        });
    };
    let port = &checkup.port;
    Some(match (port.listening, &port.trouble, &sight.port) {
        (Some(at), _, Some(Err(why))) => Verdict::fail(
            format!("the agent listens on {at}, and this device cannot connect to it: {why}"),
            format!("let TCP port {} in through the firewall", at.port()),
        ),
        (Some(at), ..) => Verdict::pass(format!("{at} is open")),
        (None, Some(why), _) => Verdict::fail(
            format!(
                "TCP port {} cannot be opened, so nobody gets files from this device: {why}",
                port.configured.port()
            ),
            "end the program that holds it (`ss -ltnp` names it), or change `listen` in agent.toml",
        ),
        (None, None, _) if port.wanted => Verdict::warn(
            format!("TCP port {} is about to be opened", port.configured.port()),
            "ask again in a few seconds",
        ),
        (None, None, _) => {
            let sentence =
                format!("TCP port {} is closed while this device serves no peers", port.configured.port());
            Verdict::new(Level::Pass, sentence)
        }
    })
}

pub(super) fn discovery(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    let off = Verdict::because(Level::Warn, reasons(checkup, &["no_local_discovery"]));
    off.or_else(|| {
        let state = &checkup.discovery;
        Some(match (&state.trouble, state.neighbours) {
            // Whoever may use no peers at all misses none of these.
            (Some(why), _) if !checkup.peering.fetch && !checkup.peering.serve => {
                Verdict::pass(format!("not running: {why}"))
            }
            (Some(why), _) => {
                let sentence = format!("devices of the same link are not looked for: {why}");
                let remedy = state.remedy.as_deref().unwrap_or("ask again in a few seconds");
                Verdict::warn(sentence, remedy)
            }
            (None, 0) => Verdict::pass("running; no other device of the fleet is on this link"),
            (None, 1) => Verdict::pass("running; 1 other device of the fleet is on this link"),
            (None, more) => {
                Verdict::pass(format!("running; {more} other devices of the fleet are on this link"))
            }
        })
    })
}

pub(super) fn group(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    Verdict::because(Level::Warn, reasons(checkup, &["no_group"])).or_else(|| {
        let (id, source) =
            (checkup.group.id.as_ref()?, checkup.group.source.as_deref().unwrap_or("group_id"));
        Some(Verdict::pass(format!("{id}, from {source}")))
    })
}

/// Reasons that limit how much comes from where, and forbid no peer: nothing has to be done about them here.
const LIMITS: &[&str] = &[
    "origin_held_back",
    "download_limited",
    "downlink_shared",
    "hours_shared",
    "upload_limited",
    "cache_fallback_held_back",
];

/// What all of it comes to, and the reasons that no other check tells.
pub(super) fn peering(sight: &Sight) -> Option<Verdict> {
    let checkup = checkup(sight)?;
    let peering = &checkup.peering;
    let on_link_only = !reasons(checkup, &["on_vpn"]).is_empty();
    let sentence = match (peering.fetch, peering.serve) {
        (true, true) if on_link_only => {
            "this device may get files from peers found by DNS-SD and serve them, and from no others now"
        }
        (true, true) => "this device may get files from peers and serve them",
        (true, false) if !reasons(checkup, &["on_battery"]).is_empty() => {
            "this device may get files from peers, and serves none now, being on battery"
        }
        (true, false) => "this device may get files from peers, and serves none now",
        (false, true) => "this device may serve peers, and gets no files from them now",
        (false, false) => "no peers are used now, for the reasons above",
    };
    let level = if peering.fetch && peering.serve { Level::Pass } else { Level::Warn };
    let rest = peering.because.iter().filter(|because| !TOLD.contains(&because.code.as_str()));
    let mut verdict = Verdict::new(level, sentence);
    for because in rest {
        verdict = verdict.and(because.sentence.clone());
        if level > Level::Pass && !LIMITS.contains(&because.code.as_str()) {
            verdict.remedies.extend(because.remedy.clone());
        }
    }
    Some(verdict)
}
