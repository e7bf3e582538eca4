//! Files for tests: sparse, or pseudo-random and the same on every machine.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

const CHUNK: usize = 256 * 1024;

/// Makes a file of `size` zero bytes that takes no space on disk.
///
/// # Errors
/// The file cannot be made.
pub fn sparse_file(path: &Path, size: u64) -> io::Result<()> {
    File::create(path)?.set_len(size)
}

/// Makes a file of `size` pseudo-random bytes: the same for the same `seed`, incompressible, no two blocks alike.
///
/// # Errors
/// The file cannot be made.
pub fn random_file(path: &Path, seed: u64, size: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(CHUNK, File::create(path)?);
    let mut generator = Generator::new(seed);
    let mut left = size;
    while left > 0 {
        let word = generator.next().to_le_bytes();
        let take = left.min(8);
        file.write_all(&word[..take as usize])?;
        left -= take;
    }
    file.flush()
}

/// The first `len` bytes of what [`random_file`] writes for `seed`.
pub fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut generator = Generator::new(seed);
    let mut bytes: Vec<u8> =
        std::iter::repeat_with(|| generator.next().to_le_bytes()).take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// Whether two files hold the same bytes.
///
/// # Errors
/// One of them cannot be read.
pub fn same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let read = one.read(&mut a)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(&mut b[..read])?;
        if a[..read] != b[..read] {
            return Ok(false);
        }
    }
}

/// xorshift64* (Marsaglia 2003; Vigna 2016): eight bytes a step, and the same everywhere.
struct Generator(u64);

impl Generator {
    fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give similar streams, and the state must not be 0: one step of SplitMix64.
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((state ^ (state >> 31)).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn random_files_are_deterministic_and_distinct() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for size in [0, 1, 7, 8, 300_001] {
            random_file(&path("a"), 1, size).unwrap();
            random_file(&path("b"), 1, size).unwrap();
            assert!(same_file(&path("a"), &path("b")).unwrap());
            assert_eq!(std::fs::read(path("a")).unwrap(), random_bytes(1, size as usize));
        }
        random_file(&path("b"), 2, 300_001).unwrap();
        assert!(!same_file(&path("a"), &path("b")).unwrap());
        sparse_file(&path("b"), 300_000).unwrap();
        assert!(!same_file(&path("a"), &path("b")).unwrap());
    }

    #[test]
    fn no_two_words_alike() {
        let bytes = random_bytes(0, 8 * 10_000);
        assert_eq!(bytes.chunks(8).collect::<HashSet<_>>().len(), 10_000);
    }
}
