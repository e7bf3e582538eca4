//! The open files of a content. They are opened when first needed and closed with the last handle, so that a store of
//! many idle contents holds no descriptors and no piece maps.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;

use parking_lot::Mutex;
use peerage_content::PieceMap;

use crate::copy;
use crate::dir::{Access, Dir};
use crate::error::StoreError;
use crate::item::{DATA, Item, PIECES};
use crate::map_file;

/// Files of a content that is being written.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) data: Arc<File>,
    pub(crate) pieces: File,
}

/// The files opened so far.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    reading: Option<Arc<File>>,
    pub(crate) writing: Option<Arc<Writing>>,
}

/// What lives as long as there are handles.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) files: Mutex<OpenFiles>,
    pub(crate) map: Mutex<Option<PieceMap>>,
}

impl Session {
    /// The data to read from. Works on a volume that went read-only.
    pub(crate) fn reading(&self, item: &Item) -> Result<Arc<File>, StoreError> {
        let mut files = self.files.lock();
        if let Some(data) = &files.reading {
            return Ok(Arc::clone(data));
        }
        let data = item.dir()?.open(DATA, Access::Read).map_err(|error| item.failed("open", DATA, error))?;
        Ok(Arc::clone(files.reading.insert(Arc::new(data))))
    }

    /// The data to read from, if it is open.
    pub(crate) fn open_for_reading(&self) -> Option<Arc<File>> {
        self.files.lock().reading.clone()
    }

    /// The files to write to.
    pub(crate) fn writing(&self, item: &Item) -> Result<Arc<Writing>, StoreError> {
        let mut files = self.files.lock();
        if let Some(writing) = &files.writing {
            return Ok(Arc::clone(writing));
        }
        let dir = item.dir()?;
        let data = own_data(&dir, item.layout().size()).map_err(|error| item.failed("open", DATA, error))?;
        let pieces = dir.open(PIECES, Access::Write).map_err(|error| item.failed("open", PIECES, error))?;
        let data = Arc::new(data);
        // Readers must see what is written from now on, also when `data` became another file.
        files.reading = Some(Arc::clone(&data));
        Ok(Arc::clone(files.writing.insert(Arc::new(Writing { data, pieces }))))
    }

    /// Nothing more is written: files are no longer held open for that, so that an idle volume can be made read-only.
    pub(crate) fn written(&self) {
        *self.files.lock() = OpenFiles::default();
    }

    /// The piece map, read and proven again if no handle had it yet.
    pub(crate) fn map(&self, item: &Item) -> Result<Option<PieceMap>, StoreError> {
        let _gate = item.gate.pass();
        let mut held = self.map.lock();
        if held.is_none() && item.state.lock().has_map {
            *held = map_file::load(&item.dir()?, item.id())
                .map_err(|error| item.failed("read", map_file::MAP, error))?
                .filter(|map| map.layout() == item.layout());
            item.state.lock().has_map = held.is_some();
        }
        Ok(held.clone())
    }
}

/// Opens the data of an unsealed content for writing, with its full size. What a user was given as a hard link is his
/// to keep: the content gets a file of its own first.
fn own_data(dir: &Dir, size: u64) -> io::Result<File> {
    let old = dir.open(DATA, Access::Read)?;
    let stat = old.metadata()?;
    if stat.nlink() > 1 {
        let temp = "data.new";
        let own = dir.create(temp)?;
        if !copy::reflink(&old, &own)? {
            copy::copy(&old, &own, stat.len())?;
        }
        dir.rename(temp, dir, DATA)?;
    } else if stat.mode() & 0o200 == 0 {
        old.set_permissions(Permissions::from_mode(0o600))?;
    }
    let data = dir.open(DATA, Access::Write)?;
    if data.metadata()?.len() != size {
        data.set_len(size)?;
    }
    Ok(data)
}
