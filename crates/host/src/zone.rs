//! The device's time zone: what `TZ` says to this process, else `/etc/localtime` (localtime(5)).

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use jiff::tz::TimeZone;

const LOCALTIME: &str = "etc/localtime";
/// The largest file of the database has 3 KiB.
const MAX_ZONE: u64 = 64 * 1024;

/// The device's zone; `None`: it says nothing that can be read, which means UTC.
pub(crate) fn zone() -> Option<TimeZone> {
    if std::env::var_os("TZ").is_some() {
        // `TZ` has a language of its own (tzset(3)); it does not change while a process runs.
        return TimeZone::try_system().ok();
    }
    zone_under(Path::new("/"))
}

/// Which file says what the zone is, and since when it says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    written: (i64, i64),
}

#[cfg(test)]
impl Stamp {
    /// One that no file has.
    pub(crate) const fn of(inode: u64) -> Self {
        Self { file: (u64::MAX, inode), written: (0, 0) }
    }
}

/// Differs when the zone may have changed; `None`: no file says it.
pub(crate) fn stamp() -> Option<Stamp> {
    stamp_under(Path::new("/"))
}

fn stamp_under(root: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(root.join(LOCALTIME)).ok()?;
    Some(Stamp { file: (meta.dev(), meta.ino()), written: (meta.mtime(), meta.mtime_nsec()) })
}

/// Read anew each time, so that a change holds without a restart.
fn zone_under(root: &Path) -> Option<TimeZone> {
    let path = root.join(LOCALTIME);
    if std::fs::metadata(&path).ok()?.len() > MAX_ZONE {
        return None;
    }
    let bytes = std::fs::read(&path).ok()?;
    let target = std::fs::canonicalize(&path).ok()?;
    let name = target.to_str().and_then(|path| path.split_once("/zoneinfo/"));
    TimeZone::tzif(name.map_or("local", |(_, name)| name), &bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_the_zone_and_a_file_is_one() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!((zone_under(root.path()), stamp_under(root.path())), (None, None));
        let etc = root.path().join("etc");
        let database = root.path().join("usr/share/zoneinfo/Europe");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::create_dir_all(&database).unwrap();
        // A file of version 1 of the format without transitions: always UTC+1 (RFC 8536 §3).
        let mut file = b"TZif\0".to_vec();
        file.resize(20, 0);
        for count in [0u32, 0, 0, 0, 1, 4] {
            file.extend(count.to_be_bytes());
        }
        file.extend(3600i32.to_be_bytes());
        file.extend(b"\0\0CET\0");
        std::fs::write(database.join("Somewhere"), &file).unwrap();
        std::os::unix::fs::symlink(database.join("Somewhere"), etc.join("localtime")).unwrap();
        let zone = zone_under(root.path()).unwrap();
        assert_eq!(zone.iana_name(), Some("Europe/Somewhere"));
        assert_eq!(zone.to_offset(jiff::Timestamp::UNIX_EPOCH).seconds(), 3600);
        let before = stamp_under(root.path());
        assert!(before.is_some() && before == stamp_under(root.path()));
        std::fs::write(database.join("Elsewhere"), &file).unwrap();
        std::fs::remove_file(etc.join("localtime")).unwrap();
        std::os::unix::fs::symlink(database.join("Elsewhere"), etc.join("localtime")).unwrap();
        assert_ne!(stamp_under(root.path()), before, "the link leads to another zone");
        std::fs::remove_file(etc.join("localtime")).unwrap();
        std::fs::write(etc.join("localtime"), "no zone").unwrap();
        assert_eq!(zone_under(root.path()), None);
    }
}
