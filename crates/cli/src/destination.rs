//! Where a file is to go.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use peerage_agent::{DeliverOptions, SourceUrl, deliver};

use crate::exit::usage;
use crate::output::printable;

/// Linux allows no longer name (NAME_MAX).
const MAX_NAME: usize = 255;

/// Where a file is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A name in a directory; what has it now is replaced, a symlink included.
    File(PathBuf),
    /// A device or pipe that takes the bytes, such as /dev/null.
    Stream(PathBuf),
}

impl Destination {
    /// Looks at what is at `path` before anything is downloaded.
    ///
    /// # Errors
    /// Nothing can be put there.
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let Some(name) = path.file_name() else {
            return Err(usage(format!("{shown} is no file name; give one with -o FILE")));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let ends_as_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        match fs::metadata(parent) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(usage(format!("{} is no directory", parent.display()))),
            Err(error) => return Err(usage(format!("{} cannot be written to: {error}", parent.display()))),
        }
        let there = match fs::symlink_metadata(parent.join(name)) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("could not look at {shown}")),
        };
        // A symlink to a directory or device was surely not meant to be replaced.
        let target = if there.as_ref().is_some_and(fs::Metadata::is_symlink) {
            fs::metadata(path).ok()
        } else {
            there.clone()
        };
        match target {
            Some(target) if target.is_dir() => {
                Err(usage(format!("{shown} is a directory; name a file in it with -o FILE")))
            }
            _ if ends_as_directory => Err(usage(format!("{shown} is no file name"))),
            Some(target) if !target.is_file() && there.is_some_and(|there| there.is_symlink()) => {
                Err(usage(format!("{shown} is a symlink to a device; name the device itself")))
            }
            Some(target) if !target.is_file() => Ok(Self::Stream(path.to_owned())),
            _ => {
                // Not only looked at: whether a file can be made there, only making one tells.
                tempfile::Builder::new().prefix(&prefix()).tempfile_in(parent).map_err(|error| {
                    usage(format!("{} cannot be written to: {}", parent.display(), kind(&error)))
                })?;
                Ok(Self::File(path.to_owned()))
            }
        }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Stream(path) => path,
        }
    }

    /// Puts the file there with this user's rights. Blocking.
    ///
    /// # Errors
    /// It cannot be written; then what was there before is still there.
    pub(crate) fn put(&self, mut source: File, hard_link: bool) -> anyhow::Result<()> {
        match self {
            Self::File(path) => {
                deliver(&source, path, DeliverOptions { hard_link })?;
            }
            Self::Stream(path) => {
                let failed = || format!("could not write to {}", path.display());
                let mut to = OpenOptions::new().write(true).open(path).with_context(failed)?;
                io::copy(&mut source, &mut to).with_context(failed)?;
            }
        }
        Ok(())
    }

    /// Removes what [`Self::put`] left behind when it was given up on its way.
    pub(crate) fn clean(&self) {
        let Self::File(path) = self else { return };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let prefix = prefix();
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// How the names of temporary files begin, those of [`deliver`] included.
fn prefix() -> String {
    format!(".peerage-{}-", std::process::id())
}

/// The system's word, without the temporary name.
fn kind(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.kind().to_string(), |code| io::Error::from_raw_os_error(code).to_string())
}

/// The name that a URL suggests for its file. Never a path, never hidden, never an option.
///
/// # Errors
/// It suggests none.
pub(crate) fn name_of(url: &str) -> anyhow::Result<String> {
    let parsed = SourceUrl::parse(url).map_err(|error| usage(format!("{}: {error}", printable(url))))?;
    let parsed = parsed.as_url();
    let segment = parsed.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let decoded = percent_decode(segment);
    let safe = |c: char| {
        if c == '/' || c == '\\' || printable(c.encode_utf8(&mut [0; 4])).len() > 4 { '_' } else { c }
    };
    let mut name: String = decoded.chars().map(safe).collect();
    if name.is_empty() || name.chars().all(|c| c == '.') || name.len() > MAX_NAME {
        let url = printable(parsed.as_str()).into_owned();
        return Err(usage(format!("{url} suggests no file name; give one with -o FILE")));
    }
    if name.starts_with(['.', '-', '~']) {
        name.replace_range(..1, "_");
    }
    debug_assert_eq!(Path::new(&name).file_name(), Some(OsStr::new(&name)), "one plain name");
    Ok(name)
}

/// Decodes `%41`; what is no UTF-8 then is left as it was.
fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |digit: &u8| (*digit as char).to_digit(16);
        rest = match tail {
            [high, low, after @ ..] if *first == b'%' => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => {
                    out.push((high << 4 | low) as u8);
                    after
                }
                _ => {
                    out.push(*first);
                    tail
                }
            },
            _ => {
                out.push(*first);
                tail
            }
        };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for (url, name) in [
            ("http://h/a/librustc.so?x=1#y", "librustc.so"),
            ("http://h/my%20file.iso", "my file.iso"),
            ("http://h/a%2Fb%5cc", "a_b_c"),
            ("http://h/%2e%2e%2fetc%2fpasswd", "_._etc_passwd"),
            ("http://h/.bashrc", "_bashrc"),
            ("http://h/-rf", "_rf"),
            ("http://h/a%1b%5b2Jb%00", "a_[2Jb_"),
            ("http://h/%ff%fe", "%ff%fe"),
            ("http://h/100%", "100%"),
        ] {
            assert_eq!(name_of(url).unwrap(), name, "{url}");
        }
        let long = format!("http://h/{}", "a".repeat(256));
        for bad in ["http://h", "http://h/", "http://h/a/", "http://h/%2e%2e", "http://h/...", "x", &long] {
            assert!(name_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_there_decides() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), at("dirlink")).unwrap();
        std::os::unix::fs::symlink("/dev/null", at("nulllink")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        for name in ["file", "link", "new", "dangling"] {
            assert_eq!(Destination::new(&at(name)).unwrap(), Destination::File(at(name)), "{name}");
        }
        for name in ["", "dirlink", "nulllink", "missing/file", "file/file", "new/", "/proc/new"] {
            assert!(Destination::new(&at(name)).is_err(), "{name}");
        }
        assert!(matches!(Destination::new(Path::new("/dev/null")).unwrap(), Destination::Stream(_)));
        assert!(Destination::new(Path::new("..")).is_err());
    }

    #[test]
    fn a_symlink_is_replaced_and_leftovers_go() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        fs::write(&victim, "old").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        let source = dir.path().join("source");
        fs::write(&source, "new").unwrap();
        let destination = Destination::new(&link).unwrap();
        destination.put(File::open(&source).unwrap(), false).unwrap();
        assert_eq!((fs::read(&victim).unwrap(), fs::read(&link).unwrap()), (b"old".into(), b"new".into()));
        let temporary = dir.path().join(format!(".peerage-{}-77", std::process::id()));
        fs::write(&temporary, "").unwrap();
        destination.clean();
        assert!(!temporary.exists() && link.exists());
        Destination::new(Path::new("/dev/null")).unwrap().put(File::open(&source).unwrap(), false).unwrap();
    }
}
