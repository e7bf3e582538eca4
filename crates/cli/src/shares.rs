//! Where the bytes of a file came from, and how that is said (product §7).

use peerage_api::agent::FileStatus;

use crate::human::{percent, size};

/// Bytes by source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shares {
    pub(crate) lan: u64,
    pub(crate) link_local: u64,
    pub(crate) group: u64,
    pub(crate) internet: u64,
    pub(crate) cache_server: u64,
    pub(crate) origin: u64,
}

impl Shares {
    /// What a status tells of.
    pub(crate) const fn of(status: &FileStatus) -> Self {
        Self {
            lan: status.bytes_from_lan_peers,
            link_local: status.bytes_from_link_local_peers,
            group: status.bytes_from_group_peers,
            internet: status.bytes_from_internet_peers,
            cache_server: status.bytes_from_cache_server,
            origin: status.bytes_from_cdn,
        }
    }

    /// From peers of any kind.
    pub(crate) const fn peers(&self) -> u64 {
        self.lan + self.link_local + self.group + self.internet
    }

    /// From anywhere.
    pub(crate) const fn total(&self) -> u64 {
        self.peers() + self.cache_server + self.origin
    }

    /// `98.1 % from peers (LAN 143.7 MiB), 2.8 MiB from the origin`.
    pub(crate) fn sentence(&self) -> String {
        let mut parts = Vec::new();
        if self.peers() > 0 {
            let share = percent(self.peers(), self.total());
            parts.push(format!("{share} % from peers ({})", self.kinds().join(", ")));
        }
        for (bytes, source) in [(self.cache_server, "the cache server"), (self.origin, "the origin")] {
            if bytes > 0 && bytes == self.total() {
                parts.push(format!("all from {source}"));
            } else if bytes > 0 {
                parts.push(format!("{} from {source}", size(bytes)));
            }
        }
        parts.join(", ")
    }

    fn kinds(&self) -> Vec<String> {
        let kinds = [
            (self.lan, "LAN"),
            (self.link_local, "link-local"),
            (self.group, "group"),
            (self.internet, "Internet"),
        ];
        let some = kinds.iter().filter(|(bytes, _)| *bytes > 0);
        some.map(|(bytes, name)| format!("{name} {}", size(*bytes))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn every_mix_of_sources_has_its_sentence() {
        let none = Shares::default();
        for (shares, sentence) in [
            (
                Shares { lan: 150_680_371, origin: 2_936_013, ..none },
                "98.0 % from peers (LAN 143.7 MiB), 2.8 MiB from the origin",
            ),
            (Shares { lan: MIB, ..none }, "100 % from peers (LAN 1.0 MiB)"),
            (Shares { origin: MIB, ..none }, "all from the origin"),
            (Shares { cache_server: MIB, ..none }, "all from the cache server"),
            (
                Shares { cache_server: MIB, origin: MIB, ..none },
                "1.0 MiB from the cache server, 1.0 MiB from the origin",
            ),
            (
                Shares {
                    lan: MIB,
                    link_local: MIB,
                    group: 2 * MIB,
                    internet: 4 * MIB,
                    cache_server: MIB,
                    origin: MIB,
                },
                "80.0 % from peers (LAN 1.0 MiB, link-local 1.0 MiB, group 2.0 MiB, Internet 4.0 MiB), 1.0 MiB from \
                 the cache server, 1.0 MiB from the origin",
            ),
            (none, ""),
        ] {
            assert_eq!(shares.sentence(), sentence);
        }
    }
}
