//! Tests of the room's policy files part.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use peerage_policy::Key;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;

struct Room {
    root: TempDir,
    files: PolicyFiles,
}

impl Room {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("policy.d")).unwrap();
        let files = PolicyFiles::new(root.path());
        Self { root, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o644)).unwrap();
    }

    /// The text of the layer that a poll must tell.
    fn told(&mut self) -> String {
        self.files.poll().expect("a change").unwrap_or_else(|e| panic!("{e}")).to_toml()
    }

    fn refused(&mut self) -> Vec<PolicyFileError> {
        self.files.poll().expect("a change").expect_err("an error").0
    }

    /// Waits until the file system's clock has ticked since `name` was last changed.
    fn tick(&self, name: &str) {
        let changed = |path: &Path| Stamp::of(path).unwrap().changed;
        let (last, probe) = (changed(&self.path(name)), self.path("probe"));
        loop {
            fs::write(&probe, "").unwrap();
            if changed(&probe) > last {
                return;
            }
        }
    }

    /// Polls until no reading is due because of the last change.
    fn settle(&mut self) {
        for _ in 0..=SETTLING_POLLS {
            assert_eq!(self.files.poll(), None);
        }
    }
}

#[test]
fn nothing_there_is_an_empty_layer_told_once() {
    let root = tempfile::tempdir().unwrap();
    let mut files = PolicyFiles::new(&root.path().join("none"));
    assert_eq!(files.poll(), Some(Ok(Layer::default())));
    assert_eq!((files.poll(), files.poll()), (None, None));
}

#[test]
fn files_are_read_in_order_and_leftovers_are_not() {
    let mut room = Room::new();
    room.write("policy.toml", "max_cache_age = 1\nmax_cache_size = 10\nupload_slots = 1");
    room.write("policy.d/20-b.toml", "DOMaxCacheAge = 3");
    room.write("policy.d/10-a.toml", "max_cache_age = 2\nmax_cache_size = 11");
    room.write("policy.d/.hidden.toml", "not toml");
    room.write("policy.d/90-c.toml~", "not toml");
    room.write("policy.d/README", "not toml");
    let layer = room.files.poll().unwrap().unwrap();
    assert_eq!(layer.to_toml(), "max_cache_age = 3\nmax_cache_size = 11\nupload_slots = 1\n");
    let source = room.path("policy.d/20-b.toml");
    assert_eq!(layer.source(Key::MaxCacheAge), source.to_str());
}

#[test]
fn every_kind_of_change_is_told_once() {
    let mut room = Room::new();
    room.write("policy.toml", "max_cache_age = 1");
    assert_eq!(room.told(), "max_cache_age = 1\n");
    room.settle();
    room.write("policy.toml", "max_cache_age = 12");
    assert_eq!(room.told(), "max_cache_age = 12\n");
    room.settle();
    room.write("policy.d/a.toml", "max_cache_age = 3");
    assert_eq!(room.told(), "max_cache_age = 3\n");
    room.settle();
    // Replaced by rename, same size.
    room.write("new", "max_cache_age = 4");
    fs::rename(room.path("new"), room.path("policy.d/a.toml")).unwrap();
    assert_eq!(room.told(), "max_cache_age = 4\n");
    room.settle();
    fs::remove_file(room.path("policy.d/a.toml")).unwrap();
    assert_eq!(room.told(), "max_cache_age = 12\n");
    fs::remove_file(room.path("policy.toml")).unwrap();
    assert_eq!(room.told(), "");
}

#[test]
fn a_touch_and_a_comment_are_no_change_of_policy() {
    let mut room = Room::new();
    room.write("policy.toml", "max_cache_age = 1");
    room.told();
    room.settle();
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let touch =
        |path: PathBuf| File::open(path).unwrap().set_times(FileTimes::new().set_modified(past)).unwrap();
    touch(room.path("policy.toml"));
    assert_eq!(room.files.poll(), None);
    room.write("policy.toml", "# why\nmax_cache_age = 1");
    assert_eq!(room.files.poll(), None);
    // The same size and modification time as before do not hide a write.
    room.settle();
    touch(room.path("policy.toml"));
    room.settle();
    room.tick("policy.toml");
    room.write("policy.toml", "# why\nmax_cache_age = 2");
    touch(room.path("policy.toml"));
    assert_eq!(room.told(), "max_cache_age = 2\n");
}

#[test]
fn a_write_within_the_clock_tick_of_the_last_reading_is_seen() {
    let mut room = Room::new();
    room.write("policy.toml", "max_cache_age = 1");
    room.told();
    // As if the file system's clock had not ticked: the stamps say that nothing changed since.
    room.write("policy.toml", "max_cache_age = 2");
    let (main, stamp) = (room.files.main.clone(), Stamp::of(&room.files.main));
    room.files.stamps = Some(vec![(main, stamp)]);
    assert_eq!(room.told(), "max_cache_age = 2\n");
}

#[test]
fn one_bad_file_refuses_all_and_all_errors_are_told() {
    let mut room = Room::new();
    room.write("policy.toml", "max_cache_age = 1");
    room.write("policy.d/a.toml", "download_mode = 7\nnonsense = 1");
    room.write("policy.d/b.toml", [0xff, 0xfe]);
    let errors = room.refused();
    assert!(
        matches!(&errors[..], [PolicyFileError::Policy(_), PolicyFileError::NotText { .. }]),
        "{errors:?}"
    );
    let text = PolicyFilesError(errors).to_string();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("a.toml: download_mode: found 7") && text.contains("b.toml: not UTF-8"), "{text}");
    room.settle();
    fs::remove_file(room.path("policy.d/b.toml")).unwrap();
    room.write("policy.d/a.toml", "");
    assert_eq!(room.told(), "max_cache_age = 1\n");
}

#[test]
fn odd_files_are_refused_without_blocking() {
    let mut room = Room::new();
    mknodat(CWD, room.path("policy.d/a.toml"), FileType::Fifo, Mode::from(0o644), 0).unwrap();
    fs::create_dir(room.path("policy.d/b.toml")).unwrap();
    symlink("/dev/zero", room.path("policy.d/c.toml")).unwrap();
    symlink("gone", room.path("policy.d/d.toml")).unwrap();
    room.write("policy.d/e.toml", "max_cache_age = 1");
    fs::set_permissions(room.path("policy.d/e.toml"), Permissions::from_mode(0o666)).unwrap();
    room.write("policy.d/f.toml", "#".repeat(MAX_POLICY_TEXT + 1));
    let errors = room.refused();
    assert!(
        matches!(
            &errors[..],
            [
                PolicyFileError::NotAFile { .. },
                PolicyFileError::NotAFile { .. },
                PolicyFileError::NotAFile { .. },
                PolicyFileError::Read { errno: Errno::NOENT, .. },
                PolicyFileError::Writable { mode: 0o666, .. },
                PolicyFileError::TooLarge { .. },
            ]
        ),
        "{errors:?}"
    );
}

#[test]
fn links_to_files_are_followed_and_a_new_target_is_a_change() {
    let mut room = Room::new();
    room.write("one", "max_cache_age = 1");
    room.write("two", "max_cache_age = 2");
    let link = room.path("policy.toml");
    symlink("one", &link).unwrap();
    assert_eq!(room.told(), "max_cache_age = 1\n");
    room.settle();
    fs::remove_file(&link).unwrap();
    symlink("two", &link).unwrap();
    assert_eq!(room.told(), "max_cache_age = 2\n");
}

#[test]
fn the_number_of_files_and_the_directory_are_checked() {
    let mut room = Room::new();
    for at in 0..=MAX_POLICY_FILES {
        room.write(&format!("policy.d/{at}.toml"), "");
    }
    assert!(matches!(room.refused()[..], [PolicyFileError::TooMany { found: 65, .. }]));
    assert_eq!(room.files.poll(), None);
    fs::remove_file(room.path("policy.d/0.toml")).unwrap();
    assert_eq!(room.told(), "");
    fs::remove_dir_all(room.path("policy.d")).unwrap();
    room.write("policy.d", "a file");
    assert!(matches!(room.refused()[..], [PolicyFileError::List { errno: Errno::NOTDIR, .. }]));
}
