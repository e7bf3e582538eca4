//! Small state files: one line of JSON, one line with its check, replaced by rename.
//!
//! A reader finds the old state or the new one. A power cut before the sync may leave an empty or a torn file: the
//! check finds that out, and the file counts as missing.

use std::io::{self, Read as _, Write as _};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dir::{Access, Dir};

/// Largest state file that is read. JSON escapes blow notes up to six times their size.
const MAX_LEN: u64 = 2 << 20;

/// Whether the new state must survive a power cut at once, or may wait for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Yes,
    No,
}

fn check(json: &str) -> String {
    let hash = blake3::hash(json.as_bytes()).to_hex();
    hash.chars().take(16).collect()
}

/// Replaces the state `name` in `dir`.
pub(crate) fn store<T: Serialize>(dir: &Dir, name: &str, value: &T, durable: Durable) -> io::Result<()> {
    let json = serde_json::to_string(value).map_err(io::Error::other)?;
    let temp = format!("{name}.new");
    let mut file = dir.create(&temp)?;
    writeln!(file, "{json}\n\"{}\"", check(&json))?;
    if durable == Durable::Yes {
        file.sync_all()?;
    }
    dir.rename(&temp, dir, name)?;
    if durable == Durable::Yes { dir.sync() } else { Ok(()) }
}

/// Reads the state `name` in `dir`; `None` when it is missing or damaged.
pub(crate) fn load<T: DeserializeOwned>(dir: &Dir, name: &str) -> io::Result<Option<T>> {
    let file = match dir.open(name, Access::Read) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (json, rest) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    if rest != format!("\"{}\"\n", check(json)) {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_damage_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_path(temp.path()).unwrap();
        assert_eq!(load::<Vec<String>>(&dir, "state").unwrap(), None);
        let value = vec!["line\nbreak".to_owned(), "é".to_owned()];
        store(&dir, "state", &value, Durable::Yes).unwrap();
        assert_eq!(load::<Vec<String>>(&dir, "state").unwrap(), Some(value));
        let good = std::fs::read(temp.path().join("state")).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(parse::<Vec<String>>(&bad), None, "byte {at}");
            assert_eq!(parse::<Vec<String>>(&good[..at]), None, "cut at {at}");
        }
    }
}
