//! Origins that ignore ranges, or whose proxies do: remembered for `peerage doctor`. Nothing survives the process.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use peerage_origin::SourceUrl;

/// Hosts that are remembered; the one seen longest ago goes first.
const MAX_HOSTS: usize = 32;

/// Host and port of a URL, which make an origin.
pub(crate) fn host_key(url: &SourceUrl) -> String {
    format!("{}:{}", url.host(), url.port())
}

/// By host and port, when one was seen last, in Unix seconds.
#[derive(Debug, Default)]
pub(crate) struct RangelessHosts(Mutex<BTreeMap<String, u64>>);

impl RangelessHosts {
    /// The origin of `url` sent the whole file where a part was asked for.
    pub(crate) fn note(&self, url: &SourceUrl, now: u64) {
        let mut hosts = self.0.lock();
        hosts.insert(host_key(url), now);
        if hosts.len() > MAX_HOSTS
            && let Some(oldest) = hosts.iter().min_by_key(|(_, seen)| **seen).map(|(host, _)| host.clone())
        {
            hosts.remove(&oldest);
        }
    }

    /// The origin of `url` sent the part that was asked for.
    pub(crate) fn obeys(&self, url: &SourceUrl) {
        let mut hosts = self.0.lock();
        if !hosts.is_empty() {
            hosts.remove(&host_key(url));
        }
    }

    /// Those that are remembered, the last first.
    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        let mut all: Vec<_> = self.0.lock().iter().map(|(host, seen)| (host.clone(), *seen)).collect();
        all.sort_by_key(|(_, seen)| std::cmp::Reverse(*seen));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_until_they_obey() {
        let url = |n: u64| SourceUrl::parse(&format!("http://h{n}.example/f?secret")).unwrap();
        let hosts = RangelessHosts::default();
        for n in 0..MAX_HOSTS as u64 + 2 {
            hosts.note(&url(n), n);
        }
        let all = hosts.all();
        assert_eq!((all.len(), all[0].clone()), (MAX_HOSTS, ("h33.example:80".to_owned(), 33)));
        assert!(all.iter().all(|(_, seen)| *seen >= 2), "{all:?}");
        hosts.obeys(&url(33));
        assert_eq!(hosts.all()[0].1, 32);
    }
}
