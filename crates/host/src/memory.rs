//! Installed RAM.

use std::path::Path;

use crate::error::HostError;
use crate::small_file::{errno, read_text};

const MEMINFO: &str = "proc/meminfo";
const BLOCKS: &str = "sys/devices/system/memory";
const MAX_MEMINFO: usize = 64 * 1024;

/// Installed RAM, in bytes.
///
/// `MemTotal` of `/proc/meminfo` leaves out what kernel and firmware keep for themselves, so that a device with 4 GB
/// installed would show less. Where the kernel lists memory blocks in `/sys`, these count instead if they are more.
///
/// # Errors
/// `/proc/meminfo` cannot be read or has no `MemTotal`.
pub fn installed_ram() -> Result<u64, HostError> {
    installed_ram_under(Path::new("/"))
}

fn installed_ram_under(root: &Path) -> Result<u64, HostError> {
    let path = root.join(MEMINFO);
    let text =
        read_text(&path, MAX_MEMINFO).map_err(|source| HostError::Read { path: path.clone(), source })?;
    let total = mem_total(&text).ok_or_else(|| {
        let found = text.chars().take(80).collect();
        HostError::Odd { path, found, expected: "a line such as MemTotal: 8000000 kB" }
    })?;
    // Many kernels and containers have no such directory: then `MemTotal` is all there is to know.
    Ok(memory_blocks(&root.join(BLOCKS)).map_or(total, |blocks| blocks.max(total)))
}

/// The value of `MemTotal`; its `kB` are 1024 bytes (proc_meminfo(5)).
fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Bytes of all blocks `memory0`, `memory1` … (kernel documentation, admin-guide/mm/memory-hotplug).
fn memory_blocks(directory: &Path) -> Option<u64> {
    let size = read_text(&directory.join("block_size_bytes"), 64).ok()?;
    let size = u64::from_str_radix(size.trim(), 16).ok()?;
    let entries = std::fs::read_dir(directory).map_err(|error| errno(&error)).ok()?;
    let is_block = |name: &std::ffi::OsStr| {
        let number = name.to_str().and_then(|name| name.strip_prefix("memory"));
        number.is_some_and(|number| number.parse::<u64>().is_ok())
    };
    let blocks = entries.flatten().filter(|entry| is_block(&entry.file_name())).count();
    size.checked_mul(u64::try_from(blocks).ok()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn device(meminfo: Option<&str>, blocks: Option<(&str, usize)>) -> Result<u64, HostError> {
        let root = tempfile::tempdir().unwrap();
        if let Some(text) = meminfo {
            fs::create_dir_all(root.path().join("proc")).unwrap();
            fs::write(root.path().join(MEMINFO), text).unwrap();
        }
        if let Some((size, count)) = blocks {
            let directory = root.path().join(BLOCKS);
            fs::create_dir_all(directory.join("power")).unwrap();
            fs::write(directory.join("block_size_bytes"), size).unwrap();
            (0..count).for_each(|at| fs::create_dir(directory.join(format!("memory{at}"))).unwrap());
        }
        installed_ram_under(root.path())
    }

    #[test]
    fn blocks_count_where_they_are_more_than_what_the_kernel_leaves() {
        let meminfo = "MemTotal:        3900000 kB\nMemFree: 1 kB\n";
        assert_eq!(device(Some(meminfo), None), Ok(3_900_000 * 1024));
        assert_eq!(device(Some(meminfo), Some(("8000000\n", 32))), Ok(4 << 30));
        assert_eq!(device(Some(meminfo), Some(("8000000\n", 1))), Ok(3_900_000 * 1024));
        assert_eq!(device(Some(meminfo), Some(("odd", 32))), Ok(3_900_000 * 1024));
    }

    #[test]
    fn what_is_absent_or_odd_is_told() {
        assert!(matches!(device(None, None), Err(HostError::Read { .. })));
        for odd in ["", "MemTotal: much kB\n", "MemTotal: 5\n", "MemTotal: 99999999999999999999 kB\n"] {
            assert!(matches!(device(Some(odd), None), Err(HostError::Odd { .. })), "{odd:?}");
        }
    }

    #[test]
    fn this_device_has_some() {
        assert!(installed_ram().unwrap() > 64 << 20);
    }
}
