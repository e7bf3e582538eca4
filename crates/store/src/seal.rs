//! Sealing a complete content: synced, read-only, and believed after any restart as long as its stamp holds.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::Advice;

use crate::content::Content;
use crate::dir::Access;
use crate::error::StoreError;
use crate::item::{DATA, PIECES};
use crate::ledger::Durable;
use crate::map_file::MAP;
use crate::meta::Stamp;
use crate::root::CONTENTS;

impl Content {
    /// Syncs a complete content and marks it completed at `now`, unix seconds. Afterwards its file has mode 0444. Sealing
    /// again only moves the time of completion, from which its age in the cache counts.
    ///
    /// # Errors
    /// Pieces are missing, or the disk fails. If the disk lost bytes that were written, their pieces are found out and
    /// dropped by the next call.
    pub fn seal(&self, now: u64) -> Result<(), StoreError> {
        self.settle()?;
        let _gate = self.item.gate.pass();
        let _once = self.item.rechecking.lock();
        self.require_complete()?;
        let sealed = self.item.state.lock().stamp;
        let stamp = match sealed {
            Some(stamp) => stamp,
            None => self.sync()?,
        };
        self.item.touch(now);
        self.item.change_meta(Durable::Yes, |meta| {
            meta.last_completed = Some(now);
            meta.sealed = Some(stamp);
        })?;
        // The names of its directory and of those above may be new, too.
        let root = self.item.root();
        let synced = root.shelf(self.id()).and_then(|shelf| shelf.sync());
        let synced = synced.and_then(|()| root.contents()?.sync()).and_then(|()| root.dir().sync());
        synced.map_err(|error| StoreError::inside("sync", root.path().join(CONTENTS), error))?;
        self.item.state.lock().stamp = Some(stamp);
        self.session.written();
        Ok(())
    }

    fn sync(&self) -> Result<Stamp, StoreError> {
        let failed = |op, name, error| self.item.failed(op, name, error);
        let data = self.session.reading(&self.item)?;
        let gone = || StoreError::Vanished { path: self.item.root().content_path(self.id(), DATA) };
        self.stat(&data)?.ok_or_else(gone)?;
        if let Err(error) = data.sync_all() {
            // The kernel reports lost pages once and then calls them clean: only the medium can tell what is there.
            _ = rustix::fs::fadvise(&*data, 0, None, Advice::DontNeed);
            self.item.doubt(&self.session);
            return Err(failed("sync", DATA, error));
        }
        data.set_permissions(Permissions::from_mode(0o444))
            .map_err(|error| failed("protect", DATA, error))?;
        let dir = self.item.dir()?;
        for name in [PIECES, MAP] {
            match dir.open(name, Access::Read).and_then(|file| file.sync_all()) {
                // A content without pieces may have no map.
                Err(error) if name == MAP && error.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced.map_err(|error| failed("sync", name, error))?,
            }
        }
        Ok(Stamp::of(&self.stat(&data)?.ok_or_else(gone)?))
    }
}
