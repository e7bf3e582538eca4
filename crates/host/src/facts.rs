//! All facts that policy asks for, in one go.

use std::path::Path;

use peerage_policy::Facts;

use crate::error::HostError;
use crate::{installed_ram, interfaces, volume_of};

/// What could be read of the device, and what could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The facts; what could not be read is left unknown.
    pub facts: Facts,
    /// Why something is unknown; empty when all is known.
    pub unknown: Vec<HostError>,
}

/// Reads all facts. `cache_directory` need not be made yet.
pub fn observe(cache_directory: &Path) -> Observed {
    let mut unknown = Vec::new();
    let facts = Facts {
        installed_ram: known(installed_ram(), &mut unknown),
        cache_volume: known(volume_of(cache_directory), &mut unknown),
        interfaces: known(interfaces(), &mut unknown).unwrap_or_default(),
        // Counted by whoever uploads; the others take longer to read.
        internet_uploaded: 0,
        ..Facts::default()
    };
    Observed { facts, unknown }
}

fn known<T>(read: Result<T, HostError>, unknown: &mut Vec<HostError>) -> Option<T> {
    read.map_err(|error| unknown.push(error)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_unknown_and_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let observed = observe(&file.path().join("cache"));
        assert_eq!(observed.facts.cache_volume, None);
        assert!(matches!(observed.unknown[..], [HostError::Volume { .. }]), "{observed:?}");
        assert!(observed.facts.installed_ram.is_some() && !observed.facts.interfaces.is_empty());
    }
}
