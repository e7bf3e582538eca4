//! Delivered files: the ways, the place they land in, and what a delivered link must not suffer.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use peerage_store::{DeliverMethod, DeliverOptions, Delivered, StoreError, deliver};

use crate::support::{MIB, NOW, Sample, content_dir, open};

const COPY: DeliverOptions = DeliverOptions { hard_link: false };
const LINK: DeliverOptions = DeliverOptions { hard_link: true };

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn by_reflink_link_or_copy() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(2 * MIB + 3, 1);
    let store = open(temp.path());
    let content = sample.create(&store);
    sample.finish(&content);
    content.seal(NOW).unwrap();
    let source = content.open_file().unwrap();
    let out = temp.path().join("out");
    std::fs::create_dir(&out).unwrap();

    let Delivered { method, bytes } = deliver(&source, &out.join("copy"), COPY).unwrap();
    assert!(matches!(method, DeliverMethod::Copy | DeliverMethod::Reflink));
    assert_eq!(bytes, sample.bytes.len() as u64);
    let copy = std::fs::metadata(out.join("copy")).unwrap();
    assert_ne!(copy.ino(), source.metadata().unwrap().ino());
    assert_eq!(copy.permissions().mode() & 0o600, 0o600, "the user's own");

    let linked = deliver(&source, &out.join("link"), LINK).unwrap();
    // Twice: the second rename is of a link over a link of the same file.
    assert_eq!(deliver(&source, &out.join("link"), LINK).unwrap(), linked);
    if linked.method == DeliverMethod::HardLink {
        assert_eq!(std::fs::metadata(out.join("link")).unwrap().ino(), source.metadata().unwrap().ino());
        assert!(content.info().linked && content.info().frees() == 0);
    }
    for name in ["copy", "link"] {
        assert!(std::fs::read(out.join(name)).unwrap() == sample.bytes);
    }
    assert_eq!(names(&out), ["copy", "link"], "no temporary files are left");
    sample.check(&content);
    store.remove(sample.id(), false).unwrap();
    assert!(std::fs::read(out.join("link")).unwrap() == sample.bytes, "outlives the cache");
}

#[test]
fn a_symlink_in_its_place_is_replaced_and_other_things_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let source_path = temp.path().join("source");
    std::fs::write(&source_path, b"new").unwrap();
    let source = File::open(&source_path).unwrap();
    let victim = temp.path().join("victim");
    std::fs::write(&victim, b"precious").unwrap();
    let out = temp.path().join("out");
    std::fs::create_dir_all(out.join("dir")).unwrap();
    symlink(&victim, out.join("link")).unwrap();
    symlink("/nowhere/at/all", out.join("dangling")).unwrap();
    for how in [COPY, LINK] {
        for name in ["link", "dangling", "fresh"] {
            deliver(&source, &out.join(name), how).unwrap();
            let found = std::fs::symlink_metadata(out.join(name)).unwrap();
            assert!(found.is_file() && std::fs::read(out.join(name)).unwrap() == b"new", "{name}");
        }
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    for refused in [out.join("dir"), "/dev/null".into(), "/".into(), out.join("..")] {
        assert!(matches!(deliver(&source, &refused, COPY), Err(StoreError::NotAFile { .. })), "{refused:?}");
    }
    assert!(matches!(deliver(&source, &out.join("missing/file"), COPY), Err(StoreError::Io { .. })));
    assert_eq!(names(&out), ["dangling", "dir", "fresh", "link"]);
}

#[test]
fn a_source_that_cannot_be_read_leaves_everything_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("dest"), b"old").unwrap();
    std::fs::write(temp.path().join("source"), b"new").unwrap();
    let unreadable = std::fs::OpenOptions::new().write(true).open(temp.path().join("source")).unwrap();
    assert!(deliver(&unreadable, &temp.path().join("dest"), COPY).is_err());
    assert_eq!(std::fs::read(temp.path().join("dest")).unwrap(), b"old");
    assert_eq!(names(temp.path()), ["dest", "source"]);
}

#[test]
fn fetching_again_never_writes_into_a_file_that_was_delivered_as_a_link() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Sample::new(2 * MIB, 2);
    let store = open(temp.path());
    let content = sample.create(&store);
    sample.finish(&content);
    content.seal(NOW).unwrap();
    let (data, mine) = (content_dir(temp.path(), sample.id()).join("data"), temp.path().join("mine"));
    std::fs::hard_link(&data, &mine).unwrap();
    sample.check(&content);
    // The user makes it his own and changes it.
    std::fs::set_permissions(&mine, std::fs::Permissions::from_mode(0o640)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&mine).unwrap();
    file.write_all_at(b"edited", 10).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let edited = std::fs::read(&mine).unwrap();
    sample.check(&content);
    assert_eq!(content.have().count(), 1);
    sample.finish(&content);
    content.seal(NOW).unwrap();
    assert!(std::fs::read(&mine).unwrap() == edited);
    assert_eq!(std::fs::metadata(&mine).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(std::fs::read(&data).unwrap() == sample.bytes);
}
