//! The policy of the lab's devices: what the user wants to try, over what keeps this machine out of the result.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use peerage_api::{ApiError, Code};
use peerage_policy::{MAX_POLICY_TEXT, parse_layer};

/// A lab's devices are not this machine: its memory, disk, battery and connections say nothing about the fleet, and other
/// devices and caches of its network have no part in the trial.
const MACHINE: &str = "\
min_ram_allowed_to_peer = 1
min_disk_size_allowed_to_peer = 1
absolute_max_cache_size = 0
min_battery_percentage_allowed_to_upload = 1
allow_vpn_peer_caching = true
allow_metered_peer_caching = true
allow_metered_downloads = \"always\"
local_discovery = false
cache_host_source = \"dns_sd_off\"
";
/// Lets small files be tried, when no policy is.
const SMALL_FILES: &str = "min_file_size_to_cache = 1\n";

/// The policy files of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabPolicy {
    /// The user's file, if there is one.
    given: Option<String>,
}

impl LabPolicy {
    /// Reads and checks the user's file: agents would go on with the previous policy, that is with none.
    ///
    /// # Errors
    /// It cannot be read, or is not a policy ([`Code::BadRequest`], with everything that is wrong).
    pub(crate) fn read(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else { return Ok(Self { given: None }) };
        let mut text = String::new();
        fs::File::open(path)
            .and_then(|file| file.take(MAX_POLICY_TEXT as u64 + 1).read_to_string(&mut text))
            .with_context(|| format!("could not read the policy {}", path.display()))?;
        parse_layer(&path.display().to_string(), &text)
            .map_err(|errors| ApiError::new(Code::BadRequest, errors.to_string()))?;
        Ok(Self { given: Some(text) })
    }

    /// Writes the files that a device reads: `policy.toml`, and over it `policy.d` (product §5). `cache` is the device's own,
    /// whatever directory the fleet's devices keep theirs in.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn write(&self, dir: &Path, cache: &Path) -> Result<()> {
        let over = dir.join("policy.d");
        fs::create_dir_all(&over).with_context(|| format!("could not make {}", over.display()))?;
        let cache = toml::Table::from_iter([(
            "modify_cache_drive".to_owned(),
            toml::Value::from(cache.to_str().context("the directory's name is not UTF-8")?),
        )]);
        let files = [
            (dir.join("policy.toml"), self.base()),
            (over.join("1-given.toml"), self.given.clone().unwrap_or_default()),
            (over.join("2-lab.toml"), cache.to_string()),
        ];
        for (path, text) in files {
            fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(())
    }

    fn base(&self) -> String {
        let small = if self.given.is_none() { SMALL_FILES } else { "" };
        format!("{MACHINE}{small}")
    }
}

#[cfg(test)]
mod tests {
    use peerage_policy::{Layers, Provider};

    use super::*;

    #[test]
    fn the_base_is_a_policy_and_the_lowest_one() {
        let settings = |policy: &LabPolicy| {
            let mut layers = Layers::default();
            layers.replace(Provider::Policy, parse_layer("base", &policy.base()).unwrap());
            layers.settings()
        };
        let own = settings(&LabPolicy { given: None });
        assert_eq!((own.min_ram_allowed_to_peer, own.min_file_size_to_cache), (1_000_000_000, 1_000_000));
        let given = settings(&LabPolicy { given: Some(String::new()) });
        assert_eq!(given.min_file_size_to_cache, 50_000_000);
        assert_eq!(given.min_disk_size_allowed_to_peer, 1_000_000_000);
    }

    #[test]
    fn a_wrong_policy_is_refused_before_anything_starts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        fs::write(&path, "download_mode = \"lan\"\nno_such_key = 1\n").unwrap();
        let error = LabPolicy::read(Some(&path)).unwrap_err();
        assert_eq!(error.downcast_ref::<ApiError>().unwrap().code, Code::BadRequest);
        assert!(error.to_string().contains("no_such_key"), "{error}");
        assert!(LabPolicy::read(Some(&dir.path().join("missing"))).is_err());
        fs::write(&path, "download_mode = \"http_only\"\nmodify_cache_drive = \"/data\"\n").unwrap();
        let policy = LabPolicy::read(Some(&path)).unwrap();
        policy.write(dir.path(), Path::new("/x\"y/cache")).unwrap();
        let last = fs::read_to_string(dir.path().join("policy.d/2-lab.toml")).unwrap();
        let table: toml::Table = last.parse().unwrap();
        assert_eq!(table["modify_cache_drive"].as_str(), Some("/x\"y/cache"));
    }
}
