//! One directory held by descriptor. Every step from the cache's root down goes through here, one name at a time and
//! with `O_NOFOLLOW`: a symlink planted inside is an error, never a way out.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::path::Arg;

/// Nothing of ours lies deeper than this below a directory that is removed.
const MAX_DEPTH: u32 = 8;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A directory. Names given to its methods are single components.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Opens `path`, which the administrator named: symlinks on the way are his.
    pub(crate) fn open_path(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Opens a directory in it.
    pub(crate) fn dir(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::openat(&self.fd, name, flags, Mode::empty())? })
    }

    /// Opens a directory in it, made with mode 0700 if missing.
    pub(crate) fn make_dir(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.dir(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file in it.
    pub(crate) fn open(&self, name: &str, access: Access) -> io::Result<File> {
        let access = if access == Access::Read { OFlags::RDONLY } else { OFlags::RDWR };
        self.open_with(name, access)
    }

    /// Opens a regular file in it for reading and writing, made with mode 0600 if missing.
    pub(crate) fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE)
    }

    /// Opens a file for reading, made empty if it is not there.
    pub(crate) fn open_or_touch(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDONLY | OFlags::CREATE)
    }

    /// Makes an empty file in place of any other of this name.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        self.remove_file(name)?;
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // NONBLOCK so that a planted FIFO is found out and not waited for.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
        }
    }

    /// What is known of a file in it, or of the symlink itself.
    pub(crate) fn stat(&self, name: impl Arg) -> io::Result<Metadata> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        File::from(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?).metadata()
    }

    /// What is known of the directory itself.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        File::from(self.fd.try_clone()?).metadata()
    }

    /// Moves `from` over `to` in `target`.
    pub(crate) fn rename(&self, from: impl Arg, target: &Self, to: impl Arg) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &target.fd, to)?)
    }

    /// Gives an open file a name in it. The file must still have another name.
    ///
    /// A descriptor from a process with mounts of its own, such as a sandboxed service, belongs to another mount even
    /// where the directory is the same: then its path leads to it, if it leads there in this process too.
    pub(crate) fn link_from(&self, file: &File, name: &str) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        // AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH; the way over /proc is for everyone (linkat(2)).
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, &from, &self.fd, name, AtFlags::SYMLINK_FOLLOW) {
            Err(rustix::io::Errno::XDEV) => self.link_by_path(file, &from, name),
            linked => Ok(linked?),
        }
    }

    fn link_by_path(&self, file: &File, descriptor: &str, name: &str) -> io::Result<()> {
        let path = rustix::fs::readlink(descriptor, Vec::new())?;
        rustix::fs::linkat(CWD, path, &self.fd, name, AtFlags::empty())?;
        // Only now it is certain what has been linked.
        let (linked, wanted) = (self.stat(name)?, file.metadata()?);
        if linked.is_file() && (linked.dev(), linked.ino()) == (wanted.dev(), wanted.ino()) {
            return Ok(());
        }
        self.remove_file(name)?;
        Err(rustix::io::Errno::XDEV.into())
    }

    /// Makes a file that is not there yet, with the rights that the process's umask leaves.
    pub(crate) fn create_public(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o666))?))
    }

    /// Removes a file, if there is one.
    pub(crate) fn remove_file(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes whatever has this name, with all that is in it, and whatever of it somebody else removes meanwhile. Follows no
    /// symlink.
    pub(crate) fn remove_tree(&self, name: &str) -> io::Result<()> {
        or_gone(self.remove_below(name, MAX_DEPTH))
    }

    fn remove_below(&self, name: &str, depth: u32) -> io::Result<()> {
        if !self.stat(name)?.is_dir() {
            return self.remove_file(name);
        }
        let depth = depth.checked_sub(1).ok_or_else(|| io::Error::other("directories nested too deep"))?;
        let dir = self.dir(name)?;
        for entry in dir.names()? {
            if let Some(entry) = entry.to_str() {
                or_gone(dir.remove_below(entry, depth))?;
            }
        }
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Removes a directory that is empty.
    pub(crate) fn remove_empty(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// The names in it, without `.` and `..`.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Makes the names in it survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Size, free space and the like of the volume it is on.
    pub(crate) fn volume(&self) -> io::Result<rustix::fs::StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.fd)?)
    }
}

/// What is not there any more need not be removed.
pub(crate) fn or_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_inside_are_refused_and_not_followed_on_removal() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        std::fs::create_dir_all(outside.join("deep")).unwrap();
        std::fs::write(outside.join("deep/kept"), b"kept").unwrap();
        let inside = temp.path().join("inside");
        std::fs::create_dir_all(inside.join("tree/more")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("tree/link")).unwrap();
        std::os::unix::fs::symlink(outside.join("deep/kept"), inside.join("file")).unwrap();
        let dir = Dir::open_path(&inside).unwrap();
        assert!(dir.open("file", Access::Write).is_err());
        assert!(dir.open_or_create("file").is_err());
        assert!(dir.dir("tree").unwrap().dir("link").is_err());
        dir.remove_tree("tree").unwrap();
        dir.create("file").unwrap();
        assert_eq!(std::fs::read(outside.join("deep/kept")).unwrap(), b"kept");
        assert_eq!(dir.names().unwrap(), ["file"]);
    }
}
