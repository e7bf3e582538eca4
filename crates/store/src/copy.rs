//! Copies of files that the kernel makes: shared extents where the file system has them, else `copy_file_range`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

/// Bytes asked of the kernel at once, so that a kill is not held up by one long call.
const STEP: usize = 64 << 20;
/// Bytes moved at once where the kernel cannot copy.
const BUFFER: usize = 1 << 20;

/// Makes `to` share the extents of `from`; `false` when the file system cannot.
pub(crate) fn reflink(from: &File, to: &File) -> io::Result<bool> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        // Other volume, no reflinks, no such call here, or a swap file or the like (ioctl_ficlone(2)).
        Err(
            Errno::XDEV
            | Errno::OPNOTSUPP
            | Errno::NOTTY
            | Errno::NOSYS
            | Errno::INVAL
            | Errno::PERM
            | Errno::TXTBSY,
        ) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Copies the first `len` bytes of `from` over the start of `to`. Returns how many there were.
pub(crate) fn copy(from: &File, to: &File, len: u64) -> io::Result<u64> {
    let (mut read_at, mut write_at) = (0, 0);
    while read_at < len {
        let step = usize::try_from(len - read_at).map_or(STEP, |left| left.min(STEP));
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), step) {
            // 0 at the end, and also for files whose size the kernel does not know.
            Ok(0) => return copy_by_hand(from, to, read_at, len),
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                return copy_by_hand(from, to, read_at, len);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(read_at)
}

fn copy_by_hand(from: &File, to: &File, mut at: u64, len: u64) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    while at < len {
        let room = usize::try_from(len - at).map_or(BUFFER, |left| left.min(BUFFER));
        let got = match from.read_at(&mut buffer[..room], at) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all_at(&buffer[..got], at)?;
        at += got as u64;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn both_ways_copy_the_same() {
        let bytes: Vec<u8> = (0..3 * BUFFER + 17).map(|i| (i / 7) as u8).collect();
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(&bytes).unwrap();
        for len in [0, 1, bytes.len() as u64 - 1, bytes.len() as u64, bytes.len() as u64 + 9] {
            let expected = &bytes[..bytes.len().min(len as usize)];
            for way in [copy, |from: &File, to: &File, len| copy_by_hand(from, to, 0, len)] {
                let to = tempfile::tempfile().unwrap();
                assert_eq!(way(&from, &to, len).unwrap(), expected.len() as u64);
                let mut found = vec![0; expected.len()];
                to.read_exact_at(&mut found, 0).unwrap();
                assert!(found == expected && to.metadata().unwrap().len() == expected.len() as u64);
            }
        }
    }
}
