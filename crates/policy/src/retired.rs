//! Policies of Delivery Optimization that are gone there and have successors (DO reference §1.1).

/// A policy that others have replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retired {
    /// DO's name of it.
    pub(crate) do_name: &'static str,
    /// Our names of what replaces it, each with the same value.
    pub(crate) by: [&'static str; 2],
}

const RETIRED: [Retired; 2] = [
    Retired {
        do_name: "DOMaxDownloadBandwidth",
        by: ["max_foreground_download_bandwidth", "max_background_download_bandwidth"],
    },
    Retired {
        do_name: "DOPercentageMaxDownloadBandwidth",
        by: ["percentage_max_foreground_bandwidth", "percentage_max_background_bandwidth"],
    },
];

impl Retired {
    /// What to do instead.
    pub(crate) fn advice(&self) -> String {
        let [fore, back] = self.by;
        format!("{} is deprecated since Windows 10 2004 and was replaced by {fore} and {back}", self.do_name)
    }
}

/// Finds one by DO's name, or by what would be ours.
pub(crate) fn find(name: &str) -> Option<&'static Retired> {
    let plain = |name: &str| {
        let name = name.to_ascii_lowercase().replace('_', "");
        name.strip_prefix("do").map_or_else(|| name.clone(), str::to_owned)
    };
    RETIRED.iter().find(|retired| plain(retired.do_name) == plain(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Setting;

    #[test]
    fn successors_are_settings() {
        for name in ["DOMaxDownloadBandwidth", "domaxdownloadbandwidth", "percentage_max_download_bandwidth"]
        {
            let retired = find(name).unwrap();
            assert!(retired.by.iter().all(|name| Setting::find(name).is_some()));
            assert!(Setting::find(retired.do_name).is_none());
        }
        assert_eq!(find("download_mode"), None);
    }
}
