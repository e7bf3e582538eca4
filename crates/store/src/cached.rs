//! Reading what the kernel has in memory, and nothing else: never waits for a disk.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt as _;

use rustix::io::{Errno, ReadWriteFlags};

/// File systems without a disk: tmpfs, ramfs (statfs(2); 32 bits in a field whose type differs). They do not know of
/// reads that do not wait, and never wait.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// Fills `buf` from `at` if all of it is in memory; tells whether it is. Otherwise `buf` holds nothing to be used.
pub(crate) fn read_at(file: &File, buf: &mut [u8], at: u64) -> bool {
    let mut filled = 0;
    while filled < buf.len() {
        let rest = &mut buf[filled..];
        let from = at + filled as u64;
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(rest)], from, ReadWriteFlags::NOWAIT) {
            Ok(0) => return false,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return is_in_memory(file) && file.read_exact_at(rest, from).is_ok(),
            // Not in memory, or an error that the ordinary way will report.
            Err(_) => return false,
        }
    }
    true
}

fn is_in_memory(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| IN_MEMORY.contains(&(stat.f_type as u32)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_just_written_is_in_memory() {
        // Beside the build, which is on a disk, and in memory.
        for dir in [env!("CARGO_MANIFEST_DIR"), "/dev/shm"] {
            let Ok(mut file) = tempfile::tempfile_in(dir) else { continue };
            let bytes: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
            file.write_all(&bytes).unwrap();
            let mut found = vec![0; 262_144];
            // A disk may have written it out and forgotten it.
            let read = read_at(&file, &mut found, 1000);
            assert!(read || !is_in_memory(&file), "{dir}");
            assert!(!read || found == bytes[1000..1000 + found.len()], "{dir}");
            assert!(!read_at(&file, &mut found, 100_000), "{dir}: beyond the end");
        }
    }
}
