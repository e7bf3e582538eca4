//! What is changed, how, and what is to become of the bytes.

use super::timeline::Flow::{self, EitherStops, Falls, Reconnects, Rises};

/// What is said, and where.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// The device's policy file says this.
    Device(&'static str),
    /// A seed's policy file says this.
    Seed(&'static str, &'static str),
    /// A file in the device's `policy.d` says this.
    DropIn(&'static str),
    /// `peerage set` on the device.
    Set(&'static str, &'static str),
    /// `peerage unset` on the device.
    Unset(&'static str),
    /// The coordinator publishes this for the device.
    Push(&'static str),
    /// UPower tells the seed `a` whether it is on battery.
    OnBattery(bool),
    /// … that it goes on battery with 59 %.
    Discharge,
    /// … and how much it is charged.
    Charge(u8),
    /// NetworkManager tells the device that its connection is metered, or is not.
    Metered(bool),
    /// NetworkManager tells the device that a VPN is up, or down.
    Vpn(bool),
    /// A tun interface appears, or goes.
    Tun(bool),
    /// The device's clock is moved over the end of its hours, or back.
    Strike(bool),
}

/// A change and what is to follow.
#[derive(Debug)]
pub(super) struct Step {
    /// What changes, for people.
    pub(super) what: &'static str,
    /// Who says so.
    pub(super) layer: &'static str,
    pub(super) act: Act,
    pub(super) flows: &'static [Flow],
}

/// A download on a device of its own, and what is changed while it runs.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// `near`: the seed `a` has it; `pair`: `a` and `twin`; `far`: a device of another subnet; `other`: one of another site.
    pub(super) file: &'static str,
    /// What seeds' policies add.
    pub(super) seeds: &'static [(&'static str, &'static str)],
    /// What the device's policy adds.
    pub(super) device: &'static str,
    pub(super) foreground: bool,
    /// The device has a clock that can be moved; `HOURS` in its policy are hours that end when it strikes.
    pub(super) clock: bool,
    /// Where the bytes come from before anything changes.
    pub(super) first: &'static [&'static str],
    pub(super) steps: &'static [Step],
}

const PLAIN: Case = Case {
    name: "",
    file: "near",
    seeds: &[],
    device: "",
    foreground: false,
    clock: false,
    first: &["a"],
    steps: &[],
};

const fn step(what: &'static str, layer: &'static str, act: Act, flows: &'static [Flow]) -> Step {
    Step { what, layer, act, flows }
}

const FILE: &str = "policy file";
/// The origin is held back as long as peers deliver.
const PEERS: &str = "delay_background_download_from_http = 3600\n";
const TO_ORIGIN: &[Flow] = &[Falls("a", 0), Rises("origin", 0)];
const TO_PEER: &[Flow] = &[Falls("origin", 0), Rises("a", 0)];
const FROM_OTHER: &[Flow] = &[Falls("other", 0), Rises("origin", 0)];
const TO_OTHER: &[Flow] = &[Falls("origin", 0), Rises("other", 0)];
const TO_CACHE: &[Flow] = &[Falls("origin", 0), Rises("cache", 0)];
const FROM_CACHE: &[Flow] = &[Falls("cache", 0), Rises("origin", 0)];

macro_rules! peers {
    ($($line:literal),*) => {
        concat!("delay_background_download_from_http = 3600\n", $($line, "\n"),*)
    };
}

macro_rules! group {
    ($last:literal) => {
        concat!("download_mode = 2\ngroup_id = '6f1c2a34-0000-4000-8000-0000000000", $last, "'\n")
    };
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "modes",
        device: PEERS,
        steps: &[
            step("download_mode lan -> http_only", FILE, Act::Device(peers!("download_mode = 0")), TO_ORIGIN),
            step("download_mode http_only -> lan", FILE, Act::Device(peers!("download_mode = 1")), TO_PEER),
            step("download_mode lan -> simple", FILE, Act::Device(peers!("download_mode = 99")), TO_ORIGIN),
            step("download_mode simple -> lan", FILE, Act::Device(peers!("download_mode = 1")), TO_PEER),
            step("download_mode lan -> bypass", FILE, Act::Device(peers!("download_mode = 100")), TO_ORIGIN),
            step("download_mode bypass -> lan", FILE, Act::Device(PEERS), TO_PEER),
        ],
        ..PLAIN
    },
    Case {
        name: "layers",
        device: PEERS,
        steps: &[
            step(
                "download_mode lan -> http_only",
                "`peerage set`",
                Act::Set("download_mode", "0"),
                TO_ORIGIN,
            ),
            step("download_mode http_only -> lan", "`peerage unset`", Act::Unset("download_mode"), TO_PEER),
            step(
                "download_mode lan -> http_only",
                "file in policy.d",
                Act::DropIn("download_mode = 0"),
                TO_ORIGIN,
            ),
            step("download_mode http_only -> lan", "file in policy.d", Act::DropIn(""), TO_PEER),
            step(
                "download_mode lan -> http_only",
                "coordinator's push",
                Act::Push("download_mode = 0"),
                TO_ORIGIN,
            ),
            step("download_mode http_only -> lan", "coordinator's push", Act::Push(""), TO_PEER),
        ],
        ..PLAIN
    },
    Case {
        name: "simple from the start",
        device: "download_mode = 99\n",
        first: &["origin"],
        steps: &[step(
            "download_mode simple -> lan, a download that began as simple",
            FILE,
            Act::Device(PEERS),
            TO_PEER,
        )],
        ..PLAIN
    },
    Case {
        name: "internet",
        file: "other",
        seeds: &[("other", "download_mode = 3\nmonthly_upload_data_cap = 0\n")],
        device: peers!("download_mode = 3"),
        first: &["other"],
        steps: &[
            step("download_mode internet -> lan", FILE, Act::Device(peers!("download_mode = 1")), FROM_OTHER),
            step("download_mode lan -> internet", FILE, Act::Device(peers!("download_mode = 3")), TO_OTHER),
            step(
                "monthly_upload_data_cap of the sender, below what it has sent",
                FILE,
                Act::Seed("other", "download_mode = 3\nmonthly_upload_data_cap = 1\n"),
                &[Falls("other", 0)],
            ),
            step(
                "monthly_upload_data_cap of the sender, lifted",
                FILE,
                Act::Seed("other", "download_mode = 3\nmonthly_upload_data_cap = 0\n"),
                &[Rises("other", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "group",
        file: "other",
        seeds: &[("other", group!("01"))],
        device: concat!("delay_background_download_from_http = 3600\n", group!("01")),
        first: &["other"],
        steps: &[
            step("download_mode group -> lan", FILE, Act::Device(peers!("download_mode = 1")), FROM_OTHER),
            step(
                "download_mode lan -> group",
                FILE,
                Act::Device(concat!("delay_background_download_from_http = 3600\n", group!("01"))),
                TO_OTHER,
            ),
            step(
                "group_id: another group",
                FILE,
                Act::Device(concat!("delay_background_download_from_http = 3600\n", group!("02"))),
                FROM_OTHER,
            ),
            step(
                "group_id: the former group",
                FILE,
                Act::Device(concat!("delay_background_download_from_http = 3600\n", group!("01"))),
                TO_OTHER,
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "subnet",
        file: "far",
        device: PEERS,
        first: &["far"],
        steps: &[
            step(
                "restrict_peer_selection_by none -> subnet, the peer is in another",
                FILE,
                Act::Device(peers!("restrict_peer_selection_by = 1")),
                &[Falls("far", 0), Rises("origin", 0)],
            ),
            step(
                "restrict_peer_selection_by subnet -> none",
                FILE,
                Act::Device(PEERS),
                &[Falls("origin", 0), Rises("far", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "local discovery",
        seeds: &[("a", "local_discovery = false\n")],
        device: PEERS,
        steps: &[
            step(
                "restrict_peer_selection_by none -> local_discovery, the peer does not advertise",
                FILE,
                Act::Device(peers!("restrict_peer_selection_by = 2")),
                TO_ORIGIN,
            ),
            step("restrict_peer_selection_by local_discovery -> none", FILE, Act::Device(PEERS), TO_PEER),
        ],
        ..PLAIN
    },
    Case {
        name: "local discovery alone",
        seeds: &[("a", "restrict_peer_selection_by = 2\n")],
        device: peers!("restrict_peer_selection_by = 2"),
        steps: &[
            step(
                "local_discovery off (the port is closed too)",
                FILE,
                Act::Device(peers!("restrict_peer_selection_by = 2", "local_discovery = false")),
                TO_ORIGIN,
            ),
            step("local_discovery on", FILE, Act::Device(peers!("restrict_peer_selection_by = 2")), TO_PEER),
            step(
                "local_discovery of the peer off",
                FILE,
                Act::Seed("a", "restrict_peer_selection_by = 2\nlocal_discovery = false\n"),
                TO_ORIGIN,
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "minima",
        device: PEERS,
        steps: &[
            step(
                "min_ram_allowed_to_peer above what is installed",
                FILE,
                Act::DropIn("min_ram_allowed_to_peer = 100000"),
                TO_ORIGIN,
            ),
            step("min_ram_allowed_to_peer below it", FILE, Act::DropIn(""), TO_PEER),
            step(
                "min_disk_size_allowed_to_peer above what there is",
                FILE,
                Act::DropIn("min_disk_size_allowed_to_peer = 100000"),
                TO_ORIGIN,
            ),
            step("min_disk_size_allowed_to_peer below it", FILE, Act::DropIn(""), TO_PEER),
            step(
                "min_file_size_to_cache above the file",
                FILE,
                Act::DropIn("min_file_size_to_cache = 100000"),
                TO_ORIGIN,
            ),
            step("min_file_size_to_cache below it", FILE, Act::DropIn(""), TO_PEER),
        ],
        ..PLAIN
    },
    Case {
        name: "caps",
        device: "download_mode = 0\n",
        first: &["origin"],
        steps: &[
            step(
                "max_background_download_bandwidth 0 -> 200 KB/s",
                FILE,
                Act::Device("download_mode = 0\nmax_background_download_bandwidth = 200\n"),
                &[Falls("origin", 200)],
            ),
            step(
                "max_background_download_bandwidth 200 KB/s -> 0",
                FILE,
                Act::Device("download_mode = 0\n"),
                &[Rises("origin", 400)],
            ),
            step(
                "percentage_max_background_bandwidth 0 -> 2 %",
                FILE,
                Act::Device("download_mode = 0\npercentage_max_background_bandwidth = 2\n"),
                &[Falls("origin", 100)],
            ),
            step(
                "percentage_max_background_bandwidth 2 % -> 0",
                FILE,
                Act::Device("download_mode = 0\n"),
                &[Rises("origin", 400)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "foreground caps",
        device: "download_mode = 0\n",
        foreground: true,
        first: &["origin"],
        steps: &[
            step(
                "max_foreground_download_bandwidth 0 -> 200 KB/s",
                FILE,
                Act::Device("download_mode = 0\nmax_foreground_download_bandwidth = 200\n"),
                &[Falls("origin", 200)],
            ),
            step(
                "max_foreground_download_bandwidth 200 KB/s -> 0",
                FILE,
                Act::Device("download_mode = 0\n"),
                &[Rises("origin", 400)],
            ),
            step(
                "percentage_max_foreground_bandwidth 0 -> 2 %",
                FILE,
                Act::Device("download_mode = 0\npercentage_max_foreground_bandwidth = 2\n"),
                &[Falls("origin", 100)],
            ),
            step(
                "percentage_max_foreground_bandwidth 2 % -> 0",
                FILE,
                Act::Device("download_mode = 0\n"),
                &[Rises("origin", 400)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "hours",
        device: "download_mode = 0\nset_hours_to_limit_background_download_bandwidth = HOURS\n",
        clock: true,
        first: &["origin"],
        steps: &[
            step(
                "set_hours_to_limit_background_download_bandwidth: the hours end",
                "the clock",
                Act::Strike(true),
                &[Rises("origin", 400)],
            ),
            step(
                "set_hours_to_limit_background_download_bandwidth: the hours begin",
                "the clock",
                Act::Strike(false),
                &[Falls("origin", 100)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "upload cap",
        device: PEERS,
        steps: &[
            step(
                "max_upload_bandwidth of the sender 0 -> 200 KB/s",
                FILE,
                Act::Seed("a", "max_upload_bandwidth = 200\n"),
                &[Falls("a", 200)],
            ),
            step(
                "max_upload_bandwidth of the sender 200 KB/s -> 0",
                FILE,
                Act::Seed("a", ""),
                &[Rises("a", 400)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "battery",
        device: PEERS,
        steps: &[
            step("the sender goes on battery", "UPower", Act::OnBattery(true), &[Falls("a", 0)]),
            step("the sender goes on mains", "UPower", Act::OnBattery(false), &[Rises("a", 0)]),
        ],
        ..PLAIN
    },
    Case {
        name: "charge",
        seeds: &[("a", "min_battery_percentage_allowed_to_upload = 60\n")],
        device: PEERS,
        steps: &[
            step(
                "the sender goes on battery with 59 %, 60 % are needed",
                "UPower",
                Act::Discharge,
                &[Falls("a", 0)],
            ),
            step("its charge rises to 60 %", "UPower", Act::Charge(60), &[Rises("a", 0)]),
            step(
                "min_battery_percentage_allowed_to_upload above the charge",
                FILE,
                Act::Seed("a", "min_battery_percentage_allowed_to_upload = 61\n"),
                &[Falls("a", 0)],
            ),
            step(
                "min_battery_percentage_allowed_to_upload at the charge",
                FILE,
                Act::Seed("a", "min_battery_percentage_allowed_to_upload = 60\n"),
                &[Rises("a", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "metered",
        device: PEERS,
        steps: &[
            step(
                "the connection becomes metered: a background download pauses",
                "NetworkManager",
                Act::Metered(true),
                &[Falls("a", 0), Falls("origin", 0)],
            ),
            step(
                "allow_metered_downloads foreground -> always: by HTTP alone",
                FILE,
                Act::Device(peers!("allow_metered_downloads = 'always'")),
                &[Rises("origin", 0)],
            ),
            step(
                "allow_metered_peer_caching on",
                FILE,
                Act::Device(peers!(
                    "allow_metered_downloads = 'always'",
                    "allow_metered_peer_caching = true"
                )),
                TO_PEER,
            ),
            step(
                "allow_metered_peer_caching off",
                FILE,
                Act::Device(peers!("allow_metered_downloads = 'always'")),
                TO_ORIGIN,
            ),
            step(
                "allow_metered_downloads always -> foreground",
                FILE,
                Act::Device(PEERS),
                &[Falls("origin", 0)],
            ),
            step(
                "the connection is no longer metered",
                "NetworkManager",
                Act::Metered(false),
                &[Rises("a", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "vpn",
        device: peers!("local_discovery = false"),
        steps: &[
            step("a VPN connects", "NetworkManager", Act::Vpn(true), TO_ORIGIN),
            step(
                "allow_vpn_peer_caching on",
                FILE,
                Act::Device(peers!("local_discovery = false", "allow_vpn_peer_caching = true")),
                TO_PEER,
            ),
            step(
                "allow_vpn_peer_caching off",
                FILE,
                Act::Device(peers!("local_discovery = false")),
                TO_ORIGIN,
            ),
            step("the VPN ends", "NetworkManager", Act::Vpn(false), TO_PEER),
            step("a tun interface appears", "the kernel", Act::Tun(true), TO_ORIGIN),
            step("the tun interface goes", "the kernel", Act::Tun(false), TO_PEER),
            step(
                "vpn_keywords: the name of the interface",
                FILE,
                Act::Device(peers!("local_discovery = false", "vpn_keywords = 'eth'")),
                TO_ORIGIN,
            ),
            step("vpn_keywords: other words", FILE, Act::Device(peers!("local_discovery = false")), TO_PEER),
        ],
        ..PLAIN
    },
    Case {
        name: "quality",
        seeds: &[("a", "max_upload_bandwidth = 600\n")],
        device: "",
        steps: &[
            step(
                "min_background_qos above what the peer gives: HTTP tops up",
                FILE,
                Act::DropIn("min_background_qos = 20000"),
                &[Rises("origin", 0)],
            ),
            step("min_background_qos below it: HTTP lets go", FILE, Act::DropIn(""), &[Falls("origin", 0)]),
        ],
        ..PLAIN
    },
    Case {
        name: "delay for peers",
        seeds: &[("a", "max_upload_bandwidth = 100\n")],
        device: PEERS,
        steps: &[
            step(
                "delay_background_download_from_http lifted beside a slow peer",
                FILE,
                Act::Device(""),
                &[Rises("origin", 0)],
            ),
            step(
                "delay_background_download_from_http set again",
                FILE,
                Act::Device(PEERS),
                &[Falls("origin", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "delay for peers, foreground",
        seeds: &[("a", "max_upload_bandwidth = 100\n")],
        device: "delay_foreground_download_from_http = 3600\n",
        foreground: true,
        steps: &[
            step(
                "delay_foreground_download_from_http lifted beside a slow peer",
                FILE,
                Act::Device(""),
                &[Rises("origin", 0)],
            ),
            step(
                "delay_foreground_download_from_http set again",
                FILE,
                Act::Device("delay_foreground_download_from_http = 3600\n"),
                &[Falls("origin", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "caches",
        device: "download_mode = 0\n",
        first: &["origin"],
        steps: &[
            step(
                "cache_host added",
                FILE,
                Act::Device("download_mode = 0\ncache_host = '198.18.1.4'\n"),
                TO_CACHE,
            ),
            step("cache_host removed", FILE, Act::Device("download_mode = 0\n"), FROM_CACHE),
            step("cache_host added", "coordinator's push", Act::Push("cache_host = '198.18.1.4'"), TO_CACHE),
            step("cache_host removed", "coordinator's push", Act::Push(""), FROM_CACHE),
        ],
        ..PLAIN
    },
    Case {
        name: "caches, simple mode",
        device: "download_mode = 99\n",
        first: &["origin"],
        steps: &[
            step(
                "cache_host added, simple mode",
                FILE,
                Act::Device("download_mode = 99\ncache_host = '198.18.1.4'\n"),
                TO_CACHE,
            ),
            step("cache_host removed, simple mode", FILE, Act::Device("download_mode = 99\n"), FROM_CACHE),
        ],
        ..PLAIN
    },
    Case {
        name: "caches on a VPN",
        device: "download_mode = 0\ncache_host = '198.18.1.4'\ndisallow_cache_server_downloads_on_vpn = true\n",
        first: &["cache"],
        steps: &[
            step(
                "a VPN connects, disallow_cache_server_downloads_on_vpn",
                "NetworkManager",
                Act::Vpn(true),
                FROM_CACHE,
            ),
            step(
                "disallow_cache_server_downloads_on_vpn off",
                FILE,
                Act::Device("download_mode = 0\ncache_host = '198.18.1.4'\n"),
                TO_CACHE,
            ),
            step(
                "disallow_cache_server_downloads_on_vpn on",
                FILE,
                Act::Device(
                    "download_mode = 0\ncache_host = '198.18.1.4'\ndisallow_cache_server_downloads_on_vpn = true\n",
                ),
                FROM_CACHE,
            ),
            step(
                "the VPN ends, disallow_cache_server_downloads_on_vpn",
                "NetworkManager",
                Act::Vpn(false),
                TO_CACHE,
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "delay for caches, background",
        device: "download_mode = 0\ncache_host = '198.18.1.2:1'\ndelay_cache_server_fallback_background = 3600\n",
        first: &[],
        steps: &[
            step(
                "delay_cache_server_fallback_background lifted, no cache answers",
                FILE,
                Act::Device("download_mode = 0\ncache_host = '198.18.1.2:1'\n"),
                &[Rises("origin", 0)],
            ),
            step(
                "delay_cache_server_fallback_background set again",
                FILE,
                Act::Device(
                    "download_mode = 0\ncache_host = '198.18.1.2:1'\ndelay_cache_server_fallback_background = 3600\n",
                ),
                &[Falls("origin", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "delay for caches, foreground",
        device: "download_mode = 0\ncache_host = '198.18.1.2:1'\ndelay_cache_server_fallback_foreground = 3600\n",
        foreground: true,
        first: &[],
        steps: &[
            step(
                "delay_cache_server_fallback_foreground lifted, no cache answers",
                FILE,
                Act::Device("download_mode = 0\ncache_host = '198.18.1.2:1'\n"),
                &[Rises("origin", 0)],
            ),
            step(
                "delay_cache_server_fallback_foreground set again",
                FILE,
                Act::Device(
                    "download_mode = 0\ncache_host = '198.18.1.2:1'\ndelay_cache_server_fallback_foreground = 3600\n",
                ),
                &[Falls("origin", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "connections",
        file: "pair",
        device: PEERS,
        first: &["a", "twin"],
        steps: &[
            step(
                "max_peer_connections 50 -> 1, two peers deliver",
                FILE,
                Act::Device(peers!("max_peer_connections = 1")),
                &[EitherStops("a", "twin")],
            ),
            step(
                "max_peer_connections 1 -> 50",
                FILE,
                Act::Device(PEERS),
                &[Rises("a", 0), Rises("twin", 0)],
            ),
        ],
        ..PLAIN
    },
    Case {
        name: "encryption",
        seeds: &[("a", "peer_encryption = 'off'\n")],
        device: peers!("peer_encryption = 'off'"),
        steps: &[step("peer_encryption off -> required", FILE, Act::Device(PEERS), &[Reconnects("a")])],
        ..PLAIN
    },
    Case {
        name: "encryption of the sender",
        seeds: &[("a", "peer_encryption = 'off'\n")],
        device: peers!("peer_encryption = 'off'"),
        steps: &[step(
            "peer_encryption of the sender off -> required",
            FILE,
            Act::Seed("a", ""),
            &[Reconnects("a")],
        )],
        ..PLAIN
    },
];
