//! What this device and its present run are called.

use std::path::Path;

use crate::error::HostError;
use crate::small_file::read_text;

const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

/// The kernel's random name of this boot (random(4)): two readings that differ have a restart of the device between them.
///
/// # Errors
/// The file cannot be read or holds no UUID.
pub fn boot_id() -> Result<String, HostError> {
    boot_id_under(Path::new("/"))
}

fn boot_id_under(root: &Path) -> Result<String, HostError> {
    let path = root.join(BOOT_ID);
    let text = read_text(&path, 256).map_err(|source| HostError::Read { path: path.clone(), source })?;
    let id = text.trim();
    let is_uuid = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_uuid {
        Ok(id.to_owned())
    } else {
        Err(HostError::Odd { path, found: id.chars().take(80).collect(), expected: "a UUID" })
    }
}

/// The device's host name as the kernel has it (uname(2)); bytes that are not UTF-8 are replaced.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_boot_has_one_id() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert!(!host_name().is_empty());
    }

    #[test]
    fn what_is_absent_or_odd_is_told() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(boot_id_under(root.path()), Err(HostError::Read { .. })));
        fs::create_dir_all(root.path().join(BOOT_ID).parent().unwrap()).unwrap();
        fs::write(root.path().join(BOOT_ID), "not an id\n").unwrap();
        assert!(matches!(boot_id_under(root.path()), Err(HostError::Odd { .. })));
    }
}
